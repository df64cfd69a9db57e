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
    trunk_loads: BTreeMap<String, usize>,
    calls_max: usize,
}

/// Where a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its dialog; a call that is still being placed has none.
    pub dialog: Option<DialogId>,
    /// The index of its shard.
    pub shard: usize,
    /// The trunk it occupies a channel of.
    pub trunk: Option<String>,
}

/// A trunk and the calls it carries at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels<'a> {
    /// The trunk's id.
    pub trunk: &'a str,
    /// Its limit.
    pub max: u32,
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
    /// The trunk has all the calls it carries.
    #[error("{channels_max} calls are up on the trunk, which is its limit")]
    TrunkFull {
        /// The limit.
        channels_max: u32,
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
            trunk_loads: BTreeMap::new(),
            calls_max,
        }
    }

    /// Takes a call in on the shard with the fewest.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit(
        &mut self,
        id: CallId,
        dialog: Option<DialogId>,
        channels: Option<Channels<'_>>,
    ) -> Result<usize, NotAdmitted> {
        if self.calls.len() >= self.calls_max {
            return Err(NotAdmitted::Full { calls_max: self.calls_max });
        }
        if let Some(channels) = channels.filter(|channels| !self.has_channel(*channels)) {
            return Err(NotAdmitted::TrunkFull { channels_max: channels.max });
        }
        let open = (0..self.shard_loads.len()).filter(|shard| !self.closed.contains(shard));
        let shard = open.min_by_key(|shard| self.shard_loads[*shard]).ok_or(NotAdmitted::NoShard)?;
        self.shard_loads[shard] += 1;
        let trunk = channels.map(|channels| channels.trunk.to_owned());
        if let Some(trunk) = &trunk {
            *self.trunk_loads.entry(trunk.clone()).or_default() += 1;
        }
        self.calls.insert(id, Entry { dialog: None, shard, trunk });
        if let Some(dialog) = dialog {
            self.bind(id, dialog);
        }
        Ok(shard)
    }

    /// Tells whether a trunk has a channel free.
    pub fn has_channel(&self, channels: Channels<'_>) -> bool {
        self.trunk_loads.get(channels.trunk).copied().unwrap_or(0) < channels.max as usize
    }

    /// Moves a call to another trunk, in place of the one it had; it keeps that one when the other has no channel.
    ///
    /// # Errors
    /// [`NotAdmitted::TrunkFull`].
    pub fn reassign(&mut self, id: CallId, channels: Channels<'_>) -> Result<(), NotAdmitted> {
        let Channels { trunk, max } = channels;
        if !self.has_channel(channels) {
            return Err(NotAdmitted::TrunkFull { channels_max: max });
        }
        let Some(entry) = self.calls.get_mut(&id) else { return Ok(()) };
        if let Some(load) = entry.trunk.as_ref().and_then(|former| self.trunk_loads.get_mut(former)) {
            *load -= 1;
        }
        entry.trunk = Some(trunk.to_owned());
        *self.trunk_loads.entry(trunk.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Gives a call its dialog, in place of the one it had.
    pub fn bind(&mut self, id: CallId, dialog: DialogId) {
        let Some(entry) = self.calls.get_mut(&id) else { return };
        if let Some(former) = entry.dialog.replace(dialog) {
            self.by_dialog.remove(&former);
        }
        self.by_dialog.insert(dialog, id);
    }

    /// Takes a call's dialog from it: what still comes of that is nobody's.
    pub fn unbind(&mut self, id: CallId) {
        if let Some(dialog) = self.calls.get_mut(&id).and_then(|entry| entry.dialog.take()) {
            self.by_dialog.remove(&dialog);
        }
    }

    /// Where a call is.
    pub fn entry(&self, id: CallId) -> Option<&Entry> {
        self.calls.get(&id)
    }

    /// Whose dialog it is.
    pub fn call_of(&self, dialog: DialogId) -> Option<CallId> {
        self.by_dialog.get(&dialog).copied()
    }

    /// A call is over on its shard.
    pub fn remove(&mut self, id: CallId) -> Option<Entry> {
        let entry = self.calls.remove(&id)?;
        if let Some(dialog) = entry.dialog {
            self.by_dialog.remove(&dialog);
        }
        self.shard_loads[entry.shard] -= 1;
        if let Some(load) = entry.trunk.as_ref().and_then(|trunk| self.trunk_loads.get_mut(trunk)) {
            *load -= 1;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_and_each_trunk_have_their_limits_and_a_call_that_ends_makes_room() {
        let mut board = Switchboard::new(3, 2);
        let one = Some(Channels { trunk: "one", max: 1 });
        assert_eq!(board.admit(CallId(1), None, one), Ok(0));
        assert_eq!(board.admit(CallId(2), None, one), Err(NotAdmitted::TrunkFull { channels_max: 1 }));
        assert_eq!(board.admit(CallId(3), None, Some(Channels { trunk: "two", max: 9 })), Ok(1));
        assert_eq!(board.admit(CallId(4), None, None), Ok(0));
        assert_eq!(board.admit(CallId(5), None, None), Err(NotAdmitted::Full { calls_max: 3 }));
        board.remove(CallId(1)).expect("up");
        assert_eq!(board.admit(CallId(2), None, one), Ok(0));
        assert_eq!(board.len(), 3);
    }

    #[test]
    fn a_call_that_moves_to_another_trunk_frees_the_first_s_channel() {
        let mut board = Switchboard::new(9, 1);
        let of = |trunk| Channels { trunk, max: 1 };
        board.admit(CallId(1), None, Some(of("one"))).expect("free");
        board.admit(CallId(2), None, Some(of("two"))).expect("free");
        assert_eq!(board.reassign(CallId(1), of("two")), Err(NotAdmitted::TrunkFull { channels_max: 1 }));
        assert_eq!(board.admit(CallId(3), None, Some(of("one"))), Err(NotAdmitted::TrunkFull { channels_max: 1 }));
        assert_eq!(board.reassign(CallId(1), of("three")), Ok(()));
        assert!(board.admit(CallId(3), None, Some(of("one"))).is_ok());
        assert_eq!(board.admit(CallId(4), None, Some(of("three"))), Err(NotAdmitted::TrunkFull { channels_max: 1 }));
        board.remove(CallId(1));
        assert!(board.admit(CallId(4), None, Some(of("three"))).is_ok());
    }
}
