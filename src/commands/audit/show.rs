//! Records as people read them.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::Form;
use crate::{
    commands::printable,
    mail::{
        Delivery, Outcome, Record, counted,
        record::{
            ClickKind, ClickRecord, FileRecord, MailRecord, Numbers, OutcomeRecord, PolicyBy, PolicyRecord, PolicyRefusedRecord,
            RefusalRecord, RefusalsRecord, RekeyRecord, RetiredRecord, StartRecord,
        },
    },
    typed_time::shown,
};

/// How records are printed.
#[derive(Clone)]
pub(super) struct Show {
    pub(super) form: Form,
    pub(super) zone: TimeZone,
}

impl Show {
    /// Prints a record, which stands as `line` in its file.
    pub(super) fn record(&self, out: &mut impl Write, line: &[u8], record: &Record) -> io::Result<()> {
        if self.form == Form::Json {
            out.write_all(line)?;
            return out.write_all(b"\n");
        }
        let at = |time| shown(time, &self.zone);
        match record {
            Record::Mail(mail) => self.mail(out, mail),
            Record::Outcome(OutcomeRecord { time, id, outcome, .. }) => {
                let delivery = match outcome.reply.as_str() {
                    "" if is_left(outcome) => String::new(),
                    "" => format!("{}: ", outcome.delivery),
                    _ => format!("{} ", outcome.delivery),
                };
                writeln!(out, "{} {id} {delivery}{}", at(*time), became(outcome))
            }
            Record::Refusal(refusal) => {
                let RefusalRecord { time, id, delivery, from, size, reply, .. } = refusal;
                let (reply, from) = (printable(reply), printable(from));
                writeln!(out, "{} {id} {delivery} by the hop itself: {reply} from={from} size={size}", at(*time))
            }
            Record::Refusals(RefusalsRecord { time, code, network, count, .. }) => {
                let refusals = counted(usize::try_from(*count).unwrap_or(usize::MAX), "refusal");
                writeln!(out, "{} {refusals} within a minute: {code} to {network}", at(*time))
            }
            Record::Click(click) => show_click(out, click),
            Record::File(FileRecord { time, file, what, missing, skipped, .. }) => {
                let missing = missing.map(|Numbers { first, last }| format!("; records {first} to {last} are missing")).unwrap_or_default();
                let skipped = skipped
                    .map(|Numbers { first, last }| format!("; {first} to {last} are left out, as more may have been written behind those"))
                    .unwrap_or_default();
                writeln!(out, "{} the file {} {what}: somebody else touched it{missing}{skipped}", at(*time), printable(file))
            }
            Record::Rekey(RekeyRecord { time, old, new, .. }) => {
                writeln!(out, "{} the audit's key changed from {old} to {new}", at(*time))
            }
            Record::Retired(RetiredRecord { time, file, first, last, .. }) => {
                writeln!(out, "{} the file {} was retired: records {first} to {last}", at(*time), printable(file))
            }
            Record::Start(StartRecord { time, version, .. }) => writeln!(out, "{} firstclick {} started", at(*time), printable(version)),
            Record::Policy(policy) => writeln!(out, "{} {}", at(policy.time), policy_says(policy)),
            Record::PolicyRefused(PolicyRefusedRecord { time, policy, mistake, .. }) => {
                writeln!(out, "{} a changed configuration was refused, policy {policy} stays in force: {}", at(*time), printable(mistake))
            }
            Record::Later => Ok(()),
        }
    }

    fn mail(&self, out: &mut impl Write, mail: &MailRecord) -> io::Result<()> {
        let observed = if mail.observed { " (observed)" } else { "" };
        let kind = mail.shown_kind().unwrap_or("-");
        let entry = mail.entry.as_deref().unwrap_or("-");
        let MailRecord { time, id, decision, from, to, .. } = mail;
        let (time, from, to) = (shown(*time, &self.zone), printable(from), printable(&to.join(",")));
        writeln!(out, "{time} {id} {decision}{observed} entry={entry} kind={kind} from={from} to={to}")?;
        if let Some(stopped) = mail.stopped_by() {
            writeln!(out, "    {}: {}", stopped.check, printable(&stopped.detail))?;
        }
        for link in &mail.one_time_links {
            writeln!(out, "    one-time link {}", printable(&link.link))?;
        }
        match &mail.outcome {
            Some(outcome) => writeln!(out, "    {}", became(outcome)),
            None => Ok(()),
        }
    }
}

