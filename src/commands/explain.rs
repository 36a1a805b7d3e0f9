//! `explain`: what would happen to a mail, and why. The same code as the hop's decides, and nothing leaves.

use std::{
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::{Answer, Config, build, printable, runtime};
use crate::{
    allowlist::{Mode, Verdict},
    audit::record::{IdentityView, ReasonView, actions, reasons},
    cli::Explain,
    clock,
    edit::{self, Patch},
    identity::{Arrival, Peer},
    message::{Domain, Message, as_sent},
    pipeline::{Analysis, Pipeline, address},
    recognition::Kind,
};

pub(super) fn explain(config: &Config, arguments: &Explain) -> anyhow::Result<Answer> {
    let mut settings = config.load_or_empty()?;
    // Nothing is remembered: a look is no mail.
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
        let explained = runtime.block_on(explain_one(&pipeline, &raw, arguments));
        if arguments.json {
            serde_json::to_writer(&mut out, &View::new(&file, &raw, &explained)).context("standard output")?;
            writeln!(out)?;
        } else {
            show(&mut out, &file, &raw, &explained)?;
        }
        if arguments.diff {
            diff(&mut out, &raw, &explained.patches)?;
        }
        if let Some(path) = &arguments.out {
            let left = edit::apply(&raw, &explained.patches).context("the edits overlap")?;
            fs::write(path, left).with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    Ok(Answer::Yes)
}

struct Explained {
    analysis: Analysis,
    patches: Vec<Patch>,
    author: Option<Domain>,
    mode: Mode,
}

async fn explain_one(pipeline: &Pipeline, raw: &[u8], arguments: &Explain) -> Explained {
    let message = Message::read(raw);
    let returned = message.headers().first("Return-Path").and_then(|value| String::from_utf8(value).ok());
    let reverse_path = arguments.mail_from.clone().or(returned).map(|path| address(path.trim())).unwrap_or_default();
    let peer = arguments.client_ip.map_or(Peer::TrustedUpstream, Peer::Client);
    let arrival = Arrival { peer, helo: "explain.invalid", reverse_path: &reverse_path };
    let recipients: Vec<String> = arguments.recipients.iter().map(|path| address(path)).collect();
    let now = clock::now();
    let (analysis, patches) = pipeline.preview("explain", &message, arrival, &recipients, now).await;
    let mode = analysis.decision.verdict.entry().map_or(Mode::Observe, |entry| entry.mode);
    Explained { author: message.author().ok().map(|author| author.domain), analysis, patches, mode }
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
    decision: &'static str,
    observed: bool,
    actions: Vec<&'static str>,
    entry: Option<&'a str>,
    kind: Option<&'static str>,
    recognized: RecognizedView<'a>,
    one_time_links: Vec<&'a str>,
    identity: Option<IdentityView<'a>>,
    flaws: Vec<&'static str>,
    reasons: Vec<ReasonView<'a>>,
}

#[derive(Serialize)]
struct RecognizedView<'a> {
    kind: &'static str,
    confidence: f64,
    signals: &'a [String],
}

impl<'a> View<'a> {
    fn new(file: &Path, _raw: &[u8], explained: &'a Explained) -> Self {
        let Analysis { decision, content, identity, mime: _ } = &explained.analysis;
        let recognition = decision.recognition.as_ref();
        let links = &mut Vec::new();
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
            decision: decision.verdict.code(),
            observed: matches!(decision.verdict, Verdict::Act(_)) && explained.mode == Mode::Observe,
            actions: actions(decision),
            entry: decision.entry.as_deref(),
            kind: decision.kind.map(Kind::code),
            recognized: RecognizedView {
                kind: recognition.and_then(|found| found.kind).map_or("none", Kind::code),
                confidence: recognition.map_or(0.0, |found| found.confidence),
                signals: recognition.map(|found| found.signals.as_slice()).unwrap_or_default(),
            },
            one_time_links: std::mem::take(links),
            identity: identity.as_ref().map(|identity| IdentityView::new(identity, explained.author.as_ref())),
            flaws: content.as_ref().map(|content| content.flaws.iter().map(crate::message::Flaw::code).collect()).unwrap_or_default(),
            reasons: reasons(decision),
        }
    }
}

fn show(out: &mut impl Write, file: &Path, raw: &[u8], explained: &Explained) -> io::Result<()> {
    let view = View::new(file, raw, explained);
    let observed = if view.observed { " (observed only: nothing is done)" } else { "" };
    writeln!(out, "{}: {}{observed}", view.file, view.decision)?;
    if !view.actions.is_empty() {
        writeln!(out, "  actions       {}", view.actions.join(", "))?;
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
    for reason in &view.reasons {
        writeln!(out, "  {} {:14} {}", if reason.ok { "yes" } else { "NO " }, reason.check, printable(reason.detail))?;
        // Who the author is needs no proof yet: `identity` says what covers From.
        let shown = reason.field.filter(|_| reason.check != "author" || reason.covered_by.is_some());
        if let Some(field) = shown {
            let by = reason.covered_by.map_or_else(|| "not covered by a proof".to_owned(), |by| format!("covered by {by}"));
            writeln!(out, "                     [{field}: {}]", printable(&by))?;
        }
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
