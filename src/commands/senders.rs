//! `senders`: prints the catalogue of services.

use std::io::{self, Write};

use anyhow::bail;

use super::Answer;
use crate::{
    cli::Senders,
    recognition::Kind,
    settings::{
        Problems,
        catalogue::{self, Evidence, Service, Visit},
        products::{self, Product},
        schema::nearest,
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
    let services = catalogue::all(&mut Problems::default());
    let products = products::all(&mut Problems::default());
    writeln!(out, "{:20} {:34} {:6} {:44} kinds, and what a visit of a link does", "name", "service", "state", "from")?;
    for service in &services {
        let from = service.from().join(" ");
        writeln!(
            out,
            "{:20} {:34} {:6} {from:44} {}",
            service.name,
            service.title,
            state(service.is_draft()),
            kinds(&service.links(), &service.visit)
        )?;
    }
    writeln!(out, "\n{:20} {:34} {:6} {:44} kinds, and what a visit of a link does", "name", "product", "state", "from")?;
    for product in &products {
        let kinds = kinds(&product.links(), &product.visit);
        writeln!(out, "{:20} {:34} {:6} {:44} {kinds}", product.name, product.title, state(product.is_draft()), "yours")?;
    }
    writeln!(out, "{} services, {} products; `firstclick senders show NAME` says more", services.len(), products.len())?;
    Ok(Answer::Yes)
}

const fn state(is_draft: bool) -> &'static str {
    if is_draft { "draft" } else { "ready" }
}

fn kinds(links: &[(Kind, String)], visit: &[(Kind, Visit)]) -> String {
    let mut kinds: Vec<Kind> = Vec::new();
    for (kind, _) in links {
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    let known = |kind: Kind| visit.iter().find(|(other, _)| *other == kind).map_or("unknown", |(_, visit)| visit.code());
    kinds.into_iter().map(|kind| format!("{}: {}", kind.code(), known(kind))).collect::<Vec<_>>().join(", ")
}

fn show(name: &str) -> anyhow::Result<Answer> {
    if let Some(service) = catalogue::find(name) {
        return show_service(&service);
    }
    if let Some(product) = products::find(name) {
        return show_product(&product);
    }
    let known: Vec<&str> = catalogue::names().into_iter().chain(products::names()).collect();
    let near = nearest(name, &known).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    bail!("{name:?} is not in the catalogue{near}");
}

fn line(out: &mut impl Write, what: &str, values: &[String]) -> io::Result<()> {
    for (at, value) in values.iter().enumerate() {
        writeln!(out, "  {:14} {value}", if at == 0 { what } else { "" })?;
    }
    Ok(())
}

fn links(out: &mut impl Write, links: &[(Kind, String)], visit: &[(Kind, Visit)]) -> io::Result<()> {
    for kind in Kind::ALL.iter().copied() {
        let shapes: Vec<String> = links.iter().filter(|(other, _)| *other == kind).map(|(_, shape)| shape.clone()).collect();
        if shapes.is_empty() {
            continue;
        }
        line(out, kind.code(), &shapes)?;
        let says = visit.iter().find(|(other, _)| *other == kind).map_or("what a visit does is not known", |(_, visit)| visit.says());
        line(out, "", &[format!("({says})")])?;
    }
    Ok(())
}

fn evidence(out: &mut impl Write, evidence: &[Evidence]) -> io::Result<()> {
    writeln!(out, "\nWhat is known, and from where:")?;
    for one in evidence {
        writeln!(out, "  {} {} ({}): {}\n    {}", one.seen, one.how.code(), one.facts.join(", "), one.what, one.source)?;
    }
    Ok(())
}

fn show_service(service: &Service) -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    writeln!(out, "{} ({}), {}", service.title, service.name, state(service.is_draft()))?;
    line(&mut out, "from", &service.from())?;
    line(&mut out, "never", &service.never())?;
    links(&mut out, &service.links(), &service.visit)?;
    line(&mut out, "other links", &service.other_links())?;
    line(&mut out, "not signed", &service.leaves_out)?;
    if !service.notes.is_empty() {
        writeln!(out, "\n{}", service.notes.trim())?;
    }
    if !service.sender_side.is_empty() {
        writeln!(out, "\nOn the sender's side: {}", service.sender_side.trim())?;
    }
    evidence(&mut out, &service.evidence)?;
    let tenant = if service.needs_tenant() {
        format!("\n  tenant = [\"your-name\"]  # {}", service.tenant_hint.as_deref().unwrap_or_default())
    } else {
        String::new()
    };
    let draft = if service.is_draft() {
        let guessed: Vec<&str> = service.guessed().iter().map(|fact| fact.key()).collect();
        format!("\n  accept_draft = true  # nobody has seen its {}; better write them from a mail of yours", guessed.join(" and its "))
    } else {
        String::new()
    };
    if service.links().is_empty() {
        writeln!(out, "\nNo shape of its links is known: an entry needs [links] of its own, written from a mail of yours.")?;
        return Ok(Answer::Yes);
    }
    writeln!(
        out,
        "\nAllow it with a file in the allowlist folder:\n\n  sender = \"{}\"{tenant}{draft}\n  owner = \"you@corp.example\"\n  reason = \"why, and which ticket\"\n  expires = 2027-06-30\n  mode = \"observe\"",
        service.name
    )?;
    Ok(Answer::Yes)
}

fn show_product(product: &Product) -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    writeln!(out, "{} ({}), {}", product.title, product.name, state(product.is_draft()))?;
    links(&mut out, &product.links(), &product.visit)?;
    line(&mut out, "other links", &product.other_links())?;
    if !product.notes.is_empty() {
        writeln!(out, "\n{}", product.notes.trim())?;
    }
    evidence(&mut out, &product.evidence)?;
    let draft = if product.is_draft() {
        "\n  accept_draft = true  # nobody has seen its links; better write them from a mail of yours"
    } else {
        ""
    };
    writeln!(
        out,
        "\nAllow it with a file in the allowlist folder:\n\n  product = \"{}\"\n  host = \"where.corp.example\"\n  from = [\"no-reply@corp.example\"]{draft}\n  owner = \"you@corp.example\"\n  reason = \"why, and which ticket\"\n  expires = 2027-06-30\n  mode = \"observe\"",
        product.name
    )?;
    Ok(Answer::Yes)
}
