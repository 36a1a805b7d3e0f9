//! `[readers]`: the company's domains, and the file of its aliases.

use std::path::{Path, PathBuf};

use super::schema::{Problems, Section, SourceSpan};
use crate::{allowlist::reader::Readers, message::Domain};

/// Reads `[readers]` and the alias file that it names.
///
/// The file comes along, so that its changes are seen.
pub(super) fn compile(mut section: Section<'_, '_>, beside: &Path, problems: &mut Problems) -> (Readers, Option<PathBuf>) {
    let domains = section.strings("domains", problems);
    let aliases = section.string("aliases", problems);
    section.finish(problems);
    let domains = domains
        .into_iter()
        .flat_map(|list| list.value)
        .filter_map(|item| item.parse(problems, "a domain of the company's, as in \"corp.example\"", |text| Domain::parse(text).ok()))
        .collect::<Vec<_>>();
    let mut readers = Readers::new(domains);
    let file = aliases.map(|found| beside.join(&found.value));
    if let Some(path) = &file {
        for (number, line) in super::read(path, problems).unwrap_or_default().lines().enumerate() {
            if let Err(error) = readers.add_alias(line) {
                let place = SourceSpan { source: path.display().to_string(), at: Some((number + 1, 1)) };
                problems.add(place, "readers.aliases", format!("found {line:?}: {error}"));
            }
        }
    }
    (readers, file)
}
