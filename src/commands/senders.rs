//! `senders`: the catalogue, for people.

use std::io::{self, Write as _};

use anyhow::bail;

use super::Answer;
use crate::{
    cli::Senders,
    settings::{
        Problems,
        catalogue::{self, Service, Shelf},
        reading::nearest,
    },
};

pub(super) fn senders(what: Option<&Senders>) -> anyhow::Result<Answer> {
    match what {
        None | Some(Senders::List) => list(),
        Some(Senders::Show { name }) => show(name),
    }
}

fn list() -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    for (shelf, what) in [(Shelf::Services, "service"), (Shelf::Products, "product")] {
        let services = catalogue::all(shelf, &mut Problems::default());
        writeln!(out, "{:22} {:36} {:9} {:30} a visit", what, "title", "state", "kinds")?;
        for service in &services {
            let kinds: Vec<&str> = service.links.iter().map(|(kind, _)| kind.code()).collect();
            let visits: Vec<String> = service.visit.iter().map(|(kind, visit)| format!("{}: {}", kind.code(), visit.code())).collect();
            writeln!(
                out,
                "{:22} {:36} {:9} {:30} {}",
                service.name,
                service.title,
                state(service, shelf),
                kinds.join(" "),
                visits.join(", ")
            )?;
        }
        writeln!(out, "{} {what}s\n", services.len())?;
    }
    writeln!(out, "`firstclick senders show NAME` says more. A draft exempts nobody until an entry says accept_draft = true.")?;
    Ok(Answer::Yes)
}

fn state(service: &Service, shelf: Shelf) -> &'static str {
    if service.missing(shelf).is_empty() { "evidence" } else { "draft" }
}

fn show(name: &str) -> anyhow::Result<Answer> {
    let found = [Shelf::Services, Shelf::Products].into_iter().find_map(|shelf| Some((shelf, catalogue::find(shelf, name)?)));
    let Some((shelf, service)) = found else {
        let names = [catalogue::names(Shelf::Services), catalogue::names(Shelf::Products)].concat();
        let near = nearest(name, &names).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        bail!("{name:?} is not in the catalogue{near}");
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{} ({})", service.title, service.name)?;
    let mut line = |what: &str, values: &[String]| -> io::Result<()> {
        for (at, value) in values.iter().enumerate() {
            writeln!(out, "  {:15} {value}", if at == 0 { what } else { "" })?;
        }
        Ok(())
    };
    let missing = service.missing(shelf);
    let says = if missing.is_empty() { "evidence".to_owned() } else { format!("draft: no evidence for {}", missing.join(" and ")) };
    line("state", &[says])?;
    for (kind, visit) in &service.visit {
        line("", &[format!("{}: {}", kind.code(), visit.says())])?;
    }
    line("from", &service.from)?;
    line("never", &service.never)?;
    for (kind, shapes) in &service.links {
        line(kind.code(), shapes)?;
    }
    line("other links", &service.other_links)?;
    line("not signed", &service.leaves_out)?;
    line("tenant", service.tenant_hint.as_slice())?;
    if !service.notes.is_empty() {
        writeln!(out, "\n{}", service.notes.trim())?;
    }
    if !service.sender_side.is_empty() {
        writeln!(out, "\nOn the sender's side: {}", service.sender_side.trim())?;
    }
    if !service.evidence.is_empty() {
        writeln!(out, "\nEvidence:")?;
    }
    for one in &service.evidence {
        writeln!(out, "  {} {:10} for {}: {}\n    {}", one.seen, one.how.code(), one.speaks_for.join(", "), one.what, one.source)?;
    }
    let (tenant, host) = (service.wants_tenant(), shelf == Shelf::Products);
    writeln!(out, "\nAllow it with a file in the allowlist folder:\n")?;
    writeln!(out, "  {} = \"{}\"", if host { "product" } else { "sender" }, service.name)?;
    if host {
        writeln!(out, "  host = \"{}.corp.example\"\n  from = [\"{}@corp.example\"]", service.name, service.name)?;
    }
    if tenant {
        writeln!(out, "  tenant = [\"corp\"]")?;
    }
    writeln!(
        out,
        "  owner = \"you@corp.example\"\n  reason = \"why, and which ticket\"\n  expires = 2027-06-30\n  mode = \"observe\"\n  action = \"tag\""
    )?;
    Ok(Answer::Yes)
}
