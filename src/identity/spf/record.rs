//! SPF records, read by the grammar of RFC 7208 section 12: one mistake anywhere makes the record a permerror.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expand::Spec;
use crate::limits;

/// The record departs from the grammar (RFC 7208 section 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// `+`, `-`, `~`, `?` (RFC 7208 section 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

/// Octets of an address that count, for each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub(super) v4: u8,
    pub(super) v6: u8,
}

/// One mechanism; where no domain is named, the record's own counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matcher {
    All,
    Include(Spec),
    A(Option<Spec>, Prefixes),
    Mx(Option<Spec>, Prefixes),
    Ptr(Option<Spec>),
    Network(IpAddr, u8),
    Exists(Spec),
}

/// The terms of one record, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) directives: Vec<(Qualifier, Matcher)>,
    pub(super) redirect: Option<Spec>,
}

/// Whether a text is an SPF record (RFC 7208 section 4.5).
pub(super) fn is_meant(text: &[u8]) -> bool {
    text.get(..6).is_some_and(|version| version.eq_ignore_ascii_case(b"v=spf1")) && matches!(text.get(6), None | Some(b' '))
}

impl Record {
    /// Reads a record whose version is known to be right.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= limits::SPF_RECORD).ok_or(Malformed)?;
        if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(Malformed);
        }
        let mut record = Self { directives: Vec::new(), redirect: None };
        let mut explained = false;
        for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
            match modifier(term) {
                Some((name, value)) if name.eq_ignore_ascii_case("redirect") => {
                    let twice = record.redirect.replace(Spec::domain(value)?).is_some();
                    if twice {
                        return Err(Malformed);
                    }
                }
                Some((name, value)) if name.eq_ignore_ascii_case("exp") => {
                    Spec::domain(value)?;
                    if std::mem::replace(&mut explained, true) {
                        return Err(Malformed);
                    }
                }
                // Unknown modifiers mean nothing, but are written as known ones (section 6).
                Some((_, value)) => Spec::text(value)?,
                None => record.directives.push(directive(term)?),
            }
        }
        Ok(record)
    }
}

/// `name=value`: a name of letters, digits, `-`, `_`, `.`, in front of everything else.
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    (letters && name.starts_with(|letter: char| letter.is_ascii_alphabetic())).then_some((name, value))
}

fn directive(term: &str) -> Result<(Qualifier, Matcher), Malformed> {
    let (qualifier, rest) = match term.split_at_checked(1) {
        Some(("+", rest)) => (Qualifier::Pass, rest),
        Some(("-", rest)) => (Qualifier::Fail, rest),
        Some(("~", rest)) => (Qualifier::SoftFail, rest),
        Some(("?", rest)) => (Qualifier::Neutral, rest),
        _ => (Qualifier::Pass, term),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, argument) = rest.split_at_checked(end).ok_or(Malformed)?;
    let name = name.to_ascii_lowercase();
    let needed = || argument.strip_prefix(':').ok_or(Malformed);
    let matcher = match name.as_str() {
        "all" if argument.is_empty() => Matcher::All,
        "include" => Matcher::Include(Spec::domain(needed()?)?),
        "exists" => Matcher::Exists(Spec::domain(needed()?)?),
        "ptr" => Matcher::Ptr(optional(argument)?),
        "a" | "mx" => {
            let (spec, prefixes) = prefixes(argument)?;
            let spec = optional(spec)?;
            if name == "a" { Matcher::A(spec, prefixes) } else { Matcher::Mx(spec, prefixes) }
        }
        "ip4" => {
            let (address, bits) = network(needed()?, 32)?;
            Matcher::Network(IpAddr::V4(address.parse::<Ipv4Addr>().map_err(|_| Malformed)?), bits)
        }
        "ip6" => {
            let (address, bits) = network(needed()?, 128)?;
            Matcher::Network(IpAddr::V6(address.parse::<Ipv6Addr>().map_err(|_| Malformed)?), bits)
        }
        _ => return Err(Malformed),
    };
    Ok((qualifier, matcher))
}

/// An optional domain: `[":" domain-spec]` (section 12).
fn optional(argument: &str) -> Result<Option<Spec>, Malformed> {
    if argument.is_empty() {
        return Ok(None);
    }
    Spec::domain(argument.strip_prefix(':').ok_or(Malformed)?).map(Some)
}

/// An address and the bits of it that count.
fn network(text: &str, most: u8) -> Result<(&str, u8), Malformed> {
    match text.split_once('/') {
        None => Ok((text, most)),
        Some((address, digits)) => Ok((address, bits(digits, most)?)),
    }
}

/// Digits without a leading zero, at most `most` (RFC 7208 section 12: `ip4-cidr-length`, `ip6-cidr-length`).
fn bits(digits: &str, most: u8) -> Result<u8, Malformed> {
    let plain = !digits.is_empty()
        && digits.len() <= 3
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|bits| plain && *bits <= most).ok_or(Malformed)
}

