//! The MIME tree: which texts a mail program may show, and whether every program would see the same ones.
//!
//! mail-parser splits the tree; this module asks of each part whether a stricter or a laxer splitter would have split it
//! otherwise (RFC 2045, RFC 2046), and says so as a [`Flaw`].

use std::ops::Range;

use mail_parser::{DecodeProblems, MessageParser, MessagePart, PartFlags, PartKind};

use super::{
    content_type::is_plain_content_type,
    header::{Field, Headers},
    pictures, running_text,
};
use crate::limits;
use crate::mail::{Flaw, Flaws};

/// A text that a mail program may show.
#[derive(Debug)]
pub struct Text {
    /// Its number in the tree, in document order.
    pub part: usize,
    /// Whether it is HTML or plain text.
    pub format: Format,
    /// The text, transfer encoding and charset undone.
    pub text: String,
    /// How programs join its lines.
    pub flow: Flow,
    /// Whether a field gives its links a base to lead from (`Content-Base` or `Content-Location`, RFC 2557 section 5), in
    /// this part or around it.
    pub based: bool,
}

/// How the lines of a plain text are joined (RFC 3676).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// As they stand, or by a space, which ends an address just as a line end does.
    Fixed,
    /// `format=flowed; delsp=yes`: without anything between them.
    DelSp,
}

/// Whether a text is HTML or plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/html`, and types that mail programs treat like it.
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
    /// Whether it is HTML or plain text.
    pub format: Format,
    /// The part's own header in the mail, with the blank line.
    pub header: Range<usize>,
    /// Its octets in the mail, as they were sent.
    pub range: Range<usize>,
    /// The transfer encoding that its header names.
    pub encoding: Encoding,
}

/// A transfer encoding (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `7bit`, `8bit` or `binary`: the octets as they are.
    Identity,
    /// `quoted-printable` (section 6.7).
    QuotedPrintable,
    /// `base64` (section 6.8).
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
    /// How many parts are neither plain text nor HTML nor a picture that is one by type, name and first octets: a scanner may
    /// open what is inside them, and nobody here can.
    pub attachments: usize,
    /// The flaws of the tree.
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
    let based = message.parts().any(|part| !matches!(part.kind(), PartKind::Binary | PartKind::InlineBinary) && has_base(&part));
    for (number, part) in message.parts().enumerate() {
        tree.read_part(raw, number, &part, based);
    }
    if message.parts().len() > 1 || has_mime_field(raw) {
        check_version(raw, &mut tree.flaws);
    }
    tree
}

fn has_base(part: &MessagePart<'_>) -> bool {
    let headers = Headers::read(part.raw_headers());
    ["Content-Base", "Content-Location"].iter().any(|name| headers.named(name).next().is_some())
}

