//! Times as people type them: `2026-11-24 10:00`, `yesterday`, `2h ago`; and how they are printed.
//!
//! Pure: the present time comes as an argument, and with it the zone in which times without an offset are read. What cannot be read
//! is an error that says what can: a time that is guessed would hide records.

use jiff::{Span, Timestamp, ToSpan as _, ZonedDateTime, civil, tz::TimeZone};

/// What can be typed, for help and errors.
pub const FORMS: &str =
    "2026-11-24, \"2026-11-24 10:00\", 2026-11-24T10:00:00Z, 14:54 (today), today, yesterday, \"2h ago\", \"30m ago\" or \"3 days ago\"";

/// A time that was typed: a moment, or a whole day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypedTime {
    /// A moment. Where the clock was put back it stands for two: `first` and `last` differ.
    Moment {
        /// The first moment at which a clock in the zone showed this.
        first: Timestamp,
        /// The last.
        last: Timestamp,
    },
    /// A whole day of the zone, 23 to 25 hours long.
    Day {
        /// Its first moment.
        start: Timestamp,
        /// The first moment of the next day.
        end: Timestamp,
    },
}

/// Why a typed time is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypedTimeError {
    /// It cannot be read.
    #[error("{0:?} is no time; write {FORMS}")]
    Unread(String),
    /// It has a form that is known, and no calendar or clock shows it.
    #[error("{0:?} is no time: {1}; write {FORMS}")]
    NoSuch(String, String),
    /// `--since` lies in the future, where there is no record.
    #[error("--since {typed:?} is {time}, which is still to come; it is {now} now")]
    Future {
        /// What was typed.
        typed: String,
        /// The time that it says.
        time: String,
        /// The present time.
        now: String,
    },
    /// The span ends before it begins.
    #[error("--since {since} is not before --until {until}: no time lies between them")]
    Empty {
        /// The beginning.
        since: String,
        /// The end.
        until: String,
    },
}

impl TypedTime {
    /// Reads a time; one without an offset is of the zone of `now`.
    ///
    /// # Errors
    /// It cannot be read, or there is no such time.
    pub fn read(typed: &str, now: &ZonedDateTime) -> Result<Self, TypedTimeError> {
        let text = typed.split_whitespace().collect::<Vec<_>>().join(" ");
        let lower = text.to_ascii_lowercase();
        let fail = |error: jiff::Error| TypedTimeError::NoSuch(typed.to_owned(), error.to_string());
        let zone = now.time_zone();
        if let Some(past) = lower.strip_suffix(" ago") {
            let span = span(past).ok_or_else(|| TypedTimeError::Unread(typed.to_owned()))?;
            return span.and_then(|span| now.checked_sub(span)).map(|then| Self::moment(then.timestamp())).map_err(fail);
        }
        if lower == "now" {
            return Ok(Self::moment(now.timestamp()));
        }
        if let Ok(moment) = text.parse::<Timestamp>()
            && is_plain(&text)
        {
            return Ok(Self::moment(moment));
        }
        let (day, time) = lower.split_once([' ', 't']).filter(|(day, _)| is_day(day)).map_or_else(
            || match lower.split_once(' ') {
                Some((day, time)) => (day, Some(time)),
                None if is_clock(&lower) => ("today", Some(lower.as_str())),
                None => (lower.as_str(), None),
            },
            |(day, time)| (day, Some(time)),
        );
        let day = match day {
            "today" => now.date(),
            "yesterday" => now.date().yesterday().map_err(fail)?,
            _ if is_day(day) => day.parse().map_err(fail)?,
            _ => return Err(TypedTimeError::Unread(typed.to_owned())),
        };
        match time {
            None => Self::day(day, zone).map_err(fail),
            Some(time) if is_clock(time) => Self::clock(day, time, zone).map_err(fail),
            Some(_) => Err(TypedTimeError::Unread(typed.to_owned())),
        }
    }

    const fn moment(at: Timestamp) -> Self {
        Self::Moment { first: at, last: at }
    }

    fn day(day: civil::Date, zone: &TimeZone) -> Result<Self, jiff::Error> {
        let start = day.to_zoned_datetime(zone.clone())?.start_of_day()?;
        let end = day.tomorrow()?.to_zoned_datetime(zone.clone())?.start_of_day()?;
        Ok(Self::Day { start: start.timestamp(), end: end.timestamp() })
    }

