use jiff::civil::date;
use talkstack_control::gate::Gate;
use talkstack_control::port::{Numbering, RouteRule, RouteTarget, TrunkPolicy};

use super::super::{Line, NoRoute, Plan, Question, Route, Router, Rule};
use super::*;

/// Countries, what their numbers begin with at home, their emergency numbers, and what 911 reaches there.
const COUNTRIES: [(&str, &str, &[&str], &str); 20] = [
    ("1", "1", &["911", "112"], "911"),
    ("36", "06", &["112", "104", "105", "107"], "112"),
    ("43", "0", &["112", "133", "144", "122"], "112"),
    ("49", "0", &["112", "110"], "112"),
    ("41", "0", &["112", "117", "118", "144"], "112"),
    ("33", "0", &["112", "15", "17", "18"], "112"),
    ("44", "0", &["999", "112"], "112"),
    ("353", "0", &["999", "112"], "112"),
    ("34", "", &["112"], "112"),
    ("39", "", &["112", "113", "115", "118"], "112"),
    ("31", "0", &["112", "911"], "911"),
    ("46", "0", &["112"], "112"),
    ("48", "", &["112", "997", "998", "999"], "112"),
    ("40", "0", &["112"], "112"),
    ("61", "0", &["000", "112"], "112"),
    ("64", "0", &["111"], "911"),
    ("81", "0", &["110", "119"], "911"),
    ("91", "0", &["112", "100", "101", "102"], "112"),
    ("55", "0", &["190", "192", "193"], "911"),
    ("27", "0", &["112", "10111", "10177"], "112"),
];

#[test]
fn each_of_twenty_countries_reaches_help_with_every_route_set_against_it() {
    for (code, national_prefix, own, reached_by_911) in COUNTRIES {
        let snapshot = hostile(code, national_prefix);
        for number in own {
            for prefix in ["", "9", "0", "9-", national_prefix, &format!("+{code}"), &format!("00{code}")] {
                check(&snapshot, &format!("{prefix}{number}"), number);
            }
        }
        for dialled in ["911", "9911", "9-911", "0911", "9.911"] {
            check(&snapshot, dialled, reached_by_911);
        }
        for dialled in ["112", "9112", "0112", "+112", "112;phone-context=+36"] {
            check(&snapshot, dialled, "112");
        }
    }
}

#[test]
fn a_number_that_only_begins_like_one_for_help_is_no_emergency() {
    let snapshot = hostile("36", "06");
    for dialled in ["1121", "91", "11", "1", "99", "104567", "+36112345678", "0611234567", "9911234", "echo", ""] {
        assert_eq!(emergency_number(&snapshot, &snapshot.extensions["101"], dialled), None, "{dialled}");
    }
}

#[test]
fn a_foreign_number_for_help_reaches_the_one_that_is_answered_there() {
    for (country, dialled, reached) in
        [("36", "911", "112"), ("36", "999", "112"), ("1", "999", "112"), ("44", "911", "112"), ("81", "112", "112")]
    {
        check(&hostile(country, "0"), dialled, reached);
    }
}

#[test]
fn without_a_country_every_country_s_number_counts_but_a_phone_of_the_box_is_rung() {
    let mut snapshot = hostile("36", "06");
    for extension in snapshot.extensions.values_mut() {
        (extension.numbering, extension.number) = (Numbering::default(), None);
    }
    for trunk in snapshot.trunks.values_mut() {
        (trunk.numbering, trunk.numbers) = (Numbering::default(), Vec::new());
    }
    for dialled in ["112", "911", "9911", "000", "110", "119", "105"] {
        let found = emergency_number(&snapshot, &snapshot.extensions["101"], dialled);
        assert_eq!(found.as_deref(), Some(dialled.strip_prefix("9").filter(|_| dialled.len() == 4).unwrap_or(dialled)));
    }
    // Fire brigades have 101 in some countries; here it is a desk.
    assert_eq!(emergency_number(&snapshot, &snapshot.extensions["101"], "101"), None);
}

#[test]
fn a_phone_whose_user_is_a_prefix_and_an_emergency_number_is_rung() {
    let mut snapshot = hostile("36", "06");
    let extension = snapshot.extensions["101"].clone();
    snapshot.extensions.insert("9112".into(), extension.clone());
    snapshot.extensions.insert("911".into(), extension.clone());
    assert_eq!(emergency_number(&snapshot, &extension, "9112"), None);
    assert_eq!(emergency_number(&snapshot, &extension, "911").as_deref(), Some("911"), "help comes before a desk");
}

#[test]
fn a_phone_that_asks_for_the_service_by_its_urn_reaches_it() {
    for (country, reached) in [("36", "112"), ("1", "911"), ("44", "112")] {
        check(&hostile(country, "0"), "urn:service:sos", reached);
        check(&hostile(country, "0"), "URN:service:sos.fire", reached);
    }
}

