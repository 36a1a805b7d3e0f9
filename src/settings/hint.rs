//! The spelling that was probably meant: what an admin wrote in, and what to write out, or nothing where nobody can tell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use std::time::Duration;

use jiff::civil::Date;

use super::schema;

/// A value without quotes, as TOML wants it, for a key of which nobody knows the type.
pub(super) fn literal(value: &str) -> Option<String> {
    if let Some(flag) = flag(value) {
        return Some(flag.into());
    }
    if let Some(date) = date(value) {
        return Some(date);
    }
    let number: String = value.chars().filter(|letter| !matches!(letter, ',' | '.' | '_' | '\'' | ' ')).collect();
    let grouped = value.split([',', '_', '\'', ' ']).skip(1).all(|group| group.len() == 3);
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && grouped && value.matches('.').count() == 0 {
        return Some(number.trim_start_matches('0').to_owned()).filter(|number| !number.is_empty());
    }
    if let Some(inside) = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let quoted: Vec<String> = inside.split(',').map(|item| in_quotes(item.trim())).collect();
        return Some(format!("[{}]", quoted.join(", ")));
    }
    (!value.starts_with(['[', '{'])).then(|| in_quotes(value))
}

/// A text in quotes, as it stands; none where TOML has no easy way to write it.
pub(super) fn quoted(text: &str) -> Option<String> {
    let bare = text.trim_matches(['"', '\'']);
    match (bare.contains(['"', '\\']), bare.contains('\'')) {
        (false, _) => Some(format!("\"{bare}\"")),
        (true, false) => Some(format!("'{bare}'")),
        (true, true) => None,
    }
}

/// A list of texts in quotes, of one text or of several with commas, with brackets or without.
pub(super) fn list(text: &str) -> Option<String> {
    let inside = text.trim().trim_start_matches('[').trim_end_matches(']');
    let items: Option<Vec<String>> = inside.split(',').map(str::trim).filter(|item| !item.is_empty()).map(quoted).collect();
    items.filter(|items| !items.is_empty()).map(|items| format!("[{}]", items.join(", ")))
}

/// `true` or `false` in other words.
pub(super) fn flag(text: &str) -> Option<&'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some("true"),
        "false" | "no" | "off" => Some("false"),
        _ => None,
    }
}

/// Whether a text says that there is to be no value, or no bound.
pub(super) fn says_none(text: &str) -> bool {
    const WORDS: [&str; 12] = ["", "never", "none", "no", "nil", "null", "off", "false", "unlimited", "forever", "infinite", "unset"];
    let text = text.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
    WORDS.contains(&text.as_str())
}

fn in_quotes(text: &str) -> String {
    let bare = text.trim_matches(['"', '\'']);
    let bare = duration(bare).or_else(|| size(bare)).unwrap_or_else(|| bare.to_owned());
    format!("\"{bare}\"")
}

/// A date in another order, as TOML wants it: `31.01.2027`, `2027/1/31`.
pub(super) fn date(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.trim().split(['.', '/', '-', ' ']).filter(|part| !part.is_empty()).collect();
    let [first, second, third] = parts[..] else { return None };
    let number = |part: &str| part.parse::<i16>().ok();
    let (year, month, day) = match (first.len(), third.len()) {
        (4, _) => (number(first)?, number(second)?, number(third)?),
        // Day and month: where both orders are dates, the one that is written with this mark.
        (_, 4) if text.contains('/') && number(first)? <= 12 => (number(third)?, number(first)?, number(second)?),
        (_, 4) => (number(third)?, number(second)?, number(first)?),
        _ => return None,
    };
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    (date.to_string() != text).then(|| date.to_string())
}

/// A number and a word behind it, which may be empty.
fn number_and_word(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, word) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, word.trim().trim_end_matches('.').to_ascii_lowercase()))
}

/// A time, with a unit that is none of ours or none at all: `30`, `30 seconds`, `2 weeks`.
pub(super) fn time(text: &str, unit: &str) -> Option<String> {
    let (number, word) = number_and_word(text)?;
    if word.is_empty() { Some(format!("{number}{unit}")) } else { duration(text) }
}

