//! What `explain` and `ask` print of a decision: for people, and as JSON. A one-time link is shown without its secret unless it is
//! asked for.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::printable;
use crate::{
    allowlist::{LinkRules, suggestion::Missing},
    edit::{Patch, tag::Tagger},
    mail::{
        Action, Flaw, Kind, Reason, VerdictKind, counted,
        record::{IdentityRecord, ReasonRecord},
    },
    message::Message,
    pipeline::{Analysis, Preview},
    vocabulary::Code,
};

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    Hidden,
    Shown,
}

/// A decision, as it is told.
#[derive(Serialize)]
pub(super) struct View<'a> {
    pub(super) file: String,
    pub(super) decision: &'a Code<VerdictKind>,
    observed: bool,
    /// Whether the sender only counts as proven.
    assumed_proven: bool,
    actions: &'a [Code<Action>],
    entry: Option<&'a str>,
    kind: &'a Option<Code<Kind>>,
    recognized: RecognizedView<'a>,
    one_time_links: Vec<String>,
    identity: &'a Option<IdentityRecord>,
    flaws: &'a [Code<Flaw>],
    pub(super) reasons: &'a [ReasonRecord],
    missing: Paste,
}

#[derive(Serialize)]
struct RecognizedView<'a> {
    kind: &'static str,
    confidence: f64,
    signals: &'a [String],
}

/// What an entry would need for a mail's links, to be pasted: each list whole, with what the entry has already.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Paste {
    pub(super) links: BTreeMap<&'static str, Vec<String>>,
    pub(super) other_links: Vec<String>,
    /// Links that no line of an entry may let through, and why.
    pub(super) unlistable: Vec<String>,
}

impl Paste {
    fn new(preview: &Preview) -> Self {
        Self::of(&preview.analysis.decision.missing, preview.entry.as_ref().map(|entry| &entry.links))
    }

    /// What is missing from an entry with these links.
    pub(super) fn of(missing: &Missing, rules: Option<&LinkRules>) -> Self {
        let mut paste = Self { unlistable: missing.unlistable.clone(), ..Self::default() };
        for (kind, shape) in &missing.shapes {
            let has = rules.into_iter().flat_map(LinkRules::shapes).filter(|(known, _)| known == kind);
            let list = paste.links.entry(kind.code()).or_insert_with(|| has.map(|(_, shape)| shape.to_string()).collect());
            list.push(shape.clone());
        }
        if !missing.other_links.is_empty() {
            let has = rules.into_iter().flat_map(LinkRules::other_links).map(ToString::to_string);
            paste.other_links = has.chain(missing.other_links.iter().cloned()).collect();
        }
        paste
    }

    /// The lines of TOML.
    pub(super) fn toml(&self) -> String {
        let mut out = String::new();
        if !self.other_links.is_empty() {
            out.push_str(&list("other_links", &self.other_links));
        }
        if !self.links.is_empty() {
            out.push_str("[links]\n");
        }
        for (kind, shapes) in &self.links {
            out.push_str(&list(kind, shapes));
        }
        out
    }
}

/// A list of TOML, an item a line where there are several.
pub(super) fn list(key: &str, items: &[String]) -> String {
    match items {
        [one] => format!("{key} = [{}]\n", text(one)),
        _ => format!("{key} = [\n{}]\n", items.iter().map(|item| format!("  {},\n", text(item))).collect::<String>()),
    }
}

/// A text of TOML, whatever stands in it.
pub(super) fn text(text: &str) -> String {
    toml::Value::String(text.replace(|letter: char| letter.is_control(), " ")).to_string()
}

impl<'a> View<'a> {
    pub(super) fn new(name: &str, preview: &'a Preview, secrets: Secrets) -> Self {
        let Analysis { decision, content, .. } = &preview.analysis;
        let record = &preview.record;
        let recognition = decision.recognition.as_ref();
        let mut links = Vec::new();
        for at in decision.links() {
            let Some(found) = content.as_ref().and_then(|content| content.links.get(*at)) else { continue };
            // Each in every spelling: as it stands in the mail, and what it hides where a scanner wrapped it.
            let spellings = match secrets {
                Secrets::Shown => vec![found.written().to_owned(), found.link.expose().to_owned()],
                Secrets::Hidden => vec![found.link.redacted()],
            };
            for link in spellings {
                if !links.contains(&link) {
                    links.push(link);
                }
            }
        }
        Self {
            file: name.to_owned(),
            decision: &record.decision,
            observed: record.observed,
            assumed_proven: record.identity.as_ref().is_some_and(|identity| identity.source == "assumed"),
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
            missing: Paste::new(preview),
        }
    }

