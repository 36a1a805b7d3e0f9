//! Putting other links in place of some, wherever they stand, and leaving every other octet alone.
//!
//! Each text part is searched as its transfer encoding hides it: plain text is cut and spliced, quoted-printable gets the
//! new link between soft line breaks of its own, base64 is encoded anew as a whole. The charset stays, because links are
//! ASCII in all of those that are let through. What comes out is read again: if anything but the links has changed, nothing
//! is changed at all.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{Patch, apply};
use crate::{
    limits,
    message::{
        Content, Headers, Message,
        parts::{self, Body, Encoding, Format},
        words,
    },
};

/// A link, and what stands in its place afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The link as it stands in the mail.
    pub from: String,
    /// The new one: ASCII, no quote, no blank.
    pub to: String,
}

/// Why links cannot be put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// A link stands somewhere in a form that is not found by its octets, or a part would read differently afterwards.
    #[error("the link stands in the mail in a form that cannot be replaced without changing anything else")]
    Form,
    /// A line would be longer than RFC 5322 section 2.1.1 allows.
    #[error("a line of the mail would be longer than 998 octets")]
    Line,
}

/// The patches that put the new links in place.
///
/// # Errors
/// [`SwapError`]; the mail is then to be left as it came.
pub fn swap(message: &Message<'_>, content: &Content, swaps: &[Swap]) -> Result<Vec<Patch>, SwapError> {
    let raw = message.raw();
    let mut patches = Vec::new();
    for body in parts::bodies(raw) {
        let forms = Forms::of(content, swaps, body.format).ok_or(SwapError::Form)?;
        match body.encoding {
            Encoding::Identity => match in_plain(raw, &body, &forms) {
                Ok(spliced) => patches.extend(spliced),
                Err(_) => patches.extend(encoded_anew(raw, &body, &forms).ok_or(SwapError::Line)?),
            },
            Encoding::QuotedPrintable => patches.extend(in_quoted_printable(raw, &body, &forms)),
            Encoding::Base64 => patches.extend(in_base64(raw, &body, &forms)?),
        }
    }
    verify(message, content, swaps, &patches)?;
    Ok(patches)
}

/// Every way in which the links of a mail are written in one of its parts. All links are looked for, and the longest first,
/// so that a link is not found inside another one.
struct Forms {
    search: AhoCorasick,
    /// The new text for each form; none where the link stays.
    to: Vec<Option<String>>,
}

impl Forms {
    fn of(content: &Content, swaps: &[Swap], format: Format) -> Option<Self> {
        let (mut written, mut to): (Vec<String>, Vec<Option<String>>) = (Vec::new(), Vec::new());
        for found in &content.links {
            let link = found.written();
            let new = swaps.iter().find(|swap| swap.from == link).map(|swap| swap.to.clone());
            let mut forms = vec![link.to_owned()];
            if format == Format::Html && link.contains('&') {
                forms.extend(["&amp;", "&#38;", "&#x26;"].map(|entity| link.replace('&', entity)));
            }
            for form in forms {
                if !written.contains(&form) {
                    written.push(form);
                    to.push(new.clone());
                }
            }
        }
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(written).ok()?;
        Some(Self { search, to })
    }

    /// Where something is to be replaced in decoded octets, and by what.
    fn places<'f>(&'f self, decoded: &'f [u8]) -> impl Iterator<Item = (Range<usize>, &'f str)> {
        self.search.find_iter(decoded).filter_map(|found| {
            let to = self.to.get(found.pattern().as_usize())?.as_deref()?;
            // An address that goes on is another one.
            let next = decoded.get(found.end()..).unwrap_or_default();
            let ends = match next.first() {
                Some(byte) if byte.is_ascii_alphanumeric() || b"/?=%~_-@$+".contains(byte) => false,
                Some(b'&') => {
                    next.starts_with(b"&quot;") || next.starts_with(b"&gt;") || next.starts_with(b"&lt;") || next.starts_with(b"&nbsp;")
                }
                Some(b'.' | b':' | b'#') => !next.get(1).is_some_and(u8::is_ascii_alphanumeric),
                _ => true,
            };
            ends.then_some((found.range(), to))
        })
    }
}

fn in_plain(raw: &[u8], body: &Body, forms: &Forms) -> Result<Vec<Patch>, SwapError> {
    let text = raw.get(body.range.clone()).unwrap_or_default();
    let patches: Vec<Patch> = forms
        .places(text)
        .map(|(place, to)| Patch { at: body.range.start + place.start..body.range.start + place.end, with: to.as_bytes().to_vec() })
        .collect();
    for patch in &patches {
        let line_start = memchr::memrchr(b'\n', raw.get(..patch.at.start).unwrap_or_default()).map_or(0, |at| at + 1);
        let rest = raw.get(patch.at.end..).unwrap_or_default();
        let line_end = patch.at.end + memchr::memchr(b'\r', rest).unwrap_or(rest.len());
        // Other links in the line grow it, too: each is counted in full.
        let grown: usize =
            patches.iter().filter(|other| (line_start..line_end).contains(&other.at.start)).map(|other| other.with.len()).sum();
        if line_end - line_start + grown > LINE {
            return Err(SwapError::Line);
        }
    }
    Ok(patches)
}