fn duration(text: &str) -> Option<String> {
    let (number, word) = number_and_word(text)?;
    let (number, unit) = match word.as_str() {
        "ms" | "msec" | "millisecond" | "milliseconds" => (number, "ms"),
        "s" | "sec" | "secs" | "second" | "seconds" => (number, "s"),
        "m" | "min" | "mins" | "minute" | "minutes" => (number, "m"),
        "h" | "hr" | "hrs" | "hour" | "hours" => (number, "h"),
        "d" | "day" | "days" => (number, "d"),
        "w" | "week" | "weeks" => (number.checked_mul(7)?, "d"),
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// A size with a unit that is none of ours: `50MB`, `1 g`.
pub(super) fn size(text: &str) -> Option<String> {
    let (number, word) = number_and_word(text)?;
    let unit = match word.as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" | "megabyte" | "megabytes" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// A size that is a number without a unit.
pub(super) fn octets(number: u64) -> String {
    // Whoever counts octets counts many; small numbers are mostly meant as mebibytes.
    if number < 1024 { format!("{number}MiB") } else { number.to_string() }
}

/// An address without its port, or of IPv6 with one and without brackets.
fn bare_address(text: &str, preset: u16) -> Option<SocketAddr> {
    let with_port = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|_| port.len() > 1)?;
        Some(SocketAddr::new(host.parse::<Ipv6Addr>().ok()?.into(), port))
    });
    with_port.or_else(|| Some(SocketAddr::new(text.trim_matches(['[', ']']).parse().ok()?, preset)))
}

/// An address to listen at, from `localhost:2525`, `*:2525`, `:2525`, `127.0.0.1`, `2525`; `preset` has the port that is usual there.
pub(super) fn listen(text: &str, preset: u16) -> Option<String> {
    let text = text.trim();
    let text =
        ["tcp://", "tcp:", "inet:", "smtp://", "http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.to_string());
    }
    if let Some(address) = bare_address(text, preset) {
        return Some(address.to_string());
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.trim().parse().ok()?;
    let address: IpAddr = match host.trim_matches(['[', ']']) {
        "localhost" | "" => Ipv4Addr::LOCALHOST.into(),
        "*" | "any" => Ipv4Addr::UNSPECIFIED.into(),
        other => other.parse().ok()?,
    };
    Some(SocketAddr::new(address, port).to_string())
}

/// A host with its port, from Postfix's `[host]:25`, from a URL, or from what has no port.
pub(super) fn host_and_port(text: &str) -> Option<String> {
    let text = text.trim();
    let text = ["smtp://", "smtps://", "lmtp://", "smtp:", "relay:", "lmtp:", "inet:", "esmtp:"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text)
        .trim_end_matches('/');
    if let Some(address) = bare_address(text, SMTP) {
        return Some(address.to_string());
    }
    let (host, port) = text.rsplit_once(':').or_else(|| text.split_once(' ')).unwrap_or((text, ""));
    let port = match port.trim() {
        "" | "smtp" => SMTP,
        "submission" => 587,
        "smtps" | "submissions" => 465,
        port => port.parse().ok().filter(|port| *port > 0)?,
    };
    let host = host.trim_matches(['[', ']']);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port).to_string());
    }
    let is_name = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        && host.bytes().any(|byte| byte.is_ascii_alphabetic());
    is_name.then(|| format!("{host}:{port}"))
}

/// What is wrong with a text that should name a host and its port, as the end of a message.
pub(super) fn next_hop(text: &str) -> String {
    if let Some(why) = port(text) {
        return format!("; {why}");
    }
    let meant = host_and_port(text);
    if meant.is_some() {
        return write(meant);
    }
    if text.contains('_') {
        return "; a host name has no underscore".into();
    }
    let bare = text.trim_start_matches(':');
    if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("; the host is missing: \"HOST:{bare}\"")
    } else {
        String::new()
    }
}

/// What is wrong with a text that should be an address to listen at, as the end of a message.
pub(super) fn address(text: &str, preset: u16) -> String {
    if let Some(why) = port(text) {
        return format!("; {why}");
    }
    match listen(text, preset) {
        None if text.bytes().any(|byte| byte.is_ascii_alphabetic()) && !text.contains("::") => {
            "; an address, no name: that of this machine, or \"0.0.0.0\" for all of its addresses".into()
        }
        meant => write(meant),
    }
}

const SMTP: u16 = 25;

/// Why a port cannot be one.
pub(super) fn port(text: &str) -> Option<&'static str> {
    let (_, port) = text.rsplit_once(':')?;
    (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !port.parse::<u16>().is_ok_and(|port| port > 0))
        .then_some("a port is a number from 1 to 65535")
}

