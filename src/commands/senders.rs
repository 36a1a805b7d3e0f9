//! `senders`: the catalogue, for people.

use std::io::{self, Write as _};

use anyhow::bail;

use super::Answer;
use crate::{
    cli::Senders,
    settings::{Problems, catalogue, reading::nearest},
};

pub(super) fn senders(what: Option<&Senders>) -> anyhow::Result<Answer> {
    match what {
        None | Some(Senders::List) => list(),
        Some(Senders::Show { name }) => show(name),
    }
}

fn list() -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    let services = catalogue::all(&mut Problems::default());
    writeln!(out, "{:18} {:30} {:11} {:44} mails", "name", "service", "confidence", "from")?;
    for service in &services {
        writeln!(
            out,
            "{:18} {:30} {:11} {:44} {}",
            service.name,
            service.title,
            service.confidence.code(),
            service.from.join(" "),
            service.mails.join(" ")
        )?;
    }
    writeln!(out, "{} services; `firstclick senders show NAME` says more", services.len())?;
    Ok(Answer::Yes)
}

fn show(name: &str) -> anyhow::Result<Answer> {
    let Some(service) = catalogue::find(name) else {
        let near = nearest(name, &catalogue::names()).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        bail!("{name:?} is not in the catalogue{near}");
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{} ({})", service.title, service.name)?;
    let mut line = |what: &str, values: &[String]| -> io::Result<()> {
        for (at, value) in values.iter().enumerate() {
            writeln!(out, "  {:12} {value}", if at == 0 { what } else { "" })?;
        }
        Ok(())
    };
    line("from", &service.from)?;
    line("mails", &service.mails)?;
    line("links", &service.links)?;
    line("other links", &service.other_links)?;
    line("confidence", &[service.confidence.code().to_owned()])?;
    if !service.notes.is_empty() {
        writeln!(out, "\n{}", service.notes.trim())?;
    }
    if !service.sender_side.is_empty() {
        writeln!(out, "\nOn the sender's side: {}", service.sender_side.trim())?;
    }
    writeln!(
        out,
        "\nAllow it with a file in the allowlist folder:\n\n  sender = \"{}\"\n  owner = \"you@corp.example\"\n  reason = \"why, and which ticket\"\n  expires = 2027-06-30\n  mode = \"observe\"",
        service.name
    )?;
    Ok(Answer::Yes)
}
