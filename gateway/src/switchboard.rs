//! Which calls are up, which shard has each, and whether another one is taken in. No call state lives here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use talkstack_control::port::CallId;
use talkstack_media::sip::DialogId;

use crate::agent::provider::Parties;
use crate::call::LegId;

/// The index of live calls; the SIP thread owns it.
#[derive(Debug)]
pub struct Switchboard {
    calls: BTreeMap<CallId, Entry>,
    by_dialog: HashMap<DialogId, (CallId, LegId)>,
    /// The extensions at the far ends of dialogs.
    parties: HashMap<DialogId, String>,
    shard_loads: Vec<usize>,
    /// Shards that take no more calls.
    closed: BTreeSet<usize>,
    trunk_loads: BTreeMap<String, usize>,
    calls_max: usize,
}

/// Where a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The first leg's dialog; a call that is still being placed has none.
    pub dialog: Option<DialogId>,
    /// The second leg's dialog, once it has answered.
    pub second: Option<DialogId>,
    /// The dialog of one who has asked for a transfer.
    pub parked: Option<DialogId>,
    /// The index of its shard.
    pub shard: usize,
    /// The trunk it occupies a channel of.
    pub trunk: Option<String>,
    /// The trunk that the second leg occupies a channel of.
    pub second_trunk: Option<String>,
    /// Who has called whom.
    pub parties: Parties,
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

impl Entry {
    /// The dialogs of all legs.
    pub fn dialogs(&self) -> impl Iterator<Item = DialogId> + use<> {
        [self.dialog, self.second, self.parked].into_iter().flatten()
    }

    fn slot(&mut self, leg: LegId) -> &mut Option<DialogId> {
        match leg {
            LegId::First => &mut self.dialog,
            LegId::Second => &mut self.second,
            LegId::Parked => &mut self.parked,
        }
    }
}

