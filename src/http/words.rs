//! The sentences of the pages, in the reader's language (`config/guard.toml`).

use std::collections::BTreeMap;

use serde::Deserialize;

const WORDS: &str = include_str!("../../config/guard.toml");

/// The sentences of one language.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// The heading of the page.
    pub heading: String,
    /// Who sent the link, with `{sender}`.
    pub sent_by: String,
    /// Where the link leads, with `{host}`.
    pub leads_to: String,
    /// Why the reader sees this page.
    pub why: String,
    /// The label of the button, with `{host}`.
    pub button: String,
    /// The question of `confirm = "choose"`.
    pub choose: String,
    /// The sentence after a wrong answer.
    pub wrong: String,
    /// What a press does, and that nothing happens without one: right for "yes" and for "no, it was not me" alike.
    pub caution: String,
    /// The heading where a link does not open.
    pub gone: String,
    /// The text where a link does not open: what to do.
    pub gone_text: String,
    /// The heading where a link has expired.
    pub expired: String,
    /// The text where a link has expired: what to do.
    pub expired_text: String,
}

/// The sentences of all languages, by language tag.
#[derive(Clone, Debug)]
pub struct Languages(BTreeMap<String, Words>);

impl Languages {
    /// The languages that came with the program.
    ///
    /// # Errors
    /// Only where the program was built from broken data.
    pub fn built_in() -> Result<Self, toml::de::Error> {
        toml::from_str(WORDS).map(Self)
    }

    /// The best language for an Accept-Language field (RFC 9110 section 12.5.4), English where none fits.
    #[must_use]
    pub fn choose(&self, accept_language: &str) -> Option<(&str, &Words)> {
        let mut wanted: Vec<(u32, &str)> = accept_language
            .split(',')
            .take(LANGUAGES_READ)
            .filter_map(|item| {
                let mut pieces = item.split(';').map(str::trim);
                let name = pieces.next().filter(|name| !name.is_empty())?;
                let weight = pieces.find_map(|piece| piece.strip_prefix("q=")).map_or(Some(1.0), |weight| weight.parse::<f32>().ok())?;
                // As whole thousandths, which compare exactly.
                Some(((weight.clamp(0.0, 1.0) * 1_000.0).round(), name)).map(|(weight, name)| (to_thousandths(weight), name))
            })
            .filter(|(weight, _)| *weight > 0)
            .collect();
        wanted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        let known = |name: &str| {
            let stem = name.split('-').next().unwrap_or_default().to_ascii_lowercase();
            let stem = if matches!(stem.as_str(), "no" | "nn") { "nb".to_owned() } else { stem };
            self.0.get_key_value(&stem)
        };
        let found = wanted.iter().find_map(|(_, name)| known(name)).or_else(|| self.0.get_key_value("en"));
        found.map(|(name, words)| (name.as_str(), words))
    }

    /// The number of languages.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
const fn to_thousandths(weight: f32) -> u32 {
    weight as u32
}

/// The text direction of a language, `rtl` or `ltr`.
#[must_use]
pub fn direction(language: &str) -> &'static str {
    if matches!(language, "ar" | "he" | "fa" | "ur") { "rtl" } else { "ltr" }
}

/// Languages of one Accept-Language field that are looked at.
const LANGUAGES_READ: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_wanted_most() {
        let languages = Languages::built_in().unwrap();
        assert!(languages.count() >= 20);
        let chosen = |accept| languages.choose(accept).unwrap().0.to_owned();
        for (accept, language) in [
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("fr;q=0.5, ja;q=0.7", "ja"),
            ("xx, nn-NO;q=0.3", "nb"),
            ("", "en"),
            ("xx", "en"),
            ("de;q=0, en", "en"),
            ("de;q=much, it", "it"),
        ] {
            assert_eq!(chosen(accept), language, "{accept}");
        }
    }

    #[test]
    fn every_language_names_sender_and_host() {
        let languages = Languages::built_in().unwrap();
        for (name, words) in &languages.0 {
            assert!(words.sent_by.contains("{sender}") && words.leads_to.contains("{host}") && words.button.contains("{host}"), "{name}");
        }
    }
}
