//! Any bytes as an offer and as an answer: read or refused, and what we answer can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkstack_media::sdp::{Capabilities, LocalMedia, Security, SessionDescription, Srtp, negotiate};

fuzz_target!(|bytes: &[u8]| {
    let Ok(description) = SessionDescription::parse(bytes) else { return };
    let local = LocalMedia { address: [10, 0, 0, 2].into(), port: 10_000, session_id: 1, version: 1 };
    for srtp in [Srtp::Off, Srtp::Optional, Srtp::Required] {
        let capabilities = Capabilities { security: Security::new(srtp, true, [7; 32]), ..Capabilities::default() };
        if let Ok(answer) = negotiate::answer(&description, &capabilities, &local) {
            assert!(SessionDescription::parse(answer.sdp.as_bytes()).is_ok(), "{}", answer.sdp);
            assert!(srtp != Srtp::Required || answer.negotiated.keying.is_secured());
        }
        let _ = negotiate::accept_answer(&description, &capabilities);
    }
});
