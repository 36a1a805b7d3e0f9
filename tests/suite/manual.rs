//! Help, man pages and completions: what an admin reads before he asks anybody.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{CommandFactory as _, Parser as _};
use firstclick::{
    cli::{Cli, DEFAULT_CONFIG, RELEASED},
    settings::keys::KEYS,
};
use tempfile::TempDir;

use crate::{documents::words, hop::needs};

/// Every command with all its words, as in `firstclick audit find`.
fn commands() -> Vec<clap::Command> {
    fn of(command: &clap::Command, found: &mut Vec<clap::Command>) {
        found.push(command.clone());
        command.get_subcommands().for_each(|command| of(command, found));
    }
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    let mut found = Vec::new();
    of(&all, &mut found);
    found
}

#[test]
fn the_help_of_every_command_has_examples_exit_codes_and_the_configurations_place() {
    let commands = commands();
    assert!(commands.len() > 15);
    for mut command in commands {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
        for help in [command.render_long_help().to_string(), command.render_help().to_string()] {
            assert_eq!(help.contains("--config"), !reads_none(&name), "{name}");
            for wanted in ["Example", "\nExit codes: 0 ", if reads_none(&name) { "" } else { DEFAULT_CONFIG }] {
                assert!(help.contains(wanted), "{name} --help: no {wanted:?}\n{help}");
            }
            for argument in command.get_arguments().filter(|argument| argument.get_num_args().is_some_and(|number| number.takes_values())) {
                for value in argument.get_possible_values() {
                    assert!(help.contains(value.get_name()), "{name} --help: {argument}: no {:?}\n{help}", value.get_name());
                }
            }
        }
        let below = command.get_after_help().unwrap().to_string();
        let examples: Vec<&str> = below.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            let ours = example.rsplit(" | ").find(|part| part.starts_with("firstclick ")).unwrap_or_else(|| panic!("{name}: {example}"));
            Cli::try_parse_from(words(ours)).unwrap_or_else(|error| panic!("{name}: {example}\n{error}"));
        }
    }
}

/// Whether a command has no use for a configuration.
fn reads_none(name: &str) -> bool {
    ["demo", "keygen", "manual", "senders", "unwrap"].iter().any(|word| name.split(' ').nth(1) == Some(word))
}

#[test]
fn a_configuration_is_named_before_or_behind_the_commands_that_read_one() {
    let named = |words: &str| Cli::try_parse_from(words.split(' ')).map(|cli| cli.config);
    for command in commands() {
        let name = command.get_bin_name().unwrap_or("firstclick").to_owned();
        let example = command.get_after_help().unwrap().to_string();
        let own = format!("{name} ");
        let Some(example) = example.lines().filter_map(|line| line.strip_prefix("  ")).find(|line| format!("{line} ").starts_with(&own))
        else {
            continue;
        };
        let (first, rest) = example.split_once(' ').unwrap_or((example, ""));
        for typed in [format!("{first} --config x {rest}"), format!("{name} --config x{}", example.strip_prefix(&name).unwrap_or_default())]
        {
            let read = Cli::try_parse_from(words(&typed));
            if reads_none(&name) {
                let error = read.unwrap_err();
                assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument, "{typed}");
                assert!(error.to_string().contains("unexpected argument '--config' found"), "{typed}: {error}");
            } else if name != "firstclick" {
                assert_eq!(read.unwrap_or_else(|error| panic!("{typed}: {error}")).config, Some("x".into()), "{typed}");
            }
        }
    }
    assert_eq!(named("firstclick check").unwrap(), None);
    assert_eq!(named("firstclick audit --config x find").unwrap(), Some("x".into()));
    assert_eq!(named("firstclick --config x audit find --config y").unwrap(), Some("y".into()), "the nearer one counts");
    assert!(named("firstclick senders list --config x").is_err() && named("firstclick keygen --token --config=x").is_err());
}

