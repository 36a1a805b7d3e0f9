//! What to write into an entry for a link that carries a token: a shape under `[links]`, so that the link is treated as the
//! one-time link that it may be. `other_links` would let it leave as it stands.

use super::{
    carried, danger,
    entry::{DecideBy, Entry},
    placeholder::{Part, Placeholder},
    shape::{OtherLink, Shape},
    shape_match::{Fields, LinkRules, Split, Stray, split_path, split_query},
    unguessable::is_unguessable,
};
use crate::{
    mail::Kind,
    message::{Link, link::is_word},
    recognition,
};

/// Whether a link carries what nobody can guess, in whichever piece.
pub(super) fn has_secret(link: &Link) -> bool {
    let pieces = Pieces::read(link);
    recognition::has_token(link) || pieces.is_some_and(|pieces| pieces.texts().any(is_unguessable))
}

/// What an entry would need for the links of a mail, so that one edit is enough. Nothing in it is what `check` warns of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Shapes for `[links]`.
    pub shapes: Vec<(Kind, String)>,
    /// Patterns for `other_links`.
    pub other_links: Vec<String>,
    /// Links that no line of an entry may let through, without their secrets, each with why and what else can be done.
    pub unlistable: Vec<String>,
}

impl Missing {
    /// Whether nothing is missing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.shapes.is_empty() && self.other_links.is_empty() && self.unlistable.is_empty()
    }

    /// Adds what one link would need.
    pub(super) fn needs(&mut self, link: &Link, remedy: Remedy) {
        match remedy {
            Remedy::Shape(kind, shape) if !self.shapes.iter().any(|(_, known)| *known == shape) => self.shapes.push((kind, shape)),
            Remedy::OtherLink(pattern) if !self.other_links.contains(&pattern) => self.other_links.push(pattern),
            Remedy::None(why) => self.unlistable.push(format!("{link}: {why}")),
            Remedy::Shape(..) | Remedy::OtherLink(_) => {}
        }
    }

    /// Adds the links that carry the address of another site, which shows only once they are listed.
    pub(super) fn still_carried(&mut self, links: &[&Link], entry: &Entry, readers: &[&str]) {
        let rules = self.added_to(&entry.links);
        for link in links {
            if let Err(Stray::Carries(what)) = rules.other(link, readers)
                && rules.one_time(link, readers).is_none()
            {
                let says = format!("{link}: it carries the address of another site ({what})");
                if !self.unlistable.contains(&says) {
                    self.unlistable.push(says);
                }
            }
        }
    }

    /// The links of an entry with what is missing.
    fn added_to(&self, links: &LinkRules) -> LinkRules {
        let shapes = self.shapes.iter().filter_map(|(kind, text)| Some((*kind, Shape::parse(text).ok()?)));
        let others = self.other_links.iter().filter_map(|text| OtherLink::parse(text).ok());
        LinkRules::new(
            links.shapes().iter().cloned().chain(shapes).collect(),
            links.other_links().iter().cloned().chain(others).collect(),
            links.tenants().to_vec(),
        )
    }
}

/// What a link that an entry does not name would need.
pub(super) enum Remedy {
    /// A shape under `[links]`.
    Shape(Kind, String),
    /// A pattern in `other_links`.
    OtherLink(String),
    /// No line of an entry: why, and what else can be done.
    None(String),
}

/// What a link without a secret would need, beside the shapes that the entry has or is to get.
pub(super) fn listing(link: &Link, shapes: &[Shape]) -> Remedy {
    if link.url().path().contains('*') || link.url().path().to_ascii_lowercase().contains("%2a") {
        return Remedy::None("its path holds a * of its own, which no pattern can name; leave the mail to the scanner".to_owned());
    }
    let pattern = link.pattern();
    let other = match OtherLink::parse(&pattern) {
        Ok(other) => other,
        Err(error) => return Remedy::None(format!("no pattern can name it: {error}")),
    };
    if let Some(danger) = danger::other_link(&other) {
        return Remedy::None(unlistable(danger));
    }
    let Some(shape) = covered_by(&other, shapes) else { return Remedy::OtherLink(pattern) };
    let narrower = narrower(link).filter(|(_, other)| danger::other_link(other).is_none() && covered_by(other, shapes).is_none());
    narrower.map_or_else(
        || {
            Remedy::None(format!(
                "{pattern:?} would list it, and would cover links like those of the shape \"{shape}\", too: a one-time link that fits no \
                 shape would leave bare. If it is a one-time link, write a shape for it under [links]; if not, leave the mail to the scanner"
            ))
        },
        |(pattern, _)| Remedy::OtherLink(pattern),
    )
}