    /// A time of day. Where the clock was put on past it, it stands for the hour around that jump, so that a span that begins or
    /// ends there leaves out nothing.
    fn clock(day: civil::Date, time: &str, zone: &TimeZone) -> Result<Self, jiff::Error> {
        let moment = zone.to_ambiguous_zoned_datetime(day.to_datetime(time.parse()?));
        let (one, other) = (moment.clone().earlier()?.timestamp(), moment.later()?.timestamp());
        Ok(Self::Moment { first: one.min(other), last: one.max(other) })
    }

    /// The first moment that it stands for.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        match self {
            Self::Moment { first, .. } => first,
            Self::Day { start, .. } => start,
        }
    }

    /// Where a span ends that reaches up to it: before a moment, behind a whole day.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        match self {
            Self::Moment { last, .. } => last,
            Self::Day { end, .. } => end,
        }
    }
}

/// A span of time, its end excluded; open where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSpan {
    /// The first moment in it.
    pub since: Option<Timestamp>,
    /// The first moment behind it.
    pub until: Option<Timestamp>,
}

impl TimeSpan {
    /// Reads `--since` and `--until`. A day is in the span as a whole, whichever of both it is.
    ///
    /// # Errors
    /// One of them is no time, nothing lies between them, or all of it is still to come.
    pub fn read(since: Option<&str>, until: Option<&str>, now: &ZonedDateTime) -> Result<Self, TypedTimeError> {
        let read = |typed: &str| TypedTime::read(typed, now);
        let span =
            Self { since: since.map(read).transpose()?.map(TypedTime::start), until: until.map(read).transpose()?.map(TypedTime::end) };
        let show = |time| shown(time, now.time_zone());
        if let (Some(since), Some(until)) = (span.since, span.until)
            && since >= until
        {
            return Err(TypedTimeError::Empty { since: show(since), until: show(until) });
        }
        match (since, span.since) {
            (Some(typed), Some(since)) if since > now.timestamp() => {
                Err(TypedTimeError::Future { typed: typed.to_owned(), time: show(since), now: show(now.timestamp()) })
            }
            _ => Ok(span),
        }
    }

    /// Whether a moment lies in it.
    #[must_use]
    pub fn holds(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }
}

/// A time as it is printed: to the second, with its offset; `Z` where that is 0. It can be typed again.
#[must_use]
pub fn shown(time: Timestamp, zone: &TimeZone) -> String {
    let zoned = time.to_zoned_datetime(zone.clone());
    let end = if zoned.offset().seconds() == 0 { "Z".to_owned() } else { zoned.strftime("%:z").to_string() };
    format!("{}{end}", zoned.strftime("%Y-%m-%d %H:%M:%S"))
}

/// `2h`, `30 minutes`; none where it is none, an error where it is longer than time.
fn span(text: &str) -> Option<Result<Span, jiff::Error>> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).filter(|(number, _)| !number.is_empty())?;
    let number: Option<i64> = number.parse().ok();
    let of: fn(Span, i64) -> Result<Span, jiff::Error> = match unit.trim_start() {
        "s" | "sec" | "secs" | "second" | "seconds" => Span::try_seconds,
        "m" | "min" | "mins" | "minute" | "minutes" => Span::try_minutes,
        "h" | "hr" | "hrs" | "hour" | "hours" => Span::try_hours,
        "d" | "day" | "days" => Span::try_days,
        "w" | "week" | "weeks" => Span::try_weeks,
        "month" | "months" => Span::try_months,
        _ => return None,
    };
    Some(of(0.seconds(), number.unwrap_or(i64::MAX)))
}

/// Whether a text has the form of a day, as in `2026-11-24`; its numbers may be wrong.
fn is_day(text: &str) -> bool {
    has_form(text, "dddd-dd-dd")
}

/// Whether a text has the form of a time of day, as in `14:54` and `14:54:03.5`.
fn is_clock(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').map_or((text, "0"), |(whole, fraction)| (whole, fraction));
    let fraction_is_one = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    has_form(whole, "dd:dd:dd") && fraction_is_one || has_form(text, "dd:dd")
}

/// Whether a text that jiff can read as a moment is only that, with no zone in brackets, and in the long form.
fn is_plain(text: &str) -> bool {
    !text.contains('[') && text.get(..10).is_some_and(is_day)
}

