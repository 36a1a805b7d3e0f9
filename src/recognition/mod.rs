//! Recognition: what a mail is by its words, and which of its links is the one-time link, whoever sent it.
//!
//! Words and weights are data (`config/recognition.toml`, `config/languages/`), compiled once into one automaton; a
//! mail is read once against it. Every signal that counted is named in the result, so that a person can follow it.

use std::{cell::LazyCell, fmt};

use aho_corasick::AhoCorasick;
use serde::Deserialize;

pub mod counters;
mod lexicon;
mod links;
mod quotes;
mod tokens;

pub use self::tokens::has_token;
use self::{
    lexicon::{Pairs, Said, Wording},
    links::{Group, Organisation, last_words},
    quotes::Quotes,
};
pub use crate::mail::Kind;
use crate::{
    mail::counted,
    message::{Content, Domain, FoundLink, words},
};

const WEIGHTS: &str = include_str!("../../config/recognition.toml");

/// The result of recognition.
#[derive(Clone, Debug, Default)]
pub struct Recognition {
    /// The kind; none where the mail carries no one-time link.
    pub kind: Option<Kind>,
    /// The confidence, 0 to 1; 0.5 is the threshold.
    pub confidence: f64,
    /// The signals that counted, for people; no part of a link but its plain words.
    pub signals: Vec<String>,
    /// Each place of the one-time link in each of its spellings (button and plain text, through a click counter and shown
    /// on it), as indices into [`Content::links`], ascending.
    pub one_time_links: Vec<usize>,
}

/// What a mail is by its words, found out once somebody asks.
pub trait Recognised: fmt::Debug {
    /// The result of recognition.
    fn recognition(&self) -> &Recognition;
}

impl Recognised for Recognition {
    fn recognition(&self) -> &Recognition {
        self
    }
}

impl<F: FnOnce() -> Recognition> Recognised for LazyCell<Recognition, F> {
    fn recognition(&self) -> &Recognition {
        self
    }
}

