//! `explain`: what the hop would do to a mail, and why. The same code as the hop's decides, and nothing is sent.

use std::{
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::{Answer, Config, build, printable, runtime};
use crate::{
    cli::Explain,
    clock,
    edit::{self, Patch},
    mail::{
        Action, Client, Envelope, Flaw, Kind, LineRepair, Peer, Protocol, Reason, Transaction, VerdictKind,
        record::{IdentityRecord, ReasonRecord},
    },
    message::{Message, as_sent},
    pipeline::{Analysis, Pipeline, Preview, Refusal},
    vocabulary::Code,
};

pub(super) fn explain(config: &Config, arguments: &Explain) -> anyhow::Result<Answer> {
    let mut settings = config.load_or_empty()?;
    // Nothing is recorded: the mail is not relayed.
    settings.audit = None;
    let hostname = settings.hostname().unwrap_or("firstclick.invalid").to_owned();
    let pipeline = build(settings, &hostname)?;
    let files = inputs(&arguments.inputs)?;
    if files.len() > 1 && arguments.out.is_some() {
        bail!("--out takes one mail; {} were named", files.len());
    }
    let runtime = runtime()?;
    let mut out = io::stdout().lock();
    for file in files {
        let raw = read(&file)?;
        let preview = match runtime.block_on(preview(&pipeline, &raw, arguments)) {
            Ok(preview) => preview,
            Err(refusal) => {
                let form = if arguments.json { Form::Json } else { Form::People };
                refused(&mut out, &file, refusal, form)?;
                continue;
            }
        };
        if arguments.json {
            serde_json::to_writer(&mut out, &View::new(&file, &preview)).context("standard output")?;
            writeln!(out)?;
        } else {
            show(&mut out, &file, &preview)?;
            if arguments.recipients.is_empty() {
                let says = "no recipient was given: --rcpt bob@corp.example says who gets it, which `recipients` and `addressees` ask";
                writeln!(out, "  note          {says}")?;
            }
        }
        if arguments.diff {
            diff(&mut out, &raw, &preview.patches)?;
        }
        if let Some(path) = &arguments.out {
            let left = edit::apply(&raw, &preview.patches).context("the edits overlap")?;
            fs::write(path, left).with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    Ok(Answer::Yes)
}

/// The form of the output: for people, or JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    People,
}

async fn preview(pipeline: &Pipeline, raw: &[u8], arguments: &Explain) -> Result<Preview, Refusal> {
    let message = Message::read(raw);
    let returned = message.headers().first("Return-Path").and_then(|value| String::from_utf8(value).ok());
    let reverse_path = arguments.mail_from.clone().or(returned).map(|path| path.trim().to_owned()).unwrap_or_default();
    let transaction = Transaction {
        id: "explain",
        protocol: Protocol::File,
        client: Client { peer: arguments.client_ip.map_or(Peer::TrustedUpstream, Peer::Client), helo: "explain.invalid" },
        envelope: Envelope { reverse_path: &reverse_path, recipients: &arguments.recipients },
        data: raw,
        size: raw.len(),
        repair: LineRepair::None,
    };
    pipeline.preview(&transaction, clock::now()).await
}

/// The files that were named, folders opened, in order.
fn inputs(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> = fs::read_dir(path)
                .with_context(|| format!("{} cannot be read", path.display()))?
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|inside| {
                    inside.is_dir() || inside.extension().is_none_or(|end| matches!(end.to_str(), Some("eml" | "msg" | "mail" | "txt")))
                })
                .collect();
            inside.sort();
            files.extend(inputs(&inside)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path != Path::new("-") {
        return Ok(as_sent(fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?));
    }
    let mut raw = Vec::new();
    io::stdin().lock().read_to_end(&mut raw).context("standard input")?;
    Ok(as_sent(raw))
}

#[derive(Serialize)]
struct View<'a> {
    file: String,
    decision: &'a Code<VerdictKind>,
    observed: bool,
    actions: &'a [Code<Action>],
    entry: Option<&'a str>,
    kind: &'a Option<Code<Kind>>,
    recognized: RecognizedView<'a>,
    one_time_links: Vec<&'a str>,
    identity: &'a Option<IdentityRecord>,
    flaws: &'a [Code<Flaw>],
    reasons: &'a [ReasonRecord],
}

#[derive(Serialize)]
struct RecognizedView<'a> {
    kind: &'static str,
    confidence: f64,
    signals: &'a [String],
}

