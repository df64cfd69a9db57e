//! The `talkstack` binary.

fn main() {}
