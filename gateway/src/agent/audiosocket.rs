//! An agent made for Asterisk's AudioSocket: the box dials its port as an Asterisk would.
//!
//! ```text
//!   gateway ─ id, 20 ms of samples, keys, …, hang-up ─▶ agent
//!           ◀────── samples, …, hang-up ───────
//! ```
//!
//! The agent paces what it says, and forgets by itself what it has not said when the caller interrupts; one that sends
//! ahead is heard to its end. 8 kHz unless the owner has set another rate: servers that know no other are common.

use std::time::{Duration, Instant};

use talkstack_media::audio::frame::{Form, Frame as Heard, SampleRate};

use super::provider::ServicePlan;
use super::service::{CallFacts, Service};
use super::sound::Sound;
use super::{AgentLoss, AgentOutput, Progress};
use crate::asterisk::audiosocket::{
    Frame, Frames, packet_bytes, payload_bytes, rate, write_audio, write_hang_up, write_id, write_key,
};

/// One session with such an agent.
#[derive(Debug)]
pub struct AudioSocket {
    frames: Frames,
    outbound: Vec<u8>,
    rate: SampleRate,
    sound: Sound,
    /// What the line heard and what does not fill a frame yet.
    begun: Vec<u8>,
    passes_keys: bool,
    has_spoken: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connected,
    /// It has hung up; what it said before is heard to its end, until the instant at the most.
    HangingUp(Option<Instant>),
    /// It is gone, which has not been told.
    Losing(AgentLoss),
    Over,
}

impl AudioSocket {
    /// Starts a session; the call's id waits in the outgoing buffer.
    pub fn new(plan: &ServicePlan, facts: CallFacts) -> Self {
        let rate = plan.settings.sample_rate.and_then(rate).unwrap_or(SampleRate::Hz8000);
        let mut session = AudioSocket {
            frames: Frames::default(),
            outbound: Vec::new(),
            rate,
            sound: Sound::new(Form::Linear(rate)),
            begun: Vec::new(),
            passes_keys: plan.settings.dtmf != Some(false),
            has_spoken: false,
            phase: Phase::Connected,
        };
        write_id(&mut session.outbound, facts.id.0);
        session
    }

    /// Reads frames up to the next one that matters; `true` when it brought something to play.
    fn read_frame(&mut self) -> Option<bool> {
        match self.frames.next_frame()? {
            Frame::Audio { hertz, samples } => match rate(hertz) {
                None => self.phase = Phase::Losing(AgentLoss::Format),
                Some(rate) => {
                    self.has_spoken = true;
                    self.sound.set_said(Form::Linear(rate));
                    self.sound.handle_bytes(samples);
                    return Some(self.sound.ticks() > 0);
                }
            },
            Frame::HangUp => self.phase = Phase::HangingUp(None),
            Frame::Error(code) => {
                tracing::warn!(code, "The agent's AudioSocket server reports an error");
                self.phase = Phase::Losing(AgentLoss::Refused);
            }
            Frame::Id(_) | Frame::Key(_) | Frame::Unknown(_) => {
                tracing::debug!("The agent's AudioSocket server sent a frame that only Asterisk sends; it is ignored");
            }
        }
        Some(false)
    }
}

impl Service for AudioSocket {
    fn handle_audio(&mut self, frame: &Heard<'_>) {
        if self.phase != Phase::Connected {
            return;
        }
        if self.outbound.len() > packet_bytes(self.rate) * OUTBOUND_PACKETS_MAX {
            self.phase = Phase::Losing(AgentLoss::Stalled);
            return;
        }
        self.begun.extend_from_slice(self.sound.of_line(frame));
        let packets = self.begun.chunks_exact(payload_bytes(self.rate));
        let rest = packets.remainder().len();
        for packet in packets {
            write_audio(&mut self.outbound, self.rate, packet);
        }
        self.begun.drain(..self.begun.len() - rest);
    }

    fn handle_digit(&mut self, digit: char) {
        if self.passes_keys && self.phase == Phase::Connected {
            write_key(&mut self.outbound, digit);
        }
    }

