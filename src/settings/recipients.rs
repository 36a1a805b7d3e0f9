//! `[audit] recipients`: whether records hold readers' addresses or pseudonyms, and the keys of the latter.

use super::{
    AuditKeys, Problems,
    keys::{File, Word},
    layers::Layers,
};
use crate::edit::tag::Key;

/// How records name readers.
#[derive(Clone, Debug, Default)]
pub struct Recipients {
    /// The form of what is written from now on.
    pub form: RecipientForm,
    /// The keys of pseudonyms, the newest first. They find what was written before, also where addresses are written now.
    pub keys: Vec<Key>,
}

/// The form in which records name readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecipientForm {
    /// By their addresses.
    #[default]
    Clear,
    /// By pseudonyms.
    Hashed,
}

impl Recipients {
    /// The keys that records are written by; none where they hold addresses.
    #[must_use]
    pub fn writing(&self) -> &[Key] {
        match self.form {
            RecipientForm::Clear => &[],
            RecipientForm::Hashed => &self.keys,
        }
    }
}

const FORMS: [(&str, RecipientForm); 2] = [("clear", RecipientForm::Clear), ("hashed", RecipientForm::Hashed)];

/// Compiles both keys. Pseudonyms need a key file that nothing else needs: destroying it is the erasure.
pub(super) fn compile(file: &mut Layers<'_>, problems: &mut Problems) -> Recipients {
    let form = file.take(const { Word::of("audit.recipients") }, problems);
    let keys = file.take(const { File::of("audit.recipients_key_file") }, problems);
    let hashed = form.as_ref().filter(|found| found.value == "hashed").map(|found| found.place.clone());
    let form = form.and_then(|found| found.means(problems, &FORMS)).unwrap_or_default();
    let Some(found) = keys else {
        if let Some(place) = hashed {
            let what = "recipients = \"hashed\" needs a key file of its own; `firstclick keygen --out FILE` writes one";
            problems.add_missing(place, "audit.recipients_key_file", what);
        }
        return Recipients { form: RecipientForm::Clear, keys: Vec::new() };
    };
    let others = ["audit.key_file", "tag.key_file", "guard.key_file"];
    if let Some(other) = others.iter().find(|other| file.path_of(other).is_some_and(|path| path == found.value)) {
        let what = format!("{} is {other}, too; give pseudonyms a file of their own, which can be destroyed alone", found.value.display());
        problems.add(found.place.clone(), &found.key, what);
    }
    let keys = AuditKeys::read(&found.value).map_or_else(
        |what| {
            problems.add(found.place, found.key, what);
            Vec::new()
        },
        |read| read.keys,
    );
    Recipients { form, keys }
}
