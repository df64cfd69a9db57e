//! The two transforms: counter mode with HMAC-SHA1 (RFC 3711 §4), and GCM (RFC 7714); and the keys that each derives.

use aes::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use aes::{Aes128Enc, Aes256Enc};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, Nonce, Tag};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::keys::{MasterKey, Mki, Suite};

/// Which packet: no two under one key are alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacketId {
    pub(super) ssrc: u32,
    /// 48 bits for RTP, 31 for RTCP.
    pub(super) index: u64,
}

/// The session keys of RTP or of RTCP.
pub(super) enum Transform {
    Cm(Box<Cm>),
    Gcm(Box<Gcm>),
}

/// Where the parts of a protected packet begin. Counter mode: body, index, MKI, tag; GCM: body, tag, index, MKI. Only RTCP
/// has an index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Where the body ends.
    pub(super) body: usize,
    pub(super) index: usize,
    pub(super) mki: usize,
    tag: usize,
    pub(super) end: usize,
}

pub(super) struct Cm {
    cipher: Aes,
    salt: [u8; SALT_BYTES],
    mac: Hmac<Sha1>,
    tag_bytes: usize,
}

pub(super) struct Gcm {
    cipher: Aead,
    salt: [u8; NONCE_BYTES],
}

#[expect(
    clippy::large_enum_variant,
    reason = "the key schedule stands beside what uses it; a box would save 256 bytes a direction"
)]
enum Aes {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

#[expect(
    clippy::large_enum_variant,
    reason = "the key schedule stands beside what uses it; a box would save 256 bytes a direction"
)]
enum Aead {
    Aes128(Aes128Gcm),
    Aes256(Aes256Gcm),
}

/// What a master key is turned into for RTP, or for RTCP.
pub(super) struct SessionKeys {
    pub(super) key: [u8; 32],
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) auth: [u8; AUTH_KEY_BYTES],
}

impl SessionKeys {
    /// The pseudo-random function is AES with the master key (RFC 3711 §4.3.3, RFC 6188 §3). Keys are derived once.
    fn derive(master: &MasterKey, labels: u8) -> Self {
        let prf = Aes::new(master.key());
        let mut keys = SessionKeys { key: [0; 32], salt: [0; SALT_BYTES], auth: [0; AUTH_KEY_BYTES] };
        let (key_bytes, salt_bytes) = (master.suite().key_bytes(), master.suite().salt_bytes());
        for (label, out) in [(0, &mut keys.key[..key_bytes]), (1, &mut keys.auth), (2, &mut keys.salt[..salt_bytes])] {
            let mut block = [0; BLOCK_BYTES];
            block[..master.salt().len()].copy_from_slice(master.salt());
            block[LABEL_AT] ^= labels + label;
            prf.apply(&block, out);
        }
        keys
    }
}

impl Layout {
    pub(super) fn of_body(transform: &Transform, mki: Option<Mki>, index_bytes: usize, body: usize) -> Self {
        let (tag_bytes, mki_bytes) = (transform.tag_bytes(), mki.map_or(0, Mki::bytes));
        let end = body + index_bytes + mki_bytes + tag_bytes;
        match transform {
            Transform::Cm(_) => {
                Layout { body, index: body, mki: body + index_bytes, tag: body + index_bytes + mki_bytes, end }
            }
            Transform::Gcm(_) => {
                let index = body + tag_bytes;
                Layout { body, tag: body, index, mki: index + index_bytes, end }
            }
        }
    }

    pub(super) fn of_packet(
        transform: &Transform,
        mki: Option<Mki>,
        index_bytes: usize,
        packet_bytes: usize,
    ) -> Option<Self> {
        let body = packet_bytes.checked_sub(transform.tag_bytes() + index_bytes + mki.map_or(0, Mki::bytes))?;
        Some(Layout::of_body(transform, mki, index_bytes, body))
    }
}

