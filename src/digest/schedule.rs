//! When a digest is due: once a day, from a time of day on, whatever the clock does.

use std::time::Duration;

use jiff::{Timestamp, civil::Time, tz::TimeZone};

/// What is known of an address when it is asked whether its digest is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// When it was last sent, or may have been, by the clock of then.
    pub tried: Option<Timestamp>,
    /// How long ago that was by a clock that does not step; none where this program has not sent it.
    pub ago: Option<Duration>,
    /// For how long the clock has been behind that time; 0 where it is not.
    pub behind: Duration,
}

/// Whether it is time for today's.
#[must_use]
pub fn is_due(now: Timestamp, zone: &TimeZone, at: Time, last: Last) -> bool {
    let local = now.to_zoned_datetime(zone.clone());
    if local.time() < at || last.ago.is_some_and(|ago| ago < APART) {
        return false;
    }
    match last.tried {
        None => true,
        // The clock has stepped back. Which of the two times was wrong nobody knows: a day is waited.
        Some(tried) if tried > now => last.behind >= DAY,
        Some(tried) => tried.to_zoned_datetime(zone.clone()).date() < local.date(),
    }
}

/// A clock that steps forward makes no second one for so long; a late one does not hold up the next day's.
const APART: Duration = Duration::from_hours(8);
/// A day, by a clock that does not step.
const DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn due(now: &str, last: Last) -> bool {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        is_due(time(now), &zone, Time::constant(7, 0, 0, 0), last)
    }

    #[test]
    fn once_a_day_from_its_hour_on() {
        let never = Last::default();
        assert!(!due("2026-11-25T04:59:59Z", never), "it is 06:59 here");
        assert!(due("2026-11-25T05:00:00Z", never));
        assert!(due("2026-11-25T21:59:00Z", never), "a server that was away all day");
        let today = Last { tried: Some(time("2026-11-25T05:00:01Z")), ..never };
        assert!(!due("2026-11-25T05:00:02Z", today) && !due("2026-11-25T21:59:59Z", today));
        assert!(!due("2026-11-26T04:59:00Z", today));
        assert!(due("2026-11-26T05:00:00Z", today));
        // Yesterday's came late.
        let late = Last { tried: Some(time("2026-11-25T21:30:00Z")), ..never };
        assert!(due("2026-11-26T05:00:00Z", late));
    }

    #[test]
    fn clocks_that_step_make_no_second_one() {
        let sent = Last { tried: Some(time("2026-11-25T05:00:00Z")), ..Last::default() };
        // Back by six years at the start, as without a battery, and forward again.
        let behind = Last { behind: Duration::from_mins(5), ..sent };
        assert!(!due("2020-01-01T12:00:00Z", behind));
        assert!(!due("2026-11-25T12:00:00Z", sent));
        // It had been wrong before: after a day nobody waits for that time to come.
        let wrong = Last { tried: Some(time("2031-01-01T05:00:00Z")), behind: Duration::from_hours(24), ago: None };
        assert!(due("2026-11-25T12:00:00Z", wrong));
        // Forward by three days, within this run.
        let just_now = Last { ago: Some(Duration::from_mins(10)), ..sent };
        assert!(!due("2026-11-28T12:00:00Z", just_now));
        assert!(due("2026-11-26T05:00:00Z", Last { ago: Some(Duration::from_hours(24)), ..sent }));
    }
}
