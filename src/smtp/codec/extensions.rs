//! The service extensions that are known here (RFC 5321 section 2.2.1): one table, read and written.

use super::{attributes::Names, reply::Reply};

/// A service extension, by its EHLO keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Commands in one group (RFC 2920).
    Pipelining,
    /// Data with octets over 127 (RFC 6152).
    EightBitMime,
    /// Addresses and header fields in UTF-8 (RFC 6531).
    Smtputf8,
    /// Delivery status notifications (RFC 3461).
    Dsn,
    /// Enhanced status codes in replies (RFC 2034).
    EnhancedStatusCodes,
    /// TLS (RFC 3207).
    StartTls,
    /// Postfix's XCLIENT: for whom the session is.
    Xclient,
    /// Postfix's XFORWARD: for whom a mail is.
    Xforward,
    /// The largest mail (RFC 1870).
    Size,
    /// A mail as octets that are counted, by BDAT (RFC 3030).
    Chunking,
}

/// On what it depends that the hop announces an extension to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    /// The next hop announces it: the hop carries it and does nothing else about it.
    WithTheNextHop,
    /// The hop implements it; what the next hop announces does not count.
    ByTheHop,
    /// Never: the hop uses it towards the next hop, or not at all.
    Never,
}

/// What happens to a session whose new next hop does not announce what the reply to EHLO offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// It is closed by 421: the upstream may send what the next hop cannot take.
    Closes,
    /// It goes on: the upstream sends nothing that the next hop would not take.
    GoesOn,
}

/// A known extension: its keyword and how the hop deals with it.
struct Row {
    extension: Extension,
    keyword: &'static str,
    /// The text behind the keyword when the hop announces it. SIZE has a number.
    parameters: &'static str,
    announced: Announced,
    missing: Missing,
}

/// A new extension is a row here, and a variant of [`Extension`].
const TABLE: &[Row] = {
    use Announced::{ByTheHop, Never, WithTheNextHop};
    use Missing::{Closes, GoesOn};
    &[
        row(Extension::Pipelining, "PIPELINING", "", WithTheNextHop, GoesOn),
        row(Extension::EightBitMime, "8BITMIME", "", WithTheNextHop, Closes),
        row(Extension::Smtputf8, "SMTPUTF8", "", WithTheNextHop, Closes),
        row(Extension::Dsn, "DSN", "", WithTheNextHop, Closes),
        row(Extension::EnhancedStatusCodes, "ENHANCEDSTATUSCODES", "", WithTheNextHop, GoesOn),
        row(Extension::StartTls, "STARTTLS", "", ByTheHop, GoesOn),
        row(Extension::Xclient, "XCLIENT", "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT", ByTheHop, GoesOn),
        row(Extension::Xforward, "XFORWARD", "NAME ADDR PORT PROTO HELO IDENT SOURCE", ByTheHop, GoesOn),
        row(Extension::Size, "SIZE", "", WithTheNextHop, Closes),
        row(Extension::Chunking, "CHUNKING", "", Never, GoesOn),
    ]
};

const fn row(extension: Extension, keyword: &'static str, parameters: &'static str, announced: Announced, missing: Missing) -> Row {
    Row { extension, keyword, parameters, announced, missing }
}

/// A set of extensions, as one reply to EHLO announces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// A bit for each [`Extension`].
    bits: u16,
    /// Octets behind SIZE; 0 where there is no number, which sets no limit (RFC 1870 section 4).
    size: usize,
    /// What stands behind XFORWARD.
    forwarded: Names,
}

impl Extensions {
    /// The set that is announced while no next hop can be reached: every extension that one might carry. No mail is taken then,
    /// so none is taken on a false promise; an upstream must not return a mail because an extension is missing for a minute.
    #[must_use]
    pub fn of_an_unknown_next_hop() -> Self {
        TABLE.iter().filter(|row| row.announced == Announced::WithTheNextHop).fold(Self::default(), |set, row| set.with(row.extension))
    }

    /// Reads the reply to EHLO. Keywords that are not known are left out.
    #[must_use]
    pub fn read(ehlo: &Reply) -> Self {
        let mut found = Self::default();
        for line in ehlo.text().iter().skip(1) {
            let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
            let Some(row) = TABLE.iter().find(|row| row.keyword.eq_ignore_ascii_case(keyword)) else { continue };
            found = match row.extension {
                Extension::Size => found.sized(rest.trim().parse().unwrap_or(0)),
                Extension::Xforward => Self { forwarded: Names::read(rest), ..found.with(row.extension) },
                other => found.with(other),
            };
        }
        found
    }

