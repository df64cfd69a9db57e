//! Requests too large for a datagram (RFC 3261 §18.1.1).

use super::*;
use crate::sip::endpoint::{LARGE_CONNECT_MAX, Output, UdpLarge};

#[test]
fn an_invite_over_1300_octets_goes_over_tcp_and_says_so_in_via_and_contact() {
    for (padding, is_large) in [(0, false), (1300, true)] {
        let mut trunk = Trunk::padded(padding);
        trunk.call(None);
        let invite = trunk.take();
        let flow = trunk.last_flow.expect("sent");
        let (via, contact) = (field(&invite, "Via").to_owned(), field(&invite, "Contact").to_owned());
        assert_eq!(flow.transport == Transport::Tcp, is_large, "{} octets", invite.len());
        assert_eq!(via.starts_with("SIP/2.0/TCP 10.0.0.2:5060;"), is_large, "{via}");
        assert_eq!(contact == "<sip:talkstack@10.0.0.2:5060;transport=tcp>", is_large, "{contact}");
        assert_eq!((flow.remote, flow.stream), (trunk.flow.remote, None));
    }
    let mut trunk = Trunk::padded(0);
    trunk.call(None);
    let length = trunk.take().len();
    for (more, transport) in [(1300 - length, Transport::Udp), (1301 - length, Transport::Tcp)] {
        let mut trunk = Trunk::padded(more);
        trunk.call(None);
        trunk.drain();
        assert_eq!(trunk.last_flow.map(|flow| flow.transport), Some(transport), "{more} more");
    }
}

#[test]
fn its_call_stays_on_the_stream_while_that_stands_and_is_one_of_datagrams_then() {
    for (contact, transport) in [
        ("Contact: <sip:callee@10.0.0.1:5062>\r\n", Transport::Udp),
        ("Contact: <sip:callee@10.0.0.1:5062;transport=tcp>\r\n", Transport::Tcp),
    ] {
        let mut trunk = Trunk::padded(1300);
        trunk.call(None);
        let invite = trunk.take();
        trunk.flow = flow(Transport::Tcp);
        trunk.answer(&invite, 200, "a", contact, "v=0");
        assert!(trunk.take().starts_with("ACK "));
        assert_eq!(trunk.last_flow.and_then(|flow| flow.stream), trunk.flow.stream);
        trunk.endpoint.handle_stream_closed(&trunk.flow, trunk.now);
        trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
        assert!(trunk.take().starts_with("BYE "));
        assert_eq!(trunk.last_flow.map(|flow| (flow.transport, flow.stream)), Some((transport, None)), "{contact}");
    }
}

#[test]
fn without_tcp_it_is_a_datagram_at_once_and_for_ten_minutes() {
    let mut trunk = Trunk::padded(1300);
    trunk.call(None);
    assert!(matches!(trunk.endpoint.poll_output(), Some(Output::SendLarge { .. })));
    let refused = Flow { transport: Transport::Tcp, stream: Some(StreamId(9)), ..trunk.flow };
    trunk.endpoint.handle_stream_closed(&refused, trunk.now);
    let again = trunk.take();
    assert_eq!(trunk.last_flow, Some(trunk.flow));
    assert!(
        field(&again, "Via").starts_with("SIP/2.0/UDP ") && again.contains("Contact: <sip:talkstack@10.0.0.2:5060>")
    );
    let sent: Vec<u64> = trunk.timetable(4000).0.into_iter().map(|(at, _)| at).collect();
    assert_eq!(sent, [500, 1500, 3500], "timer A: it is a transaction over UDP");
    trunk.messages();
    trunk.answer(&again, 486, "a", "", "");
    let ack = trunk.take();
    assert_eq!(field(&ack, "Via"), field(&again, "Via"), "the ACK belongs to what was taken");
    trunk.events();
    for (after_s, transport) in [(590, Transport::Udp), (10, Transport::Tcp)] {
        trunk.pass(after_s * 1000 - 4000 * u64::from(after_s == 590));
        trunk.call(None);
        trunk.drain();
        assert_eq!(trunk.last_flow.map(|flow| flow.transport), Some(transport), "{after_s} s later");
        let _ = trunk.endpoint.hang_up(trunk.dialog, None, trunk.now);
        trunk.messages();
    }
}

#[test]
fn what_was_answered_over_tcp_is_not_sent_again_when_the_stream_ends() {
    let mut trunk = Trunk::padded(1300);
    trunk.call(None);
    let invite = trunk.take();
    trunk.flow = flow(Transport::Tcp);
    trunk.answer(&invite, 100, "", "", "");
    trunk.endpoint.handle_stream_closed(&trunk.flow, trunk.now);
    assert_eq!((trunk.messages(), trunk.events()), (vec![], vec![]), "the answer may come by another stream");
}

