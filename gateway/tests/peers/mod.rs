//! The box and peers that nobody here wrote: what they say to it, what it says back, and whether people hear each other.
//!
//! Each peer says its row of the table peer × feature ([`table`]); `gateway/tests/run` prints all of it. A test whose
//! peer cannot run here (not installed, no namespaces, no corpora) says so in one sentence and proves nothing.

mod baresip;
mod boxes;
mod codecs;
mod desks;
mod dialogs;
mod dtls;
mod help;
mod kamailio;
pub(crate) mod lines;
mod linphone;
mod mutated;
mod namespace;
mod nat;
pub(crate) mod phone;
mod process;
mod refused;
mod registered;
mod registrar;
mod rsipstack;
pub(crate) mod scenario;
pub(crate) mod site;
mod srtp;
mod stun;
pub(crate) mod table;
mod torture;
mod websocket;
