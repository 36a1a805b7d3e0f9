//! What the configuration fills blanks with, or which key is missing for it.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;

use super::{
    blank::Blank,
    hop,
    place::{Unwritable, escaped},
};
use crate::{
    allowlist::{Action, Entry},
    edit::token::Token,
    printable::printable,
    settings::{Settings, Tag},
};

/// The values of a blank, and what an admin must know about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// The values; one, where the blank is no list.
    pub texts: Vec<String>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// What every blank stands for; where there is nothing, the key that is missing, in a sentence.
#[derive(Clone, Debug, Default)]
pub struct Facts(BTreeMap<Blank, Result<Values, String>>);

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Tokens are shown.
    Shown,
    /// `TOKEN1` and so on stand in their place: what is shown goes to others.
    Named,
}

impl Facts {
    /// Facts from elsewhere, for tests.
    #[must_use]
    pub fn from_values(value: impl Fn(Blank) -> Vec<String>) -> Self {
        Self(Blank::WORDS.iter().map(|(_, blank)| (*blank, Ok(Values { texts: value(*blank), notes: Vec::new() }))).collect())
    }

    /// What a configuration says. `hops` is what the admin typed: no key holds the address that the scanner sees.
    #[must_use]
    pub fn of(settings: &Settings, hops: &[IpAddr], secrets: Secrets, now: Timestamp) -> Self {
        let tag = settings.tag.as_ref().ok_or_else(|| lacks("[tag]", "there is no tag that a rule could look for"));
        let tokens = tag.clone().and_then(|tag| tokens(tag, secrets));
        let entries: Vec<&Entry> = settings.allowlist.entries().iter().map(AsRef::as_ref).filter(|entry| tags(entry, now)).collect();
        let mut facts = BTreeMap::new();
        facts.insert(Blank::Hops, hop::addresses(hops));
        facts.insert(Blank::Hop, hop::addresses(hops).map(|all| Values { texts: all.texts.into_iter().take(1).collect(), ..all }));
        facts.insert(Blank::PublicIpv4, hop::public_ipv4(hops));
        facts.insert(Blank::Header, tag.map(|tag| one(tag.header.clone())));
        let roles = settings.tag.as_ref().map(roles).unwrap_or_default();
        facts.insert(Blank::Words, tokens.clone().and_then(|tokens| words(tokens, secrets, roles.clone())));
        facts.insert(Blank::TokenPattern, tokens.clone().and_then(|tokens| pattern(&tokens)));
        facts.insert(Blank::Tokens, tokens.map(|texts| Values { texts, notes: roles }));
        let hostname = settings.hostname().map(|name| one(name.to_owned()));
        facts.insert(Blank::Hostname, hostname.ok_or_else(|| lacks("smtp.hostname", "the hop has no name")));
        let arc = settings.arc.as_ref().map(|signer| one(signer.domain().to_owned()));
        facts.insert(Blank::ArcDomain, arc.ok_or_else(|| lacks("arc.domain", "nobody vouches for mails whose links were replaced")));
        let guard = settings.guard.as_ref().map(|guard| one(guard.guard_links.url.clone()));
        facts.insert(Blank::GuardUrl, guard.ok_or_else(|| lacks("guard.url", "there is no page that links could lead to")));
        facts.insert(Blank::LinkHosts, link_hosts(&entries));
        facts.insert(Blank::Expires, expires(&entries));
        facts.insert(Blank::Comment, Ok(one(comment(settings.hostname(), &entries))));
        Self(facts)
    }

    /// What a blank stands for, or why it stands for nothing.
    ///
    /// # Errors
    /// The key that is missing, in a sentence.
    pub fn get(&self, blank: Blank) -> Result<&Values, &str> {
        self.0.get(&blank).map_or(Err("nothing is known of it"), |found| found.as_ref().map_err(String::as_str))
    }
}

fn one(text: String) -> Values {
    Values { texts: vec![text], notes: Vec::new() }
}

fn lacks(key: &str, why: &str) -> String {
    format!("`{key}` is not in the configuration: {why}")
}

/// Whether the scanner must know of an entry: it tags, now or once its mode is enforce.
fn tags(entry: &Entry, now: Timestamp) -> bool {
    entry.actions.contains(&Action::Tag) && entry.expires.is_none_or(|end| end > now)
}

