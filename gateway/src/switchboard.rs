//! Which calls are up, which shard has each, and whether another one is taken in. No call state lives here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use talkstack_control::port::CallId;
use talkstack_media::sip::DialogId;

/// The index of live calls; the SIP thread owns it.
#[derive(Debug)]
pub struct Switchboard {
    calls: BTreeMap<CallId, Entry>,
    by_dialog: HashMap<DialogId, CallId>,
    shard_loads: Vec<usize>,
    /// Shards that take no more calls.
    closed: BTreeSet<usize>,
    calls_max: usize,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its dialog.
    pub dialog: DialogId,
    /// The index of its shard.
    pub shard: usize,
}

/// A call that is not taken in. Answer 503 with Retry-After.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum NotAdmitted {
    /// The box has all the calls it takes.
    #[error("{calls_max} calls are up, which is the limit set by calls.max")]
    Full {
        /// The limit.
        calls_max: usize,
    },
    /// Every media thread hangs.
    #[error("no media thread takes calls")]
    NoShard,
}

impl Switchboard {
    /// Starts empty, with `calls.max` and the number of shards.
    pub fn new(calls_max: usize, shards: usize) -> Self {
        Switchboard {
            calls: BTreeMap::new(),
            by_dialog: HashMap::new(),
            shard_loads: vec![0; shards.max(1)],
            closed: BTreeSet::new(),
            calls_max,
        }
    }

    /// Takes a call in on the shard with the fewest.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit(&mut self, id: CallId, dialog: DialogId) -> Result<usize, NotAdmitted> {
        if self.calls.len() >= self.calls_max {
            return Err(NotAdmitted::Full { calls_max: self.calls_max });
        }
        let open = (0..self.shard_loads.len()).filter(|shard| !self.closed.contains(shard));
        let shard = open.min_by_key(|shard| self.shard_loads[*shard]).ok_or(NotAdmitted::NoShard)?;
        self.shard_loads[shard] += 1;
        self.calls.insert(id, Entry { dialog, shard });
        self.by_dialog.insert(dialog, id);
        Ok(shard)
    }

    /// Where a call is.
    pub fn entry(&self, id: CallId) -> Option<Entry> {
        self.calls.get(&id).copied()
    }

    /// Whose dialog it is.
    pub fn call_of(&self, dialog: DialogId) -> Option<CallId> {
        self.by_dialog.get(&dialog).copied()
    }

    /// A call is over on its shard.
    pub fn remove(&mut self, id: CallId) -> Option<Entry> {
        let entry = self.calls.remove(&id)?;
        self.by_dialog.remove(&entry.dialog);
        self.shard_loads[entry.shard] -= 1;
        Some(entry)
    }

    /// The calls that are up.
    pub fn calls(&self) -> impl Iterator<Item = CallId> + '_ {
        self.calls.keys().copied()
    }

    /// The calls that a shard has.
    pub fn calls_of(&self, shard: usize) -> impl Iterator<Item = CallId> + '_ {
        self.calls.iter().filter(move |(_, entry)| entry.shard == shard).map(|(id, _)| *id)
    }

    /// A shard takes no more calls.
    pub fn close(&mut self, shard: usize) {
        self.closed.insert(shard);
    }

    /// A shard takes calls again.
    pub fn open(&mut self, shard: usize) {
        self.closed.remove(&shard);
    }

    /// How many calls are up.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Tells whether no call is up.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}
