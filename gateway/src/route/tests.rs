use jiff::civil::DateTime;
use talkstack_control::gate::{DialPolicy, GateRefusal};
use talkstack_control::port::{
    Hours, NumberRoute, Numbering, ProjectRoute, ProviderKind, ProviderRoute, RouteAnswer, RouteQuestion, RouteRule,
    RouteSource, RouteTarget, TrunkPolicy, TrunkRoute,
};

use super::*;
use crate::io::connect::AgentTarget;

#[test]
fn the_same_number_is_found_however_it_is_dialled() {
    for user in ["+3612345678", "3612345678", "003612345678", "+36-1-234.56 78", "+36(1)2345678;phone-context=x"] {
        let route = asked(&snapshot(), user, "").expect(user);
        assert_eq!(route.called, "+3612345678", "{user}");
        assert_eq!(route.agent_id.as_deref(), Some("own"), "{user}");
    }
    for user in ["612345678", "36123456789", "+3612345678x", "0003612345678", ""] {
        assert!(asked(&snapshot(), user, "").is_err(), "{user}");
    }
}

#[test]
fn a_number_without_an_agent_goes_to_the_active_one_and_else_to_the_attendant() {
    assert_eq!(asked(&snapshot(), "3611", "").expect("known").agent_id.as_deref(), Some("active"));
    let lonely = asked(&snapshot(), "3622", "").expect("known");
    assert_eq!((lonely.agent_id, lonely.plan), (None, Plan::attendant()));
    let own = asked(&snapshot(), "3612345678", "").expect("known");
    assert_eq!(own.plan, Plan::Attendant { name: Some("Jack".into()), language: Language::En });
    assert_eq!(lonely.project_id.as_deref(), Some("empty"));
}

#[test]
fn the_to_user_answers_when_the_request_uri_is_a_trunk_s_own_name() {
    assert_eq!(asked(&snapshot(), "trunk-7", "+3612345678").expect("known").called, "+3612345678");
    assert_eq!(asked(&snapshot(), "echo", "+3612345678").expect("known").plan, Plan::Echo);
}

#[test]
fn an_unknown_user_is_named_without_what_could_break_a_header() {
    let error = asked(&snapshot(), "no\r\nbody\"", "x").expect_err("unknown");
    assert_eq!(error.to_string(), "no number or user nobody\" on this box");
}

#[test]
fn an_agent_of_a_media_stream_is_reached_at_its_url() {
    let Plan::Service(plan) = asked(&snapshot(), "3633", "").expect("known").plan else { panic!("no stream") };
    let AgentTarget::WebSocket(target) = &plan.target else { panic!("no WebSocket") };
    assert_eq!(target.url.to_string(), "ws://agent:9000/twilio");
    assert_eq!(plan.parties, Parties { from: "anna".into(), to: "+3633".into() });
}

