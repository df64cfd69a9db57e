//! The handshakes of DTLS-SRTP, on a thread of their own: one takes milliseconds of a core, and a media thread has
//! microseconds.
//!
//! ```text
//!   shard: what a leg's handshake is told ─▶ bounded queue ─▶ ┌────────────┐
//!   shard: datagrams to send, keys, failures ◀──── inbox ──── │ Handshakes │
//!                                                             └────────────┘
//! ```

use std::collections::HashMap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use talkstack_control::port::CallId;
use talkstack_media::dtls::{DtlsError, Handshake, HandshakeOutput, Identity};
use talkstack_media::session::{HandshakeId, HandshakeInput};

use super::inbox::Address;
use super::shard::{ToCall, ToShard};

/// The way to the thread; it ends when the last one is dropped.
#[derive(Clone)]
pub struct HandshakesHandle(SyncSender<Told>);

/// What a leg's handshake is told, and where what comes of it goes.
struct Told {
    shard: Address<ToShard>,
    call: CallId,
    id: HandshakeId,
    input: HandshakeInput,
}

/// All handshakes under way: a machine without a clock.
struct Handshakes {
    identity: Arc<Identity>,
    live: HashMap<(CallId, HandshakeId), Live>,
    outputs: VecDeque<(Address<ToShard>, CallId, HandshakeId, HandshakeOutput)>,
}

struct Live {
    shard: Address<ToShard>,
    handshake: Handshake,
}

impl HandshakesHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(identity: Arc<Identity>) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new().name("dtls".into()).stack_size(STACK_BYTES).spawn(move || {
            crate::priority::step_back();
            run(Handshakes::new(identity), &receiver);
        })?;
        Ok(HandshakesHandle(sender))
    }

    /// Tells a handshake of a call's; `false` when the queue is full.
    pub fn tell(&self, shard: Address<ToShard>, call: CallId, id: HandshakeId, input: HandshakeInput) -> bool {
        self.0.try_send(Told { shard, call, id, input }).is_ok()
    }
}

fn run(mut handshakes: Handshakes, inbox: &Receiver<Told>) {
    loop {
        let now = Instant::now();
        let rest = handshakes.poll_timeout().map_or(IDLE, |at| at.saturating_duration_since(now));
        match inbox.recv_timeout(rest) {
            Ok(told) => handshakes.handle(told, Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        handshakes.handle_timeout(Instant::now());
        while let Some((shard, call, id, output)) = handshakes.outputs.pop_front() {
            if shard.send(ToShard::Call(call, ToCall::Shaken(id, Box::new(output)))).is_err() {
                tracing::warn!(%call, "A media thread takes no messages; a DTLS handshake will be late");
            }
        }
    }
}

impl Handshakes {
    fn new(identity: Arc<Identity>) -> Self {
        Handshakes { identity, live: HashMap::new(), outputs: VecDeque::new() }
    }

    fn handle(&mut self, told: Told, now: Instant) {
        let Told { shard, call, id, input } = told;
        match input {
            HandshakeInput::Begin(peer) => {
                let begun = if self.live.len() < LIVE_MAX {
                    contained(|| Handshake::new(&self.identity, &peer, now))
                } else {
                    Err(DtlsError::Setup)
                };
                match begun {
                    Ok(handshake) => drop(self.live.insert((call, id), Live { shard, handshake })),
                    Err(error) => self.outputs.push_back((shard, call, id, HandshakeOutput::Failed(error))),
                }
            }
            HandshakeInput::Datagram(bytes) => match self.live.get_mut(&(call, id)) {
                Some(live) => {
                    let read = contained(|| {
                        live.handshake.handle_datagram(&bytes, now);
                        Ok(())
                    });
                    self.bury(call, id, read);
                }
                // The leg has come from another call, or the handshake is long over.
                None => self.outputs.push_back((shard, call, id, HandshakeOutput::Failed(DtlsError::Silent))),
            },
        }
        self.collect(call, id);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let is_due = |live: &Live| live.handshake.poll_timeout().is_none_or(|at| at <= now);
        let due: Vec<_> = self.live.iter().filter(|(_, live)| is_due(live)).map(|(key, _)| *key).collect();
        for (call, id) in due {
            let Some(live) = self.live.get_mut(&(call, id)) else { continue };
            let read = contained(|| {
                live.handshake.handle_timeout(now);
                Ok(())
            });
            self.bury(call, id, read);
            self.collect(call, id);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.live.values().filter_map(|live| live.handshake.poll_timeout()).min()
    }

    /// Takes over what a handshake wants done, and forgets it once it is over.
    fn collect(&mut self, call: CallId, id: HandshakeId) {
        let Some(live) = self.live.get_mut(&(call, id)) else { return };
        while let Some(output) = live.handshake.poll_output() {
            self.outputs.push_back((live.shard.clone(), call, id, output));
        }
        if live.handshake.poll_timeout().is_none() {
            self.live.remove(&(call, id));
        }
    }

    /// A machine that has panicked is dropped, and nothing but its own leg is without keys.
    fn bury(&mut self, call: CallId, id: HandshakeId, read: Result<(), DtlsError>) {
        if let (Err(error), Some(live)) = (read, self.live.get(&(call, id))) {
            self.outputs.push_back((live.shard.clone(), call, id, HandshakeOutput::Failed(error)));
            self.live.remove(&(call, id));
        }
    }
}

fn contained<T>(work: impl FnOnce() -> Result<T, DtlsError>) -> Result<T, DtlsError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!("A DTLS handshake panicked; its leg begins again");
        Err(DtlsError::Refused)
    })
}

/// 1,024 messages: 100 handshakes of the longest kind at once. Full, a leg begins again a second later.
const QUEUE_MAX: usize = 1024;

/// 1,024 handshakes of 20 KiB; a core makes 500 a second, and one that nobody answers lasts for 16 s.
const LIVE_MAX: usize = 1024;

/// 8 MiB, of which what is not used costs nothing: parts of a message are put together by recursion, one step a part.
const STACK_BYTES: usize = 8 << 20;

/// 60 s: nothing is under way, and a message wakes the thread.
const IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
