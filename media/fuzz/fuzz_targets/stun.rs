//! Any bytes as STUN: read or refused, answered with what can be read again, and no answer to another question is heeded.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use talkstack_media::stun;

fuzz_target!(|bytes: &[u8]| {
    let remote = ([192, 0, 2, 1], 3478).into();
    let parsed = stun::parse(bytes);
    if let Some(answer) = stun::answer(bytes, remote) {
        let (id, _) = parsed.expect("what is answered was read");
        assert_eq!(stun::parse(&answer).map(|(answered, _)| answered), Some(id));
    }
    let mut client = stun::Client::new(remote, [7; 32], Instant::now());
    assert_eq!(client.handle_answer(bytes, remote), None);
});
