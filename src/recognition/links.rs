//! The links of a mail as its reader sees them: one, however often and in whatever spelling it stands there.

use std::collections::HashMap;

use super::{
    Kind, Paths,
    counters::Opened,
    tokens::{self, Words},
};
use crate::message::{Content, Domain, FoundLink, Link, words};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Organisation {
    Same,
    Other,
}

/// One distinct link with all its places.
pub(super) struct Group {
    /// Indices into [`Content::links`], in order.
    pub(super) members: Vec<usize>,
    /// What it says of itself.
    pub(super) words: Words,
    pub(super) organisation: Option<Organisation>,
    pub(super) noisy: bool,
    /// Whether it leads through a counter that alone knows where to, in every place.
    pub(super) opaque: bool,
}

impl Group {
    fn new(at: usize, opened: &Opened<'_>, mut words: Words, author: Option<&Domain>) -> Self {
        let Opened { target, opaque } = opened;
        let mut organisation = author.map(|author| match target.host() {
            Some(host) if host == *author || host.is_kin_of(author) => Organisation::Same,
            _ => Organisation::Other,
        });
        if *opaque {
            // The counter's own path says nothing of the page behind it, and a service's host nothing of whose it is.
            words = Words { token: words.token.max(1), ..Words::default() };
            organisation = organisation.filter(|organisation| *organisation == Organisation::Same);
        }
        Self { members: vec![at], words, organisation, noisy: false, opaque: *opaque }
    }

    /// Whether it says nothing of where it leads: a token behind letters, as counters have it.
    pub(super) fn is_wordless(&self) -> bool {
        let is_word = |word: &str| word.len() > 3 && !["click", "track", "link", "links", "mail", "email", "redirect"].contains(&word);
        self.words.token > 0 && !self.words.path.split(|letter: char| !letter.is_ascii_alphanumeric()).any(is_word)
    }

    /// Takes in the places of a link that turned out to be the same.
    fn join(&mut self, mut other: Self) {
        self.members.append(&mut other.members);
        self.members.sort_unstable();
        if self.is_wordless() && !other.is_wordless() || self.opaque && !other.opaque {
            self.words = other.words;
            self.organisation = other.organisation;
            self.opaque = false;
        }
    }

    /// The words at the link, in each place.
    pub(super) fn labels<'c>(&'c self, content: &'c Content) -> impl Iterator<Item = Label> + 'c {
        self.members.iter().filter_map(|at| content.links.get(*at)).map(|found| {
            let before = without_line(found);
            // What stands in front of another link speaks of that one.
            let front = before
                .rfind("://")
                .and_then(|at| before.get(at..))
                .map_or(before, |rest| rest.split_once(char::is_whitespace).map_or("", |(_, after)| after));
            Label { own: words::fold(&found.label), front: words::fold(last_words(front, IN_FRONT)), after: words::fold(&found.after) }
        })
    }

    pub(super) fn word<'w>(&self, known: &'w [String]) -> Option<&'w str> {
        known.iter().find(|word| self.words.path.contains(word.as_str())).map(String::as_str)
    }

    /// The first of some words that is a whole piece of a path segment or value, or its start where the word ends in `*`.
    pub(super) fn piece<'w>(&self, known: &'w [String]) -> Option<&'w str> {
        let is_edge = |byte: Option<&u8>| matches!(byte, Some(b'/' | b'-'));
        let pieces = self.words.pieces.as_bytes();
        let is_there = |word: &str| {
            let (stem, open) = word.strip_suffix('*').map_or((word, false), |stem| (stem, true));
            self.words.pieces.match_indices(stem).any(|(at, _)| {
                (stem.starts_with('/') || at.checked_sub(1).is_some_and(|before| is_edge(pieces.get(before))))
                    && (open || stem.ends_with('/') || is_edge(pieces.get(at + stem.len())))
            })
        };
        known.iter().map(String::as_str).find(|word| is_there(word))
    }

    pub(super) fn purpose<'w>(&self, kind: Kind, paths: &'w Paths) -> Option<&'w str> {
        match kind {
            Kind::PasswordReset => self.word(&paths.password_reset),
            Kind::Invite => self.word(&paths.invite),
            Kind::EmailVerify => self.word(&paths.email_verify),
            Kind::MagicLink => self.word(&paths.magic_link),
            Kind::Action => None,
        }
    }
}

