//! A mail as octets with a reading: headers, author, texts and links, and every way in which another program could read it
//! differently.
//!
//! Pure: the same octets give the same reading. A mail is read in two steps, because most mails need only the first:
//! [`Message::read`] scans the header block once, and [`Message::content`] reads parts and links of mails whose author an
//! allowlist entry names.

pub mod author;
mod content_type;
pub mod domain;
pub mod flowed;
pub mod header;
mod host_letters;
pub mod html;
mod html_elements;
pub mod link;
mod links;
pub mod mailbox;
pub mod parts;
mod pictures;
pub mod running_text;
mod schemes;
mod sniffed;
pub mod suffix;
mod tables;
mod unsigned_mime;
pub mod unwrap;
pub mod words;

use std::ops::Range;

pub use self::{
    author::Author,
    domain::{Domain, DomainError},
    header::Headers,
    link::{Link, Target},
    mailbox::Mailbox,
};
use self::{links::Links, parts::Format, words::Space};
use crate::limits;
pub use crate::mail::{Flaw, Flaws};

/// One mail: its octets and its header block.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    raw: &'a [u8],
    headers: Headers<'a>,
}

/// A link and the place where it stands.
#[derive(Clone, Debug)]
pub struct FoundLink {
    /// The link, with entities and transfer encoding decoded.
    pub link: Link,
    /// The link as it stands in the mail, where a scanner has wrapped it and [`Content::unwrapped`] looked inside.
    pub wrapped: Option<String>,
    /// The kind of text or element that holds it.
    pub holder: Holder,
    /// The words on it; for a link in running text, the link's own line.
    pub label: String,
    /// The end of the text in front of it.
    pub before: String,
    /// The words right behind it in its own line, up to the end of the sentence.
    pub after: String,
    /// The part that holds it, counted in document order.
    pub part: usize,
    /// Its octets in that part once decoded, as they stand there: entities and line ends included. None where they are
    /// not in one piece: a text with tags inside, a tool tip with entities, a button of JSON-LD.
    pub place: Option<Range<usize>>,
    /// For a link that is the text on another one: that one, as an index into [`Content::links`]. A text that shows where
    /// its anchor leads is not listed.
    pub shown_on: Option<usize>,
}

/// The kind of text or element that holds a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An attribute of an HTML element that a reader presses.
    Anchor,
    /// The text of an HTML part, or a text in an attribute, which some mail programs make links in.
    HtmlText,
    /// The text of a plain text part.
    Text,
}

/// The evidence that the reading of the body rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MimeEvidence {
    /// The header's MIME fields are covered by what proves the mail.
    Fields,
    /// They are not: anybody can have written them, and only what the signed body says by itself counts.
    Body,
}

/// The texts and links of a mail.
#[derive(Debug)]
pub struct Content {
    /// The subject, encoded words undone (RFC 2047), folded for comparison.
    pub subject: String,
    /// The subject as people read it.
    pub subject_as_shown: String,
    /// Every text part, as it reads.
    pub text: String,
    /// Every link of every part, in document order.
    pub links: Vec<FoundLink>,
    /// Parts that the hop cannot look into, in number.
    pub attachments: usize,
    /// Whether the mail came through a list or in bulk (`List-Id`, `Precedence`; not `List-Unsubscribe`, which
    /// transactional mail carries too).
    pub bulk: bool,
    /// All that two programs could read differently, the header's flaws included.
    pub flaws: Flaws,
}

impl FoundLink {
    /// The link as it stands in the mail. A secret, as every link.
    #[must_use]
    pub fn written(&self) -> &str {
        self.wrapped.as_deref().unwrap_or_else(|| self.link.expose())
    }
}

impl Content {
    /// The same content with each link that a scanner wrapped leading where the original leads.
    #[must_use]
    pub fn unwrapped(mut self) -> Self {
        for found in &mut self.links {
            if let unwrap::Unwrapped::Original { link, .. } = unwrap::unwrap(found.link.expose())
                && let Target::Web(original) = Target::read(&link)
            {
                found.wrapped = Some(found.link.expose().to_owned());
                found.link = original;
            }
        }
        self
    }
}