/// A mail that the hop would refuse.
#[derive(Serialize)]
struct RefusedView {
    file: String,
    decision: &'static str,
    reply: String,
}

impl<'a> View<'a> {
    fn new(file: &Path, preview: &'a Preview) -> Self {
        let Analysis { decision, content, .. } = &preview.analysis;
        let record = &preview.record;
        let recognition = decision.recognition.as_ref();
        let mut links = Vec::new();
        for at in decision.links() {
            // Each in every spelling: as it stands in the mail, and what it hides where a scanner wrapped it.
            let found = content.as_ref().and_then(|content| content.links.get(*at));
            for link in found.into_iter().flat_map(|found| [found.written(), found.link.expose()]) {
                if !links.contains(&link) {
                    links.push(link);
                }
            }
        }
        Self {
            file: file.display().to_string(),
            decision: &record.decision,
            observed: record.observed,
            actions: &record.actions,
            entry: record.entry.as_deref(),
            kind: &record.kind,
            recognized: RecognizedView {
                kind: recognition.and_then(|found| found.kind).map_or("none", Kind::code),
                confidence: recognition.map_or(0.0, |found| found.confidence),
                signals: recognition.map(|found| found.signals.as_slice()).unwrap_or_default(),
            },
            one_time_links: links,
            identity: &record.identity,
            flaws: &record.flaws,
            reasons: &record.reasons,
        }
    }
}

fn show(out: &mut impl Write, file: &Path, preview: &Preview) -> io::Result<()> {
    let view = View::new(file, preview);
    let observed = if view.observed { " (observed only: nothing is done)" } else { "" };
    writeln!(out, "{}: {}{observed}", view.file, view.decision)?;
    if !view.actions.is_empty() {
        writeln!(out, "  actions       {}", view.actions.iter().map(Code::code).collect::<Vec<_>>().join(", "))?;
    }
    if let Some(kind) = view.kind {
        writeln!(out, "  kind          {kind}")?;
    }
    writeln!(out, "  words say     {} ({:.2})", view.recognized.kind, view.recognized.confidence)?;
    for signal in view.recognized.signals {
        writeln!(out, "                - {}", printable(signal))?;
    }
    for link in &view.one_time_links {
        writeln!(out, "  one-time link {}", printable(link))?;
    }
    for reason in view.reasons {
        writeln!(out, "  {} {:14} {}", if reason.ok { "yes" } else { "NO " }, reason.check.code(), printable(&reason.detail))?;
        // Who the author is needs no proof yet: `identity` shows what covers From.
        let shown = reason.field.as_ref().filter(|_| reason.check.known() != Some(Reason::Author) || reason.covered_by.is_some());
        if let Some(field) = shown {
            let by = reason.covered_by.as_ref().map_or_else(|| "not covered by a proof".to_owned(), |by| format!("covered by {by}"));
            writeln!(out, "                     [{field}: {}]", printable(&by))?;
        }
    }
    Ok(())
}

fn refused(out: &mut impl Write, file: &Path, refusal: Refusal, form: Form) -> anyhow::Result<()> {
    let reply = format!("{} {}", refusal.code(), refusal.text());
    let view = RefusedView { file: file.display().to_string(), decision: "refused", reply };
    if form == Form::Json {
        serde_json::to_writer(&mut *out, &view).context("standard output")?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}: the hop would refuse it: {}", view.file, view.reply)?;
    }
    Ok(())
}

fn diff(out: &mut impl Write, raw: &[u8], patches: &[Patch]) -> io::Result<()> {
    let mut lines = |mark: char, bytes: &[u8]| -> io::Result<()> {
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            writeln!(out, "{mark} {}", line.trim_ascii_end().escape_ascii())?;
        }
        Ok(())
    };
    for patch in patches {
        lines('-', raw.get(patch.at.clone()).unwrap_or_default())?;
        lines('+', &patch.with)?;
    }
    Ok(())
}
