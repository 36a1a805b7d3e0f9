//! DMARC: the policy of an author's domain, and whether a domain aligns with it (RFC 9989).
//!
//! Records are read strictly and found by the tree walk of section 4.10, at most eight names for each domain. By whatever
//! records, two names belong to one organisation only if one owner registered both by the public suffix list, and a registry's
//! record counts only with `psd=y`: otherwise it would make one organisation of all its customers.

use std::collections::HashMap;

use super::{
    proof::AuthResult,
    resolver::{Answer, Dns},
    tags::{self, Tags},
};
use crate::{limits, message::Domain};

/// Names that one tree walk looks up (RFC 9989 section 4.10).
const WALK: usize = 8;

/// The alignment mode (RFC 9989 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// `r`: the same organisational domain.
    Relaxed,
    /// `s`: the same domain.
    Strict,
}

/// `psd=`: whether the domain is a public suffix (RFC 9989 section 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suffix {
    Yes,
    No,
    Unknown,
}

/// The tags of a record that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    dkim: Mode,
    spf: Mode,
    suffix: Suffix,
}

/// The answer about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// No DMARC record, or several, which count as none (RFC 9989 section 4.10).
    Nothing,
    /// One record.
    Record(Record),
    /// One record, which is malformed.
    Malformed,
    /// No answer in time, or an error.
    Failed,
}

const KNOWN: &[&str] = &["v", "p", "sp", "np", "adkim", "aspf", "psd", "rua", "ruf", "fo", "ri", "rf", "pct", "t"];

/// Whether a text is meant as a DMARC record: it begins with the version, exactly (RFC 9989 section 4.7).
fn is_meant(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"v") else { return false };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"=") else { return false };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"DMARC1") else { return false };
    matches!(rest.trim_ascii_start().first(), None | Some(b';'))
}

fn found(answer: &Answer<Vec<u8>>) -> Found {
    let records = match answer {
        Answer::Records(records) => records,
        Answer::Nothing => return Found::Nothing,
        Answer::Failed => return Found::Failed,
    };
    let mut meant = records.iter().filter(|text| is_meant(text));
    match (meant.next(), meant.next()) {
        (Some(only), None) => read(only).map_or(Found::Malformed, Found::Record),
        _ => Found::Nothing,
    }
}

/// Reads a record. None where it is malformed, or has no valid policy.
fn read(text: &[u8]) -> Option<Record> {
    if text.len() > limits::DMARC_RECORD {
        return None;
    }
    let tags = Tags::read(text, KNOWN).ok()?;
    let is_policy = |word: &str| ["none", "quarantine", "reject"].iter().any(|known| word.eq_ignore_ascii_case(known));
    let right = tags.get("p").is_some_and(is_policy) && ["sp", "np"].iter().all(|name| tags.get(name).is_none_or(is_policy));
    // Without a valid policy, a record that asks for reports counts as p=none, and any other as no record (section 4.7).
    let reports =
        tags.get("rua").is_some_and(|list| list.split(',').any(|uri| tags::trim(uri).to_ascii_lowercase().starts_with("mailto:")));
    if !right && !reports {
        return None;
    }
    // A misspelt mode counts as the stricter one.
    let mode = |name: &str| match tags.get(name) {
        None => Mode::Relaxed,
        Some(word) if word.eq_ignore_ascii_case("r") => Mode::Relaxed,
        Some(_) => Mode::Strict,
    };
    let suffix = match tags.get("psd") {
        Some(word) if word.eq_ignore_ascii_case("y") => Suffix::Yes,
        Some(word) if word.eq_ignore_ascii_case("n") => Suffix::No,
        _ => Suffix::Unknown,
    };
    Some(Record { dkim: mode("adkim"), spf: mode("aspf"), suffix })
}

/// The names that are looked up for a domain, the longest first (RFC 9989 section 4.10).
fn walk(domain: &str) -> Vec<&str> {
    let labels = domain.split('.').count();
    let mut names = vec![domain];
    let mut rest = domain;
    for left in (1..labels).rev() {
        rest = rest.split_once('.').map_or("", |(_, parent)| parent);
        if left < WALK {
            names.push(rest);
        }
    }
    names.truncate(WALK);
    names
}

