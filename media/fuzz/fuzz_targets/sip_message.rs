//! Any bytes into an endpoint, over UDP and TCP, with time passing: it never panics and still answers.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use talkstack_media::sip::stream::{Framed, StreamFramer};
use talkstack_media::sip::{Endpoint, EndpointConfig, Event, Flow, Output, StreamId, Transport};

fuzz_target!(|bytes: &[u8]| {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [7; 32]);
    let flow = |transport| Flow {
        transport,
        local: ([10, 0, 0, 2], 5060).into(),
        remote: ([10, 0, 0, 1], 5060).into(),
        stream: (transport == Transport::Tcp).then_some(StreamId(1)),
    };
    endpoint.handle_message(&flow(Transport::Udp), bytes, start);
    let mut framer = StreamFramer::default();
    framer.handle_bytes(bytes);
    while let Ok(Some(framed)) = framer.next_framed() {
        if let Framed::Message(message) = framed {
            endpoint.handle_message(&flow(Transport::Tcp), &message, start);
        }
    }
    for round in 0..40 {
        let now = start + Duration::from_secs(round);
        while let Some(output) = endpoint.poll_output() {
            if let Output::Event(Event::Offered(offered)) = output {
                let _ = endpoint.answer(offered.dialog, b"v=0", now);
            }
        }
        endpoint.handle_timeout(now);
    }
});
