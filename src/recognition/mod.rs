//! What a mail is, and which of its links is the one-time one, whoever sent it.
//!
//! Words and weights are data (`config/recognition.toml`, `config/languages/`), compiled once into one automaton; a
//! mail is read once against it. Every signal that counted is named in the result, so that a person can follow it.

use aho_corasick::AhoCorasick;
use serde::Deserialize;

mod lexicon;
mod links;
mod tokens;

use self::{
    lexicon::{Pairs, Said, Wording},
    links::{Group, Organisation, last_words},
};
use crate::message::{Content, Domain, FoundLink, words};

const WEIGHTS: &str = include_str!("../../config/recognition.toml");

/// What a mail asks its reader to do with its one-time link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Choose a new password, or unlock the account.
    PasswordReset,
    /// Set the first password, or join.
    Invite,
    /// Confirm an address or activate an account.
    EmailVerify,
    /// Sign in.
    MagicLink,
    /// Whatever else a visit carries out: approve, decline, vote, unsubscribe.
    Action,
}

impl Kind {
    /// Every kind, in the order in which ties are broken.
    pub const ALL: [Self; 5] = [Self::PasswordReset, Self::Invite, Self::EmailVerify, Self::MagicLink, Self::Action];

    /// Those that words can tell.
    pub const RECOGNISED: [Self; 4] = [Self::PasswordReset, Self::Invite, Self::EmailVerify, Self::MagicLink];

    /// The name in configuration, audit and `explain`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::PasswordReset => "password_reset",
            Self::Invite => "invite",
            Self::EmailVerify => "email_verify",
            Self::MagicLink => "magic_link",
            Self::Action => "action",
        }
    }
}

/// What recognition found.
#[derive(Clone, Debug, Default)]
pub struct Recognition {
    /// The kind; none where the mail carries no one-time link.
    pub kind: Option<Kind>,
    /// 0 to 1; 0.5 is the threshold.
    pub confidence: f64,
    /// The signals that counted, for people; no part of a link but its plain words.
    pub signals: Vec<String>,
    /// Each link of the mail that is the one-time link, as indices into [`Content::links`].
    pub one_time_links: Vec<usize>,
}