/// The answers of DNS about domains that were looked up.
#[derive(Debug, Default)]
pub(super) struct Policies {
    found: HashMap<String, Found>,
    texts: Vec<(String, Vec<u8>)>,
}

/// The policy that applies to an author's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// A record was found: DMARC passes or fails by it.
    Published {
        /// `adkim`: how DKIM must align (RFC 9989 section 4.4).
        dkim: Mode,
        /// `aspf`: how SPF must align (RFC 9989 section 4.4).
        spf: Mode,
    },
    /// No record applies; the result is `none`, `temperror` or `permerror`.
    Absent(AuthResult),
}

impl Policies {
    /// Looks up domains, all at one time; a name that was looked up is not looked up again.
    pub(super) async fn ask(&mut self, dns: &Dns, domains: &[&Domain]) {
        let mut names: Vec<&str> = domains.iter().flat_map(|domain| walk(domain.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        let names: Vec<String> =
            names.into_iter().filter(|name| !self.found.contains_key(*name)).map(|name| format!("_dmarc.{name}.")).collect();
        for (name, answer) in dns.texts_of(names).await {
            let what = found(&answer);
            let at = name.trim_start_matches("_dmarc.").trim_end_matches('.').to_owned();
            if let (Found::Record(_), Answer::Records(texts)) = (what, answer) {
                self.texts.extend(texts.into_iter().filter(|text| is_meant(text)).map(|text| (name.clone(), text)));
            }
            self.found.insert(at, what);
        }
    }

    /// The records that count, with their fully qualified names, to be handed to mail-auth.
    pub(super) fn texts(&self) -> &[(String, Vec<u8>)] {
        &self.texts
    }

    fn at(&self, name: &str) -> Found {
        self.found.get(name).copied().unwrap_or(Found::Failed)
    }

    /// The organisational domain of a domain (RFC 9989 section 4.10.2). None where a name within what was registered gave no
    /// answer: its record might change the result.
    fn organisation<'d>(&self, domain: &'d Domain) -> Option<&'d str> {
        let registered = domain.registered().unwrap_or(domain.as_str());
        let mut organisation = domain.as_str();
        for name in walk(domain.as_str()) {
            match self.at(name) {
                Found::Record(Record { suffix: Suffix::No, .. }) => return Some(name),
                Found::Record(Record { suffix: Suffix::Yes, .. }) if name != domain.as_str() => {
                    // The tree walk may have left out names: the one label below is taken from the domain itself.
                    let labels = name.split('.').count() + 1;
                    return Some(last_labels(domain.as_str(), labels));
                }
                Found::Record(_) if name.len() >= registered.len() => organisation = name,
                Found::Failed if name.len() >= registered.len() => return None,
                Found::Record(_) | Found::Nothing | Found::Malformed | Found::Failed => {}
            }
        }
        Some(organisation)
    }

    /// The policy for an author (RFC 9989 section 4.10.1): its own record, its organisation's, its registry's.
    pub(super) fn policy(&self, author: &Domain) -> Policy {
        let published = |record: Record| Policy::Published { dkim: record.dkim, spf: record.spf };
        match self.at(author.as_str()) {
            Found::Record(record) => return published(record),
            Found::Malformed => return Policy::Absent(AuthResult::PermError),
            Found::Failed => return Policy::Absent(AuthResult::TempError),
            Found::Nothing => {}
        }
        let Some(organisation) = self.organisation(author) else { return Policy::Absent(AuthResult::TempError) };
        let names = walk(author.as_str());
        let suffix = names.iter().copied().find(|name| matches!(self.at(name), Found::Record(Record { suffix: Suffix::Yes, .. })));
        for name in [Some(organisation), suffix].into_iter().flatten() {
            if let Found::Record(record) = self.at(name) {
                return published(record);
            }
        }
        let any = |what: Found| names.iter().any(|name| self.at(name) == what);
        Policy::Absent(if any(Found::Failed) {
            AuthResult::TempError
        } else if any(Found::Malformed) {
            AuthResult::PermError
        } else {
            AuthResult::None
        })
    }

