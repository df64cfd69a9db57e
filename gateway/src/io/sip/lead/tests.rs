//! Two phones on loopback, and the box's own threads between them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use talkstack_control::gate::{DialPolicy, Gate};
use talkstack_control::port::{
    CallEvent, ExtensionRoute, RouteRule, RouteTarget, Snapshot, ToControl, TrunkRoute, TrunkTransport,
};
use talkstack_control::secret::Secret;
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::sip::Flow;
use talkstack_media::sip::{Transport, UdpLarge};
use tokio::sync::mpsc;

use super::*;
use crate::accept::Accept;
use crate::call::CallLimits;
use crate::io::connect::AgentTarget;
use crate::io::inbox::inbox;
use crate::io::ports::Ports;
use crate::io::shard::{GivenLeg, Shard, ShardConfig, SipWish, Surroundings};
use crate::io::sip::{Listeners, SipConfig, SipSurroundings, ToSip};
use crate::journal::{Journal, JournalHandle};
use crate::random::Random;
use crate::trunks::PeerName;
use crate::trunks::locate::{Located, Server};

#[test]
fn two_phones_of_the_box_hear_each_other_over_the_wire_and_all_other_phones_stop_ringing() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, called, other] = &box_.phones[..] else { panic!("three phones") };
    let caller_media = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let called_media = UdpSocket::bind("127.0.0.1:0").expect("a port");
    caller.invite(box_.sip, "102", &caller_media);
    let (invite, also) = (called.take("INVITE "), other.take("INVITE "));
    assert!(field(&invite, "From").starts_with("<sip:101@"), "{invite}");
    called.respond(&invite, "180 Ringing", "", box_.sip);
    other.respond(&also, "180 Ringing", "", box_.sip);
    assert!(caller.take("SIP/2.0 180").contains("To:"));
    called.respond(&invite, "200 OK", &sdp(&called_media), box_.sip);
    called.take("ACK ");
    let cancel = other.take("CANCEL ");
    other.respond(&cancel, "200 OK", "", box_.sip);
    other.respond(&also, "487 Request Terminated", "", box_.sip);
    let answer = caller.take("SIP/2.0 200");
    caller.acknowledge(&answer, box_.sip);
    let caller_to = media_of(&answer);
    let called_to = media_of(&invite);
    let mut frames = 0;
    for sequence in 0..100 {
        caller_media.send_to(&frame(sequence, 0x11), caller_to).expect("sent");
        called_media.send_to(&frame(sequence, 0x22), called_to).expect("sent");
        frames += frames_of(&caller_media, 0x22, Duration::from_millis(20));
    }
    assert!(frames >= 70, "the caller hears {frames} frames of the called phone");
    // What came meanwhile waits in the kernel.
    let frames = frames_of(&called_media, 0x11, Duration::from_millis(20));
    assert!(frames >= 70, "the called phone hears {frames} frames of the caller");
    called.bye(&invite, box_.sip);
    let bye = caller.take("BYE ");
    caller.respond(&bye, "200 OK", "", box_.sip);
    let events = box_.ended();
    let count = |is: fn(&CallEvent) -> bool| events.iter().filter(|event| is(event)).count();
    assert_eq!(count(|event| matches!(event, CallEvent::Started(_))), 1);
    assert_eq!(count(|event| matches!(event, CallEvent::Ringing)), 1);
    assert_eq!(count(|event| matches!(event, CallEvent::Answered { .. })), 1);
    assert_eq!(count(|event| matches!(event, CallEvent::Dialog { .. })), 2, "both may be owed a BYE");
}

