//! Keys on their way from one side of a call to the other.

use std::collections::VecDeque;
use std::time::Instant;

use talkstack_media::rtp::dtmf::PRESS;
use talkstack_media::session::{Pressed, RtpSession};
use talkstack_media::sip::InfoDigit;

use super::{Call, CallOutput, LegId};

impl Call {
    /// The far end of a leg has pressed a key by SIP INFO.
    pub fn handle_info_digit(&mut self, leg: LegId, digit: InfoDigit, now: Instant) {
        if let Some(session) = self.leg_mut(leg).and_then(|leg| leg.session.as_mut()) {
            session.handle_info_digit(digit.key, now);
            self.listen(now);
        }
    }

    /// Presses a key for the first leg's far end, as the agent wishes. One that is no key is left out.
    pub(super) fn press(&mut self, key: char) {
        if let Some(session) = &mut self.leg.session {
            press(key, (LegId::First, session), &mut self.outputs);
        }
    }
}

/// Presses a key that one leg has heard for the far end of the other, by whichever way its line has. A tone that the
/// other hears anyway is not made a second time.
pub(super) fn pass_key_on(
    key: char,
    from: &RtpSession,
    to: (LegId, &mut RtpSession),
    outputs: &mut VecDeque<CallOutput>,
) {
    if !(from.is_digit_audible() && to.1.presses_in_audio()) {
        press(key, to, outputs);
    }
}

fn press(key: char, (leg, to): (LegId, &mut RtpSession), outputs: &mut VecDeque<CallOutput>) {
    match to.press(key, PRESS) {
        Pressed::ByInfo => outputs.push_back(CallOutput::Press(leg, InfoDigit { key, held: PRESS })),
        // A line that has no way for keys has no use for them.
        Pressed::OnTheLine | Pressed::Refused => {}
    }
}
