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
}

impl CutOff {
    pub(super) fn new(dialogs: Vec<String>) -> Self {
        CutOff { dialogs: dialogs.into(), next: Instant::now() }
    }

    /// When the next BYE is to go.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.dialogs.is_empty()).then_some(self.next)
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
            let Some(saved) = self.cut_off.dialogs.pop_front() else { return };
            self.cut_off.next = now + PACE;
            match self.endpoint.end_saved(&saved, now) {
                Ok(()) => tracing::info!("Ended a call that the last run of this box left open"),
                Err(error) => tracing::warn!("A call of the last run cannot be ended: {error}"),
            }
        }
    }
}

/// 10 ms: at most 100 a second, as a trunk takes them. 500 calls have theirs in 5 s.
const PACE: Duration = Duration::from_millis(10);
