//! `[guard]`: how the guard page is set up.

use std::{
    fs,
    io::{self, Read as _},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Access, access};
use url::Url;

use super::{
    Advice, Problems, Severity, SourceSpan,
    schema::{self, Found, Section},
    smtp::networks,
};
use crate::{
    edit::{
        guard_link::{GuardLinkKeys, SHORT_PATH, SealKey},
        link_id::LinkId,
        tag::Key,
    },
    http::{Config, Confirm, HelpDesk, Logo},
    limits,
    link_store::LinkStore,
    tls::{self, CertificateFiles},
};

/// Compiles the section; none where it is not there, or where it has mistakes. `others` are names of senders to choose among.
pub(super) fn compile(
    mut section: Section<'_, '_>,
    beside: &Path,
    others: Vec<String>,
    warnings: &mut Vec<Advice>,
    problems: &mut Problems,
) -> Option<Config> {
    let before = problems.0.len();
    let url = section.string("url", problems);
    let listen = section.string("listen", problems);
    let key_file = section.string("key_file", problems);
    let lifetime = section.string("lifetime", problems);
    let store = section.string("store", problems);
    let certificate = section.string("certificate", problems);
    let key = section.string("key", problems);
    let proxies = section.strings("proxies", problems);
    let confirm = section.string("confirm", problems);
    let logo = section.string("logo", problems);
    let note = section.string("note", problems);
    let help_desk = section.flag("help_desk", problems);
    let (there, place) = (section.is_there(), section.place());
    section.finish(problems);
    if !there {
        return None;
    }
    let mut missing = |key: &str, what: &str| problems.add(place.clone(), format!("guard.{key}"), format!("missing, expected {what}"));
    if url.is_none() {
        missing("url", "where readers reach the page, as in \"https://links.corp.example\"");
    }
    if listen.is_none() {
        missing("listen", "where the page is served, as in \"127.0.0.1:8443\"");
    }
    if key_file.is_none() {
        missing("key_file", "a file of keys; `firstclick keygen --out FILE` writes one");
    }
    if certificate.is_some() != key.is_some() {
        missing(if key.is_some() { "certificate" } else { "key" }, "certificate and key together, as files in PEM");
    }
    let url = url.and_then(|found| found.parse(problems, "https://HOST, or http:// on this machine, without a path", |text| origin(text)));
    let listen: Option<SocketAddr> =
        listen.and_then(|found| found.parse(problems, "ADDRESS:PORT, as in \"127.0.0.1:8443\"", |text| text.parse().ok()));
    let lines = key_file.map(|found| key_lines(found, beside, problems)).unwrap_or_default();
    let keys = lines.iter().filter_map(|line| SealKey::parse(line)).collect();
    let nonces = lines.first().and_then(|line| Key::parse(line)).map(|key| key.derive("guard-nonce-of-page"));
    let lifetime = lifetime.map_or(Some(limits::GUARD_LIFETIME), |found| {
        let allowed = "a time from \"1h\" to \"90d\"";
        let (least, most) = (Duration::from_hours(1), Duration::from_hours(90 * 24));
        found.parse(problems, allowed, |text| schema::duration(text).filter(|time| (least..=most).contains(time)))
    });
    let links = store.and_then(|found| open_store(found, beside, problems));
    let certificate = certificate.zip(key).map(|(certificate, key)| {
        let files = CertificateFiles { certificate: beside.join(certificate.value), key: beside.join(key.value) };
        if let Err(error) = tls::server(&files) {
            problems.add(certificate.place, certificate.key, error.to_string());
        }
        files
    });
    let words = [("press", Confirm::Press), ("choose", Confirm::Choose)];
    let confirm = confirm.map_or(Some(Confirm::Press), |found| found.word(problems, &words));
    let logo = logo.and_then(|found| read_logo(found, beside, problems));
    let note = note.map_or_else(String::new, |found| {
        let allowed = "one sentence of at most 300 characters";
        found.parse(problems, allowed, |text| (text.chars().count() <= 300).then(|| text.clone())).unwrap_or_default()
    });
    let help_desk = if help_desk.is_some_and(|found| found.value) { HelpDesk::Open } else { HelpDesk::Closed };
    let proxies = networks(proxies, problems);
    if problems.0.len() > before {
        return None;
    }
    let guard_links = Arc::new(GuardLinkKeys { url: url?, keys, lifetime: lifetime? });
    let length = guard_links.url.len() + SHORT_PATH.len() + LinkId::LENGTH;
    if links.is_some() && length > COLUMNS {
        let says = format!(
            "guard links have {length} characters and {COLUMNS} fit a line, so that some programs cut them in plain text; \
             a shorter name helps"
        );
        warnings.push(Advice::new(Severity::Warning, place, "guard.url", says));
    }
    Some(Config {
        listen: listen?,
        guard_links,
        links,
        nonces: nonces?,
        certificate,
        proxies,
        confirm: confirm?,
        others,
        logo,
        note,
        help_desk,
    })
}

