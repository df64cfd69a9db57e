//! A control plane of its own for each test, with a clock that stands still and a call plane that follows a script.

// Each test program uses a part of it.
#![allow(dead_code)]

pub(crate) mod receiver;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request};
use serde_json::{Value, json};
use talkstack_control::auth::password::Cost;
use talkstack_control::clock::Clock;
use talkstack_control::http::make_call::DialSettings;
use talkstack_control::http::{Service, Settings, SignupPolicy};
use talkstack_control::ingest::ingest;
use talkstack_control::port::{
    Blame, CallEvent, CallId, CallPlane, CallStarted, Command, CommandId, CommandReply, DialOrder, Direction,
    EndReason, JournalRecord, Outcome, PlaneError, Position, Snapshot,
};
use talkstack_control::secret::Secret;
use talkstack_control::server::{Control, ControlConfig};
use talkstack_control::store::deliveries::Entry;
use talkstack_control::store::{Store, StoreError, calls, deliveries, mails, settings};
use talkstack_control::webhook::Outbound;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

/// A control plane, and who asks it.
#[derive(Clone)]
pub(crate) struct Bench {
    service: Service,
    pub(crate) store: Store,
    pub(crate) setup_token: Option<String>,
    now_ms: Arc<AtomicI64>,
    pub(crate) plane: Arc<Scripted>,
    peer: SocketAddr,
    headers: Vec<(String, String)>,
    dir: Arc<TempDir>,
}

/// What a box is started with.
struct Start {
    settings: Settings,
    dial: DialSettings,
    loopback_ports: Arc<[u16]>,
    dir: Arc<TempDir>,
    /// `None`: the directory's.
    store: Option<Store>,
    now_ms: Arc<AtomicI64>,
}

impl Default for Start {
    fn default() -> Self {
        Start {
            settings: Settings { signup: SignupPolicy::Open, literal_typos: false },
            dial: DialSettings::default(),
            loopback_ports: [].into(),
            dir: Arc::new(tempfile::tempdir().expect("a directory")),
            store: None,
            now_ms: Arc::new(AtomicI64::new(START_MS)),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// The machine-readable code of a failure with this status.
    pub(crate) fn code(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        self.body["code"].as_str().unwrap_or_default().to_owned()
    }

    /// All that a client could tell two answers apart by, but for the request's id.
    pub(crate) fn without_id(&self) -> (u16, Value, Vec<String>) {
        let mut body = self.body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("requestId");
        }
        let names = self.headers.keys().map(ToString::to_string).collect();
        (self.status, body, names)
    }
}

impl Bench {
    /// An empty box.
    pub(crate) async fn new(signup: SignupPolicy) -> Self {
        Bench::with_settings(Settings { signup, literal_typos: false }).await
    }

    /// An empty box that is set otherwise.
    pub(crate) async fn with_settings(settings: Settings) -> Self {
        Bench::open(Start { settings, ..Start::default() }).await
    }

    /// An empty box with settings of its own for calls that are placed.
    pub(crate) async fn with(signup: SignupPolicy, dial: DialSettings) -> Self {
        Bench::open(Start { settings: Settings { signup, literal_typos: false }, dial, ..Start::default() }).await
    }

    /// A box on a directory, which may have been another's, with ports of the loopback open to webhooks.
    pub(crate) async fn on(dir: Arc<TempDir>, signup: SignupPolicy, loopback_ports: &[u16]) -> Self {
        let settings = Settings { signup, literal_typos: false };
        Bench::open(Start { settings, dir, loopback_ports: loopback_ports.into(), ..Start::default() }).await
    }

    /// The same box with control started again, and a call plane that has heard nothing yet.
    pub(crate) async fn restarted(&self) -> Self {
        let (dir, now_ms) = (Arc::clone(&self.dir), Arc::clone(&self.now_ms));
        Bench::open(Start { dir, store: Some(self.store.clone()), now_ms, ..Start::default() }).await
    }

    async fn open(start: Start) -> Self {
        let Start { settings, dial, loopback_ports, dir, store, now_ms } = start;
        let store = store.unwrap_or_else(|| Store::open(&dir.path().join("talkstack.db")).expect("opens"));
        let clock = Clock::of({
            let now_ms = Arc::clone(&now_ms);
            move || now_ms.load(Ordering::Relaxed)
        });
        let plane = Arc::new(Scripted::default());
        let config = ControlConfig {
            dir: dir.path().to_owned(),
            settings,
            dial,
            smtp: None,
            password_cost: Cost { memory_kib: 64, passes: 1 },
            public_url: "https://box.example".into(),
            outbound: Outbound { loopback_ports, ..Outbound::default() },
            webhook_answer_max: Duration::from_secs(1),
        };
        let control = Control::with_plane(config, store.clone(), Arc::clone(&plane) as Arc<dyn CallPlane>, clock)
            .await
            .expect("opens");
        Bench {
            service: control.service(),
            store,
            setup_token: control.setup_token.clone(),
            now_ms,
            plane,
            peer: ([127, 0, 0, 1], 4000).into(),
            headers: Vec::new(),
            dir,
        }
    }

