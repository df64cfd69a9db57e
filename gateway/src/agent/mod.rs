//! Voice agents as pure protocol machines behind one closed enum.
//!
//! An agent hears frames and digits, and says what it wants by [`AgentSession::poll_output`]. It owns no socket: bytes
//! from its connection go in by [`AgentSession::handle_bytes`], bytes for it wait in [`AgentSession::outbound`].

pub mod attendant;
pub mod audiosocket;
pub mod cascade;
pub mod chan_websocket;
mod conversation;
pub mod departed;
mod duties;
pub mod echo;
pub mod errands;
pub mod hosted;
pub mod http_tool;
mod keys;
pub mod media_stream;
pub mod openai_realtime;
pub mod provider;
pub mod service;
mod sound;
pub mod template;
pub mod tone_test;
pub mod tools;
mod transfer;
pub mod websocket;
pub(crate) mod wire;

use std::fmt;
use std::time::Instant;

use talkstack_control::port::{Outcome, Speaker};
use talkstack_media::audio::frame::{Frame, Speech};

use attendant::Attendant;
use departed::Departed;
use echo::Echo;
use errands::{Done, Errand, Note};
use service::{Service, ServiceSession};
use tone_test::{ToneHeard, ToneTest};

/// Whoever talks to the caller.
#[derive(Debug)]
pub enum AgentSession {
    /// Nobody yet: the agent is being connected to.
    Awaited,
    /// Gone, with words left that are still to be heard.
    Departed(Departed),
    /// The built-in agent that needs no network.
    Attendant(Attendant),
    /// Says back what it hears.
    Echo(Echo),
    /// An agent behind a connection.
    Service(ServiceSession),
    /// Plays a tone and measures what comes back, to test a trunk.
    ToneTest(ToneTest),
}

/// What an agent wants.
#[derive(Debug)]
pub enum AgentOutput<'a> {
    /// The agent can talk: let the caller in. Only from agents that are not ready from the start.
    Ready,
    /// Play this after what is queued.
    Play(Speech<'a>),
    /// One side has said something; in the order of speaking.
    Said(Said),
    /// Forget what is queued: the caller has interrupted.
    Clear,
    /// What is queued waits, until [`AgentOutput::GoOn`] or [`AgentOutput::Clear`].
    Pause,
    /// What waits goes on.
    GoOn,
    /// Press this key for the far end.
    Press(char),
    /// Put the caller through to this number; [`AgentSession::handle_not_transferred`] tells when nobody takes them.
    Transfer(Destination),
    /// Do this for the agent; [`AgentSession::handle_done`] tells what has become of it, by its number.
    Run(u32, Errand),
    /// Note this for the call's owner.
    Note(Note),
    /// End the call: the agent is done.
    HangUp,
    /// The agent is gone and will say nothing more.
    Lost(AgentLoss),
}

/// Whom an agent has its caller put through to, as a phone would dial it.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination(pub String);

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({} bytes)", self.0.len())
    }
}

/// What one side said in one turn.
#[derive(Clone, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub speaker: Speaker,
    /// In words; of an interrupted agent only what was heard.
    pub text: String,
    /// When it began.
    pub began: Instant,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Said({:?}, {} bytes)", self.speaker, self.text.len())
    }
}

/// Why an agent is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgentLoss {
    /// The connection could not be made.
    #[error("the agent could not be reached")]
    Unreachable,
    /// The connection broke.
    #[error("the agent's connection broke")]
    Disconnected,
    /// It has closed the connection in good order, in mid-call.
    #[error("the agent has closed its connection")]
    Closed,
    /// It sent what its protocol does not allow.
    #[error("the agent broke its protocol: {0}")]
    Protocol(#[from] websocket::WebSocketError),
    /// It sent text that is not JSON.
    #[error("the agent sent text that is not JSON")]
    NotJson,
    /// It queued more speech than can be meant.
    #[error("the agent queued more than ten minutes of speech")]
    Flood,
    /// The memory for queued speech is taken; what it sent has no room.
    #[error("the box has no memory left for the agent's speech")]
    NoRoom,
    /// It does not read what it is sent.
    #[error("the agent does not read its connection")]
    Stalled,
    /// Its session was not set up in time.
    #[error("the agent was not ready in time")]
    Late,
    /// It insists on an audio format that was not asked for.
    #[error("the agent insists on another audio format than it was asked for")]
    Format,
    /// Its provider has ended the session.
    #[error("the agent's session has reached its longest duration")]
    Expired,
    /// Its provider has reported an error and ended the session.
    #[error("the agent's provider has reported an error and ended the session")]
    Refused,
    /// It fails to answer, again and again.
    #[error("the agent's responses fail")]
    Failing,
}

