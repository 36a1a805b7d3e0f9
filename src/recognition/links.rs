//! One distinct link of a mail with all the places where it stands, as recognition weighs it.

use super::{Kind, Paths, tokens};
use crate::message::{Content, Domain, link::Link, words};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Organisation {
    Same,
    Other,
}

/// One distinct link with all its places.
pub(super) struct Group {
    pub(super) members: Vec<usize>,
    pub(super) path: String,
    pub(super) token: usize,
    pub(super) organisation: Option<Organisation>,
    pub(super) noisy: bool,
}

impl Group {
    pub(super) fn new(at: usize, link: &Link, author: Option<&Domain>) -> Self {
        let organisation = author.map(|author| match link.host() {
            Some(host) if host == *author || host.is_kin_of(author) => Organisation::Same,
            _ => Organisation::Other,
        });
        Self { members: vec![at], path: tokens::words(link), token: tokens::token(link), organisation, noisy: false }
    }

    /// The words at the link, in each place.
    pub(super) fn labels<'c>(&'c self, content: &'c Content) -> impl Iterator<Item = Label> + 'c {
        self.members.iter().filter_map(|at| content.links.get(*at)).map(|found| {
            // In running text the line of the link ends what stands in front of it.
            let before = found.before.trim_end();
            let before = before.strip_suffix(found.label.as_str()).unwrap_or(before);
            // What stands in front of another link speaks of that one.
            let front = before
                .rfind("://")
                .and_then(|at| before.get(at..))
                .map_or(before, |rest| rest.split_once(char::is_whitespace).map_or("", |(_, after)| after));
            Label { own: words::fold(&found.label), front: words::fold(last_words(front, IN_FRONT)) }
        })
    }

    pub(super) fn word<'w>(&self, known: &'w [String]) -> Option<&'w str> {
        known.iter().find(|word| self.path.contains(word.as_str())).map(String::as_str)
    }

    pub(super) fn purpose<'w>(&self, kind: Kind, paths: &'w Paths) -> Option<&'w str> {
        self.word(match kind {
            Kind::PasswordReset => &paths.password_reset,
            Kind::Invite => &paths.invite,
            Kind::EmailVerify => &paths.email_verify,
            Kind::MagicLink => &paths.magic_link,
            Kind::Action => return None,
        })
    }
}

/// The words at a link, in one place where it stands.
pub(super) struct Label {
    /// On it, or in its line.
    pub(super) own: String,
    /// Right in front of it.
    pub(super) front: String,
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
