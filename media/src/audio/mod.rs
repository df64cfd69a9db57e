//! Audio that belongs to no codec: frames, the playout queue, tones, levels and files.

pub mod convert;
pub mod dtmf;
pub mod echo;
pub mod frame;
pub(crate) mod lateness;
pub mod level;
pub mod ogg_opus;
pub mod playout;
pub mod pool;
pub mod recording;
mod recording_agent;
pub mod resample;
pub mod speech_queue;
pub mod voice;
