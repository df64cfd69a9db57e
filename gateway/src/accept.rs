//! Who may talk SIP to the box: a pure function of an address.

use std::net::IpAddr;

use talkstack_media::sip::is_near;

/// The policy `sip.accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// Configured trunks only.
    Trunks,
    /// Trunks, and whoever is near: loopback, RFC 1918, unique local and link-local addresses.
    #[default]
    Private,
    /// Everybody.
    Any,
}

impl Accept {
    /// Tells whether a source is answered. One that is not gets no answer at all and is counted.
    pub fn admits(self, source: IpAddr) -> bool {
        match self {
            // Trunks come with the trunks resource; until one is configured nobody is one.
            Accept::Trunks => false,
            Accept::Private => is_near(source.to_canonical()),
            Accept::Any => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_what_no_router_of_the_internet_forwards() {
        for (source, near) in [
            ("127.0.0.1", true),
            ("10.255.0.1", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("169.254.1.1", true),
            ("100.64.0.1", false),
            ("8.8.8.8", false),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("::ffff:192.168.1.1", true),
            ("::ffff:8.8.8.8", false),
        ] {
            let source: IpAddr = source.parse().expect("address");
            assert_eq!(Accept::Private.admits(source), near, "{source}");
            assert!(Accept::Any.admits(source));
            assert!(!Accept::Trunks.admits(source));
        }
    }
}
