//! How the media of a line is secured: by what its trunk or extension wants, and by whether its SIP goes under TLS.

use talkstack_control::port::{Dtmf, SpeechCodec, Srtp as Policy, TrunkMedia};
use talkstack_media::codec::Codec;
use talkstack_media::rtp::latch::MediaNetworks;
use talkstack_media::sdp::{DtmfMode, Repertoire, Security, Srtp};
use talkstack_media::sip::{Flow, Transport};

use super::SipThread;
use crate::call::LineSecurity;
use crate::route::BridgeTarget;

/// What is wanted of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) srtp: Srtp,
    sdes_over_plain: bool,
    /// In which order a trunk wants codecs; the box's own where it has none.
    repertoire: Option<Repertoire>,
    networks: MediaNetworks,
}

/// Of a line that is neither a trunk nor an extension: keys are taken where they are offered.
const OF_STRANGERS: Wanted =
    Wanted { srtp: Srtp::Optional, sdes_over_plain: false, repertoire: None, networks: MediaNetworks::NONE };

impl Wanted {
    pub(super) fn of_trunk(media: &TrunkMedia) -> Self {
        let repertoire = if media.codecs.is_empty() {
            Repertoire::of_trunk(media.ptime_ms)
        } else {
            Repertoire::new(media.codecs.iter().copied().map(codec), media.ptime_ms)
        };
        let repertoire = Some(repertoire.with_dtmf(dtmf(media.dtmf)));
        // Control has checked them when they were set.
        let networks = MediaNetworks::new(media.media_networks.iter().filter_map(|text| text.parse().ok()));
        Wanted { srtp: srtp(media.srtp), sdes_over_plain: media.sdes_over_plain, repertoire, networks }
    }

    /// Tells whether keys may be told to who is reached so.
    pub(super) fn tells_keys_over(self, transport: Transport) -> bool {
        transport.is_secure() || self.sdes_over_plain
    }

    /// Tells whether an offer may go so: one that must have keys goes nowhere where they may not be told.
    pub(super) fn may_go_over(self, transport: Transport) -> bool {
        self.srtp != Srtp::Required || self.tells_keys_over(transport)
    }
}

impl SipThread {
    /// How the media of a line is secured that calls over this flow.
    pub(super) fn security_of(&mut self, phone: Option<&str>, trunk_id: Option<&str>, flow: &Flow) -> LineSecurity {
        let wanted = match (phone, trunk_id) {
            (Some(user), _) => self.wanted_of_phone(user),
            (None, Some(id)) => self.wanted_of_trunk(id),
            (None, None) => OF_STRANGERS,
        };
        self.security_towards(wanted, [flow.transport])
    }

    /// What is wanted of who is to be called.
    pub(super) fn wanted_of(&self, target: &BridgeTarget) -> Wanted {
        match target {
            BridgeTarget::Extension { user, .. } => self.wanted_of_phone(user),
            BridgeTarget::Trunk { trunk_id, .. } => self.wanted_of_trunk(trunk_id),
            BridgeTarget::Agent { .. } => OF_STRANGERS,
        }
    }

    fn wanted_of_trunk(&self, id: &str) -> Wanted {
        self.snapshot.trunks.get(id).map_or(OF_STRANGERS, |trunk| Wanted::of_trunk(&trunk.media))
    }

    fn wanted_of_phone(&self, user: &str) -> Wanted {
        let extension = self.snapshot.extensions.get(user);
        extension.map_or(OF_STRANGERS, |extension| Wanted {
            srtp: srtp(extension.srtp),
            sdes_over_plain: extension.sdes_over_plain,
            repertoire: None,
            networks: MediaNetworks::NONE,
        })
    }

    /// How the media of a line is secured that is reached over any of these transports.
    pub(super) fn security_towards(
        &mut self,
        wanted: Wanted,
        transports: impl IntoIterator<Item = Transport>,
    ) -> LineSecurity {
        let (mut is_signalling_secure, mut tells_keys) = (true, true);
        for transport in transports {
            is_signalling_secure &= transport.is_secure();
            tells_keys &= wanted.tells_keys_over(transport);
        }
        let media = Security::new(wanted.srtp, tells_keys, self.random.seed());
        LineSecurity {
            media: self.config.dtls.map_or(media, |fingerprint| media.with_identity(fingerprint)),
            is_signalling_secure,
            repertoire: wanted.repertoire.unwrap_or_default(),
            networks: wanted.networks,
        }
    }
}

fn codec(codec: SpeechCodec) -> Codec {
    match codec {
        SpeechCodec::Opus => Codec::Opus,
        SpeechCodec::G722 => Codec::G722,
        SpeechCodec::Pcmu => Codec::Pcmu,
        SpeechCodec::Pcma => Codec::Pcma,
    }
}

fn dtmf(dtmf: Dtmf) -> DtmfMode {
    match dtmf {
        Dtmf::Auto => DtmfMode::Auto,
        Dtmf::Rfc4733 => DtmfMode::Rfc4733,
        Dtmf::Info => DtmfMode::Info,
        Dtmf::Inband => DtmfMode::Inband,
    }
}

fn srtp(policy: Policy) -> Srtp {
    match policy {
        Policy::Off => Srtp::Off,
        Policy::Optional => Srtp::Optional,
        Policy::Required => Srtp::Required,
    }
}
