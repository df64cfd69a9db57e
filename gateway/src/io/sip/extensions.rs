//! What a trunk's settings let its calls use of SIP's extensions.

use std::time::Duration;

use talkstack_control::port::{Reliable as Wanted, Signalling};
use talkstack_media::sip::{Extensions, Offered, Reliable};

use super::SipThread;

impl SipThread {
    /// Lets a call that came in by a trunk use what the trunk's settings say; others use what is usual.
    pub(super) fn apply_extensions(&mut self, offered: &Offered) {
        let trunk = self.dialling.trunks.trunk_of(offered.flow.remote.ip());
        if let Some(trunk) = trunk.and_then(|id| self.snapshot.trunks.get(id)) {
            self.endpoint.set_extensions(offered.dialog, extensions(&trunk.signalling));
        }
    }
}

/// The same in the endpoint's terms.
pub(super) fn extensions(signalling: &Signalling) -> Extensions {
    Extensions {
        reliable: match signalling.reliable {
            Wanted::Off => Reliable::Off,
            Wanted::Supported => Reliable::Supported,
            Wanted::Required => Reliable::Required,
        },
        session_expires: Some(signalling.session_expires_s)
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.into())),
        refer: signalling.refer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_s_settings_are_its_calls() {
        let usual = extensions(&Signalling::default());
        assert_eq!(usual, Extensions { refer: false, ..Extensions::default() });
        let strict =
            Signalling { reliable: Wanted::Required, session_expires_s: 0, refer: true, ..Signalling::default() };
        let expected = Extensions { reliable: Reliable::Required, session_expires: None, refer: true };
        assert_eq!(extensions(&strict), expected);
    }
}