#[test]
fn a_caller_who_cancels_stops_the_phones_and_one_whom_all_refuse_is_refused() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, called, other] = &box_.phones[..] else { panic!("three phones") };
    let media = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let invite = caller.invite(box_.sip, "102", &media);
    let (one, two) = (called.take("INVITE "), other.take("INVITE "));
    called.respond(&one, "180 Ringing", "", box_.sip);
    other.respond(&two, "180 Ringing", "", box_.sip);
    caller.take("SIP/2.0 180");
    caller.cancel(&invite, box_.sip);
    for (phone, invite) in [(called, &one), (other, &two)] {
        let cancel = phone.take("CANCEL ");
        phone.respond(&cancel, "200 OK", "", box_.sip);
        phone.respond(invite, "487 Request Terminated", "", box_.sip);
        phone.take("ACK ");
    }
    assert!(
        matches!(box_.ended().last(), Some(CallEvent::Ended { outcome }) if outcome.reason == EndReason::Cancelled)
    );
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, called, other] = &box_.phones[..] else { panic!("three phones") };
    caller.invite(box_.sip, "102", &media);
    let (one, two) = (called.take("INVITE "), other.take("INVITE "));
    other.respond(&two, "480 Temporarily Unavailable", "", box_.sip);
    called.respond(&one, "486 Busy Here", "", box_.sip);
    caller.take("SIP/2.0 486");
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { outcome }) if outcome.reason == EndReason::Busy));
}

#[test]
fn a_phone_transfers_its_caller_to_another_and_is_told_how_it_goes() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, called, third] = &box_.phones[..] else { panic!("three phones") };
    let medias = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    caller.invite(box_.sip, "104", &medias[0]);
    let invite = called.take("INVITE ");
    called.respond(&invite, "200 OK", &sdp(&medias[1]), box_.sip);
    called.take("ACK ");
    let answer = caller.take("SIP/2.0 200");
    caller.acknowledge(&answer, box_.sip);
    let referred = format!("Refer-To: <sip:105@{}>\r\n", box_.sip);
    called.in_dialog("REFER", 1, &invite, &referred, box_.sip);
    called.take("SIP/2.0 202");
    let coming = third.take("INVITE ");
    assert!(field(&coming, "From").starts_with("<sip:"), "{coming}");
    let notify = called.take("NOTIFY ");
    called.respond(&notify, "200 OK", "", box_.sip);
    third.respond(&coming, "180 Ringing", "", box_.sip);
    third.respond(&coming, "200 OK", &sdp(&medias[2]), box_.sip);
    third.take("ACK ");
    let mut told = called.take("NOTIFY ");
    while !told.contains("SIP/2.0 200") {
        called.respond(&told, "200 OK", "", box_.sip);
        told = called.take("NOTIFY ");
    }
    called.respond(&told, "200 OK", "", box_.sip);
    let bye = called.take("BYE ");
    called.respond(&bye, "200 OK", "", box_.sip);
    let (caller_to, third_to) = (media_of(&answer), media_of(&coming));
    let mut frames = 0;
    for sequence in 0..100 {
        medias[0].send_to(&frame(sequence, 0x11), caller_to).expect("sent");
        medias[2].send_to(&frame(sequence, 0x22), third_to).expect("sent");
        frames += frames_of(&medias[0], 0x22, Duration::from_millis(20));
    }
    assert!(frames >= 70, "the caller hears {frames} frames of the one who came");
    let frames = frames_of(&medias[2], 0x11, Duration::from_millis(20));
    assert!(frames >= 70, "the one who came hears {frames} frames of the caller");
    third.in_dialog("BYE", 1, &coming, "", box_.sip);
    let bye = caller.take("BYE ");
    caller.respond(&bye, "200 OK", "", box_.sip);
    let ends = box_.ended().iter().filter(|event| matches!(event, CallEvent::Ended { .. })).count();
    assert_eq!(ends, 1, "one call from the first to the last");
}