/// `d` in the form stands for a digit, all else for itself.
fn has_form(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, form)| if form == b'd' { byte.is_ascii_digit() } else { byte == form })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn berlin(text: &str) -> ZonedDateTime {
        text.parse::<Timestamp>().unwrap().in_tz("Europe/Berlin").unwrap()
    }

    fn read(typed: &str) -> String {
        let now = berlin("2026-11-25T13:03:12Z");
        match TypedTime::read(typed, &now) {
            Ok(TypedTime::Moment { first, last }) if first == last => first.to_string(),
            Ok(TypedTime::Moment { first, last }) => format!("{first} or {last}"),
            Ok(TypedTime::Day { start, end }) => format!("{start} to {end}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_people_type_is_read() {
        for (typed, wanted) in [
            ("2026-11-24", "2026-11-23T23:00:00Z to 2026-11-24T23:00:00Z"),
            ("2026-11-24 10:00", "2026-11-24T09:00:00Z"),
            ("2026-11-24T10:00", "2026-11-24T09:00:00Z"),
            ("2026-11-24 10:00:07", "2026-11-24T09:00:07Z"),
            ("  2026-11-24   10:00 ", "2026-11-24T09:00:00Z"),
            ("2026-11-24T10:00:07Z", "2026-11-24T10:00:07Z"),
            ("2026-11-24 10:00:07Z", "2026-11-24T10:00:07Z"),
            ("2026-11-24T10:00:07.250Z", "2026-11-24T10:00:07.25Z"),
            ("2026-11-24t10:00:07z", "2026-11-24T10:00:07Z"),
            ("2026-11-24T10:00:07+02:00", "2026-11-24T08:00:07Z"),
            ("2026-07-01 10:00", "2026-07-01T08:00:00Z"),
            ("14:02", "2026-11-25T13:02:00Z"),
            ("14:02:30", "2026-11-25T13:02:30Z"),
            ("today", "2026-11-24T23:00:00Z to 2026-11-25T23:00:00Z"),
            ("Yesterday", "2026-11-23T23:00:00Z to 2026-11-24T23:00:00Z"),
            ("yesterday 10:00", "2026-11-24T09:00:00Z"),
            ("now", "2026-11-25T13:03:12Z"),
            ("2h ago", "2026-11-25T11:03:12Z"),
            ("30m ago", "2026-11-25T12:33:12Z"),
            ("3 days ago", "2026-11-22T13:03:12Z"),
            ("1 week ago", "2026-11-18T13:03:12Z"),
            // Over the end of summer time: the same time of day.
            ("40 days ago", "2026-10-16T12:03:12Z"),
        ] {
            assert_eq!(read(typed), wanted, "{typed}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_says_what_can() {
        for typed in [
            "",
            "x",
            "2026-13-01",
            "2026-02-30",
            "2026-11",
            "20261124",
            "24.11.2026",
            "11/24/2026",
            "2026-11-24 10",
            "2026-11-24 25:00",
            "10:60",
            "24:00",
            "9:5",
            "2h",
            "h ago",
            "-2h ago",
            "2 fortnights ago",
            "99999999999999999999h ago",
            "9999999 days ago",
            "tomorrow",
            "2026-11-24T10:00:07Z[Europe/Berlin]",
            "2026-11-24 10:00 CET",
            "today yesterday",
            "1795000000",
            "2026-11-24T",
            "foo 10:00",
            "10000-01-01",
            "-2026-01-01",
        ] {
            assert!(read(typed).contains("is no time") && read(typed).contains(FORMS), "{typed}: {}", read(typed));
        }
    }

    #[test]
    fn where_the_clock_jumps_nothing_is_left_out() {
        // There is no 02:30: 02:00 was 03:00.
        assert_eq!(read("2026-03-29 02:30"), "2026-03-29T00:30:00Z or 2026-03-29T01:30:00Z");
        // There were two.
        assert_eq!(read("2026-10-25 02:30"), "2026-10-25T00:30:00Z or 2026-10-25T01:30:00Z");
        // Days of 23 and of 25 hours.
        assert_eq!(read("2026-03-29"), "2026-03-28T23:00:00Z to 2026-03-29T22:00:00Z");
        assert_eq!(read("2026-10-25"), "2026-10-24T22:00:00Z to 2026-10-25T23:00:00Z");
        // A day that begins at 01:00.
        let cuba = "2026-03-10T00:00:00Z".parse::<Timestamp>().unwrap().in_tz("America/Havana").unwrap();
        let Ok(TypedTime::Day { start, .. }) = TypedTime::read("2026-03-08", &cuba) else { panic!() };
        assert_eq!(start.to_string(), "2026-03-08T05:00:00Z");
    }

    #[test]
    fn a_span_holds_whole_days_and_is_never_empty() {
        let now = berlin("2026-11-25T13:03:12Z");
        let span = |since, until| TimeSpan::read(since, until, &now);
        let day = span(Some("2026-11-24"), Some("2026-11-24")).unwrap();
        assert!(day.holds("2026-11-23T23:00:00Z".parse().unwrap()) && day.holds("2026-11-24T22:59:59.999Z".parse().unwrap()));
        assert!(!day.holds("2026-11-24T23:00:00Z".parse().unwrap()) && !day.holds("2026-11-23T22:59:59.999Z".parse().unwrap()));
        let hour = span(Some("10:00"), Some("11:00")).unwrap();
        assert!(hour.holds("2026-11-25T09:00:00Z".parse().unwrap()) && !hour.holds("2026-11-25T10:00:00Z".parse().unwrap()));
        assert!(span(None, None).unwrap().holds(now.timestamp()));
        for (since, until) in [("11:00", "10:00"), ("10:00", "10:00"), ("2026-11-24", "2026-11-23"), ("today", "yesterday")] {
            let error = span(Some(since), Some(until)).unwrap_err().to_string();
            assert!(error.contains("no time lies between"), "{error}");
        }
        let error = span(Some("23:50"), None).unwrap_err().to_string();
        assert!(error.contains("2026-11-25 23:50:00+01:00, which is still to come; it is 2026-11-25 14:03:12+01:00 now"), "{error}");
    }

    #[test]
    fn printed_times_say_their_offset() {
        let time: Timestamp = "2026-11-25T13:03:12.9Z".parse().unwrap();
        assert_eq!(shown(time, &TimeZone::UTC), "2026-11-25 13:03:12Z");
        assert_eq!(shown(time, berlin("2026-11-25T13:03:12Z").time_zone()), "2026-11-25 14:03:12+01:00");
    }

    proptest! {
        #[test]
        fn nothing_panics(typed in "(2026|-|0|1|3|:|T|Z| |\\+|today|yesterday|ago|h|days|9|\\.|ä){0,12}", second in -9_000_000_000_i64..9_000_000_000) {
            let now = Timestamp::from_second(second).unwrap().in_tz("Europe/Berlin").unwrap();
            let _ = TimeSpan::read(Some(&typed), Some(&typed), &now);
        }

        #[test]
        fn what_is_printed_is_read_as_the_same(second in -2_000_000_000_i64..9_000_000_000, zone in prop::sample::select(vec!["Europe/Berlin", "UTC", "America/St_Johns", "Asia/Kathmandu", "Europe/London", "Australia/Lord_Howe"])) {
            let time = Timestamp::from_second(second).unwrap();
            let zoned = time.in_tz(zone).unwrap();
            prop_assume!(zoned.offset().seconds() % 60 == 0);
            let back = TypedTime::read(&shown(time, zoned.time_zone()), &zoned).unwrap();
            prop_assert_eq!(back, TypedTime::moment(time));
        }

        #[test]
        fn the_day_and_the_minute_of_a_moment_hold_it(second in 0_i64..9_000_000_000, zone in prop::sample::select(vec!["Europe/Berlin", "UTC", "America/Havana", "Asia/Kathmandu", "Australia/Lord_Howe"])) {
            let zoned = Timestamp::from_second(second).unwrap().in_tz(zone).unwrap();
            let day = zoned.date().to_string();
            prop_assert!(TimeSpan::read(Some(&day), Some(&day), &zoned).unwrap().holds(zoned.timestamp()));
            let time = TypedTime::read(&zoned.strftime("%Y-%m-%d %H:%M:%S").to_string(), &zoned).unwrap();
            prop_assert!(time.start() <= zoned.timestamp() && zoned.timestamp() <= time.end());
        }
    }
}
