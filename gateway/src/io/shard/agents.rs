//! A shard's agents: their sockets taken over, read, written and let go.

use std::time::Instant;

use std::io::ErrorKind;
use std::os::fd::AsFd;

use super::sockets::{self, SocketKind, Token};
use super::{Shard, Surroundings};
use crate::io::agent_socket::AgentSocket;
use crate::io::connect::Connected;

impl<S: Surroundings> Shard<S> {
    /// Takes over an agent's connected socket.
    pub(super) fn adopt(&mut self, key: u32, connected: Connected, now: Instant) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let token = Token::new(SocketKind::Agent, key);
        let adopted = AgentSocket::new(connected.stream, connected.tls, connected.place).and_then(|agent| {
            sockets::watch(&self.epoll, agent.as_fd(), token, false)?;
            Ok(agent)
        });
        slot.agent = adopted.ok();
        let is_adopted = slot.agent.is_some();
        self.turn(key, |call| {
            if is_adopted { call.handle_connected(&connected.leftover, now) } else { call.handle_unreachable(now) }
        });
    }

    pub(super) fn read_agent(&mut self, key: u32, buffer: &mut [u8], now: Instant) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let Some(agent) = &mut slot.agent else { return };
        let mut read = agent.read(buffer);
        loop {
            match read {
                Ok(0) => return self.drop_agent(key, now),
                Ok(bytes) => self.turn(key, |call| call.handle_agent_bytes(&buffer[..bytes], now)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    // Woken because it can be written to again, or half a TLS record has come.
                    return self.touch(key);
                }
                Err(_) => return self.drop_agent(key, now),
            }
            let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
            let Some(bytes) = slot.agent.as_mut().and_then(|agent| agent.read_more(buffer)) else { return };
            read = Ok(bytes);
        }
    }

    pub(super) fn drop_agent(&mut self, key: u32, now: Instant) {
        if let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) {
            slot.agent = None;
        }
        self.turn(key, |call| call.handle_agent_disconnect(now));
    }

    pub(super) fn write_agent(&mut self, key: u32, now: Instant) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let (Some(agent), Some(outbound)) = (&mut slot.agent, slot.call.agent_outbound()) else { return };
        if agent.write(outbound).is_err() {
            return self.drop_agent(key, now);
        }
        let wants_write = agent.wants_write(outbound);
        if wants_write != agent.is_watched_for_write {
            agent.is_watched_for_write = wants_write;
            let token = Token::new(SocketKind::Agent, key);
            // If the kernel refuses, the next message tries again.
            let _ = sockets::watch_again(&self.epoll, agent.as_fd(), token, wants_write);
        }
    }
}