#[test]
fn an_ack_with_a_large_answer_goes_over_tcp_and_as_a_datagram_where_nobody_takes_that() {
    for is_taken in [true, false] {
        let mut trunk = Trunk::new(Transport::Udp);
        let mut order = trunk.order(None);
        order.sdp = Vec::new();
        trunk.dialog = trunk.endpoint.invite(order, trunk.now).expect("room");
        let invite = trunk.take();
        trunk.answer(&invite, 200, "a", "Contact: <sip:callee@10.0.0.1:5062>\r\n", "v=0 theirs");
        trunk.events();
        trunk.endpoint.answer(trunk.dialog, &[b'x'; 1300], trunk.now).expect("waits");
        let ack = trunk.take();
        let over = trunk.last_flow.expect("sent");
        assert!(ack.starts_with("ACK ") && field(&ack, "Via").starts_with("SIP/2.0/TCP "), "{ack}");
        assert_eq!(over.transport, Transport::Tcp);
        let mut expected = ack;
        if !is_taken {
            trunk.endpoint.handle_stream_closed(&over, trunk.now);
            expected = trunk.take();
            assert!(expected.starts_with("ACK ") && field(&expected, "Via").starts_with("SIP/2.0/UDP "), "{expected}");
        }
        trunk.answer(&invite, 200, "a", "Contact: <sip:callee@10.0.0.1:5062>\r\n", "v=0 theirs");
        assert_eq!(trunk.messages(), [expected], "a copy of the 200 gets it the same way");
        trunk.endpoint.handle_stream_closed(&over, trunk.now);
        assert_eq!(trunk.messages().len(), usize::from(is_taken));
    }
}

#[test]
fn the_setting_forbids_either_way() {
    for (policy, transport) in [(UdpLarge::Udp, Transport::Udp), (UdpLarge::Tcp, Transport::Tcp)] {
        let mut trunk = Trunk::padded(1300);
        trunk.endpoint.config.udp_large = policy;
        trunk.call(None);
        trunk.take();
        assert_eq!(trunk.last_flow.map(|flow| flow.transport), Some(transport));
    }
    // Nobody takes it, and datagrams are forbidden: nothing is waited for.
    let mut trunk = Trunk::padded(1300);
    trunk.endpoint.config.udp_large = UdpLarge::Tcp;
    trunk.call(None);
    trunk.take();
    let refused = Flow { transport: Transport::Tcp, ..trunk.flow };
    trunk.endpoint.handle_stream_closed(&refused, trunk.now);
    assert_eq!(trunk.events(), [Event::Unanswered { dialog: trunk.dialog }]);
    trunk.assert_nothing_is_left();
    // What no datagram holds goes over TCP whatever is set, and nowhere else.
    let mut trunk = Trunk::padded(65_000);
    trunk.fields.push(("Subject", "x".repeat(500)));
    trunk.endpoint.config.udp_large = UdpLarge::Udp;
    trunk.call(None);
    trunk.take();
    trunk.endpoint.handle_stream_closed(&refused, trunk.now);
    assert_eq!(trunk.events(), [Event::Unanswered { dialog: trunk.dialog }]);
    assert_eq!(LARGE_CONNECT_MAX, Duration::from_secs(2));
}

#[test]
fn a_large_re_invite_falls_back_and_its_cancel_follows_it() {
    let mut trunk = Trunk::answered();
    trunk.endpoint.reinvite(trunk.dialog, &[b'x'; 1300], trunk.now).expect("up");
    let over_tcp = trunk.take();
    assert!(field(&over_tcp, "Via").starts_with("SIP/2.0/TCP ") && over_tcp.contains(";transport=tcp>"), "{over_tcp}");
    let sent_over = trunk.last_flow.expect("sent");
    trunk.answer(&over_tcp, 100, "a", "", "");
    trunk.pass(180_000);
    let cancel = trunk.take();
    assert!(cancel.starts_with("CANCEL ") && field(&cancel, "Via") == field(&over_tcp, "Via"), "{cancel}");
    assert_eq!(trunk.last_flow, Some(sent_over));
    let mut trunk = Trunk::answered();
    trunk.endpoint.reinvite(trunk.dialog, &[b'x'; 1300], trunk.now).expect("up");
    trunk.take();
    trunk.endpoint.handle_stream_closed(&sent_over, trunk.now);
    let by_datagram = trunk.take();
    assert!(field(&by_datagram, "Via").starts_with("SIP/2.0/UDP "), "{by_datagram}");
    trunk.answer(&by_datagram, 200, "a", CONTACT, "v=0 other");
    assert!(trunk.take().starts_with("ACK "));
    assert!(matches!(trunk.events()[..], [Event::Reanswered { .. }]));
}

impl Trunk {
    /// Whose INVITE has a field of so many octets.
    fn padded(octets: usize) -> Self {
        let mut trunk = Trunk::new(Transport::Udp);
        trunk.fields.push(("Subject", "x".repeat(octets)));
        trunk
    }
}