    /// The lines of the reply to EHLO that announce them, in the table's order.
    pub fn lines(self) -> impl Iterator<Item = String> {
        TABLE.iter().filter(move |row| self.has(row.extension)).map(move |row| match (row.extension, row.parameters) {
            (Extension::Size, _) if self.size > 0 => format!("{} {}", row.keyword, self.size),
            (_, "") => row.keyword.to_owned(),
            (_, parameters) => format!("{} {parameters}", row.keyword),
        })
    }

    /// The part of them that the hop announces to its upstream, whose mails may have `most` octets; [`Self::with`] adds what the
    /// hop itself implements.
    #[must_use]
    pub fn carried(self, most: usize) -> Self {
        let carried = TABLE.iter().filter(|row| row.announced == Announced::WithTheNextHop && self.has(row.extension));
        let set = carried.fold(Self::default(), |set, row| set.with(row.extension));
        match self.size() {
            None => set,
            Some(0) => set.sized(most),
            Some(size) => set.sized(size.min(most)),
        }
    }

    /// Whether a session whose reply to EHLO offered `announced` can go on with a next hop that announces these. A mail of the size
    /// that was offered has to fit.
    #[must_use]
    pub fn covers(self, announced: Self) -> bool {
        let needed = TABLE.iter().filter(|row| row.missing == Missing::Closes && announced.has(row.extension));
        let fits = announced.size().is_none_or(|offered| self.size == 0 || offered <= self.size);
        fits && needed.into_iter().all(|row| self.has(row.extension))
    }

    /// The attributes that XFORWARD takes.
    #[must_use]
    pub const fn forwarded(self) -> Names {
        self.forwarded
    }

    /// Whether an extension is among them.
    #[must_use]
    pub const fn has(self, extension: Extension) -> bool {
        self.bits & (1 << extension as u16) != 0
    }

    /// The number behind SIZE, in octets; none where it sets no limit.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        self.has(Extension::Size).then_some(self.size)
    }

    /// This set and one more extension.
    #[must_use]
    pub const fn with(self, extension: Extension) -> Self {
        let forwarded = if matches!(extension, Extension::Xforward) { Names::ALL } else { self.forwarded };
        Self { bits: self.bits | (1 << extension as u16), forwarded, ..self }
    }

    /// This set and SIZE with a number of octets.
    #[must_use]
    pub const fn sized(self, octets: usize) -> Self {
        Self { size: octets, ..self.with(Extension::Size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ehlo(lines: &[&str]) -> Extensions {
        Extensions::read(&Reply::lines(250, [&["hop.test"], lines].concat().into_iter().map(str::to_owned).collect()))
    }

    #[test]
    fn each_extension_has_one_row_and_is_read_as_it_is_written() {
        for (number, row) in TABLE.iter().enumerate() {
            assert_eq!(row.extension as usize, number);
            let set = Extensions::default().with(row.extension);
            let lines: Vec<String> = set.lines().collect();
            assert_eq!(lines.len(), 1);
            assert_eq!(ehlo(&[lines[0].to_lowercase().as_str()]), set);
        }
        assert_eq!(Extensions::default().sized(1_000).lines().collect::<Vec<_>>(), ["SIZE 1000"]);
        assert_eq!(ehlo(&["SIZE 1000"]).size(), Some(1_000));
        assert_eq!(ehlo(&["size"]).size(), Some(0));
        assert_eq!(ehlo(&["BINARYMIME", "AUTH PLAIN", ""]), Extensions::default());
    }

    #[test]
    fn what_is_announced_is_what_the_next_hop_carries() {
        let next_hop = ehlo(&["PIPELINING", "STARTTLS", "XCLIENT NAME", "XFORWARD NAME", "DSN", "SIZE 5000", "CHUNKING"]);
        assert_eq!(next_hop.carried(9_000).lines().collect::<Vec<_>>(), ["PIPELINING", "DSN", "SIZE 5000"]);
        assert_eq!(next_hop.carried(1_000).size(), Some(1_000));
        assert_eq!(ehlo(&["SIZE"]).carried(1_000).size(), Some(1_000), "without a number there is no limit");
        assert_eq!(ehlo(&[]).carried(1_000).size(), None);
    }

    #[test]
    fn what_an_upstream_may_rely_on_has_to_stay() {
        let announced = ehlo(&["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "STARTTLS", "SIZE 10"]);
        assert!(ehlo(&["8BITMIME", "SIZE"]).covers(announced));
        assert!(ehlo(&["8BITMIME", "SIZE 10"]).covers(announced));
        assert!(!ehlo(&["8BITMIME", "SIZE 9"]).covers(announced));
        for less in [&["8BITMIME"][..], &["SIZE"], &[]] {
            assert!(!ehlo(less).covers(announced), "{less:?}");
        }
        assert!(Extensions::of_an_unknown_next_hop().covers(announced));
        assert!(ehlo(&[]).covers(Extensions::default()));
    }
}
