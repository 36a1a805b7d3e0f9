//! `explain`: what the hop would do to a mail, and why. The same code as the hop's decides, and nothing is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{
    Answer, Config, build,
    explained::{Secrets, View, diff},
    mails::{self, Found, What},
    printable, runtime,
};
use crate::{
    cli::{Explain, Terms},
    clock, edit,
    mail::{Client, Envelope, Held, LineRepair, Peer, Protocol, Transaction, counted},
    message::Message,
    pipeline::{Pipeline, Preview, Proving, Refusal},
    smtp::{config::Config as SmtpConfig, server::as_kept},
    typed_time::TypedTime,
};

pub(super) fn explain(config: &Config, arguments: &Explain) -> anyhow::Result<Answer> {
    let at = time(&arguments.terms)?;
    let mut settings = config.load_or_empty()?;
    // Nothing is recorded: the mail is not relayed.
    settings.audit = None;
    let smtp = settings.smtp.clone();
    let hostname = settings.hostname().unwrap_or("firstclick.invalid").to_owned();
    let mut telling = Telling {
        arguments,
        at,
        named: arguments.inputs.iter().map(|path| path.display().to_string()).collect(),
        smtp,
        pipeline: build(settings, &hostname)?,
        runtime: runtime()?,
        secrets: if arguments.shown.show_links { Secrets::Shown } else { Secrets::Hidden },
        out: io::stdout().lock(),
        tally: BTreeMap::new(),
        wrong: Vec::new(),
        has_written: false,
    };
    mails::each(&arguments.inputs, &mut |found| telling.tell(found))?;
    telling.end()
}

/// The time at which the mails are judged. A day is taken at its end: what was sent on it has been sent.
fn time(terms: &Terms) -> anyhow::Result<Timestamp> {
    let now = clock::now();
    let Some(typed) = &terms.at else { return Ok(now) };
    Ok(match TypedTime::read(typed, &now.to_zoned_datetime(TimeZone::system())).context("--at")? {
        TypedTime::Moment { first, .. } => first,
        TypedTime::Day { end, .. } => end,
    })
}

/// The telling of one mail after another.
struct Telling<'a> {
    arguments: &'a Explain,
    at: Timestamp,
    /// The inputs as they were typed: what is no mail among them is a mistake, and in a folder it is not.
    named: BTreeSet<String>,
    /// The hop's way of taking data; none where mails come by milter, from a server that took them.
    smtp: Option<SmtpConfig>,
    pipeline: Pipeline,
    runtime: tokio::runtime::Runtime,
    secrets: Secrets,
    out: io::StdoutLock<'static>,
    tally: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
    has_written: bool,
}

/// A mail that the hop would refuse, or what is no mail.
#[derive(Serialize)]
struct Undecided<'a> {
    file: &'a str,
    decision: &'static str,
    reply: &'a str,
}

