//! Dialogs that an earlier process left open: written down when answered, ended with a BYE when found.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use talkstack_control::port::{CallEvent, CallId};
use talkstack_media::sip::DialogId;

use super::{SipThread, ToSip};
use crate::journal::JournalFull;

/// What is owed a BYE, when the next one goes, and those of which the journal is to be told.
#[derive(Debug)]
pub(super) struct CutOff {
    dialogs: VecDeque<String>,
    next: Instant,
    sent: VecDeque<(Instant, String)>,
}

impl CutOff {
    pub(super) fn new(dialogs: Vec<String>) -> Self {
        CutOff { dialogs: dialogs.into(), next: Instant::now(), sent: VecDeque::new() }
    }

    /// When the next BYE is to go, or the journal to be told.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let next = (!self.dialogs.is_empty()).then_some(self.next);
        next.into_iter().chain(self.settle_at()).min()
    }

    fn settle_at(&self) -> Option<Instant> {
        // Some at a time: each time is an fsync.
        self.sent.front().map(|(at, _)| *at + 2 * SETTLED)
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
            self.end_replaced(dialog);
        }
    }

    /// Sends the BYEs that are due, and tells the journal of those that have left.
    pub(super) fn end_cut_off(&mut self, now: Instant) {
        while self.cut_off.next <= now
            && let Some(saved) = self.cut_off.dialogs.pop_front()
        {
            self.cut_off.next = now + PACE;
            match self.endpoint.end_saved(&saved, now) {
                Ok(()) => tracing::info!("Ended a call that the last run of this box left open"),
                Err(error) => tracing::warn!("A call of the last run cannot be ended: {error}"),
            }
            self.cut_off.sent.push_back((now, saved));
        }
        if self.cut_off.settle_at().is_some_and(|at| at <= now) {
            let count = self.cut_off.sent.iter().take_while(|(at, _)| *at + SETTLED <= now).count();
            let settled = self.cut_off.sent.drain(..count).map(|(_, saved)| saved).collect();
            // A journal that is full has them sent again at the next start.
            let _ = self.journal.settle_cut_off(settled);
        }
    }
}

/// 1 s: a disk in a bad moment; the caller hears it ring a little longer.
const WRITTEN_MAX: Duration = Duration::from_secs(1);

/// 250 ms: a BYE has left by then, or its connection has been made.
const SETTLED: Duration = Duration::from_millis(250);

/// 10 ms: at most 100 a second, as a trunk takes them. 500 calls have theirs in 5 s.
const PACE: Duration = Duration::from_millis(10);
