//! The MIME tree: which texts a mail program may show, and whether every program would see the same ones.
//!
//! mail-parser splits the tree; this room asks of each part whether a stricter or a laxer splitter would have split it
//! otherwise (RFC 2045, RFC 2046), and says so as a [`Flaw`].

use std::ops::Range;

use mail_parser::{DecodeProblems, MessageParser, MessagePart, PartFlags, PartKind};

use super::{
    flaw::{Flaw, Flaws},
    header::Headers,
};
use crate::limits;

/// A text that a mail program may show.
#[derive(Debug)]
pub struct Text {
    /// Its number in the tree, in document order.
    pub part: usize,
    /// What it is written in.
    pub format: Format,
    /// The text, transfer encoding and charset undone.
    pub text: String,
}

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// text/html and what mail programs treat like it.
    Html,
    /// Every other text type.
    Plain,
}

/// Where a text part's body stands in the mail, and how it is hidden there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its number in the tree, as [`Text::part`] counts.
    pub part: usize,
    /// Its charset as the part names it.
    pub charset: Option<String>,
    /// What it is written in.
    pub format: Format,
    /// The part's own header in the mail, with the blank line.
    pub header: Range<usize>,
    /// Its octets in the mail, as they were sent.
    pub range: Range<usize>,
    /// Its transfer encoding.
    pub encoding: Encoding,
}

/// A transfer encoding (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 7bit, 8bit, binary.
    Identity,
    /// quoted-printable.
    QuotedPrintable,
    /// base64.
    Base64,
}

/// The bodies of the text parts that stand in the mail itself; those inside nested messages are left out.
#[must_use]
pub fn bodies(raw: &[u8]) -> Vec<Body> {
    let parser = MessageParser::new().max_depth(limits::NESTING as _).max_parts(limits::PARTS as _).max_encoded_nesting(1);
    let Some(message) = parser.parse(raw) else { return Vec::new() };
    let texts = message.parts().enumerate().filter(|(_, part)| matches!(part.kind(), PartKind::Text | PartKind::Html));
    let bodies = texts.map(|(number, part)| Body {
        part: number,
        charset: part.content_type().and_then(|found| found.attribute("charset").map(str::to_owned)),
        format: if matches!(part.kind(), PartKind::Html) { Format::Html } else { Format::Plain },
        header: part.offset_header() as usize..part.offset_body() as usize,
        range: part.offset_body() as usize..(part.offset_end() as usize).min(raw.len()),
        encoding: match part.encoding() {
            mail_parser::Encoding::Base64 => Encoding::Base64,
            mail_parser::Encoding::QuotedPrintable => Encoding::QuotedPrintable,
            mail_parser::Encoding::None => Encoding::Identity,
        },
    });
    bodies.collect()
}

/// The tree of one mail, as far as judging needs it.
#[derive(Debug, Default)]
pub struct Tree {
    /// Every text part, nested messages included.
    pub texts: Vec<Text>,
    /// How many parts are neither text nor a picture: a scanner may open what is inside them, and nobody here can.
    pub attachments: usize,
    /// What is odd about it.
    pub flaws: Flaws,
}

/// Reads the tree of a whole mail.
#[must_use]
pub fn read(raw: &[u8]) -> Tree {
    let mut tree = Tree::default();
    let parser = MessageParser::new().max_depth(limits::NESTING as _).max_parts(limits::PARTS as _).max_encoded_nesting(1);
    let Some(message) = parser.parse(raw) else {
        tree.flaws.add(Flaw::TreeShape);
        return tree;
    };
    for (number, part) in message.parts().enumerate() {
        tree.read_part(raw, number, &part);
    }
    if message.parts().len() > 1 || has_mime_field(raw) {
        check_version(raw, &mut tree.flaws);
    }
    tree
}

impl Tree {
    fn read_part(&mut self, raw: &[u8], number: usize, part: &MessagePart<'_>) {
        let flags = part.flags();
        if flags.intersects(PartFlags::LIMIT_REACHED | PartFlags::NESTING_LIMIT) {
            self.flaws.add(Flaw::TreeLimit);
        }
        if !flags.is_empty() {
            self.flaws.add(Flaw::TreeShape);
        }
        self.check_headers(part);
        let (kind, subtype) = part.content_type().map_or(("text".into(), "plain".into()), |found| {
            (found.ctype().to_ascii_lowercase(), found.subtype().unwrap_or_default().to_ascii_lowercase())
        });
        match part.kind() {
            PartKind::Text | PartKind::Html => {
                let format = if matches!(part.kind(), PartKind::Html)
                    || matches!(subtype.as_str(), "x-amp-html" | "xhtml+xml" | "xml" | "enriched")
                {
                    Format::Html
                } else {
                    Format::Plain
                };
                if subtype == "calendar" || part.content_disposition().is_some_and(|how| how.ctype().eq_ignore_ascii_case("attachment")) {
                    self.attachments += 1;
                }
                check_encoding(part, &mut self.flaws);
                if let Some((text, problems)) = part.text_checked() {
                    if problems.contains(DecodeProblems::MALFORMED_TRANSFER_ENCODING)
                        || problems.contains(DecodeProblems::UNKNOWN_TRANSFER_ENCODING)
                    {
                        self.flaws.add(Flaw::TransferEncoding);
                    } else if !problems.is_empty() {
                        self.flaws.add(Flaw::Charset);
                    }
                    self.texts.push(Text { part: number, format, text: text.into_owned() });
                }
            }
            PartKind::Binary | PartKind::InlineBinary => {
                if is_sealed(&kind, &subtype) {
                    self.flaws.add(Flaw::Sealed);
                }
                if kind != "image" || subtype.starts_with("svg") {
                    self.attachments += 1;
                }
            }
            PartKind::Multipart => {
                if matches!(subtype.as_str(), "signed" | "encrypted") {
                    self.flaws.add(Flaw::Sealed);
                }
                if outside(raw, part).iter().any(|range| could_be_shown(raw.get(range.clone()).unwrap_or_default())) {
                    self.flaws.add(Flaw::TreeOutside);
                }
            }
            PartKind::Message(_) => {
                self.attachments += 1;
                if part.encoding() != mail_parser::Encoding::None {
                    self.flaws.add(Flaw::TreeShape);
                }
            }
        }
    }

