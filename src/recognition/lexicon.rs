//! The meaning of a text in any language: pairs of words that stand close together, and what each pair means.
//!
//! The words of all languages are one automaton, compiled once; a text is read once against it.

use std::collections::{BTreeMap, HashMap, HashSet};

use aho_corasick::{AhoCorasick, MatchKind};
use include_dir::{Dir, include_dir};
use serde::Deserialize;

use super::{Kind, RecogniserError};
use crate::message::words;

static LANGUAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config/languages");

/// Pairs of concepts by their meaning.
pub(super) type Pairs = BTreeMap<PairName, Vec<[Concept; 2]>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PairName {
    PasswordReset,
    Invite,
    EmailVerify,
    MagicLink,
    /// It was done already: "your password was changed".
    Settled,
}

impl PairName {
    const ALL: [Self; 5] = [Self::PasswordReset, Self::Invite, Self::EmailVerify, Self::MagicLink, Self::Settled];

    /// The bit of this meaning in a set.
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Concept {
    Password,
    Renew,
    Forgot,
    Set,
    Changed,
    /// "Will not be changed until", "invite your friends": takes back the words that it overlaps.
    Not,
    Account,
    Activate,
    Unlock,
    Pending,
    Address,
    Confirm,
    Signin,
    Link,
    Invite,
    /// What an invitation asks for: to join, to accept, a team.
    Join,
    /// To make an account.
    Register,
    /// "Update your account", as an administrator asks for it.
    Update,
    Admin,
    Once,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Language {
    #[expect(dead_code, reason = "for the people who edit the file")]
    name: String,
    words: BTreeMap<Concept, Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    concept: Concept,
    language: usize,
}

/// Where in a word a stem may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Anywhere,
    /// At the start of a word only.
    Start,
}

/// A word in a text: where it starts and ends, and one of its meanings.
#[derive(Clone, Copy)]
struct Hit {
    start: usize,
    end: usize,
    meaning: Meaning,
}

impl Concept {
    const COUNT: usize = Self::Once as usize + 1;
}

/// The meaning of two concepts together, in either order; a set of [`PairName::bit`]s. A table, as it is looked up thousands of
/// times a mail.
struct Sayings([[u8; Concept::COUNT]; Concept::COUNT]);

impl Sayings {
    fn new<'p>(tables: impl IntoIterator<Item = &'p Pairs>) -> Self {
        let mut sayings = Self([[0; Concept::COUNT]; Concept::COUNT]);
        for (name, [left, right]) in tables.into_iter().flatten().flat_map(|(name, pairs)| pairs.iter().map(move |pair| (name, *pair))) {
            for (one, other) in [(left, right), (right, left)] {
                if let Some(cell) = sayings.0.get_mut(one as usize).and_then(|row| row.get_mut(other as usize)) {
                    *cell |= name.bit();
                }
            }
        }
        sayings
    }

    fn of(&self, left: Concept, right: Concept) -> u8 {
        self.0.get(left as usize).and_then(|row| row.get(right as usize)).copied().unwrap_or(0)
    }
}

/// The words of all languages, compiled.
pub(super) struct Wording {
    automaton: AhoCorasick,
    meanings: Vec<Vec<(Place, Meaning)>>,
    languages: Vec<String>,
    anywhere: Sayings,
    in_subject: Sayings,
}

impl Wording {
    /// Compiles the words that came with the program, without those of `left_out` in whichever file they stand. `subject`
    /// holds pairs that count in subjects besides those of `anywhere`.
    pub(super) fn without(left_out: &[&str], anywhere: &Pairs, subject: &Pairs) -> Result<Self, RecogniserError> {
        let mut languages = Vec::new();
        let mut patterns: HashMap<String, Vec<(Place, Meaning)>> = HashMap::new();
        let mut taken_away: HashSet<String> = HashSet::new();
        for file in LANGUAGES.files() {
            let path = file.path().display().to_string();
            let text = file.contents_utf8().unwrap_or_default();
            let language: Language = toml::from_str(text).map_err(|error| RecogniserError::Data(path.clone(), error))?;
            let number = languages.len();
            let code = path.trim_end_matches(".toml").to_owned();
            let is_left_out = left_out.contains(&code.as_str());
            languages.push(code);
            for (concept, stem) in
                language.words.into_iter().flat_map(|(concept, stems)| stems.into_iter().map(move |stem| (concept, stem)))
            {
                let (place, stem) = placed(&stem);
                if is_left_out {
                    taken_away.insert(stem);
                } else {
                    patterns.entry(stem).or_default().push((place, Meaning { concept, language: number }));
                }
            }
        }
        patterns.retain(|stem, _| !taken_away.contains(stem));
        let mut patterns: Vec<(String, Vec<(Place, Meaning)>)> = patterns.into_iter().collect();
        patterns.sort_by(|left, right| left.0.cmp(&right.0));
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(patterns.iter().map(|(stem, _)| stem))?;
        let meanings = patterns.into_iter().map(|(_, meanings)| meanings).collect();
        Ok(Self { automaton, meanings, languages, anywhere: Sayings::new([anywhere]), in_subject: Sayings::new([anywhere, subject]) })
    }

