//! New links and whole parts in a transfer encoding (RFC 2045 section 6).

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use crate::{
    edit::{Patch, apply},
    message::{Headers, parts::Body},
};

/// A text's patches as patches of the mail, where the part stands in it as it reads. None where a line would become longer
/// than RFC 5322 section 2.1.1 allows.
pub(super) fn in_plain(raw: &[u8], body: &Body, patches: &[Patch]) -> Option<Vec<Patch>> {
    let text = raw.get(body.range.clone())?;
    let longest = |text: &[u8]| text.split(|octet| *octet == b'\n').map(|line| line.trim_ascii_end().len()).max().unwrap_or(0);
    let after = longest(&apply(text, patches).ok()?);
    if after > LINE && after > longest(text) {
        return None;
    }
    Some(patches.iter().map(|patch| Patch { at: shifted(&patch.at, body), with: patch.with.clone() }).collect())
}

/// A part whose lines would become too long: its body in quoted-printable, and its header says so.
pub(super) fn encoded_anew(raw: &[u8], body: &Body, patches: &[Patch]) -> Option<Vec<Patch>> {
    let changed = apply(raw.get(body.range.clone())?, patches).ok()?;
    let head = raw.get(body.header.clone())?;
    let headers = Headers::read(head);
    // A mail without MIME has no transfer encodings.
    if body.header.start == 0 && headers.named("MIME-Version").next().is_none() {
        return None;
    }
    let field = b"Content-Transfer-Encoding: quoted-printable\r\n".to_vec();
    let place = match headers.named("Content-Transfer-Encoding").next() {
        Some(known) => known.whole.clone(),
        // In front of the blank line.
        None => headers.fields().last().map_or(0..0, |last| last.whole.end..last.whole.end),
    };
    let place = body.header.start + place.start..body.header.start + place.end;
    Some(vec![Patch { at: place, with: field }, Patch { at: body.range.clone(), with: quoted_printable(&changed) }])
}

/// The same for a part in quoted-printable: each new text stands between soft line breaks, so that no line grows.
pub(super) fn in_quoted_printable(body: &Body, patches: &[Patch]) -> Vec<Patch> {
    patches.iter().map(|patch| Patch { at: shifted(&patch.at, body), with: quoted(&patch.with) }).collect()
}

/// The same for a part in base64, which is encoded anew as a whole.
pub(super) fn in_base64(raw: &[u8], body: &Body, decoded: &[u8], patches: &[Patch]) -> Option<Patch> {
    let text = raw.get(body.range.clone())?;
    let encoded = BASE64.encode(apply(decoded, patches).ok()?);
    let lines: Vec<&[u8]> = encoded.as_bytes().chunks(76).collect();
    // White space at the ends stays.
    let last = text.iter().rposition(|octet| !octet.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let first = text.iter().position(|octet| !octet.is_ascii_whitespace()).unwrap_or(0);
    Some(Patch { at: shifted(&(first..last), body), with: lines.join(&b"\r\n"[..]) })
}

/// What a body in base64 decodes to.
pub(super) fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let letters: Vec<u8> = text.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
    BASE64.decode(letters).ok()
}

fn shifted(range: &Range<usize>, body: &Body) -> Range<usize> {
    body.range.start + range.start..body.range.start + range.end
}

/// Octets in quoted-printable; line ends stay line ends.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n");
        let (line, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        let mut column = 0;
        for (at, octet) in line.iter().enumerate() {
            let last = at + 1 == line.len();
            let plain = matches!(octet, b'!'..=b'<' | b'>'..=b'~') || (matches!(octet, b' ' | b'\t') && !last);
            write_octet(&mut out, &mut column, *octet, plain);
        }
        rest = after.strip_prefix(b"\r\n").unwrap_or(after);
        if end.is_some() {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

/// A new text between soft line breaks.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = b"=\r\n".to_vec();
    let mut column = 0;
    for octet in text {
        write_octet(&mut out, &mut column, *octet, octet.is_ascii_graphic() && *octet != b'=');
    }
    out.extend_from_slice(b"=\r\n");
    out
}

/// Adds an octet, with a soft line break in front where the line is full: 76 characters, the break's own `=` among them.
fn write_octet(out: &mut Vec<u8>, column: &mut usize, octet: u8, plain: bool) {
    let length = if plain { 1 } else { 3 };
    if *column + length > 75 {
        out.extend_from_slice(b"=\r\n");
        *column = 0;
    }
    *column += length;
    if plain {
        out.push(octet);
    } else {
        out.extend_from_slice(format!("={octet:02X}").as_bytes());
    }
}

/// RFC 5322 section 2.1.1, without CRLF.
const LINE: usize = 998;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn base64(text: &str) -> String {
        let encoded = BASE64.encode(text);
        let lines: Vec<&str> = encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join("\r\n")
    }

    pub(in super::super) fn quoted_printable(text: &str) -> String {
        String::from_utf8(super::quoted_printable(text.as_bytes())).unwrap()
    }

    #[test]
    fn no_line_is_too_long() {
        let text = format!("{}= \r\n{}\u{e4}", "x".repeat(200), "=".repeat(90));
        let encoded = quoted_printable(&text);
        assert!(encoded.lines().all(|line| line.len() <= 76), "{encoded}");
        assert!(String::from_utf8(quoted("=".repeat(90).as_bytes())).unwrap().lines().all(|line| line.len() <= 76));
    }
}
