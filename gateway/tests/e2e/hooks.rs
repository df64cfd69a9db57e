//! A receiver of webhooks, which checks signatures with openssl.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// A port that hooks may be sent to.
pub(crate) struct Receiver {
    listener: TcpListener,
    pub(crate) port: u16,
}

/// What has come to it.
pub(crate) struct Hooks {
    told: Arc<Mutex<Vec<Hook>>>,
    is_over: Arc<AtomicBool>,
    port: u16,
    thread: std::thread::JoinHandle<()>,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Receiver {
    pub(crate) fn bind() -> Self {
        Receiver::bind_to(0)
    }

    pub(crate) fn bind_to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        Receiver { listener, port }
    }

    /// Answers each request with the status.
    pub(crate) fn answering(self, status: &str) -> Hooks {
        self.answering_with(status, "")
    }

    /// Answers each request with the status and a body.
    pub(crate) fn answering_with(self, status: &str, body: &str) -> Hooks {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        let (told, is_over): (Arc<Mutex<Vec<Hook>>>, Arc<AtomicBool>) = Default::default();
        let (noted, stops) = (Arc::clone(&told), Arc::clone(&is_over));
        let Receiver { listener, port } = self;
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stops.load(Ordering::SeqCst) {
                    return;
                }
                if let Some(hook) = take(stream, &answer) {
                    noted.lock().expect("no one has panicked").push(hook);
                }
            }
        });
        Hooks { told, is_over, port, thread }
    }
}

impl Hooks {
    /// All that has come so far.
    pub(crate) fn all(&self) -> Vec<Hook> {
        self.told.lock().expect("no one has panicked").clone()
    }

    /// Listens no more.
    pub(crate) fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes it up; it may be gone.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.join().expect("the receiver ends");
    }
}

impl Hook {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> String {
        let of_name = |line: &str| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().find_map(of_name).unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    /// What `webhook-signature` ought to be: HMAC-SHA256 over `id.timestamp.body`, as openssl computes it.
    pub(crate) fn signature(&self, secret: &str) -> String {
        let base64 = base64_simd::STANDARD;
        let key = base64.decode_to_vec(secret.strip_prefix("whsec_").expect("a secret")).expect("Base64");
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let signed = format!("{}.{}.{}", self.header("webhook-id"), self.header("webhook-timestamp"), self.body);
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", &format!("hexkey:{key}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        openssl.stdin.take().expect("piped").write_all(signed.as_bytes()).expect("written");
        let digest = openssl.wait_with_output().expect("it ends").stdout;
        format!("v1,{}", base64.encode_to_string(digest))
    }
}

fn take(mut stream: TcpStream, answer: &str) -> Option<Hook> {
    stream.set_read_timeout(Some(Duration::from_secs(8))).ok()?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let hook = loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let hook = Hook { head: head.to_owned(), body: body.to_owned() };
        if body.len() >= hook.header("content-length").parse::<usize>().ok()? {
            break hook;
        }
    };
    stream.write_all(answer.as_bytes()).ok()?;
    Some(hook)
}