    /// Whether a proven domain aligns with the author's (RFC 9989 section 4.4); both have been looked up.
    pub(super) fn aligns(&self, domain: &Domain, author: &Domain, mode: Mode) -> bool {
        if !domain.is_kin_of(author) {
            return false;
        }
        domain == author || (mode == Mode::Relaxed && self.organisation(domain).is_some_and(|one| self.organisation(author) == Some(one)))
    }
}

/// Reads what may be a record, for the fuzzer.
pub(super) fn read_anything(text: &[u8]) {
    let _ = is_meant(text) && read(text).is_some();
}

/// The last labels of a name.
fn last_labels(name: &str, count: usize) -> &str {
    let skip = name.split('.').count().saturating_sub(count);
    let mut rest = name;
    for _ in 0..skip {
        rest = rest.split_once('.').map_or(rest, |(_, parent)| parent);
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(texts: &[&str]) -> Answer<Vec<u8>> {
        Answer::Records(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
    }

    #[test]
    fn one_record_that_can_be_read() {
        let relaxed = Found::Record(Record { dkim: Mode::Relaxed, spf: Mode::Relaxed, suffix: Suffix::Unknown });
        let strict = Found::Record(Record { dkim: Mode::Strict, spf: Mode::Relaxed, suffix: Suffix::Unknown });
        for (texts, right) in [
            (&["v=DMARC1; p=reject"][..], relaxed),
            (&["v=DMARC1;p=none;"], relaxed),
            (&["v = DMARC1 ; p = Reject ; sp=none"], relaxed),
            (&["v=DMARC1; p=reject; adkim=r; unknown=x"], relaxed),
            (&["v=DMARC1; p=reject; adkim=s"], strict),
            (&["v=DMARC1; p=reject; adkim=x"], strict),
            (&["v=DMARC1; rua=mailto:a@b.test"], relaxed),
            (&["v=DMARC1; p=oops; rua=mailto:a@b.test"], relaxed),
            (&["a note", "v=DMARC1; p=reject"], relaxed),
            (&["v=DMARC1; p=reject", "v=DMARC1; p=reject"], Found::Nothing),
            (&["v=DMARC1; p=reject", "v=DMARC1"], Found::Nothing),
            (&["v=dmarc1; p=reject"], Found::Nothing),
            (&["v=DMARC12; p=reject"], Found::Nothing),
            (&[" v=DMARC1; p=reject"], Found::Nothing),
            (&["p=reject; v=DMARC1"], Found::Nothing),
            (&["v=DMARC1"], Found::Malformed),
            (&["v=DMARC1; p=oops"], Found::Malformed),
            (&["v=DMARC1; p=reject; sp=oops"], Found::Malformed),
            (&["v=DMARC1; p=reject; p=none"], Found::Malformed),
            (&["v=DMARC1; p=reject; P=none"], Found::Malformed),
            (&["v=DMARC1;; p=reject"], Found::Malformed),
            (&["v=DMARC1; p"], Found::Malformed),
        ] {
            assert_eq!(found(&answer(texts)), right, "{texts:?}");
        }
        assert_eq!(found(&Answer::Failed), Found::Failed);
    }

    #[test]
    fn at_most_eight_names() {
        assert_eq!(walk("a.bank.test"), ["a.bank.test", "bank.test", "test"]);
        assert_eq!(walk("test"), ["test"]);
        let long = "a.b.c.d.e.f.g.h.i.bank.test";
        assert_eq!(
            walk(long),
            [long, "e.f.g.h.i.bank.test", "f.g.h.i.bank.test", "g.h.i.bank.test", "h.i.bank.test", "i.bank.test", "bank.test", "test"]
        );
        assert_eq!(walk("b.c.d.e.f.g.bank.test").len(), 8);
    }

    /// A table of names and texts; every other name has none.
    fn policies(table: &[(&str, &[&str])], domains: &[&Domain]) -> Policies {
        let mut policies = Policies::default();
        for name in domains.iter().flat_map(|domain| walk(domain.as_str())) {
            let texts = table.iter().find(|(known, _)| *known == name).map(|(_, texts)| *texts);
            let answer = match texts {
                None => Answer::Nothing,
                Some(["silent"]) => Answer::Failed,
                Some(texts) => answer(texts),
            };
            policies.found.insert(name.to_owned(), found(&answer));
        }
        policies
    }

    #[test]
    fn who_belongs_to_whom() {
        const REJECT: &[&str] = &["v=DMARC1; p=reject"];
        const STRICT: &[&str] = &["v=DMARC1; p=reject; adkim=s"];
        const SUFFIX: &[&str] = &["v=DMARC1; p=reject; psd=y"];
        const OWN: &[&str] = &["v=DMARC1; p=reject; psd=n"];
        const TWO: &[&str] = &["v=DMARC1; p=reject", "v=DMARC1; p=none"];
        const SILENT: &[&str] = &["silent"];
        const ODD: &[&str] = &["v=DMARC1"];
        let pass = AuthResult::Pass;
        let fail = AuthResult::Fail;
        for (table, signer, author, right) in [
            (&[("bank.test", REJECT)][..], "bank.test", "bank.test", pass),
            (&[("bank.test", REJECT)], "bank.test", "mail.bank.test", pass),
            (&[("bank.test", REJECT)], "a.bank.test", "b.bank.test", pass),
            (&[("bank.test", STRICT)], "bank.test", "bank.test", pass),
            (&[("bank.test", STRICT)], "bank.test", "mail.bank.test", fail),
            (&[("mail.bank.test", REJECT)], "bank.test", "mail.bank.test", fail),
            (&[("bank.test", REJECT), ("mail.bank.test", OWN)], "bank.test", "mail.bank.test", fail),
            (&[("bank.test", REJECT), ("mail.bank.test", OWN)], "a.mail.bank.test", "mail.bank.test", pass),
            (&[("test", REJECT)], "attack.test", "bank.test", AuthResult::None),
            (&[("test", REJECT)], "bank.test", "bank.test", AuthResult::None),
            (&[("test", REJECT), ("bank.test", TWO)], "bank.test", "bank.test", AuthResult::None),
            (&[("test", SUFFIX)], "attack.test", "bank.test", fail),
            (&[("test", SUFFIX)], "bank.test", "mail.bank.test", pass),
            (&[("test", SUFFIX)], "bank.test", "bank.test", pass),
            (&[], "bank.test", "bank.test", AuthResult::None),
            (&[("bank.test", TWO)], "bank.test", "bank.test", AuthResult::None),
            (&[("bank.test", TWO)], "bank.test", "mail.bank.test", AuthResult::None),
            (&[("bank.test", REJECT), ("mail.bank.test", TWO)], "bank.test", "mail.bank.test", pass),
            (&[("bank.test", ODD)], "bank.test", "bank.test", AuthResult::PermError),
            (&[("bank.test", ODD)], "bank.test", "mail.bank.test", AuthResult::PermError),
            (&[("bank.test", SILENT)], "bank.test", "bank.test", AuthResult::TempError),
            (&[("bank.test", SILENT)], "bank.test", "mail.bank.test", AuthResult::TempError),
            (&[("bank.test", REJECT), ("test", SILENT)], "bank.test", "mail.bank.test", pass),
            (&[("mail.bank.test", REJECT), ("bank.test", SILENT)], "bank.test", "mail.bank.test", fail),
            (&[("co.uk", REJECT)], "evil.co.uk", "bank.co.uk", AuthResult::None),
            (&[("co.uk", SUFFIX)], "evil.co.uk", "bank.co.uk", fail),
        ] {
            let (signer, author) = (Domain::parse(signer).unwrap(), Domain::parse(author).unwrap());
            let policies = policies(table, &[&signer, &author]);
            let result = match policies.policy(&author) {
                Policy::Absent(result) => result,
                Policy::Published { dkim, .. } if policies.aligns(&signer, &author, dkim) => pass,
                Policy::Published { .. } => fail,
            };
            assert_eq!(result, right, "{table:?} {signer} {author}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in "[a-z.]{0,60}") {
            let _ = found(&Answer::Records(vec![bytes]));
            let _ = walk(&name);
        }
    }
}
