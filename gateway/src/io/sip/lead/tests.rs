//! Two phones on loopback, and the box's own threads between them.

mod bench;

use std::net::UdpSocket;
use std::time::Duration;

use talkstack_control::port::{CallEvent, TrunkTransport};
use talkstack_media::sip::Transport;

use super::*;
use crate::io::sip::ToSip;
use crate::trunks::PeerName;
use crate::trunks::locate::{Located, Server};
use bench::{Phone, TestBox, echoed, field, frame, frames_of, media_of, sdp, tag};

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
    let (invite, answer) = box_.connect((caller, &medias[0]), "104", (called, &medias[1]));
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
    called.take_told("SIP/2.0 200", box_.sip);
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
    let (invite, answer) = box_.connect((caller, &medias[0]), "104", (called, &medias[1]));
    let (asked, advised) = box_.connect((called, &medias[3]), "105", (third, &medias[2]));
    called.in_dialog("REFER", 1, &invite, &box_.refer_to("105", &advised), box_.sip);
    called.take("SIP/2.0 202");
    called.take_byes(2, box_.sip);
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
    let (invite, answer) = box_.connect((caller, &medias[0]), "104", (called, &medias[1]));
    called.invite(box_.sip, "echo", &medias[2]);
    let agent = called.take("SIP/2.0 200");
    called.acknowledge(&agent, box_.sip);
    called.in_dialog("REFER", 1, &invite, &box_.refer_to("echo", &agent), box_.sip);
    called.take("SIP/2.0 202");
    for _ in 0..2 {
        let bye = called.take("BYE ");
        called.respond(&bye, "200 OK", "", box_.sip);
    }
    let frames = echoed(&medias[0], media_of(&answer), 0x11);
    assert!(frames >= 60, "the caller hears {frames} frames of its own echo");
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })), "the call of the two phones");
    caller.in_dialog("BYE", 2, &answer, "", box_.sip);
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })), "and the agent's");
}

#[test]
fn who_talks_to_an_agent_puts_another_in_their_place_and_the_agent_stays() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [asker, comer, _] = &box_.phones[..] else { panic!("three phones") };
    let medias = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    asker.invite(box_.sip, "echo", &medias[0]);
    let agent = asker.take("SIP/2.0 200");
    asker.acknowledge(&agent, box_.sip);
    // To another agent it is not put through.
    asker.in_dialog("REFER", 2, &agent, &format!("Refer-To: <sip:echo@{}>\r\n", box_.sip), box_.sip);
    asker.take("SIP/2.0 603");
    let referred = format!("Refer-To: <sip:104@{}>\r\n", box_.sip);
    // Nobody has time for it at first.
    asker.in_dialog("REFER", 3, &agent, &referred, box_.sip);
    asker.take("SIP/2.0 202");
    let coming = comer.take("INVITE ");
    comer.respond(&coming, "486 Busy Here", "", box_.sip);
    asker.take_told("SIP/2.0 486", box_.sip);
    let frames = echoed(&medias[0], media_of(&agent), 0x11);
    assert!(frames >= 60, "who is back hears {frames} frames of their echo");
    asker.in_dialog("REFER", 4, &agent, &referred, box_.sip);
    asker.take("SIP/2.0 202");
    let coming = comer.take("INVITE ");
    comer.respond(&coming, "200 OK", &sdp(&medias[1]), box_.sip);
    comer.take("ACK ");
    asker.take_told("SIP/2.0 200", box_.sip);
    let bye = asker.take("BYE ");
    asker.respond(&bye, "200 OK", "", box_.sip);
    let frames = echoed(&medias[1], media_of(&coming), 0x22);
    assert!(frames >= 60, "who has come hears {frames} frames of their echo");
    comer.in_dialog("BYE", 1, &coming, "", box_.sip);
    comer.take("SIP/2.0 200");
    let ends = box_.ended().iter().filter(|event| matches!(event, CallEvent::Ended { .. })).count();
    assert_eq!(ends, 1, "one call from the first to the last");
}

#[test]
fn who_talks_to_an_agent_brings_it_the_one_they_have_asked() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0"]);
    let [asked, asker] = &box_.phones[..] else { panic!("two phones") };
    let medias = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    asker.invite(box_.sip, "echo", &medias[2]);
    let agent = asker.take("SIP/2.0 200");
    asker.acknowledge(&agent, box_.sip);
    let (invite, answer) = box_.connect((asked, &medias[1]), "104", (asker, &medias[0]));
    let consulted = [field(&invite, "Call-ID"), tag(&invite, "From"), format!("d{}", asker.address.port())];
    asker.in_dialog("REFER", 2, &agent, &box_.refer_in_place("104", &consulted), box_.sip);
    asker.take("SIP/2.0 202");
    asker.take_byes(2, box_.sip);
    let frames = echoed(&medias[1], media_of(&answer), 0x33);
    assert!(frames >= 60, "who was asked hears {frames} frames of their echo");
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })), "the call for advice");
    asked.in_dialog("BYE", 2, &answer, "", box_.sip);
    assert!(matches!(box_.ended().last(), Some(CallEvent::Ended { .. })), "and the agent's");
}

#[test]
fn an_invite_that_replaces_a_leg_has_its_place_and_what_rings_elsewhere_stops() {
    let box_ = TestBox::start(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]);
    let [caller, called, third] = &box_.phones[..] else { panic!("three phones") };
    let medias = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let replaces = |invite: &str, phone: &Phone| {
        let (call_id, own) = (field(invite, "Call-ID"), tag(invite, "From"));
        format!("Replaces: {call_id};to-tag={own};from-tag=d{}\r\n", phone.address.port())
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
