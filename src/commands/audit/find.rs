//! `audit find`: mails that match, each with what became of it.

use std::{
    collections::HashMap,
    io::{self, Write as _},
};

use aho_corasick::AhoCorasick;
use jiff::{SignedDuration, Timestamp};

use super::{
    Form, folder, now,
    show::Show,
    walk::{Line, Place, Walk},
};
use crate::{
    audit::{
        chain,
        pseudonym::{self, Pseudonyms},
    },
    cli::{Decision, Find},
    commands::{Answer, Config},
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
    let settings = if find.directory.is_some() { config.load_or_empty().ok() } else { Some(config.load()?) };
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
        let lifetime =
            settings.as_ref().and_then(|settings| settings.guard.as_ref()).map_or(LONGEST_LIFETIME, |guard| guard.guard_links.lifetime);
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
    if mails.stories.is_empty() {
        notes.extend(why_nothing(find, &walk, settings.as_ref(), mails.hashed, &pseudonyms));
    }
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
    /// What stands for the reader who was asked for.
    pseudonyms: Vec<String>,
    /// Texts of which a mail's line holds each, in any case; by them lines are left unread.
    needles: Vec<AhoCorasick>,
}

impl<'f> Wanted<'f> {
    fn of(find: &'f Find, span: TimeSpan, pseudonyms: &Pseudonyms) -> Self {
        let pseudonyms = find.to.as_deref().map(|to| pseudonyms.of(to)).unwrap_or_default();
        let mut needles = Vec::new();
        let mut need = |texts: Vec<String>| {
            // As JSON writes them: what it would escape is not looked for.
            let plain = texts.iter().all(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'));
            if let (true, Ok(needle)) = (plain, AhoCorasick::builder().ascii_case_insensitive(true).build(&texts)) {
                needles.push(needle);
            }
        };
        if let Some(to) = &find.to {
            let user = pseudonym::reader(to).and_then(|reader| reader.rsplit_once('@').map(|(user, _)| user.to_owned()));
            need([to.clone()].into_iter().chain(user).chain(pseudonyms.iter().cloned()).collect());
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
        Self { find, span, pseudonyms, needles }
    }

    /// Whether a mail's line may match; most lines are not read any further.
    fn may_match(&self, line: &[u8]) -> bool {
        self.needles.iter().all(|needle| needle.is_match(line))
    }

    fn matches(&self, mail: &MailRecord) -> bool {
        let find = self.find;
        let has = |wanted: &Option<String>, texts: &[&str]| {
            wanted.as_ref().is_none_or(|wanted| texts.iter().any(|text| text.to_lowercase().contains(&wanted.to_lowercase())))
        };
        let is = |wanted: Option<&str>, text: &str| wanted.is_none_or(|wanted| text == wanted);
        self.span.holds(mail.time)
            && is(find.id.as_deref(), &mail.id)
            && find.to.as_ref().is_none_or(|to| mail.to.iter().any(|path| self.is_to(to, path)))
            && has(&find.from, &[&mail.from, mail.author.as_deref().unwrap_or_default()])
            && has(&find.message_id, &[&mail.message_id])
            && is(find.entry.as_deref(), mail.entry.as_deref().unwrap_or_default())
            && is(find.decision.map(Decision::code), mail.decision.code())
    }

    /// A part of an address, or the same reader, by his address or by what stands for it.
    fn is_to(&self, to: &str, path: &str) -> bool {
        let same = || pseudonym::reader(to).is_some_and(|reader| pseudonym::reader(path) == Some(reader));
        path.to_lowercase().contains(&to.to_lowercase()) || self.pseudonyms.iter().any(|name| path.contains(name)) || same()
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
}

/// What was found so far.
#[derive(Default)]
struct Found {
    stories: Vec<Story>,
    by_id: HashMap<Vec<u8>, usize>,
    refusals: Vec<(Vec<u8>, Record)>,
    /// Changes of policy within the span, and refused ones.
    policies: Vec<(Vec<u8>, Record)>,
    /// Mails whose recipients are pseudonyms.
    hashed: usize,
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
        if wanted.find.to.is_some() && line.place == Place::Within {
            self.hashed += usize::from(memchr::memmem::find(line.text, b"\"to\":[\"<h:").is_some());
        }
        if known.is_none() && (line.place == Place::Behind || !wanted.may_match(line.text)) {
            return;
        }
        let Some(Record::Mail(mail)) = Record::read(line.text) else { return };
        // A mail whose exemption was withheld after its record was on its way to the disk has a second one, which counts.
        if let Some(story) = known.and_then(|at| self.stories.get_mut(at)) {
            (story.mail, story.line) = (mail, line.text.to_vec());
        } else if wanted.matches(&mail) {
            self.by_id.insert(line.id.to_vec(), self.stories.len());
            self.stories.push(Story { mail, line: line.text.to_vec(), later: Vec::new(), superseded: None });
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
            if let Some(found) = &mail.recognized {
                let key = (mail.entry.clone(), found.kind.to_string(), mail.to.clone());
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
        self
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
fn why_nothing(find: &Find, walk: &Walk, settings: Option<&Settings>, hashed: usize, pseudonyms: &Pseudonyms) -> Vec<String> {
    let mut notes = Vec::new();
    if walk.looked.records == 0 && walk.looked.failed.is_empty() {
        notes.push("there is no record of that time: the service did not run, or its files are elsewhere".to_owned());
    }
    if let Some(entry) = &find.entry {
        let names: Vec<&str> =
            settings.map(|settings| settings.allowlist.entries().iter().map(|entry| entry.name.as_str()).collect()).unwrap_or_default();
        let written = serde_json::to_string(entry).unwrap_or_default();
        if !names.contains(&entry.as_str()) && !walk.knows(format!("\"entry\":{written}").as_bytes()) {
            let known = if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) };
            notes.push(format!("no entry {entry:?} is known, neither to the configuration nor to any record{known}"));
        }
    }
    if let (Some(to), 1..) = (&find.to, hashed) {
        let of = counted(hashed, "mail");
        notes.push(if pseudonym::reader(to).is_none() {
            format!("{of} of that time hold pseudonyms, which a part of an address does not find: write the whole address")
        } else if pseudonyms.of(to).is_empty() {
            format!("{of} of that time hold pseudonyms, and there is no key to find an address by; name the configuration with --config")
        } else {
            return notes;
        });
    }
    notes
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
