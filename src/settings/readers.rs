//! `[readers]`: the company's domains, and the file of its aliases.

use super::{
    files,
    keys::{File, List},
    layers::Layers,
    schema::{Found, Problems, SourceSpan},
};
use crate::{allowlist::reader::Readers, message::Domain};

/// Reads `[readers]` and the alias file that it names.
pub(super) fn compile(file: &mut Layers<'_>, problems: &mut Problems) -> Readers {
    let domains = file.take(const { List::of("readers.domains") }, problems);
    let aliases = file.take(const { File::of("readers.aliases") }, problems);
    let domains = domains
        .into_iter()
        .flat_map(|list| list.value)
        .filter_map(|item| item.parse(problems, "a domain of the company's, as in \"corp.example\"", |text| Domain::parse(text).ok()))
        .collect::<Vec<_>>();
    let mut readers = Readers::new(domains);
    let Some(Found { value: path, place, key }) = aliases else { return readers };
    let text = files::text(&path).unwrap_or_else(|error| {
        problems.add_unusable(place, key, format!("{}: cannot be read: {error}", path.display()), files::remedy(&path, &error));
        String::new()
    });
    for (number, line) in text.lines().enumerate() {
        if let Err(error) = readers.add_alias(line) {
            let place = SourceSpan { source: path.display().to_string(), at: Some((number + 1, 1)) };
            problems.add(place, "readers.aliases", format!("found {line:?}: {error}"));
        }
    }
    readers
}
