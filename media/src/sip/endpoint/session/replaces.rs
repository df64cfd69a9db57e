//! Calls that take another's place (RFC 3891).

use super::State;
use crate::sip::endpoint::respond::Reply;
use crate::sip::endpoint::{DialogId, Endpoint};
use crate::sip::message::{Replaces, Request};

impl Endpoint {
    /// The dialog that a Replaces names, as its far end would name it to us.
    pub fn dialog_of_replaces(&self, replaces: &Replaces) -> Option<DialogId> {
        let Replaces { call_id, to_tag, from_tag, .. } = replaces.clone();
        self.by_tags.get(&(call_id, to_tag, from_tag)).copied()
    }

    /// How a dialog is named to its far end, for a call that is to take its place there.
    pub fn replaces_of(&self, dialog: DialogId) -> Option<Replaces> {
        let dialog = &self.sessions.get(&dialog)?.far.dialog;
        Some(Replaces {
            call_id: dialog.call_id.clone(),
            to_tag: dialog.remote_tag.clone(),
            from_tag: dialog.local_tag.clone(),
            is_early_only: false,
        })
    }

    /// The dialog that an INVITE is to take the place of; how it is refused when that cannot be (RFC 3891 §3).
    pub(super) fn replaced_by(&self, request: &Request) -> Result<Option<DialogId>, Reply> {
        let mut values = request.headers.texts("Replaces");
        let Some(value) = values.next() else { return Ok(None) };
        let Some(replaces) = Replaces::parse(&value).filter(|_| values.next().is_none()) else {
            return Err(Reply::new(400).because("its Replaces cannot be read, or stands twice"));
        };
        let none = Reply::new(481).because("its Replaces names no dialog of this box");
        let Some(id) = self.dialog_of_replaces(&replaces) else { return Err(none) };
        let Some(session) = self.sessions.get(&id) else { return Err(none) };
        match session.state {
            State::Calling => Ok(Some(id)),
            State::Confirmed if !replaces.is_early_only => Ok(Some(id)),
            State::Confirmed => Err(Reply::new(486).because("its Replaces wants an early dialog, and it was answered")),
            State::Early => Err(Reply::new(481).because("its Replaces names a call that rings here, placed by others")),
            State::Leaving { .. } | State::Gone => {
                Err(Reply::new(603).because("its Replaces names a dialog that is ending"))
            }
        }
    }
}
