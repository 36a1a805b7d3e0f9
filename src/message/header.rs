//! The header block as byte ranges: one look, no copies.
//!
//! A field is found however a lax reader would find it (a space before the colon, a folded name),
//! so that a forged tag cannot hide, and every such laxness is a [`Flaw`], so that nothing that
//! needs it is exempted.

use crate::mail::{Flaw, Flaws};
use std::ops::Range;

use memchr::{memchr, memchr2};

use crate::limits;

/// One header field, as offsets into the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// From the first octet of the name to past the last line ending.
    pub whole: Range<usize>,
    /// The name without surrounding white space.
    pub name: Range<usize>,
    /// What follows the colon, the last line ending left out.
    pub value: Range<usize>,
}

/// The header block of one mail (RFC 5322 section 2.2).
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    raw: &'a [u8],
    fields: Vec<Field>,
    body: usize,
    flaws: Flaws,
}

impl<'a> Headers<'a> {
    /// Reads the header block at the start of `raw`. Total: any bytes give a block.
    #[must_use]
    pub fn read(raw: &'a [u8]) -> Self {
        let mut headers = Self { raw, fields: Vec::with_capacity(32), body: raw.len(), flaws: Flaws::default() };
        let mut at = 0;
        let mut open: Option<usize> = None;
        let mut ended = false;
        while at < raw.len() {
            let rest = raw.get(at..).unwrap_or_default();
            let end = memchr(b'\n', rest).map_or(raw.len(), |feed| at + feed + 1);
            let line = raw.get(at..end).unwrap_or_default();
            if line == b"\r\n" || line == b"\n" {
                headers.close(open.take(), at);
                headers.body = end;
                ended = true;
                break;
            }
            if matches!(line.first(), Some(b' ' | b'\t')) {
                if line.iter().all(u8::is_ascii_whitespace) {
                    headers.flaws.add(Flaw::HeaderBlankFold);
                }
                if open.is_none() {
                    headers.flaws.add(Flaw::HeaderFoldFirst);
                    open = Some(at);
                }
            } else {
                headers.close(open.replace(at), at);
            }
            at = end;
        }
        if !ended {
            headers.close(open.take(), raw.len());
            headers.flaws.add(Flaw::HeaderWithoutEnd);
        }
        if headers.fields.len() > limits::HEADER_FIELDS {
            headers.flaws.add(Flaw::HeaderTooMany);
        }
        headers
    }

    fn close(&mut self, start: Option<usize>, end: usize) {
        let Some(start) = start else { return };
        let whole = self.raw.get(start..end).unwrap_or_default();
        let Some(colon) = memchr(b':', whole) else {
            self.flaws.add(Flaw::HeaderWithoutColon);
            self.fields.push(Field { whole: start..end, name: start..start, value: start..end });
            return;
        };
        let before = whole.get(..colon).unwrap_or_default();
        let is_space = |byte: &u8| *byte <= b' ' || *byte == 0x7f;
        let lead = before.iter().take_while(|byte| is_space(byte)).count();
        let trail = before.iter().rev().take_while(|byte| is_space(byte)).count().min(before.len() - lead);
        if before.contains(&b'\n') {
            self.flaws.add(Flaw::HeaderNameFolded);
        } else if !before.iter().all(|byte| (b'!'..=b'~').contains(byte)) || before.is_empty() {
            self.flaws.add(Flaw::HeaderNameSpace);
        }
        let tail = if whole.ends_with(b"\r\n") { 2 } else { usize::from(whole.ends_with(b"\n")) };
        let value = start + colon + 1..(end - tail).max(start + colon + 1);
        self.fields.push(Field { whole: start..end, name: start + lead..start + colon - trail, value });
    }

    /// All fields, topmost first.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Where the body starts: past the blank line, or the mail's end where there is none.
    #[must_use]
    pub const fn body(&self) -> usize {
        self.body
    }

    /// What is odd about the block's shape; contents are looked at by [`Headers::content_flaws`].
    #[must_use]
    pub const fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// The fields of this name, in any case and however written, topmost first.
    #[must_use]
    pub fn named<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'s Field> + 's {
        self.fields.iter().filter(move |field| self.is_named(field, name))
    }

    /// Whether a field has this name; octets that are no graphic ASCII do not count, as some readers drop them.
    #[must_use]
    pub fn is_named(&self, field: &Field, name: &str) -> bool {
        let bytes = self.raw.get(field.name.clone()).unwrap_or_default();
        if bytes.len() == name.len() {
            return bytes.eq_ignore_ascii_case(name.as_bytes());
        }
        // Where no name has such octets, as in nearly all mails, a longer one is another.
        let odd = self.flaws.has(Flaw::HeaderNameSpace) || self.flaws.has(Flaw::HeaderNameFolded);
        bytes.len() > name.len() && odd && {
            let graphic = bytes.iter().filter(|byte| byte.is_ascii_graphic());
            graphic.clone().count() == name.len() && graphic.zip(name.bytes()).all(|(left, right)| left.eq_ignore_ascii_case(&right))
        }
    }