#[test]
fn who_talks_in_two_calls_joins_the_two_they_talk_to() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, called, third] = &box_.phones[..] else { panic!("three phones") };
    let medias = [(); 4].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    caller.invite(box_.sip, "104", &medias[0]);
    let invite = called.take("INVITE ");
    called.respond(&invite, "200 OK", &sdp(&medias[1]), box_.sip);
    called.take("ACK ");
    let answer = caller.take("SIP/2.0 200");
    caller.acknowledge(&answer, box_.sip);
    called.invite(box_.sip, "105", &medias[3]);
    let asked = third.take("INVITE ");
    third.respond(&asked, "200 OK", &sdp(&medias[2]), box_.sip);
    third.take("ACK ");
    let advised = called.take("SIP/2.0 200");
    called.acknowledge(&advised, box_.sip);
    let to_tag = field(&advised, "To").split("tag=").nth(1).expect("a tag").to_owned();
    let call_id = field(&advised, "Call-ID").replace(':', "%3A");
    let referred =
        format!("Refer-To: <sip:105@{}?Replaces={call_id}%3Bto-tag%3D{to_tag}%3Bfrom-tag%3Dc>\r\n", box_.sip);
    called.in_dialog("REFER", 1, &invite, &referred, box_.sip);
    called.take("SIP/2.0 202");
    let mut byes = 0;
    while byes < 2 {
        let request = called.take("");
        byes += usize::from(request.starts_with("BYE "));
        if !request.starts_with("SIP/2.0") {
            called.respond(&request, "200 OK", "", box_.sip);
        }
    }
    let (caller_to, third_to) = (media_of(&answer), media_of(&asked));
    let mut frames = 0;
    for sequence in 0..100 {
        medias[0].send_to(&frame(sequence, 0x11), caller_to).expect("sent");
        medias[2].send_to(&frame(sequence, 0x22), third_to).expect("sent");
        frames += frames_of(&medias[0], 0x22, Duration::from_millis(20));
    }
    assert!(frames >= 70, "the caller hears {frames} frames of the one who was asked");
    let frames = frames_of(&medias[2], 0x11, Duration::from_millis(20));
    assert!(frames >= 70, "the one who was asked hears {frames} frames of the caller");
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })), "the call for advice");
    third.in_dialog("BYE", 1, &asked, "", box_.sip);
    let bye = caller.take("BYE ");
    caller.respond(&bye, "200 OK", "", box_.sip);
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })), "and the other");
}

#[test]
fn who_talks_to_an_agent_and_another_leaves_that_other_with_the_agent() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, called] = &box_.phones[..] else { panic!("two phones") };
    let medias = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    caller.invite(box_.sip, "104", &medias[0]);
    let invite = called.take("INVITE ");
    called.respond(&invite, "200 OK", &sdp(&medias[1]), box_.sip);
    called.take("ACK ");
    let answer = caller.take("SIP/2.0 200");
    caller.acknowledge(&answer, box_.sip);
    called.invite(box_.sip, "echo", &medias[2]);
    let agent = called.take("SIP/2.0 200");
    called.acknowledge(&agent, box_.sip);
    let to_tag = field(&agent, "To").split("tag=").nth(1).expect("a tag").to_owned();
    let call_id = field(&agent, "Call-ID").replace(':', "%3A");
    let referred =
        format!("Refer-To: <sip:echo@{}?Replaces={call_id}%3Bto-tag%3D{to_tag}%3Bfrom-tag%3Dc>\r\n", box_.sip);
    called.in_dialog("REFER", 1, &invite, &referred, box_.sip);
    called.take("SIP/2.0 202");
    for _ in 0..2 {
        let bye = called.take("BYE ");
        called.respond(&bye, "200 OK", "", box_.sip);
    }
    let mut frames = 0;
    for sequence in 0..100 {
        medias[0].send_to(&frame(sequence, 0x11), media_of(&answer)).expect("sent");
        frames += frames_of(&medias[0], 0x11, Duration::from_millis(20));
    }
    assert!(frames >= 60, "the caller hears {frames} frames of its own echo");
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })), "the call of the two phones");
    caller.in_dialog("BYE", 2, &answer, "", box_.sip);
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })), "and the agent's");
}