#[test]
fn each_rule_is_asked_in_turn_for_every_pattern_hour_and_line() {
    let (office, night) = ("2026-11-25T10:00:00", "2026-11-25T22:30:00");
    let snapshot = office_box();
    let phone = || Line::Extension("101", &snapshot.extensions["101"]);
    let (pstn, pbx, other) = (Line::Trunk("pstn"), Line::Trunk("pbx"), Line::Other);
    let to_trunk = |number: &str| format!("pstn {number}");
    for (called, line, at, rule, target) in [
        // A number of the box by day and by night.
        ("+3612345678", pstn, office, "day", "agent own".to_owned()),
        ("003612345678", pstn, office, "day", "agent own".to_owned()),
        ("0612345678", pstn, office, "day", "agent own".to_owned()),
        ("+3612345678", pstn, night, "night", "extension 102, extension 101, attendant".to_owned()),
        ("+3612345678", pstn, "2026-11-28T10:00:00", "night", "extension 102, extension 101, attendant".to_owned()),
        // The same number from a phone or a stranger: the rules are for the trunk.
        ("+3612345678", phone(), office, "number +3612345678", "agent own".to_owned()),
        ("0612345678", phone(), office, "number +3612345678", "agent own".to_owned()),
        ("+3612345678", other, night, "number +3612345678", "agent own".to_owned()),
        // Out: the pattern takes the 9 away and rewrites a local number.
        ("9003612345670", phone(), office, "out", to_trunk("+3612345670")),
        ("90620123456", phone(), night, "out", to_trunk("+3620123456")),
        ("906201234567", phone(), night, "out", to_trunk("+36201234567")),
        ("2345678", phone(), office, "local", to_trunk("+3612345678")),
        ("906201234567", pstn, office, "no route", "".to_owned()),
        ("906201234567", other, office, "no route", "".to_owned()),
        // Phones of a PBX behind a trunk of no country.
        ("7201", phone(), office, "pbx", "pbx 201".to_owned()),
        ("7201", pstn, office, "no route", "".to_owned()),
        // From the PBX to the box's phones and services.
        ("101", pbx, office, "extension 101", "extension 101".to_owned()),
        ("echo", pbx, office, "built-in user echo", "echo".to_owned()),
        ("5000", pbx, office, "hotline", "agent active".to_owned()),
        ("5000", other, office, "hotline", "agent active".to_owned()),
        // Who is not wanted.
        ("666", other, office, "unwanted", "refuse 603".to_owned()),
        // Nothing of the owner's: the phone's own number decides.
        ("06201234567", phone(), office, "outside +36201234567", to_trunk("+36201234567")),
        ("+36201234567", phone(), office, "outside +36201234567", to_trunk("+36201234567")),
        ("+43123456789", phone(), office, "no route", "".to_owned()),
        ("+3690123456", phone(), office, "no route", "".to_owned()),
        ("4711", phone(), office, "no route", "".to_owned()),
    ] {
        let answer = simulated(&snapshot, called, "101", line, at);
        assert_eq!((answer.rule.as_str(), shown_targets(&answer)), (rule, target), "{called} {line:?} {at}");
    }
}

#[test]
fn the_clock_of_the_box_s_zone_decides_also_in_the_nights_that_change_it() {
    let zone = jiff::tz::TimeZone::get("Europe/Budapest").expect("in the database");
    let snapshot = office_box();
    for (utc, rule) in [
        // Nine in winter is eight in UTC, in summer seven.
        ("2026-03-27T07:59:00Z", "night"),
        ("2026-03-27T08:00:00Z", "day"),
        ("2026-03-30T07:00:00Z", "day"),
        ("2026-03-30T06:59:00Z", "night"),
        ("2026-10-23T07:00:00Z", "day"),
        ("2026-10-26T07:00:00Z", "night"),
        ("2026-10-26T08:00:00Z", "day"),
    ] {
        let at = zone.to_datetime(utc.parse::<jiff::Timestamp>().expect("an instant"));
        let answer = simulated(&snapshot, "+3612345678", "", Line::Trunk("pstn"), &at.to_string());
        assert_eq!(answer.rule, rule, "{utc}");
    }
}

#[test]
fn a_rule_for_callers_looks_at_what_a_phone_has_proven_and_not_at_what_it_says() {
    let mut snapshot = office_box();
    snapshot.routes = vec![RouteRule {
        callers: vec!["102".into(), "+431234567".into()],
        ..rule("vip", &[], RouteSource::Any, RouteTarget::Echo)
    }];
    let phone = Line::Extension("101", &snapshot.extensions["101"]);
    assert_eq!(simulated(&snapshot, "102", "102", phone, "2026-11-25T10:00:00").rule, "extension 102");
    let other = Line::Extension("102", &snapshot.extensions["102"]);
    assert_eq!(simulated(&snapshot, "102", "101", other, "2026-11-25T10:00:00").rule, "vip");
    for (caller, rule) in [("+431234567", "vip"), ("00431234567", "vip"), ("+431234568", "number +3612345678")] {
        let answer = simulated(&snapshot, "+3612345678", caller, Line::Trunk("pstn"), "2026-11-25T10:00:00");
        assert_eq!(answer.rule, rule, "{caller}");
    }
}