    /// The code of a language: the name of its file.
    pub(super) fn language(&self, number: usize) -> &str {
        self.languages.get(number).map_or("", String::as_str)
    }

    /// The meaning of a folded text.
    pub(super) fn said(&self, folded: &str) -> Said {
        self.said_by(folded, &self.anywhere)
    }

    /// The meaning of a folded subject.
    pub(super) fn said_in_subject(&self, folded: &str) -> Said {
        self.said_by(folded, &self.in_subject)
    }

    /// Whether a label only points: "click on this link".
    pub(super) fn points(&self, label: &str) -> bool {
        self.hits(label).any(|hit| hit.meaning.concept == Concept::Link)
    }

    /// The kinds that a label speaks of with half a pair: "sign in", "join now"; a set of [`PairName::bit`]s.
    pub(super) fn hints(&self, label: &str) -> u8 {
        self.hits(label).fold(0, |hints, hit| {
            hints
                | match hit.meaning.concept {
                    Concept::Password | Concept::Unlock => PairName::PasswordReset.bit(),
                    Concept::Invite | Concept::Join | Concept::Set => PairName::Invite.bit(),
                    Concept::Confirm | Concept::Activate => PairName::EmailVerify.bit(),
                    Concept::Signin => PairName::MagicLink.bit(),
                    _ => 0,
                }
        })
    }

    /// A hint at signing in, in [`Self::hints`].
    pub(super) const SIGNS_IN: u8 = PairName::MagicLink.bit();

    /// The language in which a text starts or ends with the word for signing in.
    pub(super) fn is_about_signing_in(&self, folded: &str) -> Option<usize> {
        let text = folded.trim();
        // "[Acme] Sign in to"
        let start = text.strip_prefix('[').and_then(|rest| rest.find("] ")).map_or(0, |at| at + "[] ".len());
        self.hits(text)
            .find(|hit| hit.meaning.concept == Concept::Signin && (hit.start == start || hit.end == text.len()))
            .map(|hit| hit.meaning.language)
    }

    /// Whether a text speaks of an invitation, and not of the reader's own ones.
    pub(super) fn invites(&self, folded: &str) -> bool {
        let concepts = || self.hits(folded).map(|hit| hit.meaning.concept);
        concepts().any(|concept| concept == Concept::Invite) && !concepts().any(|concept| concept == Concept::Not)
    }

    fn hits<'t>(&'t self, folded: &'t str) -> impl Iterator<Item = Hit> + 't {
        self.automaton.find_overlapping_iter(folded).flat_map(|found| {
            let meanings = self.meanings.get(found.pattern().as_usize()).into_iter().flatten();
            let inside = folded.get(..found.start()).and_then(|before| before.chars().next_back()).is_some_and(char::is_alphanumeric);
            meanings.filter(move |(place, _)| !inside || *place == Place::Anywhere).map(move |(_, meaning)| Hit {
                start: found.start(),
                end: found.end(),
                meaning: *meaning,
            })
        })
    }

    fn said_by(&self, folded: &str, sayings: &Sayings) -> Said {
        let mut hits: Vec<Hit> = self.hits(folded).take(MAX_HITS).collect();
        hits.sort_unstable_by_key(|hit| (hit.start, hit.end));
        let denials: Vec<Hit> = hits.iter().filter(|hit| hit.meaning.concept == Concept::Not).copied().collect();
        if !denials.is_empty() {
            hits.retain(|hit| !denials.iter().any(|denial| (denial.start..denial.end).contains(&hit.start)));
        }
        let mut said = Said { once: hits.iter().any(|hit| hit.meaning.concept == Concept::Once), ..Said::default() };
        for (at, first) in hits.iter().enumerate() {
            for second in hits.iter().skip(at + 1) {
                if is_far(folded, first.end, second.start) {
                    break;
                }
                // A stem inside the other is one word («e-mail» in «mail address») and counts once.
                if second.meaning.language == first.meaning.language && second.start >= first.end {
                    said.add(sayings.of(first.meaning.concept, second.meaning.concept), first.meaning.language);
                }
            }
        }
        said
    }
}

/// Whether more than [`REACH`] characters lie between two places.
fn is_far(text: &str, from: usize, to: usize) -> bool {
    let gap = to.saturating_sub(from);
    gap > REACH && (gap > REACH * 4 || text.get(from..to).unwrap_or_default().chars().count() > REACH)
}

