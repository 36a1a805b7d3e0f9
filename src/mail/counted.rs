//! Counts in sentences: `1 link`, `2 links`.

/// A count with its noun, which is given in the singular, as in `1 entry` and `2 entries`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        return format!("1 {noun}");
    }
    let ends = |end: &str| noun.strip_suffix(end);
    // `entry`, but not `day`.
    let plural = match ends("y") {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if ["s", "x", "ch", "sh"].iter().any(|end| ends(end).is_some()) => format!("{noun}es"),
        _ => format!("{noun}s"),
    };
    format!("{count} {plural}")
}

/// A length of time for people: in minutes, in hours and minutes, or in days and hours.
#[must_use]
pub fn lasting(minutes: u64) -> String {
    let whole = |count: u64, noun: &str| counted(usize::try_from(count).unwrap_or(usize::MAX), noun);
    let both = |large: String, rest: u64, noun: &str| if rest == 0 { large } else { format!("{large} {}", whole(rest, noun)) };
    match minutes {
        0..120 => whole(minutes, "minute"),
        120..2_880 => both(whole(minutes / 60, "hour"), minutes % 60, "minute"),
        _ => both(whole(minutes / 1_440, "day"), minutes % 1_440 / 60, "hour"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_follow_their_counts() {
        let said = |count| ["mail", "entry", "address", "near miss", "day", "match"].map(|noun| counted(count, noun)).join(", ");
        assert_eq!(said(1), "1 mail, 1 entry, 1 address, 1 near miss, 1 day, 1 match");
        assert_eq!(said(0), "0 mails, 0 entries, 0 addresses, 0 near misses, 0 days, 0 matches");
        assert_eq!(said(2), "2 mails, 2 entries, 2 addresses, 2 near misses, 2 days, 2 matches");
    }
}
