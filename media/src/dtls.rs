//! DTLS 1.2 for the keys of SRTP (RFC 5763, RFC 5764): our side of one handshake.
//!
//! ```text
//!                a=fingerprint of theirs ─▶ ┌───────────┐ ─▶ SRTP keys of both sides, or why there are none
//!                              datagrams ◀─▶│ Handshake │
//!   nothing answers: again after 0.5 s, 1 s,└───────────┘
//!   2 s, 4 s … ; 16 s, and it has failed
//! ```
//!
//! The machine takes datagrams and time and gives datagrams and keys. The TLS inside draws its own random numbers, which is
//! why no handshake is like another; it takes milliseconds of a core, which is why it runs on no media thread.
//!
//! Nobody but its fingerprint vouches for a certificate: ours is made when the process starts, theirs is held against
//! their session description.

mod record;

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

pub(crate) use record::is_client_hello;
use record::{Kind, is_reply, judge};

use crate::rtp::srtp::{KeyParameter, LIFETIME_MAX, MasterKey, Suite};
use crate::sdp::{DtlsPeer, DtlsRole, Fingerprint, SdesKeys};

/// Who we are in every handshake: a self-signed certificate with a key on P-256.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    fingerprint: Fingerprint,
}

/// One handshake with one far end.
pub struct Handshake {
    endpoint: Endpoint,
    role: DtlsRole,
    outputs: VecDeque<HandshakeOutput>,
    /// Their certificate is not that of their description.
    is_other: Arc<AtomicBool>,
    phase: Phase,
    /// Our last flight is out.
    has_replied: bool,
    datagrams: usize,
    last_sent: Instant,
    /// How long an answer is waited for before the flight is sent again.
    patience: Duration,
    ends_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Shaking,
    /// The keys are out; what the far end repeats is answered.
    Keyed,
    Over,
}

/// What a handshake wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeOutput {
    /// Send this datagram to the far end.
    Send(Vec<u8>),
    /// These are the keys.
    Keyed(Box<SdesKeys>),
    /// There will be none.
    Failed(DtlsError),
}

/// A handshake that came to nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum DtlsError {
    /// Our own side cannot begin. Nobody's doing outside; there is no DTLS then.
    #[error("DTLS cannot be set up")]
    Setup,
    /// Somebody has a certificate that the session description does not name.
    #[error("the certificate does not match the fingerprint in the SDP")]
    Certificate,
    /// The far end refused our side, or wants what we cannot do.
    #[error("the DTLS handshake was refused by one side")]
    Refused,
    /// Nothing came back, however often it was asked.
    #[error("the DTLS handshake was not answered")]
    Silent,
    /// It has chosen no profile that we have.
    #[error("there is no SRTP profile in common")]
    NoProfile,
}

impl Identity {
    /// Makes a certificate; its key is drawn here.
    ///
    /// # Errors
    /// [`DtlsError::Setup`].
    pub fn new() -> Result<Self, DtlsError> {
        let provider = rtc_crypto::default_provider().map_err(|_| DtlsError::Setup)?;
        let certificate = Certificate::generate_self_signed(vec![NAME.to_owned()], provider.crypto());
        let certificate = certificate.map_err(|_| DtlsError::Setup)?;
        let fingerprint = Fingerprint::of(certificate.certificate.first().ok_or(DtlsError::Setup)?);
        Ok(Identity { provider, certificate, fingerprint })
    }

    /// What our descriptions say of it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn config(
        &self,
        role: DtlsRole,
        expected: Vec<Fingerprint>,
        is_other: Arc<AtomicBool>,
    ) -> Result<Arc<HandshakeConfig>, DtlsError> {
        let check = move |chain: &[Vec<u8>], _: &[_]| {
            let shown = chain.first();
            if shown.is_some_and(|shown| expected.iter().any(|expected| expected.matches(shown))) {
                return Ok(());
            }
            is_other.store(true, Ordering::Relaxed);
            Err(Error::ErrNoCertificates)
        };
        let builder = ConfigBuilder::default()
            .with_crypto_provider(self.provider.clone())
            .with_certificates(vec![self.certificate.clone()])
            .with_srtp_protection_profiles(PROFILES.map(|(profile, _)| profile).to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_extended_master_secret(ExtendedMasterSecretType::Request)
            // Else it takes another name, and warns of it in the log.
            .with_server_name(NAME.to_owned())
            // No authority vouches for either side: the fingerprint decides.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(check)));
        builder.build(role == DtlsRole::Client, None).map(Arc::new).map_err(|_| DtlsError::Setup)
    }
}