    /// The outcome in one line.
    fn outcome(&self) -> String {
        let observed = if self.observed { " (observed only: nothing is done)" } else { "" };
        let assumed =
            if self.assumed_proven { ", if the sender had proven itself, which is assumed here and was not looked at" } else { "" };
        format!("{}: {}{observed}{assumed}", self.file, self.decision)
    }

    pub(super) fn show(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", printable(&self.outcome()))?;
        if !self.actions.is_empty() {
            writeln!(out, "  actions       {}", self.actions.iter().map(Code::code).collect::<Vec<_>>().join(", "))?;
        }
        if let Some(kind) = self.kind {
            writeln!(out, "  kind          {kind}")?;
        }
        writeln!(out, "  words say     {} ({:.2})", self.recognized.kind, self.recognized.confidence)?;
        for signal in self.recognized.signals {
            writeln!(out, "                - {}", printable(signal))?;
        }
        for link in &self.one_time_links {
            writeln!(out, "  one-time link {}", printable(link))?;
        }
        for reason in self.reasons {
            show_reason(out, reason)?;
            if !reason.ok && reason.check.known() == Some(Reason::Freshness) {
                writeln!(out, "                     (saved a while ago? --at TIME judges it as of when it came)")?;
            }
        }
        // Of an unlisted sender this is all there is to say: the way on.
        if self.entry.is_none() && self.reasons.iter().any(|reason| !reason.ok && reason.check.known() == Some(Reason::Sender)) {
            let says = "if its links must not be opened: `firstclick draft FILE` writes an entry for its sender from a mail";
            writeln!(out, "  what to do    {says}")?;
        }
        self.show_missing(out)
    }

    /// What would make it match, all at once and ready to paste.
    pub(super) fn show_missing(&self, out: &mut impl Write) -> io::Result<()> {
        let toml = self.missing.toml();
        if !toml.is_empty() {
            let entry = self.entry.map(|entry| format!(" {entry:?}")).unwrap_or_default();
            writeln!(out, "  to paste      if all of these are the sender's own, into the entry{entry}, in the place of the same keys:")?;
            for line in toml.lines() {
                writeln!(out, "    {}", printable(line))?;
            }
        }
        for link in &self.missing.unlistable {
            writeln!(out, "  not to list   {}", printable(link))?;
        }
        Ok(())
    }
}

/// One check and its outcome.
pub(super) fn show_reason(out: &mut impl Write, reason: &ReasonRecord) -> io::Result<()> {
    writeln!(out, "  {} {:14} {}", if reason.ok { "yes" } else { "NO " }, reason.check.code(), printable(&reason.detail))?;
    // Who the author is needs no proof yet: `identity` shows what covers From.
    let shown = reason.field.as_ref().filter(|_| reason.check.known() != Some(Reason::Author) || reason.covered_by.is_some());
    if let Some(field) = shown {
        let by = reason.covered_by.as_ref().map_or_else(|| "not covered by a proof".to_owned(), |by| format!("covered by {by}"));
        writeln!(out, "                     [{field}: {}]", printable(&by))?;
    }
    Ok(())
}

/// The edits as lines that go and lines that come. What an edit does to the text may hold a live link in any encoding, so that it
/// is shown as a whole or not at all.
pub(super) fn diff(out: &mut impl Write, raw: &[u8], patches: &[Patch], tagger: &Tagger, secrets: Secrets) -> io::Result<()> {
    let body = Message::read(raw).headers().body();
    let mut lines = |mark: char, bytes: &[u8]| -> io::Result<()> {
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut shown = line.trim_ascii_end().escape_ascii().to_string();
            if secrets == Secrets::Hidden {
                for token in tagger.tokens.iter().chain(&tagger.staged) {
                    shown = shown.replace(token.expose(), "(the token; --show-links shows it)");
                }
            }
            writeln!(out, "{mark} {shown}")?;
        }
        Ok(())
    };
    for patch in patches {
        let old = raw.get(patch.at.clone()).unwrap_or_default();
        if secrets == Secrets::Hidden && patch.at.end > body {
            lines('-', format!("({} of the text; --show-links shows them)", counted(old.len(), "octet")).as_bytes())?;
            lines('+', format!("({} in their place)", counted(patch.with.len(), "octet")).as_bytes())?;
        } else {
            lines('-', old)?;
            lines('+', &patch.with)?;
        }
    }
    Ok(())
}
