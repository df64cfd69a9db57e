//! A shard's inbox: a bounded queue that wakes its thread only when it sleeps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rustix::event::{EventfdFlags, eventfd};

/// Makes an inbox and the address to send to it.
///
/// # Errors
/// When the kernel has no file descriptor left.
pub fn inbox<T>() -> std::io::Result<(Inbox<T>, Address<T>)> {
    let (sender, receiver) = sync_channel(MESSAGES_MAX);
    let waker = Arc::new(Waker {
        parked: AtomicBool::new(false),
        beats: AtomicU64::new(0),
        event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
    });
    Ok((Inbox { receiver, seen: None, waker: Arc::clone(&waker) }, Address { sender, waker }))
}

/// The receiving end; its thread owns it.
#[derive(Debug)]
pub struct Inbox<T> {
    receiver: Receiver<T>,
    /// A message that was seen while parking.
    seen: Option<T>,
    waker: Arc<Waker>,
}

/// The sending end. Cloning it is cheap.
#[derive(Debug)]
pub struct Address<T> {
    sender: SyncSender<T>,
    waker: Arc<Waker>,
}

#[derive(Debug)]
struct Waker {
    parked: AtomicBool,
    /// Rounds of the thread so far: it is alive while they move.
    beats: AtomicU64,
    event: OwnedFd,
}

/// The inbox took nothing; the message comes back. A call is answered 503, an API command `busy`.
#[derive(Debug, thiserror::Error)]
#[error("the media thread's inbox is full")]
pub struct InboxFull<T>(pub T);

impl<T> Clone for Address<T> {
    fn clone(&self) -> Self {
        Address { sender: self.sender.clone(), waker: Arc::clone(&self.waker) }
    }
}

impl<T> Address<T> {
    /// Sends, and wakes the thread if it sleeps without a time limit.
    ///
    /// # Errors
    /// [`InboxFull`] when [`MESSAGES_MAX`] messages wait, or the thread has ended.
    pub fn send(&self, message: T) -> Result<(), InboxFull<T>> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => InboxFull(message),
        })?;
        if self.waker.parked.swap(false, Ordering::SeqCst) {
            // A full counter means that a wake-up is already on its way.
            let _ = rustix::io::write(&self.waker.event, &1u64.to_ne_bytes());
        }
        Ok(())
    }

    /// Rounds of the thread so far.
    pub fn beats(&self) -> u64 {
        self.waker.beats.load(Ordering::Relaxed)
    }
}

impl<T> Inbox<T> {
    /// Another round of the thread begins.
    pub fn beat(&self) {
        self.waker.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the next message, if one is there.
    pub fn take(&mut self) -> Option<T> {
        self.seen.take().or_else(|| self.receiver.try_recv().ok())
    }

    /// Announces that the thread is about to sleep until woken; `false` when a message is there already.
    pub fn park(&mut self) -> bool {
        self.waker.parked.store(true, Ordering::SeqCst);
        // A message sent before the flag was seen has written no wake-up.
        self.seen = self.seen.take().or_else(|| self.receiver.try_recv().ok());
        self.seen.is_none()
    }

    /// The thread is awake again; takes the wake-up off the event.
    pub fn unpark(&self) {
        self.waker.parked.store(false, Ordering::Release);
        let _ = rustix::io::read(&self.waker.event, &mut [0u8; 8]);
    }

    /// What to wait on for a wake-up.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.waker.event.as_fd()
    }
}

/// 4,096 messages: 1,000 calls set up at once with four messages each. Full: a new call gets 503.
pub const MESSAGES_MAX: usize = 4096;