/// Keys are never printed.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("role", &self.role).field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Handshake {
    /// Begins: as the client with the datagram that waits in [`Handshake::poll_output`], as the server with the
    /// far end's.
    ///
    /// # Errors
    /// [`DtlsError::Setup`].
    pub fn new(identity: &Identity, peer: &DtlsPeer, now: Instant) -> Result<Self, DtlsError> {
        let role = peer.role.ok_or(DtlsError::Setup)?;
        let is_other = Arc::new(AtomicBool::new(false));
        let config = identity.config(role, peer.fingerprints.clone(), is_other.clone())?;
        let endpoint = match role {
            DtlsRole::Server => Endpoint::new(NOWHERE, TransportProtocol::UDP, Some(config)),
            DtlsRole::Client => {
                let mut endpoint = Endpoint::new(NOWHERE, TransportProtocol::UDP, None);
                endpoint.connect(now, REMOTE, config, None).map_err(|_| DtlsError::Setup)?;
                endpoint
            }
        };
        let mut handshake = Handshake {
            endpoint,
            role,
            outputs: VecDeque::new(),
            is_other,
            phase: Phase::Shaking,
            has_replied: false,
            datagrams: 0,
            last_sent: now,
            patience: PATIENCE_MIN,
            ends_at: now + GIVEN_UP,
        };
        handshake.collect(now);
        Ok(handshake)
    }

    /// Takes a datagram of the far end's. Whoever calls vouches for where it came from.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Instant) {
        self.datagrams += 1;
        if self.phase == Phase::Over || self.datagrams > DATAGRAMS_MAX {
            return;
        }
        match judge(bytes, self.role, self.has_replied && self.phase == Phase::Shaking) {
            Kind::Broken => {}
            // The library would read it as progress, and never send its own flight again.
            Kind::Repeat if now.saturating_duration_since(self.last_sent) >= REPEATS_APART => self.repeat(now),
            Kind::Repeat => {}
            Kind::Fresh => self.read(bytes, now),
        }
    }

    /// Time has passed: what was not answered is sent again.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.ends_at {
            match self.phase {
                Phase::Shaking => self.fail(DtlsError::Silent),
                Phase::Keyed | Phase::Over => self.phase = Phase::Over,
            }
        } else if self.phase == Phase::Shaking && now >= self.last_sent + self.patience {
            self.patience = (2 * self.patience).min(PATIENCE_MAX);
            self.repeat(now);
        }
    }

    /// When to come back; `None` once it is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Shaking => Some(self.ends_at.min(self.last_sent + self.patience)),
            Phase::Keyed => Some(self.ends_at),
            Phase::Over => None,
        }
    }

    /// Returns what it wants done next; drain to `None`.
    pub fn poll_output(&mut self) -> Option<HandshakeOutput> {
        self.outputs.pop_front()
    }

    fn read(&mut self, bytes: &[u8], now: Instant) {
        let read = self.endpoint.read(now, REMOTE, None, BytesMut::from(bytes));
        if self.collect(now) {
            self.patience = PATIENCE_MIN;
        }
        if self.phase == Phase::Keyed {
            return;
        }
        let Ok(events) = read else { return self.refuse() };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.complete(now),
                EndpointEvent::PeerClosed => self.refuse(),
                _ => {}
            }
        }
    }

    /// Sends the last flight again, in records of its own (RFC 6347 §4.2.4).
    fn repeat(&mut self, now: Instant) {
        self.last_sent = now;
        // The library's own clock has one second and no back-off; ours decides.
        let Some(due) = self.endpoint.poll_timeout(&REMOTE) else { return };
        let is_alive = self.endpoint.handle_timeout(REMOTE, due.max(now)).is_ok();
        self.collect(now);
        if !is_alive {
            self.fail(DtlsError::Silent);
        }
    }

    /// Takes over what is to be sent; `true` when there was something.
    fn collect(&mut self, now: Instant) -> bool {
        let mut has_sent = false;
        while let Some(transmit) = self.endpoint.poll_transmit() {
            has_sent = true;
            self.has_replied |= is_reply(&transmit.message, self.role);
            if self.outputs.len() < OUTPUTS_MAX {
                self.outputs.push_back(HandshakeOutput::Send(transmit.message.to_vec()));
            }
        }
        if has_sent {
            self.last_sent = now;
        }
        has_sent
    }

    fn complete(&mut self, now: Instant) {
        match self.keys() {
            Ok(keys) => {
                self.phase = Phase::Keyed;
                self.ends_at = now + LINGER;
                self.outputs.push_back(HandshakeOutput::Keyed(Box::new(keys)));
            }
            Err(error) => self.fail(error),
        }
    }

    fn refuse(&mut self) {
        let is_other = self.is_other.load(Ordering::Relaxed);
        self.fail(if is_other { DtlsError::Certificate } else { DtlsError::Refused });
    }

    fn fail(&mut self, error: DtlsError) {
        if self.phase == Phase::Shaking {
            self.phase = Phase::Over;
            self.outputs.push_back(HandshakeOutput::Failed(error));
        }
    }

    /// RFC 5764 §4.2: the client's key, the server's key, the client's salt, the server's salt.
    fn keys(&self) -> Result<SdesKeys, DtlsError> {
        let state = self.endpoint.get_connection_state(REMOTE).ok_or(DtlsError::Refused)?;
        let chosen = state.srtp_protection_profile();
        let (_, suite) = PROFILES.into_iter().find(|(profile, _)| *profile == chosen).ok_or(DtlsError::NoProfile)?;
        let exported = state.export_keying_material(LABEL, &[], 2 * suite.master_bytes());
        let exported = exported.map_err(|_| DtlsError::Refused)?.into_bytes();
        let (keys, salts) = exported.split_at_checked(2 * suite.key_bytes()).ok_or(DtlsError::Refused)?;
        let of_side = |side: usize| {
            let key = keys.chunks(suite.key_bytes()).nth(side).unwrap_or_default();
            let salt = salts.chunks(suite.master_bytes() - suite.key_bytes()).nth(side).unwrap_or_default();
            let master = MasterKey::new(suite, &[key, salt].concat()).ok_or(DtlsError::Refused)?;
            Ok(KeyParameter { master, lifetime: LIFETIME_MAX, mki: None })
        };
        let (client, server) = (of_side(0)?, of_side(1)?);
        let (local, remote) = match self.role {
            DtlsRole::Client => (client, server),
            DtlsRole::Server => (server, client),
        };
        Ok(SdesKeys { local, remote: vec![remote] })
    }
}