#[test]
fn an_invite_that_replaces_a_leg_has_its_place_and_what_rings_elsewhere_stops() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, called, third] = &box_.phones[..] else { panic!("three phones") };
    let medias = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let replaces = |invite: &str, phone: &Phone| {
        let own = field(invite, "From").split("tag=").nth(1).expect("a tag").to_owned();
        format!("Replaces: {};to-tag={own};from-tag=d{}\r\n", field(invite, "Call-ID"), phone.address.port())
    };
    caller.invite(box_.sip, "104", &medias[0]);
    let rings = called.take("INVITE ");
    called.respond(&rings, "180 Ringing", "", box_.sip);
    caller.take("SIP/2.0 180");
    // The third picks up what rings at the second.
    third.offer(box_.sip, "104", &sdp(&medias[2]), &replaces(&rings, called));
    let cancel = called.take("CANCEL ");
    called.respond(&cancel, "200 OK", "", box_.sip);
    called.respond(&rings, "487 Request Terminated", "", box_.sip);
    let picked_up = third.take("SIP/2.0 200");
    third.acknowledge(&picked_up, box_.sip);
    let answer = caller.take("SIP/2.0 200");
    caller.acknowledge(&answer, box_.sip);
    let begun = Instant::now();
    let heard = |from: &UdpSocket, to: SocketAddr, at: &UdpSocket, byte: u8| -> usize {
        let one = |_| {
            // A frame of each moment: what is silent for a while has not stopped the clock.
            let sequence = (begun.elapsed().as_millis() / 20) as u16;
            from.send_to(&frame(sequence, byte), to).expect("sent");
            frames_of(at, byte, Duration::from_millis(20))
        };
        (0..50).map(one).sum()
    };
    assert!(heard(&medias[2], media_of(&picked_up), &medias[0], 0x22) >= 35, "the caller hears who picked up");
    // And the second takes the answered call over from the third.
    let tag = |message: &str, name| field(message, name).split("tag=").nth(1).expect("a tag").to_owned();
    let own = tag(&picked_up, "To");
    let fields = format!("Replaces: {};to-tag={own};from-tag=c\r\n", field(&picked_up, "Call-ID"));
    called.offer(box_.sip, "104", &sdp(&medias[1]), &fields);
    let taken_over = called.take("SIP/2.0 200");
    called.acknowledge(&taken_over, box_.sip);
    let bye = third.take("BYE ");
    third.respond(&bye, "200 OK", "", box_.sip);
    assert!(heard(&medias[1], media_of(&taken_over), &medias[0], 0x33) >= 35, "the caller hears the third phone");
    assert!(heard(&medias[0], media_of(&answer), &medias[1], 0x11) >= 35, "and is heard there");
    // One that cannot be taken changes nothing.
    let fields =
        format!("Replaces: {};to-tag={};from-tag=c\r\n", field(&taken_over, "Call-ID"), tag(&taken_over, "To"));
    let stranger = Phone::new("127.0.0.1:0");
    stranger.offer(box_.sip, "104", &sdp(&medias[2]).replace("AVP 0", "AVP 18"), &fields);
    stranger.take("SIP/2.0 488");
    assert!(heard(&medias[1], media_of(&taken_over), &medias[0], 0x33) >= 35, "nothing has changed");
    called.in_dialog("BYE", 2, &taken_over, "", box_.sip);
    let bye = caller.take("BYE ");
    caller.respond(&bye, "200 OK", "", box_.sip);
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })));
}

#[test]
fn a_call_goes_out_through_a_trunk_with_its_early_media() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, trunk] = &box_.phones[..] else { panic!("a phone and a trunk") };
    let medias = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    caller.invite(box_.sip, "5551234", &medias[0]);
    let invite = trunk.take("INVITE ");
    assert!(invite.starts_with(&format!("INVITE sip:+15551234567@{} SIP/2.0", trunk.address)), "{invite}");
    trunk.respond(&invite, "183 Session Progress", &sdp(&medias[1]), box_.sip);
    assert!(caller.take("SIP/2.0 183").contains("m=audio"), "early media");
    trunk.respond(&invite, "200 OK", &sdp(&medias[1]), box_.sip);
    trunk.take("ACK ");
    let answer = caller.take("SIP/2.0 200");
    caller.acknowledge(&answer, box_.sip);
    let mut frames = 0;
    for sequence in 0..100 {
        medias[1].send_to(&frame(sequence, 0x22), media_of(&invite)).expect("sent");
        frames += frames_of(&medias[0], 0x22, Duration::from_millis(20));
    }
    assert!(frames >= 70, "{frames} frames");
    caller.in_dialog("BYE", 2, &answer, "", box_.sip);
    let bye = trunk.take("BYE ");
    trunk.respond(&bye, "200 OK", "", box_.sip);
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { outcome }) if outcome.reason == EndReason::HungUp));
}

#[test]
fn a_trunk_s_calls_per_second_hold_for_callers_who_are_led_on() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, trunk, other] = &box_.phones[..] else { panic!("two phones and a trunk") };
    let media = UdpSocket::bind("127.0.0.1:0").expect("a port");
    caller.invite(box_.sip, "5551234", &media);
    other.invite(box_.sip, "5551234", &media);
    trunk.take("INVITE ");
    let refused = [caller, other].map(|phone| phone.final_response());
    assert_eq!(refused.iter().flatten().map(|text| &text[..11]).collect::<Vec<_>>(), ["SIP/2.0 503"]);
}

