//! Recordings: where their files lie, and the links that lead to them for a day.
//!
//! ```text
//!   <store.dir>/recordings/YYYY/MM/DD/<callSid>.wav          both sides; the UTC date of the answer
//!                                     <callSid>.agent.wav    what the agent said, on the same clock
//!   <http.public_url>/recordings/<callSid>.wav?expires=<seconds>&signature=<HMAC of both>
//! ```
//!
//! Files are WAV or Opus in Ogg (`.opus`), as `recording.format` said when the call was recorded. A path is made of a
//! parsed [`CallId`] and a date, never of what a client or a journal wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::port::CallId;
use crate::secret::{Secret, equal, hex};
use crate::store::calls::Call;

/// How a recording is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// 16-bit samples as they are, 115 MB an hour of stereo at 8 kHz. The default.
    #[default]
    Wav,
    /// Opus in Ogg (RFC 7845), a sixth of that; writing it takes 1.5 % of a core for each call.
    Opus,
}

impl Format {
    /// Both.
    pub const ALL: [Format; 2] = [Format::Wav, Format::Opus];

    /// What files of it end in.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Wav => "wav",
            Format::Opus => "opus",
        }
    }

    /// Its media type (RFC 5334 §10.1, RFC 7845 §9).
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Wav => "audio/wav",
            Format::Opus => "audio/ogg; codecs=opus",
        }
    }

    /// That of a file.
    fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        Format::ALL.into_iter().find(|format| format.extension() == extension)
    }
}

/// Which file of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Both sides: left what was heard, right what was sent.
    Sides,
    /// What the agent said before it was paced and sent.
    Agent,
}

impl Track {
    /// What its name has between the call's and the extension.
    fn infix(self) -> &'static str {
        match self {
            Track::Sides => "",
            Track::Agent => ".agent",
        }
    }
}

/// The name of a file in a link: whose it is, which, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileName {
    /// The call.
    pub id: CallId,
    /// Which file.
    pub track: Track,
    /// In which format.
    pub format: Format,
}

impl FileName {
    /// Reads `<callSid>.wav` or `<callSid>.agent.opus`; `None` for anything else.
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, extension) = name.rsplit_once('.')?;
        let format = Format::ALL.into_iter().find(|format| format.extension() == extension)?;
        let (id, track) = match rest.strip_suffix(Track::Agent.infix()) {
            Some(id) => (id, Track::Agent),
            None => (rest, Track::Sides),
        };
        Some(FileName { id: id.parse().ok()?, track, format })
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}.{}", self.id, self.track.infix(), self.format.extension())
    }
}

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
    /// What links begin with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A folder beside that of the recordings.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.with_file_name(name)
    }

    /// The files lie in `dir`; links begin with `base`, which never comes from a request.
    pub fn new(dir: PathBuf, base: &str, secret: Secret) -> Self {
        Recordings { dir, base: base.trim_end_matches('/').into(), secret }
    }

    /// The links to a call's recordings: none, or one that is valid for 24 hours from now. It looks at the disk where
    /// the journal did not tell of a file, as when a crash came first.
    pub fn links(&self, call: &Call, now_ms: i64) -> Vec<String> {
        let Ok(id) = call.id.parse::<CallId>() else { return Vec::new() };
        let told = call.recording_file.as_deref().and_then(|file| format_of(file, id));
        let found = || call.ended_ms.and_then(|_| Format::of_path(&self.find(call, Track::Sides)?));
        let format = told.or_else(found);
        let link = |format| self.link(FileName { id, track: Track::Sides, format }, now_ms);
        format.map(link).into_iter().collect()
    }

    /// The link to what the agent said, if that was recorded.
    pub fn agent_link(&self, call: &Call, now_ms: i64) -> Option<String> {
        let format = Format::of_path(&self.find(call, Track::Agent)?)?;
        Some(self.link(FileName { id: call.id.parse().ok()?, track: Track::Agent, format }, now_ms))
    }

    /// A file of a call, if it is there.
    pub fn find(&self, call: &Call, track: Track) -> Option<PathBuf> {
        let id: CallId = call.id.parse().ok()?;
        let told = call.recording_file.clone().filter(|file| format_of(file, id).is_some());
        // Two clocks were read at the answer, perhaps on both sides of midnight.
        let answers = call.answered_ms.map(|at_ms| [at_ms, at_ms - NEAR_MS, at_ms + NEAR_MS]);
        let guessed = answers.into_iter().flatten().flat_map(|at_ms| Format::ALL.map(|format| (at_ms, format)));
        let guessed = guessed.filter_map(|(at_ms, format)| file_of(id, at_ms, format));
        let mut paths = told.into_iter().chain(guessed).map(|file| {
            let extension = Format::of_path(Path::new(&file)).unwrap_or_default().extension();
            let path = self.dir.join(file);
            if track == Track::Agent { path.with_extension(format!("agent.{extension}")) } else { path }
        });
        paths.find(|path| Path::is_file(path))
    }

    /// A link that is valid for 24 hours.
    fn link(&self, name: FileName, now_ms: i64) -> String {
        let expires_s = now_ms.div_euclid(1000) + VALID_S;
        format!("{}/recordings/{name}?expires={expires_s}&signature={}", self.base, self.signature(name, expires_s))
    }

    /// Checks what a link carries.
    ///
    /// # Errors
    /// [`BadLink`].
    pub fn check(&self, name: FileName, expires: &str, signature: &str, now_ms: i64) -> Result<(), BadLink> {
        let expires_s: i64 = expires.parse().map_err(|_| BadLink)?;
        let is_ours = equal(self.signature(name, expires_s).as_bytes(), signature.as_bytes());
        if is_ours && now_ms.div_euclid(1000) < expires_s { Ok(()) } else { Err(BadLink) }
    }

    fn signature(&self, name: FileName, expires_s: i64) -> String {
        hex(&self.secret.mac("recording link", format!("{name}.{expires_s}").as_bytes()))
    }
}

