//! `audit find`: mails that match, each with what became of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Write as _},
};

use aho_corasick::AhoCorasick;
use jiff::{SignedDuration, Timestamp};

use super::{
    Form, folder, now,
    reader::{Sought, Uncompared},
    show::Show,
    walk::{Line, Place, Walk},
};
use crate::{
    audit::{
        chain,
        pseudonym::{self, PREFIX, Pseudonyms},
    },
    cli::{Decision, Find},
    commands::{Answer, Config, printable},
    mail::{
        Action, Record, counted,
        record::{MailRecord, PolicyRecord},
    },
    settings::Settings,
    typed_time::{TimeSpan, shown},
};

pub(super) fn find(config: &Config, find: &Find) -> anyhow::Result<Answer> {
    let now = now(find.times.utc);
    let span = TimeSpan::read(find.times.since.as_deref(), find.times.until.as_deref(), &now)?;
    // A folder that was named can be read where there is no configuration.
    let settings = if find.directory.is_some() { config.load_or_empty() } else { Ok(config.load()?) };
    let folder = folder(config, find.directory.clone())?;
    let keys = settings.as_ref().map(|settings| settings.recipients.keys.clone()).unwrap_or_default();
    let pseudonyms = Pseudonyms::by(&keys);
    let wanted = Wanted::of(find, span, &pseudonyms);
    let mut walk = Walk::open(&folder, span)?;
    let mut found = Found::default();
    walk.each(|line| {
        found.take(line, &wanted);
        Ok(())
    })?;
    if let (Some(until), true) = (span.until, found.is_guarded()) {
        let lifetime = settings
            .as_ref()
            .ok()
            .and_then(|settings| settings.guard.as_ref())
            .map_or(LONGEST_LIFETIME, |guard| guard.guard_links.lifetime);
        let last = SignedDuration::try_from(lifetime).ok().and_then(|lifetime| until.checked_add(lifetime).ok()).unwrap_or(Timestamp::MAX);
        walk.each_behind(last, |line| {
            found.take(line, &wanted);
            Ok(())
        })?;
    }
    let show = Show { form: Form::of(find.json), zone: now.time_zone().clone() };
    let mails = found.finish(&wanted);
    print(&show, &mails)?;
    let mut notes = vec![walk.says(&show.zone)];
    notes.extend(walk.doubt());
    if mails.stories.is_empty() {
        notes.extend(why_nothing(find, &walk, settings.as_ref().ok()));
    }
    notes.extend(mails.uncompared(find, &no_key(config, settings.is_ok())));
    tell(&show, &notes, &mails)?;
    walk.finish()?;
    Ok(if mails.stories.is_empty() && mails.refusals.is_empty() { Answer::No } else { Answer::Yes })
}

/// The longest lifetime of guard links that a configuration may set: so long clicks may come after their mail.
const LONGEST_LIFETIME: std::time::Duration = std::time::Duration::from_hours(90 * 24);

/// What was asked for, made ready.
struct Wanted<'f> {
    find: &'f Find,
    span: TimeSpan,
    /// The reader who was asked for.
    sought: Option<Sought>,
    /// Texts of which a mail's line holds each, in any case; by them lines are left unread.
    needles: Vec<AhoCorasick>,
}

