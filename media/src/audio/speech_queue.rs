//! What is to be said, in the order it came, in the form it was queued in.
//!
//! A leg whose codec changes while speech waits begins another stretch; the former ones are turned into the new form as
//! they are taken, so that a change costs nothing at the moment it happens.

use std::collections::VecDeque;

use super::convert::Converter;
use super::frame::Form;
use super::pool::SpeechPool;

/// Bytes of speech, in stretches of one form each. Its memory comes out of a pool.
#[derive(Debug)]
pub struct SpeechQueue {
    stretches: VecDeque<Stretch>,
    /// What all of them hold: asked several times a frame.
    ticks: usize,
    pool: SpeechPool,
    /// Bytes taken out of the pool: the queue never holds more.
    reserved: usize,
}

#[derive(Debug)]
struct Stretch {
    form: Form,
    bytes: VecDeque<u8>,
}

/// Speech that was not queued. Close the agent.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum NotQueued {
    /// The queue holds all it may hold. The agent's doing: it sent far more than it can ever have spoken.
    #[error("more than {} s of speech are queued", QUEUE_TICKS_MAX / 8000)]
    QueueFull,
    /// The memory of all calls together is taken.
    #[error("the memory for queued speech is taken")]
    PoolEmpty,
}

impl SpeechQueue {
    /// An empty queue.
    pub fn new(pool: SpeechPool) -> Self {
        SpeechQueue { stretches: VecDeque::new(), ticks: 0, pool, reserved: 0 }
    }

    /// Appends whole ticks of speech in a form.
    ///
    /// # Errors
    /// [`NotQueued`]; nothing is queued then.
    pub fn push(&mut self, form: Form, bytes: &[u8]) -> Result<(), NotQueued> {
        let ticks = self.ticks + form.ticks(bytes.len());
        if ticks > QUEUE_TICKS_MAX {
            return Err(NotQueued::QueueFull);
        }
        let held: usize = self.stretches.iter().map(|stretch| stretch.bytes.len()).sum();
        let grown = self.reserve(held + bytes.len())?;
        match self.stretches.back_mut() {
            Some(last) if last.bytes.is_empty() => last.form = form,
            Some(last) if last.form == form => {}
            _ => self.stretches.push_back(Stretch { form, bytes: VecDeque::new() }),
        }
        if let Some(last) = self.stretches.back_mut() {
            if last.bytes.capacity() < last.bytes.len() + bytes.len() {
                let room = grown - held;
                last.bytes.reserve_exact(room);
            }
            last.bytes.extend(bytes);
        }
        self.ticks = ticks;
        Ok(())
    }

    /// Appends up to so many ticks to `out`, in the converter's form, and takes them out of the queue.
    pub fn take(&mut self, ticks: usize, converter: &mut Converter, out: &mut Vec<u8>) {
        let mut wanted = ticks;
        while wanted > 0 {
            let Some(first) = self.stretches.front_mut() else { return };
            let taken = wanted.min(first.form.ticks(first.bytes.len()));
            let bytes = taken * first.form.tick_bytes();
            let (front, back) = first.bytes.as_slices();
            let split = bytes.min(front.len());
            if split == bytes {
                converter.append_bytes(first.form, &front[..split], out);
            } else if first.form == converter.form() {
                out.extend_from_slice(front);
                out.extend_from_slice(&back[..bytes - split]);
            } else {
                // A sample may lie across the ring's seam.
                converter.append_bytes(first.form, &first.bytes.make_contiguous()[..bytes], out);
            }
            first.bytes.drain(..bytes);
            wanted -= taken;
            self.ticks -= taken;
            if self.stretches.len() == 1 {
                // The last one stays, with its memory.
                return;
            }
            if wanted > 0 || self.stretches.front().is_some_and(|first| first.bytes.is_empty()) {
                self.stretches.pop_front();
            }
        }
    }

    /// Speech that waits, in ticks of 125 µs.
    pub fn ticks(&self) -> usize {
        self.ticks
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.ticks = 0;
        self.stretches.truncate(1);
        if let Some(first) = self.stretches.front_mut() {
            first.bytes.clear();
        }
    }

    /// Gives memory back that only a long speech needed.
    pub fn shrink(&mut self) {
        if self.ticks == 0 && self.reserved > RESERVE_STEP {
            self.clear();
            if let Some(first) = self.stretches.front_mut() {
                first.bytes.shrink_to(RESERVE_STEP);
            }
            self.pool.give(self.reserved - RESERVE_STEP);
            self.reserved = RESERVE_STEP;
        }
    }

    /// Sees to it that the queue may hold `wanted` bytes, and says how many it may. Grows in steps, so a paced agent takes
    /// one and keeps it.
    fn reserve(&mut self, wanted: usize) -> Result<usize, NotQueued> {
        if wanted > self.reserved {
            let grown = wanted.max(self.reserved * 2).next_multiple_of(RESERVE_STEP);
            if !self.pool.take(grown - self.reserved) {
                return Err(NotQueued::PoolEmpty);
            }
            self.reserved = grown;
        }
        Ok(self.reserved)
    }
}

impl Drop for SpeechQueue {
    fn drop(&mut self) {
        self.pool.give(self.reserved);
    }
}

/// 4 KiB: half a second of G.711, an eighth of wideband samples; what an agent that sends at the pace of speech ever has
/// queued.
pub const RESERVE_STEP: usize = 4096;

/// 10 minutes at 8,000 ticks a second; more was never meant to be heard.
pub const QUEUE_TICKS_MAX: usize = 4_800_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::SampleRate;
    use crate::codec::Codec;

    const WIDE: Form = Form::Linear(SampleRate::Hz16000);

    #[test]
    fn what_waits_is_said_in_the_form_that_is_spoken_when_its_turn_comes() {
        let (mut queue, mut wide) = (SpeechQueue::new(SpeechPool::default()), Converter::new(WIDE));
        let mut narrow = Vec::new();
        Codec::Pcmu.encode(&[2000; 500], &mut narrow);
        queue.push(Form::Mulaw, &narrow).expect("room");
        queue.push(WIDE, &[0; 4 * 100]).expect("room");
        assert_eq!(queue.ticks(), 600);
        let mut out = Vec::new();
        while queue.ticks() > 0 {
            queue.take(160, &mut wide, &mut out);
        }
        assert_eq!(out.len(), 4 * 600);
        let mut samples = Vec::new();
        WIDE.decode(&out, &mut samples);
        // 3 ms of the filter's delay, then the speech, then the silence behind it.
        assert!(samples[150..950].iter().all(|sample| sample.abs_diff(2000) < 60), "{:?}", &samples[150..170]);
        assert!(samples[1000..].iter().all(|sample| *sample == 0));
    }

    #[test]
    fn a_ring_s_seam_is_not_heard() {
        let mut queue = SpeechQueue::new(SpeechPool::default());
        let mut wide = Converter::new(WIDE);
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        for step in 0..500u32 {
            let bytes: Vec<u8> = (0..4 * 157).map(|at| (step * 31 + at) as u8).collect();
            queue.push(WIDE, &bytes).expect("room");
            said.extend(bytes);
            queue.take(150, &mut wide, &mut heard);
        }
        while queue.ticks() > 0 {
            queue.take(150, &mut wide, &mut heard);
        }
        assert_eq!(said, heard);
    }
}
