//! Any bytes as SRTP, SRTCP and `a=crypto`: nothing of a stranger's is taken, and what is sealed is opened again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkstack_media::rtp::srtp::{
    Inbound, KeyParameter, LIFETIME_MAX, MasterKey, Mki, OVERHEAD_BYTES_MAX, Outbound, Suite,
};
use talkstack_media::sdp::Crypto;

fuzz_target!(|bytes: &[u8]| {
    // One byte of suite and identifier, then the packet.
    let [choice, packet @ ..] = bytes else { return };
    let suite = Suite::ALL[usize::from(*choice) % Suite::ALL.len()];
    let mki = (choice & 0x80 != 0).then_some(Mki { value: 7, length: 1 + (choice >> 3 & 0x0f) });
    let Some(master) = MasterKey::new(suite, &vec![0x5a; suite.master_bytes()]) else { return };
    let key = KeyParameter { master, lifetime: LIFETIME_MAX, mki };
    let (mut outbound, mut inbound) = (Outbound::new(&key), Inbound::new(std::slice::from_ref(&key)));
    assert!(inbound.open(&mut packet.to_vec()).is_err());
    assert!(inbound.open_control(&mut packet.to_vec()).is_err());
    let mut room = [packet, &[0; OVERHEAD_BYTES_MAX]].concat();
    if let Some(sealed) = outbound.seal(&mut room, packet.len()) {
        assert_eq!(inbound.open(&mut room[..sealed]), Ok(packet.len()));
        assert_eq!(&room[..packet.len()], packet);
    }
    let mut room = [packet, &[0; OVERHEAD_BYTES_MAX]].concat();
    if let Some(sealed) = outbound.seal_control(&mut room, packet.len()) {
        assert_eq!(inbound.open_control(&mut room[..sealed]), Ok(packet.len()));
        assert_eq!(&room[..packet.len()], packet);
    }
    if let Ok(crypto) = std::str::from_utf8(packet).map_err(drop).and_then(|line| Crypto::parse(line).map_err(drop)) {
        assert_eq!(Crypto::parse(&crypto.to_string()), Ok(crypto));
    }
});
