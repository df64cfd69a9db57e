//! Commands that ask the running daemon, over `<store.dir>/admin.sock`. They never open the database.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use talkstack_control::port::COLLECT_TIME;
use talkstack_control::server::ADMIN_SOCKET;

use super::quality::call_text;
use super::{CallCommand, CliCommand, MailCommand, RecordingAction, dnc, extension, message, provider, route, trunk};

/// A command that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens. Exit code 6.
    #[error("no daemon answers on {0} ({1}); start `talkstack serve`, or name its directory with --store-dir")]
    Unreachable(String, #[source] std::io::Error),
    /// Somebody else's socket. Exit code 5.
    #[error("the daemon on {0} takes commands from root and its own user only; use sudo")]
    Forbidden(String),
    /// The daemon refused, and says why. Exit code 1, 3 for what does not exist, or 4 for what is taken.
    #[error("{1}")]
    Refused(u16, String),
    /// What came back is no answer of ours. Exit code 1.
    #[error("the daemon's answer cannot be read; is it the same version?")]
    Answer,
    /// The file of a password or key cannot be read. Exit code 1.
    #[error("cannot read the secret from {0} ({1})")]
    Secret(String, #[source] std::io::Error),
    /// A word of the command line means nothing. Exit code 2.
    #[error("{0}")]
    Usage(&'static str),
    /// What was tested has a fault; it has been printed. Exit code 7.
    #[error("a fault was found")]
    Fault,
    /// Stdout is closed. Exit code 1.
    #[error("cannot print ({0})")]
    Print(#[source] std::io::Error),
}

impl AdminError {
    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            AdminError::Unreachable(..) => 6,
            AdminError::Forbidden(_) => 5,
            AdminError::Refused(404, _) => 3,
            AdminError::Refused(409, _) => 4,
            AdminError::Usage(_) => 2,
            AdminError::Fault => 7,
            _ => 1,
        }
    }
}

/// Carries out a command that needs the daemon.
///
/// # Errors
/// [`AdminError`].
pub fn run(command: &CliCommand, store_dir: &Path) -> Result<(), AdminError> {
    let socket = store_dir.join(ADMIN_SOCKET);
    let text = match command {
        CliCommand::Setup { admin_email, password_file } => {
            let password = read_secret(password_file)?;
            let body = json!({ "email": admin_email, "password": password });
            let answer = ask(&socket, "POST", "/admin/setup", Some(&body))?;
            format!("{} is the owner of the box.\n", answer["email"].as_str().unwrap_or_default())
        }
        CliCommand::Mail(MailCommand::List { json }) => {
            let answer = ask(&socket, "GET", "/admin/mails", None)?;
            if *json {
                document(&answer["data"])
            } else {
                table(&answer["data"], &["id", "created_at", "to", "subject"])
            }
        }
        CliCommand::Mail(MailCommand::Show { id, json }) => {
            let answer = ask(&socket, "GET", &format!("/admin/mails/{id}"), None)?;
            let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            if *json {
                document(&answer)
            } else {
                format!("To: {}\nSubject: {}\n\n{}", field("to"), field("subject"), field("body"))
            }
        }
        CliCommand::Call(CallCommand::List { limit, json }) => {
            let answer = ask(&socket, "GET", &format!("/admin/calls?limit={limit}"), None)?;
            let columns = ["startTime", "sid", "from", "to", "status", "seconds"];
            if *json { document(&answer["data"]) } else { table(&answer["data"], &columns) }
        }
        CliCommand::Call(CallCommand::Show { call, json }) => {
            let answer = ask(&socket, "GET", &format!("/admin/calls/{call}"), None)?;
            if *json { document(&answer) } else { call_text(answer) }
        }
        CliCommand::Call(CallCommand::Recording { call, action }) => {
            let (action, done) = match action {
                RecordingAction::Pause => ("pause", "silent from now on"),
                RecordingAction::Resume => ("resume", "on again"),
            };
            ask(&socket, "POST", &format!("/api/v1/calls/{call}/recording"), Some(&json!({ "action": action })))?;
            format!("The recording of {call} is {done}.\n")
        }
        CliCommand::Call(CallCommand::Digits { call, max, finish_on, first_within, next_within, json }) => {
            let body = json!({
                "max": max, "finish_on": finish_on, "first_within_s": first_within, "next_within_s": next_within,
            });
            let path = format!("/api/v1/calls/{call}/digits");
            let answer = ask_within(&socket, "POST", &path, Some(&body), COLLECT_TIME + ANSWER_MAX)?;
            if *json { document(&answer) } else { format!("{}\n", answer["digits"].as_str().unwrap_or_default()) }
        }
        CliCommand::Trunk(command) => {
            let (text, is_ok) = trunk::trunk(command, &socket)?;
            print(&text)?;
            return if is_ok { Ok(()) } else { Err(AdminError::Fault) };
        }
        CliCommand::Extension(command) => extension::extension(command, &socket)?,
        CliCommand::Route(command) => route::route(command, &socket)?,
        CliCommand::Provider(command) => {
            let (text, is_ok) = provider::provider(command, &socket)?;
            print(&text)?;
            return if is_ok { Ok(()) } else { Err(AdminError::Fault) };
        }
        CliCommand::Message(command) => message::message(command, &socket)?,
        CliCommand::Dnc(command) => dnc::dnc(command, &socket)?,
        CliCommand::Serve | CliCommand::Calls | CliCommand::Control | CliCommand::CheckConfig | CliCommand::Version => {
            return Ok(());
        }
    };
    print(&text)
}

fn print(text: &str) -> Result<(), AdminError> {
    std::io::stdout().write_all(text.as_bytes()).map_err(AdminError::Print)
}

/// One request over the socket; a connection each.
pub(super) fn ask(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Value, AdminError> {
    exchange(socket, method, path, body, ANSWER_MAX)
}

/// The same for an answer that takes its time; whoever looks on sees it pass.
pub(super) fn ask_within(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
    within: Duration,
) -> Result<Value, AdminError> {
    if within <= ANSWER_MAX || !std::io::stderr().is_terminal() {
        return exchange(socket, method, path, body, within);
    }
    std::thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        scope.spawn(move || {
            for seconds in 1.. {
                if is_done.recv_timeout(Duration::from_secs(1)) != Err(mpsc::RecvTimeoutError::Timeout) {
                    break;
                }
                eprint!("\rAt work: {seconds} s of {} s at the most", within.as_secs());
            }
            // The line is for the answer.
            eprint!("\r\x1b[K");
        });
        let answer = exchange(socket, method, path, body, within);
        drop(done);
        answer
    })
}

