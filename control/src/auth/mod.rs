//! Who is asking: passwords, tokens, keys, codes, and how often one may try.

pub mod limiter;
pub mod password;
pub mod token;