impl<'f> Wanted<'f> {
    fn of(find: &'f Find, span: TimeSpan, pseudonyms: &Pseudonyms) -> Self {
        let sought = find.to.as_deref().map(|to| Sought::of(to, pseudonyms));
        let mut needles = Vec::new();
        let mut need = |texts: Vec<String>| {
            // As JSON writes them: what it would escape is not looked for.
            let plain = texts.iter().all(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'));
            if let (true, Ok(needle)) = (plain, AhoCorasick::builder().ascii_case_insensitive(true).build(&texts)) {
                needles.push(needle);
            }
        };
        if let (Some(to), Some(sought)) = (&find.to, &sought) {
            let user = pseudonym::reader(to).and_then(|reader| reader.rsplit_once('@').map(|(user, _)| user.to_owned()));
            // Of a pseudonym it must be told whether it could be compared.
            let hidden = [format!("\"{PREFIX}"), format!("<{PREFIX}")];
            let texts = [to.clone()].into_iter().chain(user).chain(sought.pseudonyms.iter().cloned());
            need(texts.chain(hidden).collect());
        }
        for text in [&find.from, &find.message_id].into_iter().flatten() {
            need(vec![text.clone()]);
        }
        for (key, value) in [("id", find.id.as_deref()), ("entry", find.entry.as_deref()), ("decision", find.decision.map(Decision::code))]
        {
            if let Some(value) = value.filter(|value| !value.contains(['"', '\\'])) {
                // The quotes are ours.
                needles.extend(AhoCorasick::new([format!("\"{key}\":\"{value}\"")]));
            }
        }
        Self { find, span, sought, needles }
    }

    /// Whether a mail's line may match; most lines are not read any further.
    fn may_match(&self, line: &[u8]) -> bool {
        self.needles.iter().all(|needle| needle.is_match(line))
    }

    fn matches(&self, mail: &MailRecord) -> bool {
        self.matches_otherwise(mail) && self.sought.as_ref().is_none_or(|sought| sought.is_of(mail))
    }

    /// All but the reader.
    fn matches_otherwise(&self, mail: &MailRecord) -> bool {
        let find = self.find;
        let has = |wanted: &Option<String>, texts: &[&str]| {
            wanted.as_ref().is_none_or(|wanted| texts.iter().any(|text| text.to_lowercase().contains(&wanted.to_lowercase())))
        };
        let is = |wanted: Option<&str>, text: &str| wanted.is_none_or(|wanted| text == wanted);
        self.span.holds(mail.time)
            && is(find.id.as_deref(), &mail.id)
            && has(&find.from, &[&mail.from, mail.author.as_deref().unwrap_or_default()])
            && has(&find.message_id, &[&mail.message_id])
            && is(find.entry.as_deref(), mail.entry.as_deref().unwrap_or_default())
            && is(find.decision.map(Decision::code), mail.decision.code())
    }

    /// Whether some mails are meant, and not all of a time.
    const fn is_for_some(&self) -> bool {
        let Find { id, to, from, message_id, entry, decision, .. } = self.find;
        id.is_some() || to.is_some() || from.is_some() || message_id.is_some() || entry.is_some() || decision.is_some()
    }

    /// Whether a mail that the hop refused may be meant: its record has neither recipients nor a decision.
    fn takes_refusals(&self) -> bool {
        let Find { to, message_id, entry, decision, .. } = self.find;
        to.is_none() && message_id.is_none() && entry.is_none() && decision.is_none()
    }
}

impl Decision {
    /// The code in records.
    const fn code(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::NearMiss => "near_miss",
            Self::Pass => "pass",
        }
    }
}

/// A mail with its outcome and its clicks.
struct Story {
    mail: Box<MailRecord>,
    line: Vec<u8>,
    later: Vec<(Vec<u8>, Record)>,
    /// The time at which the next mail of its kind came for the same reader.
    superseded: Option<Timestamp>,
    /// The policy that decided, where its record is not shown.
    policy: Option<String>,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    stories: Vec<Story>,
    by_id: HashMap<Vec<u8>, usize>,
    refusals: Vec<(Vec<u8>, Record)>,
    /// Changes of policy within the span, and refused ones.
    policies: Vec<(Vec<u8>, Record)>,
    /// Mails of which it is unknown whether they went to the reader, and why.
    uncompared: HashMap<Vec<u8>, Uncompared>,
}

impl Found {
    fn take(&mut self, line: Line<'_>, wanted: &Wanted<'_>) {
        let known = self.by_id.get(line.id).copied();
        match line.kind {
            b"mail" => self.take_mail(line, known, wanted),
            b"outcome" | b"click" => {
                if let (Some(story), Some(record)) = (known.and_then(|at| self.stories.get_mut(at)), Record::read(line.text)) {
                    story.later.push((line.text.to_vec(), record));
                }
            }
            b"refusal" if line.place == Place::Within && wanted.takes_refusals() => {
                if let Some(record) = Record::read(line.text)
                    && let Record::Refusal(refusal) = &record
                    && wanted.find.id.as_ref().is_none_or(|id| *id == refusal.id)
                    && wanted.find.from.as_ref().is_none_or(|from| refusal.from.to_lowercase().contains(&from.to_lowercase()))
                {
                    self.refusals.push((line.text.to_vec(), record));
                }
            }
            b"policy" | b"policy_refused" if line.place == Place::Within => {
                self.policies.extend(Record::read(line.text).map(|record| (line.text.to_vec(), record)));
            }
            _ => {}
        }
    }

