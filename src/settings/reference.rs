//! config/firstclick.toml, docs/reference.md and firstclick.toml(5), written from the table of keys.
//!
//! The first two are files of the repository, and a test holds them to what stands here; `UPDATE=1` has it write them (CONTRIBUTING.md).

use clap_mangen::roff::{Roff, bold, italic, roman};

use super::keys::{self, Key, Preset, Restart, SECTIONS, SectionKeys, Shipped};

/// Columns of the comments of firstclick.toml.
const COLUMNS: usize = 130;

const HEAD: &str = "firstclick: every key, with what it says. `#key = ...` behind a `#` is the value that it has where the key is left out; a line \
that ends with `# example` is an example, and where that key is left out there is nothing. A key without `#` is in force. `firstclick \
check` says what is wrong with a file, with line and column. Each key can be given by the environment, too: FIRSTCLICK_SMTP__NEXT_HOP is \
next_hop in [smtp], and a list has commas. A change takes effect within seconds and without a restart, and so does a change of a file that is \
named here; a key that needs a restart says so, and the log names it when it has changed (docs/operations.md).";

/// Keys that the shipped file has in force though they may be left out.
const IN_FORCE: &[&str] = &["mode", "allow", "identity.verify", "identity.trusted_upstreams", "audit.directory"];

/// config/firstclick.toml as it is shipped.
#[must_use]
pub fn example() -> String {
    let mut text = comment(HEAD);
    for section in SECTIONS {
        text.push('\n');
        if !section.path.is_empty() {
            text.push_str(&comment(section.doc));
            text.push_str(&format!("{}[{}]\n", hidden(section), section.path));
        }
        for key in keys::of_section(section.path) {
            text.push_str(&comment(&doc(key)));
            text.push_str(&line(section, key));
        }
    }
    text
}

const fn hidden(section: &SectionKeys) -> &'static str {
    match section.shipped {
        Shipped::InForce => "",
        Shipped::Commented => "#",
    }
}

fn doc(key: &Key) -> String {
    match key.restart {
        Restart::NotNeeded => key.doc.to_owned(),
        Restart::Needed => format!("{} A change needs a restart.", key.doc),
    }
}

fn line(section: &SectionKeys, key: &Key) -> String {
    let (name, value) = (key.name(), key.preset.text());
    let in_force = section.shipped == Shipped::InForce && (IN_FORCE.contains(&key.path) || matches!(key.preset, Preset::Required(_)));
    match key.preset {
        _ if in_force => format!("{name} = {value}\n"),
        Preset::Default(_) => format!("#{name} = {value}\n"),
        Preset::Unset(_) => format!("#{name} = {value} # example\n"),
        Preset::Required(_) => format!("#{name} = {value} # example, must be written\n"),
    }
}

/// A text as a comment of whole words.
fn comment(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::from("#"));
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push_str(&line);
            lines.push('\n');
            line = "#".into();
        }
        line.push(' ');
        line.push_str(word);
    }
    format!("{lines}{line}\n")
}

/// docs/reference.md: a table for each section.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Every key of firstclick.toml\n\nThis page is written from what the program reads. \
         The same stands in [config/firstclick.toml](../config/firstclick.toml), ready to be edited.\n\n\
         Each key can be given by the environment: `FIRSTCLICK_` and the name in capitals, two underscores for each dot, commas in a list: \
         `FIRSTCLICK_SMTP__LISTEN=127.0.0.1:2525,[::1]:2525`. Files and folders are relative to the folder of firstclick.toml. A change takes \
         effect within seconds, or at the next start where the last column says so ([operations.md](operations.md#changes)).\n",
    );
    for section in SECTIONS {
        let title = if section.path.is_empty() { "Top level".to_owned() } else { format!("`[{}]`", section.path) };
        text.push_str(&format!("\n## {title}\n\n"));
        if !section.doc.is_empty() {
            text.push_str(&format!("{}\n\n", section.doc));
        }
        text.push_str("| key | type | default | what it says | a change |\n|---|---|---|---|---|\n");
        for key in keys::of_section(section.path) {
            text.push_str(&row(key));
        }
    }
    text
}

fn row(key: &Key) -> String {
    let default = match key.preset {
        Preset::Default(text) => format!("`{text}`"),
        Preset::Unset(text) => format!("none; as in `{text}`"),
        Preset::Required(text) => format!("must be written, as in `{text}`"),
    };
    let restart = match key.restart {
        Restart::NotNeeded => "within seconds",
        Restart::Needed => "needs a restart",
    };
    let cell = |text: &str| text.replace('|', "\\|");
    format!("| `{}` | {} | {} | {} | {restart} |\n", key.name(), cell(&key.kind.expects()), cell(&default), cell(key.doc))
}

/// firstclick.toml(5), of this day.
#[must_use]
pub fn man(released: &str) -> String {
    let mut roff = Roff::new();
    roff.control("TH", ["firstclick.toml", "5", released, concat!("firstclick ", env!("CARGO_PKG_VERSION")), "firstclick"]);
    roff.control("SH", ["NAME"]).text([roman(
        "firstclick.toml - configuration of the SMTP hop and milter before a link scanner, and where that of its entries is told",
    )]);
    roff.control("SH", ["SYNOPSIS"]).text([bold("/etc/firstclick/firstclick.toml")]);
    roff.control("SH", ["DESCRIPTION"]).text([roman(DESCRIPTION)]);
    for section in SECTIONS {
        let title = if section.path.is_empty() { "TOP LEVEL".to_owned() } else { format!("[{}]", section.path) };
        roff.control("SH", [title.as_str()]).text([roman(section.doc)]);
        for key in keys::of_section(section.path) {
            roff.control("TP", []).text([bold(key.name()), roman(" = "), italic(key.kind.expects())]).text([roman(doc(key))]);
            let (says, value) = match key.preset {
                Preset::Default(text) => ("Default: ", text),
                Preset::Unset(text) => ("Nothing by default; as in ", text),
                Preset::Required(text) => ("Must be written, as in ", text),
            };
            roff.control("br", []).text([roman(says), bold(value)]);
        }
    }
    roff.control("SH", ["FILES"]).control("TP", []).text([bold("allow.d/*.toml")]).text([roman(ALLOW_FILES)]);
    roff.control("SH", ["SEE ALSO"]).text([bold("firstclick"), roman("(1), "), bold("firstclick-check"), roman("(1)")]);
    roff.render()
}

const DESCRIPTION: &str = "TOML. A change takes effect within seconds, unless a key says that it needs a restart; a file with a mistake changes nothing, \
and firstclick check says what is wrong with it. Files and folders are relative to the folder of this file. Each key can be given by the \
environment, too: FIRSTCLICK_ and its name in capitals, with two underscores for each dot and commas in a list, as in \
FIRSTCLICK_SMTP__NEXT_HOP=scanner.corp.example:25.";

const ALLOW_FILES: &str =
    "the allowlist, where allow names this folder: a file for each sender. docs/allowlist.md says how they are written, key by key.";

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// `UPDATE=1 cargo suite --lib reference` writes the files.
    #[test]
    fn the_example_and_the_reference_say_what_the_table_says() {
        for (name, text) in [("config/firstclick.toml", super::example()), ("docs/reference.md", super::markdown())] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&path, &text).unwrap();
            }
            let there = fs::read_to_string(&path).unwrap_or_default();
            let differing = text.lines().zip(there.lines()).find(|(wanted, found)| wanted != found);
            assert!(there == text, "{name} is not what src/settings/keys/table.rs says (UPDATE=1 writes it): {differing:?}");
        }
    }
}
