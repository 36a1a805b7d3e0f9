//! A mail as bytes with a reading: headers, author, texts and links, and every way in which another program could
//! read it differently.
//!
//! Pure: the same bytes give the same reading. A mail passes this room in two steps, because most mails need only the
//! first: [`Message::read`] scans the header block once, and [`Message::content`] reads parts and links of those whose
//! author somebody allowlisted.

pub mod author;
pub mod domain;
pub mod flaw;
pub mod header;
pub mod html;
pub mod link;
pub mod mailbox;
pub mod parts;
pub mod unwrap;
pub mod words;

use std::ops::Range;

use linkify::{LinkFinder, LinkKind};

pub use self::{
    author::Author,
    domain::{Domain, DomainError},
    flaw::{Flaw, Flaws},
    header::Headers,
    link::{Link, Target},
    mailbox::Mailbox,
};
use self::{
    html::Holder,
    parts::Format,
    words::{Space, Tail},
};
use crate::limits;

/// One mail: its bytes and its header block.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    raw: &'a [u8],
    headers: Headers<'a>,
}

/// A link where it stands.
#[derive(Clone, Debug)]
pub struct FoundLink {
    /// Where it leads.
    pub link: Link,
    /// The link as it stands in the mail, where a scanner has wrapped it and [`Content::unwrapped`] looked inside.
    pub wrapped: Option<String>,
    /// What holds it.
    pub holder: Holder,
    /// The words on it; for a link in running text, the link's own line.
    pub label: String,
    /// The end of the text in front of it.
    pub before: String,
    /// The part that holds it, counted in document order.
    pub part: usize,
    /// Its octets in that part once decoded; none where it stands in nested markup.
    pub place: Option<Range<usize>>,
}

/// What a mail says, and where it leads.
#[derive(Debug)]
pub struct Content {
    /// The subject, encoded words undone (RFC 2047), folded for comparison.
    pub subject: String,
    /// The subject as people read it.
    pub subject_as_shown: String,
    /// Every text part, folded for comparison.
    pub text: String,
    /// Every link of every part.
    pub links: Vec<FoundLink>,
    /// The addresses in To and Cc, in lower case.
    pub addressees: Vec<String>,
    /// Parts that nobody here can look into.
    pub attachments: usize,
    /// Which of the fields that decide how the body is read the header block has.
    pub mime_fields: Vec<&'static str>,
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

/// Where the reading of the body rests: on covered MIME fields, or on the signed body alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MimeEvidence {
    /// The fields are covered.
    Fields,
    /// They are not; the signed body must tell the same.
    Body,
}

impl<'a> Message<'a> {
    /// stub
    #[must_use]
    pub fn content_by(&self, _mime: MimeEvidence) -> Content {
        self.content()
    }

    /// Looks at the header block once. Total: any bytes are a mail.
    #[must_use]
    pub fn read(raw: &'a [u8]) -> Self {
        Self { raw, headers: Headers::read(raw) }
    }

