//! Which codecs a line offers and takes, and in packets of which length.

use super::dtmf::DtmfMode;
use crate::codec::Codec;

/// What is spoken on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repertoire {
    /// In the order of our offers; answers follow the offer's. Each once, the rest empty.
    codecs: [Option<Codec>; CODECS],
    /// So many of them are offered; the others are taken where they are offered to us.
    offered: usize,
    ptime_ms: u8,
    dtmf: DtmfMode,
}

impl Default for Repertoire {
    /// Every codec, in [`Codec::ALL`]'s order, in packets of 20 ms.
    fn default() -> Self {
        Repertoire::new([], 20)
    }
}

impl Repertoire {
    /// These codecs, the preferred first; none means all in [`Codec::ALL`]'s order. `ptime_ms` is what our offers wish for
    /// (`a=ptime`), brought to 10 to 60 in steps of ten.
    pub fn new(codecs: impl IntoIterator<Item = Codec>, ptime_ms: u32) -> Self {
        // Sixty at the most.
        let ptime_ms = (ptime_ms.clamp(10, 60) / 10 * 10) as u8;
        let mut repertoire =
            Repertoire { codecs: [None; CODECS], offered: CODECS, ptime_ms, dtmf: DtmfMode::default() };
        for codec in codecs {
            repertoire.add(codec);
        }
        if repertoire.codecs[0].is_none() {
            repertoire.codecs = Codec::ALL.map(Some);
        }
        repertoire
    }

    /// That of a trunk without an order of its own: G.722 and G.711 are offered, which are what the telephone network
    /// speaks and what costs little, and an INVITE with its credentials fits a datagram; Opus is taken where it is offered.
    pub fn of_trunk(ptime_ms: u32) -> Self {
        let codecs = [Codec::G722, Codec::Pcmu, Codec::Pcma, Codec::Opus];
        Repertoire { offered: 3, ..Repertoire::new(codecs, ptime_ms) }
    }

    /// The same with keys that travel so.
    pub fn with_dtmf(self, dtmf: DtmfMode) -> Self {
        Repertoire { dtmf, ..self }
    }

    /// How keys travel.
    pub fn dtmf(&self) -> DtmfMode {
        self.dtmf
    }

    /// The codecs that are taken.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> + Clone {
        self.codecs.into_iter().flatten()
    }

    /// The codecs that are offered, the preferred first.
    pub fn offered(&self) -> impl Iterator<Item = Codec> + Clone {
        self.codecs().take(self.offered)
    }

    /// Tells whether a codec is among them.
    pub fn contains(&self, codec: Codec) -> bool {
        self.codecs.contains(&Some(codec))
    }

    /// The length of packets that is wished for, in milliseconds.
    pub fn ptime_ms(&self) -> u8 {
        self.ptime_ms
    }

    fn add(&mut self, codec: Codec) {
        if !self.contains(codec)
            && let Some(place) = self.codecs.iter_mut().find(|place| place.is_none())
        {
            *place = Some(codec);
        }
    }
}

const CODECS: usize = Codec::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_kept_and_nothing_stands_twice() {
        let repertoire = Repertoire::new([Codec::Pcma, Codec::Opus, Codec::Pcma], 35);
        assert_eq!(repertoire.codecs().collect::<Vec<_>>(), [Codec::Pcma, Codec::Opus]);
        assert_eq!(repertoire.ptime_ms(), 30);
        assert!(repertoire.contains(Codec::Opus) && !repertoire.contains(Codec::G722));
        assert_eq!(Repertoire::default().codecs().collect::<Vec<_>>(), Codec::ALL);
        assert_eq!(Repertoire::default().offered().collect::<Vec<_>>(), Codec::ALL);
        let of_trunk = Repertoire::of_trunk(20);
        assert_eq!(of_trunk.offered().collect::<Vec<_>>(), [Codec::G722, Codec::Pcmu, Codec::Pcma]);
        assert!(of_trunk.contains(Codec::Opus));
        assert_eq!((Repertoire::new([], 0).ptime_ms(), Repertoire::new([], 900).ptime_ms()), (10, 60));
    }
}
