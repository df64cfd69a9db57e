//! Keys as tones in the audio itself (ITU-T Q.23): made for far ends that know no telephone events, and detected.

mod detector;
mod generator;

pub use detector::DtmfDetector;
pub use generator::{DtmfGenerator, TONE};

/// The frequencies of a key's row, in hertz.
const LOW: [u32; 4] = [697, 770, 852, 941];

/// The frequencies of a key's column, in hertz.
const HIGH: [u32; 4] = [1209, 1336, 1477, 1633];

/// The keys, by row and column.
const KEYS: [[char; 4]; 4] = [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

#[cfg(test)]
mod tests;