impl Tree {
    fn read_part(&mut self, raw: &[u8], number: usize, part: &MessagePart<'_>, based: bool) {
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
        // RFC 2046 section 5.1 lets a part have no field; some programs then take the first lines of its text for its header.
        if part.parent().is_some_and(|parent| parent.is_multipart()) && Headers::read(part.raw_headers()).fields().is_empty() {
            self.flaws.add(Flaw::TreeShape);
        }
        if kind == "multipart" && !is_delimited(raw, part) {
            self.flaws.add(Flaw::TreeShape);
        }
        match part.kind() {
            PartKind::Text | PartKind::Html => {
                let is_html = matches!(subtype.as_str(), "html" | "x-amp-html" | "xhtml+xml" | "xml" | "enriched" | "richtext");
                let format = if is_html || matches!(part.kind(), PartKind::Html) { Format::Html } else { Format::Plain };
                let is_read = kind == "text" && matches!(subtype.as_str(), "plain" | "html");
                let attached = part.content_disposition().is_some_and(|how| how.ctype().eq_ignore_ascii_case("attachment"));
                if !is_read || attached || !pictures::is_named_as_text(part) {
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
                    let charset = part.content_type().and_then(|found| found.attribute("charset").map(str::to_ascii_lowercase));
                    if text.contains('\0') || may_have_mark(part) && has_strange_mark(&part.decoded(), charset.as_deref()) {
                        self.flaws.add(Flaw::Charset);
                    }
                    if pictures::is_packed(&text) {
                        self.flaws.add(Flaw::TextPacked);
                    }
                    let says = |name: &str, value: &str| {
                        part.content_type().is_some_and(|found| found.attribute(name).is_some_and(|said| said.eq_ignore_ascii_case(value)))
                    };
                    let flow = if says("format", "flowed") && says("delsp", "yes") { Flow::DelSp } else { Flow::Fixed };
                    self.texts.push(Text { part: number, format, text: text.into_owned(), flow, based });
                }
            }
            PartKind::Binary | PartKind::InlineBinary => {
                if is_sealed(&kind, &subtype) {
                    self.flaws.add(Flaw::Sealed);
                }
                if kind != "image" || !pictures::is_picture(&subtype, part) {
                    self.attachments += 1;
                }
            }
            PartKind::Multipart => {
                // RFC 2045 section 6.4 allows none, and some programs undo it all the same.
                if part.encoding() != mail_parser::Encoding::None {
                    self.flaws.add(Flaw::TreeShape);
                }
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
        if headers.fields().iter().any(|field| hides_mime_field(&headers, field)) {
            self.flaws.add(Flaw::ContentType);
        }
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

/// Whether a multipart names a boundary, and its body has the delimiter and the closing one (RFC 2046 section 5.1.1).
fn is_delimited(raw: &[u8], part: &MessagePart<'_>) -> bool {
    let Some(boundary) = part.content_type().and_then(|found| found.attribute("boundary")).filter(|boundary| !boundary.is_empty()) else {
        return false;
    };
    let end = (part.offset_end() as usize).min(raw.len());
    // The line end of a closing delimiter may be the next delimiter's.
    let body = raw.get(part.offset_body() as usize..end).unwrap_or_default();
    // Programs cut a longer one (RFC 2046 section 5.1.1), and some take these quotes off.
    if boundary.len() > 70 || boundary.starts_with('\'') {
        return false;
    }
    let delimiter = format!("--{boundary}");
    let (mut opened, mut closed) = (false, false);
    for line in body.split(|byte| *byte == b'\n') {
        if let Some(rest) = line.strip_prefix(delimiter.as_bytes()) {
            match rest.trim_ascii_end() {
                b"" => opened = true,
                b"--" => closed = true,
                // A delimiter for programs that compare the beginning of a line, as the RFC says.
                _ => return false,
            }
        }
    }
    opened && closed
}

/// Whether a folded line of a field looks like a MIME field of its own, which programs that do not unfold find. Signatures
/// list names of fields in theirs.
fn hides_mime_field(headers: &Headers<'_>, field: &Field) -> bool {
    let value = headers.value(field);
    if !value.contains(&b'\n') || headers.name(field).to_ascii_lowercase().windows(9).any(|name| name == b"signature") {
        return false;
    }
    value.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let Some(colon) = memchr::memchr(b':', line) else { return false };
        let name = line.get(..colon).unwrap_or_default().trim_ascii().to_ascii_lowercase();
        matches!(name.as_slice(), b"content-type" | b"content-transfer-encoding" | b"content-disposition" | b"mime-version")
    })
}

/// Whether a part may start with a byte-order mark: not where its first octet is a letter that stands for itself.
fn may_have_mark(part: &MessagePart<'_>) -> bool {
    let first = part.raw_body().first();
    part.encoding() == mail_parser::Encoding::Base64 || first.is_none_or(|first| !first.is_ascii_alphanumeric() && *first != b'<')
}

/// Whether a text starts with the byte-order mark of another charset than its own.
fn has_strange_mark(octets: &[u8], charset: Option<&str>) -> bool {
    let utf_8 = charset.is_none_or(|charset| matches!(charset, "utf-8" | "utf8"));
    let twice = octets.starts_with(b"\xef\xbb\xbf\xef\xbb\xbf");
    octets.starts_with(b"\xff\xfe") || octets.starts_with(b"\xfe\xff") || twice || !utf_8 && octets.starts_with(b"\xef\xbb\xbf")
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
    // One with two octets for each letter has names of which programs do not agree which octet comes first.
    let is_wide = |name: &str| {
        let known = encoding_rs::Encoding::for_label_no_replacement(name.as_bytes());
        known == Some(encoding_rs::UTF_16LE) || known == Some(encoding_rs::UTF_16BE)
    };
    match charset.as_deref() {
        Some(name)
            if is_wide(name)
                || name.starts_with("utf-7")
                || name.starts_with("utf-16")
                || name.starts_with("utf-32")
                || name.starts_with("x-") =>
        {
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
    // Every octet is looked at, as the compiler then takes many at once.
    let is_odd = |byte: u8| !byte.is_ascii() || byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n');
    !body.iter().fold(false, |odd, byte| odd | is_odd(*byte))
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
        || bytes.len() > limits::LINK
        || has_address(bytes)
        || bytes.split(|byte| *byte == b'\n').any(|line| {
            let lower = line.to_ascii_lowercase();
            lower.starts_with(b"content-") || lower.starts_with(b"begin ")
        })
}

fn has_address(bytes: &[u8]) -> bool {
    let text: String =
        bytes.utf8_chunks().flat_map(|chunk| [chunk.valid(), if chunk.invalid().is_empty() { "" } else { "\u{fffd}" }]).collect();
    let reading = running_text::read(&text, None);
    !reading.found.is_empty() || !reading.flaws.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn flaws(fields: &str, body: &str) -> Flaws {
        read(format!("From: a@bank.test\r\nMIME-Version: 1.0\r\n{fields}\r\n\r\n{body}").as_bytes()).flaws
    }

    #[test]
    fn trees_that_split_in_more_than_one_way() {
        let text = "Content-Type: text/plain\r\n\r\nx\r\n";
        let mixed = "Content-Type: multipart/mixed; boundary=foo";
        assert!(flaws(mixed, &format!("--foo\r\n{text}--foo--\r\n")).is_empty());
        for (fields, body) in [
            (mixed, format!("--faa\r\n{text}--faa--\r\n")),
            (mixed, format!("--foo\r\n{text}")),
            (mixed, format!("--foo\r\n{text}--foo\r\n\r\nContent-Type: text/html\r\n\r\nx\r\n--foo--\r\n")),
            (mixed, format!("--foo\r\n{text}--foo\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n--foo--\r\n")),
            (
                mixed,
                format!("--foo\r\n{text}--foo\r\nContent-Type: multipart/mixed; boundary=bar\r\n\r\n--faa\r\n{text}--faa--\r\n--foo--\r\n"),
            ),
            (mixed, format!("--foo\r\n{text}--foobar\r\nContent-Type: text/html\r\n\r\nx\r\n--foo--\r\n")),
            ("Content-Type: multipart/mixed; boundary='foo'", format!("--'foo'\r\n{text}--'foo'--\r\n")),
            (
                "Content-Type: multipart/mixed; boundary=foo\r\nContent-Transfer-Encoding: quoted-printable",
                format!("--foo\r\n{text}--foo--\r\n"),
            ),
            (mixed, format!("see WWW.EVIL.TEST\r\n--foo\r\n{text}--foo--\r\n")),
            (mixed, format!("--foo\r\n{text}--foo--\r\ngo to evil.com/x\r\n")),
            ("Subject: x\r\n Content-Type: text/html", "x\r\n".to_owned()),
            ("X: x\r\n\tcontent-transfer-encoding : base64", "x\r\n".to_owned()),
        ] {
            assert!(!flaws(fields, &body).is_empty(), "{fields} {body}");
        }
        let listed = "DKIM-Signature: v=1; h=From:\r\n\tContent-Type:Subject\r\nContent-Type: text/plain";
        assert!(flaws(listed, "x\r\n").is_empty());
    }

    #[test]
    fn octets_of_another_charset() {
        let plain = |charset: &str, body: &str| {
            flaws(&format!("Content-Type: text/plain{charset}\r\nContent-Transfer-Encoding: quoted-printable"), body)
        };
        for (charset, body) in [
            ("; charset=iso-8859-1", "=FF=FEh=00t=00\r\n"),
            ("; charset=windows-1252", "h=00t=00t=00\r\n"),
            ("; charset=utf-8", "h=00t=00t=00\r\n"),
            ("; charset=iso-8859-1", "=EF=BB=BFx\r\n"),
            ("", "=FE=FF=00h\r\n"),
            ("; charset=iso-10646-ucs-2", "x\r\n"),
            ("; charset=csUnicode", "x\r\n"),
        ] {
            assert!(plain(charset, body).has(Flaw::Charset), "{charset} {body}");
        }
        assert!(plain("; charset=utf-8", "=EF=BB=BFx\r\n").is_empty());
        assert!(flaws("Content-Type: text/plain", "-----BEGIN PGP MESSAGE-----\r\n").has(Flaw::TextPacked));
    }
}
