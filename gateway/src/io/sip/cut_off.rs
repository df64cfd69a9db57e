//! Dialogs that an earlier process left open: written down when answered, ended with a BYE when found.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use talkstack_control::port::{CallEvent, CallId};
use talkstack_media::sip::DialogId;

use super::{SipThread, ToSip};
use crate::journal::JournalFull;

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

    /// Answers a call once a restart could end it. A disk that is slow delays the answer, and one that takes nothing does
    /// not prevent it.
    pub(super) fn answer_once_written(&mut self, id: CallId, saved: String, sdp: String) {
        match self.journal.append_synced(id, CallEvent::Dialog { saved }) {
            Ok(on_disk) => {
                let inbox = self.dialling.own_inbox.clone();
                tokio::spawn(async move {
                    // Late or never: the caller waits no longer.
                    let _ = tokio::time::timeout(WRITTEN_MAX, on_disk).await;
                    // The thread that asked is the one that is told; it may have stopped.
                    let _ = inbox.send(ToSip::Answer(id, sdp)).await;
                });
            }
            Err(JournalFull) => self.handle_written(id, &sdp),
        }
    }

    /// The call can be answered. One that has ended meanwhile is not.
    pub(super) fn handle_written(&mut self, id: CallId, sdp: &str) {
        if let Some(dialog) = self.switchboard.entry(id).and_then(|entry| entry.dialog) {
            let _ = self.endpoint.answer(dialog, sdp.as_bytes(), Instant::now());
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

/// 300 ms: a disk in a bad moment; the caller does not notice yet.
const WRITTEN_MAX: Duration = Duration::from_millis(300);

/// 5 s behind the last: it has been sent five times over UDP by then, or its connection has been made.
const SETTLED: Duration = Duration::from_secs(5);

/// 10 ms: at most 100 a second, as a trunk takes them. 500 calls have theirs in 5 s.
const PACE: Duration = Duration::from_millis(10);