/// All tokens, the one that is written first; or the names in their place.
fn tokens(tag: &Tag, secrets: Secrets) -> Result<Vec<String>, String> {
    let all: Vec<&Token> = tag.tokens.iter().chain(&tag.staged).collect();
    if tag.tokens.is_empty() {
        return Err("the file of `tag.token_file` holds no token: `firstclick keygen --token --out FILE` writes one".into());
    }
    Ok(match secrets {
        Secrets::Shown => all.iter().map(|token| token.expose().to_owned()).collect(),
        Secrets::Named => (1..=all.len()).map(|number| format!("TOKEN{number}")).collect(),
    })
}

/// What the tokens are for, where there are several.
fn roles(tag: &Tag) -> Vec<String> {
    let older = tag.tokens.len().saturating_sub(1);
    let mut roles = Vec::new();
    if older > 0 {
        roles.push(format!(
            "of the tokens the first is what mails carry, and {older} behind it was carried before; `firstclick keygen --token --retire --out FILE` takes it out, and this is to be printed again"
        ));
    }
    if !tag.staged.is_empty() {
        roles.push(
            "the last of the tokens is staged, and no mail carries it: `firstclick keygen --token --activate --out FILE` once the scanner takes it".into(),
        );
    }
    roles
}

/// The tokens, where one at least is one word to Exchange. One that is not may have worked by luck while it is rotated away: it stays,
/// and that is said.
fn words(tokens: Vec<String>, secrets: Secrets, mut notes: Vec<String>) -> Result<Values, String> {
    // The names that stand for tokens say nothing about them.
    let is_word = |text: &&String| secrets == Secrets::Named || Token::parse(text).is_some_and(|token| token.is_one_word());
    let others = tokens.len() - tokens.iter().filter(is_word).count();
    let what = "Exchange compares whole words and no case, and may take a token with hyphens, underscores or capitals as several words; \
                `firstclick keygen --token --stage --out FILE` begins a rotation to one of lower-case letters and digits";
    if others == tokens.len() {
        return Err(format!("no token of `tag.token_file` is one word: {what}"));
    }
    if others > 0 {
        notes.push(format!("{others} of the tokens may never match: {what}"));
    }
    Ok(Values { texts: tokens, notes })
}

fn pattern(tokens: &[String]) -> Result<Values, String> {
    let escaped: Option<Vec<String>> = tokens.iter().map(|token| escaped(token)).collect();
    let escaped = escaped.ok_or_else(|| Unwritable::Text("a regular expression").to_string())?;
    Ok(one(match escaped.as_slice() {
        [token] => format!("^{token}$"),
        several => format!("^(?:{})$", several.join("|")),
    }))
}

/// The hosts of one-time links, for scanners that take a list of URLs.
fn link_hosts(entries: &[&Entry]) -> Result<Values, String> {
    let (mut texts, mut notes) = (Vec::new(), Vec::new());
    for (_, shape) in entries.iter().flat_map(|entry| entry.links.shapes()) {
        if shape.has_many_hosts() {
            let note = format!("hosts below {} are left out: write your own ones there", shape.host());
            notes.push(note);
        } else {
            texts.push(shape.host().to_string());
        }
    }
    texts.sort();
    texts.dedup();
    notes.sort();
    notes.dedup();
    if texts.is_empty() {
        return Err(format!(
            "no entry that tags names the host of a link: {}",
            notes.first().map_or("see `[links]` of entries", |note| note)
        ));
    }
    Ok(Values { texts, notes })
}

fn expires(entries: &[&Entry]) -> Result<Values, String> {
    let first = entries.iter().filter_map(|entry| Some((entry.expires?, &entry.name))).min();
    let (end, name) = first.ok_or("no entry that tags has `expires`, so the rule has no end either: give each entry one")?;
    let day = end.strftime("%Y-%m-%d").to_string();
    let note = format!("the entry {} is the first that ends; renew it before, and print this again", printable(name));
    Ok(Values { texts: vec![day], notes: vec![note] })
}

/// At most as many characters as a comment of a mail-flow rule may have (1,024), with room to spare.
const COMMENT: usize = 900;

fn comment(hostname: Option<&str>, entries: &[&Entry]) -> String {
    let mut text = format!("firstclick on {}; every exempted mail is in its audit", hostname.unwrap_or("a host without a name"));
    for entry in entries {
        let owner = entry.owner.as_ref().map(|owner| format!(", {owner}")).unwrap_or_default();
        let more = printable(&format!("; {}{owner}", entry.name));
        if text.chars().count() + more.chars().count() > COMMENT {
            text.push_str("; and more");
            break;
        }
        text.push_str(&more);
    }
    text
}
