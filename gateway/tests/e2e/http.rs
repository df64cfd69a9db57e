//! The API of a running box, from signing up to seeing a call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, wait_until};
use crate::sipp::Sipp;

#[test]
fn a_client_signs_up_sets_up_and_sees_the_call() {
    let daemon = Daemon::serve(&[]);
    let client = Client::signed_up(&daemon, "me@example.com", 1);
    let answer = client.get("/user/generate-apikey");
    let client = client.with("x-api-key", answer["apiKey"].as_str().expect("a key"));

    let project = client.post("/project/create-project", &json!({ "name": "Clinic", "description": "" }));
    let project = project["data"]["id"].as_str().expect("an id").to_owned();
    let agent = json!({ "name": "Jack", "systemInstruction": "You are Jack.", "projectId": project });
    let agent = client.post("/agent/create-agent", &agent)["id"].as_str().expect("an id").to_owned();
    let number = json!({ "e164": "+15551234567", "agentId": agent, "projectId": project });
    assert_eq!(client.post("/phone-number/add-number", &number)["status"], "success");
    let active = json!({ "projectId": project, "active_agent": agent });
    assert_eq!(client.patch("/project/active-agent", &active)["project"]["active_agent"], agent.as_str());

    Sipp::new(daemon.sip(), "basic").dialling("15551234567").succeeds();
    let call = wait_until("the call is in the history", || {
        let history = client.post("/call/get-call-history?status=completed", &json!({ "projectId": project }));
        history["data"][0].as_object().cloned()
    });
    assert_eq!((&call["to"], &call["agentId"]), (&json!("+15551234567"), &json!(agent)));
    let found = client.post("/call", &json!({ "sid": call["sid"], "projectId": project }));
    assert_eq!((&found["status"], &found["callSid"]), (&json!("completed"), &call["sid"]));
    assert_eq!(found["seconds"], 1);
}

#[test]
fn letters_go_to_the_mail_server_that_is_set() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("smtp://{}", server.local_addr().expect("bound"));
    let daemon = Daemon::serve(&[("TALKSTACK__MAIL__SMTP", &url)]);
    let letter = std::thread::spawn(move || take_letter(&server));
    let account = json!({ "email": "me@example.com", "password": "correct horse", "name": "Me" });
    Client::new(&daemon).post("/auth/signup", &account);
    let letter = letter.join().expect("a letter came");
    assert!(letter.contains("To: me@example.com") && letter.contains("Your verification code is"), "{letter}");
    assert_eq!(std::fs::read_dir(daemon.dir.join("outbox")).expect("readable").count(), 0);
}

#[test]
fn stopping_waits_for_no_client_that_says_nothing() {
    let mut daemon = Daemon::serve(&[]);
    let address = daemon.http.expect("serves HTTP");
    let _open: Vec<TcpStream> = [
        "",
        "GET / HT",
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /call HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    ]
    .into_iter()
    .map(|head| {
        let mut stream = TcpStream::connect(address).expect("accepted");
        stream.write_all(head.as_bytes()).expect("written");
        stream
    })
    .collect();
    assert!(daemon.stop().success());
}

#[test]
fn nothing_that_was_acknowledged_is_lost_to_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut key = None;
    let mut ledger: Vec<String> = Vec::new();
    for round in 0..4 {
        let daemon = Daemon::start("serve", dir.path(), &[]);
        let client = Client::new(&daemon);
        let key = key.get_or_insert_with(|| api_key(&daemon));
        let client = client.with("x-api-key", key);
        let projects = client.get("/project");
        let stored: Vec<&str> = projects["data"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|project| project["name"].as_str())
            .collect();
        for name in &ledger {
            assert!(stored.contains(&name.as_str()), "{name} was acknowledged");
        }
        let writer = std::thread::spawn(move || {
            let mut written = Vec::new();
            for at in 0.. {
                let name = format!("{round}-{at}");
                let body = json!({ "name": name, "description": "" }).to_string();
                match client.try_send("POST", "/project/create-project", &body) {
                    Some((200, _)) => written.push(name),
                    _ => break,
                }
            }
            written
        });
        let count = || Client::new(&daemon).with("x-api-key", key).get("/project")["data"].as_array().map(Vec::len);
        wait_until("some are stored", || (count() > Some(stored.len() + 10)).then_some(()));
        daemon.kill();
        ledger.extend(writer.join().expect("the client ends"));
    }
    assert!(ledger.len() >= 40, "{}", ledger.len());
}

/// The key of a new owner.
fn api_key(daemon: &Daemon) -> String {
    let password = daemon.dir.join("password");
    std::fs::write(&password, "correct horse\n").expect("written");
    let path = password.to_str().expect("text");
    daemon.command(&["setup", "--admin-email", "me@example.com", "--password-file", path]);
    let client = Client::new(daemon);
    let login = client.post("/auth/login", &json!({ "email": "me@example.com", "password": "correct horse" }));
    let client = client.with("Authorization", &format!("Bearer {}", login["token"].as_str().expect("a token")));
    client.get("/user/generate-apikey")["apiKey"].as_str().expect("a key").to_owned()
}

