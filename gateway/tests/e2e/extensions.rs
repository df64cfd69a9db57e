//! Phones of the box's own: they register with their passwords and call each other.

use serde_json::json;

use crate::daemon::{Daemon, wait_until};
use crate::http::Client;
use crate::phones::{Baresip, prompt};
use crate::signal::best_match;

#[test]
fn two_registered_phones_call_each_other_and_each_hears_what_the_other_says() {
    let daemon = Daemon::serve(&[]);
    let client = Client::owner(&daemon);
    for user in ["101", "102"] {
        client.create("/api/v1/extensions", &json!({ "user": user, "password": "correct-horse-7" }));
    }
    let (greeting, goodbye) = (prompt("en/greeting"), prompt("en/goodbye"));
    let called = Baresip::registered(daemon.sip(), "102", "correct-horse-7", &greeting);
    wait_until("the phone has registered", || {
        let found = client.get("/api/v1/extensions/102");
        (!found["contacts"].as_array()?.is_empty()).then_some(())
    });
    let caller = Baresip::registered_calling(daemon.sip(), ("101", "correct-horse-7"), "102", &goodbye);
    wait_until("each has heard four seconds", || {
        (caller.heard_so_far() > 34_000 && called.heard_so_far() > 34_000).then_some(())
    });
    let (heard, heard_there) = (caller.hang_up(), called.hang_up());
    let (_, score) = best_match(&heard, &greeting[2000..8000]);
    assert!(score >= 0.9, "the caller hears the called phone: {score:.3}");
    let (_, score) = best_match(&heard_there, &goodbye[2000..8000]);
    assert!(score >= 0.9, "the called phone hears the caller: {score:.3}");
    let calls = daemon.ended_calls(1);
    assert_eq!((&calls[0]["status"], calls.len()), (&json!("completed"), 1), "{calls:?}");
}
