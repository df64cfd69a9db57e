//! Audio that belongs to no codec: frames, the playout queue, tones, levels and files.

pub mod dtmf;
pub mod frame;
pub mod playout;
pub mod pool;
pub mod recording;
mod recording_agent;
