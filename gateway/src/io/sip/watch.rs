//! Whether the media threads are alive. The dialogs outlive a thread that hangs: each gets its answer and its record.

use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, EndReason, Outcome};

use super::SipThread;
use crate::io::shard::ToShard;

/// What was last seen of each media thread.
#[derive(Debug)]
pub(super) struct ShardWatch {
    seen: Vec<Seen>,
    due: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    beats: u64,
    /// Looks in a row that found it where it was. Looks, not time: a process that was stopped wakes up with both.
    looks: u32,
}

/// A change of a media thread's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    FellSilent(usize),
    CameBack(usize),
}

impl ShardWatch {
    pub(super) fn new(shards: usize, now: Instant) -> Self {
        ShardWatch { seen: vec![Seen::default(); shards], due: now + LOOK }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Looks at the beats counted so far, if a look is due.
    pub(super) fn look(&mut self, beats: impl Iterator<Item = u64>, now: Instant) -> Vec<Change> {
        if now < self.due {
            return Vec::new();
        }
        self.due = now + LOOK;
        let mut changes = Vec::new();
        for (shard, (seen, beats)) in self.seen.iter_mut().zip(beats).enumerate() {
            if seen.beats != beats {
                if seen.looks >= SILENT_LOOKS {
                    changes.push(Change::CameBack(shard));
                }
                *seen = Seen { beats, looks: 0 };
                continue;
            }
            seen.looks = seen.looks.saturating_add(1);
            if seen.looks == SILENT_LOOKS {
                changes.push(Change::FellSilent(shard));
            }
        }
        changes
    }
}

impl SipThread {
    /// Ends the calls of a media thread that hangs, and gives it no more.
    pub(super) fn watch_shards(&mut self, now: Instant) {
        for change in self.watch.look(self.shards.iter().map(|shard| shard.beats()), now) {
            match change {
                Change::FellSilent(shard) => {
                    tracing::error!("Media thread {shard} has been silent for 2 s; its calls end");
                    self.switchboard.close(shard);
                    self.end_calls_of(shard);
                }
                Change::CameBack(shard) => {
                    tracing::warn!("Media thread {shard} is back");
                    self.switchboard.open(shard);
                }
            }
        }
    }

    fn end_calls_of(&mut self, shard: usize) {
        let outcome = Outcome::new(Blame::Gateway, EndReason::Aborted);
        let calls: Vec<_> = self.switchboard.calls_of(shard).collect();
        for id in calls {
            self.end_legs(id, outcome);
            self.record(id, CallEvent::Ended { outcome });
            self.switchboard.remove(id);
            // Should it come back, it drops the call without another record.
            let _ = self.shards[shard].send(ToShard::Drop(id));
        }
    }
}

/// 500 ms between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Four looks, 2 s; a media thread beats a thousand times a second with calls and once without.
const SILENT_LOOKS: u32 = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use talkstack_control::gate::{DialPolicy, Gate};
    use talkstack_control::port::{Snapshot, ToControl};
    use talkstack_control::secret::Secret;
    use talkstack_media::sip::UdpLarge;

    use super::*;
    use crate::accept::Accept;
    use crate::io::inbox::inbox;
    use crate::io::sip::{Listeners, SipConfig, SipSurroundings};
    use crate::journal::Journal;
    use crate::random::Random;