    fn take_mail(&mut self, line: Line<'_>, known: Option<usize>, wanted: &Wanted<'_>) {
        if known.is_none() && (line.place == Place::Behind || !wanted.may_match(line.text)) {
            return;
        }
        let Some(Record::Mail(mail)) = Record::read(line.text) else { return };
        // A mail whose exemption was withheld after its record was on its way to the disk has a second one, which counts.
        if let Some(story) = known.and_then(|at| self.stories.get_mut(at)) {
            (story.mail, story.line) = (mail, line.text.to_vec());
        } else if wanted.matches(&mail) {
            self.by_id.insert(line.id.to_vec(), self.stories.len());
            self.stories.push(Story { mail, line: line.text.to_vec(), later: Vec::new(), superseded: None, policy: None });
        } else if let Some(why) = wanted.sought.as_ref().and_then(|sought| sought.uncompared(&mail))
            && wanted.matches_otherwise(&mail)
        {
            self.uncompared.insert(line.id.to_vec(), why);
        }
    }

    /// Whether clicks may have come days after one of the mails.
    fn is_guarded(&self) -> bool {
        self.stories.iter().any(|story| story.mail.actions.iter().any(|action| action.known() == Some(Action::Guard)))
    }

    /// What was found, in the order of its numbers.
    fn finish(mut self, wanted: &Wanted<'_>) -> Self {
        self.stories.retain(|story| wanted.matches(&story.mail));
        self.stories.sort_by_key(|story| chain::number(&story.line));
        // From the newest to the oldest: when the next mail of the same entry and kind came for the same readers.
        let mut next: HashMap<(Option<String>, String, Vec<String>), Timestamp> = HashMap::new();
        for story in self.stories.iter_mut().rev() {
            let mail = &story.mail;
            if let Some(kind) = mail.shown_kind() {
                let key = (mail.entry.clone(), kind.to_owned(), mail.to.clone());
                story.superseded = next.insert(key, mail.time);
            }
        }
        // A start with the same policy as before is no change.
        self.policies.sort_by_key(|(line, _)| chain::number(line));
        let mut before = String::new();
        self.policies.retain(|(_, record)| match record {
            Record::Policy(PolicyRecord { hash, .. }) => std::mem::replace(&mut before, hash.clone()) != *hash,
            _ => true,
        });
        if wanted.is_for_some() {
            self.keep_policies_that_decided();
        }
        self
    }

    /// Of the policies keeps those by which one of the mails was decided, each once.
    fn keep_policies_that_decided(&mut self) {
        let mut by_hash: HashMap<String, Vec<(Option<u64>, usize)>> = HashMap::new();
        for (at, (line, record)) in self.policies.iter().enumerate() {
            if let Record::Policy(policy) = record {
                by_hash.entry(policy.short().to_owned()).or_default().push((chain::number(line), at));
            }
        }
        let mut decided = BTreeSet::new();
        for story in &mut self.stories {
            let number = chain::number(&story.line);
            let of_hash = by_hash.get(&story.mail.policy).map(Vec::as_slice).unwrap_or_default();
            let before = of_hash.partition_point(|(policy, _)| *policy < number);
            match before.checked_sub(1).and_then(|last| of_hash.get(last)) {
                Some((_, at)) => drop(decided.insert(*at)),
                None => story.policy = Some(story.mail.policy.clone()).filter(|policy| !policy.is_empty()),
            }
        }
        let mut at = 0..;
        self.policies.retain(|_| at.next().is_some_and(|at| decided.contains(&at)));
    }

