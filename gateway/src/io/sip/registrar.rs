//! Our own phones: what they register is kept, also on disk, and what they ask for is theirs to ask only with their
//! password.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use talkstack_control::port::{ContactState, ExtensionRoute, Sealed};
use talkstack_control::secret::{EXTENSION_PASSWORD_PURPOSE, Secret};
use talkstack_media::sip::auth::{Authenticator, Claim, Ha1s, Source, Verdict};
use talkstack_media::sip::message::Request;
use talkstack_media::sip::registrar::{Binding, Registering, Registrar, SavedBinding, Way};
use talkstack_media::sip::{Flow, Offered, OutsideReply, Refusal, ServerRequestId};

use super::SipThread;
use crate::snapshot_file;

/// The phones, and what proves them.
pub(super) struct Phones {
    registrar: Registrar,
    authenticator: Authenticator,
    /// By user: the sealed password, and what it hashes to.
    passwords: BTreeMap<String, (Sealed, Ha1s)>,
    writer: Writer,
    /// When what has changed is written down.
    write_at: Option<Instant>,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Caller {
    /// A phone of our own that has proven to be this user's.
    Extension(String),
    /// Anyone else; a trunk among them.
    Stranger,
    /// Somebody who says to be one of our users and has not proven it: refuse so.
    Unproven(Refusal),
}

/// A thread that replaces one file: the SIP thread waits for no disk.
struct Writer {
    path: PathBuf,
    sender: Option<mpsc::SyncSender<Vec<SavedBinding>>>,
    thread: Option<JoinHandle<()>>,
}

impl Phones {
    /// Starts with what was bound when the box stopped. `seed` must be unpredictable.
    pub(super) fn open(path: PathBuf, seed: [u8; 32], now: Instant) -> Self {
        let mut registrar = Registrar::default();
        match snapshot_file::load_as::<Vec<SavedBinding>>(FORMAT, &path) {
            Ok(saved) => registrar.restore(&saved.unwrap_or_default(), now, unix()),
            Err(error) => tracing::error!("{error}: phones ring again when they have registered anew"),
        }
        let authenticator = Authenticator::new(REALM, seed, now);
        Phones { registrar, authenticator, passwords: BTreeMap::new(), writer: Writer::start(path), write_at: None }
    }

    /// When [`Phones::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.registrar.poll_timeout().into_iter().chain(self.write_at).min()
    }

    /// Forgets what has expired, and writes down what has changed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.registrar.handle_timeout(now);
        if self.registrar.take_change() {
            self.write_at.get_or_insert(now + WRITE_AFTER);
        }
        if self.write_at.is_some_and(|at| at <= now) {
            let is_taken = self.writer.write(self.registrar.saved(now, unix()));
            self.write_at = (!is_taken).then_some(now + WRITE_AFTER);
        }
    }

    /// Takes over the extensions of another configuration. Who is gone, or has another password, is bound no more.
    pub(super) fn apply(&mut self, extensions: &BTreeMap<String, ExtensionRoute>, secret: &Secret) {
        let mut passwords = BTreeMap::new();
        for (user, extension) in extensions {
            let Some(sealed) = &extension.password else { continue };
            match self.passwords.remove(user).filter(|(known, _)| known == sealed) {
                Some(known) => drop(passwords.insert(user.clone(), known)),
                None => match secret.unseal(EXTENSION_PASSWORD_PURPOSE, sealed) {
                    Ok(password) => {
                        let ha1s = Ha1s::new(user, REALM, &password);
                        passwords.insert(user.clone(), (sealed.clone(), ha1s));
                    }
                    Err(error) => tracing::error!("An extension's password: {error}"),
                },
            }
        }
        self.passwords = passwords;
        self.registrar.retain(|user| extensions.contains_key(user));
    }

    /// Ways to a user's phones, the preferred first.
    pub(super) fn ways(&self, user: &str, now: Instant) -> Vec<Way> {
        self.registrar.ways(user, now)
    }

    /// What each user's phones have bound.
    pub(super) fn states<'a>(
        &self,
        users: impl Iterator<Item = &'a String>,
        now: Instant,
    ) -> BTreeMap<String, Vec<ContactState>> {
        let states = |user: &str| self.registrar.bindings(user, now).map(|binding| state(binding, now)).collect();
        users.map(|user| (user.clone(), states(user))).collect()
    }

    /// A stream has ended.
    pub(super) fn handle_stream_closed(&mut self, stream: talkstack_media::sip::StreamId) {
        self.registrar.handle_stream_closed(stream);
    }

    /// Writes down what is bound, before the box stops.
    pub(super) fn close(&mut self, now: Instant) {
        self.writer.finish(&self.registrar.saved(now, unix()));
    }

    fn judge(&mut self, claim: &Claim<'_>, now: Instant) -> Verdict {
        let passwords = &self.passwords;
        self.authenticator.judge(claim, |user| passwords.get(user).map(|(_, ha1s)| ha1s.clone()), now)
    }

    /// A phone of this user has registered from there.
    fn is_bound_at(&self, user: &str, flow: &Flow, now: Instant) -> bool {
        let mut bound = self.registrar.bindings(user, now);
        bound.any(|binding| binding.flow.remote == flow.remote || binding.way().flow.remote == flow.remote)
    }
}