/// The server's side of RFC 5321, for one letter.
fn take_letter(server: &std::net::TcpListener) -> String {
    use std::io::{BufRead, BufReader};
    let (stream, _) = server.accept().expect("a client");
    stream.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
    let mut writer = stream.try_clone().expect("a handle");
    writer.write_all(b"220 test\r\n").expect("written");
    let (mut letter, mut in_letter) = (String::new(), false);
    for line in BufReader::new(stream).lines() {
        let line = line.expect("a line");
        let reply = match line.split(' ').next().unwrap_or_default() {
            "." if in_letter => {
                writer.write_all(b"250 ok\r\n").expect("written");
                return letter;
            }
            _ if in_letter => {
                letter.push_str(&line);
                letter.push('\n');
                continue;
            }
            "DATA" => {
                in_letter = true;
                "354 go on"
            }
            _ => "250 ok",
        };
        writer.write_all(format!("{reply}\r\n").as_bytes()).expect("written");
    }
    letter
}

/// The status of a GET.
pub(crate) fn status(address: SocketAddr, path: &str) -> Option<u16> {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n"))
        .map(|(status, _)| status)
}

/// A client that sends the same headers each time.
pub(crate) struct Client {
    address: SocketAddr,
    header: String,
}

impl Client {
    fn new(daemon: &Daemon) -> Self {
        Client::at(daemon.http.expect("serves HTTP"))
    }

    /// A client of whoever listens there.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Client { address, header: String::new() }
    }

    /// The owner of a box that has none yet.
    pub(crate) fn owner(daemon: &Daemon) -> Self {
        let password = daemon.dir.join("password");
        std::fs::write(&password, "correct horse").expect("written");
        daemon.command(&[
            "setup",
            "--admin-email",
            "me@example.com",
            "--password-file",
            password.to_str().expect("text"),
        ]);
        let client = Client::new(daemon);
        let answer = client.post("/auth/login", &json!({ "email": "me@example.com", "password": "correct horse" }));
        client.with("Authorization", &format!("Bearer {}", answer["token"].as_str().expect("a token")))
    }

    /// A new user, by the API alone; the letter with the code is the box's `letter`th.
    pub(crate) fn signed_up(daemon: &Daemon, email: &str, letter: u32) -> Self {
        let client = Client::new(daemon);
        let account = json!({ "email": email, "password": "correct horse", "name": "Me" });
        let answer = client.post("/auth/signup", &account);
        assert_eq!(answer["signupStatus"], 3, "{answer}");
        let mail = daemon.command(&["mail", "show", &letter.to_string(), "--json"]);
        let mail: Value = serde_json::from_str(&mail).expect("JSON");
        let body = mail["body"].as_str().expect("text");
        let code: String = body.chars().filter(char::is_ascii_digit).take(6).collect();
        let answer = client.post("/auth/verify-email", &json!({ "email": email, "code": code }));
        assert_eq!(answer["verificationStatus"], 2, "{answer}");
        let answer = client.post("/auth/login", &account);
        client.with("Authorization", &format!("Bearer {}", answer["token"].as_str().expect("a token")))
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        Client { header: format!("{name}: {value}\r\n"), ..self }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.send("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", path, &body.to_string())
    }

    /// A POST that makes something: 200 or 201.
    pub(crate) fn create(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_post(path, body);
        assert!(matches!(status, 200 | 201), "POST {path}: {status} {answer}");
        answer
    }

    /// A POST that may be refused.
    pub(crate) fn try_post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.try_send("POST", path, &body.to_string()).expect("an answer");
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// A request that may be refused.
    pub(crate) fn request(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.try_send(method, path, &body.to_string()).expect("an answer");
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Value {
        self.send("PUT", path, &body.to_string())
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Value {
        self.send("PATCH", path, &body.to_string())
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, body) = self.try_send(method, path, body).expect("an answer");
        assert_eq!(status, 200, "{method} {path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub(crate) fn try_send(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{}\r\n{body}",
            body.len(),
            self.header
        );
        exchange(self.address, &request)
    }
}

/// What a link of ours leads to, or a part of it as `bytes=0-3`: status, head and body. Nobody logs in for it.
pub(crate) fn download(link: &str, range: Option<&str>) -> (u16, String, Vec<u8>) {
    let (address, path) = link.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a link");
    let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(address).expect("accepted");
    stream.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{range}\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("read");
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&response[..end]).into_owned();
    (
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"),
        head,
        response.split_off(end + 4),
    )
}

fn exchange(address: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(8))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let (head, body) = response.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
