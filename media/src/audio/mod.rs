//! Audio that belongs to no codec: the playout queue, tones, levels and files.

pub mod playout;
