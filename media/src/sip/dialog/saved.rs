//! A dialog as it is kept outside of memory, so that a later process can end it.

use serde::{Deserialize, Serialize};

use super::Dialog;
use crate::sip::message::Uri;

/// What a BYE needs of its dialog. Names and numbers of both sides stand in it: personal data.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedDialog {
    call_id: String,
    local_tag: String,
    remote_tag: String,
    local: String,
    remote: String,
    #[serde(default)]
    routes: Vec<String>,
    target: String,
    cseq: u32,
}

/// Names and numbers are personal.
impl std::fmt::Debug for SavedDialog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SavedDialog(•••)")
    }
}

impl Dialog {
    /// What is to be kept.
    pub fn save(&self) -> SavedDialog {
        SavedDialog {
            call_id: self.call_id.clone(),
            local_tag: self.local_tag.clone(),
            remote_tag: self.remote_tag.clone(),
            local: self.local.clone(),
            remote: self.remote.clone(),
            routes: self.routes.clone(),
            target: self.target.to_string(),
            cseq: self.local_cseq,
        }
    }

    /// The dialog that was kept; `None` when a value cannot stand in a message. Its numbers go on at a distance:
    /// requests may have been sent since it was saved.
    pub fn restored(saved: SavedDialog) -> Option<Self> {
        let SavedDialog { call_id, local_tag, remote_tag, local, remote, routes, target, cseq } = saved;
        let is_line = |value: &String| !value.contains(char::is_control);
        if ![&call_id, &local_tag, &remote_tag, &local, &remote].into_iter().all(is_line) || !routes.iter().all(is_line)
        {
            return None;
        }
        Some(Dialog {
            call_id,
            local_tag,
            remote_tag,
            local,
            remote,
            routes,
            target: Uri::parse(&target)?,
            local_cseq: cseq.checked_add(CSEQ_GAP).filter(|cseq| *cseq < CSEQ_MAX)?,
            remote_cseq: None,
        })
    }
}

/// 1,000 requests within one dialog after it was saved: probes of a call that lasts hours. Gaps are allowed (RFC 3261
/// §12.2.2).
const CSEQ_GAP: u32 = 1000;

/// RFC 3261 §8.1.1.5: less than 2^31, and one is left for the BYE.
const CSEQ_MAX: u32 = (1 << 31) - 1;