fn exchange(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
    within: Duration,
) -> Result<Value, AdminError> {
    let unreachable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => AdminError::Forbidden(socket.display().to_string()),
        _ => AdminError::Unreachable(socket.display().to_string(), error),
    };
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(within)).map_err(unreachable)?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut response = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut response).map_err(unreachable)?;
    let (status, body) = split_response(&response).ok_or(AdminError::Answer)?;
    if status == 204 {
        return Ok(Value::Null);
    }
    let answer: Value = serde_json::from_slice(body).map_err(|_| AdminError::Answer)?;
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    // `/api/v1` says it in `detail` (RFC 9457), the others in `message`.
    let reason = answer["message"].as_str().or(answer["detail"].as_str()).unwrap_or("The daemon refused.");
    Err(AdminError::Refused(status, reason.to_owned()))
}

/// The status and body of a response of ours: with a length, never chunked.
fn split_response(response: &[u8]) -> Option<(u16, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(response) {
        Ok(httparse::Status::Complete(length)) => Some((head.code?, &response[length..])),
        _ => None,
    }
}

pub(super) fn read_secret(path: &Path) -> Result<String, AdminError> {
    let failed = |error| AdminError::Secret(path.display().to_string(), error);
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
    } else {
        text = std::fs::read_to_string(path).map_err(failed)?;
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

pub(super) fn document(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Columns for people; tabs for programs that read a pipe.
pub(super) fn table(rows: &Value, columns: &[&str]) -> String {
    let cell = |row: &Value, column: &str| match &row[column] {
        Value::String(text) => text.chars().map(|letter| if letter.is_control() { '·' } else { letter }).collect(),
        Value::Null => String::new(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        value => value.to_string(),
    };
    let rows: Vec<Vec<String>> = std::iter::once(columns.iter().map(|column| column.to_uppercase()).collect())
        .chain(
            rows.as_array().into_iter().flatten().map(|row| columns.iter().map(|column| cell(row, column)).collect()),
        )
        .collect();
    let is_terminal = std::io::stdout().is_terminal();
    let mut text = String::new();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
            let last = at + 1 == row.len();
            match (is_terminal, last) {
                (_, true) => text.push_str(cell),
                (true, false) => text.push_str(&format!("{cell:width$}  ")),
                (false, false) => text.push_str(&format!("{cell}\t")),
            }
        }
        text.push('\n');
    }
    text
}

/// 30 s: a password's hash on a loaded box.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// 16 MiB: a thousand calls and their words.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
