//! How the legs of a call sound: written to the journal while the call is up, and once more at its end.

use std::time::{Duration, Instant};

use std::borrow::Cow;

use talkstack_control::port::{CallLeg, Encryption, InboundQuality, KeyExchange, LegQuality, OutboundQuality};
use talkstack_media::session::Protection;
use talkstack_media::session::{Inbound, Outbound, Quality};

use super::leg::Leg;
use super::{Call, CallOutput, LegId};

impl Call {
    /// Writes the figures of each leg down, if it is time to.
    pub(super) fn measure_if_due(&mut self, now: Instant) {
        for id in [LegId::First, LegId::Second] {
            if self.leg_mut(id).is_some_and(|leg| leg.watch.is_measure_due(now)) {
                self.measure(id);
            }
        }
    }

    /// Writes the figures of both legs down: the call is over.
    pub(super) fn measure_at_last(&mut self) {
        self.measure(LegId::First);
        self.measure(LegId::Second);
    }

    fn measure(&mut self, id: LegId) {
        let leg = match id {
            LegId::First => CallLeg::First,
            LegId::Second => CallLeg::Second,
            LegId::Parked => return,
        };
        let Some(Leg { session: Some(session), watch, .. }) = self.leg_mut(id) else { return };
        // What was never answered was never a conversation.
        if !watch.has_started() {
            return;
        }
        let quality = told(session.quality());
        self.outputs.push_back(CallOutput::Sounds(leg, quality));
    }
}

/// As control is told: milliseconds and percent, to a hundredth.
fn told(Quality { is_wideband, protection, round_trip, inbound, outbound }: Quality) -> LegQuality {
    let Inbound { packets, lost, late, duplicates, refused, concealed, jitter, wait, losses, mos, sound } = inbound;
    let inbound = InboundQuality {
        packets,
        lost,
        late,
        duplicates,
        refused,
        concealed_ms: milliseconds(concealed),
        loss_percent: percent(losses.loss),
        burst_loss_percent: percent(losses.burst_density),
        gap_loss_percent: percent(losses.gap_density),
        jitter_ms: milliseconds(jitter),
        wait_ms: milliseconds(wait),
        mos: mos.map(rounded),
        level_dbov: sound.level_dbov.map(rounded),
        clipped_percent: percent(sound.clipped),
    };
    let Outbound { packets, lost, loss, jitter, mos, sound } = outbound;
    let outbound = OutboundQuality {
        packets,
        lost,
        loss_percent: loss.map(percent),
        jitter_ms: jitter.map(milliseconds),
        mos: mos.map(rounded),
        level_dbov: sound.level_dbov.map(rounded),
        clipped_percent: percent(sound.clipped),
    };
    let encryption = encryption(protection);
    LegQuality { is_wideband, encryption, round_trip_ms: round_trip.map(milliseconds), inbound, outbound }
}

fn encryption(protection: Protection) -> Option<Encryption> {
    let (keys, suite) = match protection {
        Protection::Plain => return None,
        Protection::Sdes(suite) => (KeyExchange::Sdes, Some(suite)),
        Protection::Dtls(suite) => (KeyExchange::Dtls, suite),
    };
    Some(Encryption { keys, suite: suite.map(|suite| Cow::Borrowed(suite.name())) })
}

fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1000.0)
}

fn percent(part: f64) -> f64 {
    rounded(part * 100.0)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
