//! `setup`: prints the recipe for a scanner, filled in from the configuration, or the scanners that there are.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};

use super::{Answer, Config};
use crate::{
    cli::{RecipeFormat, Setup},
    clock, limits, regular,
    settings::{Problems, Settings},
    setup::{
        self, Facts, Recipe, Secrets, Shown,
        check::{self, Conclusion, Export},
        render,
        template::{self, Template},
    },
};

pub(super) fn setup(config: &Config, arguments: &Setup) -> anyhow::Result<Answer> {
    let Some(scanner) = &arguments.scanner else { return list() };
    let template = setup::find(scanner).map_err(|error| anyhow!(error))?;
    let hops = arguments.hops.iter().map(|hop| setup::hop(*hop)).collect::<Result<Vec<_>, _>>().map_err(|error| anyhow!(error))?;
    let settings = config.load()?;
    if !arguments.check.is_empty() {
        return check(&template, &settings, &hops, arguments);
    }
    // A ticket goes to more people than a terminal.
    let secrets = match arguments.format {
        RecipeFormat::Text | RecipeFormat::Json => Secrets::Shown,
        RecipeFormat::Md | RecipeFormat::Html => Secrets::Named,
    };
    let facts = Facts::of(&settings, &hops, secrets, clock::now());
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

/// What is in exports of the scanner. No token is printed, so that it may go anywhere.
fn check(template: &Template, settings: &Settings, hops: &[IpAddr], arguments: &Setup) -> anyhow::Result<Answer> {
    let facts = Facts::of(settings, hops, Secrets::Shown, clock::now());
    let report = check::report(template, &exports(&arguments.check)?, &facts, clock::now()).map_err(|error| anyhow!(error))?;
    let shown = match arguments.format {
        RecipeFormat::Text => render::report_text(&report),
        RecipeFormat::Md => render::report_markdown(&report),
        RecipeFormat::Html => render::report_html(&report),
        RecipeFormat::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
    };
    io::stdout().lock().write_all(shown.as_bytes())?;
    Ok(match report.answer {
        Conclusion::Right => Answer::Yes,
        Conclusion::Wrong => Answer::No,
        Conclusion::CannotJudge => Answer::Mistaken,
    })
}

/// The files that were named, and those of the folders that were, by name, as the programs that own them read them.
fn exports(named: &[PathBuf]) -> anyhow::Result<Vec<Export>> {
    let mut exports = Vec::new();
    for path in named {
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
            let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
            paths.retain(|path| path.is_file());
            paths.sort();
            paths.iter().try_for_each(|path| read(path, &mut exports))?;
        } else {
            read(path, &mut exports)?;
        }
    }
    Ok(exports)
}

fn read(path: &Path, exports: &mut Vec<Export>) -> anyhow::Result<()> {
    let name = path.display().to_string();
    if exports.len() == limits::EXPORTS {
        bail!("there are more than {} files", limits::EXPORTS);
    }
    let mut bytes = Vec::new();
    let file = regular::open(path).with_context(|| name.clone())?;
    file.take(limits::EXPORT + 1).read_to_end(&mut bytes).with_context(|| name.clone())?;
    if u64::try_from(bytes.len()).is_ok_and(|octets| octets > limits::EXPORT) {
        bail!("{name} has more than {} octets, and is not judged by a part of it", limits::EXPORT);
    }
    exports.push(Export { name, bytes });
    Ok(())
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