impl Switchboard {
    /// Starts empty, with `calls.max` and the number of shards.
    pub fn new(calls_max: usize, shards: usize) -> Self {
        Switchboard {
            calls: BTreeMap::new(),
            by_dialog: HashMap::new(),
            parties: HashMap::new(),
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
        self.admit_past_limits(id, dialog, channels.map(|channels| channels.trunk))
    }

    /// Takes an emergency call in, however many are up; its trunk's channel is counted all the same.
    ///
    /// # Errors
    /// [`NotAdmitted::NoShard`].
    pub fn admit_past_limits(
        &mut self,
        id: CallId,
        dialog: Option<DialogId>,
        trunk: Option<&str>,
    ) -> Result<usize, NotAdmitted> {
        let open = (0..self.shard_loads.len()).filter(|shard| !self.closed.contains(shard));
        let shard = open.min_by_key(|shard| self.shard_loads[*shard]).ok_or(NotAdmitted::NoShard)?;
        self.shard_loads[shard] += 1;
        let trunk = trunk.map(str::to_owned);
        if let Some(trunk) = &trunk {
            *self.trunk_loads.entry(trunk.clone()).or_default() += 1;
        }
        let parties = Parties::default();
        let entry = Entry { dialog: None, second: None, parked: None, shard, trunk, second_trunk: None, parties };
        self.calls.insert(id, entry);
        if let Some(dialog) = dialog {
            self.bind(id, dialog);
        }
        Ok(shard)
    }

    /// Calls that are up on a trunk.
    pub fn channels(&self, trunk: &str) -> u32 {
        self.trunk_loads.get(trunk).map_or(0, |load| u32::try_from(*load).unwrap_or(u32::MAX))
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

    /// Gives a call its first leg's dialog, in place of the one it had.
    pub fn bind(&mut self, id: CallId, dialog: DialogId) {
        self.bind_leg(id, LegId::First, dialog);
    }

    /// Gives a leg its dialog, in place of the one it had.
    pub fn bind_leg(&mut self, id: CallId, leg: LegId, dialog: DialogId) {
        let Some(entry) = self.calls.get_mut(&id) else { return };
        for slot in [LegId::First, LegId::Second, LegId::Parked] {
            entry.slot(slot).take_if(|bound| *bound == dialog);
        }
        if let Some(former) = entry.slot(leg).replace(dialog) {
            self.by_dialog.remove(&former);
            self.parties.remove(&former);
        }
        self.by_dialog.insert(dialog, (id, leg));
    }

    /// The party of a leg has asked for a transfer: its dialog is parked, and who stays is the first leg, if it is one.
    pub fn park(&mut self, id: CallId, from: LegId) {
        let stays = self.dialog(id, from.other());
        if let Some(leaves) = self.dialog(id, from) {
            self.bind_leg(id, LegId::Parked, leaves);
        }
        if let Some(stays) = stays {
            self.bind_leg(id, LegId::First, stays);
        }
    }

    /// Has a call's second leg occupy a channel, in place of the one it had.
    ///
    /// # Errors
    /// [`NotAdmitted::TrunkFull`]; it has none then.
    pub fn occupy(&mut self, id: CallId, channels: Channels<'_>) -> Result<(), NotAdmitted> {
        let Some(entry) = self.calls.get_mut(&id) else { return Ok(()) };
        if let Some(load) = entry.second_trunk.take().and_then(|former| self.trunk_loads.get_mut(&former)) {
            *load -= 1;
        }
        let load = self.trunk_loads.entry(channels.trunk.to_owned()).or_default();
        if *load >= channels.max as usize {
            return Err(NotAdmitted::TrunkFull { channels_max: channels.max });
        }
        *load += 1;
        entry.second_trunk = Some(channels.trunk.to_owned());
        Ok(())
    }

    /// Says who has called whom.
    pub fn set_parties(&mut self, id: CallId, parties: Parties) {
        if let Some(entry) = self.calls.get_mut(&id) {
            entry.parties = parties;
        }
    }

    /// Says which extension is at the far end of a dialog.
    pub fn set_party(&mut self, dialog: DialogId, user: &str) {
        self.parties.insert(dialog, user.to_owned());
    }

    /// The extension at the far end of a leg.
    pub fn party(&self, id: CallId, leg: LegId) -> Option<&String> {
        self.parties.get(&self.dialog(id, leg)?)
    }

    /// Enters a dialog that may become the second leg's: one of several phones that ring at once.
    pub fn enter_branch(&mut self, id: CallId, dialog: DialogId) {
        self.by_dialog.insert(dialog, (id, LegId::Second));
    }

    /// A dialog is none of a call's any more.
    pub fn leave(&mut self, dialog: DialogId) {
        self.parties.remove(&dialog);
        if let Some((id, leg)) = self.by_dialog.remove(&dialog)
            && let Some(entry) = self.calls.get_mut(&id)
        {
            entry.slot(leg).take_if(|bound| *bound == dialog);
        }
    }

    /// The dialog of a leg.
    pub fn dialog(&self, id: CallId, leg: LegId) -> Option<DialogId> {
        let entry = self.calls.get(&id)?;
        match leg {
            LegId::First => entry.dialog,
            LegId::Second => entry.second,
            LegId::Parked => entry.parked,
        }
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
        self.leg_of(dialog).map(|(id, _)| id)
    }

    /// Whose dialog it is, and which of the call's legs.
    pub fn leg_of(&self, dialog: DialogId) -> Option<(CallId, LegId)> {
        self.by_dialog.get(&dialog).copied()
    }

    /// A call is over on its shard.
    pub fn remove(&mut self, id: CallId) -> Option<Entry> {
        let entry = self.calls.remove(&id)?;
        for dialog in entry.dialogs() {
            self.by_dialog.remove(&dialog);
            self.parties.remove(&dialog);
        }
        self.shard_loads[entry.shard] -= 1;
        for trunk in [&entry.trunk, &entry.second_trunk].into_iter().flatten() {
            if let Some(load) = self.trunk_loads.get_mut(trunk) {
                *load -= 1;
            }
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
        assert_eq!(board.admit_past_limits(CallId(6), None, Some("one")), Ok(1), "a call for help is taken in");
        board.remove(CallId(6)).expect("up");
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
