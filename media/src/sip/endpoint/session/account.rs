//! Challenges to our own requests, and what they are answered with (RFC 3261 §22.2, §22.3).
//!
//! Only the host that the call was placed at is answered: whoever is called could otherwise have the trunk's password
//! guessed by challenging our BYE (CVE-2021-41158).

use std::net::IpAddr;
use std::time::Instant;

use crate::sip::digest::{Answered, Challenge, Credentials};
use crate::sip::endpoint::{Endpoint, Flow, Purpose, TransactionKey};
use crate::sip::message::{Headers, Method, Response};

/// The credentials of one call, and the challenges met in it.
#[derive(Debug, Clone)]
pub(in crate::sip::endpoint) struct Account {
    credentials: Credentials,
    /// The host that they are for.
    home: IpAddr,
    standing: Vec<Standing>,
}

/// A challenge that was answered, and will be again in later answers.
#[derive(Debug, Clone)]
struct Standing {
    asker: Asker,
    challenge: Challenge,
    /// Answers with this nonce so far.
    count: u32,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sip::endpoint) enum Asker {
    /// 401.
    Server,
    /// 407.
    Proxy,
}

/// Who asked for which realm, and was answered.
pub(in crate::sip::endpoint) type Tried = (Asker, String);

impl Account {
    pub(in crate::sip::endpoint) fn new(credentials: Credentials, home: IpAddr) -> Self {
        Account { credentials, home, standing: Vec::new() }
    }

    /// Takes the challenge of a 401 or 407 to a request that went over `flow` and was challenged by `tried` before;
    /// `false` when it is not to be answered.
    pub(in crate::sip::endpoint) fn learn(&mut self, flow: &Flow, tried: &mut Vec<Tried>, response: &Response) -> bool {
        let asker = match response.status {
            401 => Asker::Server,
            407 => Asker::Proxy,
            _ => return false,
        };
        if flow.remote.ip() != self.home || tried.len() >= ROUNDS_MAX {
            return false;
        }
        let Some(challenge) = asker.challenge(&response.headers) else { return false };
        let name = (asker, challenge.realm.clone());
        if tried.contains(&name) && !challenge.is_stale {
            // The same answer would be refused again.
            return false;
        }
        tried.push(name);
        let same = |known: &&mut Standing| known.asker == asker && known.challenge.realm == challenge.realm;
        match self.standing.iter_mut().find(same) {
            Some(known) => {
                if !known.challenge.shares_nonce_with(&challenge) {
                    known.count = 0;
                }
                known.challenge = challenge;
            }
            None => {
                if self.standing.len() >= STANDING_MAX {
                    self.standing.remove(0);
                }
                self.standing.push(Standing { asker, challenge, count: 0 });
            }
        }
        true
    }

    /// The header fields that answer all challenges met so far.
    pub(in crate::sip::endpoint) fn fields(
        &mut self,
        method: &Method,
        uri: &str,
        cnonce: &str,
    ) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        for Standing { asker, challenge, count } in &mut self.standing {
            *count += 1;
            let answered = Answered { method: method.as_str(), uri, cnonce, count: *count };
            let name = match asker {
                Asker::Server => "Authorization",
                Asker::Proxy => "Proxy-Authorization",
            };
            fields.push((name, challenge.answer(&self.credentials, &answered)));
        }
        fields
    }
}

impl Asker {
    /// The challenge to answer of those offered.
    fn challenge(self, headers: &Headers) -> Option<Challenge> {
        let name = match self {
            Asker::Server => "WWW-Authenticate",
            Asker::Proxy => "Proxy-Authenticate",
        };
        Challenge::strongest(headers, name)
    }
}

impl Endpoint {
    /// Sends a request of a dialog again, with credentials; `false` when its refusal stands.
    pub(in crate::sip::endpoint) fn answer_challenge(
        &mut self,
        key: &TransactionKey,
        response: &Response,
        now: Instant,
    ) -> bool {
        let cnonce = self.tag();
        let Some(client) = self.clients.get_mut(key) else { return false };
        let (id, ask) = (client.dialog, client.ask.clone());
        if ask.purpose == Purpose::Cancel {
            // RFC 3261 §22.1: a CANCEL cannot be sent again, so it is not challenged.
            return false;
        }
        let Some(account) = self.sessions.get_mut(&id).and_then(|session| session.account.as_mut()) else {
            return false;
        };
        if !account.learn(&client.flow, &mut client.tried, response) {
            return false;
        }
        let tried = std::mem::take(&mut client.tried);
        let Some(uri) = self.far_mut(id, &ask.tag).map(|far| far.dialog.request_uri()) else { return false };
        let account = self.sessions.get_mut(&id).and_then(|session| session.account.as_mut());
        let answers = account.map(|account| account.fields(&ask.purpose.method(), &uri, &cnonce)).unwrap_or_default();
        let again = self.request_with(id, ask, &answers, now);
        if let Some(client) = again.and_then(|key| self.clients.get_mut(&key)) {
            client.tried = tried;
        }
        true
    }
}

/// 2 answers to one request: a proxy and the server behind it, or a stale nonce.
const ROUNDS_MAX: usize = 2;

/// 4 realms in one call: twice what one request can be asked for.
const STANDING_MAX: usize = 4;
