//! The macros of RFC 7208 section 7.

use std::net::IpAddr;

use super::record::Malformed;

/// A domain-spec that was read, and is not expanded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Macro { letter: char, keep: usize, reverse: Reverse, delimiters: String, escape: Escape },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reverse {
    No,
    Yes,
}

/// Upper-case letters ask for the escapes of URLs (section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    Url,
}

/// The values of the macros (section 7.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'v> {
    pub(super) client: IpAddr,
    /// The local part of the sender; `postmaster` where there is none.
    pub(super) local: &'v str,
    /// The domain of the sender.
    pub(super) sender_domain: &'v str,
    pub(super) helo: &'v str,
    /// The domain whose record is evaluated.
    pub(super) domain: &'v str,
}

impl Spec {
    /// Reads a domain-spec: macros, and at the end a macro or a top label that is no number (section 7.1).
    pub(super) fn domain(text: &str) -> Result<Self, Malformed> {
        let pieces = pieces(text, "slodiphv")?;
        let ends_well = match pieces.last() {
            Some(Piece::Macro { .. }) => true,
            Some(Piece::Text(last)) => {
                let last = last.strip_suffix('.').unwrap_or(last);
                let (before, top) = last.rsplit_once('.').unwrap_or(("", ""));
                let alone = before.is_empty() && pieces.len() == 1;
                let letters = top.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                letters
                    && !alone
                    && !top.is_empty()
                    && !top.starts_with('-')
                    && !top.ends_with('-')
                    && top.bytes().any(|byte| !byte.is_ascii_digit())
            }
            None => false,
        };
        if ends_well { Ok(Self(pieces)) } else { Err(Malformed) }
    }

    /// Checks a macro-string (the value of an unknown modifier).
    pub(super) fn text(text: &str) -> Result<(), Malformed> {
        pieces(text, "slodiphvcrt").map(|_| ())
    }

    /// Puts the values in, as a name of at most 253 octets: labels are dropped on the left (section 7.3).
    pub(super) fn expand(&self, values: &Values<'_>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Macro { letter, keep, reverse, delimiters, escape } => {
                    let value = value(*letter, values);
                    let mut parts: Vec<&str> = value.split(|letter| delimiters.contains(letter)).collect();
                    if *reverse == Reverse::Yes {
                        parts.reverse();
                    }
                    let kept = parts.get(parts.len().saturating_sub(*keep)..).unwrap_or_default().join(".");
                    match escape {
                        Escape::No => out.push_str(&kept),
                        Escape::Url => out.extend(kept.bytes().map(|byte| {
                            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                                char::from(byte).to_string()
                            } else {
                                format!("%{byte:02X}")
                            }
                        })),
                    }
                }
            }
        }
        let mut name = out.strip_suffix('.').unwrap_or(&out);
        while name.len() > 253 {
            name = name.split_once('.').map_or("", |(_, rest)| rest);
        }
        name.to_owned()
    }
}

fn value(letter: char, values: &Values<'_>) -> String {
    match letter {
        's' => format!("{}@{}", values.local, values.sender_domain),
        'l' => values.local.to_owned(),
        'o' => values.sender_domain.to_owned(),
        'd' => values.domain.to_owned(),
        'h' => values.helo.to_owned(),
        'i' => match values.client {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let nibbles = address.octets().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
                nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
            }
        },
        'v' => if values.client.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
        // `p`, the client's name by reverse DNS, is never looked up: what rests on it would be no proof (section 7.3
        // says "do not use", and this is its value where nothing validates). `c`, `r`, `t` stand in explanations only.
        _ => "unknown".to_owned(),
    }
}

fn pieces(text: &str, letters: &str) -> Result<Vec<Piece>, Malformed> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        if letter != '%' {
            plain.push(letter);
            continue;
        }
        let kind = rest.chars().next().ok_or(Malformed)?;
        rest = rest.get(kind.len_utf8()..).unwrap_or_default();
        match kind {
            '%' => plain.push('%'),
            '_' => plain.push(' '),
            '-' => plain.push_str("%20"),
            '{' => {
                let (inside, after) = rest.split_once('}').ok_or(Malformed)?;
                rest = after;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(macro_of(inside, letters)?);
            }
            _ => return Err(Malformed),
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

/// Reads the text between `%{` and `}`: a letter, digits, `r`, delimiters.
fn macro_of(inside: &str, letters: &str) -> Result<Piece, Malformed> {
    let letter = inside.chars().next().ok_or(Malformed)?;
    if !letters.contains(letter.to_ascii_lowercase()) {
        return Err(Malformed);
    }
    let rest = inside.get(letter.len_utf8()..).unwrap_or_default();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at_checked(digits).ok_or(Malformed)?;
    let keep = match number {
        "" => usize::MAX,
        // More labels than a name has are all of them.
        digits => digits.parse().map_or(usize::MAX, |keep: usize| keep),
    };
    if keep == 0 {
        return Err(Malformed);
    }
    let (reverse, rest) = match rest.strip_prefix(['r', 'R']) {
        Some(rest) => (Reverse::Yes, rest),
        None => (Reverse::No, rest),
    };
    if !rest.bytes().all(|byte| b".-+,/_=".contains(&byte)) {
        return Err(Malformed);
    }
    let delimiters = if rest.is_empty() { "." } else { rest }.to_owned();
    let escape = if letter.is_ascii_uppercase() { Escape::Url } else { Escape::No };
    Ok(Piece::Macro { letter: letter.to_ascii_lowercase(), keep, reverse, delimiters, escape })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let values = |client: &str| Values {
            client: client.parse().unwrap(),
            local: "strong-bad",
            sender_domain: "email.example.com",
            helo: "mx.example.com",
            domain: "email.example.com",
        };
        for (client, text, name) in [
            ("192.0.2.3", "%{s}", "strong-bad@email.example.com"),
            ("192.0.2.3", "%{o}", "email.example.com"),
            ("192.0.2.3", "%{d4}", "email.example.com"),
            ("192.0.2.3", "%{d2}", "example.com"),
            ("192.0.2.3", "%{d1}", "com"),
            ("192.0.2.3", "%{dr}", "com.example.email"),
            ("192.0.2.3", "%{d2r}", "example.email"),
            ("192.0.2.3", "%{l-}", "strong.bad"),
            ("192.0.2.3", "%{lr-}", "bad.strong"),
            ("192.0.2.3", "%{l1r-}", "strong"),
            ("192.0.2.3", "%{S}", "strong-bad%40email.example.com"),
            ("192.0.2.3", "%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("192.0.2.3", "%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("192.0.2.3", "%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
            (
                "2001:db8::cb01",
                "%{ir}.%{v}._spf.%{d2}",
                "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com",
            ),
        ] {
            assert_eq!(Spec::domain(text).unwrap().expand(&values(client)), name, "{text}");
        }
        let long = format!("{}.example.com", ["a"; 200].join("."));
        assert!(Spec::domain(&long).unwrap().expand(&values("192.0.2.3")).len() <= 253);
    }
}
