use super::*;
use crate::sip::endpoint::Transport;
use crate::sip::message::{Framing, Message, parse};

#[test]
fn a_phone_is_bound_told_refreshed_asked_for_and_removed() {
    let mut site = Site::new();
    let reply = site.register(1, "Contact: <sip:101@192.0.2.7:5062>;q=0.5\r\nExpires: 120\r\n");
    assert_eq!(reply.status, 200);
    assert_eq!(contacts(&reply), ["<sip:101@192.0.2.7:5062>;expires=120;q=0.500"]);
    assert!(site.registrar.take_change() && !site.registrar.take_change());
    site.now += Duration::from_secs(20);
    assert_eq!(contacts(&site.register(2, "")), ["<sip:101@192.0.2.7:5062>;expires=100;q=0.500"], "a question");
    assert!(!site.registrar.take_change(), "which changes nothing");
    let reply = site.register(3, "Contact: <sip:%3101@192.0.2.7:5062>;expires=60\r\nExpires: 120\r\n");
    assert_eq!(contacts(&reply), ["<sip:%3101@192.0.2.7:5062>;expires=60"], "the same address; its own life");
    site.now += Duration::from_secs(60);
    assert_eq!(site.registrar.poll_timeout(), Some(site.now));
    assert_eq!(site.registrar.ways("101", site.now), []);
    site.registrar.handle_timeout(site.now);
    assert_eq!(site.registrar.poll_timeout(), None);
    site.register(4, "Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.8>\r\n");
    let reply = site.register(5, "Contact: <sip:a@192.0.2.7>;expires=0\r\n");
    assert_eq!(contacts(&reply), ["<sip:b@192.0.2.8>;expires=3600"], "an hour where nothing is said");
    let reply = site.register(6, "Contact: *\r\nExpires: 0\r\n");
    assert_eq!((reply.status, contacts(&reply).len()), (200, 0));
}

#[test]
fn what_the_rfc_forbids_is_refused_and_changes_nothing() {
    let mut site = Site::new();
    site.register(10, "Contact: <sip:a@192.0.2.7>\r\n");
    site.registrar.take_change();
    for (cseq, fields, status) in [
        (11, "Contact: *\r\n", 400),
        (11, "Contact: *\r\nExpires: 60\r\n", 400),
        (11, "Contact: *, <sip:b@192.0.2.8>\r\nExpires: 0\r\n", 400),
        (11, "Contact: <sip:b@192.0.2.8\r\n", 400),
        (11, "Contact: sip:b@192.0.2.8?Route=%3Csip:evil%3E\r\n", 400),
        (11, "Contact: <mailto:b@example.com>\r\n", 400),
        (11, "Contact: <sip:b@192.0.2.8>;expires=59\r\n", 423),
        (11, "Contact: <sip:b@192.0.2.8>\r\nExpires: 1\r\n", 423),
        (10, "Contact: <sip:a@192.0.2.7>\r\n", 500),
        (9, "Contact: <sip:a@192.0.2.7>;expires=0\r\n", 500),
        (9, "Contact: *\r\nExpires: 0\r\n", 500),
        // All of it or nothing.
        (10, "Contact: <sip:b@192.0.2.8>, <sip:a@192.0.2.7>;expires=0\r\n", 500),
        (11, "Contact: <sip:b@192.0.2.8>, <sip:c@192.0.2.9>;expires=5\r\n", 423),
    ] {
        let reply = site.register(cseq, fields);
        assert_eq!(reply.status, status, "{cseq} {fields}");
        assert!(reply.rule.is_some(), "{fields}");
        let minimum = reply.fields.iter().find(|(name, _)| *name == "Min-Expires");
        assert_eq!(minimum.is_some(), status == 423, "{fields}");
    }
    assert!(!site.registrar.take_change());
    assert_eq!(contacts(&site.register(12, "")).len(), 1);
    // Another Call-ID has numbers of its own, and one user's password registers no other.
    site.call_id = "again".into();
    assert_eq!(site.register(1, "Contact: <sip:a@192.0.2.7>;expires=700\r\n").status, 200);
    site.to = "<sip:102@box>".into();
    assert_eq!(site.register(2, "Contact: <sip:a@192.0.2.7>\r\n").status, 403);
    site.to = "<tel:101>".into();
    assert_eq!(site.register(2, "Contact: <sip:a@192.0.2.7>\r\n").status, 404);
}

#[test]
fn a_user_has_so_many_phones_and_the_preferred_rings_first() {
    let mut site = Site::new();
    site.user_agent = "one".into();
    for (at, contact) in ["<sip:a@192.0.2.7>;q=0.2", "<sip:b@192.0.2.8>", "<sip:c@192.0.2.9>;q=0.7"].iter().enumerate()
    {
        assert_eq!(site.register(at as u32, &format!("Contact: {contact}\r\n")).status, 200);
    }
    let users: Vec<String> =
        site.registrar.ways("101", site.now).iter().map(|way| way.uri.user().unwrap_or_default().to_owned()).collect();
    assert_eq!(users, ["b", "c", "a"]);
    site.user_agent = "two".into();
    let full = site.register(4, "Contact: <sip:d@192.0.2.10>\r\n");
    assert_eq!((full.status, full.rule.is_some()), (403, true));
    // The first one was started anew: it speaks from the same address and says the same of itself.
    site.user_agent = "one".into();
    assert_eq!(site.register(5, "Contact: <sip:a@192.0.2.7:9999>\r\n").status, 200);
    assert_eq!(site.registrar.bindings("101", site.now).count(), 3);
    assert_eq!(site.registrar.bindings("102", site.now).count(), 0);
    site.registrar.retain(|user| user != "101");
    assert_eq!(site.registrar.bindings("101", site.now).count(), 0);
}

