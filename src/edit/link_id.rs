//! Names of guard links that are stored: short, unguessable, and fit to be read out or typed.

use std::fmt;

use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};

/// The name of a stored guard link: the day on which it stops opening, and 80 bits of a keyed hash of what is stored.
///
/// It is written in [`LinkId::LENGTH`] digits of Crockford's base 32: no letter that looks like a digit, no mark at which a
/// mail program would end a link. Small and large letters are the same; `o`, `i` and `l` are read as the digits they look
/// like. Whoever knows it opens the page, so it does not print itself into logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkId {
    /// Days since 1970-01-01, below 2^15: until 2059-09-18.
    day: u16,
    hash: [u8; HASH],
}

/// Octets of the hash: at 300 guesses a minute from each of 100,000 addresses, a link of a million is met once in 70,000 years.
const HASH: usize = 10;
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DAYS: u16 = 1 << 15;

impl LinkId {
    /// Characters of its written form: with `https://`, a host of 40 characters and `/s/` a link has 70.
    pub const LENGTH: usize = 19;

    /// The name of what stops opening at this time and has this keyed hash. None before 1970 and from 2059-09-19 on.
    pub(super) fn new(until: Timestamp, hash: &[u8; 32]) -> Option<Self> {
        let day = u16::try_from(until.as_second().div_euclid(86_400)).ok().filter(|day| *day < DAYS)?;
        Some(Self { day, hash: hash.get(..HASH)?.try_into().ok()? })
    }

    /// Reads a name as it stands in a link, or as somebody typed it. None for everything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::LENGTH {
            return None;
        }
        let mut number: u128 = 0;
        for octet in text.bytes() {
            let digit = match octet.to_ascii_lowercase() {
                b'o' => b'0',
                b'i' | b'l' => b'1',
                other => other,
            };
            let value = DIGITS.iter().position(|known| *known == digit)?;
            number = number << 5 | u128::try_from(value).ok()?;
        }
        let day = u16::try_from(number >> (8 * HASH)).ok()?;
        let hash = number.to_be_bytes().get(16 - HASH..)?.try_into().ok()?;
        Some(Self { day, hash })
    }

    /// The day, in UTC, on which it stops opening.
    #[must_use]
    pub fn day(&self) -> Date {
        let start = TimeZone::UTC.to_datetime(Timestamp::UNIX_EPOCH).date();
        start.saturating_add(i64::from(self.day).days())
    }
}

/// As it stands in a link and as its file is called.
impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut octets = [0; 16];
        for (to, from) in octets.iter_mut().skip(16 - HASH).zip(self.hash) {
            *to = from;
        }
        let number = u128::from(self.day) << (8 * HASH) | u128::from_be_bytes(octets);
        for place in (0..Self::LENGTH).rev() {
            let digit = usize::try_from(number >> (5 * place) & 31).unwrap_or_default();
            let letter = DIGITS.get(digit).copied().unwrap_or(b'0');
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkId({})", self.day())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(second: i64, letter: u8) -> LinkId {
        LinkId::new(Timestamp::from_second(second).unwrap(), &[letter; 32]).unwrap()
    }

    #[test]
    fn a_name_is_read_as_it_was_written_or_typed() {
        for (second, letter) in [(0, 0), (1_800_000_000, 0x5a), (1_795_000_000, 0xff), (2_831_155_199, 7)] {
            let id = id(second, letter);
            let text = id.to_string();
            assert_eq!((text.len(), LinkId::parse(&text)), (LinkId::LENGTH, Some(id)));
            assert!(text.bytes().all(|octet| octet.is_ascii_digit() || octet.is_ascii_lowercase()), "{text}");
            assert_eq!(LinkId::parse(&text.to_uppercase()), Some(id));
            assert_eq!(LinkId::parse(&text.replace('0', "O").replace('1', "l")), Some(id));
            assert_eq!(id.day(), TimeZone::UTC.to_datetime(Timestamp::from_second(second).unwrap()).date());
            for changed in [
                text.get(1..).unwrap().to_owned(),
                format!("{text}0"),
                text.replacen(|_| true, "u", 1),
                format!("../{}", text.get(3..).unwrap()),
            ] {
                assert_ne!(LinkId::parse(&changed), Some(id), "{changed}");
            }
        }
        for odd in
            ["", "../../../etc/passwd", "0123456789abcdefgh/", "0123456789abcdefgh.", "\u{e4}123456789abcdefg", "0123456789abcdefg\0h"]
        {
            assert_eq!(LinkId::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn days_outside_of_the_calendar_have_no_name() {
        for second in [-1, 32_768 * 86_400] {
            assert_eq!(LinkId::new(Timestamp::from_second(second).unwrap(), &[1; 32]), None);
        }
    }
}
