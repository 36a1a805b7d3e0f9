//! `setup`: prints the recipe for a scanner, filled in from the configuration, or the scanners that there are.

use std::io::{self, Write as _};

use anyhow::anyhow;

use super::{Answer, Config};
use crate::{
    cli::{RecipeFormat, Setup},
    clock,
    settings::Problems,
    setup::{self, Facts, Recipe, Secrets, Shown, render, template},
};

pub(super) fn setup(config: &Config, arguments: &Setup) -> anyhow::Result<Answer> {
    let Some(scanner) = &arguments.scanner else { return list() };
    let template = setup::find(scanner).map_err(|error| anyhow!(error))?;
    let settings = config.load()?;
    // A ticket goes to more people than a terminal.
    let secrets = match arguments.format {
        RecipeFormat::Text | RecipeFormat::Json => Secrets::Shown,
        RecipeFormat::Md | RecipeFormat::Html => Secrets::Named,
    };
    let facts = Facts::of(&settings, &arguments.hops, secrets, clock::now());
    let recipe = Recipe::new(&template, &facts, if arguments.paper { Shown::Paper } else { Shown::Recipe });
    if arguments.paper && recipe.chapters.is_empty() {
        return Err(anyhow!("there is no paper for {}: nothing of it is a rule that a security team would find", template.name));
    }
    let shown = match arguments.format {
        RecipeFormat::Text => render::text(&recipe),
        RecipeFormat::Md => render::markdown(&recipe),
        RecipeFormat::Html => render::html(&recipe),
        RecipeFormat::Json => format!("{}\n", serde_json::to_string_pretty(&recipe)?),
    };
    io::stdout().lock().write_all(shown.as_bytes())?;
    if secrets == Secrets::Named {
        writeln!(
            io::stderr().lock(),
            "note: tokens are secrets and this is for a ticket: TOKEN1 and so on stand for them; --format text prints them"
        )?;
    }
    for missing in &recipe.missing {
        writeln!(io::stderr().lock(), "missing: {missing}")?;
    }
    Ok(if recipe.is_whole() { Answer::Yes } else { Answer::No })
}

fn list() -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    for template in template::all(&mut Problems::default()) {
        let aliases = if template.aliases.is_empty() { String::new() } else { format!(" ({})", template.aliases.join(", ")) };
        writeln!(out, "{:22} {:46} {}{aliases}", template.name, template.title, template.telling().says())?;
    }
    writeln!(out, "\n`firstclick setup SCANNER --hop IP` prints its recipe; docs/scanners.md compares them.")?;
    Ok(Answer::Yes)
}