/// Characters of a line as programs wrap plain text: as many as an encoded line may have (RFC 2045 section 6.7).
const COLUMNS: usize = 76;

/// The origin of an address that has nothing else. Without TLS it must be on this machine: the link's secret travels there.
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    (bare && (url.scheme() == "https" || url.scheme() == "http" && local)).then(|| url.origin().ascii_serialization())
}

/// The keys of a file; what it holds is never repeated in a message.
fn key_lines(found: Found<String>, beside: &Path, problems: &mut Problems) -> Vec<String> {
    let path = beside.join(&found.value);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("{} cannot be read: {error}; `firstclick keygen --out FILE` writes one", path.display());
            problems.add(found.place, found.key, what);
            return Vec::new();
        }
    };
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        if SealKey::parse(line.trim()).is_some() {
            keys.push(line.trim().to_owned());
        } else {
            let place = SourceSpan { source: path.display().to_string(), at: Some((at + 1, 1)) };
            problems.add(place, "guard.key_file", "expected 32 octets in base64 on each line, the newest first");
        }
    }
    if keys.is_empty() {
        problems.add(found.place, found.key, format!("{} holds no key; `firstclick keygen --out FILE` writes one", path.display()));
    }
    keys
}

/// The folder of stored guard links, which firstclick must be able to write; nothing is written to see that.
fn open_store(found: Found<String>, beside: &Path, problems: &mut Problems) -> Option<Arc<LinkStore>> {
    let folder = beside.join(&found.value);
    let usable = fs::metadata(&folder)
        .and_then(|about| if about.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) })
        .and_then(|()| Ok(access(&folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?));
    match usable {
        Ok(()) => Some(Arc::new(LinkStore::new(folder))),
        Err(error) => {
            let what = format!(
                "{} cannot be used: {error}; create it and give it to the user that firstclick runs as, or leave the key out: \
                 guard links are long then, and need no folder",
                folder.display()
            );
            problems.add(found.place, found.key, what);
            None
        }
    }
}

fn read_logo(found: Found<String>, beside: &Path, problems: &mut Problems) -> Option<Logo> {
    let path = beside.join(&found.value);
    let kinds = [("png", "image/png"), ("svg", "image/svg+xml"), ("jpg", "image/jpeg"), ("jpeg", "image/jpeg"), ("webp", "image/webp")];
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    let Some((_, kind)) = kinds.iter().find(|(known, _)| *known == end) else {
        problems.add(found.place, found.key, format!("{} is no picture; expected .png, .svg, .jpg or .webp", path.display()));
        return None;
    };
    let mut octets = Vec::new();
    let read = fs::File::open(&path).and_then(|file| file.take(limits::LOGO + 1).read_to_end(&mut octets));
    match read {
        Ok(_) if octets.len() as u64 > limits::LOGO => {
            problems.add(found.place, found.key, format!("{} is larger than {} KiB", path.display(), limits::LOGO / 1024));
            None
        }
        Ok(_) => Some(Logo { kind, octets }),
        Err(error) => {
            problems.add(found.place, found.key, format!("{} cannot be read: {error}", path.display()));
            None
        }
    }
}
