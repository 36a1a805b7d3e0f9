//! What a part that is no text is, by its type, its name and its first octets; and texts that hold such parts.

use mail_parser::MessagePart;

/// The pictures that mail programs show: subtypes, endings of file names, first octets.
const PICTURES: &[Picture] = &[
    Picture { subtypes: &["png", "x-png"], endings: &["png"], start: b"\x89PNG\r\n\x1a\n" },
    Picture { subtypes: &["jpeg", "jpg", "pjpeg"], endings: &["jpg", "jpeg", "jpe", "jfif"], start: b"\xff\xd8\xff" },
    Picture { subtypes: &["gif"], endings: &["gif"], start: b"GIF8" },
    Picture { subtypes: &["webp"], endings: &["webp"], start: b"RIFF" },
];

/// One kind of picture, by type, name and first octets.
struct Picture {
    subtypes: &'static [&'static str],
    endings: &'static [&'static str],
    start: &'static [u8],
}

/// Whether a part of type `image` and this subtype is a picture and nothing else for any program: its first octets are, and
/// every name that its fields give it ends so, or has no ending.
pub(super) fn is_picture(subtype: &str, part: &MessagePart<'_>) -> bool {
    let Some(picture) = PICTURES.iter().find(|picture| picture.subtypes.contains(&subtype)) else { return false };
    let octets = part.decoded();
    let webp = subtype != "webp" || octets.get(8..12) == Some(b"WEBP");
    webp && octets.starts_with(picture.start) && names(part).iter().all(|name| is_file_name(name, picture.endings))
}

/// Whether a text part is a text for any program, and no file of another kind by a name that its fields give it.
pub(super) fn is_named_as_text(part: &MessagePart<'_>) -> bool {
    names(part).iter().all(|name| is_file_name(name, &["txt", "text", "html", "htm"]))
}

/// Every file name that a part's fields give it, a piece of one that is cut (RFC 2231 section 3) for itself.
fn names(part: &MessagePart<'_>) -> Vec<String> {
    let named = |key: &str| {
        let key = key.to_ascii_lowercase();
        key.starts_with("name") || key.starts_with("filename")
    };
    let fields = [part.content_type(), part.content_disposition()];
    let attributes = fields.iter().flatten().flat_map(mail_parser::ContentType::attributes);
    attributes.filter(|(key, _)| named(key)).map(|(_, value)| value.to_owned()).collect()
}