    fn handle_interrupted(&mut self, _progress: Progress, _now: Instant) {
        self.sound.forget_begun();
    }

    fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Connected {
            self.frames.handle_bytes(bytes);
        }
    }

    fn handle_disconnect(&mut self) {
        if self.phase == Phase::Connected {
            // The protocol has it that closing is hanging up. Who has not said a word has failed.
            self.phase = if self.has_spoken { Phase::HangingUp(None) } else { Phase::Losing(AgentLoss::Disconnected) };
        }
    }

    fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'_>> {
        while self.phase == Phase::Connected {
            if self.read_frame()? {
                return Some(AgentOutput::Play(self.sound.of_agent()));
            }
        }
        match self.phase {
            Phase::HangingUp(until) => {
                let until = until.unwrap_or(now + GOODBYE_MAX);
                self.phase = Phase::HangingUp(Some(until));
                if !progress.is_drained() && now < until {
                    return None;
                }
                self.phase = Phase::Over;
                Some(AgentOutput::HangUp)
            }
            Phase::Losing(loss) => {
                self.phase = Phase::Over;
                Some(AgentOutput::Lost(loss))
            }
            Phase::Connected | Phase::Over => None,
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::HangingUp(until) => until,
            _ => None,
        }
    }

    fn outbound(&mut self) -> &mut Vec<u8> {
        &mut self.outbound
    }

    fn stop(&mut self, _code: u16) {
        write_hang_up(&mut self.outbound);
        self.phase = Phase::Over;
    }
}

/// 500 frames: ten seconds of audio that the agent has not read, behind a full kernel buffer.
const OUTBOUND_PACKETS_MAX: usize = 500;

