//! Mutated responses; what debugging shows.

use super::*;

#[test]
fn what_is_personal_or_secret_is_not_printed_by_debug() {
    let mut trunk = Trunk::new(Transport::Udp);
    let order = trunk.order(Some(credentials()));
    let shown = format!("{order:?}");
    assert!(!shown.contains("555") && !shown.contains("s3cret") && !shown.contains("trunk-user"), "{shown}");
    trunk.call(Some(credentials()));
    assert!(!format!("{:?}", trunk.endpoint).contains("s3cret"));
}

#[test]
fn mutated_responses_never_panic_and_leave_nothing_behind() {
    let mut random = 0x0bad_cafeu32;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random as usize
    };
    let challenge = "WWW-Authenticate: Digest realm=\"t\", nonce=\"n\", qop=\"auth\", stale=true\r\n";
    let (mut accepted, mut refused, mut challenged) = (0, 0, 0);
    for round in 0..6_000 {
        let mut trunk = Trunk::new(if round % 2 == 0 { Transport::Udp } else { Transport::Tcp });
        let mut order = trunk.order(Some(credentials()));
        if round % 5 == 0 {
            order.sdp = Vec::new();
        }
        trunk.dialog = trunk.endpoint.invite(order, trunk.now).expect("room");
        let mut asked = trunk.messages();
        for _ in 0..1 + next() % 12 {
            let request = asked[next() % asked.len()].clone();
            let status = [100, 180, 183, 200, 200, 302, 401, 407, 422, 481, 486, 487, 491, 500, 999][next() % 15];
            let able = "Allow: INVITE, UPDATE, REFER\r\nSession-Expires: 90;refresher=uac\r\nMin-SE: 120\r\n";
            let reliable = format!("Require: 100rel\r\nRSeq: {}\r\n{CONTACT}", next() % 3);
            let redirect = "Contact: <sip:a@b>;q=0.3\r\nRetry-After: 5\r\n";
            let fields = [challenge, ROUTED, CONTACT, redirect, able, &reliable][next() % 6];
            let mut bytes = response(&request, status, ["a", "b", ""][next() % 3], fields, "v=0").into_bytes();
            for _ in 0..next() % 4 {
                let at = next() % bytes.len();
                match next() % 3 {
                    0 => bytes[at] = next() as u8,
                    1 if bytes.len() > 10 => drop(bytes.drain(at..(at + next() % 9).min(bytes.len()))),
                    _ => bytes.insert(at, b"\r\n;<>\":, @[]%"[next() % 13]),
                }
            }
            trunk.endpoint.handle_message(&trunk.flow, &bytes, trunk.now);
            trunk.pass(next() as u64 % 3_000);
            let (dialog, now) = (trunk.dialog, trunk.now);
            // What the state does not allow is an error.
            let _ = match next() % 8 {
                0 => trunk.endpoint.reinvite(dialog, b"v=0 more", now),
                1 => trunk.endpoint.answer(dialog, b"v=0 ours", now),
                2 => trunk.endpoint.refer(dialog, &Uri::parse("sip:a@b").expect("a URI"), Some(dialog), now),
                _ => Ok(()),
            };
            for method in ["UPDATE", "REFER", "NOTIFY", "INVITE", "ACK"] {
                if next() % 16 == 0 && !trunk.invite.is_empty() {
                    trunk.request_with(method, next() as u32 % 9, "a", ["", "v=0 x"][next() % 2]);
                }
            }
            if next() % 8 == 0 {
                let _ = trunk.endpoint.hang_up(trunk.dialog, None, trunk.now);
            }
            asked.extend(trunk.messages());
            trunk.invite = asked.iter().find(|message| message.starts_with("INVITE ")).cloned().unwrap_or_default();
            let endpoint = &trunk.endpoint;
            assert!(endpoint.sessions.len() <= 9 && endpoint.by_tags.len() <= 9, "round {round}");
            assert!(endpoint.outgoing.invites.len() <= 20 && endpoint.outgoing.calls.len() <= 1, "round {round}");
            assert!(endpoint.clients.len() <= 60 && endpoint.timers.len() <= 200, "round {round}");
        }
        let _ = trunk.endpoint.hang_up(trunk.dialog, None, trunk.now);
        // Whatever still rings is cancelled by its first response.
        for request in asked.iter().filter(|request| request.starts_with("INVITE ")) {
            trunk.answer(request, 180, "a", "", "");
        }
        trunk.assert_nothing_is_left();
        challenged += usize::from(asked.iter().filter(|request| request.starts_with("INVITE ")).count() > 1);
        let events = trunk.events();
        accepted += usize::from(events.iter().any(|event| matches!(event, Event::Accepted { .. })));
        refused += usize::from(events.iter().any(|event| matches!(event, Event::Refused { .. })));
    }
    println!("{accepted} accepted, {refused} refused, {challenged} challenged of 6000");
    assert!(accepted > 300 && refused > 300 && challenged > 300, "the mutations reach every state");
}
