//! The reading of a signed body by itself, where the signature leaves the MIME fields out.
//!
//! Whoever passes such a mail on can write other fields on top of it. The body is judged only where all that can be written
//! there is known to come to the same, or is read as well.

use super::{
    Message,
    parts::{Flow, Format, Text},
};

/// What a body is, whatever the fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A multipart: it starts with its delimiter and ends with the closing one.
    Tree,
    /// A single text, of type plain or HTML.
    Single,
}

/// The form that fields and body agree on; none where they do not, or where the fields say what changes the reading.
pub(super) fn agrees(message: &Message<'_>) -> Option<Form> {
    let headers = message.headers();
    for name in ["MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition"] {
        if headers.named(name).nth(1).is_some() {
            return None;
        }
    }
    let encoding = headers.first("Content-Transfer-Encoding").unwrap_or_else(|| b"7bit".to_vec()).to_ascii_lowercase();
    if !matches!(encoding.as_slice(), b"7bit" | b"8bit") {
        return None;
    }
    let body = message.raw().get(headers.body()..).unwrap_or_default();
    let parsed = mail_parser::MessageParser::new().parse(message.raw())?;
    let root = parsed.root().root_part();
    let (kind, subtype) = root.content_type().map_or(("text".into(), "plain".into()), |found| {
        (found.ctype().to_ascii_lowercase(), found.subtype().unwrap_or_default().to_ascii_lowercase())
    });
    let parameter = |name: &str| root.content_type().and_then(|found| found.attribute(name)).map(str::to_owned);
    match (kind.as_str(), subtype.as_str()) {
        ("multipart", "alternative" | "mixed" | "related") => {
            let delimiter = format!("--{}", parameter("boundary")?);
            let mut lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
            let first = lines.next()? == delimiter.as_bytes();
            let last = lines.rfind(|line| !line.is_empty())? == format!("{delimiter}--").as_bytes();
            (first && last).then_some(Form::Tree)
        }
        ("text", "plain" | "html") => {
            let charset = parameter("charset").unwrap_or_else(|| "us-ascii".into()).to_ascii_lowercase();
            // Charsets in which ASCII octets are ASCII letters and nothing else.
            let plain = matches!(charset.as_str(), "us-ascii" | "utf-8" | "utf8")
                || charset.starts_with("iso-8859-")
                || charset.starts_with("windows-125");
            (plain && !body.starts_with(b"--")).then_some(Form::Single)
        }
        _ => None,
    }
}

/// The one text in both forms that the fields could give it.
pub(super) fn both_readings(texts: &mut Vec<Text>) {
    let other = texts.first().map(|text| Text {
        part: text.part,
        format: if text.format == Format::Html { Format::Plain } else { Format::Html },
        text: text.text.clone(),
        flow: Flow::DelSp,
        based: text.based,
    });
    for text in texts.iter_mut() {
        text.flow = Flow::DelSp;
    }
    texts.extend(other);
}