/// Splits `dual-cidr-length` off: `/24`, `//64`, `/24//64`.
fn prefixes(argument: &str) -> Result<(&str, Prefixes), Malformed> {
    let digits_behind = |text: &str, mark: &str| {
        let (_, digits) = text.rsplit_once(mark)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits.len())
    };
    let (mut rest, mut found) = (argument, Prefixes { v4: 32, v6: 128 });
    if let Some(length) = digits_behind(rest, "//") {
        let (before, digits) = rest.split_at_checked(rest.len() - length).ok_or(Malformed)?;
        found.v6 = bits(digits, 128)?;
        rest = before.strip_suffix("//").ok_or(Malformed)?;
    }
    if let Some(length) = digits_behind(rest, "/") {
        let (before, digits) = rest.split_at_checked(rest.len() - length).ok_or(Malformed)?;
        found.v4 = bits(digits, 32)?;
        rest = before.strip_suffix('/').ok_or(Malformed)?;
    }
    Ok((rest, found))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions() {
        for (text, meant) in [
            ("v=spf1", true),
            ("v=spf1 -all", true),
            ("V=SPF1 -all", true),
            ("v=spf10 -all", false),
            ("v=spf1-all", false),
            (" v=spf1 -all", false),
            ("v=spf2.0/mfrom -all", false),
            ("v=spf1\t-all", false),
        ] {
            assert_eq!(is_meant(text.as_bytes()), meant, "{text}");
        }
    }

    #[test]
    fn each_rule_with_its_twin() {
        for (right, wrong) in [
            ("ip4:192.0.2.0/24", "ip4:192.0.2.0/33"),
            ("ip4:192.0.2.0/0", "ip4:192.0.2.0/00"),
            ("ip4:192.0.2.0/8", "ip4:192.0.2.0/08"),
            ("ip4:192.0.2.1", "ip4:192.0.2"),
            ("ip4:192.0.2.1", "ip4:192.0.2.1/"),
            ("ip4:192.0.2.1", "ip4"),
            ("ip4:192.0.2.1", "ip4:"),
            ("ip4:192.0.2.1", "ip4=192.0.2.1/33 ip4:x"),
            ("ip6:2001:db8::/32", "ip6:2001:db8::/129"),
            ("ip6:2001:db8::1", "ip6:192.0.2.1"),
            ("ip6:::ffff:192.0.2.1", "ip6:2001:db8:::1"),
            ("a", "a:"),
            ("a/24", "a/33"),
            ("a//64", "a//129"),
            ("a/24//64", "a//64/24"),
            ("a:bank.test/24", "a:bank.test/24/64"),
            ("a:bank.test", "a:bank.test/"),
            ("a:bank.test", "a:192.0.2.1"),
            ("a:bank.test", "a:test."),
            ("a:bank.test.", "a:bank..test/x"),
            ("mx/0//0", "mx/024"),
            ("mx:bank.test", "mx:bank_"),
            ("ptr", "ptr/24"),
            ("ptr:bank.test", "ptr:"),
            ("exists:%{i}.bank.test", "exists"),
            ("exists:%{ir}._spf.bank.test", "exists:%{x}.bank.test"),
            ("exists:%{d}", "exists:%{d"),
            ("exists:%{l1r+-}.bank.test", "exists:%{l0r}.bank.test"),
            ("exists:%%.bank.test", "exists:%.bank.test"),
            ("exists:%-%_.bank.test", "exists:%(d).bank.test"),
            ("exists:%{i}.bank.test", "exists:%{c}.bank.test"),
            ("include:bank.test", "include"),
            ("include:bank.test", "include:test"),
            ("-all", "-all:bank.test"),
            ("~all", "all/8"),
            ("?all", "!all"),
            ("+ALL", "allow"),
            ("redirect=bank.test", "redirect="),
            ("redirect=bank.test", "redirect=bank.test redirect=bank.test"),
            ("redirect=bank.test", "redirect:bank.test"),
            ("exp=x.bank.test", "exp=x.bank.test exp=x.bank.test"),
            ("unknown=whatever", "unknown:whatever"),
            ("x-y.z_1=%{s}", "x=%{q}"),
            ("x=", "1x=y"),
            ("moo=%{c}", "moo"),
        ] {
            let parse = |term: &str| Record::parse(format!("v=spf1 {term} -all").as_bytes());
            assert!(parse(right).is_ok(), "{right}");
            assert_eq!(parse(wrong), Err(Malformed), "{wrong}");
        }
        for text in ["v=spf1 \u{e4}", "v=spf1 a\t-all", "v=spf1 a\0"] {
            assert_eq!(Record::parse(text.as_bytes()), Err(Malformed), "{text:?}");
        }
        assert_eq!(Record::parse(b"v=spf1  a   -all ").unwrap().directives.len(), 2);
        assert_eq!(Record::parse(b"v=spf1").unwrap().directives.len(), 0);
        assert_eq!(Record::parse(&[&b"v=spf1 "[..], &b"a ".repeat(limits::SPF_RECORD)].concat()), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), term in "[+~?-]?[a-z0-9:/=.%{}]{0,40}") {
            let _ = is_meant(&bytes);
            let _ = Record::parse(&bytes);
            let _ = Record::parse(format!("v=spf1 {term}").as_bytes());
        }
    }
}