impl SipThread {
    /// A phone wants to be bound, or to know what is.
    pub(super) fn handle_registering(&mut self, id: ServerRequestId, flow: &Flow, request: &Request, now: Instant) {
        let answers: Vec<String> = request.headers.texts("Authorization").map(|value| value.into_owned()).collect();
        let asker = request.core.to.uri.sip().and_then(|uri| uri.plain_user()).unwrap_or_default();
        let claim = Claim {
            method: request.method.as_str(),
            asker: &asker,
            uri: &request.uri,
            answers: &answers,
            source: Source { ip: flow.remote.ip(), transport: flow.transport },
            is_trunk: self.dialling.trunks.trunk_of(flow.remote.ip()).is_some(),
        };
        let phones = &mut self.dialling.accounts.phones;
        let reply = match phones.judge(&claim, now) {
            Verdict::Proven(user) => {
                let contacts_max = self.snapshot.extensions.get(&user).map_or(0, |extension| extension.contacts_max);
                let contacts_max = if contacts_max == 0 { CONTACTS_DEFAULT } else { contacts_max as usize };
                let registering = Registering { user: &user, request, flow, contacts_max };
                let reply = phones.registrar.handle_register(registering, now);
                tracing::debug!("A phone's REGISTER got {}", reply.status);
                reply
            }
            Verdict::Challenge(offered) => {
                let reply = OutsideReply { rule: failure(&answers, &offered), ..OutsideReply::new(401) };
                offered.into_iter().fold(reply, |reply, value| reply.with("WWW-Authenticate", value))
            }
            Verdict::Banned => OutsideReply::new(403).because(BANNED),
        };
        self.endpoint.respond_outside(id, reply, now);
        self.dialling.accounts.phones.handle_timeout(now);
    }

    /// The phone that a caller says to be, if that one has registered from where the call comes from.
    pub(super) fn bound_caller(&self, offered: &Offered) -> Option<(&String, &ExtensionRoute)> {
        let user = offered.from.uri.sip().and_then(|uri| uri.plain_user())?;
        let phones = &self.dialling.accounts.phones;
        let is_bound = phones.is_bound_at(&user, &offered.flow, Instant::now());
        self.snapshot.extensions.get_key_value(&*user).filter(|_| is_bound)
    }

    /// Tells who calls. Who says to be a user of ours, or answers a challenge of ours, must prove it. From a trunk's
    /// address that is asked of nobody but the phones that have registered from there: the numbers that a trunk
    /// presents may look like ours.
    pub(super) fn authenticate_offered(&mut self, offered: &Offered, now: Instant) -> Caller {
        let user = offered.from.uri.sip().and_then(|uri| uri.plain_user()).unwrap_or_default();
        let flow = &offered.flow;
        let is_trunk = self.dialling.trunks.trunk_of(flow.remote.ip()).is_some();
        let phones = &mut self.dialling.accounts.phones;
        let claims = if is_trunk {
            phones.is_bound_at(&user, flow, now)
        } else {
            self.snapshot.extensions.contains_key(&user) || !offered.authorization.is_empty()
        };
        if !claims {
            return Caller::Stranger;
        }
        let claim = Claim {
            method: "INVITE",
            asker: &user,
            uri: &offered.request_uri,
            answers: &offered.authorization,
            source: Source { ip: flow.remote.ip(), transport: flow.transport },
            is_trunk,
        };
        match phones.judge(&claim, now) {
            Verdict::Proven(user) => Caller::Extension(user),
            Verdict::Challenge(values) => Caller::Unproven(Refusal {
                reason: failure(&offered.authorization, &values),
                fields: values.into_iter().map(|value| ("WWW-Authenticate", value)).collect(),
                ..Refusal::new(401)
            }),
            Verdict::Banned => Caller::Unproven(Refusal { reason: Some(BANNED.into()), ..Refusal::new(403) }),
        }
    }
}

impl Writer {
    fn start(path: PathBuf) -> Self {
        let (sender, receiver) = mpsc::sync_channel::<Vec<SavedBinding>>(1);
        let file = path.clone();
        let thread = std::thread::Builder::new().name("bindings".into()).spawn(move || {
            crate::priority::step_back();
            receiver.iter().for_each(|saved| save(&file, &saved));
        });
        // Without a thread nothing is written while the box runs, and all of it when it stops.
        Writer { path, sender: thread.is_ok().then_some(sender), thread: thread.ok() }
    }

    /// Hands the bindings over; `false` while the disk is still busy with the last ones.
    fn write(&self, saved: Vec<SavedBinding>) -> bool {
        self.sender.as_ref().is_none_or(|sender| sender.try_send(saved).is_ok())
    }