#[test]
fn the_simulation_names_each_rule_that_was_asked_and_why_it_did_not_match() {
    let answer = simulated(&office_box(), "101", "666", Line::Trunk("pbx"), "2026-11-25T10:00:00");
    assert_eq!(
        answer.passed,
        [
            "day: it looks at other lines",
            "night: it looks at other lines",
            "out: it looks at other lines",
            "local: it looks at other lines",
            "pbx: it looks at other lines",
            "hotline: the called number matches none of its patterns",
            "unwanted: the called number matches none of its patterns",
        ]
    );
    let answer = simulated(&office_box(), "+3612345678", "", Line::Trunk("pstn"), "2026-11-25T22:30:00");
    assert_eq!(
        (answer.route_id.as_deref(), &answer.passed[..]),
        (Some("night"), &["day: it holds at other hours".to_owned()][..])
    );
    let phone = RouteQuestion {
        called: "+43123456789".into(),
        caller: "101".into(),
        from: RouteSource::Extensions,
        at_ms: None,
    };
    let at: DateTime = "2026-11-25T10:00:00".parse().expect("a time");
    let answer = simulate(&office_box(), &Gate::default(), &phone, at);
    assert_eq!(
        answer.passed.last().map(String::as_str),
        Some("The owner of the box has not allowed calls to this destination (dial.allow).")
    );
    let answer = simulate(&office_box(), &Gate::new(DialPolicy { allow: vec!["+43".into()] }), &phone, at);
    assert_eq!(shown_targets(&answer), "pstn +43123456789");
}

#[test]
fn a_target_that_cannot_be_used_is_passed_over_and_a_rule_without_any_says_why() {
    let mut snapshot = office_box();
    let targets = [
        RouteTarget::Extension { user: "gone".into(), ring_s: None },
        RouteTarget::Trunk { trunk_id: "gone".into(), number: None, ring_s: None },
        RouteTarget::Extension { user: "102".into(), ring_s: Some(20) },
        RouteTarget::Refuse { status: 480 },
        RouteTarget::Echo,
    ];
    snapshot.routes =
        vec![RouteRule { targets: targets.to_vec(), ..rule("chain", &[], RouteSource::Any, RouteTarget::Echo) }];
    let answer = simulated(&snapshot, "1", "", Line::Other, "2026-11-25T10:00:00");
    assert_eq!(shown_targets(&answer), "extension 102, refuse 480");
    snapshot.routes[0].targets.truncate(2);
    let refused = verdict(&snapshot, "1", Line::Other).expect_err("nothing to use");
    assert_eq!(
        (refused.status(), refused.to_string().as_str()),
        (404, "the route chain leads nowhere: its extension does not exist")
    );
    snapshot.routes[0].targets.clear();
    assert_eq!(
        verdict(&snapshot, "1", Line::Other).expect_err("no target").to_string(),
        "the route chain leads nowhere: it has no target"
    );
}

#[test]
fn nobody_calls_out_but_a_phone_with_a_number_and_a_trunk_that_a_rule_names() {
    let mut snapshot = office_box();
    let out = RouteTarget::Trunk { trunk_id: "pstn".into(), number: None, ring_s: None };
    snapshot.routes = vec![rule("out", &[], RouteSource::Any, out.clone())];
    let refused = |snapshot: &Snapshot, line| match verdict(snapshot, "+36201234567", line) {
        Err(NoRoute::LeadsNowhere { why, .. }) => Some(why),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    };
    assert_eq!(refused(&snapshot, Line::Other), Some(Unusable::Stranger));
    assert_eq!(refused(&snapshot, Line::Trunk("pbx")), Some(Unusable::NotForTrunks));
    let quiet = ExtensionRoute { number: None, ..snapshot.extensions["101"].clone() };
    assert_eq!(refused(&snapshot, Line::Extension("101", &quiet)), Some(Unusable::NoNumber));
    assert_eq!(refused(&snapshot, Line::Extension("101", &snapshot.extensions["101"])), None);
    snapshot.routes = vec![rule("out", &[], RouteSource::Trunk { trunk_id: "pbx".into() }, out)];
    assert_eq!(refused(&snapshot, Line::Trunk("pbx")), None);
    let phone = RouteTarget::Trunk { trunk_id: "pstn".into(), number: Some("+36301234567".into()), ring_s: None };
    snapshot.routes = vec![rule("mobile", &[], RouteSource::Any, phone)];
    assert_eq!(refused(&snapshot, Line::Trunk("pstn")), None);
    let premium = RouteTarget::Trunk { trunk_id: "pstn".into(), number: Some("+3690123456".into()), ring_s: None };
    snapshot.routes = vec![rule("dear", &[], RouteSource::Any, premium)];
    assert_eq!(refused(&snapshot, Line::Trunk("pstn")), Some(Unusable::Gate(GateRefusal::Premium)));
}