    /// How many mails there are of which it is unknown whether they went to the reader, and what to do about it.
    fn uncompared(&self, find: &Find, no_key: &str) -> Vec<String> {
        let mut counts: BTreeMap<Uncompared, usize> = BTreeMap::new();
        for why in self.uncompared.values() {
            *counts.entry(*why).or_default() += 1;
        }
        let is_filtered = find.id.is_some() || find.from.is_some() || find.message_id.is_some() || find.entry.is_some();
        let is_filtered = is_filtered || find.decision.is_some();
        let says = |(why, count): (Uncompared, usize)| {
            let why = match why {
                Uncompared::Part => "which a part of an address does not find: write the whole address",
                Uncompared::NoKey => no_key,
                Uncompared::OtherKey => {
                    "made with a key that is not in [audit] recipients_key_file: whether they are of this reader is not known without it"
                }
                Uncompared::UnknownKey => {
                    "of an earlier version, which does not say with which key: made with another than those of \
                     [audit] recipients_key_file, they are not found"
                }
            };
            let (matches, holds) = if count == 1 { ("matches", "holds") } else { ("match", "hold") };
            let which = if is_filtered { format!("that {matches} otherwise") } else { "of that time".to_owned() };
            format!("{} {which} {holds} pseudonyms, {why}", counted(count, "mail"))
        };
        counts.into_iter().map(says).collect()
    }
}

/// Prints what was found, with the changes of policy where they came.
fn print(show: &Show, found: &Found) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let others = found.refusals.iter().chain(&found.policies).map(|(line, record)| (chain::number(line), line, Some(record), None));
    let stories = found.stories.iter().map(|story| (chain::number(&story.line), &story.line, None, Some(story)));
    let mut all: Vec<_> = others.chain(stories).collect();
    all.sort_by_key(|(number, ..)| *number);
    for (_, line, record, story) in all {
        if let Some(record) = record {
            show.record(&mut out, line, record)?;
        }
        let Some(story) = story else { continue };
        show.record(&mut out, line, &Record::Mail(story.mail.clone()))?;
        if let (Form::People, Some(policy)) = (show.form, &story.policy) {
            writeln!(out, "    decided by policy {}", printable(policy))?;
        }
        for (line, record) in &story.later {
            show.record(&mut out, line, record)?;
        }
        if let (Form::People, Some(time)) = (show.form, &story.superseded) {
            let time = shown(*time, &show.zone);
            writeln!(out, "    another mail of this kind came at {time}: at most services this link is void since then")?;
        }
    }
    Ok(())
}

/// Says what the answer rests on, and how many mails there are; where records are printed for programs, on standard error.
fn tell(show: &Show, notes: &[String], found: &Found) -> io::Result<()> {
    let refused = found.refusals.len();
    let refused = if refused == 0 { String::new() } else { format!(", and {} by the hop itself", counted(refused, "refusal")) };
    let mails = format!("{}{refused}", counted(found.stories.len(), "mail"));
    let mut lines = notes.iter().map(String::as_str).chain([mails.as_str()]);
    match show.form {
        Form::Json => lines.try_for_each(|line| writeln!(io::stderr(), "{line}")),
        Form::People => lines.try_for_each(|line| writeln!(io::stdout(), "{line}")),
    }
}

/// Why there may be mails all the same.
fn why_nothing(find: &Find, walk: &Walk, settings: Option<&Settings>) -> Vec<String> {
    let mut notes: Vec<String> = walk.nothing().map(str::to_owned).into_iter().collect();
    if let Some(entry) = &find.entry {
        let names: Vec<&str> =
            settings.map(|settings| settings.allowlist.entries().iter().map(|entry| entry.name.as_str()).collect()).unwrap_or_default();
        let written = serde_json::to_string(entry).unwrap_or_default();
        if !names.contains(&entry.as_str()) && !walk.knows(format!("\"entry\":{written}").as_bytes()) {
            let known = if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) };
            notes.push(format!("no entry {entry:?} is known, neither to the configuration nor to any record{known}"));
        }
    }
    notes
}

/// Why there is no key to find an address by.
fn no_key(config: &Config, is_read: bool) -> String {
    let path = config.path().display();
    let why = if !is_read {
        format!("{path} cannot be read as it is; `firstclick check` says why")
    } else if config.is_there() {
        format!("[audit] recipients_key_file is not set in {path}")
    } else {
        "name the configuration with --config".to_owned()
    };
    format!("and there is no key to find an address by: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mail::VerdictKind, vocabulary::Vocabulary};

    #[test]
    fn decisions_are_those_of_records() {
        let all: Vec<&str> = [Decision::Act, Decision::NearMiss, Decision::Pass].map(Decision::code).to_vec();
        assert_eq!(all, <VerdictKind as Vocabulary>::ALL.iter().map(|known| known.code()).collect::<Vec<_>>());
    }
}