    fn finish(&mut self, saved: &[SavedBinding]) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        save(&self.path, saved);
    }
}

fn save(path: &Path, saved: &[SavedBinding]) {
    if let Err(error) = snapshot_file::save_as(FORMAT, path, saved) {
        tracing::error!("What phones have registered cannot be written down ({error}): a restart would forget it");
    }
}

/// An answer that was wrong is worth telling; one that comes too late, or none, is the usual first half.
fn failure(answers: &[String], offered: &[String]) -> Option<String> {
    let is_stale = offered.iter().any(|value| value.contains("stale=true"));
    (!answers.is_empty() && !is_stale).then(|| "the secret or the extension is wrong".into())
}

fn state(binding: &Binding, now: Instant) -> ContactState {
    let left = binding.expires_at.saturating_duration_since(now).as_secs();
    ContactState {
        contact: binding.contact.to_string(),
        address: binding.flow.remote.to_string(),
        transport: binding.flow.transport.via_name().to_ascii_lowercase(),
        user_agent: binding.user_agent.clone(),
        expires_s: u32::try_from(left).unwrap_or(u32::MAX),
    }
}

/// The time since the Unix epoch.
fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The realm of our challenges. It is the same for all boxes and all time: passwords are hashed with it.
const REALM: &str = "talkstack";

/// The first word of the file.
const FORMAT: &str = "talkstack-bindings-1";

/// Why a source gets 403.
const BANNED: &str = "this address has given 10 wrong secrets and is locked out for 5 minutes or more";

/// 5 phones where the extension says nothing.
const CONTACTS_DEFAULT: usize = 5;

/// 1 s: a thousand phones that register at once are one write.
const WRITE_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
impl Phones {
    /// Registers a phone of the user at an address.
    pub(super) fn bind(&mut self, user: &str, flow: &Flow) {
        use talkstack_media::sip::message::{Framing, Message, parse};
        let text = format!(
            "REGISTER sip:box SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:{user}@box>;tag=7\r\n\
             To: <sip:{user}@box>\r\nCall-ID: {remote}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@{remote}>\r\n\r\n",
            remote = flow.remote
        );
        let Ok(Message::Request(request)) = parse(text.as_bytes(), Framing::Datagram) else { panic!("a request") };
        let registering = Registering { user, request: &request, flow, contacts_max: 5 };
        assert_eq!(self.registrar.handle_register(registering, Instant::now()).status, 200);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_is_on_disk_a_second_later_and_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("bindings");
        let now = Instant::now();
        let mut phones = Phones::open(path.clone(), [1; 32], now);
        assert_eq!(phones.poll_timeout(), None);
        register(&mut phones, now);
        phones.handle_timeout(now);
        assert_eq!(phones.poll_timeout(), Some(now + WRITE_AFTER));
        phones.handle_timeout(now + WRITE_AFTER);
        phones.close(now);
        let after = Phones::open(path.clone(), [2; 32], now);
        assert_eq!(after.ways("101", now), phones.ways("101", now));
        assert_eq!(after.ways("101", now).len(), 1);
        std::fs::write(&path, "nonsense").expect("written");
        assert!(Phones::open(path, [3; 32], now).ways("101", now).is_empty(), "the box starts all the same");
    }

    #[test]
    fn who_is_no_user_any_more_is_bound_no_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let now = Instant::now();
        let secret = Secret::open(&dir.path().join("secret.key")).expect("made");
        let mut phones = Phones::open(dir.path().join("bindings"), [1; 32], now);
        let password = Some(secret.seal(EXTENSION_PASSWORD_PURPOSE, "s3cret"));
        let extensions = BTreeMap::from([("101".to_owned(), ExtensionRoute { password, ..ExtensionRoute::default() })]);
        phones.apply(&extensions, &secret);
        register(&mut phones, now);
        phones.apply(&extensions, &secret);
        assert_eq!(phones.states(extensions.keys(), now)["101"].len(), 1);
        phones.apply(&BTreeMap::new(), &secret);
        assert!(phones.ways("101", now).is_empty() && phones.passwords.is_empty());
    }

    fn register(phones: &mut Phones, now: Instant) {
        use talkstack_media::sip::message::{Framing, Message, parse};
        let text = "REGISTER sip:box SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:101@box>;tag=7\r\n\
            To: <sip:101@box>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\nContact: <sip:101@127.0.0.1:5070>\r\n\r\n";
        let Ok(Message::Request(request)) = parse(text.as_bytes(), Framing::Datagram) else { panic!("a request") };
        let flow = Flow {
            transport: talkstack_media::sip::Transport::Udp,
            local: "127.0.0.1:5060".parse().expect("address"),
            remote: "127.0.0.1:5070".parse().expect("address"),
            stream: None,
        };
        let registering = Registering { user: "101", request: &request, flow: &flow, contacts_max: 5 };
        assert_eq!(phones.registrar.handle_register(registering, now).status, 200);
    }
}