/// Whether a name is one plain file name that no program cuts, without an ending or with one of these.
fn is_file_name(name: &str, endings: &[&str]) -> bool {
    name.chars().all(|letter| letter.is_alphanumeric() || " ._-()".contains(letter))
        && name.rsplit_once('.').is_none_or(|(_, ending)| endings.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Whether a text holds a file as uuencode, yEnc, `BinHex` or in armour (RFC 9580 section 6.2, RFC 7468, RFC 1741).
pub(super) fn is_packed(text: &str) -> bool {
    if !may_be_packed(text.as_bytes()) {
        return false;
    }
    // Behind an encoding, what ends a line for some program stands in the text as it is.
    let mut lines = text.split(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']).filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        let line = line.trim();
        let mut words = line.split_whitespace();
        let packed = match words.next().unwrap_or_default() {
            "begin" | "begin-base64" | "begin-base64-encoded" => {
                let mode = words.next().unwrap_or_default();
                let is_mode = mode.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
                let usual = mode.len() == 3 || mode.len() == 4 && mode.starts_with(['0', '1']);
                is_mode && words.next().is_some() && (usual || lines.peek().is_some_and(|next| is_uuencoded(next)))
            }
            "=ybegin" => true,
            _ => line.starts_with("-----BEGIN ") || line.get(..BINHEX.len()).is_some_and(|start| start.eq_ignore_ascii_case(BINHEX)),
        };
        if packed {
            return true;
        }
    }
    false
}

/// Whether a text holds a word that starts such a file, in any line: a quick look.
fn may_be_packed(text: &[u8]) -> bool {
    ["begin", "-----BEGIN "].iter().any(|mark| memchr::memmem::find(text, mark.as_bytes()).is_some())
        || memchr::memchr_iter(b'(', text)
            .any(|at| text.get(at..at + BINHEX.len()).is_some_and(|start| start.eq_ignore_ascii_case(BINHEX.as_bytes())))
}

/// Whether a line holds as many letters as its first one says (POSIX `uuencode`).
fn is_uuencoded(line: &str) -> bool {
    let Some((first, rest)) = line.as_bytes().split_first().filter(|_| line.bytes().all(|byte| matches!(byte, b' '..=b'`'))) else {
        return false;
    };
    let octets = usize::from(first.wrapping_sub(b' ') & 0x3f);
    // The blanks at the end may be gone, and a letter may be there for a sum.
    rest.len() <= octets.div_ceil(3) * 4 + 1 && rest.len() + 4 > octets.div_ceil(3) * 4
}

const BINHEX: &str = "(This file must be converted with BinHex";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn files_in_text() {
        for packed in [
            "begin 644 a.exe\r\nM",
            "x\r\n  begin-base64 644 a",
            "=ybegin line=128 size=1 name=a",
            "-----BEGIN PGP MESSAGE-----",
            "(This file must be converted with BinHex 4.0)",
            "(this file must be converted with binhex 4.0)",
            "begin  644\ta.htm\r\nM",
            "x\rbegin 644 a.htm\rM",
            "x\u{2028}begin 644 a.htm",
            "begin 6 a.htm\r\n#0V%T\r\n`\r\nend",
            "begin 100644 a.htm\r\n#0V%T\r\n`\r\nend",
        ] {
            assert!(is_packed(packed), "{packed}");
        }
        for plain in ["begin with this", "begin 2024 well", "----- BEGIN -----", "begin 10 days", "begin 7 days\r\nbefore that"] {
            assert!(!is_packed(plain), "{plain}");
        }
    }

    #[test]
    fn pictures_and_what_only_says_so() {
        let attachments = |fields: &str, body: &str| {
            let part = format!("--b\r\n{fields}\r\n\r\n{body}\r\n");
            let text = "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n";
            let raw =
                format!("From: a@b.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{text}{part}--b--\r\n");
            let content = Message::read(raw.as_bytes()).content();
            content.attachments
        };
        let base64 = "\r\nContent-Transfer-Encoding: base64";
        for fields in [
            "Content-Type: image/gif",
            "Content-Type: image/gif; name=\"a.gif\"",
            "Content-Type: image/gif; name=\"My logo_2 (1).gif\"",
            "Content-Type: image/gif\r\nContent-Disposition: inline; filename*=utf-8''logo%20b.gif",
            "Content-Type: image/GIF; name=logo\r\nContent-Disposition: inline; filename=\"logo.GIF\"",
        ] {
            assert_eq!(attachments(&format!("{fields}{base64}"), "R0lGODlhAQABAAAAACw="), 0, "{fields}");
        }
        assert_eq!(attachments(&format!("Content-Type: image/png{base64}"), "iVBORw0KGgo="), 0);
        for fields in [
            "Content-Type: image/png",
            "Content-Type: image/gif; name=\"reset.html\"",
            "Content-Type: image/gif; name=\"a.js/x.gif\"",
            "Content-Type: image/gif; name=\"a.js;.gif\"",
            "Content-Type: image/gif; name=\"a.js\\\\x.gif\"",
            "Content-Type: image/gif; name=\"a.gif \"\r\nContent-Disposition: inline; filename=\"a.gif,b.js\"",
            "Content-Type: image/gif; name=\"a.gif\"\r\nContent-Disposition: attachment; filename=\"a.lnk\"",
            "Content-Type: image/gif; name=\"a.gif.docm\"",
            "Content-Type: image/gif\r\nContent-Disposition: inline; filename*=utf-8\'\'a%2elnk",
            "Content-Type: image/html",
            "Content-Type: image/svg+xml",
            "Content-Type: application/octet-stream; name=\"a.gif\"",
        ] {
            assert_eq!(attachments(&format!("{fields}{base64}"), "R0lGODlhAQABAAAAACw="), 1, "{fields}");
        }
        for named in [
            "Content-Type: text/plain; name=\"a.js\"",
            "Content-Type: text/html; name=a.hta",
            "Content-Type: text/plain; NAME=\"a.js.\"",
            "Content-Type: text/plain\r\nContent-Disposition: foo; filename=a.js",
            "Content-Type: text/plain\r\nContent-Disposition: inline; filename*=utf-8''a%2Ejs",
            "Content-Type: text/plain\r\nContent-Disposition: inline; filename*0=a.; filename*1=js",
            "Content-Type: text/plain\r\nContent-Disposition: inline; filename*0*=utf-8''a.j; filename*1*=s",
            "Content-Type: text/plain; name=\"=?utf-8?q?a=2Ejs?=\"",
        ] {
            assert_eq!(attachments(named, "x"), 1, "{named}");
        }
        for named in [
            "Content-Type: text/plain; name=body.txt",
            "Content-Type: text/html; name=\"Mail.HTML\"",
            "Content-Type: text/plain; name=body",
        ] {
            assert_eq!(attachments(named, "x"), 0, "{named}");
        }
        for kind in [
            "text/calendar",
            "text/rtf",
            "text/x-url",
            "text/javascript",
            "text/vcard",
            "text/x-vcard",
            "text/csv",
            "message/rfc822",
            "text/x-amp-html",
        ] {
            assert_eq!(attachments(&format!("Content-Type: {kind}"), "x"), 1, "{kind}");
        }
    }
}