impl AgentLoss {
    /// Whether what it has said before is heard to its end: it has gone, and nothing is broken.
    pub fn is_a_parting(self) -> bool {
        matches!(self, AgentLoss::Closed | AgentLoss::Expired)
    }

    /// The close code that tells the agent (RFC 6455 §7.4.1).
    pub fn code(self) -> u16 {
        match self {
            AgentLoss::Unreachable
            | AgentLoss::Disconnected
            | AgentLoss::Closed
            | AgentLoss::Expired
            | AgentLoss::Refused
            | AgentLoss::Failing => 1000,
            AgentLoss::Protocol(error) => error.code(),
            AgentLoss::NotJson => 1007,
            AgentLoss::Flood | AgentLoss::NoRoom | AgentLoss::Stalled | AgentLoss::Late | AgentLoss::Format => 1008,
        }
    }
}

/// What the box's own ear has heard of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// They speak, since some 100 ms.
    Began,
    /// They have said nothing for 200 ms.
    Ended,
}

/// How far the playout queue has come, in ticks of 125 µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Speech queued since the call began.
    pub pushed: u64,
    /// Speech that left for the wire or was cleared.
    pub played: u64,
}

impl Progress {
    /// Tells whether everything queued has been played.
    pub fn is_drained(self) -> bool {
        self.played >= self.pushed
    }
}

impl AgentSession {
    /// Hears a stretch of the caller's audio.
    pub fn handle_audio(&mut self, frame: &Frame<'_>) {
        match self {
            AgentSession::Awaited | AgentSession::Departed(_) => {}
            AgentSession::Attendant(attendant) => attendant.handle_audio(frame),
            AgentSession::Echo(echo) => echo.handle_audio(frame),
            AgentSession::Service(session) => session.service_mut().handle_audio(frame),
            AgentSession::ToneTest(test) => test.handle_audio(frame),
        }
    }

    /// The caller has put us on hold: `silence` goes by, and what is said waits until they are back.
    pub fn handle_held(&mut self, silence: &Frame<'_>) {
        // An echo of silence would only be heard late.
        if let Some(service) = self.service_mut() {
            service.handle_audio(silence);
        }
    }

    /// Tells whether the agent needs to know when the caller speaks.
    pub fn wants_voice(&self) -> bool {
        match self {
            AgentSession::Service(session) => session.service().wants_voice(),
            AgentSession::Awaited
            | AgentSession::Departed(_)
            | AgentSession::Attendant(_)
            | AgentSession::Echo(_)
            | AgentSession::ToneTest(_) => false,
        }
    }

    /// The caller has begun to speak, or has paused.
    pub fn handle_voice(&mut self, voice: Voice, now: Instant) {
        if let Some(service) = self.service_mut() {
            service.handle_voice(voice, now);
        }
    }

    /// The caller has interrupted, and the box has cleared the queue; `progress` is what was heard of it.
    pub fn handle_interrupted(&mut self, progress: Progress, now: Instant) {
        if let Some(service) = self.service_mut() {
            service.handle_interrupted(progress, now);
        }
    }

    /// Hears a key (`0`–`9`, `*`, `#`, `A`–`D`), once per press.
    pub fn handle_digit(&mut self, digit: char) {
        match self {
            AgentSession::Attendant(attendant) => attendant.handle_digit(digit),
            AgentSession::Awaited | AgentSession::Departed(_) | AgentSession::Echo(_) | AgentSession::ToneTest(_) => {}
            AgentSession::Service(session) => session.service_mut().handle_digit(digit),
        }
    }

    /// A text that was asked for has been spoken, or cannot be.
    pub fn handle_spoken(&mut self, spoken: Option<Vec<i16>>) {
        if let AgentSession::Attendant(attendant) = self {
            attendant.handle_spoken(spoken);
        }
    }