/// What `firstclick manual` writes.
fn manual() -> TempDir {
    let folder = TempDir::new().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_firstclick")).arg("manual").arg(folder.path()).status().unwrap();
    assert!(status.success());
    folder
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let sections = ["share/man/man1", "share/man/man5"].map(|section| fs::read_dir(folder.join(section)).unwrap());
    sections.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_command_and_every_key_has_its_place_in_the_man_pages() {
    let folder = manual();
    let names: BTreeSet<String> = pages(folder.path()).iter().map(|page| page.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let wanted = commands().iter().map(|command| format!("{}.1", command.get_display_name().unwrap_or("firstclick"))).collect();
    assert_eq!(names, BTreeSet::from_iter(["firstclick.toml.5".to_owned()]).union(&wanted).cloned().collect());
    for page in pages(folder.path()).iter().filter(|page| page.extension().unwrap() == "1") {
        let text = fs::read_to_string(page).unwrap();
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS", "FILES", "SEE ALSO"] {
            assert!(text.contains(section), "{}: {section}", page.display());
        }
    }
    let text = fs::read_to_string(folder.path().join("share/man/man5/firstclick.toml.5")).unwrap();
    for key in KEYS {
        assert!(text.contains(&format!("\n\\fB{}\\fR = ", key.name())), "{}", key.path);
    }
}

#[test]
fn man_and_mandoc_have_nothing_to_say_about_the_man_pages() {
    if needs("man").is_none() || needs("mandoc").is_none() {
        return;
    }
    let folder = manual();
    for page in pages(folder.path()) {
        let shown = Command::new("man").args(["--warnings", "--local-file", "--ascii"]).arg(&page).env("MANWIDTH", "100").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stderr), "", "{}", page.display());
        assert!(shown.status.success() && shown.stdout.len() > 300, "{}", page.display());
        let checked = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert_eq!(said, "");
    }
}

/// `apropos milter` and `apropos "link scanner"` look at NAME; a page that names a document says where packages put it.
#[test]
fn man_pages_are_found_and_lead_on() {
    let folder = manual();
    let read = |page: &str| fs::read_to_string(folder.path().join("share/man").join(page)).unwrap();
    for page in ["man1/firstclick.1", "man5/firstclick.toml.5"] {
        let text = read(page);
        let name = text.split(".SH NAME\n").nth(1).unwrap().lines().next().unwrap();
        assert!(name.contains("milter") && name.contains("link scanner"), "{name}");
    }
    assert!(read("man1/firstclick.1").contains("[\\fB\\-\\-config\\fR \\fIFILE\\fR]"), "{}", read("man1/firstclick.1"));
    assert!(read("man1/firstclick-ask.1").contains("\\fB\\-\\-from\\fR \\fIADDRESS\\fR"));
    for page in pages(folder.path()) {
        let text = fs::read_to_string(page).unwrap();
        assert_eq!(text.matches("docs/").count(), text.matches("/usr/share/doc/firstclick/docs/").count(), "{text}");
    }
    assert!(read("man5/firstclick.toml.5").contains("/usr/share/doc/firstclick/docs/allowlist.md"));
}

#[test]
fn bash_completes_commands_and_options() {
    let folder = manual();
    let script = folder.path().join("share/bash-completion/completions/firstclick");
    for (typed, wanted) in [
        ("firstclick au", "audit"),
        ("firstclick audit find --dec", "--decision"),
        ("firstclick audit find --decision n", "near_miss"),
        ("firstclick setup def", "defender"),
        ("firstclick senders show githu", "github"),
        // No file is a time.
        ("firstclick audit find --since Carg", "Carg"),
    ] {
        let typed: Vec<&str> = typed.split(' ').collect();
        let run = r#". "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _firstclick firstclick "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"; echo "${COMPREPLY[@]}""#;
        let said = Command::new("bash").args(["-c", run, "bash"]).arg(&script).args(&typed).output().unwrap();
        assert!(String::from_utf8_lossy(&said.stdout).split_whitespace().any(|word| word == wanted), "{typed:?}: {said:?}");
    }
    for other in ["share/zsh/site-functions/_firstclick", "share/fish/vendor_completions.d/firstclick.fish"] {
        assert!(fs::read_to_string(folder.path().join(other)).unwrap().contains("near_miss"), "{other}");
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changes = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md")).unwrap();
    let newest = changes.lines().find(|line| line.starts_with("## ") && *line != "## Unreleased");
    assert_eq!(newest, Some(format!("## {} ({RELEASED})", env!("CARGO_PKG_VERSION")).as_str()));
}