impl<'a> Message<'a> {
    /// Reads the header block once. Total: any octets are a mail.
    #[must_use]
    pub fn read(raw: &'a [u8]) -> Self {
        Self { raw, headers: Headers::read(raw) }
    }

    /// The octets of the mail, as they were given.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The header block, read once by [`Message::read`].
    #[must_use]
    pub const fn headers(&self) -> &Headers<'a> {
        &self.headers
    }

    /// The author: the one From address.
    ///
    /// # Errors
    /// The flaw that keeps the author from being certain.
    pub fn author(&self) -> Result<Author, Flaw> {
        Author::find(&self.headers)
    }

    /// The Message-ID as written, cut to what a log line may hold; empty where there is none.
    #[must_use]
    pub fn message_id(&self) -> String {
        let value = self.headers.first("Message-ID").unwrap_or_default();
        let mut id = value.escape_ascii().to_string();
        id.truncate(limits::LOGGED_PATH);
        id
    }

    /// Reads parts, words and links of a mail whose MIME fields are evidence.
    #[must_use]
    pub fn content(&self) -> Content {
        self.content_by(MimeEvidence::Fields)
    }

    /// Reads parts, words and links. Where the MIME fields are no evidence, a body that could be read otherwise is
    /// [`Flaw::MimeUnsigned`], and a single text part is read as plain text and as HTML.
    #[must_use]
    pub fn content_by(&self, mime: MimeEvidence) -> Content {
        let mut flaws = self.headers.content_flaws();
        if header::has_bare_line_ending(self.raw) {
            flaws.add(Flaw::BareLineEnding);
        }
        let author = self.author().map_err(|flaw| flaws.add(flaw)).ok().map(|author| author.domain);
        let mut tree = parts::read(self.raw);
        flaws.join(tree.flaws);
        let form = if mime == MimeEvidence::Body { unsigned_mime::agrees(self) } else { Some(unsigned_mime::Form::Tree) };
        match form {
            Some(unsigned_mime::Form::Tree) => {}
            Some(unsigned_mime::Form::Single) => unsigned_mime::both_readings(&mut tree.texts),
            None => flaws.add(Flaw::MimeUnsigned),
        }
        let mut links = Links::new(author, flaws);
        let mut text = String::new();
        for part in &tree.texts {
            text.part();
            match part.format {
                Format::Plain => {
                    links.in_plain(part);
                    // Some programs show text that looks like HTML as HTML.
                    if form != Some(unsigned_mime::Form::Single) && sniffed::looks_like_html(&part.text) {
                        links.in_shown_as_html(part, &html::read(&part.text));
                    }
                    text.push_bounded(&part.text, limits::WORDS);
                }
                Format::Html => {
                    let html = html::read(&part.text);
                    links.in_html(part, &html);
                    text.push_bounded(&html.text, limits::WORDS);
                }
            }
        }
        let parsed = mail_parser::MessageParser::new().parse(self.raw.get(..self.headers.body()).unwrap_or_default());
        let subject = parsed.as_ref().and_then(|message| message.subject()).unwrap_or_default();
        Content {
            subject: words::fold(subject),
            subject_as_shown: subject.to_owned(),
            text,
            links: links.found,
            attachments: tree.attachments,
            bulk: self.is_bulk(),
            flaws: links.flaws,
        }
    }

    fn is_bulk(&self) -> bool {
        let says = |name: &str, values: &[&[u8]]| {
            self.headers.first(name).is_some_and(|value| values.iter().any(|bulk| value.eq_ignore_ascii_case(bulk)))
        };
        self.headers.named("List-Id").next().is_some()
            || self.headers.named("List-Post").next().is_some()
            || says("Precedence", &[b"bulk", b"list", b"junk"])
    }
}