    /// Takes bytes from the agent's connection.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if let Some(service) = self.service_mut() {
            service.handle_bytes(bytes);
        }
    }

    /// The agent's connection has ended.
    pub fn handle_disconnect(&mut self) {
        if let Some(service) = self.service_mut() {
            service.handle_disconnect();
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self {
            AgentSession::Attendant(attendant) => attendant.handle_timeout(now),
            AgentSession::Service(session) => session.service_mut().handle_timeout(now),
            AgentSession::ToneTest(test) => test.handle_timeout(now),
            AgentSession::Awaited | AgentSession::Departed(_) | AgentSession::Echo(_) => {}
        }
    }

    /// Returns what the agent wants next; drain to `None`.
    pub fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'_>> {
        match self {
            AgentSession::Awaited => None,
            AgentSession::Departed(departed) => departed.poll_output(progress, now),
            AgentSession::Attendant(attendant) => attendant.poll_output(progress, now),
            AgentSession::Echo(echo) => echo.poll_output(progress),
            AgentSession::Service(session) => session.service_mut().poll_output(progress, now),
            AgentSession::ToneTest(test) => test.poll_output(progress, now),
        }
    }

    /// When the agent wants [`AgentSession::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            AgentSession::Departed(departed) => departed.poll_timeout(),
            AgentSession::Attendant(attendant) => attendant.poll_timeout(),
            AgentSession::Service(session) => session.service().poll_timeout(),
            AgentSession::ToneTest(test) => test.poll_timeout(),
            AgentSession::Awaited | AgentSession::Echo(_) => None,
        }
    }

    /// What is to be written to the agent's connection, if it has one.
    pub fn outbound(&mut self) -> Option<&mut Vec<u8>> {
        self.service_mut().map(|service| service.outbound())
    }

    /// Tells whether the agent can talk. One that cannot yet says [`AgentOutput::Ready`] once it can.
    pub fn is_ready(&self) -> bool {
        match self {
            AgentSession::Awaited => false,
            AgentSession::Departed(_)
            | AgentSession::Attendant(_)
            | AgentSession::Echo(_)
            | AgentSession::ToneTest(_) => true,
            AgentSession::Service(session) => session.service().is_ready(),
        }
    }

    /// Has an agent that was told to wait open the conversation, unless the caller has spoken or is to speak first.
    pub fn greet(&mut self) {
        if let Some(service) = self.service_mut() {
            service.greet();
        }
    }

    /// Nobody has taken the caller whom the agent wanted to put through.
    pub fn handle_not_transferred(&mut self, outcome: Outcome) {
        if let Some(service) = self.service_mut() {
            service.handle_not_transferred(outcome);
        }
    }

    /// What has become of something that was done for the agent.
    pub fn handle_done(&mut self, number: u32, done: Done) {
        if let Some(service) = self.service_mut() {
            service.handle_done(number, done);
        }
    }

    /// The last error that its provider has reported, in the provider's words.
    pub fn complaint(&self) -> Option<&str> {
        match self {
            AgentSession::Service(session) => session.service().complaint(),
            _ => None,
        }
    }

    /// What a test call has heard; `None` of any other.
    pub fn tone_heard(&self) -> Option<ToneHeard> {
        match self {
            AgentSession::ToneTest(test) => Some(test.heard()),
            _ => None,
        }
    }

    /// What was said and has not been reported, when nothing more will be heard: drain to `None`.
    pub fn poll_last_words(&mut self, progress: Progress) -> Option<Said> {
        self.service_mut()?.poll_last_words(progress)
    }

    /// Says goodbye to the agent, with a close code (1000: the call is over); nothing it says is heard from here on.
    /// Returns the bytes that are left to be written to its connection.
    pub fn stop(&mut self, code: u16) -> Vec<u8> {
        let Some(service) = self.service_mut() else { return Vec::new() };
        service.stop(code);
        std::mem::take(service.outbound())
    }

    fn service_mut(&mut self) -> Option<&mut dyn Service> {
        match self {
            AgentSession::Service(session) => Some(session.service_mut()),
            AgentSession::Awaited
            | AgentSession::Departed(_)
            | AgentSession::Attendant(_)
            | AgentSession::Echo(_)
            | AgentSession::ToneTest(_) => None,
        }
    }
}
