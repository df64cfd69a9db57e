//! One-way audio, found while the call is up: a leg that sends and hears nothing, or is heard by nobody.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::CallEvent;
use talkstack_media::dtls::DtlsError;
use talkstack_media::sdp::Negotiated;
use talkstack_media::session::{Exchange, Heed, RtpSession};
use talkstack_media::sip::is_near;

use super::leg::Leg;
use super::{Call, CallOutput, LegId, Phase};
use crate::diagnosis::Fault;

/// What is looked for on one leg, from its answer on.
#[derive(Debug, Default)]
pub(super) struct Watch {
    due: Option<Instant>,
    /// When the leg's figures are due.
    measure_due: Option<Instant>,
    looks: u32,
    /// Looks in a row at which the far end said that it hears nothing.
    unheard: u32,
    /// It has been said that others may have read the leg's keys.
    are_keys_told: bool,
}

impl Watch {
    /// Begins: the leg has been answered.
    pub(super) fn start(&mut self, now: Instant) {
        let are_keys_told = self.are_keys_told;
        *self = Watch { due: Some(now + LOOK), measure_due: Some(now + MEASURE), are_keys_told, ..Watch::default() };
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.measure_due).min()
    }

    /// The leg has been answered.
    pub(super) fn has_started(&self) -> bool {
        self.measure_due.is_some()
    }

    /// Tells whether the leg's figures are due; they will be again after a while.
    pub(super) fn is_measure_due(&mut self, now: Instant) -> bool {
        let Some(due) = self.measure_due.filter(|due| *due <= now) else { return false };
        self.measure_due = Some((due + MEASURE).max(now));
        true
    }

    fn is_look_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Looks, if a look is due; a fault is found once.
    fn look(
        &mut self,
        session: &RtpSession,
        negotiated: &Negotiated,
        signalling: IpAddr,
        now: Instant,
    ) -> Option<Fault> {
        if !self.is_look_due(now) {
            return None;
        }
        if session.is_held() {
            // Nobody speaks; the count begins when they do again.
            (self.due, self.looks, self.unheard) = (Some(now + LOOK), 0, 0);
            return None;
        }
        self.looks += 1;
        let exchange = session.exchange();
        self.unheard = if exchange.heed == Heed::Nothing { self.unheard + 1 } else { 0 };
        let unshaken = session.handshake_failure().map(|failure| match failure {
            DtlsError::Certificate => Fault::OtherCertificate,
            _ => Fault::NoHandshake,
        });
        let is_other_key = exchange.received == 0 && session.unauthenticated_packets() > 0;
        let judged = || judge(exchange, self.unheard, negotiated, signalling);
        let fault = unshaken.or_else(|| if is_other_key { Some(Fault::OtherKeys) } else { judged() });
        self.due = (fault.is_none() && self.looks < LOOKS).then_some(now + LOOK);
        fault
    }
}

impl Call {
    /// Says of each leg what is wrong with its sound, once it is known.
    pub(super) fn watch(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Answered { .. }) {
            return;
        }
        for id in [LegId::First, LegId::Second] {
            let Some(Leg { session: Some(session), negotiation, watch, .. }) = self.leg_mut(id) else { continue };
            // What was agreed on has keys in it, and is not copied at every turn.
            if !watch.is_look_due(now) {
                continue;
            }
            let Some(negotiated) = negotiation.agreed() else { continue };
            let Some(fault) = watch.look(session, negotiated, negotiation.signalling(), now) else { continue };
            let found = match fault {
                Fault::OtherKeys => describe_other_keys(session, negotiated),
                fault => describe(fault, negotiated, session.exchange()),
            };
            tracing::warn!(call = %self.id, leg = ?id, fault = fault.name(), "{found}");
            self.outputs.push_back(CallOutput::Record(CallEvent::Diagnosed { fault: fault.name().into(), found }));
        }
    }
}

impl Call {
    /// Says once of a leg that its keys went where others may have read them.
    pub(super) fn watch_keys(&mut self, id: LegId) {
        let Some(Leg { negotiation, watch, .. }) = self.leg_mut(id) else { return };
        if watch.are_keys_told || !negotiation.are_keys_told() {
            return;
        }
        watch.are_keys_told = true;
        let fault = Fault::KeysInPlain;
        tracing::warn!(call = %self.id, leg = ?id, fault = fault.name(), "{fault}");
        let event = CallEvent::Diagnosed { fault: fault.name().into(), found: fault.to_string() };
        self.outputs.push_back(CallOutput::Record(event));
    }
}

fn describe_other_keys(session: &RtpSession, negotiated: &Negotiated) -> String {
    let (count, from) = (session.unauthenticated_packets(), negotiated.remote_rtp);
    let suite = negotiated.keying.name();
    format!(
        "No audio is heard: {count} packets came for {from}'s line, and none is authenticated under the {suite} key of its \
         session description, so it encrypts with another key, or not at all"
    )
}

fn judge(exchange: Exchange, unheard: u32, negotiated: &Negotiated, signalling: IpAddr) -> Option<Fault> {
    let address = negotiated.remote_rtp.ip();
    // A far end that is only to listen has nothing to send.
    let is_silent = exchange.received == 0 && exchange.sent > 0 && negotiated.direction.receives();
    let is_unheard = unheard >= UNHEARD_LOOKS;
    match (is_silent, is_unheard) {
        (true, _) if is_near(address) && !is_near(signalling) => Some(Fault::PrivateAddress { address }),
        (true, true) => Some(Fault::NoRtp),
        (true, false) => Some(Fault::NothingReceived),
        (false, true) => Some(Fault::NothingHeard),
        (false, false) => None,
    }
}

fn describe(fault: Fault, negotiated: &Negotiated, exchange: Exchange) -> String {
    let (remote, sent) = (negotiated.remote_rtp, exchange.sent);
    match fault {
        Fault::OtherCertificate => format!(
            "No audio with {remote}: the certificate does not match the fingerprint in the SDP, so another answers DTLS in \
             its place, or something on the way has changed a=fingerprint"
        ),
        Fault::NoHandshake => {
            format!("No audio with {remote}: the DTLS handshake for the keys of SRTP came to nothing")
        }
        Fault::PrivateAddress { .. } => format!(
            "One-way audio: nothing arrives from {remote}, which is a private address, while its signalling comes from \
             a public one; {sent} packets were sent there"
        ),
        Fault::NothingHeard => {
            format!("One-way audio: {remote} is heard, and reports that none of {sent} packets sent to it arrives")
        }
        Fault::NoRtp => {
            format!(
                "No audio: nothing arrives from {remote}, and it reports that none of {sent} packets sent to it does"
            )
        }
        _ => format!("One-way audio: nothing arrives from {remote}, to which {sent} packets were sent"),
    }
}

/// 10 s from one measurement to the next: two RTCP reports, and 40 records a second of 400 calls.
const MEASURE: Duration = Duration::from_secs(10);

/// 5 s between two looks: 250 packets each way, and one report.
const LOOK: Duration = Duration::from_secs(5);

/// 6 looks, 30 s: by then three reports have come, and what is found later is a line that broke.
const LOOKS: u32 = 6;

/// Two looks: a report may have left before our first packet came.
const UNHEARD_LOOKS: u32 = 2;
