//! Two endpoints that call each other over a network that loses, delays and swaps: whatever they do, both see the same
//! session, and nothing stays behind.

use std::collections::BTreeMap;

use super::*;
use crate::sip::message::Uri;

#[test]
fn two_sides_that_do_as_they_please_agree_in_the_end_and_leave_nothing_behind() {
    let (mut up, mut glares, mut pracks, mut updates) = (0, 0, 0, 0);
    for seed in 0..400 {
        let mut pair = Pair::new(seed);
        pair.call();
        for _ in 0..60 {
            pair.act();
            let ms = pair.next(700);
            pair.pass(ms);
        }
        // Some hang up in the middle of it all.
        if seed % 4 != 3 {
            pair.loss_percent = 0;
            pair.pass(250_000);
            up += u32::from(pair.agrees());
        }
        let counted = |word: &str| pair.log.iter().filter(|message| message.contains(word)).count();
        glares += counted("SIP/2.0 491 ");
        pracks += counted("PRACK sip:");
        updates += counted("UPDATE sip:");
        for side in 0..2 {
            for dialog in std::mem::take(&mut pair.sides[side].dialogs) {
                let _ = pair.sides[side].endpoint.hang_up(dialog, None, pair.now);
            }
        }
        pair.pass(400_000);
        pair.assert_nothing_is_left();
    }
    println!("{up} of 300 still up before the end; {glares} glares, {pracks} PRACKs, {updates} UPDATEs");
    assert!(up > 100 && glares > 50 && pracks > 200 && updates > 100, "every machine was at work");
}

/// One side, and what it has been told.
struct Side {
    endpoint: Endpoint,
    address: std::net::SocketAddr,
    dialogs: Vec<DialogId>,
    /// Descriptions so far; each is another.
    version: u32,
}

struct Pair {
    seed: u64,
    random: u64,
    now: Instant,
    sides: [Side; 2],
    /// By when they arrive; to which side.
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    loss_percent: u64,
    log: Vec<String>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let side = |number: u8| Side {
            endpoint: Endpoint::new(EndpointConfig::default(), [seed as u8 ^ (number * 99) ^ (seed >> 8) as u8; 32]),
            address: ([10, 0, 0, number], 5060).into(),
            dialogs: Vec::new(),
            version: 0,
        };
        let sides = [side(1), side(2)];
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (wire, loss_percent) = (BTreeMap::new(), [0, 10, 25][seed as usize % 3]);
        Pair { seed, random, now: Instant::now(), sides, wire, sent: 0, loss_percent, log: Vec::new() }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn flow(&self, side: usize) -> Flow {
        let (local, remote) = (self.sides[side].address, self.sides[1 - side].address);
        Flow { transport: Transport::Udp, local, remote, stream: None }
    }

    /// Another description of this side.
    fn sdp(&mut self, side: usize) -> Vec<u8> {
        let ours = &mut self.sides[side];
        ours.version += 1;
        format!("v=0 {} {}", ours.address.ip(), ours.version).into_bytes()
    }

    fn call(&mut self) {
        let is_late = self.next(4) == 0;
        let sdp = if is_late { Vec::new() } else { self.sdp(0) };
        let order = crate::sip::InviteOrder {
            flow: self.flow(0),
            request_uri: Uri::parse("sip:b@10.0.0.2").expect("a URI"),
            from: "<sip:a@10.0.0.1>".into(),
            to: "<sip:b@10.0.0.2>".into(),
            fields: Vec::new(),
            sdp,
            credentials: None,
            extensions: Extensions { session_expires: Some(Duration::from_secs(90)), ..Extensions::default() },
        };
        let dialog = self.sides[0].endpoint.invite(order, self.now).expect("room");
        self.sides[0].dialogs.push(dialog);
        self.drain();
    }