/// 10 s: an agent that has sent a goodbye ahead is heard; one that has sent ten minutes is not.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use talkstack_control::port::{CallId, FirstSpeaker, ProviderKind};
    use talkstack_media::audio::frame::Speech;
    use talkstack_media::codec::Codec;

    use super::*;

    #[test]
    fn the_call_s_id_comes_first_and_the_line_in_frames_of_20_ms() {
        let mut bench = Bench::new(None, None);
        assert_eq!(bench.sent(), ["Id([0, 0, 0, 0, 0, 0, 64, 0, 128, 0, 0, 0, 0, 0, 1, 31])"]);
        // Packets of 30 ms: five of them are seven frames and a half.
        for _ in 0..5 {
            bench.hear(240);
        }
        assert_eq!(bench.sent(), vec!["8000 Hz: 320"; 7]);
        bench.hear(80);
        assert_eq!(bench.sent(), ["8000 Hz: 320"]);
        let mut wide = Bench::new(Some(16_000), None);
        wide.hear(160);
        assert_eq!(wide.sent()[1..], ["16000 Hz: 640"]);
    }

    #[test]
    fn keys_are_passed_on_unless_the_server_knows_none() {
        for (dtmf, wanted) in [(None, vec!["Key('5')"]), (Some(false), vec![])] {
            let mut bench = Bench::new(None, dtmf);
            bench.session.handle_digit('5');
            assert_eq!(bench.sent()[1..], wanted, "{dtmf:?}");
        }
    }

    #[test]
    fn what_the_agent_says_is_played_at_its_own_rate_whatever_it_hears() {
        let mut bench = Bench::new(None, None);
        for (rate, samples) in [(SampleRate::Hz8000, 320), (SampleRate::Hz24000, 960), (SampleRate::Hz48000, 1920)] {
            assert_eq!(bench.receive(|out| write_audio(out, rate, &vec![1; samples])), ["play 160"]);
        }
        assert_eq!(bench.receive(|out| write_audio(out, SampleRate::Hz8000, &[])), [] as [&str; 0]);
        assert_eq!(bench.receive(|out| write_audio(out, SampleRate::Hz8000, &[1; 65_535])), ["play 32767"]);
        assert_eq!(
            bench.receive(|out| write_audio(out, SampleRate::Hz8000, &[1; 1])),
            ["play 1"],
            "half a sample waits"
        );
        assert_eq!(bench.receive(|out| write_key(out, '1')), [] as [&str; 0]);
        assert_eq!(bench.receive(|out| out.extend_from_slice(&[0x11, 0, 2, 0, 0])), ["Lost(Format)"], "12 kHz");
    }

    #[test]
    fn who_hangs_up_is_heard_to_the_end_and_no_longer_than_10_s() {
        let mut bench = Bench::new(None, None);
        bench.receive(|out| write_audio(out, SampleRate::Hz8000, &[1; 320]));
        assert_eq!(bench.receive(write_hang_up), [] as [&str; 0]);
        assert_eq!(bench.receive(|out| write_audio(out, SampleRate::Hz8000, &[1; 320])), [] as [&str; 0]);
        bench.progress.played = 160;
        assert_eq!((bench.poll(), bench.poll()), (vec!["HangUp".to_owned()], vec![]));

        let mut bench = Bench::new(None, None);
        bench.receive(|out| write_audio(out, SampleRate::Hz8000, &[1; 320]));
        bench.session.handle_disconnect();
        assert_eq!(bench.poll(), [] as [&str; 0]);
        assert_eq!(bench.session.poll_timeout(), Some(bench.now + GOODBYE_MAX));
        bench.now += GOODBYE_MAX;
        assert_eq!(bench.poll(), ["HangUp"], "closing is hanging up");
    }

    #[test]
    fn a_server_that_closes_without_a_word_reports_an_error_or_does_not_read_is_lost() {
        let mut bench = Bench::new(None, None);
        bench.session.handle_disconnect();
        assert_eq!(bench.poll(), ["Lost(Disconnected)"]);
        let mut bench = Bench::new(None, None);
        assert_eq!(bench.receive(|out| out.extend_from_slice(&[0xff, 0, 1, 2])), ["Lost(Refused)"]);
        let mut bench = Bench::new(None, None);
        for _ in 0..=OUTBOUND_PACKETS_MAX {
            assert_eq!(bench.poll(), [] as [&str; 0]);
            bench.hear(160);
        }
        assert_eq!(bench.poll(), ["Lost(Stalled)"]);
        bench.session.stop(1000);
        assert_eq!(bench.sent().last().expect("frames"), "HangUp");
    }

    /// One session, without its connection.
    struct Bench {
        session: AudioSocket,
        progress: Progress,
        now: Instant,
    }

    impl Bench {
        fn new(rate: Option<u32>, dtmf: Option<bool>) -> Self {
            let mut plan = ServicePlan::bare(ProviderKind::AudioSocket, "tcp://agent:9092", FirstSpeaker::Agent)
                .expect("an address");
            (plan.settings.sample_rate, plan.settings.dtmf) = (rate, dtmf);
            let facts = CallFacts { id: CallId(256 + 31), codec: Codec::Pcmu, seed: 7 };
            Bench { session: AudioSocket::new(&plan, facts), progress: Progress::default(), now: Instant::now() }
        }

        fn hear(&mut self, samples: usize) {
            self.session.handle_audio(&Heard::linear(SampleRate::Hz8000, &vec![100; samples]));
        }

        fn receive(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
            let mut bytes = Vec::new();
            write(&mut bytes);
            self.session.handle_bytes(&bytes);
            self.poll()
        }

        fn poll(&mut self) -> Vec<String> {
            let mut outputs = Vec::new();
            while let Some(output) = self.session.poll_output(self.progress, self.now) {
                outputs.push(match output {
                    AgentOutput::Play(Speech::Samples(rate, samples)) => {
                        let ticks = samples.len() / rate.tick_samples();
                        self.progress.pushed += ticks as u64;
                        format!("play {ticks}")
                    }
                    other => format!("{other:?}"),
                });
            }
            outputs
        }

        /// The frames that have been sent since the last time.
        fn sent(&mut self) -> Vec<String> {
            let mut frames = Frames::default();
            frames.handle_bytes(&std::mem::take(&mut self.session.outbound));
            let mut sent = Vec::new();
            while let Some(frame) = frames.next_frame() {
                sent.push(match frame {
                    Frame::Audio { hertz, samples } => format!("{hertz} Hz: {}", samples.len()),
                    frame => format!("{frame:?}"),
                });
            }
            sent
        }
    }
}