    /// The box's secret.
    pub(crate) fn secret(&self) -> Secret {
        Secret::open(&self.dir.path().join("secret.key")).expect("made")
    }

    /// The same box, asked from another address.
    pub(crate) fn from(&self, ip: &str) -> Self {
        Bench { peer: (ip.parse::<std::net::IpAddr>().expect("an address"), 4000).into(), ..self.clone() }
    }

    /// The same box, asked with another header.
    pub(crate) fn with_header(&self, header: Option<(&str, &str)>) -> Self {
        let mut headers = self.headers.clone();
        headers.extend(header.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Bench { headers, ..self.clone() }
    }

    /// The same box, asked by nobody in particular.
    pub(crate) fn without_headers(&self) -> Self {
        Bench { headers: Vec::new(), ..self.clone() }
    }

    /// The same box, asked with a bearer token.
    pub(crate) fn bearer(&self, token: &str) -> Self {
        self.with_header(Some(("authorization", &format!("Bearer {token}"))))
    }

    /// The account of `a@b.com`, logged in once more.
    pub(crate) async fn bearer_again(&self) -> Self {
        let account = json!({ "email": "a@b.com", "password": "correct horse" });
        let login = self.without_headers().post("/auth/login", &account).await.ok();
        self.without_headers().bearer(login["token"].as_str().expect("a token"))
    }

    /// A verified account, logged in. Its password is `correct horse`.
    pub(crate) async fn account(&self, email: &str) -> Self {
        let account = json!({ "email": email, "password": "correct horse", "name": "A" });
        self.post("/auth/signup", &account).await.ok();
        let code = self.code(email).await;
        self.post("/auth/verify-email", &json!({ "email": email, "code": code })).await.ok();
        let login = self.post("/auth/login", &account).await.ok();
        self.bearer(login["token"].as_str().expect("a token"))
    }

    /// The code in the latest letter to an address.
    pub(crate) async fn code(&self, email: &str) -> String {
        let read: Result<_, StoreError> = self.store.read(|connection| Ok(mails::latest(connection, 100)?)).await;
        let mail = read.expect("read").into_iter().find(|mail| mail.recipient == email).expect("a letter");
        mail.body.chars().filter(char::is_ascii_digit).take(6).collect()
    }

    /// A project with a name; its id.
    pub(crate) async fn project(&self, name: &str) -> String {
        let made = self.post("/project/create-project", &json!({ "name": name, "description": "" })).await.ok();
        made["data"]["id"].as_str().expect("an id").to_owned()
    }

    /// Ingests events of a call, a second apart from the start on, as the journal would bring them.
    pub(crate) async fn happen(&self, call: u128, events: Vec<CallEvent>) {
        let ingested: Result<(), StoreError> = self
            .store
            .write(move |connection| {
                let last = calls::cursor(connection)?.map_or(0, |position| position.seq);
                let records: Vec<JournalRecord> = (last + 1..)
                    .zip(events)
                    .map(|(seq, event)| JournalRecord {
                        position: Position { boot: 1, seq },
                        at_ms: START_MS as u64 + 1000 * seq,
                        call_id: CallId(call),
                        event,
                    })
                    .collect();
                ingest(connection, &records)
            })
            .await;
        ingested.expect("stored");
    }

    /// What became of the events of a call, once `is_so` of it.
    pub(crate) async fn deliveries(&self, call: u128, is_so: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        let mut commits = self.store.commits();
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                commits.borrow_and_update();
                let id = CallId(call).to_string();
                let read: Result<_, StoreError> =
                    self.store.read(move |connection| Ok(deliveries::of_call(connection, &id)?)).await;
                let found = read.expect("read");
                if is_so(&found) {
                    return found;
                }
                commits.changed().await.expect("the store is there");
            }
        });
        waited.await.expect("it becomes so")
    }

    /// A path in the box's directory.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// The latest letter to an address.
    pub(crate) async fn letter(&self, email: &str) -> String {
        let read: Result<_, StoreError> = self.store.read(|connection| Ok(mails::latest(connection, 100)?)).await;
        read.expect("read").into_iter().find(|mail| mail.recipient == email).expect("a letter").body
    }

    /// Lets time pass, and whoever waits for it look at the clock.
    pub(crate) async fn pass_and_wake(&self, time: Duration) {
        self.pass(time);
        let written: Result<_, StoreError> =
            self.store.write(|connection| Ok(settings::put(connection, "test", "awake")?)).await;
        written.expect("written");
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.now_ms.fetch_add(time.as_millis() as i64, Ordering::Relaxed);
    }

    /// The routing configuration that was sent last.
    pub(crate) fn last_snapshot(&self) -> Snapshot {
        self.plane.snapshots.lock().expect("unpoisoned").last().cloned().expect("sent")
    }

    /// Everything that lies in the box's directory, as one heap of bytes.
    pub(crate) fn bytes_on_disk(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.dir.path()).expect("readable").flatten();
        files.filter_map(|file| std::fs::read(file.path()).ok()).flatten().collect()
    }

    pub(crate) async fn get(&self, path: impl AsRef<str>) -> Reply {
        self.raw(Method::GET, path.as_ref(), Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PATCH, path, body).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Reply {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.raw(method, path, bytes).await
    }

    pub(crate) async fn raw(&self, method: Method, path: &str, bytes: Vec<u8>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Body::from(bytes)).expect("a request");
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let response = self.service.clone().oneshot(request).await.expect("infallible");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), 1 << 24).await.expect("a body");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status, headers, body, bytes: bytes.to_vec() }
    }
}

