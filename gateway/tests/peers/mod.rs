//! The box and peers that nobody here wrote: what they say to it, what it says back, and whether people hear each other.
//!
//! Each peer says its row of the table peer × feature ([`table`]); `gateway/tests/run` prints all of it. A test whose
//! peer cannot run here (not installed, no namespaces, no corpora) says so in one sentence and proves nothing.

mod boxes;
mod dialogs;
mod kamailio;
mod linphone;
mod mutated;
mod namespace;
mod nat;
mod phone;
mod process;
mod refused;
mod rsipstack;
mod scenario;
pub(crate) mod site;
mod stun;
mod table;
mod torture;
mod websocket;
