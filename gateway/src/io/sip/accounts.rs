//! Accounts on both sides: ours at trunks, and those of our own phones.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use talkstack_control::port::{CommandReply, LineStates, Snapshot, TrunkState};
use talkstack_media::sip::{Event, StreamId};
use tokio::sync::oneshot;

use super::SipThread;
use super::registrar::Phones;
use super::registrations::Lines;
use crate::trunks::Targets;

/// All accounts.
pub(super) struct Accounts {
    pub(super) lines: Lines,
    pub(super) phones: Phones,
}

impl Accounts {
    /// Starts with the bindings of the file. `seed` must be unpredictable.
    pub(super) fn open(bindings: PathBuf, seed: [u8; 32], now: Instant) -> Self {
        Accounts { lines: Lines::default(), phones: Phones::open(bindings, seed, now) }
    }

    /// When [`SipThread::handle_accounts_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lines.poll_timeout().into_iter().chain(self.phones.poll_timeout()).min()
    }
}

impl SipThread {
    /// Routes by another configuration; whoever waits is told once it does.
    pub(super) fn handle_snapshot(&mut self, snapshot: Arc<Snapshot>, applied: Option<oneshot::Sender<()>>) {
        self.dialling.apply(&snapshot, Instant::now());
        self.snapshot = snapshot;
        self.apply_advertised(Instant::now());
        self.apply_accounts();
        if let Some(applied) = applied {
            // Whoever waited may be gone.
            let _ = applied.send(());
        }
    }

    /// Takes over another configuration, or the first one.
    pub(super) fn apply_accounts(&mut self) {
        let now = Instant::now();
        self.dialling.accounts.phones.apply(&self.snapshot.extensions, &self.dialling.secret);
        self.apply_lines(now);
        self.handle_accounts_timeout(now);
    }

    /// Does what is due.
    pub(super) fn handle_accounts_timeout(&mut self, now: Instant) {
        self.handle_lines_timeout(now);
        self.dialling.accounts.phones.handle_timeout(now);
    }

    /// Takes what concerns an account; gives back what does not.
    pub(super) fn handle_account_event(&mut self, event: Event) -> Option<Event> {
        let now = Instant::now();
        match event {
            Event::Registering { id, flow, request } => {
                self.handle_registering(id, &flow, &request, now);
                None
            }
            event => self.handle_line_event(event, now),
        }
    }

    /// A stream has ended: who was on it may be gone.
    pub(super) fn handle_account_stream_closed(&mut self, stream: StreamId) {
        self.dialling.accounts.phones.handle_stream_closed(stream);
        self.dialling.accounts.phones.handle_timeout(Instant::now());
        self.handle_line_stream_closed(stream, Instant::now());
    }

    /// The box stops: trunks and disk are told.
    pub(super) fn close_accounts(&mut self) {
        let now = Instant::now();
        self.leave_lines(now);
        self.dialling.accounts.phones.close(now);
    }

    /// How the lines are.
    pub(super) fn tell_lines(&self, reply: oneshot::Sender<CommandReply>) {
        let now = Instant::now();
        let trunks = self.snapshot.trunks.keys().map(|id| (id.clone(), self.trunk_state(id, now))).collect();
        let extensions = self.dialling.accounts.phones.states(self.snapshot.extensions.keys(), now);
        // Whoever asked may be gone.
        let _ = reply.send(CommandReply::Lines(Box::new(LineStates { trunks, extensions })));
    }

    fn trunk_state(&self, id: &str, now: Instant) -> TrunkState {
        let targets = self.dialling.trunks.targets(id);
        let hops = match &targets {
            Targets::Known(hops) => hops.as_slice(),
            Targets::Pending | Targets::None => &[],
        };
        let addresses = hops.iter().map(|hop| hop.address.to_string()).collect();
        let untrusted = self.dialling.accounts.lines.tls_fault(hops.iter().map(|hop| hop.address));
        let untrusted = untrusted.map(|fault| fault.to_string());
        let state = self.dialling.accounts.lines.state(id, now);
        let nameless = (targets == Targets::None).then(|| "its name has no address".to_owned());
        TrunkState {
            addresses,
            channels: self.switchboard.channels(id),
            problem: nameless.or(untrusted).or(state.problem),
            ..state
        }
    }
}