#[test]
fn a_phone_without_a_number_calls_inside_only() {
    let mut snapshot = office_box();
    snapshot.extensions.get_mut("101").expect("a phone").number = None;
    let phone = Line::Extension("101", &snapshot.extensions["101"]);
    let refused = verdict(&snapshot, "+36201234567", phone).expect_err("outside");
    assert_eq!((refused.status(), refused), (403, NoRoute::NotAllowed(Unusable::NoNumber)));
    assert!(verdict(&snapshot, "102", phone).is_ok());
    assert!(verdict(&snapshot, "+3612345678", phone).is_ok());
}

#[test]
fn a_call_belongs_to_the_project_of_its_agent_else_of_its_phone() {
    let snapshot = office_box();
    let project = |called, line| verdict(&snapshot, called, line).expect("a way").project_id;
    let phone = Line::Extension("101", &snapshot.extensions["101"]);
    assert_eq!(project("5000", Line::Other).as_deref(), Some("clinic"));
    assert_eq!(project("102", phone).as_deref(), Some("desk"));
    assert_eq!(project("101", Line::Trunk("pbx")).as_deref(), Some("desk"));
    assert_eq!(project("102", Line::Trunk("pbx")), None);
}

#[test]
fn the_trunks_that_may_present_a_phone_s_number_are_tried_by_their_priority() {
    let mut snapshot = office_box();
    let listing = |priority| TrunkRoute {
        numbers: vec!["3612345678".into()],
        policy: TrunkPolicy { priority, ..TrunkPolicy::default() },
        ..TrunkRoute::new("listing", "192.0.2.5")
    };
    let open = snapshot.trunks.get_mut("pstn").expect("a trunk");
    open.numbers.clear();
    open.policy.priority = 7;
    snapshot.trunks.insert("b".into(), listing(5));
    snapshot.trunks.insert("a".into(), listing(9));
    let phone = Line::Extension("101", &snapshot.extensions["101"]);
    let answer = simulated(&snapshot, "+36201234567", "", phone, "2026-11-25T10:00:00");
    assert_eq!(shown_targets(&answer), "b +36201234567, pstn +36201234567, a +36201234567");
}

fn asked(snapshot: &Snapshot, request_user: &str, to_user: &str) -> Result<Route, NoRoute> {
    let gate = Gate::default();
    let at = "2026-11-25T10:00:00".parse().expect("a time");
    let question = Question { request_user, to_user, caller: "anna", line: Line::Other };
    Router { snapshot, gate: &gate, at }.route(&question).verdict
}

fn verdict(snapshot: &Snapshot, called: &str, line: Line<'_>) -> Result<Route, NoRoute> {
    let gate = Gate::default();
    let at = "2026-11-25T10:00:00".parse().expect("a time");
    Router { snapshot, gate: &gate, at }
        .route(&Question { request_user: called, to_user: "", caller: "", line })
        .verdict
}

/// As the simulation tells it, which must be what the call itself would do.
fn simulated(snapshot: &Snapshot, called: &str, caller: &str, line: Line<'_>, at: &str) -> RouteAnswer {
    let from = match line {
        Line::Trunk(id) => RouteSource::Trunk { trunk_id: id.to_owned() },
        Line::Extension(..) => RouteSource::Extensions,
        Line::Agent(_) | Line::Other => RouteSource::Any,
    };
    let caller = match line {
        Line::Extension(user, _) => user,
        Line::Trunk(_) | Line::Agent(_) | Line::Other => caller,
    };
    let question = RouteQuestion { called: called.into(), caller: caller.into(), from, at_ms: None };
    simulate(snapshot, &Gate::default(), &question, at.parse().expect("a time"))
}

