//! Dialogs that an earlier process left open: written down when answered, ended with a BYE when found.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use talkstack_control::port::{CallEvent, CallId};
use talkstack_media::sip::DialogId;

use super::SipThread;

/// What is owed a BYE, and when the next one goes.
#[derive(Debug)]
pub(super) struct CutOff {
    dialogs: VecDeque<String>,
    next: Instant,
    /// The journal is to be told once all have gone.
    is_owed: bool,
}

impl CutOff {
    pub(super) fn new(dialogs: Vec<String>) -> Self {
        CutOff { is_owed: !dialogs.is_empty(), dialogs: dialogs.into(), next: Instant::now() }
    }

    /// When the next BYE is to go, or the journal to be told.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.is_owed.then_some(self.next)
    }
}

impl SipThread {
    /// Writes down what a restart needs to end this dialog.
    pub(super) fn save_dialog(&self, id: CallId, dialog: DialogId) {
        if let Some(saved) = self.endpoint.saved(dialog) {
            self.record(id, CallEvent::Dialog { saved });
        }
    }

    /// Sends the BYEs that are due.
    pub(super) fn end_cut_off(&mut self, now: Instant) {
        while self.cut_off.poll_timeout().is_some_and(|at| at <= now) {
            let Some(saved) = self.cut_off.dialogs.pop_front() else {
                self.cut_off.is_owed = self.journal.settle_cut_off().is_err();
                self.cut_off.next = now + SETTLED;
                return;
            };
            self.cut_off.next = now + if self.cut_off.dialogs.is_empty() { SETTLED } else { PACE };
            match self.endpoint.end_saved(&saved, now) {
                Ok(()) => tracing::info!("Ended a call that the last run of this box left open"),
                Err(error) => tracing::warn!("A call of the last run cannot be ended: {error}"),
            }
        }
    }
}

/// 5 s behind the last: it has been sent five times over UDP by then, or its connection has been made.
const SETTLED: Duration = Duration::from_secs(5);

/// 10 ms: at most 100 a second, as a trunk takes them. 500 calls have theirs in 5 s.
const PACE: Duration = Duration::from_millis(10);
