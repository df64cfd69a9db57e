//! Dialogs that outlive the process: written down when they are answered, ended by whoever starts next.

use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Far, Session, State};
use crate::sip::dialog::{Dialog, SavedDialog};
use crate::sip::endpoint::{DialogId, Endpoint, Flow, Transport};

/// Text that is no saved dialog: of another version, or damaged. Nothing can be sent; the far end finds out alone.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// No JSON of this form.
    #[error("the saved dialog cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// A value that cannot stand in a message.
    #[error("the saved dialog holds what no message can")]
    Value,
}

/// One line of JSON.
#[derive(Serialize, Deserialize)]
struct Saved {
    transport: SavedTransport,
    local: SocketAddr,
    remote: SocketAddr,
    /// Requests go back to `remote`, whatever the target says.
    #[serde(default)]
    is_behind_nat: bool,
    dialog: SavedDialog,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SavedTransport {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Session {
    fn save(&self) -> Option<String> {
        let saved = Saved {
            transport: match self.flow_without_stream().transport {
                Transport::Udp => SavedTransport::Udp,
                Transport::Tcp => SavedTransport::Tcp,
                Transport::Tls => SavedTransport::Tls,
                Transport::Ws => SavedTransport::Ws,
                Transport::Wss => SavedTransport::Wss,
            },
            local: self.flow.local,
            remote: self.flow.remote,
            is_behind_nat: self.far.is_behind_nat,
            dialog: self.far.dialog.save(),
        };
        serde_json::to_string(&saved).ok()
    }
}

impl Endpoint {
    /// All that a later process needs to end this dialog, as one line of JSON; `None` unless it was answered and is
    /// not ending. It names both sides: personal data. It goes out of date when a re-INVITE moves the far end.
    pub fn saved(&self, dialog: DialogId) -> Option<String> {
        let session = self.sessions.get(&dialog)?;
        matches!(session.state, State::Confirmed | State::Leaving { .. }).then(|| session.save()).flatten()
    }

    /// The same of a call that the far end placed and that is about to be answered; `None` of any other.
    pub fn saved_before_answer(&self, dialog: DialogId) -> Option<String> {
        let session = self.sessions.get(&dialog)?;
        (session.state == State::Early).then(|| session.save()).flatten()
    }

    /// Sends the BYE of a dialog that an earlier process [`saved`](Endpoint::saved), and repeats it as any BYE. No event
    /// follows. Over TCP the message's flow names no stream: whoever owns the sockets opens one to its `remote`.
    ///
    /// # Errors
    /// [`SavedError`].
    pub fn end_saved(&mut self, saved: &str, now: Instant) -> Result<(), SavedError> {
        let saved: Saved = serde_json::from_str(saved).map_err(SavedError::Malformed)?;
        let dialog = Dialog::restored(saved.dialog).ok_or(SavedError::Value)?;
        let transport = match saved.transport {
            SavedTransport::Udp => Transport::Udp,
            SavedTransport::Tcp => Transport::Tcp,
            SavedTransport::Tls => Transport::Tls,
            SavedTransport::Ws => Transport::Ws,
            SavedTransport::Wss => Transport::Wss,
        };
        let flow = Flow { transport, local: saved.local, remote: saved.remote, stream: None };
        let far = Far { is_behind_nat: saved.is_behind_nat, ..Far::new(dialog) };
        let session = Session::new(far, flow, State::Confirmed);
        let id = self.adopt_session(session);
        self.bye(id, None, now);
        Ok(())
    }
}