fn shown_targets(answer: &RouteAnswer) -> String {
    let shown = answer.targets.iter().map(|target| match target {
        RouteTarget::Agent { agent_id } => format!("agent {agent_id}"),
        RouteTarget::Attendant => "attendant".into(),
        RouteTarget::Echo => "echo".into(),
        RouteTarget::Extension { user, .. } => format!("extension {user}"),
        RouteTarget::Trunk { trunk_id, number, .. } => format!("{trunk_id} {}", number.clone().unwrap_or_default()),
        RouteTarget::Refuse { status } => format!("refuse {status}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn rule(name: &str, called: &[&str], from: RouteSource, target: RouteTarget) -> RouteRule {
    RouteRule {
        id: name.into(),
        name: name.into(),
        called: called.iter().map(|pattern| (*pattern).to_owned()).collect(),
        from,
        targets: vec![target],
        ..RouteRule::default()
    }
}

/// An office in Hungary with a line, a PBX, two phones, and hours.
fn office_box() -> Snapshot {
    let hungary = Numbering { country_code: Some("36".into()), national_prefix: "06".into(), ..Numbering::default() };
    let extension = |project: Option<&str>| ExtensionRoute {
        number: Some("3612345678".into()),
        numbering: hungary.clone(),
        project_id: project.map(str::to_owned),
        ..ExtensionRoute::default()
    };
    let pstn = TrunkRoute {
        is_default: true,
        numbers: vec!["3612345678".into()],
        numbering: hungary.clone(),
        ..TrunkRoute::new("PSTN", "192.0.2.1")
    };
    let agent = |id: &str| RouteTarget::Agent { agent_id: id.into() };
    let phone = |user: &str| RouteTarget::Extension { user: user.into(), ring_s: None };
    let out = |trunk: &str| RouteTarget::Trunk { trunk_id: trunk.into(), number: None, ring_s: None };
    let from_pstn = || RouteSource::Trunk { trunk_id: "pstn".into() };
    let day = Hours { days: vec![1, 2, 3, 4, 5], from: 9 * 60, to: 17 * 60 };
    Snapshot {
        trunks: [("pstn".to_owned(), pstn), ("pbx".to_owned(), TrunkRoute::new("PBX", "192.0.2.2"))].into(),
        extensions: [("101".to_owned(), extension(Some("desk"))), ("102".to_owned(), extension(None))].into(),
        routes: vec![
            RouteRule { hours: vec![day], ..rule("day", &["+3612345678"], from_pstn(), agent("own")) },
            RouteRule {
                targets: vec![phone("102"), phone("101"), RouteTarget::Attendant],
                ..rule("night", &["+3612345678"], from_pstn(), RouteTarget::Attendant)
            },
            rule("out", &["9|."], RouteSource::Extensions, out("pstn")),
            rule("local", &["00361+|NXXXXXX"], RouteSource::Extensions, out("pstn")),
            rule("pbx", &["7|2XX"], RouteSource::Extensions, out("pbx")),
            rule("hotline", &["5000"], RouteSource::Any, agent("active")),
            rule("unwanted", &["666"], RouteSource::Any, RouteTarget::Refuse { status: 603 }),
        ],
        ..snapshot()
    }
}

fn snapshot() -> Snapshot {
    let agent = |provider| AgentRoute { provider, ..AgentRoute::new("clinic", "Jack") };
    let number = |project: &str, agent: Option<&str>| NumberRoute {
        project_id: project.into(),
        agent_id: agent.map(str::to_owned),
    };
    let stream = ProviderRoute::new(ProviderKind::Twilio, "ws://agent:9000/twilio", "");
    Snapshot {
        revision: 1,
        is_claimed: true,
        projects: BTreeMap::from([
            ("clinic".into(), ProjectRoute { active_agent: Some("active".into()) }),
            ("empty".into(), ProjectRoute { active_agent: None }),
        ]),
        agents: BTreeMap::from([
            ("own".into(), agent(None)),
            ("active".into(), agent(None)),
            ("stream".into(), agent(Some(stream))),
        ]),
        numbers: BTreeMap::from([
            ("3612345678".into(), number("clinic", Some("own"))),
            ("3611".into(), number("clinic", None)),
            ("3622".into(), number("empty", None)),
            ("3633".into(), number("clinic", Some("stream"))),
        ]),
        ..Snapshot::default()
    }
}
