//! What there is to say, and to whom: what concerns an entry to its owner, all else to the operator.
//!
//! Pure. A digest is made where something is new: an end that comes nearer, a near miss, something that stands in the way. It then
//! shows the rest, too.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use lettre::{Address, message::Mailbox};

use super::{
    key,
    near_misses::NearMisses,
    text::{defanged, plain, wrapped},
};
use crate::{limits, mail::counted};

/// What is known when a digest is made.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The entries of the allowlist.
    pub entries: Vec<EntryFact>,
    /// The certificates that the hop shows.
    pub certificates: Vec<CertificateFact>,
    /// What stands in the way of the service now.
    pub conditions: Vec<Condition>,
    /// What was lost since the start.
    pub losses: Losses,
    /// The operator.
    pub operators: Vec<Address>,
}

/// An entry of the allowlist.
#[derive(Clone, Debug)]
pub struct EntryFact {
    /// Its name.
    pub name: String,
    /// Who answers for it, as the admin wrote it.
    pub owner: Option<String>,
    /// From when on it no longer counts, and the last day on which it does.
    pub end: Option<(Timestamp, String)>,
}

/// A certificate of the hop's own.
#[derive(Clone, Debug)]
pub struct CertificateFact {
    /// The key of firstclick.toml that names its file.
    pub key: String,
    /// When it ends, or why that cannot be told.
    pub end: Result<Timestamp, String>,
}

/// Something that stands in the way of the service.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What it is about, in a word.
    pub word: String,
    /// Since when; none where that is not known.
    pub since: Option<Timestamp>,
    /// What is wrong.
    pub sentence: String,
    /// Whose words the sentence may hold.
    pub whose: Whose,
}

/// Whose words a sentence holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The admin's and the program's.
    Own,
    /// Those of other servers, too.
    Strangers,
}

/// What the service lost since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Exemptions that were withheld because they could not be put on record.
    pub withheld: u64,
    /// Records that could not be written.
    pub records: u64,
}

/// What one reader was told before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// When his last digest was sent; none where he had none.
    pub last: Option<Timestamp>,
    /// The losses of which he knows.
    pub losses: Losses,
}

/// What one reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Who is told.
    pub to: Address,
    /// What it is about, in a few words.
    pub subject: String,
    /// The lines of it.
    pub lines: Vec<String>,
}

/// One reader, and which entries are his.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The address.
    pub address: Address,
    /// The places of his entries in [`Facts::entries`].
    pub entries: Vec<usize>,
    /// Whether he hears of what has no owner.
    pub role: Role,
}

/// What a reader hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of entries that are his.
    Owner,
    /// Of everything that has no owner, too.
    Operator,
}

/// The address of an owner, where he is one: `hr@corp.example` or `HR <hr@corp.example>`.
fn address(owner: &str) -> Option<Address> {
    owner.trim().parse::<Mailbox>().ok().map(|mailbox| mailbox.email)
}

