//! Keys collected from the caller behind the agent's back: a card's number, a birth date, a PIN.
//!
//! While it lasts the agent hears silence in the caller's place and no key, whichever way the line carries them, and the
//! recording is paused: what was collected is in nobody's memory but that of whoever has asked.

use std::time::{Duration, Instant};

use talkstack_control::port::{COLLECT_TIME, CollectEnd, CollectOrder, Collected, PressedKeys};
use talkstack_media::audio::frame::Frame;
use talkstack_media::session::RtpSession;

use super::{Call, CallOutput, Phase};
use crate::agent::errands::Done;

/// A collection under way.
#[derive(Debug)]
pub(super) struct Collection {
    order: CollectOrder,
    keys: String,
    /// When the next key must have come.
    due: Instant,
    ends_at: Instant,
    ended_by: Option<CollectEnd>,
    /// The agent wants them, under this number; else whoever has asked over the API.
    for_agent: Option<u32>,
    /// It has paused the recording, and has it go on.
    pub(super) has_paused: bool,
}

impl Collection {
    fn new(order: CollectOrder, for_agent: Option<u32>, now: Instant) -> Self {
        let ends_at = now + COLLECT_TIME;
        let due = (now + Duration::from_secs(order.first_within_s.into())).min(ends_at);
        Collection { order, keys: String::new(), due, ends_at, ended_by: None, for_agent, has_paused: false }
    }

    /// When to come back: once no key has come in time.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Takes a key that nobody else is to hear; `false` when as many have come as were wanted.
    pub(super) fn takes(&mut self, key: char, now: Instant) -> bool {
        if self.ended_by.is_some() {
            return false;
        }
        if self.order.finish_key == Some(key) {
            self.ended_by = Some(CollectEnd::FinishKey);
        } else {
            self.keys.push(key);
            let is_full = self.keys.len() >= self.order.keys_max.into();
            self.ended_by = is_full.then_some(CollectEnd::Full);
        }
        let next = if self.ended_by.is_some() { REST } else { Duration::from_secs(self.order.next_within_s.into()) };
        self.due = (now + next).min(self.ends_at);
        true
    }
}

impl Call {
    /// Collects keys from the caller; [`CallOutput::Collected`] tells which. Not to be asked for while it is at it.
    pub fn collect(&mut self, order: CollectOrder, now: Instant) {
        self.collect_for(None, order, now);
    }

    /// Whether it is at it.
    pub fn is_collecting(&self) -> bool {
        self.collection.is_some()
    }

    pub(super) fn collect_for(&mut self, agent: Option<u32>, order: CollectOrder, now: Instant) {
        if !matches!(self.phase, Phase::Answered { .. }) {
            let collected = Collected { keys: PressedKeys::default(), ended_by: CollectEnd::NotAnswered };
            return self.tell_collected(agent, collected);
        }
        let mut collection = Box::new(Collection::new(order, agent, now));
        collection.has_paused = self.change_recording(true, now);
        self.collection = Some(collection);
    }

    /// Has silence stand for what is said on the recording, or records it again, as the owner of the call wishes. While
    /// keys are being collected it stays paused.
    pub fn pause_recording(&mut self, is_paused: bool, now: Instant) {
        match &mut self.collection {
            Some(collection) => collection.has_paused = !is_paused,
            None => {
                self.change_recording(is_paused, now);
            }
        }
    }

    /// Ends a collection that has what it wants, or for which no key has come in time. What is left of the last key's tone
    /// belongs to it.
    pub(super) fn end_collection_if_due(&mut self, now: Instant) {
        let Some(collection) = self.collection.as_mut().filter(|collection| collection.due <= now) else { return };
        let is_sounding = self.leg.session.as_ref().is_some_and(RtpSession::is_key_sounding);
        if is_sounding && now < collection.ends_at {
            collection.due = (now + REST).min(collection.ends_at);
            return;
        }
        let goes_on = collection.has_paused;
        let end = collection.ended_by.unwrap_or(CollectEnd::Timeout);
        self.end_collection(end);
        if goes_on {
            self.change_recording(false, now);
        }
        // The agent may go on at once.
        self.talk(now);
    }

    /// Ends the collection, if there is one, and tells what has come.
    pub(super) fn end_collection(&mut self, ended_by: CollectEnd) {
        let Some(collection) = self.collection.take() else { return };
        let keys = PressedKeys(collection.keys);
        self.tell_collected(collection.for_agent, Collected { keys, ended_by });
    }

    fn tell_collected(&mut self, agent: Option<u32>, collected: Collected) {
        match agent {
            Some(number) => self.agent.handle_done(number, Done::Collected(collected)),
            None => self.outputs.push_back(CallOutput::Collected(collected)),
        }
    }
}

/// As long a silence as the frame, in pieces: what is heard of a caller whose keys are being collected.
pub(super) fn silence(frame: &Frame<'_>) -> impl Iterator<Item = Frame<'static>> + use<> {
    let (rate, mut left) = (frame.rate, frame.samples.len());
    std::iter::from_fn(move || {
        let count = left.min(SILENCE.len());
        left -= count;
        (count > 0).then(|| Frame::linear(rate, &SILENCE[..count]))
    })
}

/// 100 ms behind the last key: the rest of a short press, as a line carries it that has the tone beside the events.
const REST: Duration = Duration::from_millis(100);

/// 60 ms at 16 kHz: the longest packet of a wideband line.
static SILENCE: [i16; 960] = [0; 960];

#[cfg(test)]
mod tests;
