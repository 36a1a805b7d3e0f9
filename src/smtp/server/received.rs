//! The hop's Received field, which carries a mail's id (RFC 5321 section 4.4).

use std::net::IpAddr;

use crate::{clock, smtp::codec::attributes::Protocol};

/// How a mail was received, for the `with` clause.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceivedWith {
    /// Whether the upstream sent EHLO or HELO.
    pub(super) protocol: Protocol,
    /// Whether TLS was in use.
    pub(super) encrypted: bool,
    /// Whether MAIL had the parameter SMTPUTF8 (RFC 6531).
    pub(super) utf8: bool,
}

impl ReceivedWith {
    /// The keyword of the `with` clause (RFC 3848, RFC 6531 section 4.3).
    const fn keyword(self) -> &'static str {
        match (self.protocol, self.utf8, self.encrypted) {
            (_, true, true) => "UTF8SMTPS",
            (_, true, false) => "UTF8SMTP",
            (Protocol::Esmtp, false, true) => "ESMTPS",
            (Protocol::Esmtp, false, false) => "ESMTP",
            (Protocol::Smtp, false, _) => "SMTP",
        }
    }
}

/// Writes the Received field. The upstream's own name for itself is written only where it is a plain name.
pub(super) fn received(out: &mut Vec<u8>, hostname: &str, helo: &str, name: Option<&str>, peer: IpAddr, with: ReceivedWith, id: &str) {
    let plain =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':'));
    let helo = if plain(helo) { helo } else { "invalid" };
    let name = name.filter(|name| plain(name)).map(|name| format!("{name} ")).unwrap_or_default();
    let peer = match peer.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    let (with, date) = (with.keyword(), clock::rfc5322(clock::now()));
    out.extend_from_slice(
        format!("Received: from {helo} ({name}{peer})\r\n\tby {hostname} (firstclick) with {with} id {id};\r\n\t{date}\r\n").as_bytes(),
    );
}

/// Whether a mail as it leaves has no header field, and yet something that only the hop may write and that others might take
/// for one.
///
/// A mail that starts with its empty line has no header (RFC 5322 section 2.1), yet many readers pass over leading blank
/// lines, lines of white space and an mbox's `From ` line, and take what follows for the header: what was a forged tag in
/// the body is a tag to them. A field of the hop's own on top leaves them nothing to pass over. `is_forged` is asked of each
/// The place where a mail's body is kept, for [`hides_a_header`].
pub(super) fn hides_a_header(pieces: &[&[u8]], body: Body, is_forged: impl Fn(&[u8]) -> bool) -> bool {
    if has_field(pieces) {
        return false;
    }
    if body == Body::Elsewhere {
        return true;
    }
    let mail = pieces.concat();
    let mut start = 0;
    let mut ends = memchr::memmem::find_iter(&mail, b"\n\r\n").map(|at| at + 3).chain([mail.len()]);
    ends.any(|end| {
        let mut block = mail.get(start..end).unwrap_or_default();
        while let Some(rest) = block.strip_prefix(b"\r\n") {
            block = rest;
        }
        start = end;
        is_forged(block)
    })
}

/// The place where the body of a mail is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// In memory, behind its header.
    Here,
    /// In the rest of a large mail, which goes on as it comes.
    Elsewhere,
}

/// Whether the header block has a field, so that everybody sees the block end at the same line.
fn has_field(pieces: &[&[u8]]) -> bool {
    // The edits take away and put in whole fields, so that each piece of the block starts with a line.
    for line in pieces.iter().flat_map(|piece| piece.split_inclusive(|byte| *byte == b'\n')) {
        if matches!(line, b"\r\n" | b"\n") {
            return false;
        }
        if is_field(line) {
            return true;
        }
    }
    false
}

/// Whether a line starts a field: a name of printable ASCII, perhaps blanks, and a colon (RFC 5322 sections 2.2 and 4.5).
fn is_field(line: &[u8]) -> bool {
    let end = line.iter().position(|byte| !byte.is_ascii_graphic() || *byte == b':').unwrap_or(line.len());
    let rest = line.get(end..).unwrap_or_default().trim_ascii_start();
    end > 0 && rest.starts_with(b":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_begin_for_everybody() {
        for mail in ["a: b\r\n\r\n", "a:\r\n", "A-b \t: c\r\n", " \r\na: b\r\n\r\n", "From me\r\na: b\r\n"] {
            assert!(has_field(&[mail.as_bytes()]), "{mail:?}");
        }
        for mail in
            ["", "\r\n", "\r\na: b\r\n", " \r\n\r\na: b", "\t\r\n", " a: b\r\n\r\na: b", "From me\r\n\r\na: b", "\0\r\n\r\na: b", ": b\r\n"]
        {
            assert!(!has_field(&[mail.as_bytes()]), "{mail:?}");
        }
        // What is left once fields were taken away.
        assert!(!has_field(&[b"", b"\r\n", b"a: b\r\n"]));
        assert!(has_field(&[b"", b"a: b\r\n", b"\r\n"]));
    }
}
