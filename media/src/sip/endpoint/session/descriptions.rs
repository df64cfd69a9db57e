//! Offers and answers of one dialog (RFC 3264, RFC 6337 §2): whose offer is open, and what was last agreed.

use std::time::Instant;

use crate::sip::endpoint::TransactionKey;

/// The state of offer and answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Descriptions {
    open: Option<Open>,
    /// Ours, as last agreed.
    local: Option<Vec<u8>>,
    /// Theirs, as last agreed or as an unreliable response let it be seen.
    remote: Option<Vec<u8>>,
    /// The UPDATE or PRACK whose offer waits for our answer, and until when.
    pub(super) waiting: Option<(TransactionKey, Instant)>,
}

/// An offer without its answer.
#[derive(Debug, Clone)]
enum Open {
    Ours(Vec<u8>),
    Theirs(Vec<u8>),
}

impl Descriptions {
    /// Their offer has come.
    pub(super) fn handle_offer(&mut self, sdp: Vec<u8>) {
        self.open = Some(Open::Theirs(sdp));
    }

    /// Ours goes out.
    pub(super) fn offer(&mut self, sdp: &[u8]) {
        self.open = Some(Open::Ours(sdp.to_vec()));
    }

    /// Their answer has come; without one what was seen before counts.
    pub(super) fn handle_answer(&mut self, sdp: Option<&[u8]>) {
        if let Some(Open::Ours(ours)) = self.open.take_if(|open| matches!(open, Open::Ours(_))) {
            self.local = Some(ours);
            if let Some(sdp) = sdp {
                self.remote = Some(sdp.to_vec());
            }
        }
    }

    /// An unreliable response shows what the answer will be (RFC 3261 §13.2.1).
    pub(super) fn preview(&mut self, sdp: &[u8]) {
        self.remote = Some(sdp.to_vec());
    }

    /// Ours goes out: the answer to their open offer, else an offer.
    pub(super) fn describe(&mut self, sdp: &[u8]) {
        match self.open.take() {
            Some(Open::Theirs(theirs)) => {
                self.local = Some(sdp.to_vec());
                self.remote = Some(theirs);
            }
            Some(Open::Ours(_)) | None => self.offer(sdp),
        }
    }

    /// The open offer was refused: all stays as it was (RFC 3261 §14.1).
    pub(super) fn withdraw(&mut self) {
        self.open = None;
    }

    pub(super) fn is_ours_open(&self) -> bool {
        matches!(self.open, Some(Open::Ours(_)))
    }

    pub(super) fn is_theirs_open(&self) -> bool {
        matches!(self.open, Some(Open::Theirs(_)))
    }

    /// Tells whether an answer has followed every offer.
    pub(super) fn is_agreed(&self) -> bool {
        self.open.is_none() && self.local.is_some()
    }

    /// Ours, when an offer of theirs is the description that they have agreed to before.
    pub(super) fn unchanged(&self, offer: &[u8]) -> Option<&[u8]> {
        let local = self.local.as_deref()?;
        (self.open.is_none() && self.remote.as_deref() == Some(offer)).then_some(local)
    }

    /// Ours, as last agreed.
    pub(super) fn local(&self) -> Option<&[u8]> {
        self.local.as_deref()
    }

    /// Theirs, as last agreed.
    pub(super) fn remote(&self) -> Option<&[u8]> {
        self.remote.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_open_until_its_answer_and_a_refused_one_changes_nothing() {
        let mut descriptions = Descriptions::default();
        descriptions.handle_offer(b"theirs".to_vec());
        assert!(descriptions.is_theirs_open() && !descriptions.is_agreed());
        descriptions.describe(b"ours");
        assert!(descriptions.is_agreed());
        descriptions.offer(b"more");
        assert!(descriptions.is_ours_open());
        descriptions.withdraw();
        assert_eq!((descriptions.local(), descriptions.remote()), (Some(&b"ours"[..]), Some(&b"theirs"[..])));
        descriptions.describe(b"late offer");
        assert!(descriptions.is_ours_open(), "nothing of theirs was open");
        descriptions.handle_answer(Some(b"late answer"));
        assert_eq!(
            (descriptions.local(), descriptions.remote()),
            (Some(&b"late offer"[..]), Some(&b"late answer"[..]))
        );
    }

    #[test]
    fn only_what_they_have_agreed_to_is_a_refresh() {
        let mut descriptions = Descriptions::default();
        assert_eq!(descriptions.unchanged(b"theirs"), None);
        descriptions.offer(b"ours");
        descriptions.preview(b"theirs");
        assert_eq!(descriptions.unchanged(b"theirs"), None, "it is not agreed");
        descriptions.handle_answer(None);
        assert_eq!(descriptions.unchanged(b"theirs"), Some(&b"ours"[..]), "what was seen before counts");
        assert_eq!(descriptions.unchanged(b"others"), None);
    }
}
