//! Recordings: where their files lie, and the links that lead to them for a day.
//!
//! ```text
//!   <store.dir>/recordings/YYYY/MM/DD/<callSid>.wav        the UTC date of the answer
//!   <http.public_url>/recordings/<callSid>.wav?expires=<seconds>&signature=<HMAC of both>
//! ```
//!
//! A path is made of a parsed [`CallId`] and a date, never of what a client or a journal wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::port::CallId;
use crate::secret::{Secret, equal, hex};
use crate::store::calls::Call;

/// The recordings of one box.
#[derive(Clone)]
pub struct Recordings {
    dir: PathBuf,
    base: Arc<str>,
    secret: Secret,
}

/// The link was not made here, or has expired. The client's doing; answer 403 and nothing more.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("the link is not valid or has expired")]
pub struct BadLink;

impl Recordings {
    /// The files lie in `dir`; links begin with `base`, which never comes from a request.
    pub fn new(dir: PathBuf, base: &str, secret: Secret) -> Self {
        Recordings { dir, base: base.trim_end_matches('/').into(), secret }
    }

    /// The links to a call's recordings: none, or one that is valid for 24 hours from now. It looks at the disk where
    /// the journal did not tell of a file, as when a crash came first.
    pub fn links(&self, call: &Call, now_ms: i64) -> Vec<String> {
        let Ok(id) = call.id.parse::<CallId>() else { return Vec::new() };
        let is_told = call.recording_file.as_deref().is_some_and(|file| is_file_of(file, id));
        let is_there = || call.ended_ms.is_some() && self.find(call).is_some();
        if is_told || is_there() { vec![self.link(id, now_ms)] } else { Vec::new() }
    }

    /// The file of a call, if it is there.
    pub fn find(&self, call: &Call) -> Option<PathBuf> {
        let id: CallId = call.id.parse().ok()?;
        let told = call.recording_file.clone().filter(|file| is_file_of(file, id));
        // Two clocks were read at the answer, perhaps on both sides of midnight.
        let answers = call.answered_ms.map(|at_ms| [at_ms, at_ms - NEAR_MS, at_ms + NEAR_MS]);
        let guessed = answers.into_iter().flatten().filter_map(|at_ms| file_of(id, at_ms));
        told.into_iter().chain(guessed).map(|file| self.dir.join(file)).find(|path| Path::is_file(path))
    }

    /// A link that is valid for 24 hours.
    fn link(&self, id: CallId, now_ms: i64) -> String {
        let expires_s = now_ms.div_euclid(1000) + VALID_S;
        format!("{}/recordings/{id}.wav?expires={expires_s}&signature={}", self.base, self.signature(id, expires_s))
    }

    /// Checks what a link carries.
    ///
    /// # Errors
    /// [`BadLink`].
    pub fn check(&self, id: CallId, expires: &str, signature: &str, now_ms: i64) -> Result<(), BadLink> {
        let expires_s: i64 = expires.parse().map_err(|_| BadLink)?;
        let is_ours = equal(self.signature(id, expires_s).as_bytes(), signature.as_bytes());
        if is_ours && now_ms.div_euclid(1000) < expires_s { Ok(()) } else { Err(BadLink) }
    }

    fn signature(&self, id: CallId, expires_s: i64) -> String {
        hex(&self.secret.mac("recording link", format!("{id}.{expires_s}").as_bytes()))
    }
}

/// The file of a call that was answered then, relative to the folder of recordings.
pub fn file_of(id: CallId, answered_ms: i64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(answered_ms).ok()?;
    Some(format!("{}/{id}.wav", at.strftime("%Y/%m/%d")))
}

/// Tells whether a name is that of a file of this call: a date and the id, nothing else.
pub fn is_file_of(file: &str, id: CallId) -> bool {
    let Some(date) = file.strip_suffix(&format!("/{id}.wav")) else { return false };
    let parts: Vec<&str> = date.split('/').collect();
    let is_number = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], [year, month, day] if is_number(year, 4) && is_number(month, 2) && is_number(day, 2))
}

/// 24 hours.
const VALID_S: i64 = 24 * 3600;

/// One minute.
const NEAR_MS: i64 = 60_000;

/// In the data directory: the call plane writes there, the control plane reads.
pub const RECORDINGS_DIR: &str = "recordings";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_date_and_the_own_id_are_a_file_of_a_call() {
        let id = CallId(0xfeed);
        let file = file_of(id, 1_741_584_039_831).expect("a time");
        assert_eq!(file, "2025/03/10/CA0000000000000000000000000000feed.wav");
        assert!(is_file_of(&file, id));
        assert!(!is_file_of(&file, CallId(1)));
        for bad in [
            "CA0000000000000000000000000000feed.wav",
            "/2025/03/10/CA0000000000000000000000000000feed.wav",
            "2025/03/../CA0000000000000000000000000000feed.wav",
            "../../../CA0000000000000000000000000000feed.wav",
            "2025/03/10/x/CA0000000000000000000000000000feed.wav",
            "2025/03/10/CA0000000000000000000000000000feed.mp3",
            "",
        ] {
            assert!(!is_file_of(bad, id), "{bad}");
        }
    }

    #[test]
    fn a_link_is_good_for_a_day_for_its_own_call_and_on_its_own_box() {
        let dir = tempfile::tempdir().expect("a directory");
        let of = |key: &str| {
            let secret = Secret::open(&dir.path().join(key)).expect("made");
            Recordings::new(dir.path().into(), "https://box.example/", secret)
        };
        let (ours, another) = (of("a.key"), of("b.key"));
        let id = CallId(0xfeed);
        let link = ours.link(id, 1_000_500);
        let (base, query) = link.split_once('?').expect("a query");
        assert_eq!(base, "https://box.example/recordings/CA0000000000000000000000000000feed.wav");
        let (expires, signature) = query.split_once("&signature=").expect("a signature");
        let expires = expires.strip_prefix("expires=").expect("an end");
        assert_eq!(expires, "87400");
        assert_eq!(ours.check(id, expires, signature, 87_399_999), Ok(()));
        assert_eq!(ours.check(id, expires, signature, 87_400_000), Err(BadLink), "a day later");
        assert_eq!(ours.check(CallId(1), expires, signature, 0), Err(BadLink));
        assert_eq!(ours.check(id, "87401", signature, 0), Err(BadLink));
        assert_eq!(ours.check(id, "never", signature, 0), Err(BadLink));
        assert_eq!(ours.check(id, expires, &signature[..63], 0), Err(BadLink));
        assert_eq!(ours.check(id, expires, "", 0), Err(BadLink));
        assert_eq!(another.check(id, expires, signature, 0), Err(BadLink));
    }
}