impl Facts {
    /// Everybody who may have to be told something.
    #[must_use]
    pub fn readers(&self) -> Vec<Reader> {
        let mut readers: BTreeMap<String, Reader> = BTreeMap::new();
        for operator in &self.operators {
            readers.insert(key(operator), Reader { address: operator.clone(), entries: Vec::new(), role: Role::Operator });
        }
        let mut nobodys = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            match entry.owner.as_deref().and_then(address) {
                None => nobodys.push(at),
                Some(owner) => {
                    let new = || Reader { address: owner.clone(), entries: Vec::new(), role: Role::Owner };
                    readers.entry(key(&owner)).or_insert_with(new).entries.push(at);
                }
            }
        }
        for reader in readers.values_mut().filter(|reader| reader.role == Role::Operator) {
            reader.entries.extend(&nobodys);
        }
        readers.into_values().collect()
    }

    /// The names of a reader's entries.
    #[must_use]
    pub fn names(&self, reader: &Reader) -> Vec<String> {
        self.of(reader).map(|entry| entry.name.clone()).collect()
    }

    fn of<'s>(&'s self, reader: &'s Reader) -> impl Iterator<Item = &'s EntryFact> + 's {
        reader.entries.iter().filter_map(|at| self.entries.get(*at))
    }

    /// What a reader is told; none where nothing is new to him.
    #[must_use]
    pub fn digest(&self, reader: &Reader, missed: &NearMisses, told: Told, now: Timestamp, zone: &TimeZone) -> Option<Digest> {
        let mut draft = Draft { news: News::None, lines: Vec::new(), subject: Vec::new() };
        self.entries_that_end(reader, told, now, &mut draft);
        draft.near_misses(missed, told, zone);
        if reader.role == Role::Operator {
            self.certificates_that_end(told, now, &mut draft);
            self.conditions(told, zone, &mut draft);
        }
        (draft.news == News::Some).then(|| Digest {
            to: reader.address.clone(),
            subject: format!("firstclick: {}", draft.subject.join(", ")),
            lines: draft.lines,
        })
    }

    fn entries_that_end(&self, reader: &Reader, told: Told, now: Timestamp, draft: &mut Draft) {
        let mut ends: Vec<(i64, &EntryFact, &str)> = Vec::new();
        for entry in self.of(reader) {
            let Some((end, day)) = &entry.end else { continue };
            let days = days_until(*end, now);
            if days.abs() <= SOON {
                draft.news_if(is_news(*end, told.last, now));
                ends.push((days, entry, day));
            }
        }
        ends.sort_by_key(|(days, entry, _)| (*days, entry.name.clone()));
        draft.section("Entries that end", &count(ends.len(), "entry ends", "entries end"), ends.len());
        for (days, entry, day) in ends.iter().take(limits::DIGEST_SHOWN) {
            let name = plain(&entry.name);
            let says = if *days < 0 {
                format!(
                    "{name} ended on {day} and exempts nothing any more: scanners open its links again. Renew `expires`, or take its file out."
                )
            } else {
                format!("{name} ends on {day}, {}. Renew `expires`, or let it go: scanners open its links from then on.", in_days(*days))
            };
            draft.item(&says);
        }
        draft.rest(ends.len());
    }

    fn certificates_that_end(&self, told: Told, now: Timestamp, draft: &mut Draft) {
        let mut said = Vec::new();
        for certificate in &self.certificates {
            match &certificate.end {
                Err(what) => {
                    draft.news_if(News::Some);
                    said.push(format!("{}: {}", certificate.key, plain(what)));
                }
                Ok(end) => {
                    let days = days_until(*end, now);
                    if days > SOON {
                        continue;
                    }
                    let day = end.strftime("%Y-%m-%d");
                    // One that has ended stays in use, and so it is said every day.
                    draft.news_if(if days < 0 { News::Some } else { is_news(*end, told.last, now) });
                    let when = if days < 0 { format!("ended on {day}") } else { format!("ends on {day}, {}", in_days(days)) };
                    said.push(format!("{}: the certificate {when}; renew it, a new file takes effect by itself.", certificate.key));
                }
            }
        }
        draft.section("Certificates that end", &count(said.len(), "certificate ends", "certificates end"), said.len());
        for says in &said {
            draft.item(says);
        }
    }

    fn conditions(&self, told: Told, zone: &TimeZone, draft: &mut Draft) {
        let mut said: Vec<String> = Vec::new();
        for Condition { word, since, sentence, whose } in &self.conditions {
            let since = since.map_or_else(String::new, |since| format!(" since {}", local(since, zone)));
            let sentence: String = sentence.chars().map(|letter| if letter == '\n' { ' ' } else { letter }).take(SENTENCE).collect();
            let sentence = if *whose == Whose::Own { plain(&sentence) } else { defanged(&sentence, "") };
            said.push(format!("{word}{since}: {sentence}"));
        }
        let Losses { withheld, records } = self.losses;
        if self.losses != told.losses && self.losses != Losses::default() {
            let says = format!(
                "Since the start: exemptions withheld because they could not be put on record, {withheld}; records of other mails lost, {records}. The log says why."
            );
            said.push(says);
        }
        if !said.is_empty() {
            draft.news_if(News::Some);
        }
        draft.section("What stands in the way", &count(said.len(), "thing in the way", "things in the way"), said.len());
        for says in said.iter().take(limits::DIGEST_SHOWN) {
            draft.item(says);
        }
        draft.rest(said.len());
    }
}

/// Days before its end from which on something is shown, and after its end for which an entry is.
const SOON: i64 = 30;

/// Days before an end on which it is news again; -1: it has ended.
const STEPS: [i64; 8] = [30, 14, 7, 3, 2, 1, 0, -1];

/// Whole days until a time; negative once it is past.
fn days_until(end: Timestamp, now: Timestamp) -> i64 {
    (end.as_second() - now.as_second()).div_euclid(24 * 3_600)
}

fn is_news(end: Timestamp, last: Option<Timestamp>, now: Timestamp) -> News {
    let Some(last) = last else { return News::Some };
    let (days, before) = (days_until(end, now), days_until(end, last));
    if STEPS.iter().any(|step| days <= *step && before > *step) { News::Some } else { News::None }
}

/// Characters of a condition's sentence: the first mistake of a list is in them.
const SENTENCE: usize = 600;

fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

fn in_days(days: i64) -> String {
    match days {
        0 => "within a day".to_owned(),
        _ => format!("in {}", counted(usize::try_from(days).unwrap_or_default(), "day")),
    }
}