/// The file of a call that was answered then, relative to the folder of recordings.
pub fn file_of(id: CallId, answered_ms: i64, format: Format) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(answered_ms).ok()?;
    Some(format!("{}/{id}.{}", at.strftime("%Y/%m/%d"), format.extension()))
}

/// The format of a file of this call; `None` when it is none: a date and the id, nothing else.
pub fn format_of(file: &str, id: CallId) -> Option<Format> {
    let (date, name) = file.rsplit_once('/')?;
    let name = FileName::parse(name).filter(|name| name.id == id && name.track == Track::Sides)?;
    let parts: Vec<&str> = date.split('/').collect();
    let is_number = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
    let [year, month, day] = parts[..] else { return None };
    (is_number(year, 4) && is_number(month, 2) && is_number(day, 2)).then_some(name.format)
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
        let file = file_of(id, 1_741_584_039_831, Format::Wav).expect("a time");
        assert_eq!(file, "2025/03/10/CA0000000000000000000000000000feed.wav");
        assert_eq!(format_of(&file, id), Some(Format::Wav));
        assert_eq!(format_of(&file.replace(".wav", ".opus"), id), Some(Format::Opus));
        assert_eq!(format_of(&file, CallId(1)), None);
        for bad in [
            "CA0000000000000000000000000000feed.wav",
            "/2025/03/10/CA0000000000000000000000000000feed.wav",
            "2025/03/../CA0000000000000000000000000000feed.wav",
            "../../../CA0000000000000000000000000000feed.wav",
            "2025/03/10/x/CA0000000000000000000000000000feed.wav",
            "2025/03/10/CA0000000000000000000000000000feed.mp3",
            "2025/03/10/CA0000000000000000000000000000feed.agent.wav",
            "",
        ] {
            assert_eq!(format_of(bad, id), None, "{bad}");
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
        let name = FileName { id, track: Track::Sides, format: Format::Wav };
        let link = ours.link(name, 1_000_500);
        let (base, query) = link.split_once('?').expect("a query");
        assert_eq!(base, "https://box.example/recordings/CA0000000000000000000000000000feed.wav");
        let (expires, signature) = query.split_once("&signature=").expect("a signature");
        let expires = expires.strip_prefix("expires=").expect("an end");
        assert_eq!(expires, "87400");
        assert_eq!(ours.check(name, expires, signature, 87_399_999), Ok(()));
        assert_eq!(ours.check(name, expires, signature, 87_400_000), Err(BadLink), "a day later");
        assert_eq!(ours.check(FileName { id: CallId(1), ..name }, expires, signature, 0), Err(BadLink));
        assert_eq!(ours.check(FileName { track: Track::Agent, ..name }, expires, signature, 0), Err(BadLink));
        assert_eq!(ours.check(FileName { format: Format::Opus, ..name }, expires, signature, 0), Err(BadLink));
        assert_eq!(ours.check(name, "87401", signature, 0), Err(BadLink));
        assert_eq!(ours.check(name, "never", signature, 0), Err(BadLink));
        assert_eq!(ours.check(name, expires, &signature[..63], 0), Err(BadLink));
        assert_eq!(ours.check(name, expires, "", 0), Err(BadLink));
        assert_eq!(another.check(name, expires, signature, 0), Err(BadLink));
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let id = CallId(0xfeed);
        for track in [Track::Sides, Track::Agent] {
            for format in Format::ALL {
                let name = FileName { id, track, format };
                assert_eq!(FileName::parse(&name.to_string()), Some(name));
            }
        }
        for bad in ["", ".wav", "CA.wav", "CA0000000000000000000000000000feed.agent.agent.wav", "x.agent.opus"] {
            assert_eq!(FileName::parse(bad), None, "{bad}");
        }
    }
}