/// A mail as SMTP carries it. One that was saved on disk often has lines that end in LF, and none at its end; on the wire each
/// ends in CRLF (RFC 5321 section 4.1.1.4), and that is what is judged.
#[must_use]
pub fn as_sent(saved: Vec<u8>) -> Vec<u8> {
    let mut wire = if memchr::memmem::find(&saved, b"\r\n").is_some() {
        saved
    } else {
        let mut wire = Vec::with_capacity(saved.len() + saved.len() / 32 + 2);
        for byte in saved {
            if byte == b'\n' {
                wire.push(b'\r');
            }
            wire.push(byte);
        }
        wire
    };
    if !wire.is_empty() && !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Content {
        let raw = format!("From: a@vendor.com\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n");
        Message::read(raw.as_bytes()).content()
    }

    #[test]
    fn lines_end_as_on_the_wire() {
        for (saved, wire) in
            [("", ""), ("a\nb", "a\r\nb\r\n"), ("a\r\nb", "a\r\nb\r\n"), ("a\r\nb\r\n", "a\r\nb\r\n"), ("a\r\nb\n", "a\r\nb\n\r\n")]
        {
            assert_eq!(String::from_utf8(as_sent(saved.into())).unwrap(), wire, "{saved:?}");
        }
    }

    #[test]
    fn names_that_mail_programs_make_links_of() {
        for (text, found) in [
            ("Go to attack.com/login.", &["http://attack.com/login"][..]),
            ("Go to (attack.com)!", &["http://attack.com"]),
            ("www.attack.com and attack.co.uk", &["http://attack.co.uk", "http://www.attack.com"]),
            ("Vendor.com, the vendor", &["http://Vendor.com"]),
            ("vendor.com/open?x", &["http://vendor.com/open?x"]),
            ("bob@attack.com, e.g. this, version 1.2.3, readme.invalid", &[]),
            ("https://attack.com/x", &["https://attack.com/x"]),
        ] {
            let content = content(text);
            let mut links: Vec<&str> = content.links.iter().map(|found| found.link.expose()).collect();
            links.sort_unstable();
            assert_eq!(links, found, "{text}");
        }
    }

    #[test]
    fn what_only_others_take_for_a_link_is_a_flaw() {
        for text in [
            "https://login.vendor.com@attack.com@attack.com/reset",
            "ftp://attack.com/",
            "<a href=\"//attack.com/\">x</a>",
            "<a href='https:\\\\attack.com'>x</a>",
            "<!doctype html><form action=x>",
            "<v:shape href='https:\\\\attack.com'>",
        ] {
            assert!(!content(text).flaws.is_empty(), "{text}");
        }
        for text in [
            "Reset: https://vendor.com/x",
            "Help: https://k9.r.eu-west-1.awstrack.me/L0/https:%2F%2Fvendor.com%2Fhelp/1/0102/jwE=1",
            "Help: https://ddec1-0-en-ctp.trendmicro.com:443/wis/clicktime/v1/query?url=https%3a%2f%2fvendor.com",
        ] {
            assert!(content(text).flaws.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_shown_as_html() {
        for (text, found) in [
            ("attack&#46;com/login", &["http://attack.com/login"][..]),
            ("<math><mi>attack<b></b>.com/x</mi></math>", &["http://attack.com/x"]),
            ("<b>See</b> https://a.com/x?y=1", &["https://a.com/x?y=1"]),
            ("Reset it: <https://a.com/x?y=1> Ann <ann@corp.example>", &["https://a.com/x?y=1"]),
            ("Tom &amp; Ann: https://a.com/x?y=1&region=2", &["https://a.com/x?y=1&region=2"]),
        ] {
            let content = content(text);
            for link in found {
                assert_eq!(links(&content).iter().filter(|known| known == &link).count(), 1, "{text}: {:?}", links(&content));
            }
            assert!(content.flaws.is_empty(), "{text}: {:?}", content.flaws);
        }
    }

    fn html(text: &str) -> Content {
        let raw = format!("From: a@vendor.com\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{text}\r\n");
        Message::read(raw.as_bytes()).content()
    }

    fn links(content: &Content) -> Vec<&str> {
        content.links.iter().map(|found| found.link.expose()).collect()
    }

    #[test]
    fn text_on_an_anchor_belongs_to_it() {
        for (text, found) in [
            ("<a href='https://a.com/x'>https://a.com/x</a>Kind regards", &["https://a.com/x"][..]),
            ("<a href='https://a.com/'>www.a.com</a>", &["https://a.com/", "http://www.a.com"]),
            ("<a href='https://a.com/'>a.com</a><b>Tel. 0123</b>", &["https://a.com/"]),
            ("<a href='https://a.com/help'>https://a.com/help</a><b>Tel</b>", &["https://a.com/help"]),
            (
                "<a href='https://a.com/x'>a.com</a><a href='https://b.com/y'>b.com/y</a>",
                &["https://a.com/x", "https://b.com/y", "http://a.com"],
            ),
            ("<a href='https://a.com/long/address'>https://a.com/long...</a>", &["https://a.com/long/address"]),
            ("<a href='https://a.com/'>evil.com</a>", &["https://a.com/", "http://evil.com"]),
            ("evil<b>.com</b>/x", &["http://evil.com/x"]),
            ("bank<b>.evil.com</b>", &["http://bank.evil.com", "http://evil.com"]),
            ("<img alt='evil.com'><p title='x evil.org/a'>", &["http://evil.com", "http://evil.org/a"]),
            ("<svg><![CDATA[evil.com]]></svg><xmp>evil.org</xmp>", &["http://evil.com", "http://evil.org"]),
            (
                "<a href='https://urldefense.proofpoint.com/v1/url?u=https%3A%2F%2Fa.com%2Fx'>https://a.com/x</a>",
                &["https://urldefense.proofpoint.com/v1/url?u=https%3A%2F%2Fa.com%2Fx"],
            ),
        ] {
            let content = html(text);
            assert_eq!(links(&content), found, "{text}");
            assert!(content.flaws.is_empty(), "{text}: {:?}", content.flaws);
        }
        let content = html("<a href='https://a.com/'>evil.com</a>");
        assert_eq!(content.links[1].shown_on, Some(0));
        let far = format!("<p>{}</p>evil.com", "word ".repeat(60_000));
        assert_eq!(links(&html(&far)), ["http://evil.com"]);
    }

    #[test]
    fn lines_that_programs_join() {
        let flowed = |text: &str| {
            let head = "From: a@vendor.com\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8; format=flowed; delsp=yes";
            Message::read(format!("{head}\r\n\r\n{text}\r\n").as_bytes()).content()
        };
        assert_eq!(links(&flowed("https://a.com \r\n.evil.org/x")), ["https://a.com", "http://evil.org/x", "https://a.com.evil.org/x"]);
        assert_eq!(links(&content("<https://a.com/x\r\n/y>")), ["https://a.com/x", "https://a.com/x/y"]);
    }

    #[test]
    fn relative_links_under_a_base() {
        let with = |field: &str| {
            let raw = format!("From: a@vendor.com\r\nMIME-Version: 1.0\r\n{field}Content-Type: text/html\r\n\r\n<a href='#'>x</a>\r\n");
            Message::read(raw.as_bytes()).content().flaws
        };
        assert!(with("").is_empty());
        assert!(with("Content-Base: https://evil.com/\r\n").has(Flaw::LinkAmbiguous));
        assert!(with("Content-Location: https://evil.com/\r\n").has(Flaw::LinkAmbiguous));
    }

    #[test]
    fn mime_fields_that_nothing_covers() {
        let read = |head: &str, body: &str| {
            let raw = format!("From: a@vendor.com\r\n{head}\r\n\r\n{body}");
            Message::read(raw.as_bytes()).content_by(MimeEvidence::Body)
        };
        let single = read("MIME-Version: 1.0\r\nContent-Type: text/plain", "<a href='https://a.com/?x&amp;y'>x</a>\r\n");
        assert_eq!(links(&single), ["https://a.com/?x&amp;y", "https://a.com/?x&y"]);
        let parts = "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n";
        let tree = "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b";
        assert!(read(tree, parts).flaws.is_empty());
        for (head, body) in [
            (tree, "preamble\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n"),
            (tree, "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\nepilogue\r\n"),
            ("MIME-Version: 1.0\r\nContent-Type: text/plain", parts),
            ("MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64", "eA==\r\n"),
            ("MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Type: text/html", "x\r\n"),
            ("MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=b", parts),
        ] {
            assert!(read(head, body).flaws.has(Flaw::MimeUnsigned), "{head} {body}");
        }
    }
}
