//! What of a datagram the handshake is shown: RFC 6347 §4.1.2.7 has the rest dropped without a word, and so it cannot
//! end a handshake, nor make it answer with an alert that would end the far end's.

use crate::sdp::DtlsRole;

/// What a datagram of the far end's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing that a handshake would be made of.
    Broken,
    /// What was answered already: the answer has been lost (RFC 6347 §4.2.4).
    Repeat,
    /// Something to read.
    Fresh,
}

/// Judges a datagram; `has_replied` tells that our last flight is out.
pub(super) fn judge(datagram: &[u8], role: DtlsRole, has_replied: bool) -> Kind {
    let (mut repeats, mut records) = (0, 0);
    let mut rest = datagram;
    while !rest.is_empty() {
        let Some((record, behind)) = Record::split(rest) else { return Kind::Broken };
        records += 1;
        if records > RECORDS_MAX || !record.is_sound() {
            return Kind::Broken;
        }
        let is_of_answered = match role {
            // The server's last flight is under its cipher.
            DtlsRole::Client => record.is_open(HANDSHAKE),
            DtlsRole::Server => record.is_open(HANDSHAKE) && record.body.first() == Some(&CLIENT_HELLO),
        };
        repeats += usize::from(is_of_answered);
        rest = behind;
    }
    match (records, repeats) {
        (0, _) => Kind::Broken,
        (_, 1..) if has_replied => Kind::Repeat,
        _ => Kind::Fresh,
    }
}

/// Tells whether a datagram of ours ends the flight behind which the far end has nothing more to ask: the client's
/// `ChangeCipherSpec`, the server's `ServerHelloDone`.
pub(super) fn is_reply(datagram: &[u8], role: DtlsRole) -> bool {
    let mut rest = datagram;
    while let Some((record, behind)) = Record::split(rest) {
        let is_it = match role {
            DtlsRole::Client => record.is_open(CHANGE_CIPHER_SPEC),
            DtlsRole::Server => record.is_open(HANDSHAKE) && record.body.first() == Some(&SERVER_HELLO_DONE),
        };
        if is_it {
            return true;
        }
        rest = behind;
    }
    false
}

/// Tells whether a datagram begins a handshake.
pub(crate) fn is_client_hello(datagram: &[u8]) -> bool {
    Record::split(datagram).is_some_and(|(record, _)| {
        record.is_open(HANDSHAKE) && record.is_sound() && record.body.first() == Some(&CLIENT_HELLO)
    })
}

/// One record (RFC 6347 §4.1).
struct Record<'a> {
    content_type: u8,
    epoch: u16,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>()?;
        // DTLS 1.0 may stand in a first flight, whatever is spoken then.
        if header[1] != 254 || ![255, 253].contains(&header[2]) {
            return None;
        }
        let epoch = u16::from_be_bytes([header[3], header[4]]);
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let (body, behind) = rest.split_at_checked(length)?;
        Some((Record { content_type: header[0], epoch, body }, behind))
    }

    /// Not encrypted, and of this type.
    fn is_open(&self, content_type: u8) -> bool {
        self.epoch == 0 && self.content_type == content_type
    }

    /// What is encrypted shows only behind the cipher whether it is.
    fn is_sound(&self) -> bool {
        match (self.content_type, self.epoch) {
            (CHANGE_CIPHER_SPEC, 0) => self.body == [1],
            (ALERT, 0) => self.body.len() == 2,
            (HANDSHAKE, 0) => are_messages(self.body),
            (CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 1) => true,
            _ => false,
        }
    }
}

/// Messages, or one and a part of another (RFC 6347 §4.2.2).
fn are_messages(mut rest: &[u8]) -> bool {
    if rest.is_empty() {
        return false;
    }
    while let Some((header, behind)) = rest.split_first_chunk::<MESSAGE_HEADER_BYTES>() {
        let number = |at: usize| header[at..at + 3].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (length, offset, fragment) = (number(1), number(6), number(9));
        let is_whole = fragment == length;
        let is_last_part = fragment > 0 && offset + fragment == length;
        let is_sound = length <= MESSAGE_BYTES_MAX
            && u16::from_be_bytes([header[4], header[5]]) < MESSAGES_MAX
            && offset + fragment <= length
            && (is_whole || is_last_part || fragment >= FRAGMENT_BYTES_MIN);
        let Some(behind) = behind.get(fragment..).filter(|_| is_sound) else { return false };
        if !is_whole && !behind.is_empty() {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO_DONE: u8 = 14;
const RECORD_HEADER_BYTES: usize = 13;
const MESSAGE_HEADER_BYTES: usize = 12;

/// 16 records: the longest flight has seven.
const RECORDS_MAX: usize = 16;

/// 16 KiB: a chain of three certificates with RSA keys of 4,096 bits has 6 KiB.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// 32 messages; a handshake has eleven.
const MESSAGES_MAX: u16 = 32;

/// 32 bytes: nobody's MTU leaves less for a part, and so a message has at most 512 of them.
const FRAGMENT_BYTES_MIN: usize = 32;