impl Transform {
    /// Derives the session keys of RTP and of RTCP (RFC 3711 §4.3).
    pub(super) fn pair(master: &MasterKey) -> (Self, Self) {
        let suite = master.suite();
        (
            Transform::derive(master, 0, suite.tag_bytes()),
            Transform::derive(master, RTCP_LABELS, suite.control_tag_bytes()),
        )
    }

    fn derive(master: &MasterKey, labels: u8, tag_bytes: usize) -> Self {
        Transform::of_session_keys(master.suite(), &SessionKeys::derive(master, labels), tag_bytes)
    }

    pub(super) fn of_session_keys(suite: Suite, keys: &SessionKeys, tag_bytes: usize) -> Self {
        let key = &keys.key[..suite.key_bytes()];
        if suite.is_aead() {
            let salt = *keys.salt.first_chunk().unwrap_or(&[0; NONCE_BYTES]);
            return Transform::Gcm(Box::new(Gcm { cipher: Aead::new(key), salt }));
        }
        #[expect(clippy::expect_used, reason = "HMAC takes a key of every length (RFC 2104 §2)")]
        let mac = Hmac::new_from_slice(&keys.auth).expect("any length");
        Transform::Cm(Box::new(Cm { cipher: Aes::new(key), salt: keys.salt, mac, tag_bytes }))
    }

    fn tag_bytes(&self) -> usize {
        match self {
            Transform::Cm(cm) => cm.tag_bytes,
            Transform::Gcm(_) => TAG_BYTES_MAX,
        }
    }

    /// Seals RTP: what is behind the header is encrypted, the tag written.
    pub(super) fn seal(&self, id: PacketId, packet: &mut [u8], header: usize, layout: &Layout) -> Option<()> {
        match self {
            Transform::Cm(cm) => {
                cm.apply(id, &mut packet[header..layout.body]);
                let tag = cm.tag(&packet[..layout.body], &rollover(id));
                packet[layout.tag..][..cm.tag_bytes].copy_from_slice(&tag[..cm.tag_bytes]);
            }
            Transform::Gcm(gcm) => {
                let (clear, secret) = packet[..layout.body].split_at_mut(header);
                let tag = gcm.seal(id, clear, secret)?;
                packet[layout.tag..][..tag.len()].copy_from_slice(&tag);
            }
        }
        Some(())
    }

    /// Opens RTP, if its tag is right.
    pub(super) fn open(&self, id: PacketId, packet: &mut [u8], header: usize, layout: &Layout) -> Option<()> {
        match self {
            Transform::Cm(cm) => {
                let tag = cm.tag(&packet[..layout.body], &rollover(id));
                cm.check(&tag, &packet[layout.tag..])?;
                cm.apply(id, &mut packet[header..layout.body]);
                Some(())
            }
            Transform::Gcm(gcm) => {
                let tag: [u8; TAG_BYTES_MAX] = *packet[layout.tag..].first_chunk()?;
                let (clear, secret) = packet[..layout.body].split_at_mut(header);
                gcm.open(id, clear, secret, tag)
            }
        }
    }

    /// Seals RTCP, whose index word is in its place.
    pub(super) fn seal_control(&self, id: PacketId, packet: &mut [u8], word: [u8; 4], layout: &Layout) -> Option<()> {
        match self {
            Transform::Cm(cm) => {
                cm.apply(id, &mut packet[super::RTCP_HEADER_BYTES..layout.body]);
                let tag = cm.tag(&packet[..layout.mki], &[]);
                packet[layout.tag..][..cm.tag_bytes].copy_from_slice(&tag[..cm.tag_bytes]);
            }
            Transform::Gcm(gcm) => {
                let (clear, secret) = packet[..layout.body].split_at_mut(super::RTCP_HEADER_BYTES);
                let tag = gcm.seal(id, &associated(clear, word), secret)?;
                packet[layout.tag..][..tag.len()].copy_from_slice(&tag);
            }
        }
        Some(())
    }