/// A count with a noun and its verb.
fn count(how_many: usize, one: &str, several: &str) -> String {
    if how_many == 1 { format!("1 {one}") } else { format!("{how_many} {several}") }
}

/// Whether there is anything that its reader was not told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    None,
    Some,
}

/// A digest while it is made.
struct Draft {
    news: News,
    lines: Vec<String>,
    subject: Vec<String>,
}

impl Draft {
    fn news_if(&mut self, news: News) {
        if news == News::Some {
            self.news = News::Some;
        }
    }

    /// Begins a section of so many things, where there are any.
    fn section(&mut self, title: &str, subject: &str, things: usize) {
        if things > 0 {
            self.subject.push(subject.to_owned());
            self.lines.extend([String::new(), title.to_owned(), "-".repeat(title.chars().count())]);
        }
    }

    fn item(&mut self, says: &str) {
        self.lines.extend(wrapped("- ", "  ", says));
    }

    /// Says how many things are not shown.
    fn rest(&mut self, things: usize) {
        if things > limits::DIGEST_SHOWN {
            self.item(&format!("and {} more", things - limits::DIGEST_SHOWN));
        }
    }

    fn near_misses(&mut self, missed: &NearMisses, told: Told, zone: &TimeZone) {
        let all = missed.count();
        if all == 0 {
            return;
        }
        self.news = News::Some;
        let title = told.last.map_or_else(|| "Near misses".to_owned(), |last| format!("Near misses since {}", local(last, zone)));
        let subject = counted(usize::try_from(all).unwrap_or(usize::MAX), "near miss");
        self.section(&title, &subject, 1);
        let says =
            "Mails that their sender proved and that no exemption was made for, by one thing. A reader may have found the link used up.";
        self.lines.extend(wrapped("", "", says));
        let rows = missed.entries.iter().flat_map(|(entry, checks)| checks.iter().map(move |(check, missed)| (entry, check, missed)));
        let things = rows.clone().count();
        for (entry, check, missed) in rows.take(limits::DIGEST_SHOWN) {
            let (entry, check, newest) = (plain(entry), plain(check), local(missed.newest, zone));
            let mails = counted(usize::try_from(missed.count).unwrap_or(usize::MAX), "mail");
            self.item(&format!("{entry}, {check}: {mails}, the newest {newest}"));
            let whole = format!(" the whole of it: `firstclick audit find --entry {entry} --decision near_miss`");
            self.lines.extend(wrapped("    ", "    ", &defanged(&missed.detail, &whole)));
        }
        self.rest(things);
        let says = "List a link only if it is the sender's own: a stranger's link in a genuine mail is a near miss, too. Hosts and addresses are written so that no program makes links of them: evil[.]example.";
        self.lines.push(String::new());
        self.lines.extend(wrapped("", "", says));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::digest::near_misses::Missed;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry(name: &str, owner: Option<&str>, end: Option<&str>) -> EntryFact {
        let end = end.map(|day| (time(&format!("{day}T00:00:00Z")), day.to_owned()));
        EntryFact { name: name.into(), owner: owner.map(str::to_owned), end }
    }

    fn facts(entries: Vec<EntryFact>) -> Facts {
        Facts { entries, operators: vec!["ops@corp.example".parse().unwrap()], ..Facts::default() }
    }

    /// What each reader is told: address, subject and text.
    fn told(facts: &Facts, missed: &NearMisses, last: Option<&str>, now: &str) -> Vec<(String, String, String)> {
        let told = Told { last: last.map(time), losses: Losses::default() };
        let digest = |reader: &Reader| facts.digest(reader, missed, told, time(now), &TimeZone::UTC);
        let digests = facts.readers().iter().filter_map(digest).collect::<Vec<_>>();
        digests.into_iter().map(|digest| (digest.to.to_string(), digest.subject, digest.lines.join("\n"))).collect()
    }

    #[test]
    fn owners_hear_of_their_entries_and_the_operator_of_all_others() {
        let facts = facts(vec![
            entry("hr", Some("HR <HR@corp.example>"), Some("2026-12-01")),
            entry("hr-too", Some("hr@corp.example"), Some("2026-11-20")),
            entry("nobodys", None, Some("2026-11-26")),
            entry("team", Some("the HR team"), Some("2026-12-24")),
            entry("header", Some("a@corp.example\r\nBcc: b@evil.example"), Some("2026-12-24")),
            entry("far", Some("far@corp.example"), Some("2027-12-01")),
            entry("mine", Some("ops@corp.example"), Some("2026-12-01")),
        ]);
        let said = told(&facts, &NearMisses::default(), None, "2026-11-25T07:00:00Z");
        let to: Vec<&str> = said.iter().map(|(to, ..)| to.as_str()).collect();
        assert_eq!(to, ["HR@corp.example", "ops@corp.example"], "{said:?}");
        assert_eq!(said[0].1, "firstclick: 2 entries end");
        assert!(
            said[0].2.contains("hr-too ended on 2026-11-20") && said[0].2.contains("hr ends on 2026-12-01, in 5 days"),
            "{}",
            said[0].2
        );
        for name in ["nobodys ends on 2026-11-26, within a day", "team ends", "header ends", "mine ends"] {
            assert!(said[1].2.contains(name), "{name}: {}", said[1].2);
        }
    }

    #[test]
    fn an_end_is_news_now_and_then_and_not_every_day() {
        let facts = facts(vec![entry("hr", None, Some("2026-12-31"))]);
        let news = |last: &str, now: &str| !told(&facts, &NearMisses::default(), Some(last), now).is_empty();
        let days: Vec<i64> = (1..=30_i64)
            .filter(|day| news(&format!("2026-12-{day:02}T07:00:00Z"), &format!("2026-12-{:02}T07:00:00Z", day + 1)))
            .map(|day| 31 - (day + 1) - 1)
            .collect();
        assert_eq!(days, [14, 7, 3, 2, 1, 0, -1], "whole days that were left when it was told");
        assert!(news("2026-11-29T07:00:00Z", "2026-11-30T07:00:00Z"), "30 days");
        assert!(!news("2026-12-31T07:00:00Z", "2027-01-01T07:00:00Z"));
    }

    #[test]
    fn a_near_miss_says_what_would_help_and_nothing_in_it_is_a_link() {
        let missed = Missed {
            count: 3,
            newest: time("2026-11-25T06:12:00Z"),
            detail: "https://evil.example/<b>x</b>\u{202e} leads elsewhere\r\nBcc: x@y.example; write other_links = [\"evil.example/a\"]"
                .into(),
        };
        let checks = BTreeMap::from([("other_links".to_owned(), missed)]);
        let missed = NearMisses { entries: BTreeMap::from([("hr".to_owned(), checks)]) };
        let facts = facts(vec![entry("hr", None, None)]);
        let said = told(&facts, &missed, Some("2026-11-24T07:00:00Z"), "2026-11-25T07:00:00Z");
        let (_, subject, text) = &said[0];
        assert_eq!(subject, "firstclick: 3 near misses");
        assert!(
            text.contains("Near misses since 2026-11-24 07:00") && text.contains("- hr, other_links: 3 mails, the newest 2026-11-25 06:12")
        );
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains("hxxps://evil[.]example/<b>x</b>\\u{202e} leads elsewhere\\u{d}\\u{a}Bcc: x[@]y[.]example"), "{text}");
        assert!(!text.contains("evil.example/") && !text.contains("\u{202e}") && !text.contains('\r'));
        assert!(text.lines().all(|line| line.chars().count() < 78), "{text}");
    }

