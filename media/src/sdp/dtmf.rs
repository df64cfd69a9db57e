//! How keys travel on a line.

/// How keys travel on a line (`dtmf` of a trunk).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtmfMode {
    /// As telephone events where they were agreed on, else as tones in the audio. The default.
    #[default]
    Auto,
    /// As telephone events and not at all without them.
    Rfc4733,
    /// Ours by SIP INFO; theirs by INFO or as telephone events.
    Info,
    /// As tones in the audio; telephone events are not agreed on.
    Inband,
}

impl DtmfMode {
    /// All of them.
    pub const ALL: [DtmfMode; 4] = [DtmfMode::Auto, DtmfMode::Rfc4733, DtmfMode::Info, DtmfMode::Inband];

    /// Tells whether telephone events are offered and agreed on.
    pub fn has_events(self) -> bool {
        self != DtmfMode::Inband
    }

    /// Tells whether keys are looked for in the audio.
    pub fn is_heard_in_audio(self, has_agreed_on_events: bool) -> bool {
        match self {
            DtmfMode::Auto | DtmfMode::Inband => !has_agreed_on_events,
            DtmfMode::Rfc4733 | DtmfMode::Info => false,
        }
    }

    /// Tells whether keys are made in the audio.
    pub fn is_pressed_in_audio(self, has_agreed_on_events: bool) -> bool {
        match self {
            DtmfMode::Auto => !has_agreed_on_events,
            DtmfMode::Inband => true,
            DtmfMode::Rfc4733 | DtmfMode::Info => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_are_looked_for_only_where_events_were_not_agreed_on() {
        let expected = [
            (DtmfMode::Auto, false, true),
            (DtmfMode::Auto, true, false),
            (DtmfMode::Inband, false, true),
            (DtmfMode::Info, false, false),
            (DtmfMode::Rfc4733, false, false),
        ];
        for (mode, has_agreed, is_heard) in expected {
            assert_eq!(mode.is_heard_in_audio(has_agreed), is_heard, "{mode:?}");
        }
        assert!(DtmfMode::ALL.iter().filter(|mode| !mode.has_events()).eq([&DtmfMode::Inband]));
    }
}
