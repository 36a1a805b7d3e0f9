//! `[arc]`: the domain, selector and key by which changed mails are sealed (RFC 8617).

use super::{
    Problems,
    keys::{File, Text},
    layers::Layers,
};
use crate::{identity::ArcSigner, message::Domain};

/// Compiles the section; none where it is not there, or where it has mistakes.
pub(super) fn compile(file: &mut Layers<'_>, problems: &mut Problems) -> Option<ArcSigner> {
    let domain = file.take(const { Text::of("arc.domain") }, problems);
    let selector = file.take(const { Text::of("arc.selector") }, problems);
    let key_file = file.take(const { File::of("arc.key_file") }, problems);
    if !file.has("arc") {
        return None;
    }
    let place = file.place("arc");
    let mut missing =
        |key: &str, what: &str| problems.add_missing(place.clone(), format!("arc.{key}"), format!("missing, expected {what}"));
    if domain.is_none() {
        missing("domain", "in whose name mails are sealed, as in \"corp.example\"");
    }
    if selector.is_none() {
        missing("selector", "where the public key stands in DNS: SELECTOR._domainkey.DOMAIN");
    }
    if key_file.is_none() {
        missing("key_file", "an RSA key in PEM; `openssl genrsa -out FILE 2048` writes one");
    }
    let name = |text: &String| Domain::parse(text).ok().map(|name| name.to_string());
    let domain = domain.and_then(|found| found.parse(problems, "a domain, as in \"corp.example\"", name));
    let selector = selector.and_then(|found| found.parse(problems, "letters, digits and hyphens, as in \"arc1\"", name));
    let key_file = key_file?;
    let path = key_file.value;
    let pem = match super::files::text(&path) {
        Ok(pem) => pem,
        Err(error) => {
            let what = format!("{} cannot be read: {error}", path.display());
            problems.add_unusable(key_file.place, key_file.key, what, super::files::remedy(&path, &error));
            return None;
        }
    };
    match ArcSigner::new(&domain?, &selector?, &pem) {
        Ok(signer) => Some(signer),
        Err(error) => {
            problems.add(key_file.place, key_file.key, format!("{}: {error}", path.display()));
            None
        }
    }
}