#[test]
fn a_trunk_s_address_that_says_nothing_for_six_seconds_is_passed_over_for_the_next() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, silent, trunk] = &box_.phones[..] else { panic!("a phone and two servers") };
    let addresses = vec![silent.address, trunk.address];
    let server = Server { transport: Transport::Udp, rank: 0, priority: 0, weight: 0, addresses };
    let located = Located { servers: vec![server], ttl: Duration::from_secs(60), is_whole: true };
    let name = PeerName { host: "trunk.invalid".into(), port: None, transport: TrunkTransport::Udp };
    box_.inbox.try_send(ToSip::Resolved(name, located)).expect("taken");
    let medias = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    caller.invite(box_.sip, "5559999", &medias[0]);
    silent.take("INVITE ");
    let invite = trunk.take("INVITE ");
    trunk.respond(&invite, "200 OK", &sdp(&medias[1]), box_.sip);
    trunk.take("ACK ");
    let answer = caller.take("SIP/2.0 200");
    caller.acknowledge(&answer, box_.sip);
    caller.in_dialog("BYE", 2, &answer, "", box_.sip);
    let bye = trunk.take("BYE ");
    trunk.respond(&bye, "200 OK", "", box_.sip);
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { outcome }) if outcome.reason == EndReason::HungUp));
}

/// The box's threads, and phones that have registered: all but the first as 102, the second as 104, the third as 105.
/// The second is a trunk as well.
struct TestBox {
    sip: SocketAddr,
    phones: Vec<Phone>,
    inbox: mpsc::Sender<ToSip>,
    events: std::sync::mpsc::Receiver<CallEvent>,
    _dir: tempfile::TempDir,
}

fn surroundings(dir: &std::path::Path, journal: JournalHandle, own_inbox: mpsc::Sender<ToSip>) -> SipSurroundings {
    SipSurroundings {
        journal,
        own_inbox,
        gate: Gate::new(DialPolicy::default()),
        secret: Secret::open(&dir.join("secret.key")).expect("made"),
        cut_off: Vec::new(),
        bindings: dir.join("bindings"),
        tls: None,
    }
}

/// Three phones, a trunk at this port of ours that takes one call a second, another with a name, and a route out through
/// each.
fn snapshot(trunk_port: u16) -> Snapshot {
    let numbers = |number: &str| vec![number.to_owned()];
    let mut trunk = TrunkRoute { numbers: numbers("15550000000"), ..TrunkRoute::new("t", "127.0.0.1") };
    (trunk.port, trunk.policy.calls_per_second) = (Some(trunk_port), Some(1));
    let named = TrunkRoute { numbers: numbers("15550000001"), ..TrunkRoute::new("n", "trunk.invalid") };
    let rule = |trunk_id: &str, called: &str| {
        let out = RouteTarget::Trunk { trunk_id: trunk_id.into(), number: Some("+15551234567".into()), ring_s: None };
        let called = vec![called.into()];
        RouteRule { id: trunk_id.into(), called, targets: vec![out], ..RouteRule::default() }
    };
    Snapshot {
        extensions: ["102", "104", "105"].map(|user| (user.to_owned(), ExtensionRoute::default())).into(),
        trunks: [("t".to_owned(), trunk), ("n".to_owned(), named)].into(),
        routes: vec![rule("t", "5551234"), rule("n", "5559999")],
        ..Snapshot::default()
    }
}