/// A part whose lines would become too long: its body in quoted-printable, and its header says so.
fn encoded_anew(raw: &[u8], body: &Body, forms: &Forms) -> Option<Vec<Patch>> {
    let text = raw.get(body.range.clone())?;
    let spliced: Vec<Patch> = forms.places(text).map(|(at, to)| Patch { at, with: to.as_bytes().to_vec() }).collect();
    let changed = apply(text, &spliced).ok()?;
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

/// Octets in quoted-printable; line ends stay line ends.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n");
        let (line, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        let mut column = 0;
        for (at, byte) in line.iter().enumerate() {
            let last = at + 1 == line.len();
            let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (matches!(byte, b' ' | b'\t') && !last);
            let piece = if plain { vec![*byte] } else { format!("={byte:02X}").into_bytes() };
            if column + piece.len() > 75 {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            column += piece.len();
            out.extend_from_slice(&piece);
        }
        rest = after.strip_prefix(b"\r\n").unwrap_or(after);
        if end.is_some() {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

/// Quoted-printable (RFC 2045 section 6.7): a decoded text with the place in the mail of each of its octets.
fn in_quoted_printable(raw: &[u8], body: &Body, forms: &Forms) -> Vec<Patch> {
    let text = raw.get(body.range.clone()).unwrap_or_default();
    let (mut decoded, mut at) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    let mut next = 0;
    while let Some(byte) = text.get(next) {
        let rest = text.get(next + 1..).unwrap_or_default();
        if *byte == b'=' && (rest.starts_with(b"\r\n") || rest.starts_with(b"\n")) {
            next += if rest.starts_with(b"\r\n") { 3 } else { 2 };
            continue;
        }
        at.push(next);
        if *byte == b'='
            && let Some(value) =
                rest.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok())
        {
            decoded.push(value);
            next += 3;
        } else {
            decoded.push(*byte);
            next += 1;
        }
    }
    at.push(text.len());
    let place = |octet: usize| at.get(octet).copied().unwrap_or(text.len());
    forms
        .places(&decoded)
        .map(|(found, to)| {
            // A soft line break behind the link's last octet stays: it decodes to nothing.
            let end = found.end.checked_sub(1).map_or(0, |last| place(last) + if text.get(place(last)) == Some(&b'=') { 3 } else { 1 });
            Patch { at: body.range.start + place(found.start)..body.range.start + end, with: quoted(to) }
        })
        .collect()
}

/// A link between soft line breaks, so that no line of the part grows.
fn quoted(link: &str) -> Vec<u8> {
    let mut out = b"=\r\n".to_vec();
    let mut column = 0;
    for byte in link.bytes() {
        let piece = if byte == b'=' { "=3D".to_owned() } else { char::from(byte).to_string() };
        if column + piece.len() > 75 {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        column += piece.len();
        out.extend_from_slice(piece.as_bytes());
    }
    out.extend_from_slice(b"=\r\n");
    out
}

fn in_base64(raw: &[u8], body: &Body, forms: &Forms) -> Result<Option<Patch>, SwapError> {
    let text = raw.get(body.range.clone()).unwrap_or_default();
    let letters: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = BASE64.decode(letters).map_err(|_| SwapError::Form)?;
    let patches: Vec<Patch> = forms.places(&decoded).map(|(at, to)| Patch { at, with: to.as_bytes().to_vec() }).collect();
    if patches.is_empty() {
        return Ok(None);
    }
    let encoded = BASE64.encode(apply(&decoded, &patches).map_err(|_| SwapError::Form)?);
    let lines: Vec<&[u8]> = encoded.as_bytes().chunks(76).collect();
    // What white space stood at the end stays.
    let last = text.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let first = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    Ok(Some(Patch { at: body.range.start + first..body.range.start + last, with: lines.join(&b"\r\n"[..]) }))
}

/// Reads the changed mail: the same parts, the same words, and the same links but for the new ones.
fn verify(message: &Message<'_>, before: &Content, swaps: &[Swap], patches: &[Patch]) -> Result<(), SwapError> {
    let changed = apply(message.raw(), patches).map_err(|_| SwapError::Form)?;
    let after = Message::read(&changed).content();
    let new = |link: &str| swaps.iter().find(|swap| swap.from == link).map_or_else(|| link.to_owned(), |swap| swap.to.clone());
    let expected: Vec<String> = before.links.iter().map(|found| new(found.written())).collect();
    let found: Vec<&str> = after.links.iter().map(|found| found.link.expose()).collect();
    let gone = swaps.iter().all(|swap| !after.links.iter().any(|found| found.link.expose() == swap.from));
    let same =
        expected == found && after.flaws == before.flaws && after.attachments == before.attachments && after.subject == before.subject;
    // The words, with every link that was or is in its place taken out.
    let without_links = |text: &str| {
        let mut text = text.to_owned();
        for link in swaps.iter().flat_map(|swap| [&swap.to, &swap.from]) {
            text = text.replace(&words::fold(link), "\0");
        }
        text
    };
    let (one, other) = (without_links(&before.text), without_links(&after.text));
    // A long mail's words are kept up to a bound, which the new links move: there the end is left out.
    let long = message.raw().len() > limits::WORDS;
    let most = if long { one.len().min(other.len()).saturating_sub(4 * LINE) } else { usize::MAX };
    let head = |text: &str| text.get(..text.floor_char_boundary(most)).map(str::to_owned);
    let same = same && head(&one) == head(&other);
    if same && gone && swaps.iter().all(|swap| found.contains(&swap.to.as_str())) { Ok(()) } else { Err(SwapError::Form) }
}

/// RFC 5322 section 2.1.1, without CRLF.
const LINE: usize = 998;
