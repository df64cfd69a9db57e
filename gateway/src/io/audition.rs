//! A provider on trial ([`crate::audition`]), driven on a thread of its own over its connected socket.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use talkstack_control::port::Audition;

use super::agent_socket::AgentSocket;
use super::connect::Connected;
use crate::agent::provider::ServicePlan;
use crate::audition::{Trial, failed};

/// Runs a trial to its end; call where blocking is allowed. `connecting` is what the connection took.
pub fn run(
    plan: &ServicePlan,
    is_asked: bool,
    question: Vec<i16>,
    seed: u64,
    connected: Connected,
    connecting: Duration,
) -> Audition {
    let Connected { stream, tls, leftover, place } = connected;
    let mut socket = match AgentSocket::new(stream, tls, place) {
        Ok(socket) => socket,
        Err(error) => {
            let step = failed("connect", "system", error.to_string(), connecting);
            return Audition { steps: vec![step], speech: None };
        }
    };
    let begin = Instant::now();
    let mut trial = Trial::new(plan, is_asked, question, seed, (connecting, &leftover), begin);
    let (mut next, mut buffer) = (begin + FRAME, [0; READ_BYTES]);
    while !trial.is_over() {
        let now = Instant::now();
        if next <= now {
            trial.handle_tick(now);
            next += FRAME;
        }
        let outbound = trial.outbound();
        if outbound.is_some_and(|outbound| socket.write(outbound).is_err()) {
            trial.handle_disconnect(Instant::now());
            break;
        }
        let wait = next.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut watched = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
        if poll(&mut watched, Some(&wait)).is_ok_and(|ready| ready > 0) {
            read(&mut socket, &mut trial, &mut buffer);
        }
    }
    let (farewell, audition) = trial.finish();
    socket.part(farewell);
    audition
}

fn read(socket: &mut AgentSocket, trial: &mut Trial, buffer: &mut [u8]) {
    let mut read = socket.read(buffer);
    loop {
        match read {
            Ok(0) => return trial.handle_disconnect(Instant::now()),
            Ok(bytes) => trial.handle_bytes(&buffer[..bytes], Instant::now()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(_) => return trial.handle_disconnect(Instant::now()),
        }
        let Some(bytes) = socket.read_more(buffer) else { return };
        read = Ok(bytes);
    }
}

/// 20 ms, as a line's packets have it.
const FRAME: Duration = Duration::from_millis(20);

/// 16 KiB a read.
const READ_BYTES: usize = 16 << 10;