impl TestBox {
    fn start(phones: &[&str]) -> Self {
        let phones: Vec<Phone> = phones.iter().map(|address| Phone::new(address)).collect();
        let contacts: Vec<SocketAddr> = phones[1..].iter().map(|phone| phone.address).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        let (own_inbox, inbox) = mpsc::channel(64);
        let to_sip = own_inbox.clone();
        let (started, address) = std::sync::mpsc::channel();
        let (told, events) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let journal = Journal::open(&path.join("journal")).expect("opens");
                let (records, mut recorded) = mpsc::channel(64);
                journal.handle().subscribe(None, records);
                tokio::spawn(async move {
                    while let Some(message) = recorded.recv().await {
                        if let ToControl::Record(record) = message {
                            // The test may have seen enough.
                            let _ = told.send(record.event);
                        }
                    }
                });
                // The second call is on another thread than the first.
                let shards = (0..SHARDS).map(|at| start_shard(at, own_inbox.clone(), journal.handle())).collect();
                let listeners = Listeners::bind(&[([127, 0, 0, 1], 0).into()]).expect("a port");
                let local = listeners.addresses()[0].0;
                let surroundings = surroundings(&path, journal.handle(), own_inbox);
                let snapshot = snapshot(contacts[0].port());
                let (mut sip, sockets) = SipThread::new(
                    sip_config(),
                    listeners,
                    shards,
                    Arc::new(snapshot),
                    surroundings,
                    Random::new().expect("random numbers"),
                );
                for (remote, own) in contacts.into_iter().zip(["104", "105"]) {
                    let flow = Flow { transport: Transport::Udp, local, remote, stream: None };
                    sip.dialling.accounts.phones.bind("102", &flow);
                    sip.dialling.accounts.phones.bind(own, &flow);
                }
                started.send(local).expect("the test waits");
                sip.run(sockets, inbox).await;
            });
        });
        let sip = address.recv_timeout(LIMIT).expect("the box starts");
        TestBox { sip, phones, inbox: to_sip, events, _dir: dir }
    }

    /// What the journal was told until the call's end.
    fn ended(&self) -> Vec<CallEvent> {
        let mut events = Vec::new();
        while !matches!(events.last(), Some(CallEvent::Ended { .. })) {
            events.push(self.events.recv_timeout(LIMIT).expect("the call ends"));
        }
        events
    }
}

impl Drop for TestBox {
    fn drop(&mut self) {
        let _ = self.inbox.try_send(ToSip::Stop);
    }
}

fn sip_config() -> SipConfig {
    SipConfig {
        udp_large: UdpLarge::Auto,
        dns: Vec::new(),
        accept: Accept::Any,
        setup_required: false,
        calls_max: 10,
        outside: crate::outside::OutsideConfig::default(),
        timezone: jiff::tz::TimeZone::UTC,
    }
}

fn start_shard(
    at: usize,
    sip: mpsc::Sender<ToSip>,
    journal: JournalHandle,
) -> crate::io::inbox::Address<crate::io::shard::ToShard> {
    let (inbox, address) = inbox().expect("a descriptor");
    let config = ShardConfig {
        recorder: None,
        ports: Ports::new(33_000, 60_000, at, SHARDS, u64::from(std::process::id()) << 8 | 3),
        limits: CallLimits {
            duration_max: Duration::from_secs(60),
            ring_max: Duration::from_secs(45),
            speech: SpeechPool::default(),
        },
    };
    let shard = Shard::new(config, inbox, Around { sip, journal }, Instant::now()).expect("a shard");
    std::thread::spawn(move || shard.run());
    address
}

struct Around {
    sip: mpsc::Sender<ToSip>,
    journal: JournalHandle,
}

impl Surroundings for Around {
    fn sip(&self, id: CallId, wish: SipWish) -> bool {
        self.sip.try_send(ToSip::Wish(id, wish)).is_ok()
    }

    fn give(&self, to: CallId, given: Box<GivenLeg>) -> bool {
        self.sip.try_send(ToSip::Given(to, given)).is_ok()
    }

    fn record(&self, id: CallId, event: CallEvent) -> bool {
        self.journal.append(id, event).is_ok()
    }

    fn speak(&self, _: CallId, _: String) {}

    fn connect(&self, _: CallId, _: AgentTarget) -> bool {
        false
    }
}

/// A phone's signalling.
struct Phone {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Phone {
    fn new(address: &str) -> Self {
        let socket = UdpSocket::bind(address).expect("a port");
        socket.set_read_timeout(Some(LIMIT)).expect("set");
        let address = socket.local_addr().expect("bound");
        Phone { socket, address }
    }

    /// Waits for a message that begins so, passing over others.
    fn take(&self, start: &str) -> String {
        loop {
            let mut buffer = [0; 8192];
            let (bytes, _) = self.socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("no {start}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if text.starts_with(start) {
                return text;
            }
        }
    }

