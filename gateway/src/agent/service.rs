//! Agents that run behind a connection: what each protocol machine can do, and the closed list of them.
//!
//! A new provider is one file, a `Service` with a variant of [`ServiceSession`] or a protocol of [`super::hosted`], and one
//! line in each of [`ServiceSession::new`] and [`super::provider`].

use std::time::Instant;

use talkstack_control::port::{CallId, Outcome, ProviderKind};
use talkstack_media::audio::frame::Frame;
use talkstack_media::codec::Codec;

use super::audiosocket::AudioSocket;
use super::cascade::Cascade;
use super::chan_websocket::ChanWebSocket;
use super::errands::Done;
use super::hosted::Hosted;
use super::media_stream::MediaStream;
use super::openai_realtime::OpenAiRealtime;
use super::provider::ServicePlan;
use super::{AgentOutput, Progress, Said, Voice};

/// What a call tells its agent's machine at its birth.
#[derive(Debug, Clone, Copy)]
pub struct CallFacts {
    /// Our name for the call.
    pub id: CallId,
    /// What the line speaks.
    pub codec: Codec,
    /// Unpredictable, for masking keys (RFC 6455 §10.3).
    pub seed: u64,
}

/// One session with a service, behind its connection: bytes and sound in, bytes and wishes out.
pub(super) trait Service {
    /// Hears a stretch of the caller's audio.
    fn handle_audio(&mut self, frame: &Frame<'_>);
    /// Hears a key, once per press.
    fn handle_digit(&mut self, digit: char);
    /// Takes bytes from the connection.
    fn handle_bytes(&mut self, bytes: &[u8]);
    /// The connection has ended.
    fn handle_disconnect(&mut self);
    /// Returns what the agent wants next; drain to `None`.
    fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'_>>;
    /// What is to be written to the connection.
    fn outbound(&mut self) -> &mut Vec<u8>;
    /// Says goodbye with a close code; nothing is heard from here on.
    fn stop(&mut self, code: u16);

    /// The caller has begun to speak, or has paused.
    fn handle_voice(&mut self, _voice: Voice, _now: Instant) {}

    /// Tells whether it needs to know when the caller speaks.
    fn wants_voice(&self) -> bool {
        false
    }

    /// The caller has interrupted, and the box has cleared the queue; `progress` is what was heard of it.
    fn handle_interrupted(&mut self, _progress: Progress, _now: Instant) {}

    /// Time has passed.
    fn handle_timeout(&mut self, _now: Instant) {}

    /// When to come back.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Tells whether the agent can talk. One that cannot yet says [`AgentOutput::Ready`] once it can.
    fn is_ready(&self) -> bool {
        true
    }

    /// Has an agent that was told to wait open the conversation.
    fn greet(&mut self) {}

    /// Nobody has taken the caller whom it wanted to put through: it talks to them again.
    fn handle_not_transferred(&mut self, _outcome: Outcome) {}

    /// The last error that the provider has reported, in its words.
    fn complaint(&self) -> Option<&str> {
        None
    }

    /// What has become of something that was done for it.
    fn handle_done(&mut self, _number: u32, _done: Done) {}

    /// What was said and has not been reported, when nothing more will be heard: drain to `None`.
    fn poll_last_words(&mut self, _progress: Progress) -> Option<Said> {
        None
    }
}

/// A session with one of the services that are known.
#[derive(Debug)]
pub enum ServiceSession {
    /// An agent behind Asterisk's AudioSocket: the box plays Asterisk.
    AudioSocket(Box<AudioSocket>),
    /// Services that listen, think and speak, with the box between them.
    Cascade(Box<Cascade>),
    /// An agent behind Asterisk's WebSocket channel: the box plays Asterisk.
    ChanWebSocket(Box<ChanWebSocket>),
    /// A media-stream service: the box plays the telephony provider.
    MediaStream(Box<MediaStream>),
    /// A hosted agent in a protocol of its own.
    Hosted(Box<Hosted>),
    /// An agent that speaks OpenAI's Realtime protocol.
    OpenAiRealtime(Box<OpenAiRealtime>),
}

impl ServiceSession {
    /// Starts a session behind the connection that has just been made.
    pub fn new(plan: &ServicePlan, facts: CallFacts) -> Self {
        match plan.kind {
            ProviderKind::AudioSocket => ServiceSession::AudioSocket(Box::new(AudioSocket::new(plan, facts))),
            ProviderKind::AsteriskWebSocket => ServiceSession::ChanWebSocket(Box::new(ChanWebSocket::new(plan, facts))),
            ProviderKind::Cascade => ServiceSession::Cascade(Box::new(Cascade::new(plan, facts))),
            kind if kind.is_media_stream() => ServiceSession::MediaStream(Box::new(MediaStream::new(plan, facts))),
            kind if kind.is_hosted() => ServiceSession::Hosted(Box::new(Hosted::new(plan, facts))),
            _ => ServiceSession::OpenAiRealtime(Box::new(OpenAiRealtime::new(plan, facts))),
        }
    }

    pub(super) fn service(&self) -> &dyn Service {
        match self {
            ServiceSession::AudioSocket(session) => &**session,
            ServiceSession::Cascade(session) => &**session,
            ServiceSession::ChanWebSocket(session) => &**session,
            ServiceSession::Hosted(session) => &**session,
            ServiceSession::MediaStream(session) => &**session,
            ServiceSession::OpenAiRealtime(session) => &**session,
        }
    }

    pub(super) fn service_mut(&mut self) -> &mut dyn Service {
        match self {
            ServiceSession::AudioSocket(session) => &mut **session,
            ServiceSession::Cascade(session) => &mut **session,
            ServiceSession::ChanWebSocket(session) => &mut **session,
            ServiceSession::Hosted(session) => &mut **session,
            ServiceSession::MediaStream(session) => &mut **session,
            ServiceSession::OpenAiRealtime(session) => &mut **session,
        }
    }
}