/// The distinct links of a mail. Text that shows an address belongs to the link that it stands on; a button and an address
/// in plain text are one where they lead to the same page with the same token; a counter is what it hides, or, where it
/// does not say, what stands in the same place of the mail's other part.
pub(super) fn grouped(content: &Content, author: Option<&Domain>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut by_address: HashMap<String, usize> = HashMap::new();
    let mut by_page: HashMap<String, Vec<(usize, Page)>> = HashMap::new();
    for (at, found) in content.links.iter().enumerate() {
        let opened = Opened::of(&found.link);
        if let Some(known) = by_address.get(opened.target.expose()).copied() {
            if let Some(group) = groups.get_mut(known) {
                group.members.push(at);
            }
            continue;
        }
        let mut words = Words::of(&opened.target);
        let page = Page::of(&opened.target, std::mem::take(&mut words.tokens));
        let pages = by_page.entry(page.place.clone()).or_default();
        let number = pages.iter().find(|(_, known)| known.is_one_with(&page)).map_or(groups.len(), |(number, _)| *number);
        if let Some(group) = groups.get_mut(number) {
            group.members.push(at);
        } else {
            groups.push(Group::new(at, &opened, words, author));
            pages.push((number, page));
        }
        by_address.insert(opened.target.expose().to_owned(), number);
    }
    join_shown(content, &mut groups, &by_address);
    join_aligned(content, &mut groups);
    groups.retain(|group| !group.members.is_empty());
    groups
}

/// Joins an address that is shown with the link that it is shown on.
fn join_shown(content: &Content, groups: &mut [Group], by_address: &HashMap<String, usize>) {
    let mut home: HashMap<usize, usize> = HashMap::new();
    let of: HashMap<usize, usize> =
        groups.iter().enumerate().flat_map(|(number, group)| group.members.iter().map(move |at| (*at, number))).collect();
    for (at, found) in content.links.iter().enumerate() {
        let label = found.label.trim();
        let is_address = label.contains("://") && !label.contains(char::is_whitespace) && label != found.link.expose();
        // The text of another link, or a link whose words are the address that stands elsewhere.
        let pair = match found.shown_on {
            Some(anchor) => of.get(&at).copied().zip(of.get(&anchor).copied()),
            None if is_address => by_address.get(label).copied().zip(of.get(&at).copied()),
            None => None,
        };
        let Some((mut from, mut to)) = pair else { continue };
        while let Some(next) = home.get(&from) {
            from = *next;
        }
        while let Some(next) = home.get(&to) {
            to = *next;
        }
        if from != to && join(groups, to, from) {
            home.insert(from, to);
        }
    }
}

/// Joins a counter that does not say where it leads, or a link without words as counters on a sender's own host are, with
/// the link that stands in its place in the other part.
fn join_aligned(content: &Content, groups: &mut [Group]) {
    if !groups.iter().any(Group::is_wordless) {
        return;
    }
    let place = |at: &usize| {
        let found = content.links.get(*at)?;
        let front: String =
            words::fold(last_words(without_line(found), IN_FRONT)).chars().filter(|letter| letter.is_alphanumeric()).collect();
        (front.chars().count() >= SHORTEST_FRONT).then(|| (last_words(&front, SAME_FRONT).to_owned(), found.part))
    };
    let mut known: HashMap<String, (usize, usize)> = HashMap::new();
    for (number, group) in groups.iter().enumerate().filter(|(_, group)| !group.is_wordless()) {
        for (front, part) in group.members.iter().filter_map(place) {
            known.entry(front).or_insert((number, part));
        }
    }
    for number in 0..groups.len() {
        let Some(group) = groups.get(number).filter(|group| group.is_wordless()) else { continue };
        let aligned =
            group.members.iter().filter_map(place).find_map(|(front, part)| known.get(&front).filter(|(_, other)| *other != part));
        if let Some((to, _)) = aligned {
            join(groups, *to, number);
        }
    }
}

