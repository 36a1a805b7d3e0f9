//! `[arc]`: in whose name changed mails are sealed.

use std::{fs, path::Path};

use super::{Problems, schema::Section};
use crate::{identity::ArcSigner, message::Domain};

/// Compiles the section; none where it is not there, or where it has mistakes.
pub(super) fn compile(mut section: Section<'_, '_>, beside: &Path, problems: &mut Problems) -> Option<ArcSigner> {
    let domain = section.string("domain", problems);
    let selector = section.string("selector", problems);
    let key_file = section.string("key_file", problems);
    let (there, place) = (section.is_there(), section.place());
    section.finish(problems);
    if !there {
        return None;
    }
    let mut missing = |key: &str, what: &str| problems.add(place.clone(), format!("arc.{key}"), format!("missing, expected {what}"));
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
    let path = beside.join(&key_file.value);
    let pem = match fs::read_to_string(&path) {
        Ok(pem) => pem,
        Err(error) => {
            problems.add(key_file.place, key_file.key, format!("{} cannot be read: {error}", path.display()));
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