/// What is wrong with a text that should be a network, as the end of a message.
pub(super) fn network(text: &str) -> String {
    if let Some(meant) = meant_network(text) {
        return write(Some(meant));
    }
    if text.is_empty() {
        return String::new();
    }
    if let Some((address, length)) = text.split_once('/')
        && let (Ok(address), Ok(_)) = (address.parse::<IpAddr>(), length.parse::<u32>())
    {
        return format!("; behind the / stands a number from 0 to {}", if address.is_ipv4() { 32 } else { 128 });
    }
    if text.contains('-') && text.split('-').all(|end| end.trim().parse::<IpAddr>().is_ok()) {
        return "; a range is written as networks, as in \"10.0.0.0/24\"".into();
    }
    if text.bytes().any(|byte| byte.is_ascii_alphabetic()) && !text.contains(':') {
        return "; names are not looked up: write the host's address".into();
    }
    String::new()
}

/// A network, from a netmask or from stars.
fn meant_network(text: &str) -> Option<String> {
    let text = text.trim();
    match text {
        "localhost" => return Some("127.0.0.0/8".into()),
        "*" | "any" | "all" => return Some("0.0.0.0/0\", \"::/0".into()),
        _ => {}
    }
    if let Some((address, mask)) = text.split_once('/')
        && let (Ok(address), Ok(mask)) = (address.parse::<Ipv4Addr>(), mask.parse::<Ipv4Addr>())
    {
        let bits = u32::from(mask);
        return (bits.leading_ones() == bits.count_ones()).then(|| format!("{address}/{}", bits.leading_ones()));
    }
    // 10.*, 10.1 and 10.1.: the parts that are named.
    let parts: Vec<&str> = text.split('.').filter(|part| !part.is_empty() && *part != "*" && *part != "x").collect();
    if (1..=3).contains(&parts.len()) && parts.iter().all(|part| part.parse::<u8>().is_ok()) {
        let mut whole: Vec<&str> = parts.clone();
        whole.resize(4, "0");
        return Some(format!("{}/{}", whole.join("."), parts.len() * 8));
    }
    text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|address| address.to_string())
}

/// The known word that was probably meant: a few letters apart, or the same words in more or fewer.
#[must_use]
pub fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let written = plain(written);
    let most = 1 + written.chars().count() / 5;
    let apart = known
        .iter()
        .map(|known| (strsim::osa_distance(&written, &plain(known)), *known))
        .filter(|(distance, known)| *distance <= most && *distance < known.chars().count())
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, known)) = apart {
        return Some(known);
    }
    let words = |text: &str| text.split(['_', '.']).filter(|word| word.len() > 2).map(str::to_owned).collect::<Vec<_>>();
    let own = words(&written);
    let fits = |known: &&&str| {
        let (plain, theirs) = (plain(known), words(known));
        let same = own.iter().filter(|word| theirs.contains(word)).count();
        let (short, long) = if written.len() < plain.len() { (&written, &plain) } else { (&plain, &written) };
        same > 0 && same >= own.len().min(theirs.len()) || short.len() > 3 && long.starts_with(short.as_str())
    };
    let mut near = known.iter().filter(fits);
    // Of several nobody can tell which.
    let first = near.next()?;
    near.next().is_none().then_some(*first)
}

/// `; write "..."`, where it is known what was meant.
pub(super) fn write(meant: Option<String>) -> String {
    meant.map_or_else(String::new, |meant| format!("; write \"{meant}\""))
}

/// The time that a text was meant as, where it is none yet; without a unit it gets this one.
pub(super) fn for_time(written: &str, unit: &str) -> Option<String> {
    time(written, unit).filter(|meant| schema::duration(meant).is_some() && meant != written)
}

/// The time within these bounds that a text was meant as, where it is none yet. Without a unit it gets seconds, or else `usual`, or
/// else the smallest with which it is within them.
pub(super) fn for_time_within(written: &str, usual: &str, bounds: (Duration, Duration)) -> Option<String> {
    let units = ["s", usual, "m", "h", "d", "ms"];
    let within = |meant: &String| schema::duration(meant).is_some_and(|time| bounds.0 <= time && time <= bounds.1);
    units.into_iter().filter(|unit| !unit.is_empty()).filter_map(|unit| for_time(written, unit)).find(within)
}

/// A limit in other words: `20`, `20 per hour`, `20/h`.
pub(super) fn limit(text: &str) -> Option<String> {
    let (number, word) = number_and_word(text)?;
    let word: String = word.chars().filter(char::is_ascii_alphabetic).collect();
    matches!(word.as_str(), "" | "h" | "hour" | "perhour" | "perh" | "hourly" | "anhour" | "ph").then(|| format!("{number}/hour"))
}