    fn check_headers(&mut self, part: &MessagePart<'_>) {
        let headers = Headers::read(part.raw_headers());
        // Where the block ends is for the tree's own flags to say; the mail's own fields are looked at by `Message`.
        let mut odd = Flaws::default();
        for flaw in headers.content_flaws().iter().filter(|flaw| *flaw != Flaw::HeaderWithoutEnd) {
            odd.add(flaw);
        }
        self.flaws.join(odd);
        if let Some(value) = headers.first("Content-Type")
            && !is_plain_content_type(&value)
        {
            self.flaws.add(Flaw::ContentType);
        }
        if let Some(value) = headers.first("Content-Transfer-Encoding")
            && !ENCODINGS.iter().any(|known| value.eq_ignore_ascii_case(known.as_bytes()))
        {
            self.flaws.add(Flaw::TransferEncoding);
        }
    }
}

const ENCODINGS: &[&str] = &["7bit", "8bit", "binary", "quoted-printable", "base64"];

fn is_sealed(kind: &str, subtype: &str) -> bool {
    kind == "application"
        && matches!(
            subtype,
            "pkcs7-mime"
                | "x-pkcs7-mime"
                | "pkcs7-signature"
                | "x-pkcs7-signature"
                | "pgp-encrypted"
                | "pgp-signature"
                | "ms-tnef"
                | "vnd.ms-tnef"
        )
}

fn has_mime_field(raw: &[u8]) -> bool {
    let headers = Headers::read(raw);
    headers.named("Content-Type").next().is_some() || headers.named("Content-Transfer-Encoding").next().is_some()
}

fn check_version(raw: &[u8], flaws: &mut Flaws) {
    let version = Headers::read(raw).first("MIME-Version").unwrap_or_default();
    let plain = version == b"1.0" || version.strip_prefix(b"1.0").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"("));
    if !plain {
        flaws.add(Flaw::MimeVersion);
    }
}

/// Whether a Content-Type value is what RFC 2045 section 5.1 allows and nothing that readers split differently:
/// no comments, no repeated parameter, no RFC 2231 form of `boundary` or `charset`, no encoded word.
fn is_plain_content_type(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let mut pieces = Vec::new();
    let (mut piece, mut quoted, mut escaped) = (String::new(), false, false);
    for letter in value.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | ')' if !quoted => return false,
            ';' if !quoted => {
                pieces.push(std::mem::take(&mut piece));
                continue;
            }
            _ => {}
        }
        piece.push(letter);
    }
    if quoted || escaped {
        return false;
    }
    // One trailing semicolon is common and read alike by all.
    if !piece.trim().is_empty() {
        pieces.push(piece);
    }
    let mut pieces = pieces.iter().map(|piece| piece.trim());
    let Some((kind, subtype)) = pieces.next().and_then(|first| first.split_once('/')) else { return false };
    if !is_token(kind) || !is_token(subtype) {
        return false;
    }
    let mut seen: Vec<String> = Vec::new();
    pieces.all(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return false };
        let name = name.to_ascii_lowercase();
        let stem = name.split('*').next().unwrap_or_default().to_owned();
        let matters = matches!(stem.as_str(), "boundary" | "charset" | "start" | "type");
        let inside = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let plain_value = match inside {
            Some(inside) if stem == "boundary" => is_boundary(inside),
            Some(inside) => !matters || !inside.contains(['"', '\\']) && inside.trim() == inside,
            None => is_token(value),
        };
        let repeated = seen.contains(&name);
        seen.push(name.clone());
        is_token(&name) && !repeated && (!matters || name == stem) && (!matters || !value.contains("=?")) && (plain_value || !matters)
    })
}

/// RFC 2046 section 5.1.1.
fn is_boundary(text: &str) -> bool {
    (1..=70).contains(&text.len())
        && !text.ends_with(' ')
        && !text.starts_with(' ')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte))
}

/// RFC 2045 section 5.1.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
}