/// The first of these shapes whose links one of `other_links` covers.
fn covered_by<'s>(other: &OtherLink, shapes: &'s [Shape]) -> Option<&'s Shape> {
    shapes.iter().find(|shape| other.covers_like(shape))
}

/// A pattern that says of every piece of the path what it is, and takes nothing below it.
fn narrower(link: &Link) -> Option<(String, OtherLink)> {
    let pieces = Pieces::read(link)?;
    let path = Asked { readers: &[], secret: Secret::Token, uuids_are_ids: true }.path(&pieces.path)?;
    let pattern = format!("{}/{path}", origin(link)?);
    let other = OtherLink::parse(&pattern).ok()?;
    let rules = LinkRules::new(Vec::new(), vec![other.clone()], Vec::new());
    (!path.contains("{token}") && !matches!(rules.other(link, &[]), Err(Stray::Unlisted))).then_some((pattern, other))
}

/// Why a dangerous link is not to be listed, and what else can be done.
fn unlistable(danger: &str) -> String {
    format!(
        "it is not to be listed: {danger}. Ask the sender to link to pages of its own in these mails (without click tracking, or \
         tracked under its own domain), or leave them to the scanner"
    )
}

/// What a link that carries a token would need. `recognised` is what words say of it, where they do.
pub(super) fn naming(link: &Link, entry: &Entry, readers: &[&str], recognised: Option<Kind>) -> Remedy {
    let instead = match entry.decide_by {
        DecideBy::Shapes => {
            let Some(text) = shape(link, entry, readers) else {
                return Remedy::None(
                    "write a shape for it under [links] (docs/allowlist.md); listed in other_links it would leave as it stands".to_owned(),
                );
            };
            let parsed = Shape::parse(&text).ok();
            if let Some(danger) = parsed.as_ref().and_then(danger::shape) {
                return Remedy::None(unlistable(danger));
            }
            let covers = |other: &&OtherLink| parsed.as_ref().is_some_and(|shape| other.covers_like(shape));
            if let Some(other) = entry.links.other_links().iter().find(covers) {
                return Remedy::None(format!(
                    "name the pages that the mail leads to in the place of \"{other}\" in other_links, which lets links like it leave \
                     bare; then its shape can be {text:?}"
                ));
            }
            return Remedy::Shape(kind(link).or(recognised).unwrap_or(Kind::Action), text);
        }
        DecideBy::Words(_) => "decide_by = \"words\"",
        DecideBy::Subjects(_) => "`subject`",
    };
    Remedy::None(format!("an entry with [links] in the place of {instead} can name it"))
}

impl Remedy {
    /// What to do, as the end of a sentence.
    pub(super) fn says(&self, entry: &Entry) -> String {
        match self {
            Self::Shape(kind, shape) => {
                let others = entry.links.shapes().iter().filter(|(other, _)| other == kind);
                let mut shapes: Vec<String> = others.map(|(_, shape)| shape.to_string()).collect();
                if shapes.len() >= SHOWN {
                    return format!("add {shape:?} to {} under [links]", kind.code());
                }
                shapes.push(shape.clone());
                format!("write {} = {shapes:?} under [links]", kind.code())
            }
            Self::OtherLink(pattern) => format!("{pattern:?} lists it"),
            Self::None(why) => why.clone(),
        }
    }
}

/// Shapes of a list that is shown whole.
const SHOWN: usize = 10;

/// A shape that this link fits, and others like it; none where the secret cannot be found. No part of the secret is in it.
fn shape(link: &Link, entry: &Entry, readers: &[&str]) -> Option<String> {
    let pieces = Pieces::read(link)?;
    let start = origin(link)?;
    // A short code is known only by its surroundings, and so where there is no token.
    [Secret::Token, Secret::Code].into_iter().find_map(|secret| {
        let text = format!("{start}{}", pieces.shape(readers, secret)?);
        let shape = Shape::parse(&text).ok()?;
        entry.links.would_take(&shape, link, readers).then_some(text)
    })
}

/// What stands in front of a pattern's path: the host, a port where it is another, and the scheme where it is not https.
fn origin(link: &Link) -> Option<String> {
    let url = link.url();
    let scheme = if url.scheme() == "http" { "http://" } else { "" };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}{}{port}", url.host_str()?))
}

/// Which placeholder stands for the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    Token,
    Code,
}

/// A link in its pieces, each decoded once, without what campaigns add.
struct Pieces {
    path: Vec<String>,
    query: Fields,
    fragment: Option<(Vec<String>, Fields)>,
}