impl Telling<'_> {
    fn tell(&mut self, found: Found) -> anyhow::Result<()> {
        let Found { name, what } = found;
        let raw = match what {
            What::Mail(raw) => raw,
            What::NoMail(why) => {
                if self.named.contains(&name) {
                    self.wrong.push(name.clone());
                }
                return self.undecided(&name, "no_mail", &format!("no mail: {why}"), why);
            }
        };
        let kept = self.smtp.as_ref().map(|config| as_kept(&raw, config).map_err(|reply| reply.to_string()));
        let preview = kept.unwrap_or(Ok((raw, LineRepair::None))).and_then(|(raw, repair)| {
            let preview = self.runtime.block_on(preview(&self.pipeline, &raw, repair, self.arguments, self.at));
            preview.map(|preview| (raw, preview)).map_err(|refusal| format!("{} {}", refusal.code(), refusal.text()))
        });
        match preview {
            Ok((raw, preview)) => self.decided(&name, &raw, &preview),
            Err(reply) => self.undecided(&name, "refused", &format!("the hop would refuse it: {reply}"), &reply),
        }
    }

    fn decided(&mut self, name: &str, raw: &[u8], preview: &Preview) -> anyhow::Result<()> {
        let view = View::new(name, preview, self.secrets);
        *self.tally.entry(preview.analysis.decision.verdict.kind().code()).or_default() += 1;
        if self.arguments.json {
            serde_json::to_writer(&mut self.out, &view).context("standard output")?;
            writeln!(self.out)?;
        } else {
            view.show(&mut self.out)?;
        }
        if self.arguments.shown.diff {
            diff(&mut self.out, raw, &preview.patches, &self.pipeline.config.tagger, self.secrets)?;
        }
        if let Some(path) = &self.arguments.out {
            if std::mem::replace(&mut self.has_written, true) {
                bail!("--out takes one mail, and there are more");
            }
            let left = edit::apply(raw, &preview.patches).context("the edits overlap")?;
            write_private(path, &left).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }

    fn undecided(&mut self, name: &str, decision: &'static str, says: &str, reply: &str) -> anyhow::Result<()> {
        *self.tally.entry(decision).or_default() += 1;
        if self.arguments.json {
            serde_json::to_writer(&mut self.out, &Undecided { file: name, decision, reply }).context("standard output")?;
            writeln!(self.out)?;
        } else {
            writeln!(self.out, "{}: {says}", printable(name))?;
        }
        Ok(())
    }

    /// What holds for all: the sum, and what was not given.
    fn end(mut self) -> anyhow::Result<Answer> {
        let all: usize = self.tally.values().sum();
        let each: Vec<String> = self.tally.iter().map(|(decision, count)| format!("{count} {decision}")).collect();
        let sum = format!("{}: {}", counted(all, "mail"), each.join(", "));
        if self.arguments.json {
            if all > 1 {
                writeln!(io::stderr().lock(), "{sum}")?;
            }
        } else {
            if self.arguments.recipients.is_empty() && all > 0 {
                let says = "no recipient was given: --rcpt bob@corp.example says who gets it, which `recipients` and `addressees` ask";
                writeln!(self.out, "  note          {says}")?;
            }
            if all > 1 {
                writeln!(self.out, "{sum}")?;
            }
        }
        if all == 0 {
            bail!("there is no mail in what was named");
        }
        match self.wrong.as_slice() {
            [] => Ok(Answer::Yes),
            wrong => bail!("no mail: {}", wrong.join(", ")),
        }
    }
}

/// Writes what holds a live token: nobody but its owner may read it, also where a file was there before.
fn write_private(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    file.write_all(octets)
}

async fn preview(pipeline: &Pipeline, raw: &[u8], repair: LineRepair, arguments: &Explain, at: Timestamp) -> Result<Preview, Refusal> {
    let message = Message::read(raw);
    let returned = message.headers().first("Return-Path").and_then(|value| String::from_utf8(value).ok());
    let reverse_path = arguments.mail_from.clone().or(returned).map(|path| path.trim().to_owned()).unwrap_or_default();
    let peer = arguments.client_ip.map_or(Peer::TrustedUpstream, Peer::Client);
    let proving = if arguments.terms.as_proven { Proving::Assumed } else { Proving::Looked };
    of_file(pipeline, (raw, repair), peer, &reverse_path, &arguments.recipients, at, proving).await
}

/// What the hop would do to a mail of a file.
pub(super) async fn of_file(
    pipeline: &Pipeline,
    (raw, repair): (&[u8], LineRepair),
    peer: Peer,
    reverse_path: &str,
    recipients: &[String],
    at: Timestamp,
    proving: Proving,
) -> Result<Preview, Refusal> {
    let transaction = Transaction {
        id: "explain",
        protocol: Protocol::File,
        client: Client { peer, helo: "explain.invalid" },
        envelope: Envelope { reverse_path, recipients },
        data: raw,
        held: Held::Whole,
        size: raw.len(),
        repair,
    };
    pipeline.preview(&transaction, at, proving).await
}