#[test]
fn a_phone_is_called_where_it_can_be_reached() {
    // Contact, Path, transport, and where a call goes.
    for (contact, path, transport, to) in [
        ("<sip:a@192.0.2.7:5070>", "", Transport::Udp, "192.0.2.7:5070"),
        ("<sip:a@192.0.2.7>", "", Transport::Udp, "192.0.2.7:5060"),
        ("<sip:a@192.168.1.9:5070>", "", Transport::Udp, "192.0.2.7:40000"),
        ("<sip:a@phone.invalid>", "", Transport::Udp, "192.0.2.7:40000"),
        ("<sip:a@127.0.0.1>", "", Transport::Udp, "192.0.2.7:40000"),
        ("<sip:a@192.168.1.9:5070>", "Path: <sip:192.0.2.7:5080;lr>\r\n", Transport::Udp, "192.0.2.7:5080"),
        ("<sip:a@192.168.1.9:5070>", "Path: <sip:edge.example;lr>\r\n", Transport::Udp, "192.0.2.7:40000"),
        ("<sip:a@192.0.2.7:5070>", "", Transport::Tcp, "192.0.2.7:40000"),
    ] {
        let mut site = Site::new();
        site.flow.transport = transport;
        site.flow.stream = (transport == Transport::Tcp).then_some(StreamId(3));
        let reply = site.register(1, &format!("{path}Supported: path\r\nContact: {contact}\r\n"));
        assert_eq!(reply.status, 200, "{contact}");
        assert_eq!(reply.fields.iter().any(|(name, _)| *name == "Path"), !path.is_empty(), "RFC 3327 §5.3");
        let way = site.registrar.ways("101", site.now).remove(0);
        assert_eq!((way.flow.remote, way.flow.stream), (to.parse().expect("address"), site.flow.stream), "{contact}");
        assert_eq!(way.routes.len(), usize::from(!path.is_empty()));
        assert!(format!("<{}>", way.uri) == contact, "what it wants to be called: {contact}");
    }
    let mut site = Site::new();
    site.register(1, "Contact: <sip:a@192.0.2.7?Replaces=x>\r\n");
    assert_eq!(site.registrar.ways("101", site.now)[0].uri.to_string(), "sip:a@192.0.2.7", "no words of its own");
}

#[test]
fn an_instance_replaces_its_own_flow_and_no_other() {
    let mut site = Site::new();
    site.flow.transport = Transport::Tcp;
    site.flow.stream = Some(StreamId(1));
    let contact = |id: u32, host: &str| {
        format!("Supported: outbound\r\nContact: <sip:a@{host}>;+sip.instance=\"<urn:uuid:1>\";reg-id={id}\r\n")
    };
    let reply = site.register(1, &contact(1, "192.168.1.9"));
    assert!(reply.fields.contains(&("Require", "outbound".into())), "{:?}", reply.fields);
    site.flow.stream = Some(StreamId(2));
    site.register(2, &contact(2, "192.168.1.9"));
    assert_eq!(site.registrar.bindings("101", site.now).count(), 2, "two flows of one phone");
    // It has come back by another stream, from another address.
    site.flow.stream = Some(StreamId(3));
    site.call_id = "anew".into();
    let reply = site.register(1, &contact(1, "192.168.7.7"));
    assert_eq!(contacts(&reply).len(), 2);
    assert!(contacts(&reply)[0].ends_with(";+sip.instance=\"<urn:uuid:1>\";reg-id=1"), "{:?}", contacts(&reply));
    site.registrar.handle_stream_closed(StreamId(1));
    assert_eq!(site.registrar.bindings("101", site.now).count(), 2, "nobody is on the old stream");
    site.registrar.take_change();
    site.registrar.handle_stream_closed(StreamId(3));
    assert_eq!(site.registrar.bindings("101", site.now).count(), 1, "a flow that has failed is gone (RFC 5626 §6)");
    assert!(site.registrar.take_change());
}

