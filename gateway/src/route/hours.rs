//! Which spans of the week a moment lies in, by the clock on the wall.

use jiff::civil::{DateTime, Weekday};
use talkstack_control::port::Hours;

/// Tells whether a moment lies in one of the spans; without any it always does.
///
/// Spans are read off the wall clock: in a night that skips an hour a span within it does not happen, and in one that
/// has an hour twice the span does too.
pub(super) fn is_within(hours: &[Hours], at: DateTime) -> bool {
    hours.is_empty() || hours.iter().any(|span| contains(span, at))
}

fn contains(span: &Hours, at: DateTime) -> bool {
    let minute = at.hour() as u16 * 60 + at.minute() as u16;
    let is_on = |day: Weekday| span.days.is_empty() || span.days.contains(&(day.to_monday_one_offset() as u8));
    let today = at.weekday();
    if span.to > span.from {
        return is_on(today) && (span.from..span.to).contains(&minute);
    }
    // The part behind midnight belongs to the day that it began on.
    (is_on(today) && minute >= span.from) || (is_on(today.previous()) && minute < span.to)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn a_span_ends_before_its_last_minute_and_none_is_always() {
        let office = [hours(&[1, 2, 3, 4, 5], 9 * 60, 17 * 60)];
        // 2026-11-25 is a Wednesday.
        for (at, expected) in [
            ("2026-11-25T08:59:59", false),
            ("2026-11-25T09:00:00", true),
            ("2026-11-25T16:59:59", true),
            ("2026-11-25T17:00:00", false),
            ("2026-11-28T12:00:00", false),
            ("2026-11-29T12:00:00", false),
            ("2026-11-30T12:00:00", true),
        ] {
            check(&office, at, expected);
        }
        check(&[], "2026-11-25T03:00:00", true);
        check(&[hours(&[], 0, 1440)], "2026-11-25T23:59:59", true);
        check(&[hours(&[6], 0, 1440)], "2026-11-27T23:59:59", false);
    }

    #[test]
    fn a_span_that_reaches_into_the_next_day_belongs_to_the_day_it_begins_on() {
        let night = [hours(&[5], 22 * 60, 6 * 60)];
        for (at, expected) in [
            ("2026-11-27T21:59:00", false),
            ("2026-11-27T22:00:00", true),
            ("2026-11-28T05:59:59", true),
            ("2026-11-28T06:00:00", false),
            ("2026-11-28T23:00:00", false),
            ("2026-11-27T05:00:00", false),
        ] {
            check(&night, at, expected);
        }
        // Sunday's night ends on Monday.
        check(&[hours(&[7], 22 * 60, 6 * 60)], "2026-11-30T01:00:00", true);
        // From nine to nine is a whole day.
        check(&[hours(&[3], 540, 540)], "2026-11-26T08:59:00", true);
        check(&[hours(&[3], 540, 540)], "2026-11-26T09:00:00", false);
    }

    #[test]
    fn two_spans_leave_the_lunch_hour_out() {
        let spans = [hours(&[], 9 * 60, 12 * 60), hours(&[], 13 * 60, 17 * 60)];
        check(&spans, "2026-11-25T11:59:00", true);
        check(&spans, "2026-11-25T12:30:00", false);
        check(&spans, "2026-11-25T13:00:00", true);
    }

    #[test]
    fn the_clock_on_the_wall_decides_in_both_nights_of_the_year_that_change_it() {
        let zone = TimeZone::get("Europe/Budapest").expect("in the database");
        let local = |utc: &str| zone.to_datetime(utc.parse::<Timestamp>().expect("an instant"));
        let early = [hours(&[], 2 * 60, 3 * 60)];
        let office = [hours(&[], 9 * 60, 17 * 60)];
        for (utc, spans, expected) in [
            // 2026-03-29: 01:59 CET is followed by 03:00 CEST, so two o'clock does not come.
            ("2026-03-29T00:59:00Z", &early, false),
            ("2026-03-29T01:00:00Z", &early, false),
            ("2026-03-28T01:30:00Z", &early, true),
            // Nine is at eight in UTC in winter and at seven in summer.
            ("2026-03-28T07:30:00Z", &office, false),
            ("2026-03-29T07:30:00Z", &office, true),
            ("2026-03-29T15:00:00Z", &office, false),
            // 2026-10-25: the hour from two to three comes twice.
            ("2026-10-25T00:30:00Z", &early, true),
            ("2026-10-25T01:30:00Z", &early, true),
            ("2026-10-25T02:00:00Z", &early, false),
            ("2026-10-25T07:30:00Z", &office, false),
            ("2026-10-25T08:00:00Z", &office, true),
        ] {
            assert_eq!(is_within(spans, local(utc)), expected, "{utc}");
        }
    }

    fn check(spans: &[Hours], at: &str, expected: bool) {
        assert_eq!(is_within(spans, at.parse().expect("a date and time")), expected, "{at}");
    }

    fn hours(days: &[u8], from: u16, to: u16) -> Hours {
        Hours { days: days.to_vec(), from, to }
    }
}