/// Whether the body is in the one form that every decoder reads alike.
fn check_encoding(part: &MessagePart<'_>, flaws: &mut Flaws) {
    let body = part.raw_body();
    let plain = match part.encoding() {
        mail_parser::Encoding::Base64 => is_plain_base64(body),
        mail_parser::Encoding::QuotedPrintable => is_plain_quoted_printable(body),
        mail_parser::Encoding::None => part.has_known_transfer_encoding(),
    };
    if !plain {
        flaws.add(Flaw::TransferEncoding);
    }
    let charset = part.content_type().and_then(|found| found.attribute("charset").map(str::to_ascii_lowercase));
    let decoded_raw_8bit = part.encoding() == mail_parser::Encoding::None && !body.is_ascii();
    match charset.as_deref() {
        Some(name) if name.starts_with("utf-7") || name.starts_with("utf-16") || name.starts_with("utf-32") || name.starts_with("x-") => {
            flaws.add(Flaw::Charset);
        }
        None | Some("us-ascii" | "ascii") if decoded_raw_8bit => flaws.add(Flaw::Charset),
        _ => {}
    }
}

fn is_plain_base64(body: &[u8]) -> bool {
    let mut letters = 0_usize;
    let mut padding = 0_usize;
    for byte in body {
        match byte {
            b'\r' | b'\n' => {}
            b'=' => padding += 1,
            byte if padding == 0 && (byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')) => letters += 1,
            _ => return false,
        }
    }
    padding <= 2 && (letters + padding).is_multiple_of(4)
}

fn is_plain_quoted_printable(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'=', rest) {
        let next = rest.get(at + 1..at + 3).unwrap_or_else(|| rest.get(at + 1..).unwrap_or_default());
        let plain = next == b"\r\n" || next == b"\n" || (next.len() == 2 && next.iter().all(u8::is_ascii_hexdigit));
        if !plain {
            return false;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    body.is_ascii() && !body.iter().any(|byte| *byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n'))
}

/// What of a multipart's body belongs to none of its parts: preamble, delimiters, epilogue.
fn outside(raw: &[u8], part: &MessagePart<'_>) -> Vec<Range<usize>> {
    let mut at = part.offset_body() as usize;
    let mut ranges = Vec::new();
    for child in part.children() {
        let (start, end) = (child.offset_header() as usize, child.offset_end() as usize);
        if start > at {
            ranges.push(at..start.min(raw.len()));
        }
        at = at.max(end);
    }
    let end = (part.offset_end() as usize).min(raw.len());
    if end > at {
        ranges.push(at..end);
    }
    ranges
}

/// Whether stray text has what a lax program might turn into a link. The usual preamble («This is a multi-part
/// message in MIME format.») has not.
fn could_be_shown(bytes: &[u8]) -> bool {
    bytes.contains(&b'<')
        || memchr::memmem::find(bytes, b"://").is_some()
        || memchr::memmem::find(bytes, b"www.").is_some()
        || bytes.len() > limits::LINK
        || bytes.split(|byte| *byte == b'\n').any(|line| {
            let lower = line.to_ascii_lowercase();
            lower.starts_with(b"content-") || lower.starts_with(b"begin ")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_that_all_read_alike() {
        for plain in [
            "text/plain",
            "text/html; charset=utf-8",
            "TEXT/HTML; CHARSET=\"utf-8\"",
            "multipart/alternative; boundary=\"=_3cfb\"",
            "multipart/mixed; boundary=abc;",
            "application/pdf; name*=utf-8''a.pdf",
            "multipart/related; type=\"text/html\"; boundary=\"a b\"",
        ] {
            assert!(is_plain_content_type(plain.as_bytes()), "{plain}");
        }
        for odd in [
            "text",
            "multipart/mixed; boundary=a; boundary=b",
            "multipart/mixed; boundary*0=a; boundary*1=b",
            "multipart/mixed; boundary*=utf-8''a",
            "multipart/mixed; boundary=foo,faa",
            "text/plain (comment)",
            "multipart/mixed; boundary=\"a \"",
            "multipart/mixed; boundary==?US-ASCII?Q?foo?=",
            "multipart/mixed; boundary=\"\"",
            "multipart/mixed; boundary=\"foo",
            "multipart/mixed; boundary =foo",
            "multipart/mixed boundary=foo",
            "text/html, text/plain",
            "multipart/mixed; boundary=foo foo",
        ] {
            assert!(!is_plain_content_type(odd.as_bytes()), "{odd}");
        }
    }

    #[test]
    fn encodings_that_all_read_alike() {
        assert!(is_plain_base64(b"aGVsbG8=\r\n"));
        for odd in ["aGVs.bG8=", "aGVsbG8", "aG==Vsbg", "aGVs bG8=", "===="] {
            assert!(!is_plain_base64(odd.as_bytes()), "{odd}");
        }
        assert!(is_plain_quoted_printable(b"a=3Db=\r\nc=e2=82=ac"));
        for odd in [&b"a= \r\n"[..], b"a=", b"a=x", b"a=3", b"=\t\r\n", b"caf\xe9", b"a\x12"] {
            assert!(!is_plain_quoted_printable(odd), "{odd:?}");
        }
    }
}
