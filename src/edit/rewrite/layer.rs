//! A text behind its codings, each with the way back: which octets of the mail an octet of the text stands for.

use std::{borrow::Cow, ops::Range};

use encoding_rs::Encoding as Charset;

/// A stretch that reads otherwise than it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    /// The octets of the decoded text; empty where the stretch decodes to nothing, as a soft line break does.
    reads: Range<usize>,
    /// The octets of the text that was decoded.
    stands: Range<usize>,
}

/// One decoding. Between the stretches every octet stands for itself.
#[derive(Clone, Debug)]
pub(super) struct Layer<'s> {
    /// The decoded text.
    pub(super) text: Cow<'s, [u8]>,
    /// In order of both their ranges.
    stretches: Vec<Stretch>,
}

impl<'s> Layer<'s> {
    /// A text that stands as it reads.
    pub(super) const fn plain(text: &'s [u8]) -> Self {
        Self { text: Cow::Borrowed(text), stretches: Vec::new() }
    }

    /// A text that has no way back.
    pub(super) const fn decoded(text: Vec<u8>) -> Self {
        Self { text: Cow::Owned(text), stretches: Vec::new() }
    }

    /// The octets below this decoding that a range of the decoded text stands for: from the first octet's start to the last one's
    /// end, so that stretches that decode to nothing at either side are left out.
    pub(super) fn stands(&self, reads: &Range<usize>) -> Range<usize> {
        let start = self.octet(reads.start).start;
        let end = if reads.is_empty() { start } else { self.octet(reads.end.saturating_sub(1)).end };
        start..end.max(start)
    }

    fn octet(&self, at: usize) -> Range<usize> {
        let before = self.stretches.partition_point(|stretch| stretch.reads.start <= at);
        match before.checked_sub(1).and_then(|last| self.stretches.get(last)) {
            Some(stretch) if at < stretch.reads.end => stretch.stands.clone(),
            Some(stretch) => {
                let stands = stretch.stands.end + (at - stretch.reads.end);
                stands..stands + 1
            }
            None => at..at + 1,
        }
    }

    /// Quoted-printable (RFC 2045 section 6.7).
    pub(super) fn quoted_printable(raw: &'s [u8]) -> Self {
        let (mut text, mut stretches) = (Vec::with_capacity(raw.len()), Vec::new());
        let mut next = 0;
        while let Some(rest) = raw.get(next..).filter(|rest| !rest.is_empty()) {
            let plain = memchr::memchr(b'=', rest).unwrap_or(rest.len());
            text.extend_from_slice(rest.get(..plain).unwrap_or_default());
            next += plain;
            let Some(coded) = rest.get(plain + 1..) else { break };
            let at = text.len();
            let length = if coded.starts_with(b"\r\n") {
                3
            } else if coded.starts_with(b"\n") {
                2
            } else if let Some(octet) = hex(coded) {
                text.push(octet);
                3
            } else {
                text.push(b'=');
                next += 1;
                continue;
            };
            stretches.push(Stretch { reads: at..text.len(), stands: next..next + length });
            next += length;
        }
        Self { text: Cow::Owned(text), stretches }
    }

    /// A charset (WHATWG Encoding); a name that nobody knows, and ASCII in any of those where it is ASCII, stay as they are.
    pub(super) fn charset(octets: &'s [u8], name: Option<&str>) -> Self {
        let charset = name.map_or(Some(encoding_rs::UTF_8), |name| Charset::for_label(name.as_bytes()));
        let Some(charset) = charset else { return Self::plain(octets) };
        let as_it_stands = if charset == encoding_rs::UTF_8 {
            std::str::from_utf8(octets).is_ok()
        } else {
            charset.is_ascii_compatible() && octets.is_ascii()
        };
        if as_it_stands {
            return Self::plain(octets);
        }
        let mut decoder = charset.new_decoder_without_bom_handling();
        let (mut text, mut stretches) = (Vec::with_capacity(octets.len() * 2), Vec::new());
        // The first octet that has not been read to its end.
        let mut start = 0;
        for (at, octet) in octets.iter().enumerate() {
            // One octet gives at most a replacement for what was open, and a letter: seven octets of UTF-8.
            let mut letter = [0; 16];
            let (_, _, written, _) = decoder.decode_to_utf8(std::slice::from_ref(octet), &mut letter, false);
            let Some(letter) = letter.get(..written).filter(|letter| !letter.is_empty()) else { continue };
            let reads = text.len()..text.len() + written;
            text.extend_from_slice(letter);
            if letter == [*octet] {
                // What stands in front of it switched the charset (ISO 2022) and reads as nothing.
                if start < at {
                    stretches.push(Stretch { reads: reads.start..reads.start, stands: start..at });
                }
            } else {
                stretches.push(Stretch { reads, stands: start..at + 1 });
            }
            start = at + 1;
        }
        Self { text: Cow::Owned(text), stretches }
    }

