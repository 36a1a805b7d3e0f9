//! What files of an earlier version become: changes of their text, which somebody looks at before they count.
//!
//! What is converted lets no link through that was not let through before; that a mail's words no longer count is said. What only a person
//! can decide is left as it is, with what to write.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    Environment, Settings,
    allow::{self, OLD_KEYS},
    files,
    keys::GONE,
    schema::Problems,
    written,
};
use crate::{
    allowlist::{Mode, Shape},
    recognition::Kind,
};

/// A file, and what becomes of it.
#[derive(Debug)]
pub struct Migration {
    /// The file.
    pub file: PathBuf,
    /// Its text in this version's format; none where it has nothing to convert.
    pub text: Option<String>,
    /// What changes, in the manner of `diff`.
    pub diff: String,
    /// What to know about keys that are taken out.
    pub notes: Vec<String>,
    /// The mistakes that are left for a person.
    pub left: Vec<String>,
}

/// A piece of a text, and what stands in its place.
struct Edit {
    range: Range<usize>,
    new: String,
}

/// What becomes of a configuration and of the files in its folder of entries.
///
/// # Errors
/// Where the configuration cannot be read, or is no TOML.
pub fn of_configuration(path: &Path) -> io::Result<Vec<Migration>> {
    let text = files::text(path)?;
    let (root, mistakes) = DeTable::parse_recoverable(&text);
    if let Some(mistake) = mistakes.first() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is no TOML: {}", mistake.message())));
    }
    let mut converted = configuration(path, &text, root.get_ref());
    let mut problems = Problems::default();
    Settings::compile(path, converted.text.as_deref().unwrap_or(&text), Environment::process(), &mut problems);
    converted.left.extend(problems.0.iter().map(ToString::to_string));
    let mut all = vec![converted];
    let allow = root.get_ref().get("allow").and_then(|value| value.get_ref().as_str().map(str::to_owned));
    if let Some(folder) = allow.map(|name| path.parent().unwrap_or(Path::new("")).join(name))
        && fs::metadata(&folder).is_ok()
    {
        for file in files::entries(&folder) {
            all.push(match files::text(&file) {
                Ok(text) => entry(&file, &text),
                Err(error) => {
                    Migration { left: vec![format!("{}: {error}", file.display())], ..migration(&file, "", Vec::new(), Vec::new()) }
                }
            });
        }
    }
    Ok(all)
}

