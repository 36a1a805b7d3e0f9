//! `manual`: man pages and completions, from what can be typed (`cli`) and from the table of keys.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::Answer;
use crate::{
    cli::{Cli, DEFAULT_CONFIG, RELEASED},
    settings::reference,
};

/// Where each shell looks for a completion, below a prefix such as `/usr` or `~/.local`.
const COMPLETIONS: &[(Shell, &str)] = &[
    (Shell::Bash, "share/bash-completion/completions/firstclick"),
    (Shell::Zsh, "share/zsh/site-functions/_firstclick"),
    (Shell::Fish, "share/fish/vendor_completions.d/firstclick.fish"),
];

/// Writes them below a folder. The same program writes the same octets.
pub(super) fn manual(folder: &Path) -> anyhow::Result<Answer> {
    for (name, page) in pages()? {
        let section = name.rsplit('.').next().unwrap_or_default();
        write(&folder.join(format!("share/man/man{section}")).join(&name), &page)?;
    }
    for (shell, path) in COMPLETIONS {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "firstclick", &mut script);
        write(&folder.join(path), &script)?;
    }
    Ok(Answer::Yes)
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Every man page, with the name of its file.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![("firstclick.toml.5".to_owned(), reference::man(RELEASED).into_bytes())];
    of(&command, &mut pages)?;
    Ok(pages)
}

fn of(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let man = Man::new(command.clone()).date(RELEASED).manual("firstclick").source(format!("firstclick {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    ending(command, &below).to_writer(&mut page)?;
    pages.push((man.get_filename(), page));
    command.get_subcommands().try_for_each(|command| of(command, pages))
}

/// Examples, exit codes, files and what else to read.
fn ending(command: &clap::Command, below: &str) -> Roff {
    let mut roff = Roff::new();
    let (mut examples, mut exits) = (Roff::new(), Roff::new());
    let mut in_exits = false;
    for line in below.lines() {
        let codes = line.strip_prefix("Exit codes: ");
        in_exits |= codes.is_some();
        if in_exits {
            exits.text([roman(codes.unwrap_or(line))]);
        } else if let Some(example) = line.strip_prefix("  ") {
            examples.control("nf", []).text([bold(example)]).control("fi", []);
        } else if !matches!(line, "Example:" | "Examples:") {
            examples.control("PP", []).text([roman(line)]);
        }
    }
    roff.control("SH", ["EXAMPLES"]).extend([examples]);
    roff.control("SH", ["EXIT STATUS"]).extend([exits]);
    roff.control("SH", ["FILES"]).control("TP", []).text([bold(DEFAULT_CONFIG)]).text([roman("the configuration")]);
    let is_top = command.get_display_name().is_none_or(|name| name == "firstclick");
    roff.control("SH", ["SEE ALSO"]);
    roff.text(
        if is_top { vec![] } else { vec![bold("firstclick"), roman("(1), ")] }
            .into_iter()
            .chain([bold("firstclick.toml"), roman("(5)")])
            .collect::<Vec<_>>(),
    );
    roff
}