/// The compiled words and weights.
pub struct Recogniser {
    wording: Wording,
    weights: Weights,
    noise_labels: AhoCorasick,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weights {
    threshold: f64,
    subject: f64,
    text: f64,
    label: f64,
    front: f64,
    settled: f64,
    settled_text: f64,
    once: f64,
    token: f64,
    purpose: f64,
    sign_in: f64,
    same_organisation: f64,
    other_organisation: f64,
    noise: f64,
    only: f64,
    many: f64,
    bulk: f64,
    thread: f64,
    pairs: Pairs,
    subject_pairs: Pairs,
    paths: Paths,
    labels: Labels,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paths {
    pub(super) password_reset: Vec<String>,
    pub(super) invite: Vec<String>,
    pub(super) email_verify: Vec<String>,
    pub(super) magic_link: Vec<String>,
    sign_in: Vec<String>,
    noise: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    noise: Vec<String>,
}

/// Why the built-in words could not be compiled. Only a broken build can cause it.
#[derive(Debug, thiserror::Error)]
pub enum RecogniserError {
    /// A data file does not parse.
    #[error("built-in file {0}: {1}")]
    Data(String, toml::de::Error),
    /// The automaton is too large.
    #[error("built-in words: {0}")]
    Automaton(#[from] aho_corasick::BuildError),
}

/// stub
#[must_use]
pub fn has_token(link: &crate::message::Link) -> bool {
    tokens::token(link) > 0
}

impl Recogniser {
    /// Compiles the words that came with the program. Takes some milliseconds; do it once.
    ///
    /// # Errors
    /// Only where the program was built from broken data.
    pub fn built_in() -> Result<Self, RecogniserError> {
        Self::without(&[], &[])
    }

    /// The same without the words of some languages (the names of their files), in whichever file they stand, and without
    /// some path words, to find out how well it does on what it was not made for.
    ///
    /// # Errors
    /// As [`Self::built_in`].
    pub fn without(left_out: &[&str], path_words: &[&str]) -> Result<Self, RecogniserError> {
        let mut weights: Weights = toml::from_str(WEIGHTS).map_err(|error| RecogniserError::Data("recognition.toml".into(), error))?;
        let Paths { password_reset, invite, email_verify, magic_link, sign_in, noise } = &mut weights.paths;
        for words in [password_reset, invite, email_verify, magic_link, sign_in, noise] {
            words.retain(|word| !path_words.contains(&word.as_str()));
        }
        let wording = Wording::without(left_out, &weights.pairs, &weights.subject_pairs)?;
        let noise_labels = AhoCorasick::new(weights.labels.noise.iter().map(|label| words::fold(label)))?;
        Ok(Self { wording, weights, noise_labels })
    }

    /// Decides what a mail is. `author` is the domain of its From address, where it is known.
    #[must_use]
    pub fn recognise(&self, content: &Content, author: Option<&Domain>) -> Recognition {
        let groups = self.candidates(content, author);
        let subject = self.wording.said_in_subject(&content.subject);
        let text = self.wording.said(&content.text);
        let with_token = groups.iter().filter(|group| !group.noisy && group.token > 0).count();
        let at_link = |group: &Group| if group.token > 0 { self.at_link(group, content) } else { LabelSaid::default() };
        let labels: Vec<LabelSaid> = groups.iter().map(at_link).collect();
        // What stands in front of "unsubscribe" is the end of what the mail said, and says nothing of that link.
        let is_speaking = |label: &LabelSaid, group: &Group| group.token > 0 && !group.noisy && label.at_all().says_any();
        let speaking: Vec<Said> =
            labels.iter().zip(&groups).filter(|(label, group)| is_speaking(label, group)).map(|(label, _)| label.at_all()).collect();
        // A mail that speaks of several kinds at several links writes about such mails.
        let about = speaking.len() >= MANY || speaking.iter().any(|left| speaking.iter().any(|right| left.is_apart_from(right)));
        let in_thread = is_thread(&content.subject);
        let mut best: Option<(f64, Kind, Vec<String>, Vec<usize>)> = None;
        for (group, label) in groups.iter().zip(&labels).filter(|(group, _)| group.token > 0) {
            for kind in Kind::RECOGNISED {
                let mut score = Score::default();
                let w = &self.weights;
                if subject.settled.is_some() {
                    score.add(w.settled, || "subject says that it is done".into());
                } else if let Some(language) = subject.kind(kind) {
                    score.add(w.subject, || format!("subject says {} ({})", kind.code(), self.language(language)));
                }
                if let Some(language) = text.kind(kind) {
                    score.add(w.text, || format!("text says {} ({})", kind.code(), self.language(language)));
                }
                if let Some(language) = label.own.kind(kind) {
                    score.add(w.label, || format!("the words at the link say {} ({})", kind.code(), self.language(language)));
                } else if let Some(language) = label.front.kind(kind) {
                    score.add(w.front, || format!("the words before the link say {} ({})", kind.code(), self.language(language)));
                }
                if text.settled.is_some() {
                    score.add(w.settled_text, || "text says that it is done".into());
                }
                if let Some(word) = group.purpose(kind, &w.paths) {
                    score.add(w.purpose, || format!("the link's path has {word:?}"));
                } else if let Some(word) = group.word(&w.paths.sign_in) {
                    score.add(w.sign_in, || format!("the link's path has {word:?}"));
                }
                if score.sum <= 0.0 {
                    continue;
                }
                if text.once {
                    score.add(w.once, || "text says how long the link lives".into());
                }
                score.add(w.token, || format!("the link carries a token of {} characters", group.token));
                match group.organisation {
                    Some(Organisation::Same) => score.add(w.same_organisation, || "the link leads to the author's organisation".into()),
                    Some(Organisation::Other) => score.add(w.other_organisation, || "the link leads to another organisation".into()),
                    None => {}
                }
                if with_token == 1 && !group.noisy {
                    score.add(w.only, || "no other link carries a token".into());
                }
                if about {
                    score.add(w.many, || format!("the words at {} links say a kind", speaking.len()));
                }
                if group.noisy {
                    score.add(w.noise, || "the link or its words say something else".into());
                }
                if in_thread {
                    score.add(w.thread, || "the subject is a reply's or a ticket's".into());
                }
                if content.bulk {
                    score.add(w.bulk, || "the mail went through a list".into());
                }
                if best.as_ref().is_none_or(|(sum, ..)| score.sum > *sum) {
                    best = Some((score.sum, kind, score.signals, group.members.clone()));
                }
            }
        }
        let Some((sum, kind, signals, members)) = best else { return Recognition::default() };
        let confidence = 1.0 / (1.0 + (self.weights.threshold - sum).exp());
        let recognised = sum >= self.weights.threshold;
        Recognition {
            kind: recognised.then_some(kind),
            confidence: (confidence * 1_000.0).round() / 1_000.0,
            signals,
            one_time_links: if recognised { members } else { Vec::new() },
        }
    }

    /// What the words at a link say. In front of a link that has words of its own the mail may speak of anything: "if this
    /// was not you, change your password" stands above many a "check activity".
    fn at_link(&self, group: &Group, content: &Content) -> LabelSaid {
        let said = |text: &str| self.wording.said(text);
        group.labels(content).fold(LabelSaid::default(), |known, label| {
            let front = said(&label.front);
            let (own, front) = if label.is_bare() || self.wording.points(&label.own) {
                (front, Said::default())
            } else {
                // "Sign in" below "use this link to sign in" says the same.
                front.split(self.wording.hints(&label.own))
            };
            LabelSaid { own: known.own.join(said(&label.own)).join(own), front: known.front.join(front) }
        })
    }

    fn language(&self, number: usize) -> &str {
        self.wording.language(number)
    }

    /// The distinct links that could be one-time links, each with every place where it stands.
    fn candidates(&self, content: &Content, author: Option<&Domain>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (at, found) in content.links.iter().enumerate() {
            let known = groups.iter_mut().find(|group| {
                group
                    .members
                    .first()
                    .and_then(|first| content.links.get(*first))
                    .is_some_and(|first| first.link.expose() == found.link.expose())
            });
            match known {
                Some(group) => group.members.push(at),
                None => groups.push(Group::new(at, &found.link, author)),
            }
        }
        for group in &mut groups {
            let noisy_label = |found: &FoundLink| {
                self.noise_labels.is_match(&words::fold(&found.label))
                    || self.noise_labels.is_match(&words::fold(last_words(&found.before, 24)))
            };
            // A label that belongs to another link does not make this one noisy: all places must say so.
            let noisy_everywhere = group.members.iter().filter_map(|at| content.links.get(*at)).all(noisy_label);
            group.noisy = noisy_everywhere || group.word(&self.weights.paths.noise).is_some();
        }
        groups
    }
}

/// Whether a folded subject belongs to a thread: `re: …`, `[#48213] …`, `(ops-118) …`, `… !77: …`.
fn is_thread(subject: &str) -> bool {
    let reply = ["re:", "aw:", "fw:", "fwd:", "tr:", "rv:", "sv:", "vs:", "wg:", "回复:", "答复:", "转发:", "odp:", "отв:"];
    let number = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let numbered = |word: &str| {
        let bare = word.trim_start_matches(['[', '(']);
        let key = bare.len() < word.len()
            && bare.split_once('-').is_some_and(|(project, rest)| {
                (2..=10).contains(&project.len())
                    && project.bytes().all(|byte| byte.is_ascii_lowercase())
                    && number(rest) >= 1
                    && number(rest) <= 6
            });
        let sign =
            bare.strip_prefix('#').is_some_and(|rest| number(rest) >= 2) || bare.strip_prefix('!').is_some_and(|rest| number(rest) >= 1);
        key || sign
    };
    reply.iter().any(|mark| subject.trim_start().starts_with(mark)) || subject.split_whitespace().any(numbered)
}

/// Links whose words say a kind from which on a mail only writes about such mails.
const MANY: usize = 3;
/// What is said at a link.
#[derive(Clone, Copy, Default)]
struct LabelSaid {
    /// On it, or in front of it where it has no words of its own.
    own: Said,
    /// In front of it.
    front: Said,
}

impl LabelSaid {
    fn at_all(self) -> Said {
        self.own.join(self.front)
    }
}

#[derive(Default)]
struct Score {
    sum: f64,
    signals: Vec<String>,
}

impl Score {
    fn add(&mut self, weight: f64, signal: impl FnOnce() -> String) {
        self.sum += weight;
        self.signals.push(signal());
    }
}
