//! `manual`: man pages and completions, from what can be typed (`cli`) and from the table of keys.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::{CommandFactory as _, ValueHint, builder::PossibleValuesParser};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::Answer;
use crate::{
    cli::{Cli, DEFAULT_CONFIG, RELEASED},
    settings::{catalogue, products, reference},
    setup::template,
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
        clap_complete::generate(*shell, &mut completed(), "firstclick", &mut script);
        write(&folder.join(path), &script)?;
    }
    Ok(Answer::Yes)
}

/// What can be typed, with all that a shell can offer. What stands there is for completions alone: a name that nobody knows has better
/// answers than clap's.
fn completed() -> clap::Command {
    let senders: Vec<&str> = catalogue::names().into_iter().chain(products::names()).collect();
    let one_of = |command: clap::Command, argument: &'static str, names: PossibleValuesParser| {
        command.mut_arg(argument, |argument| argument.value_parser(names))
    };
    let command = Cli::command()
        .mut_subcommand("setup", |setup| one_of(setup, "scanner", template::names().into()))
        .mut_subcommand("senders", |all| all.mut_subcommand("show", |show| one_of(show, "name", senders.into())));
    hinted(command)
}

/// Says by the name of each value what it is: a file, a folder, a user, or nothing that lies around.
fn hinted(command: clap::Command) -> clap::Command {
    let hint = |argument: clap::Arg| {
        let name = argument.get_value_names().and_then(|names| names.first()).map(|name| name.as_str().to_owned()).unwrap_or_default();
        argument.value_hint(match name.as_str() {
            "DIR" => ValueHint::DirPath,
            "FILE" | "MAIL" | "EXPORT" | "FILE|DIR|MBOX|MAILDIR|-" => ValueHint::AnyPath,
            "USER" => ValueHint::Username,
            _ => ValueHint::Other,
        })
    };
    let takes_values = |argument: &clap::Arg| argument.get_action().takes_values();
    command.mut_args(|argument| if takes_values(&argument) { hint(argument) } else { argument }).mut_subcommands(hinted)
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
    // As it is found: by apropos, which looks at this line.
    let command = command.about(ABOUT);
    let mut pages = vec![("firstclick.toml.5".to_owned(), reference::man(RELEASED).into_bytes())];
    of(&command, &mut pages)?;
    for (_, page) in &mut pages {
        *page = as_installed(std::mem::take(page))?;
    }
    Ok(pages)
}

/// What firstclick is, in words that people look for.
const ABOUT: &str = "SMTP hop and milter before a link scanner: the first click on a one-time link is its reader's";

/// A page as it stands on a machine: documents where packages put them, and no room around lists that is asked for twice.
fn as_installed(page: Vec<u8>) -> io::Result<Vec<u8>> {
    let text = String::from_utf8(page).map_err(io::Error::other)?.replace("\n.br\n\n.br\n", "\n.sp\n");
    Ok(text.replace("docs/", "/usr/share/doc/firstclick/docs/").into_bytes())
}

/// The synopsis, in which an option has its value, too.
fn synopsis(man: &Man, command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    man.render_synopsis_section(&mut text)?;
    let mut text = String::from_utf8(text).map_err(io::Error::other)?;
    for option in command.get_opts() {
        let (Some(long), Some(values)) = (option.get_long(), option.get_value_names()) else { continue };
        let long = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
        let values: Vec<String> = values.iter().map(|value| value.replace('-', "\\-")).collect();
        text = text.replace(&long, &format!("{long} \\fI{}\\fR", values.join(" ")));
    }
    Ok(text.into_bytes())
}

fn of(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let man = Man::new(command.clone()).date(RELEASED).manual("firstclick").source(format!("firstclick {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend(synopsis(&man, command)?);
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
