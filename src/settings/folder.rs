//! The allowlist folder: one file a sender, each an entry or left out whole.
//!
//! A file only adds exemptions, so one that is wrong is left out and the others count; its old text does not stay in force, as it
//! may be wider than what was meant. What narrows (`never`, `[readers]`) stands in firstclick.toml, whose mistakes stop the start.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use rustix::fs::Access;

use super::{
    access,
    allow::{self, Places},
    files::{self, Files},
    lint::Advice,
    schema::{Problems, SourceSpan},
};
use crate::{
    allowlist::{Entry, Mode},
    printable::printable,
};

/// A file of the folder that is left out, and why; or the folder, where it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The path.
    pub file: PathBuf,
    /// Its mistakes.
    pub problems: Problems,
}

impl LeftOut {
    fn because(file: &Path, key: &str, what: impl Into<String>) -> Self {
        let mut problems = Problems::default();
        problems.add(SourceSpan::file(file.display().to_string()), key, what);
        Self { file: file.to_owned(), problems }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is left out: until it is mended, what it allows is not exempted; all else goes on",
            printable(&self.file.display().to_string())
        )
    }
}

/// What a folder gives.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) entries: Vec<Entry>,
    /// Where the keys of each entry stand, by its name.
    pub(super) places: HashMap<String, Places>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Reads every `*.toml` of a folder, in the order of their names. The folder, its files and what these name are noted in `watched`.
/// `lacks` says which key of firstclick.toml an entry needs and does not have, and what to do about it.
pub(super) fn load(
    folder: &Path,
    mode: Mode,
    watched: &mut Files,
    advice: &mut Vec<Advice>,
    lacks: impl Fn(&Entry) -> Option<(&'static str, &'static str)>,
) -> Folder {
    watched.note_folder(folder);
    if let Err(error) = fs::read_dir(folder) {
        let error = access::explained(folder, Access::READ_OK | Access::EXEC_OK, error);
        let absent = error.kind() == std::io::ErrorKind::NotFound;
        let how = if absent { "; create it, with one file for each sender" } else { "" };
        let what = format!("the folder cannot be read: {error}{how}");
        return Folder { left_out: vec![LeftOut::because(folder, "allow", what)], ..Folder::default() };
    }
    let mut found: Vec<(PathBuf, Entry, Places)> = Vec::new();
    let mut left_out = Vec::new();
    for path in files::entries(folder) {
        watched.note(&path);
        let (mut problems, mut own_advice) = (Problems::default(), Vec::new());
        let entry = super::read(&path, &mut problems).and_then(|text| {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            allow::compile_noting(&path.display().to_string(), &stem, &text, mode, watched, &mut own_advice, &mut problems)
        });
        if !problems.0.is_empty() {
            left_out.push(LeftOut { file: path, problems });
            continue;
        }
        advice.append(&mut own_advice);
        let Some((entry, places)) = entry else { continue };
        match lacks(&entry) {
            Some((key, what)) => left_out.push(LeftOut::because(&path, key, what)),
            None => found.push((path, entry, places)),
        }
    }
    let mut folder = distinct(found);
    folder.left_out.append(&mut left_out);
    folder.left_out.sort_by(|one, other| one.file.cmp(&other.file));
    folder
}

/// The entries whose names are their own. Of two files with one name nobody knows which is meant, so both are left out.
fn distinct(found: Vec<(PathBuf, Entry, Places)>) -> Folder {
    let mut files: HashMap<String, Vec<PathBuf>> = HashMap::new();
    for (path, entry, _) in &found {
        files.entry(entry.name.clone()).or_default().push(path.clone());
    }
    let mut folder = Folder::default();
    for (path, entry, places) in found {
        let others: Vec<String> =
            files.get(&entry.name).into_iter().flatten().filter(|other| **other != path).map(|other| other.display().to_string()).collect();
        if others.is_empty() {
            folder.places.insert(entry.name.clone(), places);
            folder.entries.push(entry);
        } else {
            let what = format!("{:?} is the name of {} too; give each its own, as in name = \"...\"", entry.name, others.join(", "));
            folder.left_out.push(LeftOut::because(&path, "name", what));
        }
    }
    folder
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ENTRY: &str =
        "from = [\"vendor.test\"]\naction = \"tag\"\nowner = \"it\"\n[links]\npassword_reset = [\"login.vendor.test/reset/{token}\"]\n";

    fn load_all(folder: &Path) -> (Vec<String>, String) {
        let read = load(folder, Mode::Enforce, &mut Files::default(), &mut Vec::new(), |_| None);
        let names = read.entries.into_iter().map(|entry| entry.name).collect();
        (names, read.left_out.iter().map(|out| format!("{}\n{out}\n", out.problems)).collect())
    }

    #[test]
    fn a_file_with_a_mistake_is_left_out_whole_and_the_others_count() {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.toml", ENTRY);
        write("b.toml", &format!("linsk = 1\n{ENTRY}"));
        write("c.toml", &format!("never = [\"x@vendor.test\"]\n{ENTRY}"));
        write("d.toml", &format!("{ENTRY}[[test]]\nmail = \"absent.eml\"\nexpect = \"act\"\n"));
        write("mail.eml", "From: a@vendor.test\r\n\r\nhello\r\n");
        write("e.toml", &format!("{ENTRY}[[test]]\nmail = \"mail.eml\"\nexpect = \"act\"\n"));
        write("f.toml", "half a ta");
        write("one.toml", &format!("name = \"twin\"\n{ENTRY}"));
        write("two.toml", &format!("name = \"twin\"\n{ENTRY}"));
        std::os::unix::fs::symlink("nowhere", folder.path().join("g.toml")).unwrap();
        fs::create_dir(folder.path().join("h.toml")).unwrap();
        let (names, said) = load_all(folder.path());
        assert_eq!(names, ["a", "d"], "{said}");
        for words in [
            "b.toml:1:1: linsk",
            "c.toml:1:9: never: stands in firstclick.toml",
            "e.toml",
            "gives \"pass\", expected \"act\"",
            "f.toml",
            "g.toml: cannot be read",
            "h.toml: cannot be read",
            "one.toml: name: \"twin\" is the name of",
            "two.toml is left out",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_and_an_entry_that_lacks_something() {
        let folder = tempfile::TempDir::new().unwrap();
        assert!(load_all(&folder.path().join("share")).1.contains("the folder cannot be read"));
        fs::write(folder.path().join("a.toml"), ENTRY).unwrap();
        fs::set_permissions(folder.path().join("a.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        let read = load(folder.path(), Mode::Enforce, &mut Files::default(), &mut Vec::new(), |_| Some(("tag", "needs [tag]")));
        assert!(read.entries.is_empty() && read.left_out[0].problems.to_string().contains("a.toml: tag: needs [tag]"));
    }
}