    /// The bytes.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The header block.
    #[must_use]
    pub const fn headers(&self) -> &Headers<'a> {
        &self.headers
    }

    /// The one From address.
    ///
    /// # Errors
    /// The flaw that keeps it from being certain.
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

    /// Reads parts, words and links.
    #[must_use]
    pub fn content(&self) -> Content {
        let mut flaws = self.headers.content_flaws();
        if header::has_bare_line_ending(self.raw) {
            flaws.add(Flaw::BareLineEnding);
        }
        if let Err(flaw) = self.author() {
            flaws.add(flaw);
        }
        let tree = parts::read(self.raw);
        flaws.join(tree.flaws);
        let author = self.author().ok().map(|author| author.domain);
        let mut links = Links { found: Vec::new(), flaws, author };
        let mut text = String::new();
        for part in &tree.texts {
            match part.format {
                Format::Plain => {
                    links.in_text(part.part, &part.text);
                    // Some programs show text that looks like HTML as HTML.
                    if looks_like_html(&part.text) {
                        let html = html::read(&part.text);
                        links.flaws.join(html.flaws);
                        links.in_html(part.part, &html);
                    }
                    text.part();
                    text.push_bounded(&part.text, limits::WORDS);
                }
                Format::Html => {
                    let html = html::read(&part.text);
                    links.flaws.join(html.flaws);
                    links.in_html(part.part, &html);
                    text.part();
                    text.push_bounded(&html.text, limits::WORDS);
                }
            }
        }
        let parsed = mail_parser::MessageParser::new().parse(self.raw.get(..self.headers.body()).unwrap_or_default());
        let subject = parsed.as_ref().and_then(|message| message.subject()).unwrap_or_default();
        let mut addressees = Vec::new();
        if let Some(message) = &parsed {
            for list in message.all_to().chain(message.all_cc()) {
                addressees.extend(list.mailboxes().filter_map(|mailbox| mailbox.address()).map(str::to_lowercase));
            }
        }
        Content {
            subject: words::fold(subject),
            subject_as_shown: subject.to_owned(),
            text: words::fold(&text),
            links: links.found,
            addressees,
            attachments: tree.attachments,
            mime_fields: MIME_FIELDS.iter().copied().filter(|name| self.headers.named(name).next().is_some()).collect(),
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

struct Links {
    found: Vec<FoundLink>,
    flaws: Flaws,
    author: Option<Domain>,
}

impl Links {
    fn add(&mut self, address: &str, make: impl FnOnce(Link) -> FoundLink) {
        match Target::read(address) {
            Target::Harmless => {}
            Target::Flawed(flaw) => self.flaws.add(flaw),
            Target::Web(_) if self.found.len() >= limits::LINKS => self.flaws.add(Flaw::LinkLimit),
            Target::Web(link) => self.found.push(make(link)),
        }
    }

    /// Links in running text: those with a scheme, and `www.` names, which mail programs make links of too.
    fn in_text(&mut self, part: usize, text: &str) {
        let mut finder = LinkFinder::new();
        finder.kinds(&[LinkKind::Url]).url_must_have_scheme(true);
        let mut addresses = addresses_in(text, &finder);
        // What the finder does not take for an address, somebody else's may.
        if text.match_indices("://").any(|(at, _)| !addresses.iter().any(|(place, _)| place.contains(&at))) {
            self.flaws.add(Flaw::LinkAmbiguous);
        }
        bare_names(text, self.author.as_ref(), &mut addresses);
        for (place, address) in addresses {
            let before = text.get(..place.start).unwrap_or_default().tail(BEFORE).to_owned();
            let line = before.rsplit('\n').next().unwrap_or_default().trim().to_owned();
            self.add(&address, |link| FoundLink {
                link,
                wrapped: None,
                holder: Holder::Anchor,
                label: line,
                before,
                part,
                place: Some(place),
            });
        }
    }

    fn in_html(&mut self, part: usize, html: &html::Html) {
        for address in &html.addresses {
            self.add(&address.value, |link| FoundLink {
                link,
                wrapped: None,
                holder: address.holder,
                label: address.label.trim().to_owned(),
                before: address.before.clone(),
                part,
                place: address.place.clone(),
            });
        }
        // Addresses in the words themselves, which mail programs make links of. Those that an anchor holds are known.
        let known = self.found.len();
        self.in_text(part, &html.text);
        let (anchors, fresh) = self.found.split_at(known);
        let keep: Vec<bool> = fresh
            .iter()
            .map(|found| !anchors.iter().any(|anchor| anchor.part == part && anchor.link.expose() == found.link.expose()))
            .collect();
        let mut keep = std::iter::repeat_n(true, known).chain(keep);
        self.found.retain(|_| keep.next().unwrap_or(true));
        for found in self.found.iter_mut().skip(known) {
            found.place = None;
        }
    }
}

/// The addresses in running text with their places. `www.` names get the scheme that a mail program would give them.
fn addresses_in(text: &str, finder: &LinkFinder) -> Vec<(Range<usize>, String)> {
    let mut all: Vec<(Range<usize>, String)> = finder
        .links(text)
        .filter(|link| {
            let scheme = link.as_str().split(':').next().unwrap_or_default();
            scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
        })
        .map(|link| (link.start()..link.end(), link.as_str().to_owned()))
        .collect();
    for (start, _) in text.match_indices("www.") {
        let alone = text
            .get(..start)
            .and_then(|before| before.chars().next_back())
            .is_none_or(|letter| !letter.is_alphanumeric() && !"/.@-_=%".contains(letter));
        if alone && !all.iter().any(|(place, _)| place.contains(&start)) {
            let rest = text.get(start..).unwrap_or_default();
            let end = rest.find(|letter: char| letter.is_whitespace() || "<>\"'()[]{}|".contains(letter)).unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or_default().trim_end_matches(['.', ',', ';', ':', '!', '?']);
            if name.matches('.').count() >= 2 {
                all.push((start..start + name.len(), format!("http://{name}")));
            }
        }
    }
    all
}

/// Adds names without a scheme, as in `attack.example/login`, which mail programs make links of too where the name ends in
/// a public suffix. A name of the author's own organisation alone is no more than a name.
fn bare_names(text: &str, author: Option<&Domain>, all: &mut Vec<(Range<usize>, String)>) {
    let is_edge = |letter: char| letter.is_whitespace() || "<>\"'()[]{}|,;\u{3001}\u{3002}\u{ff0c}\u{300c}\u{300d}".contains(letter);
    let (mut found, mut next) = (Vec::new(), 0);
    for piece in text.split_inclusive(is_edge) {
        let at = next;
        next += piece.len();
        let word = piece.trim_end_matches(is_edge);
        if !word.contains('.') || word.contains('@') || word.contains("://") {
            continue;
        }
        let word = word.trim_end_matches(['.', ':', '!', '?', '*', '_']);
        let name = word.split(['/', '?', '#', ':']).next().unwrap_or_default();
        let known = psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known());
        let Some(domain) = Domain::parse(name).ok().filter(|domain| known && domain.registered().is_some()) else { continue };
        let is_own_name = name.len() == word.len() && author.is_some_and(|author| domain.is_kin_of(author));
        let place = at..at + word.len();
        if !is_own_name && !all.iter().any(|(other, _)| other.start < place.end && place.start < other.end) {
            found.push((place, format!("http://{word}")));
        }
    }
    all.append(&mut found);
}

fn looks_like_html(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["<a ", "<a/", "<a\t", "href", "<html", "<form", "<base", "<meta", "<iframe", "<script"].iter().any(|mark| lower.contains(mark))
}

/// A mail as SMTP carries it. One that was saved on disk often has lines that end in LF; on the wire they end in CRLF, and
/// that is what is judged.
#[must_use]
pub fn as_sent(saved: Vec<u8>) -> Vec<u8> {
    if memchr::memmem::find(&saved, b"\r\n").is_some() {
        return saved;
    }
    let mut wire = Vec::with_capacity(saved.len() + saved.len() / 32);
    for byte in saved {
        if byte == b'\n' {
            wire.push(b'\r');
        }
        wire.push(byte);
    }
    wire
}

/// RFC 2045: the fields that decide how a body is read.
const MIME_FIELDS: &[&str] = &["MIME-Version", "Content-Type", "Content-Transfer-Encoding"];

/// Octets of text kept from in front of a link.
const BEFORE: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Content {
        let raw = format!("From: a@vendor.com\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n");
        Message::read(raw.as_bytes()).content()
    }

    #[test]
    fn names_that_mail_programs_make_links_of() {
        for (text, found) in [
            ("Go to attack.com/login.", &["http://attack.com/login"][..]),
            ("Go to (attack.com)!", &["http://attack.com"]),
            ("www.attack.com and attack.co.uk", &["http://attack.co.uk", "http://www.attack.com"]),
            ("Vendor.com, the vendor", &[]),
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
        ] {
            assert!(!content(text).flaws.is_empty(), "{text}");
        }
        assert!(content("Reset: https://vendor.com/x").flaws.is_empty());
    }
}