#[test]
fn a_stream_that_ends_leaves_only_who_can_be_connected_to() {
    for (transport, contact, is_kept) in [
        (Transport::Tcp, "<sip:a@192.0.2.7:5070;transport=tcp>", true),
        (Transport::Tcp, "<sip:a@192.168.1.9:5070;transport=tcp>", false),
        (Transport::Wss, "<sip:a@browser.invalid;transport=ws>", false),
        (Transport::Tls, "<sip:a@192.0.2.7:5061;transport=tls>", false),
    ] {
        let mut site = Site::new();
        site.flow.transport = transport;
        site.flow.stream = Some(StreamId(3));
        site.register(1, &format!("Contact: {contact}\r\n"));
        assert_eq!(site.registrar.saved(site.now, UNIX).len(), usize::from(is_kept), "{contact}");
        site.registrar.handle_stream_closed(StreamId(3));
        let ways = site.registrar.ways("101", site.now);
        assert_eq!(ways.len(), usize::from(is_kept), "{contact}");
        if let Some(way) = ways.first() {
            assert_eq!((way.flow.stream, way.flow.remote.port()), (None, 5070));
        }
    }
}

#[test]
fn bindings_outlive_a_restart_with_what_is_left_of_their_life() {
    let mut site = Site::new();
    site.register(1, "Path: <sip:192.0.2.7;lr>\r\nContact: <sip:a@192.168.1.9>;q=0.3;expires=600\r\n");
    site.register(2, "Contact: <sip:b@192.0.2.7>;expires=60\r\n");
    let saved = site.registrar.saved(site.now, UNIX);
    let text = serde_json::to_string(&saved).expect("written");
    let saved: Vec<SavedBinding> = serde_json::from_str(&text).expect("read");
    let mut after = Registrar::default();
    let start = Instant::now();
    after.restore(&saved, start, UNIX + Duration::from_secs(100));
    assert!(!after.take_change());
    let bound: Vec<&Binding> = after.bindings("101", start).collect();
    let [binding] = &bound[..] else { panic!("one has expired meanwhile: {bound:?}") };
    assert_eq!(binding.expires_at, start + Duration::from_secs(500));
    assert_eq!(after.ways("101", start), site.registrar.ways("101", site.now)[1..], "called the same way");
    site.registrar = after;
    site.now = start;
    assert_eq!(site.register(1, "Contact: <sip:a@192.168.1.9>\r\n").status, 500, "its number is remembered");
    assert_eq!(site.register(3, "Contact: <sip:a@192.168.1.9>\r\n").status, 200);
    // A clock that was set wrongly makes no binding live for ever.
    let mut wrong = Registrar::default();
    wrong.restore(&saved, start, Duration::ZERO);
    assert!(wrong.bindings("101", start).all(|binding| binding.expires_at <= start + contact::EXPIRES_MAX));
}

#[test]
fn mutated_registers_never_panic_and_the_bounds_hold() {
    let mut random = 0x2468_ace1u32;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random as usize
    };
    let mut site = Site::new();
    let seed = site.text(
        1,
        "Path: <sip:e;lr>\r\nContact: <sip:a@192.0.2.7>;q=0.3;+sip.instance=\"<u>\";reg-id=1, <sip:b@h>;expires=90\r\n",
    );
    for round in 0..20_000 {
        let mut bytes = seed.clone().into_bytes();
        for _ in 0..1 + next() % 5 {
            let at = next() % bytes.len();
            match next() % 3 {
                0 => bytes[at] = next() as u8,
                1 => drop(bytes.drain(at..(at + next() % 9).min(bytes.len()))),
                _ => bytes.insert(at, b"\r\n;<>\":, @[]%*="[next() % 15]),
            }
        }
        if let Ok(Message::Request(request)) = parse(&bytes, Framing::Datagram) {
            let registering = Registering { user: "101", request: &request, flow: &site.flow, contacts_max: 3 };
            site.registrar.handle_register(registering, site.now);
        }
        assert!(site.registrar.bindings("101", site.now).count() <= 3, "round {round}");
    }
}

struct Site {
    registrar: Registrar,
    now: Instant,
    flow: Flow,
    call_id: String,
    to: String,
    user_agent: String,
}

impl Site {
    fn new() -> Self {
        let flow = Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().expect("address"),
            remote: "192.0.2.7:40000".parse().expect("address"),
            stream: None,
        };
        let (registrar, now) = (Registrar::default(), Instant::now());
        Site { registrar, now, flow, call_id: "x".into(), to: "<sip:101@box>".into(), user_agent: "phone".into() }
    }

    fn text(&self, cseq: u32, fields: &str) -> String {
        format!(
            "REGISTER sip:box SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:101@box>;tag=7\r\n\
             To: {}\r\nCall-ID: {}\r\nCSeq: {cseq} REGISTER\r\nUser-Agent: {}\r\n{fields}\r\n",
            self.to, self.call_id, self.user_agent
        )
    }

    fn register(&mut self, cseq: u32, fields: &str) -> OutsideReply {
        match parse(self.text(cseq, fields).as_bytes(), Framing::Datagram) {
            Ok(Message::Request(request)) => {
                let registering = Registering { user: "101", request: &request, flow: &self.flow, contacts_max: 3 };
                self.registrar.handle_register(registering, self.now)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn contacts(reply: &OutsideReply) -> Vec<&str> {
    reply.fields.iter().filter(|(name, _)| *name == "Contact").map(|(_, value)| value.as_str()).collect()
}

/// 2027, in seconds since the Unix epoch.
const UNIX: Duration = Duration::from_secs(1_800_000_000);
