//! `ask`: what the allowlist makes of a sender and a link, without a mail. A mail that holds just them is judged, as proven, by the
//! same code as any other.

use std::io::{self, Write as _};

use anyhow::bail;
use serde::Serialize;

use super::{
    Answer, Config, build,
    explain::of_file,
    explained::{Secrets, View, show_reason},
    printable, runtime,
};
use crate::{
    allowlist::{Mode, entry::DecideBy},
    cli::Ask,
    clock,
    mail::{LineRepair, Peer, Reason, record::ReasonRecord},
    message::{Link, Mailbox, Target},
    pipeline::{Preview, Proving},
    settings::sentences,
};

/// The checks that a sender, a reader and a link can answer.
const ANSWERED: [Reason; 8] = [
    Reason::Author,
    Reason::Sender,
    Reason::Expiry,
    Reason::Recipients,
    Reason::Kind,
    Reason::OneTimeLink,
    Reason::OtherLinks,
    Reason::Edit,
];

/// The answer, as JSON.
#[derive(Serialize)]
struct Told<'a> {
    from: &'a str,
    to: Option<&'a str>,
    /// Without its secret.
    link: String,
    exempt_if_proven: bool,
    observed: bool,
    entry: Option<&'a str>,
    kind: Option<&'static str>,
    reasons: Vec<&'a ReasonRecord>,
    /// What the mail itself must show besides.
    still_asked: Vec<String>,
    other_links: Vec<String>,
    links: Vec<(&'static str, String)>,
    unlistable: &'a [String],
}

pub(super) fn ask(config: &Config, arguments: &Ask) -> anyhow::Result<Answer> {
    let Some(from) = Mailbox::parse(&arguments.from) else { bail!("--from {:?} is no mail address", arguments.from) };
    let to = match &arguments.to {
        Some(text) => match Mailbox::parse(text) {
            Some(to) => Some(to.to_string()),
            None => bail!("--to {text:?} is no mail address"),
        },
        None => None,
    };
    let Target::Web(link) = Target::read(arguments.link.trim()) else {
        bail!("--link is no address that every browser opens in one way; give it whole, as in https://login.acme.example/reset/6d0f6b2f");
    };
    let mut settings = config.load()?;
    settings.audit = None;
    let observed = settings.mode == Mode::Observe;
    let hostname = settings.hostname().unwrap_or("firstclick.invalid").to_owned();
    let pipeline = build(settings, &hostname)?;
    let mail = mail(&from.to_string(), to.as_deref(), &link);
    let recipients: Vec<String> = to.iter().cloned().collect();
    let judging =
        of_file(&pipeline, (mail.as_bytes(), LineRepair::None), Peer::TrustedUpstream, "", &recipients, clock::now(), Proving::Assumed);
    let Ok(preview) = runtime()?.block_on(judging) else { bail!("the question is too long") };
    let told = told(arguments, &preview, &link, observed);
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &told)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", printable(&outcome(&told)))?;
        for reason in &told.reasons {
            show_reason(&mut out, reason)?;
        }
        View::new("", &preview, Secrets::Hidden).show_missing(&mut out)?;
        if !told.still_asked.is_empty() {
            writeln!(out, "What the entry takes, and asks of the mail itself:")?;
        }
        for sentence in &told.still_asked {
            writeln!(out, "  {}", printable(sentence))?;
        }
    }
    Ok(if told.exempt_if_proven { Answer::Yes } else { Answer::No })
}

/// A mail with this link and nothing else.
fn mail(from: &str, to: Option<&str>, link: &Link) -> String {
    let href = link.expose().replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "From: <{from}>\r\nTo: <{}>\r\nSubject: a link\r\nDate: {}\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n\
         <p><a href=\"{href}\">Open</a></p>\r\n",
        to.unwrap_or("reader@firstclick.invalid"),
        clock::rfc5322(clock::now()),
    )
}

fn told<'a>(arguments: &'a Ask, preview: &'a Preview, link: &Link, observing: bool) -> Told<'a> {
    let decision = &preview.analysis.decision;
    let is_answered = |reason: &&ReasonRecord| reason.check.known().is_some_and(|reason| ANSWERED.contains(&reason));
    // Only a mail tells what words say, and whom it names.
    let by_shapes = preview.entry.as_ref().is_some_and(|entry| matches!(entry.decide_by, DecideBy::Shapes));
    let holds = preview
        .record
        .reasons
        .iter()
        .all(|reason| reason.ok || (arguments.to.is_none() && reason.check.known() == Some(Reason::Addressees)));
    let still_asked = preview.entry.as_ref().map(|entry| sentences(entry, clock::now())).unwrap_or_default();
    Told {
        from: &arguments.from,
        to: arguments.to.as_deref(),
        link: link.redacted(),
        exempt_if_proven: by_shapes && holds,
        observed: observing || preview.entry.as_ref().is_some_and(|entry| entry.mode == Mode::Observe),
        entry: decision.entry.as_deref(),
        kind: decision.kind.map(crate::mail::Kind::code),
        reasons: preview.record.reasons.iter().filter(is_answered).collect(),
        still_asked,
        other_links: decision.missing.other_links.clone(),
        links: decision.missing.shapes.iter().map(|(kind, shape)| (kind.code(), shape.clone())).collect(),
        unlistable: &decision.missing.unlistable,
    }
}

/// The answer in one line.
fn outcome(told: &Told<'_>) -> String {
    match (told.entry, told.exempt_if_proven) {
        (Some(entry), true) => {
            let observed = if told.observed { ", and is only observed: nothing is done" } else { "" };
            format!("yes: {entry:?} exempts a mail of {} with this link, if the mail proves itself{observed}", told.from)
        }
        (Some(entry), false) => format!("no: {entry:?} exempts no mail of {} for this link", told.from),
        (None, _) => format!("no: no entry names {}", told.from),
    }
}