    /// The character references of HTML (WHATWG HTML section 13.2.5.72), in attributes by the rule for attributes. Markup
    /// inside comments counts as markup, because Outlook reads it.
    pub(super) fn entities(text: &'s [u8]) -> Self {
        Self::entities_from(text, Inside::Text)
    }

    /// The same for an attribute's value.
    pub(super) fn entities_of_value(text: &'s [u8]) -> Self {
        // Closed by no octet of it.
        Self::entities_from(text, Inside::Quotes(0))
    }

    fn entities_from(text: &'s [u8], mut inside: Inside) -> Self {
        let (mut out, mut stretches) = (Vec::with_capacity(text.len()), Vec::new());
        let mut next = 0;
        while let Some(rest) = text.get(next..).filter(|rest| !rest.is_empty()) {
            let plain = rest.iter().position(|octet| b"&<>\"'=".contains(octet)).unwrap_or(rest.len());
            out.extend_from_slice(rest.get(..plain).unwrap_or_default());
            next += plain;
            let Some(mark) = text.get(next).copied() else { break };
            if mark == b'&'
                && let Some((length, reads)) = reference(text.get(next..).unwrap_or_default(), inside)
            {
                stretches.push(Stretch { reads: out.len()..out.len() + reads.len(), stands: next..next + length });
                out.extend_from_slice(reads.as_bytes());
                next += length;
                continue;
            }
            inside = inside.after(mark, text.get(..next).unwrap_or_default(), text.get(next + 1).copied());
            out.push(mark);
            next += 1;
        }
        Self { text: Cow::Owned(out), stretches }
    }
}

/// Where in markup a place is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Text,
    /// Between `<` and `>`, in no quotes.
    Tag,
    /// In an attribute's value, up to this quote.
    Quotes(u8),
}

impl Inside {
    fn after(self, mark: u8, before: &[u8], next: Option<u8>) -> Self {
        match (self, mark) {
            (Self::Text, b'<') if next.is_some_and(|next| next.is_ascii_alphabetic()) => Self::Tag,
            (Self::Tag, b'>') => Self::Text,
            // A quote opens a value behind `=` alone.
            (Self::Tag, b'"' | b'\'') if before.trim_ascii_end().ends_with(b"=") => Self::Quotes(mark),
            (Self::Quotes(quote), _) if quote == mark => Self::Tag,
            _ => self,
        }
    }
}

/// The character reference that a text begins with: its octets, and what it reads. None where it is no reference.
fn reference(text: &[u8], inside: Inside) -> Option<(usize, String)> {
    let name = text.iter().skip(1).take(LONGEST_REFERENCE).take_while(|octet| octet.is_ascii_alphanumeric() || **octet == b'#').count();
    // The octet behind it counts: `;`, or `=` in an attribute.
    let end = text.get(1 + name).map_or(1 + name, |octet| if octet.is_ascii() { 2 + name } else { 1 + name });
    let written = std::str::from_utf8(text.get(..end)?).ok()?;
    let read = if inside == Inside::Text { htmlize::unescape(written) } else { htmlize::unescape_attribute(written) };
    if read == written {
        return None;
    }
    // What follows a reference without `;` is no part of it.
    let same = written.bytes().rev().zip(read.bytes().rev()).take_while(|(one, other)| one == other).count();
    let same = same.min(read.len().saturating_sub(1));
    let same = (0..=same).rev().find(|same| read.is_char_boundary(read.len() - same))?;
    Some((written.len() - same, read.get(..read.len() - same)?.to_owned()))
}