fn join(groups: &mut [Group], to: usize, from: usize) -> bool {
    let Ok([to, from]) = groups.get_disjoint_mut([to, from]) else { return false };
    let taken = Group { members: Vec::new(), words: Words::default(), organisation: None, noisy: false, opaque: true };
    to.join(std::mem::replace(from, taken));
    true
}

/// The page that a link leads to, and what it carries.
struct Page {
    /// Host and path.
    place: String,
    query: Vec<(String, String)>,
    fragment: String,
    tokens: Vec<String>,
}

impl Page {
    fn of(link: &Link, tokens: Vec<String>) -> Self {
        let url = link.url();
        let query = url.query_pairs().filter(|(name, _)| !tokens::is_tracking(name));
        let mut query: Vec<(String, String)> = query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        query.sort_unstable();
        Self {
            place: format!("{}{}", url.host_str().unwrap_or_default(), url.path().trim_end_matches('/')),
            query,
            fragment: url.fragment().unwrap_or_default().to_owned(),
            tokens,
        }
    }

    /// Whether two links to one place are one: they differ in how the reader came alone, or they carry the same tokens and
    /// one of them says besides who the reader is or where to go afterwards.
    fn is_one_with(&self, other: &Self) -> bool {
        let is_by_the_way = |(name, _): &(String, String)| tokens::is_by_the_way(name);
        let has = |page: &Self, pair: &(String, String)| page.query.contains(pair);
        let rest_is_by_the_way = |one: &Self, other: &Self| one.query.iter().filter(|pair| !has(other, pair)).all(is_by_the_way);
        self.fragment == other.fragment
            && (self.query == other.query
                || !self.tokens.is_empty()
                    && self.tokens == other.tokens
                    && rest_is_by_the_way(self, other)
                    && rest_is_by_the_way(other, self))
    }
}

/// What stands in front of a link, without its own line where it stands in running text.
fn without_line(found: &FoundLink) -> &str {
    let before = found.before.trim_end();
    before.strip_suffix(found.label.as_str()).unwrap_or(before)
}

/// The words at a link, in one place where it stands.
pub(super) struct Label {
    /// On it, or in its line.
    pub(super) own: String,
    /// Right in front of it.
    pub(super) front: String,
    /// Right behind it, in the same sentence.
    pub(super) after: String,
}

impl Label {
    /// Whether the link has no words of its own that say what it is for: an address, an arrow, "here".
    pub(super) fn is_bare(&self) -> bool {
        // Chinese, Japanese and Korean say as much with half the letters.
        let width = |letter: char| if letter >= '\u{1100}' { 2 } else { 1 };
        self.own.contains("://") || self.own.chars().filter(|letter| letter.is_alphanumeric()).map(width).sum::<usize>() <= BARE
    }
}

pub(super) fn last_words(text: &str, characters: usize) -> &str {
    let start = text.char_indices().rev().nth(characters.saturating_sub(1)).map_or(0, |(at, _)| at);
    text.get(start..).unwrap_or_default()
}

/// Letters up to which a label is a pointing word: "here", "burada", "link".
const BARE: usize = 6;
/// Characters in front of a link that still speak of it.
const IN_FRONT: usize = 110;
/// Letters in front of two links that make their places one, and how many of them there must be.
const SAME_FRONT: usize = 24;
const SHORTEST_FRONT: usize = 12;