/// Keeps what it hears, and answers offers from a script; with nothing in it, `Accepted`.
pub(crate) struct Scripted {
    snapshots: Mutex<Vec<Snapshot>>,
    /// Offers with the connection they came over.
    offers: watch::Sender<Vec<(u64, CommandId, DialOrder)>>,
    pub(crate) answers: Mutex<VecDeque<Result<CommandReply, PlaneError>>>,
    /// Commands other than offers.
    pub(crate) commands: Mutex<Vec<Command>>,
    /// What they are answered with, the last again and again; with nothing in it, `NoSuchCall`.
    pub(crate) replies: Mutex<VecDeque<Result<CommandReply, PlaneError>>>,
    pub(crate) live: watch::Sender<Option<u64>>,
}

impl Default for Scripted {
    fn default() -> Self {
        Scripted {
            snapshots: Mutex::default(),
            offers: watch::channel(Vec::new()).0,
            answers: Mutex::default(),
            commands: Mutex::default(),
            replies: Mutex::default(),
            live: watch::channel(None).0,
        }
    }
}

impl Scripted {
    /// The offers so far, once there are as many.
    pub(crate) async fn offers(&self, count: usize) -> Vec<(u64, CommandId, DialOrder)> {
        let mut offers = self.offers.subscribe();
        let seen = tokio::time::timeout(WAIT_MAX, offers.wait_for(|offers| offers.len() >= count)).await;
        seen.expect("in time").expect("the sender lives").clone()
    }
}

impl CallPlane for Scripted {
    fn apply(&self, snapshot: Snapshot) {
        self.snapshots.lock().expect("unpoisoned").push(snapshot);
    }

    fn applied(&self, _: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }

    fn command(
        &self,
        _: CommandId,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Result<CommandReply, PlaneError>> + Send + '_>> {
        self.commands.lock().expect("unpoisoned").push(command);
        let mut replies = self.replies.lock().expect("unpoisoned");
        let last = if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() };
        Box::pin(async move { last.unwrap_or(Ok(CommandReply::NoSuchCall)) })
    }

    fn dial(
        &self,
        connection: u64,
        command_id: CommandId,
        order: DialOrder,
    ) -> Pin<Box<dyn Future<Output = Result<CommandReply, PlaneError>> + Send + '_>> {
        let answer = self.answers.lock().expect("unpoisoned").pop_front().unwrap_or(Ok(CommandReply::Accepted));
        self.offers.send_modify(|offers| offers.push((connection, command_id, order)));
        Box::pin(async move { answer })
    }

    fn live(&self) -> watch::Receiver<Option<u64>> {
        self.live.subscribe()
    }

    fn acknowledge(&self, _: Position) {}

    fn is_connected(&self) -> bool {
        true
    }
}

/// Nothing here takes longer on a loaded machine.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// 2025-03-10T05:20:39.831Z, as in the documentation.
pub(crate) const START_MS: i64 = 1_741_584_039_831;

/// An inbound call to a project begins.
pub(crate) fn started(project: &str) -> CallEvent {
    CallEvent::Started(CallStarted {
        direction: Direction::Inbound,
        from: "+14152148508".into(),
        to: "+15551234567".into(),
        project_id: Some(project.to_owned()),
        agent_id: None,
        sip_call_id: "x".into(),
        trunk_id: None,
        display_name: None,
        verstat: None,
        attestation: None,
        diverted_from: None,
    })
}

/// It is answered.
pub(crate) fn answered() -> CallEvent {
    CallEvent::Answered { codec: "PCMU".into() }
}

/// Its caller hangs up.
pub(crate) fn ended() -> CallEvent {
    CallEvent::Ended { outcome: Outcome::new(Blame::Caller, EndReason::HungUp) }
}