/// The compiled words and weights.
pub struct Recogniser {
    wording: Wording,
    weights: Weights,
    noise_labels: AhoCorasick,
    quotes: Quotes,
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
    account: f64,
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
    quotes: quotes::Marks,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paths {
    pub(super) password_reset: Vec<String>,
    pub(super) invite: Vec<String>,
    pub(super) email_verify: Vec<String>,
    pub(super) magic_link: Vec<String>,
    account: Vec<String>,
    register: Vec<String>,
    noise: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    noise: Vec<String>,
}

/// Why the built-in words could not be compiled: only a broken build can cause it.
#[derive(Debug, thiserror::Error)]
pub enum RecogniserError {
    /// A data file cannot be parsed; its name.
    #[error("built-in file {0}: {1}")]
    Data(String, toml::de::Error),
    /// The automaton is too large.
    #[error("built-in words: {0}")]
    Automaton(#[from] aho_corasick::BuildError),
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
    /// As for [`Self::built_in`].
    pub fn without(left_out: &[&str], path_words: &[&str]) -> Result<Self, RecogniserError> {
        let mut weights: Weights = toml::from_str(WEIGHTS).map_err(|error| RecogniserError::Data("recognition.toml".into(), error))?;
        let Paths { password_reset, invite, email_verify, magic_link, account, register, noise } = &mut weights.paths;
        for words in [password_reset, invite, email_verify, magic_link, account, register, noise] {
            words.retain(|word| !path_words.contains(&word.as_str()));
        }
        let wording = Wording::without(left_out, &weights.pairs, &weights.subject_pairs)?;
        let noise_labels = AhoCorasick::new(weights.labels.noise.iter().map(|label| words::fold(label)))?;
        let quotes = Quotes::new(&weights.quotes)?;
        Ok(Self { wording, weights, noise_labels, quotes })
    }

    /// Recognises a mail. `author` is the domain of its From address, where it is known. Linear in the text's octets.
    #[must_use]
    pub fn recognise(&self, content: &Content, author: Option<&Domain>) -> Recognition {
        let text = words::fold(&content.text);
        let unquoted = self.quotes.unquoted(&text);
        let groups = self.candidates(content, &text, unquoted, author);
        let at_link = |group: &Group| if group.words.token > 0 { self.at_link(group, content) } else { LabelSaid::default() };
        let labels: Vec<LabelSaid> = groups.iter().map(at_link).collect();
        // The text in front of "unsubscribe" is the end of what the mail said, and does not belong to that link.
        let is_speaking = |label: &LabelSaid, group: &Group| group.words.token > 0 && !group.noisy && label.at_all().says_any();
        let speaking: Vec<Said> =
            labels.iter().zip(&groups).filter(|(label, group)| is_speaking(label, group)).map(|(label, _)| label.at_all()).collect();
        let mail = MailSaid {
            subject: self.wording.said_in_subject(&content.subject),
            signs_in: self.signs_in(content, author),
            invites: self.wording.invites(&content.subject),
            text: self.wording.said(unquoted),
            with_token: groups.iter().filter(|group| !group.noisy && group.words.token > 0).count(),
            speaking: speaking.len(),
            // A mail that speaks of several kinds at several links writes about such mails.
            about: speaking.len() >= MANY || speaking.iter().any(|left| speaking.iter().any(|right| left.is_apart_from(right))),
            in_thread: is_thread(&content.subject),
            bulk: content.bulk,
        };
        let mut best: Option<(Score, Kind, &Group)> = None;
        for (group, label) in groups.iter().zip(&labels).filter(|(group, _)| group.words.token > 0) {
            for kind in Kind::RECOGNISED {
                let Some(score) = self.score(kind, group, label, &mail) else { continue };
                if best.as_ref().is_none_or(|(known, ..)| score.sum > known.sum) {
                    best = Some((score, kind, group));
                }
            }
        }
        let Some((score, kind, chosen)) = best else { return Recognition::default() };
        let confidence = 1.0 / (1.0 + (self.weights.threshold - score.sum).exp());
        let recognised = score.sum >= self.weights.threshold;
        Recognition {
            kind: recognised.then_some(kind),
            confidence: (confidence * 1_000.0).round() / 1_000.0,
            signals: score.signals,
            one_time_links: if recognised { spellings(kind, chosen, &groups, &labels, content) } else { Vec::new() },
        }
    }

    /// How much speaks for one link's being the one-time link of this kind; none where nothing does.
    fn score(&self, kind: Kind, group: &Group, label: &LabelSaid, mail: &MailSaid) -> Option<Score> {
        let MailSaid { subject, text, .. } = mail;
        // A counter hides the page behind it: the words at it must show the kind, or the subject where none stand on it.
        if group.opaque && label.at_all().kind(kind).is_none() && !(label.bare && subject.kind(kind).is_some()) {
            return None;
        }
        let mut score = Score::default();
        let w = &self.weights;
        if subject.settled.is_some() {
            score.add(w.settled, || "subject says that it is done".into());
        } else if let Some(language) = subject.kind(kind).or(mail.signs_in.filter(|_| kind == Kind::MagicLink && label.signs_in)) {
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
        } else if let Some(word) = group.word(&w.paths.register).filter(|_| kind == Kind::Invite && mail.invites) {
            score.add(w.purpose, || format!("the subject invites, and the link's path has {word:?}"));
        } else if let Some(word) = group.word(&w.paths.account) {
            score.add(w.account, || format!("the link's path has {word:?}"));
        }
        (score.sum > 0.0).then(|| self.weigh(score, group, mail))
    }

    /// What else speaks for a link or against it, whichever kind it is of.
    fn weigh(&self, mut score: Score, group: &Group, mail: &MailSaid) -> Score {
        let w = &self.weights;
        if mail.text.once {
            score.add(w.once, || "text says how long the link lives".into());
        }
        score.add(w.token, || {
            if group.opaque {
                "the link leads through a click counter".into()
            } else {
                format!("the link carries a token of {} characters", group.words.token)
            }
        });
        match group.organisation {
            Some(Organisation::Same) => score.add(w.same_organisation, || "the link leads to the author's organisation".into()),
            Some(Organisation::Other) => score.add(w.other_organisation, || "the link leads to another organisation".into()),
            None => {}
        }
        if mail.with_token == 1 && !group.noisy {
            score.add(w.only, || "no other link carries a token".into());
        }
        if mail.about {
            score.add(w.many, || format!("the words at {} say a kind", counted(mail.speaking, "link")));
        }
        if group.noisy {
            score.add(w.noise, || "the link or its words say something else".into());
        }
        if mail.in_thread {
            score.add(w.thread, || "the subject is a reply's or a ticket's".into());
        }
        if mail.bulk {
            score.add(w.bulk, || "the mail went through a list".into());
        }
        score
    }

    /// What the words at a link say. In front of a link that has words of its own the mail may speak of anything: "if this
    /// was not you, change your password" stands above many a "check activity".
    fn at_link(&self, group: &Group, content: &Content) -> LabelSaid {
        let said = |text: &str| self.wording.said(text);
        group.labels(content).fold(LabelSaid { bare: true, ..LabelSaid::default() }, |known, label| {
            let front = said(&label.front);
            let signs_in = label.is_bare() || self.wording.hints(&label.own) & Wording::SIGNS_IN != 0;
            let (own, front) = if label.is_bare() || self.wording.points(&label.own) {
                // "Use this link to confirm your address."
                (front.join(said(&label.after)), Said::default())
            } else {
                // "Sign in" below "use this link to sign in" means the same.
                front.split(self.wording.hints(&label.own))
            };
            LabelSaid {
                own: known.own.join(said(&label.own)).join(own),
                front: known.front.join(front),
                signs_in: known.signs_in || signs_in,
                bare: known.bare && label.is_bare(),
            }
        })
    }

    /// "Sign in to app.acme.example", and nothing else: the language of a subject that names a host of the author's or of
    /// the mail's links as the place to sign in to. "New sign-in to ..." tells of one that was.
    fn signs_in(&self, content: &Content, author: Option<&Domain>) -> Option<usize> {
        let subject = content.subject.as_str();
        let mut hosts = subject.split_whitespace().filter(|word| word.contains('.'));
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
        let domain = Domain::parse(host.trim_matches(['.', '!', '"', '\''])).ok()?;
        let is_known = author.is_some_and(|author| domain == *author || domain.is_kin_of(author))
            || content.links.iter().any(|found| found.link.host().is_some_and(|known| known == domain));
        let rest = subject.strip_suffix(host).or_else(|| subject.strip_prefix(host)).filter(|rest| rest.split_whitespace().count() <= 6)?;
        if is_known { self.wording.is_about_signing_in(rest) } else { None }
    }

    fn language(&self, number: usize) -> &str {
        self.wording.language(number)
    }

    /// The distinct links that could be one-time links, each with every place where it stands.
    fn candidates(&self, content: &Content, text: &str, unquoted: &str, author: Option<&Domain>) -> Vec<Group> {
        let mut groups = links::grouped(content, author);
        // What is quoted is somebody else's mail.
        let is_quoted = |at: &usize| content.links.get(*at).is_none_or(|found| quotes::is_quoted(found, text, unquoted));
        groups.retain(|group| !group.members.iter().all(is_quoted));
        for group in &mut groups {
            let noisy_label = |found: &FoundLink| {
                self.noise_labels.is_match(&words::fold(&found.label))
                    || self.noise_labels.is_match(&words::fold(last_words(&found.before, 24)))
            };
            // A label that belongs to another link does not make this one noisy: all places must say so.
            let noisy_everywhere = group.members.iter().filter_map(|at| content.links.get(*at)).all(noisy_label);
            group.noisy = noisy_everywhere || group.piece(&self.weights.paths.noise).is_some();
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
/// The words at a link, by their meaning.
#[derive(Clone, Copy, Default)]
struct LabelSaid {
    /// On it, or in front of it where it has no words of its own.
    own: Said,
    /// The words in front of it.
    front: Said,
    /// Whether it means to sign in, or has no meaning.
    signs_in: bool,
    /// Whether no words stand on it in any place.
    bare: bool,
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

/// The words of a mail as a whole, by their meaning, beside those at each link.
#[expect(clippy::struct_excessive_bools, reason = "each is a signal that is there or not")]
struct MailSaid {
    subject: Said,
    /// The language in which the subject names the sender's service alone, as sign-in mails do.
    signs_in: Option<usize>,
    invites: bool,
    text: Said,
    /// Links with a token that no word calls something else.
    with_token: usize,
    /// Links whose words say a kind.
    speaking: usize,
    about: bool,
    in_thread: bool,
    bulk: bool,
}

/// The chosen link in all its spellings, as indices into the content's links: a counter in another part whose words say the same is
/// the same link.
fn spellings(kind: Kind, chosen: &Group, groups: &[Group], labels: &[LabelSaid], content: &Content) -> Vec<usize> {
    let mut members = chosen.members.clone();
    let part_of = |at: &usize| content.links.get(*at).map(|found| found.part);
    for (group, _) in groups.iter().zip(labels).filter(|(group, label)| !group.noisy && label.own.kind(kind).is_some()) {
        let elsewhere = |at: &usize| !chosen.members.iter().any(|known| part_of(known) == part_of(at));
        if (group.is_wordless() || chosen.is_wordless()) && group.members.iter().all(elsewhere) {
            members.extend(&group.members);
        }
    }
    members.sort_unstable();
    members
}