/// Octets of the longest name of a character reference, and then some.
const LONGEST_REFERENCE: usize = 40;

fn hex(text: &[u8]) -> Option<u8> {
    let pair = text.get(..2).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
}

/// A text with percent-encoding undone once (RFC 3986 section 2.1); none where there is nothing to undo.
pub(super) fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest, mut changed) = (Vec::with_capacity(text.len()), text, false);
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (plain, coded) = rest.split_at_checked(at)?;
        out.extend_from_slice(plain);
        let coded = coded.get(1..).unwrap_or_default();
        if let Some(octet) = hex(coded) {
            out.push(octet);
            changed = true;
            rest = coded.get(2..).unwrap_or_default();
        } else {
            out.push(b'%');
            rest = coded;
        }
    }
    out.extend_from_slice(rest);
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each piece of the decoded text, and the piece that stands for it.
    fn stands<'s>(layer: &Layer<'_>, source: &'s str, piece: &str) -> &'s str {
        let text = std::str::from_utf8(&layer.text).unwrap();
        let at = text.find(piece).unwrap_or_else(|| panic!("{piece} in {text}"));
        source.get(layer.stands(&(at..at + piece.len()))).unwrap()
    }

    #[test]
    fn quoted_printable_and_back() {
        let source = "a=3Db=\r\n=\r\nc=\r\nd=20e=";
        let layer = Layer::quoted_printable(source.as_bytes());
        assert_eq!(&*layer.text, b"a=bcd e=");
        for (piece, there) in [("=", "=3D"), ("bc", "b=\r\n=\r\nc"), ("c", "c"), ("d e", "d=20e"), ("a", "a")] {
            assert_eq!(stands(&layer, source, piece), there);
        }
    }

    #[test]
    fn entities_and_back() {
        let source = "x <a href=\"https:&#x2F;&#X2f;a&#46;test&sol;?b=1&ampc&amp;copy=&copy=2&#038;d\">&ampe &copy=&Tab;é&nosuch;</a>";
        let layer = Layer::entities(source.as_bytes());
        assert_eq!(std::str::from_utf8(&layer.text).unwrap(), "x <a href=\"https://a.test/?b=1&ampc&copy=&copy=2&d\">&e ©=\té&nosuch;</a>");
        for (piece, there) in [
            ("https://a.test/", "https:&#x2F;&#X2f;a&#46;test&sol;"),
            ("&copy=&", "&amp;copy=&"),
            ("&d", "&#038;d"),
            ("&e", "&ampe"),
            ("©=", "&copy="),
            ("é", "é"),
        ] {
            assert_eq!(stands(&layer, source, piece), there, "{piece}");
        }
        // Any text gives a result.
        for odd in ["&", "&#", "&#x", "&#xfffffff;", "&amp", "<a x='&#0;", "&é", "&&&;"] {
            let layer = Layer::entities(odd.as_bytes());
            let _ = layer.stands(&(0..layer.text.len()));
        }
    }

    #[test]
    fn charsets_and_back() {
        let (japanese, _, _) = encoding_rs::ISO_2022_JP.encode("前https://a.test/x後");
        let layer = Layer::charset(&japanese, Some("iso-2022-jp"));
        let text = String::from_utf8(layer.text.to_vec()).unwrap();
        assert_eq!(text, "前https://a.test/x後");
        let at = text.find("https").unwrap();
        assert_eq!(&japanese[layer.stands(&(at..at + 16))], b"https://a.test/x");
        let latin = b"caf\xe9 https://a.test/\xe4 x";
        let layer = Layer::charset(latin, Some("iso-8859-1"));
        let text = String::from_utf8(layer.text.to_vec()).unwrap();
        let at = text.find("https").unwrap();
        assert_eq!(&latin[layer.stands(&(at..at + "https://a.test/ä".len()))], b"https://a.test/\xe4");
    }

    #[test]
    fn percent_is_undone_once() {
        assert_eq!(percent_decoded(b"a%2Fb%252F%zz%").unwrap(), b"a/b%2F%zz%");
        assert_eq!(percent_decoded(b"a%zz"), None);
    }
}