    /// The final response that comes within a second, if one does.
    fn final_response(&self) -> Option<String> {
        self.socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
        loop {
            let mut buffer = [0; 8192];
            let bytes = self.socket.recv(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if text.starts_with("SIP/2.0 ") && !text.starts_with("SIP/2.0 1") {
                return Some(text);
            }
        }
    }

    fn invite(&self, target: SocketAddr, user: &str, media: &UdpSocket) -> String {
        self.offer(target, user, &sdp(media), "")
    }

    fn offer(&self, target: SocketAddr, user: &str, sdp: &str, fields: &str) -> String {
        let local = self.address;
        let text = format!(
            "INVITE sip:{user}@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKi;rport\r\nMax-Forwards: 70\r\n\
             From: <sip:101@{local}>;tag=c\r\nTo: <sip:{user}@{target}>\r\nCall-ID: {local}\r\nCSeq: 1 INVITE\r\n\
             {fields}Contact: <sip:101@{local}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.socket.send_to(text.as_bytes(), target).expect("sent");
        text
    }

    fn acknowledge(&self, answer: &str, target: SocketAddr) {
        self.in_dialog("ACK", 1, answer, "", target);
    }

    fn cancel(&self, invite: &str, target: SocketAddr) {
        let head = invite.split("Contact:").next().expect("a head").replace("INVITE", "CANCEL");
        self.socket.send_to(format!("{head}Content-Length: 0\r\n\r\n").as_bytes(), target).expect("sent");
    }

    /// BYE of the called side.
    fn bye(&self, invite: &str, target: SocketAddr) {
        self.in_dialog("BYE", 1, invite, "", target);
    }

    /// A request in the dialog of an INVITE that came, or of an answer to our own.
    fn in_dialog(&self, method: &str, number: u32, message: &str, fields: &str, target: SocketAddr) {
        let is_ours = message.starts_with("SIP/2.0");
        let tagged = format!("{};tag=d{}", field(message, "To"), self.address.port());
        let (from, to) = match is_ours {
            true => (field(message, "From"), field(message, "To")),
            false => (tagged, field(message, "From")),
        };
        let (local, call_id) = (self.address, field(message, "Call-ID"));
        let text = format!(
            "{method} sip:box@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{method}{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:x@{local}>\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        self.socket.send_to(text.as_bytes(), target).expect("sent");
    }

    fn respond(&self, request: &str, status: &str, sdp: &str, target: SocketAddr) {
        let copied = |line: &&str| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
        let copied: String = request.lines().filter(copied).map(|line| format!("{}\r\n", line.trim_end())).collect();
        let to = field(request, "To");
        let tag = if to.contains("tag=") { String::new() } else { format!(";tag=d{}", self.address.port()) };
        let content = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status}\r\n{copied}To: {to}{tag}\r\nContact: <sip:102@{}>\r\n{content}Content-Length: {}\r\n\r\n{sdp}",
            self.address,
            sdp.len()
        );
        self.socket.send_to(text.as_bytes(), target).expect("sent");
    }
}

fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

fn sdp(media: &UdpSocket) -> String {
    let port = media.local_addr().expect("bound").port();
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
}

fn media_of(text: &str) -> SocketAddr {
    let port = text.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok());
    ([127, 0, 0, 1], port.expect("audio")).into()
}

fn frame(sequence: u16, code: u8) -> [u8; 172] {
    let mut packet = [code; 172];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet[8..12].copy_from_slice(&[code; 4]);
    packet
}

/// Listens for a while; returns how many frames said nothing but `code`.
fn frames_of(media: &UdpSocket, code: u8, time: Duration) -> usize {
    let (until, mut buffer, mut frames) = (Instant::now() + time, [0; 2048], 0);
    while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        media.set_read_timeout(Some(rest)).expect("set");
        let Ok(bytes) = media.recv(&mut buffer) else { continue };
        frames += usize::from(bytes == 172 && buffer[12..172].iter().all(|byte| *byte == code));
    }
    frames
}

/// Media threads of the box.
const SHARDS: usize = 2;

/// 8 s: far above what loopback takes.
const LIMIT: Duration = Duration::from_secs(8);
