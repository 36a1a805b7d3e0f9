//! A digest as a mail: plain text, from nobody who could answer, to one address.

use jiff::{Timestamp, tz::TimeZone};
use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        IntoBody as _, Mailbox,
        header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue, MIME_VERSION_1_0},
    },
};

use super::{
    Digest, key,
    text::{COLUMNS, wrapped},
};
use crate::audit::chain;

/// A mail that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The null reverse-path, so that nothing comes back, and one forward-path.
    pub envelope: Envelope,
    /// The mail, with its header.
    pub octets: Vec<u8>,
    /// The subject.
    pub subject: String,
    /// The text, as its reader sees it.
    pub text: String,
}

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The address in From.
    pub from: &'a Address,
    /// The hop's name.
    pub hop: &'a str,
}

/// Auto-Submitted (RFC 3834): no program answers.
#[derive(Clone, Copy)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The mail of a digest. Its Message-ID is that of the reader and the day: where a server takes one and does not say so, the next
/// is the same mail.
///
/// # Errors
/// lettre's, where a mail cannot be made of it.
pub fn letter(digest: &Digest, writer: Writer<'_>, now: Timestamp, zone: &TimeZone) -> Result<Letter, lettre::error::Error> {
    let Writer { from, hop } = writer;
    let local = now.to_zoned_datetime(zone.clone());
    let mut lines = wrapped(
        "",
        "",
        &format!("This is what firstclick on {hop} has to tell you. It writes once a day at most, and only if there is news."),
    );
    lines.extend(digest.lines.iter().cloned());
    lines.extend([String::new(), "-- ".to_owned()]);
    lines.extend(wrapped(
        "",
        "",
        "Nobody reads answers to this mail. `owner` in an entry's file says who gets it, and [mail] in firstclick.toml.",
    ));
    let text = lines.join("\r\n") + "\r\n";
    let hash = chain::hash(key(&digest.to).as_bytes());
    let id = format!("<digest.{}.{}@{hop}>", local.strftime("%Y%m%d"), hash.get(..24).unwrap_or(&hash));
    let seconds = std::time::Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let envelope = Envelope::new(None, vec![digest.to.clone()])?;
    // A line may be longer than what is quoted well: it goes in pieces that its reader never sees.
    let is_long = |line: &str| line.chars().count() > COLUMNS;
    let encoding = Some(ContentTransferEncoding::QuotedPrintable).filter(|_| text.lines().any(is_long));
    let body = text.clone().into_body(encoding);
    let message = Message::builder()
        .from(Mailbox::new(Some("firstclick".to_owned()), from.clone()))
        .to(Mailbox::new(None, digest.to.clone()))
        .subject(digest.subject.clone())
        .date(std::time::UNIX_EPOCH + seconds)
        .message_id(Some(id))
        .header(AutoSubmitted)
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN)
        .envelope(envelope.clone())
        .body(body)?;
    Ok(Letter { envelope, octets: message.formatted(), subject: digest.subject.clone(), text })
}