/// A stem folded, and where in a word it may stand. In scripts that set spaces a short stem stands inside many a word
/// ("here" holds a Kurdish one), so that it counts at a word's start only; `*` in front of it says that its language makes
/// compounds of it. Arabic and Hebrew write "the", "and" and "in" into the word.
fn placed(stem: &str) -> (Place, String) {
    let (stem, compounds) = stem.strip_prefix('*').map_or((stem, false), |stem| (stem, true));
    let mut folded = words::fold(stem);
    let spaced = |letter: char| matches!(letter, '\u{0}'..='\u{58f}' | '\u{10a0}'..='\u{10ff}' | '\u{1e00}'..='\u{1fff}');
    let is_short = folded.chars().filter(|letter| letter.is_alphabetic()).count() < SHORT;
    let place = if is_short && !compounds && folded.chars().all(spaced) { Place::Start } else { Place::Anywhere };
    if stem.ends_with(' ') {
        folded.push(' ');
    }
    (place, folded)
}

/// Characters within which two words belong together: about eight words.
const REACH: usize = 48;
/// Letters from which on a stem says enough to be seen inside a word.
const SHORT: usize = 5;
/// Meanings that are looked at in one text; a template has a few dozen.
const MAX_HITS: usize = 4_096;

/// The meanings of a text, each with the language in which they were found.
#[derive(Clone, Copy, Default)]
pub(super) struct Said {
    kinds: [Option<usize>; 4],
    /// It was done already.
    pub(super) settled: Option<usize>,
    /// It states how long the link lives.
    pub(super) once: bool,
}

impl Said {
    fn add(&mut self, pairs: u8, language: usize) {
        for name in PairName::ALL.into_iter().filter(|name| pairs & name.bit() != 0) {
            let [reset, invite, verify, magic] = &mut self.kinds;
            let slot = match name {
                PairName::PasswordReset => reset,
                PairName::Invite => invite,
                PairName::EmailVerify => verify,
                PairName::MagicLink => magic,
                PairName::Settled => &mut self.settled,
            };
            *slot = slot.or(Some(language));
        }
    }

    /// The kinds that are in a set of [`PairName::bit`]s, and the others.
    pub(super) fn split(self, kinds: u8) -> (Self, Self) {
        let (mut inside, mut outside) = (Self::default(), Self::default());
        for ((name, said), (inside, outside)) in
            PairName::ALL.iter().zip(self.kinds).zip(inside.kinds.iter_mut().zip(outside.kinds.iter_mut()))
        {
            *(if kinds & name.bit() == 0 { outside } else { inside }) = said;
        }
        (inside, outside)
    }

    pub(super) fn kind(&self, kind: Kind) -> Option<usize> {
        Kind::RECOGNISED.iter().position(|known| *known == kind).and_then(|at| self.kinds.get(at).copied().flatten())
    }

    pub(super) fn says_any(&self) -> bool {
        self.kinds.iter().any(Option::is_some)
    }

    /// Whether both have a meaning, and none in common.
    pub(super) fn is_apart_from(&self, other: &Self) -> bool {
        self.says_any() && other.says_any() && !self.kinds.iter().zip(other.kinds).any(|(left, right)| left.is_some() && right.is_some())
    }

    /// The meanings of both.
    pub(super) fn join(self, other: Self) -> Self {
        let mut kinds = self.kinds;
        for (mine, theirs) in kinds.iter_mut().zip(other.kinds) {
            *mine = mine.or(theirs);
        }
        Self { kinds, settled: self.settled.or(other.settled), once: self.once || other.once }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Recogniser, *};

    #[test]
    fn short_stems_stand_at_the_start_of_a_word() {
        let wording = Recogniser::built_in().unwrap().wording;
        let says = |text: &str, concept: Concept| wording.hits(&words::fold(text)).any(|hit| hit.meaning.concept == concept);
        // Kurdish "erê", German "Team", English "new".
        assert!(!says("here", Concept::Confirm));
        assert!(says("erê", Concept::Confirm));
        assert!(!says("steam", Concept::Join));
        assert!(says("Ihr Team", Concept::Join));
        assert!(!says("knew", Concept::Renew));
        // Compounds, and scripts that write "the" and "and" into the word.
        assert!(says("Anmeldelink", Concept::Link));
        assert!(says("הקישור", Concept::Link));
        assert!(says("新しいリンク", Concept::Link));
    }

    #[test]
    fn signing_in_to_a_place_and_having_done_so() {
        let wording = Recogniser::built_in().unwrap().wording;
        for text in ["sign in to ", "[acme] log in to ", "anmelden bei "] {
            assert!(wording.is_about_signing_in(text).is_some(), "{text}");
        }
        for text in ["new sign-in to ", "your account at ", "ana wants to sign in to "] {
            assert!(wording.is_about_signing_in(text).is_none(), "{text}");
        }
    }
}
