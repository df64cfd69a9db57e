//! Any bytes back at an endpoint that calls: it never panics, and in the end it has forgotten the call.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use talkstack_media::sip::message::Uri;
use talkstack_media::sip::{Credentials, Endpoint, EndpointConfig, Extensions, Flow, InviteOrder, Output, Transport};

fuzz_target!(|bytes: &[u8]| {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [7; 32]);
    let (local, remote) = (([10, 0, 0, 2], 5060).into(), ([10, 0, 0, 1], 5060).into());
    let flow = Flow { transport: Transport::Udp, local, remote, stream: None };
    let order = InviteOrder {
        flow,
        request_uri: Uri::parse("sip:+15550000001@10.0.0.1").expect("a URI"),
        from: "<sip:+15551234567@10.0.0.2>".into(),
        to: "<sip:+15550000001@10.0.0.1>".into(),
        fields: Vec::new(),
        sdp: b"v=0".to_vec(),
        credentials: Some(Credentials { username: "me".into(), password: "secret".into() }),
        extensions: Extensions::default(),
    };
    let Ok(dialog) = endpoint.invite(order, start) else { return };
    let mut invite = Vec::new();
    while let Some(output) = endpoint.poll_output() {
        if let Output::Send { bytes, .. } = output {
            invite = bytes;
        }
    }
    // What the fuzzer writes stands behind the fields that make a response ours.
    let text = String::from_utf8_lossy(&invite);
    let ours: String = text
        .lines()
        .filter(|line| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name)))
        .map(|line| format!("{line}\r\n"))
        .collect();
    for (at, part) in bytes.split(|byte| *byte == 0).enumerate() {
        let now = start + Duration::from_millis(300 * at as u64);
        let (status, rest) = part.split_at_checked(1).unwrap_or((b"1", part));
        let status = 100 + 20 * u32::from(status[0] % 30);
        let mut message = format!("SIP/2.0 {status} X\r\n{ours}To: <sip:x@10.0.0.1>;tag={at}\r\n").into_bytes();
        message.extend_from_slice(rest);
        endpoint.handle_message(&flow, &message, now);
        endpoint.handle_message(&flow, part, now);
        endpoint.handle_timeout(now);
        while endpoint.poll_output().is_some() {}
    }
    let _ = endpoint.hang_up(dialog, None, start + Duration::from_secs(60));
    for round in 0..400 {
        endpoint.handle_timeout(start + Duration::from_secs(60 + round));
        while endpoint.poll_output().is_some() {}
    }
    assert_eq!(endpoint.dialogs(), 0, "the call is forgotten");
});