    #[test]
    fn the_operator_hears_of_certificates_and_of_what_stands_in_the_way() {
        let mut facts = facts(vec![entry("hr", Some("hr@corp.example"), Some("2026-12-01"))]);
        facts.certificates = vec![
            CertificateFact { key: "smtp.certificate".into(), end: Ok(time("2026-12-05T00:00:00Z")) },
            CertificateFact { key: "guard.certificate".into(), end: Ok(time("2027-12-05T00:00:00Z")) },
        ];
        let sentence = "the configuration from before is in force: it has mistakes\nvendor.toml:1:1: unknown key".to_owned();
        let since = Some(time("2026-11-24T10:00:00Z"));
        facts.conditions = vec![Condition { word: "reload".into(), since, sentence, whose: Whose::Own }];
        facts.losses = Losses { withheld: 2, records: 0 };
        let said = told(&facts, &NearMisses::default(), None, "2026-11-25T07:00:00Z");
        let (to, subject, text) = &said[1];
        assert_eq!((to.as_str(), subject.as_str()), ("ops@corp.example", "firstclick: 1 certificate ends, 2 things in the way"));
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            "smtp.certificate: the certificate ends on 2026-12-05, in 9 days",
            "reload since 2026-11-24 10:00: the configuration from before is in force: it has mistakes vendor.toml:1:1: unknown key",
            "exemptions withheld because they could not be put on record, 2",
        ] {
            assert!(flat.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("guard.certificate"));
    }

    #[test]
    fn very_much_is_cut() {
        let facts = facts((0..200).map(|at| entry(&format!("entry-{at}"), None, Some("2026-12-01"))).collect());
        let said = told(&facts, &NearMisses::default(), None, "2026-11-25T07:00:00Z");
        assert!(said[0].2.contains("and 150 more") && said[0].1 == "firstclick: 200 entries end", "{said:?}");
    }
}