    /// Opens RTCP, if its tag is right.
    pub(super) fn open_control(&self, id: PacketId, packet: &mut [u8], word: [u8; 4], layout: &Layout) -> Option<()> {
        match self {
            Transform::Cm(cm) => {
                let tag = cm.tag(&packet[..layout.mki], &[]);
                cm.check(&tag, &packet[layout.tag..])?;
                cm.apply(id, &mut packet[super::RTCP_HEADER_BYTES..layout.body]);
                Some(())
            }
            Transform::Gcm(gcm) => {
                let tag: [u8; TAG_BYTES_MAX] = *packet[layout.tag..].first_chunk()?;
                let (clear, secret) = packet[..layout.body].split_at_mut(super::RTCP_HEADER_BYTES);
                gcm.open(id, &associated(clear, word), secret, tag)
            }
        }
    }
}

impl Cm {
    /// RFC 3711 §4.1.1: encrypts, and decrypts.
    pub(super) fn apply(&self, id: PacketId, body: &mut [u8]) {
        let mut counter = [0; BLOCK_BYTES];
        counter[..SALT_BYTES].copy_from_slice(&self.salt);
        mix(&mut counter[4..], id);
        self.cipher.apply(&counter, body);
    }

    /// RFC 3711 §4.2: of the packet, then the roll-over counter.
    fn tag(&self, packet: &[u8], rollover: &[u8]) -> [u8; 20] {
        let mut mac = self.mac.clone();
        mac.update(packet);
        mac.update(rollover);
        mac.finalize().into_bytes().into()
    }

    fn check(&self, tag: &[u8; 20], theirs: &[u8]) -> Option<()> {
        let theirs = theirs.get(..self.tag_bytes)?;
        bool::from(tag[..self.tag_bytes].ct_eq(theirs)).then_some(())
    }
}

impl Gcm {
    fn seal(&self, id: PacketId, associated: &[u8], body: &mut [u8]) -> Option<[u8; TAG_BYTES_MAX]> {
        let nonce = self.nonce(id);
        let sealed = match &self.cipher {
            Aead::Aes128(cipher) => cipher.encrypt_inout_detached(&nonce, associated, body.into()),
            Aead::Aes256(cipher) => cipher.encrypt_inout_detached(&nonce, associated, body.into()),
        };
        Some(sealed.ok()?.into())
    }

    fn open(&self, id: PacketId, associated: &[u8], body: &mut [u8], tag: [u8; TAG_BYTES_MAX]) -> Option<()> {
        let (nonce, tag) = (self.nonce(id), Tag::from(tag));
        let opened = match &self.cipher {
            Aead::Aes128(cipher) => cipher.decrypt_inout_detached(&nonce, associated, body.into(), &tag),
            Aead::Aes256(cipher) => cipher.decrypt_inout_detached(&nonce, associated, body.into(), &tag),
        };
        opened.ok()
    }

    /// RFC 7714 §8.1, §9.1.
    fn nonce(&self, id: PacketId) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = self.salt;
        mix(&mut nonce[2..], id);
        nonce.into()
    }
}

impl Aes {
    fn new(key: &[u8]) -> Self {
        match key.first_chunk::<32>() {
            Some(key) => Aes::Aes256(Aes256Enc::new(key.into())),
            None => Aes::Aes128(Aes128Enc::new(key.first_chunk::<16>().unwrap_or(&[0; 16]).into())),
        }
    }

    /// Applies the keystream that begins at a counter block.
    fn apply(&self, counter: &[u8; BLOCK_BYTES], body: &mut [u8]) {
        match self {
            Aes::Aes128(cipher) => keystream(cipher, counter, body),
            Aes::Aes256(cipher) => keystream(cipher, counter, body),
        }
    }
}

impl Aead {
    fn new(key: &[u8]) -> Self {
        match key.first_chunk::<32>() {
            Some(key) => Aead::Aes256(Aes256Gcm::new(key.into())),
            None => Aead::Aes128(Aes128Gcm::new(key.first_chunk::<16>().unwrap_or(&[0; 16]).into())),
        }
    }
}

