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
            // Whatever is told is acted on; what its state does not allow is an error.
            match output {
                Output::Event(Event::Offered(offered)) if bytes.len() % 2 == 0 => {
                    let _ = endpoint.ring(offered.dialog, Some(b"v=0"), now);
                    let _ = endpoint.answer(offered.dialog, b"v=0", now);
                }
                Output::Event(Event::Offered(offered)) => drop(endpoint.answer(offered.dialog, b"v=0", now)),
                Output::Event(Event::ReOffered { dialog, .. }) => drop(endpoint.answer(dialog, b"v=0", now)),
                Output::Event(Event::Referred { dialog, .. }) => drop(endpoint.accept_refer(dialog, now)),
                Output::Event(Event::Acknowledged { dialog, .. }) => drop(endpoint.reinvite(dialog, b"v=1", now)),
                _ => {}
            }
        }
        endpoint.handle_timeout(now);
    }
});