#[test]
fn the_preferred_trunk_comes_first_and_shows_a_number_to_call_back() {
    let mut snapshot = hostile("36", "06");
    let mut second = snapshot.trunks["line"].clone();
    (second.policy.priority, second.numbers) = (1, vec!["3615550000".into()]);
    snapshot.trunks.insert("a-second".into(), second);
    let shown = |snapshot: &Snapshot| {
        let Ok(Route { plan: Plan::Bridge(bridge), .. }) = ask(snapshot, "112") else { panic!("no way out") };
        let trunk = |target: &BridgeTarget| match target {
            BridgeTarget::Trunk { trunk_id, from, .. } => (trunk_id.clone(), from.clone()),
            _ => panic!("no trunk"),
        };
        bridge.targets.iter().map(trunk).collect::<Vec<_>>()
    };
    let own = Some("+3612345678".to_owned());
    assert_eq!(shown(&snapshot), [("line".to_owned(), own.clone()), ("a-second".to_owned(), own)]);
    snapshot.extensions.get_mut("101").expect("a phone").number = None;
    assert_eq!(shown(&snapshot)[1].1.as_deref(), Some("+3615550000"));
}

#[test]
fn without_a_trunk_for_it_an_emergency_call_is_refused_and_the_box_says_why() {
    let mut snapshot = hostile("36", "06");
    snapshot.trunks.get_mut("line").expect("a trunk").policy.is_emergency = false;
    assert_eq!(ask(&snapshot, "112"), Err(NoRoute::NoEmergencyTrunk));
    assert_eq!(NoRoute::NoEmergencyTrunk.status(), 503);
}

#[test]
fn nobody_but_a_phone_of_the_box_reaches_help_and_no_rule_leads_anyone_there() {
    let mut snapshot = hostile("36", "06");
    snapshot.trunks.insert("pbx".into(), TrunkRoute::new("PBX", "192.0.2.9"));
    let out = |id: &str, trunk: &str| RouteRule {
        id: id.into(),
        name: id.into(),
        from: talkstack_control::port::RouteSource::Trunk { trunk_id: "pbx".into() },
        targets: vec![RouteTarget::Trunk { trunk_id: trunk.into(), number: None, ring_s: None }],
        ..RouteRule::default()
    };
    snapshot.routes = vec![out("out", "line")];
    for line in [Line::Trunk("pbx"), Line::Trunk("line"), Line::Other] {
        for dialled in ["112", "911", "999", "+36112", "104", "0036112"] {
            let verdict = route(&snapshot, dialled, line).0;
            let is_kept_in = !matches!(&verdict, Ok(route) if matches!(route.plan, Plan::Bridge(_)));
            assert!(is_kept_in, "{line:?} {dialled}: {verdict:?}");
        }
    }
}

fn check(snapshot: &Snapshot, dialled: &str, reached: &str) {
    let country = &snapshot.extensions["101"].numbering.country_code;
    let (verdict, is_emergency_rule) = route(snapshot, dialled, Line::Extension("101", &snapshot.extensions["101"]));
    let Ok(Route { plan: Plan::Bridge(bridge), .. }) = verdict else { panic!("{country:?} {dialled}: {verdict:?}") };
    assert!(is_emergency_rule && bridge.is_emergency, "{country:?} {dialled}");
    let BridgeTarget::Trunk { trunk_id, number, .. } = &bridge.targets[0] else { panic!("no trunk") };
    assert_eq!((trunk_id.as_str(), number.as_str()), ("line", reached), "{country:?} {dialled}");
}

fn ask(snapshot: &Snapshot, dialled: &str) -> Result<Route, NoRoute> {
    route(snapshot, dialled, Line::Extension("101", &snapshot.extensions["101"])).0
}

fn route<'a>(snapshot: &'a Snapshot, dialled: &'a str, line: Line<'a>) -> (Result<Route, NoRoute>, bool) {
    let gate = Gate::default();
    let router = Router { snapshot, gate: &gate, at: date(2026, 11, 25).at(12, 0, 0, 0) };
    let answer = router.route(&Question { request_user: dialled, to_user: dialled, caller: "101", line });
    (answer.verdict, matches!(answer.rule, Rule::Emergency(_)))
}

/// A box with one emergency trunk, whose rules lead every call elsewhere: each is in front of what it could hide.
fn hostile(code: &str, national_prefix: &str) -> Snapshot {
    let numbering =
        Numbering { country_code: Some(code.into()), national_prefix: national_prefix.into(), ..Numbering::default() };
    let line = TrunkRoute {
        numbering: numbering.clone(),
        policy: TrunkPolicy { is_emergency: true, ..TrunkPolicy::default() },
        ..TrunkRoute::new("line", "192.0.2.1")
    };
    let number = Some(if code == "36" { "3612345678".to_owned() } else { format!("{code}2015550100") });
    let extension = talkstack_control::port::ExtensionRoute { numbering, number, ..Default::default() };
    let rule = |called: &[&str], target: RouteTarget| RouteRule {
        name: "elsewhere".into(),
        called: called.iter().map(|pattern| (*pattern).to_owned()).collect(),
        targets: vec![target],
        ..RouteRule::default()
    };
    Snapshot {
        trunks: [("line".to_owned(), line), ("other".to_owned(), TrunkRoute::new("other", "192.0.2.2"))].into(),
        extensions: [("101".to_owned(), extension)].into(),
        routes: vec![
            rule(&["112", "911", "9911", "999", "X."], RouteTarget::Refuse { status: 403 }),
            rule(&["9|."], RouteTarget::Trunk { trunk_id: "other".into(), number: None, ring_s: None }),
            rule(&[], RouteTarget::Echo),
        ],
        ..Snapshot::default()
    }
}
