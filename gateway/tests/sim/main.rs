//! Whole calls in virtual time: the machines the daemon runs, a scripted phone, and a network that loses, delays,
//! reorders and doubles. A run is its seed; a failure prints it.
//!
//! ```text
//!   phone (script) ── network (seed) ── Endpoint ─ Call ─ RtpSession ─ Echo
//!        └────────────── model: what must have been heard and recorded ──────┘
//! ```

mod barge_in;
mod bridge;
mod phone;
mod world;

use phone::{Ending, Script};
use world::{Sabotage, World};

#[test]
fn two_hundred_seeds_of_calls_end_as_the_model_says() {
    for seed in 1..=seeds() {
        if let Err(failure) = World::new(seed, Script::of_seed(seed), Sabotage::None).run() {
            panic!("seed {seed}: {failure}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_call() {
    let run = || World::new(7, Script::of_seed(7), Sabotage::None).run().expect("goes well");
    assert_eq!(run(), run());
}

#[test]
fn a_broken_machine_does_not_get_through() {
    let script = Script { ending: Ending::PhoneHangsUp, hold: false, seconds: 4 };
    for sabotage in [
        Sabotage::SwallowAck,
        Sabotage::SwallowBye,
        Sabotage::DoubleFrames,
        Sabotage::DelayFrames,
        Sabotage::SwapFrames,
        Sabotage::RecordTwice,
    ] {
        let outcome = World::new(1, script, sabotage).run();
        assert!(outcome.is_err(), "{sabotage:?} went unnoticed");
    }
    World::new(1, script, Sabotage::None).run().expect("and without sabotage it goes well");
}

/// 200 at each commit; TALKSTACK_SIM_SEEDS asks for more.
pub(crate) fn seeds() -> u64 {
    std::env::var("TALKSTACK_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}