fn keystream<C>(cipher: &C, counter: &[u8; BLOCK_BYTES], body: &mut [u8])
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>,
{
    let core = CtrCore::<&C, Ctr128BE>::inner_iv_init(cipher, counter.into());
    StreamCipherCoreWrapper::from_core(core).apply_keystream(body);
}

/// Both transforms put the SSRC and 48 bits of index beside each other.
fn mix(block: &mut [u8], id: PacketId) {
    let index = id.index.to_be_bytes();
    let id = id.ssrc.to_be_bytes().into_iter().chain(index.into_iter().skip(2));
    block.iter_mut().zip(id).for_each(|(byte, other)| *byte ^= other);
}

fn rollover(id: PacketId) -> [u8; 4] {
    ((id.index >> 16) as u32).to_be_bytes()
}

/// RFC 7714 §9.2: the header and the index word are authenticated beside the body.
fn associated(header: &[u8], word: [u8; 4]) -> [u8; super::RTCP_HEADER_BYTES + 4] {
    let mut data = [0; super::RTCP_HEADER_BYTES + 4];
    data.iter_mut().zip(header.iter().chain(&word)).for_each(|(byte, from)| *byte = *from);
    data
}

const BLOCK_BYTES: usize = 16;
const SALT_BYTES: usize = 14;
const NONCE_BYTES: usize = 12;

/// RFC 3711 §8.2: 160 bits.
const AUTH_KEY_BYTES: usize = 20;

/// The labels of RTP begin at 0, those of RTCP at 3 (RFC 3711 §4.3.2).
const RTCP_LABELS: u8 = 3;

/// The byte left of 48 bits in 112 (RFC 3711 §4.3.1). GCM's salt of 96 bits stands at the left as well.
const LABEL_AT: usize = 7;

/// GCM's; HMAC-SHA1's is cut to 10 or 4.
pub(super) const TAG_BYTES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;

    #[test]
    fn session_keys_are_those_of_the_rfcs_examples() {
        // RFC 3711 B.3.
        let master = hex("E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6");
        let keys = derived(Suite::AesCm128HmacSha1_80, &master);
        assert_eq!(keys.key[..16], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(keys.salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(keys.auth[..], hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
        // RFC 6188 §7.2.
        let master =
            hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b63b04803de51ee7c96423ab5b78d2");
        let keys = derived(Suite::AesCm256HmacSha1_32, &master);
        assert_eq!(keys.key[..], hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4"));
        assert_eq!(keys.salt[..], hex("fa31791685ca444a9e07c6c64e93"));
        assert_eq!(keys.auth[..], hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
    }

    #[test]
    fn the_keystream_is_that_of_the_rfcs_examples() {
        let counter: [u8; 16] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000").try_into().expect("16 bytes");
        // RFC 3711 B.2, RFC 6188 §7.1; both go on to the counter's second byte.
        for (key, begins, goes_on) in [
            (
                "2B7E151628AED2A6ABF7158809CF4F3C",
                "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB",
                "EC8CDF7398607CB0F2D21675EA9EA1E4362B7C3C6773516318A077D7FC5073AE",
            ),
            (
                "57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98",
                "92bdd28a93c3f52511c677d08b5515a49da71b2378a854f67050756ded165bac",
                "cea518c90fd91ced9cbb18c078a547113dbc4814f4da5f00a08772b63c6a046d",
            ),
        ] {
            let mut stream = vec![0; 0xff10 * 16];
            Aes::new(&hex(key)).apply(&counter, &mut stream);
            assert_eq!(stream[..32], hex(begins));
            assert_eq!(stream[0xfeff * 16..][..32], hex(goes_on));
        }
    }

    fn derived(suite: Suite, master: &[u8]) -> SessionKeys {
        SessionKeys::derive(&MasterKey::new(suite, master).expect("as long as it is to be"), 0)
    }
}