fn is_left(outcome: &Outcome) -> bool {
    outcome.delivery.known() == Some(Delivery::LeftToMta)
}

/// What became of a mail, as far as it was said.
fn became(outcome: &Outcome) -> String {
    let queued = outcome.queue_id.as_ref().map(|id| format!(", as {}", printable(id))).unwrap_or_default();
    match outcome.reply.as_str() {
        "" if is_left(outcome) => format!("left to the MTA{queued}"),
        "" => "the next hop said nothing".to_owned(),
        reply => format!("next hop: {}", printable(reply)),
    }
}

fn show_click(out: &mut impl Write, click: &ClickRecord) -> io::Result<()> {
    let what = match click.what.known() {
        Some(ClickKind::Open) => "opened the guard page of",
        Some(ClickKind::Press) => "pressed the button, and went on to",
        Some(ClickKind::WrongAnswer) => "chose a wrong sender on the page of",
        Some(ClickKind::Refused) => "posted something that the guard page did not give, for",
        None => click.what.code(),
    };
    let ClickRecord { after_s, likely, address, why, user_agent, .. } = click;
    let link = click.link.as_ref().map_or_else(|| "the link".to_owned(), |link| printable(&link.link));
    writeln!(out, "    +{after_s} s {likely} {what} {link}, from {address} ({}; {})", printable(why), printable(user_agent))
}

/// A policy in one line: what it is, and which entries changed with it.
fn policy_says(policy: &PolicyRecord) -> String {
    let since = if policy.by.known() == Some(PolicyBy::Start) { "since the start" } else { "by a reload" };
    let mut said = format!("policy {} in force {since}: {}, {}", policy.short(), policy.mode, counted(policy.entries.len(), "entry"));
    // At a start all of them are new.
    if policy.by.known() != Some(PolicyBy::Start) {
        for (what, names) in [("added", &policy.added), ("changed", &policy.changed), ("gone", &policy.gone), ("read anew", &policy.files)]
        {
            if !names.is_empty() {
                said.push_str(&format!("; {what} {}", names.join(", ")));
            }
        }
    }
    printable(&said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_mail_never_ends_empty() {
        let said = |json: &str| {
            let record = Record::read(json.as_bytes()).unwrap();
            let mut out = Vec::new();
            Show { form: Form::People, zone: TimeZone::UTC }.record(&mut out, json.as_bytes(), &record).unwrap();
            String::from_utf8(out).unwrap()
        };
        let outcome = |rest: &str| {
            said(&format!(r#"{{"type":"outcome","v":1,"time":"2026-11-25T20:17:26.120Z","id":"1a",{rest}}}"#)).trim_end().to_owned()
        };
        for (rest, wanted) in [
            (r#""delivery":"left_to_mta""#, "left to the MTA"),
            (r#""delivery":"left_to_mta","queue_id":"4bQ""#, "left to the MTA, as 4bQ"),
            (r#""delivery":"accepted","reply":"250 ok""#, "accepted next hop: 250 ok"),
            (r#""delivery":"unknown","reply":"""#, "unknown: the next hop said nothing"),
        ] {
            assert_eq!(outcome(rest), format!("2026-11-25 20:17:26Z 1a {wanted}"));
        }
        let mail = r#"{"type":"mail","v":1,"time":"2026-11-25T20:17:26.120Z","id":"1a","from":"<>","to":[],"size":8,"decision":"pass","observed":false,"delivery":"left_to_mta"}"#;
        assert!(said(mail).ends_with("\n    left to the MTA\n"), "{}", said(mail));
    }
}
