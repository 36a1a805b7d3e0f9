//! What is missing for what comes next: what mode = "enforce" will need, what is written and means nothing, what stands in the
//! folder of entries and is no entry.

use std::{fs, path::Path};

use super::{
    Advice, Settings, Severity, SourceSpan,
    hint::nearest,
    keys::{KEYS, Key, PREFIX, SECTIONS},
    layers::Environment,
};
use crate::allowlist::{Action, Mode};

impl Settings {
    /// What enforce mode will need that is not there, while the hop observes.
    pub(super) fn wanted(&self, place: &SourceSpan, advice: &mut Vec<Advice>) {
        let has = |action: Action| self.allowlist.entries().iter().any(|entry| entry.actions.contains(&action));
        let mut say = |key: &str, what: &str| {
            advice.push(Advice::new(Severity::Note, place.clone(), key, format!("mode = \"enforce\" will need {what}")));
        };
        if self.mode == Mode::Enforce || self.allowlist.entries().is_empty() {
            return;
        }
        if has(Action::Guard) && self.guard.is_none() {
            say("guard", "[guard] with url, listen and key_file, because an entry has action = \"guard\" (docs/guard.md)");
        }
        if has(Action::Tag) {
            match &self.tag {
                None => say("tag", "[tag] with token_file and key_file; `firstclick keygen` writes both"),
                Some(tag) => {
                    if tag.tokens.is_empty() {
                        say("tag.token_file", "a token: the file holds none; `firstclick keygen --token --out FILE` writes one");
                    }
                    if tag.keys.is_empty() {
                        say("tag.key_file", "a key: the file holds none; `firstclick keygen --out FILE` writes one");
                    }
                }
            }
        }
        if self.audit.is_none() {
            say("audit.directory", "[audit] with a directory: no record, no exemption");
        }
    }

    /// Why there is nothing that could run.
    #[must_use]
    pub fn nothing_to_run(&self) -> Option<&'static str> {
        self.hostname().is_none().then_some(
            "there is nothing to run: write [smtp] with listen, next_hop and hostname, [milter] with listen and hostname, or [guard]",
        )
    }

    /// A name of the hop's that is none.
    pub(super) fn nameless(&self, place: &SourceSpan, advice: &mut Vec<Advice>) {
        let of_smtp = self.smtp.as_ref().map(|smtp| ("smtp.hostname", &smtp.hostname));
        let name = of_smtp.or_else(|| Some(("milter.hostname", &self.milter.as_ref()?.hostname)));
        let Some((key, name)) = name.filter(|(_, name)| *name == PLACEHOLDER || !name.contains('.')) else { return };
        let is = if name == PLACEHOLDER { "the package's placeholder" } else { "no full name" };
        let what = format!(
            "{name:?} is {is}: next hops hear it in EHLO, Authentication-Results carry it, and recipes for scanners name it; write the name \
             that DNS knows this machine by, as in \"firstclick.corp.example\""
        );
        advice.push(Advice::new(Severity::Note, place.clone(), key, what));
    }

    /// What is written and yet does nothing.
    pub(super) fn idle(&self, place: &SourceSpan, advice: &mut Vec<Advice>) {
        if self.allow.is_none() && (self.smtp.is_some() || self.milter.is_some()) {
            advice.push(Advice::new(Severity::Note, place.clone(), "allow", "no folder of entries is named, so that nothing is exempted"));
        }
        if let Some(folder) = &self.allow {
            ignored(folder, advice);
        }
        for name in Environment::process().names() {
            unknown(name, advice);
        }
    }
}

/// What the packages write where the machine has no full name (deploy/files/prepare.sh).
const PLACEHOLDER: &str = "firstclick.localdomain";

