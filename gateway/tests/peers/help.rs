//! A registered phone that calls for help.

use serde_json::json;

use super::baresip::Account;
use super::phone::{Phone, field};
use super::process::is_installed;
use super::site::{NUMBER, Site};
use super::table::{Cell, row};
use crate::daemon::Daemon;

#[test]
fn a_registered_phone_reaches_help_past_every_limit_or_the_box_says_that_it_cannot() {
    if !is_installed("baresip") {
        return;
    }
    let mut service = Phone::at("127.0.0.2");
    let daemon = Daemon::serve(&[("TALKSTACK__CALLS__MAX", "1")]);
    let limits = json!({ "max_channels": 1, "calls_per_second": 1, "country_code": "36", "priority": 9 });
    let site = Site::owned(daemon, NUMBER, service.address(), limits);
    let desk = json!({ "user": "101", "password": PASSWORD, "number": NUMBER, "country_code": "36" });
    site.client.create("/api/v1/extensions", &desk);
    let target = site.daemon.sip();
    let mut desk = Account::new("101", target).with(PASSWORD).registers();

    // No trunk is chosen: the box shows it, and refuses so that the phone may try another line.
    assert_eq!(site.client.get("/api/v1/emergency")["offered"], json!(false));
    desk.does("dial", &format!("sip:112@{target}"));
    let refused = desk.peer.says("503 Service Unavailable\r\n");
    assert!(refused.contains("\nINVITE sip:112@"), "{refused}");

    let trunks = site.client.get("/api/v1/trunks");
    let trunk = trunks["data"][0]["id"].as_str().expect("an id");
    site.client.patch(&format!("/api/v1/trunks/{trunk}"), &json!({ "emergency": true }));
    let shown = site.client.get("/api/v1/emergency");
    assert_eq!((&shown["offered"], &shown["trunks"][0]["id"]), (&json!(true), &json!(trunk)), "{shown}");

    // One call fills the box and the trunk. An agent cannot place the other kind at all.
    site.dial("+15550000001");
    service.answers();
    assert_eq!(site.try_dial("112").0, 400);
    assert_eq!(site.try_dial("+1911").0, 400);
    desk.does("dial", &format!("sip:echo@{target}"));
    let full = desk.peer.says("503 Service Unavailable\r\n");
    assert!(full.contains("\nINVITE sip:echo@"), "{full}");

    desk.does("dial", &format!("sip:112@{target}"));
    let invite = service.answers();
    assert!(invite.starts_with("INVITE sip:112@"), "{invite}");
    assert!(field(&invite, "From").contains(NUMBER), "whom they call back: {invite}");
    desk.peer.says("Call established");
    desk.does("hangup", "");
    service.is_hung_up();
    row(
        "baresip, calling 112",
        &[
            ("no trunk chosen: 503, and the API shows it", Cell::Works),
            ("past calls.max, channels and calls per second", Cell::Works),
            ("agents and campaigns cannot", Cell::Works),
        ],
    );
}

const PASSWORD: &str = "of-twelve-letters";