/// What the certificate says, and whom we ask for: nobody looks at either.
const NAME: &str = "talkstack";

/// RFC 5764 §4.2.
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// The profiles of RFC 7714 and the one that all have (RFC 5764 §4.1.2), the strongest first.
const PROFILES: [(SrtpProtectionProfile, Suite); 3] = [
    (SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm, Suite::AeadAes256Gcm),
    (SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, Suite::AeadAes128Gcm),
    (SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, Suite::AesCm128HmacSha1_80),
];

/// Our own address, which the library does nothing with.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The far end's: a handshake has one, and where its datagrams come from is looked at before.
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// 0.5 s: longer than any line's round trip, and a lost ClientHello costs the caller no more than a breath.
const PATIENCE_MIN: Duration = Duration::from_millis(500);

/// 4 s: with it a flight is sent six times before it is given up.
const PATIENCE_MAX: Duration = Duration::from_secs(4);

/// 16 s: 0.5 + 1 + 2 + 4 + 4 + 4 and what is left.
const GIVEN_UP: Duration = Duration::from_secs(16);

/// 250 ms between two flights that the far end's repetitions ask for: its own clock has no less.
const REPEATS_APART: Duration = Duration::from_millis(250);

/// 10 s in which a far end may say that our last flight was lost: five of its repetitions.
const LINGER: Duration = Duration::from_secs(10);

/// 64 datagrams: two flights of certificates in eight parts, four times over.
const DATAGRAMS_MAX: usize = 64;

/// 32 datagrams: the longest flight, certificates in fragments, has eight.
const OUTPUTS_MAX: usize = 32;

#[cfg(test)]
mod tests;