/// Files of the folder that are read by nobody, because of their name.
fn ignored(folder: &Path, advice: &mut Vec<Advice>) {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    for name in names {
        let (stem, end) = name.rsplit_once('.').unwrap_or((&name, ""));
        let place = SourceSpan::file(folder.join(&name).display().to_string());
        let mut say = |severity, what: String| advice.push(Advice::new(severity, place.clone(), "", what));
        let lower = name.to_lowercase();
        let by_an_editor = name.starts_with(['.', '#']) || name.ends_with('~');
        if end == "toml" && !by_an_editor {
            continue;
        }
        if by_an_editor
            || ["bak", "old", "orig", "save", "swp", "disabled", "off", "dpkg-old", "dpkg-dist", "dpkg-new", "rpmsave", "rpmnew"]
                .contains(&end)
        {
            // What is read all the same is no backup to the hop.
            if end == "toml" {
                say(Severity::Warning, "an editor's copy that ends in .toml is read as an entry; take it out".into());
            } else if lower.contains("toml") {
                say(Severity::Note, "is not read, as its name does not end in .toml".into());
            }
        } else if matches!(
            end.to_lowercase().as_str(),
            "toml" | "tml" | "tom" | "toml_" | "yaml" | "yml" | "json" | "conf" | "cfg" | "ini" | "txt" | "toml1"
        ) || nearest(end, &["toml"]).is_some()
            || end.is_empty()
            || lower.contains(".toml")
        {
            let stem = stem.trim_end_matches(".toml");
            say(Severity::Warning, format!("is not read: entries are files that end in .toml; call it {stem}.toml, or take it out"));
        }
    }
}

/// Variables with our prefix that are no key and mean something: to the hop under test, and to its tests.
const SPECIAL: &[&str] = &["FIRSTCLICK_FAULT", "FIRSTCLICK_SHARED", "FIRSTCLICK_PROGRAM"];

fn unknown(variable: &str, advice: &mut Vec<Advice>) {
    let path = variable.strip_prefix(PREFIX).unwrap_or_default().to_lowercase().replace("__", ".");
    if SPECIAL.contains(&variable) || path.contains('.') || KEYS.iter().any(|key| key.path == path) {
        return;
    }
    let variables = |keys: &[&str]| keys.iter().map(|key| format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))).collect::<Vec<_>>();
    let what = match meant(&path).as_slice() {
        _ if path == "config" => "; the file is named by --config".into(),
        _ if SECTIONS.iter().any(|section| section.path == path) => format!("; a key of [{path}] is {variable}__KEY"),
        [] => String::new(),
        keys => format!("; did you mean {}?", variables(keys).join(" or ")),
    };
    let what = format!("no key of this name, so that it sets nothing{what}");
    advice.push(Advice::new(Severity::Warning, SourceSpan::file(variable), "", what));
}

/// The keys that a variable's name without two underscores probably means: by the key's last word alone, or by all of it.
fn meant(path: &str) -> Vec<&'static str> {
    let named: Vec<&str> = KEYS.iter().filter(|key| key.name() == path).map(|key| key.path).collect();
    if !named.is_empty() {
        return named;
    }
    let plain: Vec<(String, &str)> = KEYS.iter().map(|key| (key.path.replace('.', "_"), key.path)).collect();
    let spelling: Vec<&str> = plain.iter().map(|(flat, _)| flat.as_str()).collect();
    let near = nearest(path, &spelling).and_then(|near| plain.iter().find(|(flat, _)| flat == near));
    near.map(|(_, key)| *key)
        .or_else(|| {
            let names: Vec<&str> = KEYS.iter().map(Key::name).collect();
            let near = nearest(path, &names)?;
            KEYS.iter().find(|key| key.name() == near).map(|key| key.path)
        })
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_lacks_its_section_or_an_underscore() {
        for (variable, words) in [
            ("FIRSTCLICK_NEXT_HOP", "; did you mean FIRSTCLICK_SMTP__NEXT_HOP?"),
            ("FIRSTCLICK_NEXTHOP", "; did you mean FIRSTCLICK_SMTP__NEXT_HOP?"),
            ("FIRSTCLICK_SMTP_NEXT_HOP", "; did you mean FIRSTCLICK_SMTP__NEXT_HOP?"),
            ("FIRSTCLICK_SMTP_BOUNDS_MEMORY", "; did you mean FIRSTCLICK_SMTP__BOUNDS__MEMORY?"),
            ("FIRSTCLICK_URL", "; did you mean FIRSTCLICK_GUARD__URL?"),
            ("FIRSTCLICK_LISTEN", "; did you mean FIRSTCLICK_SMTP__LISTEN or "),
            ("FIRSTCLICK_SMTP", "; a key of [smtp] is FIRSTCLICK_SMTP__KEY"),
            ("FIRSTCLICK_CONFIG", "; the file is named by --config"),
            ("FIRSTCLICK_QQQQ", "no key of this name, so that it sets nothing"),
        ] {
            let mut advice = Vec::new();
            unknown(variable, &mut advice);
            assert!(advice.len() == 1 && advice[0].problem.what.contains(words), "{variable}: {advice:?}");
        }
    }
}