/// Takes out what sets nothing any more.
fn configuration(file: &Path, text: &str, root: &DeTable<'_>) -> Migration {
    let (mut edits, mut notes, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for (path, why) in GONE {
        let (section, key) = path.split_once('.').unwrap_or(("", path));
        let table = if section.is_empty() { Some(root) } else { root.get(section).and_then(|value| value.get_ref().as_table()) };
        let Some(table) = table.filter(|table| table.contains_key(key)) else { continue };
        if let Some(range) = lines(text, table, key) {
            edits.push(Edit { range, new: String::new() });
            notes.push(format!("{path}: {why}"));
        } else {
            left.push(format!("{}: {path}: {why}; take it out of its line", file.display()));
        }
    }
    Migration { left, ..migration(file, text, edits, notes) }
}

/// Converts an entry of the first edition, and says what is wrong with it then.
fn entry(file: &Path, text: &str) -> Migration {
    let (root, mistakes) = DeTable::parse_recoverable(text);
    let root = root.get_ref();
    let old = OldLinks::read(root);
    let (mut edits, mut notes) = (Vec::new(), Vec::new());
    // Of what is no TOML nobody knows what else it was meant to say.
    if let Some(made) = old.as_ref().filter(|_| mistakes.is_empty()).and_then(|old| old.edits(text, root)) {
        edits = made;
        notes.push("[links]: the link alone says now what a mail is; before, its words had to say so, too".to_owned());
    }
    for (key, instead) in OLD_KEYS {
        if mistakes.is_empty()
            && let Some(range) = lines(text, root, key)
        {
            edits.push(Edit { range, new: String::new() });
            notes.push(format!("{key}: {instead}"));
        }
    }
    let mut migration = migration(file, text, edits, notes);
    let (source, stem) = (file.display().to_string(), file.file_stem().unwrap_or_default().to_string_lossy());
    let mut problems = Problems::default();
    allow::compile(&source, &stem, migration.text.as_deref().unwrap_or(text), Mode::Observe, &mut Vec::new(), &mut problems);
    migration.left = old.and_then(|old| old.by_hand(&source)).into_iter().chain(problems.0.iter().map(ToString::to_string)).collect();
    migration
}

/// `mails` and `links` of the first edition, two lists: a mail of one of these kinds had one of these links.
struct OldLinks {
    kinds: Vec<Kind>,
    links: Vec<String>,
}

impl OldLinks {
    fn read(root: &DeTable<'_>) -> Option<Self> {
        let texts = |key: &str| -> Option<Vec<String>> {
            root.get(key)?.get_ref().as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        };
        let mut kinds: Vec<Kind> = texts("mails")?.iter().map(|mail| written::kind(mail)).collect::<Option<_>>()?;
        kinds.dedup();
        Some(Self { kinds, links: texts("links")? })
    }

    /// The section `[links]` in their place. None where nobody can tell which link is of which kind, or which part of it is the token.
    fn edits(&self, text: &str, root: &DeTable<'_>) -> Option<Vec<Edit>> {
        let [kind] = self.kinds.as_slice() else { return None };
        let shapes: Vec<String> = self.links.iter().map(|link| shape(link)).collect::<Option<_>>()?;
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let gone = [lines(text, root, "mails")?, lines(text, root, "links")?];
        let comments: String = gone.iter().flat_map(|range| comments(text.get(range.clone()).unwrap_or_default())).collect();
        let section = format!("{end}\n{comments}[links]\n{} = {shapes:?}\n", kind.code());
        let gone = gone.into_iter().map(|range| Edit { range, new: String::new() });
        Some(gone.chain([Edit { range: text.len()..text.len(), new: section }]).collect())
    }

    /// What to write for several kinds. Records and the guard page say the kind, so it is no matter of chance.
    fn by_hand(&self, source: &str) -> Option<String> {
        if self.kinds.len() < 2 {
            return None;
        }
        let shapes: Vec<String> = self.links.iter().map(|link| shape(link).unwrap_or_else(|| link.clone())).collect();
        let lists: String = self.kinds.iter().map(|kind| format!("\n{} = {shapes:?}", kind.code())).collect();
        Some(format!(
            "{source}: links: only you know which link is of which kind. Take `mails` and `links` out, write this at the end of the file, and leave each link \
             in the line of its own kind only:\n[links]{lists}"
        ))
    }
}

/// The comments in these lines, a line each. A `#` in a string is none.
fn comments(lines: &str) -> impl Iterator<Item = String> {
    lines.lines().filter_map(|line| {
        let mut quote = None;
        let at = line.find(|letter: char| {
            match (quote, letter) {
                (None, '#') => return true,
                (None, '"' | '\'') => quote = Some(letter),
                (Some(open), letter) if open == letter => quote = None,
                _ => {}
            }
            false
        })?;
        line.get(at..).map(|comment| format!("{comment}\n"))
    })
}

/// The shape of a link in which `*` was a whole part of the path, or a whole value.
fn shape(link: &str) -> Option<String> {
    let (before, behind) = link.split_once('?').map_or((link, None), |(before, behind)| (before, Some(behind)));
    let part = |part: &str| if part == "*" { "{token}".to_owned() } else { part.to_owned() };
    let path = before.split('/').map(part).collect::<Vec<_>>().join("/");
    let field = |field: &str| field.split('=').map(part).collect::<Vec<_>>().join("=");
    let query = behind.map(|query| query.split('&').map(field).collect::<Vec<_>>().join("&"));
    let shape = query.map_or(path.clone(), |query| format!("{path}?{query}"));
    Shape::parse(&shape).is_ok().then_some(shape)
}

/// The whole lines on which a key and its value stand; none where something else stands there, too, as in an inline table.
fn lines(text: &str, table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let (name, value): (_, &toml::Spanned<DeValue<'_>>) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    let (begins, ends) = (name.span().start, value.span().end);
    let start = text.get(..begins)?.rfind('\n').map_or(0, |at| at + 1);
    let end = text.get(ends..)?.find('\n').map_or(text.len(), |at| ends + at + 1);
    let (before, behind) = (text.get(start..begins)?, text.get(ends..end)?.trim());
    (before.trim().is_empty() && (behind.is_empty() || behind.starts_with('#'))).then_some(start..end)
}

fn migration(file: &Path, text: &str, mut edits: Vec<Edit>, notes: Vec<String>) -> Migration {
    edits.sort_by_key(|edit| edit.range.start);
    let (mut new, mut diff, mut from) = (String::new(), String::new(), 0);
    for edit in &edits {
        let before = text.get(..edit.range.start).unwrap_or_default();
        new.push_str(text.get(from..edit.range.start).unwrap_or_default());
        new.push_str(&edit.new);
        from = edit.range.end;
        diff.push_str(&format!("@@ line {}\n", before.matches('\n').count() + 1));
        let old = text.get(edit.range.clone()).unwrap_or_default();
        old.lines().for_each(|line| diff.push_str(&format!("-{line}\n")));
        edit.new.trim_start_matches('\n').lines().for_each(|line| diff.push_str(&format!("+{line}\n")));
    }
    new.push_str(text.get(from..).unwrap_or_default());
    Migration { file: file.to_owned(), text: (!edits.is_empty()).then_some(new), diff, notes, left: Vec::new() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{allowlist::LinkRules, message::Target};

    const FIRST: &str = "name = \"acme-hr\"\nowner = \"hr@corp.example\"\nfrom = [\"acme-hr.example\"]\nmails = [\"password_reset\"]\n\
                         # Where it may point.\nlinks = [\n  \"login.acme-hr.example/reset/*\",\n  \"login.acme-hr.example/join?code=*\",\n]\n\
                         unsigned_content_type = true\naction = \"tag\"";

    #[test]
    fn an_entry_of_the_first_edition() {
        let made = entry(Path::new("/nowhere/acme-hr.toml"), FIRST);
        assert_eq!(made.left, Vec::<String>::new(), "{:?}", made.text);
        let text = made.text.unwrap();
        assert!(text.ends_with("action = \"tag\"\n\n[links]\npassword_reset = [\"login.acme-hr.example/reset/{token}\", \"login.acme-hr.example/join?code={token}\"]\n"));
        assert!(!text.contains("mails") && !text.contains("unsigned_content_type"), "{text}");
        assert!(made.diff.contains("@@ line 4\n-mails = [\"password_reset\"]\n") && made.notes.len() == 2, "{}", made.diff);
        assert!(entry(Path::new("/nowhere/acme-hr.toml"), &text).text.is_none(), "once is enough");
    }

    /// Whatever else stands on a line, and what a person wrote for the next one, stays.
    #[test]
    fn nothing_else_is_taken_out() {
        for text in [
            "smtp = { listen = [\"127.0.0.1:25\"], temporary_directory = \"/var/tmp\" }\n",
            "smtp.temporary_directory = \"/var/tmp\"\n",
            "[smtp]\nbounds = { recipients = 5 }\n",
        ] {
            let (root, mistakes) = DeTable::parse_recoverable(text);
            assert!(mistakes.is_empty());
            assert_eq!(configuration(Path::new("firstclick.toml"), text, root.get_ref()).text, None, "{text}");
        }
        let commented = FIRST
            .replace("[\"password_reset\"]\n", "[\"password_reset\"] # no \"invite\"s\n")
            .replace("/reset/*\",", "/reset/*\", # 'the' #1");
        let text = entry(Path::new("/nowhere/acme-hr.toml"), &commented).text.unwrap();
        assert!(text.contains("\n# no \"invite\"s\n# 'the' #1\n[links]\n"), "{text}");
        let twice = format!("{FIRST}\nmails = [\"invite\"]\n");
        let made = entry(Path::new("/nowhere/acme-hr.toml"), &twice);
        assert!(made.text.is_none() && !made.left.is_empty(), "{made:?}");
    }

    #[test]
    fn what_nobody_can_tell_is_left_and_said() {
        for (old, new) in [("[\"password_reset\"]", "[\"password_reset\", \"invite\"]"), ("/reset/*", "/reset*")] {
            let made = entry(Path::new("/nowhere/acme-hr.toml"), &FIRST.replace(old, new));
            assert!(made.text.is_some_and(|text| text.contains("mails =")) && made.left.iter().any(|left| left.contains("links")), "{new}");
        }
    }

    /// For several kinds it is said what to write, and that is an entry.
    #[test]
    fn several_kinds_are_left_with_what_to_write() {
        let old = FIRST.replace("[\"password_reset\"]", "[\"password_reset\", \"invite\"]").replace("unsigned_content_type = true\n", "");
        let made = entry(Path::new("/nowhere/acme-hr.toml"), &old);
        let (_, section) = made.left[0].split_once(":\n").unwrap();
        let shapes = r#"["login.acme-hr.example/reset/{token}", "login.acme-hr.example/join?code={token}"]"#;
        assert_eq!(section, format!("[links]\npassword_reset = {shapes}\ninvite = {shapes}"));
        let head: String = old
            .split("# Where")
            .next()
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with("mails"))
            .map(|line| format!("{line}\n"))
            .collect();
        let by_hand = entry(Path::new("/nowhere/acme-hr.toml"), &format!("{head}action = \"tag\"\n{section}\n"));
        assert!(by_hand.text.is_none() && by_hand.left.is_empty(), "{:?}", by_hand.left);
    }

    /// Whether a link fits what is made of a pattern.
    fn fits(pattern: &str, link: &str) -> bool {
        let Target::Web(link) = Target::read(&format!("https://{link}")) else { return false };
        let rules = |shape: String| LinkRules::new(vec![(Kind::PasswordReset, Shape::parse(&shape).unwrap())], Vec::new(), Vec::new());
        shape(pattern).is_some_and(|shape| rules(shape).one_time(&link, &[]).is_some())
    }

    #[test]
    fn a_link_with_a_token_stays_one() {
        assert!(fits("h.example/reset/*", "h.example/reset/0123456789abcdefABCDEF01"));
        assert!(fits("h.example/reset?k=*", "h.example/reset?k=Zz9Yy8Xx7Ww6Vv5Uu4Tt3"));
    }

    proptest! {
        /// No link fits what was made of a pattern that the pattern did not take.
        #[test]
        fn no_link_is_let_through_that_was_not_before(
            pattern in "h[.]example(/(a|[*]|reset|a[*])){1,3}([?](k=([*]|v|[*]x)(&m=([*]|w))?))?",
            link in "h[.]example(/(a|b|reset|0123456789abcdefABCDEF01|Zz9Yy8Xx7Ww6Vv5Uu4Tt3)){1,3}([?](k|m)=(v|w|0123456789abcdefABCDEF01)(&(m|n)=(w|Zz9Yy8Xx7Ww6Vv5Uu4Tt3))?)?",
        ) {
            if fits(&pattern, &link) {
                let glob = regex::escape(&pattern).replace("\\*", ".*");
                // Without a query any was taken.
                let end = if pattern.contains('?') { "" } else { "([?].*)?" };
                prop_assert!(regex::Regex::new(&format!("^{glob}{end}$")).unwrap().is_match(&link), "{pattern} {link}");
            }
        }
    }

    #[test]
    fn keys_of_the_configuration_that_set_nothing() {
        let text = "[smtp]\nlisten = [\"127.0.0.1:25\"]\ntemporary_directory = \"/var/tmp\" # large\ntrace = true\n";
        let (root, _) = DeTable::parse_recoverable(text);
        let made = configuration(Path::new("firstclick.toml"), text, root.get_ref());
        assert_eq!(made.text.as_deref(), Some("[smtp]\nlisten = [\"127.0.0.1:25\"]\ntrace = true\n"));
    }
}