    /// In real time: what is tried is that the SIP thread looks by itself.
    #[tokio::test]
    async fn a_call_on_a_media_thread_that_hangs_gets_its_answer_and_its_record() {
        let listeners = Listeners::bind(&[([127, 0, 0, 1], 0).into()]).expect("a port");
        let target = listeners.addresses()[0].0;
        // Nobody reads the inbox, and nothing beats.
        let (_hung, shard) = inbox().expect("a descriptor");
        let config = SipConfig {
            accept: Accept::Any,
            setup_required: false,
            calls_max: 10,
            outside: crate::outside::OutsideConfig::default(),
            timezone: jiff::tz::TimeZone::UTC,
            udp_large: UdpLarge::Auto,
            dns: Vec::new(),
            dtls: None,
        };
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(&dir.path().join("journal")).expect("opens");
        let (own_inbox, inbox) = tokio::sync::mpsc::channel(16);
        let surroundings = SipSurroundings {
            journal: journal.handle(),
            own_inbox,
            gate: Gate::new(DialPolicy::default()),
            secret: Secret::open(&dir.path().join("secret.key")).expect("made"),
            cut_off: Vec::new(),
            tls: None,
            bindings: dir.path().join("bindings"),
        };
        let random = Random::new().expect("random numbers");
        let snapshot = Arc::new(Snapshot::default());
        let (sip, sockets) = SipThread::new(config, listeners, vec![shard], snapshot, surroundings, random);
        let (records, mut recorded) = tokio::sync::mpsc::channel(16);
        journal.handle().subscribe(None, records);
        let status = tokio::select! {
            () = sip.run(sockets, inbox) => None,
            status = tokio::time::timeout(Duration::from_secs(8), final_status(target)) => status.ok(),
        };
        assert_eq!(status.as_deref(), Some("500"));
        let outcome = Outcome::new(Blame::Gateway, EndReason::Aborted);
        let is_end = |message: &ToControl| matches!(message, ToControl::Record(record) if record.event == CallEvent::Ended { outcome });
        let found = tokio::time::timeout(Duration::from_secs(8), async {
            while let Some(message) = recorded.recv().await {
                if is_end(&message) {
                    return true;
                }
            }
            false
        });
        assert_eq!(found.await, Ok(true));
    }

    /// Calls the echo and waits for a final response.
    async fn final_status(target: std::net::SocketAddr) -> String {
        let phone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let local = phone.local_addr().expect("bound");
        let invite = format!(
            "INVITE sip:echo@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n\
             From: <sip:phone@{local}>;tag=p\r\nTo: <sip:echo@{target}>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:phone@{local}>\r\nContent-Length: 0\r\n\r\n"
        );
        phone.send_to(invite.as_bytes(), target).await.expect("sent");
        let mut buffer = [0; 4096];
        loop {
            let bytes = phone.recv(&mut buffer).await.expect("received");
            let status = String::from_utf8_lossy(&buffer[8..bytes.min(11)]).into_owned();
            if !status.starts_with('1') {
                return status;
            }
        }
    }

    #[test]
    fn a_thread_that_is_silent_for_two_seconds_is_found_once_and_may_come_back() {
        let start = Instant::now();
        let mut watch = ShardWatch::new(2, start);
        let mut seen = Vec::new();
        for look in 1..=10u32 {
            let hung = if look <= 2 { u64::from(look) } else { 2 };
            let changes = watch.look([u64::from(look), hung].into_iter(), start + LOOK * look);
            seen.extend(changes.into_iter().map(|change| (look, change)));
        }
        assert_eq!(seen, [(6, Change::FellSilent(1))]);
        let changes = watch.look([11, 3].into_iter(), start + LOOK * 11);
        assert_eq!(changes, [Change::CameBack(1)]);
    }

    #[test]
    fn a_process_that_was_stopped_for_a_minute_finds_nobody_silent() {
        let start = Instant::now();
        let mut watch = ShardWatch::new(1, start);
        watch.look([1].into_iter(), start + LOOK);
        assert_eq!(watch.look([1].into_iter(), start + Duration::from_secs(60)), []);
        assert_eq!(watch.look([2].into_iter(), start + Duration::from_secs(61)), []);
    }

    #[test]
    fn nobody_looks_before_it_is_due() {
        let start = Instant::now();
        let mut watch = ShardWatch::new(1, start);
        for step in 0..100 {
            assert_eq!(watch.look([0].into_iter(), start + LOOK / 200 * step), []);
        }
    }
}