    /// One side does something; what its state does not allow is an error.
    fn act(&mut self) {
        let (side, what) = (self.next(2) as usize, self.next(10));
        let Some(dialog) = self.sides[side].dialogs.first().copied() else { return };
        let (sdp, now) = (self.sdp(side), self.now);
        let endpoint = &mut self.sides[side].endpoint;
        let _ = match what {
            0..3 => endpoint.ring(dialog, Some(&sdp), now),
            3..5 => endpoint.answer(dialog, &sdp, now),
            5..9 => endpoint.reinvite(dialog, &sdp, now),
            _ => endpoint.probe(dialog, now),
        };
        self.drain();
    }

    fn drain(&mut self) {
        for side in 0..2 {
            while let Some(output) = self.sides[side].endpoint.poll_output() {
                match output {
                    Output::Send { bytes, .. } | Output::SendLarge { bytes, .. } => {
                        self.log.push(String::from_utf8_lossy(&bytes).into_owned());
                        self.sent += 1;
                        if self.next(100) >= self.loss_percent {
                            let at = self.now + Duration::from_millis(5 + self.next(120));
                            self.wire.insert((at, self.sent), (1 - side, bytes));
                        }
                    }
                    Output::Event(event) => self.take(side, event),
                }
            }
        }
    }

    fn take(&mut self, side: usize, event: Event) {
        match event {
            Event::Offered(offered) => self.sides[side].dialogs.push(offered.dialog),
            Event::Ended { dialog, .. } | Event::Refused { dialog, .. } | Event::Unanswered { dialog } => {
                self.sides[side].dialogs.retain(|known| *known != dialog);
            }
            // Most are answered; some are refused, and some wait until something is done by chance.
            Event::ReOffered { dialog, .. } => {
                let (sdp, now, how) = (self.sdp(side), self.now, self.next(6));
                let endpoint = &mut self.sides[side].endpoint;
                let _ = match how {
                    0 => endpoint.refuse(dialog, Refusal::new(488), now),
                    _ => endpoint.answer(dialog, &sdp, now),
                };
            }
            Event::Accepted { dialog, sdp, .. } | Event::Progressed { dialog, sdp, .. } if sdp.is_some() => {
                // Nothing waits unless our INVITE was without an offer.
                let (sdp, now) = (self.sdp(side), self.now);
                let _ = self.sides[side].endpoint.answer(dialog, &sdp, now);
            }
            _ => {}
        }
    }

    /// Lets time pass, from message to message and from timer to timer.
    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            let timers = self.sides.iter().filter_map(|side| side.endpoint.poll_timeout().map(|(at, _)| at)).min();
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = [timers, arrival].into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = at.max(self.now);
            if arrival.is_some_and(|arrival| arrival <= self.now)
                && let Some((_, (side, bytes))) = self.wire.pop_first()
            {
                let flow = self.flow(side);
                self.sides[side].endpoint.handle_message(&flow, &bytes, self.now);
            }
            for side in &mut self.sides {
                side.endpoint.handle_timeout(self.now);
            }
            self.drain();
        }
        self.now = end;
    }

    /// Both are up and describe the same session; `false` when the call is not up.
    fn agrees(&self) -> bool {
        let sessions = [0, 1].map(|side| {
            let side = &self.sides[side];
            side.dialogs.first().and_then(|dialog| side.endpoint.agreed_descriptions(*dialog))
        });
        let [Some((ours, theirs)), Some((their_own, our_own))] = sessions else { return false };
        let seed = self.seed;
        assert_eq!((ours, theirs), (our_own, their_own), "seed {seed}:\n{}", self.log.join("\n"));
        true
    }

    fn assert_nothing_is_left(&self) {
        for side in &self.sides {
            let Endpoint { sessions, by_tags, by_invite, clients, servers, timers, outgoing, .. } = &side.endpoint;
            let left = [sessions.len(), by_tags.len(), by_invite.len(), clients.len(), servers.len(), timers.len()];
            assert_eq!(left, [0; 6], "seed {}: {:?}", self.seed, side.endpoint);
            assert!(outgoing.is_empty(), "seed {}", self.seed);
        }
    }
}
