//! Dialogs that outlive the process.

use super::*;

#[test]
fn a_saved_dialog_is_ended_by_a_later_process() {
    let mut trunk = Trunk::called();
    assert_eq!(trunk.endpoint.saved(trunk.dialog), None, "not before the answer");
    let invite = trunk.take();
    trunk.answer(&invite, 200, "a", ROUTED, "");
    assert_eq!((trunk.messages().len(), trunk.events().len()), (1, 1));
    let saved = trunk.endpoint.saved(trunk.dialog).expect("answered");
    assert!(!saved.contains('\n'));
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    let bye = trunk.take();
    assert_eq!(trunk.endpoint.saved(trunk.dialog), None, "it is ending");

    trunk.endpoint = Endpoint::new(EndpointConfig::default(), [9; 32]);
    trunk.endpoint.end_saved(&saved, trunk.now).expect("readable");
    let later = trunk.take();
    assert_eq!(later.lines().next(), bye.lines().next());
    for name in ["From", "To", "Call-ID", "Route", "Contact"] {
        assert_eq!(field(&later, name), field(&bye, name));
    }
    assert_eq!(field(&later, "CSeq"), "1002 BYE", "above whatever was sent since");
    assert_eq!(
        trunk.last_flow.expect("sent").remote,
        "10.0.0.8:5060".parse::<std::net::SocketAddr>().expect("address")
    );
    trunk.pass(500);
    assert_eq!(trunk.messages(), [later.as_str()], "repeated as any BYE");
    trunk.answer(&later, 481, "a", "", "");
    assert_eq!((trunk.events(), trunk.endpoint.dialogs()), (vec![], 0));
    trunk.assert_nothing_is_left();
}

#[test]
fn a_saved_dialog_is_ended_where_its_requests_went() {
    for (transport, remote) in [(Transport::Udp, "203.0.113.5:5062"), (Transport::Tcp, "10.0.0.1:5062")] {
        let mut trunk = Trunk::new(transport);
        trunk.flow.remote = remote.parse().expect("address");
        trunk.call(None);
        let invite = trunk.take();
        trunk.answer(&invite, 200, "a", "Contact: <sip:x@192.168.1.10:5070>\r\n", "");
        let saved = trunk.endpoint.saved(trunk.dialog).expect("answered");
        trunk.messages();
        trunk.endpoint = Endpoint::new(EndpointConfig::default(), [9; 32]);
        trunk.endpoint.end_saved(&saved, trunk.now).expect("readable");
        assert!(trunk.take().starts_with("BYE sip:x@192.168.1.10:5070 SIP/2.0\r\n"));
        assert_eq!(
            trunk.last_flow,
            Some(Flow { stream: None, ..trunk.flow }),
            "a stream is the next process's to open"
        );
    }
}

#[test]
fn damaged_saved_dialogs_are_errors() {
    let trunk = Trunk::answered();
    let saved = trunk.endpoint.saved(trunk.dialog).expect("answered");
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [9; 32]);
    for cut in 0..saved.len() {
        let _ = endpoint.end_saved(&saved[..cut], trunk.now).expect_err("cut");
    }
    for (from, to) in [("tag=a\"", "tag=a\\r\\nX: y\""), ("\"cseq\":1", "\"cseq\":2147483647"), ("\"sip:c", "\"c")] {
        let text = saved.replace(from, to);
        assert_ne!(text, saved, "{from}");
        assert!(matches!(endpoint.end_saved(&text, trunk.now), Err(SavedError::Value)), "{text}");
    }
    assert_eq!((endpoint.dialogs(), endpoint.poll_output()), (0, None));
}