impl Pieces {
    /// None where two programs could read the pieces differently.
    fn read(link: &Link) -> Option<Self> {
        let Split { path, mut query, fragment } = Split::read(link.url()).ok()?;
        query.retain(|(key, _)| !key.starts_with("utm_"));
        let fragment = match fragment {
            None => None,
            Some(fragment) => {
                let first = fragment.split('&').next().unwrap_or_default();
                let is_query = first.split_once('=').is_some_and(|(key, _)| !key.is_empty() && !key.contains(['/', '?']));
                let (path, query) = if is_query { ("", fragment) } else { fragment.split_once('?').unwrap_or((fragment, "")) };
                Some((split_path(path).ok()?, split_query(query).ok()?))
            }
        };
        Some(Self { path, query, fragment })
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.path.iter().chain(self.fragment.iter().flat_map(|(path, _)| path)).map(String::as_str)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let fields = self.query.iter().chain(self.fragment.iter().flat_map(|(_, query)| query));
        self.segments().chain(fields.flat_map(|(key, value)| [key.as_str(), value.text.as_str()]))
    }

    /// Path, query and fragment of the shape.
    fn shape(&self, readers: &[&str], secret: Secret) -> Option<String> {
        // Where something else is the token, a UUID is an id.
        let uuids_are_ids = self.texts().any(|text| Placeholder::Token.fits(text, Part::Value) && !Placeholder::Id.fits(text, Part::Value));
        let asked = Asked { readers, secret, uuids_are_ids };
        let mut out = format!("/{}", asked.path(&self.path)?);
        let query = asked.query(&self.query)?;
        if !query.is_empty() {
            out.push_str(&format!("?{query}"));
        }
        if let Some((path, query)) = &self.fragment {
            let (path, query) = (asked.path(path)?, asked.query(query)?);
            let between = if path.is_empty() || query.is_empty() { "" } else { "?" };
            out.push_str(&format!("#{path}{between}{query}"));
        }
        Some(out)
    }
}

/// How the pieces of a link are turned into a shape's.
struct Asked<'a> {
    readers: &'a [&'a str],
    secret: Secret,
    uuids_are_ids: bool,
}

impl Asked<'_> {
    fn path(&self, segments: &[String]) -> Option<String> {
        let shapes: Option<Vec<String>> = segments.iter().map(|text| self.piece(text, Part::Segment)).collect();
        Some(shapes?.join("/"))
    }

    fn query(&self, fields: &Fields) -> Option<String> {
        let field = |(key, value): &(String, super::shape_match::Value)| {
            let is_plain = (1..=40).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            (is_plain && !is_unguessable(key)).then(|| Some(format!("{key}={}", self.piece(&value.text, Part::Value)?)))?
        };
        let shapes: Option<Vec<String>> = fields.iter().map(field).collect();
        Some(shapes?.join("&"))
    }

    /// A literal for a word of a path, a placeholder for everything else.
    fn piece(&self, text: &str, part: Part) -> Option<String> {
        use Placeholder::{Code, Email, Id, Text, Token, Url, Word};
        if text.is_empty() {
            return Some(String::new());
        }
        if part == Part::Value && self.readers.iter().any(|reader| carried::is_same_mailbox(reader, text)) {
            return Some(Email.to_string());
        }
        if Token.fits(text, part) && !(self.uuids_are_ids && Id.fits(text, part)) {
            return Some(Token.to_string());
        }
        if part == Part::Segment && is_word(text) {
            return Some(text.to_owned());
        }
        if self.secret == Secret::Code && Code.fits(text, part) && text.bytes().any(|byte| byte.is_ascii_digit()) {
            return Some(Code.to_string());
        }
        if part == Part::Value && (text.starts_with('/') || carried::names_scheme(text)) {
            return Some(Url.to_string());
        }
        [Id, Word, Text].into_iter().find(|placeholder| placeholder.fits(text, part)).map(|placeholder| placeholder.to_string())
    }
}

/// The kind that the words of a link's path say; none where they say none.
fn kind(link: &Link) -> Option<Kind> {
    let pieces = Pieces::read(link)?;
    let words = pieces.segments().filter(|text| is_word(text)).collect::<Vec<_>>().join("/").to_ascii_lowercase();
    KINDS.iter().find(|(_, stems)| stems.iter().any(|stem| words.contains(stem))).map(|(kind, _)| *kind)
}

/// Stems of words that paths are made of. What undoes or refuses comes first: "no, it was not me" resets nothing.
const KINDS: [(Kind, &[&str]); 5] = [
    (Kind::Action, &["unsubscri", "optout", "opt-out", "report", "deny", "decline", "reject", "cancel", "revoke", "not-me", "notme"]),
    (Kind::MagicLink, &["magic", "passwordless", "one-time", "onetime", "login-link", "signin-link"]),
    (Kind::PasswordReset, &["reset", "forgot", "passw", "recover", "unlock"]),
    (Kind::Invite, &["invit", "join", "onboard", "accept", "enroll"]),
    (Kind::EmailVerify, &["verif", "confirm", "activat", "validat"]),
];
