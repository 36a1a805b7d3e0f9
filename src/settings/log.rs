//! `[log]`: where the log goes, and what it holds.

use super::{Problems, keys::Word, layers::Layers};
use crate::log::{Form, Level, Log};

const FORMS: [(&str, Form); 4] = [("auto", Form::Auto), ("journal", Form::Journal), ("text", Form::Text), ("json", Form::Json)];
const LEVELS: [(&str, Level); 4] = [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];

/// Compiles the section.
pub(super) fn compile(file: &mut Layers<'_>, problems: &mut Problems) -> Log {
    let form = file.take(const { Word::of("log.format") }, problems).and_then(|found| found.means(problems, &FORMS));
    let level = file.take(const { Word::of("log.level") }, problems).and_then(|found| found.means(problems, &LEVELS));
    Log { form: form.unwrap_or_default(), level: level.unwrap_or_default() }
}