    /// A field's name as it stands.
    #[must_use]
    pub fn name(&self, field: &Field) -> &'a [u8] {
        self.raw.get(field.name.clone()).unwrap_or_default()
    }

    /// A field's value as it stands, folds included.
    #[must_use]
    pub fn value(&self, field: &Field) -> &'a [u8] {
        self.raw.get(field.value.clone()).unwrap_or_default()
    }

    /// A field's value on one line: line ends removed (RFC 5322 section 2.2.3) and white space trimmed.
    #[must_use]
    pub fn unfolded(&self, field: &Field) -> Vec<u8> {
        let mut out: Vec<u8> = self.value(field).iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        out.truncate(out.trim_ascii_end().len());
        out.drain(..out.len() - out.trim_ascii_start().len());
        out
    }

    /// The one value of a field that may stand once, unfolded; the topmost where it stands twice.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<Vec<u8>> {
        self.named(name).next().map(|field| self.unfolded(field))
    }

    /// What is odd about the fields' contents. A second look, only for mails that may be exempted.
    #[must_use]
    pub fn content_flaws(&self) -> Flaws {
        let mut flaws = self.flaws;
        let block = self.raw.get(..self.body).unwrap_or_default();
        if std::str::from_utf8(block).is_err() {
            flaws.add(Flaw::HeaderEightBit);
        }
        if block.iter().any(|byte| (*byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n')) || *byte == 0x7f) {
            flaws.add(Flaw::HeaderControl);
        }
        for name in SINGLETONS {
            if self.named(name).nth(1).is_some() {
                flaws.add(Flaw::SingletonRepeated);
            }
        }
        flaws
    }
}

/// Where the body starts: past the blank line that ends the header block; none where it has not come.
#[must_use]
pub fn end(raw: &[u8]) -> Option<usize> {
    if raw.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr::memmem::find(raw, b"\r\n\r\n").map(|at| at + 4)
}

/// Octets of the comment at the start of a text (RFC 5322 section 3.2.2); none where it does not end, or is nested deeper
/// than [`limits::NESTING`].
#[must_use]
pub fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut escaped) = (0_usize, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth > limits::NESTING {
            return None;
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Whether bytes hold a CR or an LF that stands alone (RFC 5321 section 2.3.8).
#[must_use]
pub fn has_bare_line_ending(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = memchr2(b'\r', b'\n', rest) {
        if rest.get(at..at + 2) != Some(b"\r\n") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

/// Fields that RFC 5322 section 3.6 and RFC 2045 allow once.
const SINGLETONS: &[&str] = &[
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Sender",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(raw: &[u8]) -> (Vec<String>, usize, Vec<Flaw>) {
        let headers = Headers::read(raw);
        let names = headers.fields.iter().map(|field| String::from_utf8(raw[field.name.clone()].to_vec()).unwrap()).collect();
        (names, headers.body, headers.flaws.iter().collect())
    }

    #[test]
    fn plain_block() {
        let raw = b"From: a@b\r\nSubject: one\r\n two\r\n\r\nbody\r\n";
        assert_eq!(names(raw), (vec!["From".into(), "Subject".into()], 33, vec![]));
        let headers = Headers::read(raw);
        assert_eq!(headers.first("subject").unwrap(), b"one two");
    }

    #[test]
    fn what_a_lax_reader_finds_is_found_and_flawed() {
        for (raw, flaw) in [
            (&b"X-Tag : a\r\n\r\n"[..], Flaw::HeaderNameSpace),
            (b"X-Tag\0: a\r\n\r\n", Flaw::HeaderNameSpace),
            (b"X-Tag\r\n : a\r\n\r\n", Flaw::HeaderNameFolded),
            (b" X-Tag: a\r\n\r\n", Flaw::HeaderFoldFirst),
            (b"no colon\r\nX-Tag: a\r\n\r\n", Flaw::HeaderWithoutColon),
            (b"X-Tag: a\r\n \r\nb: c\r\n\r\n", Flaw::HeaderBlankFold),
            (b"X-Tag: a\r\n", Flaw::HeaderWithoutEnd),
        ] {
            let headers = Headers::read(raw);
            assert!(headers.flaws().has(flaw), "{flaw}");
            assert_eq!(headers.named("x-tag").count(), 1, "{flaw}");
        }
    }

    #[test]
    fn lone_line_endings() {
        assert!(!has_bare_line_ending(b"a\r\nb\r\n"));
        for raw in [&b"a\nb"[..], b"a\rb", b"a\r", b"\n", b"a\r\r\n", b"\n\r"] {
            assert!(has_bare_line_ending(raw), "{raw:?}");
        }
    }
}
