//! `[guard]`: compiled into the guard page's configuration.

use std::{fs, io, path::PathBuf, sync::Arc};

use rustix::fs::{Access, access};
use url::Url;

use super::{
    Advice, Problems, Severity, SourceSpan,
    keys::{File, Flag, Folder, List, Text, Time, Word},
    layers::Layers,
    networks,
    schema::Found,
    smtp::CertificatePair,
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
};

/// Compiles the section; none where it is not there, or where it has mistakes. `others` are names of senders to choose among.
pub(super) fn compile(file: &mut Layers<'_>, others: Vec<String>, warnings: &mut Vec<Advice>, problems: &mut Problems) -> Option<Config> {
    let before = problems.0.len();
    let url = file.take(const { Text::of("guard.url") }, problems);
    let listen = file.take(const { Text::of("guard.listen") }, problems);
    let key_file = file.take(const { File::of("guard.key_file") }, problems);
    let (there, place) = (file.has("guard"), file.place("guard"));
    if there {
        let mut missing =
            |key: &str, what: &str| problems.add_missing(place.clone(), format!("guard.{key}"), format!("missing, expected {what}"));
        if url.is_none() {
            missing("url", "where readers reach the page, as in \"https://links.corp.example\"");
        }
        if listen.is_none() {
            missing("listen", "where the page is served, as in \"127.0.0.1:8443\"");
        }
        if key_file.is_none() {
            missing("key_file", "a file of keys; `firstclick keygen --out FILE` writes one");
        }
    }
    let url = url.and_then(|found| found.parse(problems, "https://HOST, or http:// on this machine, without a path", |text| origin(text)));
    let listen = listen.and_then(|found| super::address(&found, 8443, problems));
    let lines = key_file.map(|found| key_lines(found, problems)).unwrap_or_default();
    let keys = lines.iter().filter_map(|line| SealKey::parse(line)).collect();
    let nonces = lines.first().and_then(|line| Key::parse(line)).map(|key| key.derive("guard-nonce-of-page"));
    let lifetime = file.take(const { Time::of("guard.lifetime") }, problems).map_or(limits::GUARD_LIFETIME, |found| found.value);
    let links = file.take(const { Folder::of("guard.store") }, problems).map(|found| open_store(found, warnings));
    let pair = CertificatePair {
        certificate: file.take(const { File::of("guard.certificate") }, problems),
        key: file.take(const { File::of("guard.key") }, problems),
    };
    let certificate = pair.compile("guard", &place, problems);
    let proxies = file.take(const { List::of("guard.proxies") }, problems);
    let proxies = networks(proxies, problems);
    let page = page(file, problems);
    if !there || problems.0.len() > before {
        return None;
    }
    let guard_links = Arc::new(GuardLinkKeys { url: url?, keys, lifetime });
    let length = guard_links.url.len() + SHORT_PATH.len() + LinkId::LENGTH;
    if links.is_some() && length > COLUMNS {
        let says = format!(
            "guard links have {length} characters and {COLUMNS} fit a line, so that some programs cut them in plain text; \
             a shorter name helps"
        );
        warnings.push(Advice::new(Severity::Warning, place, "guard.url", says));
    }
    let Page { confirm, logo, note, help_desk } = page;
    let recipient_keys = Vec::new();
    Some(Config {
        recipient_keys,
        listen: listen?,
        guard_links,
        links,
        nonces: nonces?,
        certificate,
        proxies,
        confirm,
        others,
        logo,
        note,
        help_desk,
    })
}

/// The keys of what the page shows.
struct Page {
    confirm: Confirm,
    logo: Option<Logo>,
    note: String,
    help_desk: HelpDesk,
}

fn page(file: &mut Layers<'_>, problems: &mut Problems) -> Page {
    let words = [("press", Confirm::Press), ("choose", Confirm::Choose)];
    let confirm = file.take(const { Word::of("guard.confirm") }, problems).and_then(|found| found.means(problems, &words));
    let logo = file.take(const { File::of("guard.logo") }, problems).and_then(|found| read_logo(found, problems));
    let note = file.take(const { Text::of("guard.note") }, problems).and_then(|found| {
        let allowed = "one sentence of at most 300 characters";
        found.parse(problems, allowed, |text| (text.chars().count() <= 300).then(|| text.clone()))
    });
    let help_desk = file.take(const { Flag::of("guard.help_desk") }, problems).is_some_and(|found| found.value);
    Page {
        confirm: confirm.unwrap_or(Confirm::Press),
        logo,
        note: note.unwrap_or_default(),
        help_desk: if help_desk { HelpDesk::Open } else { HelpDesk::Closed },
    }
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
fn key_lines(found: Found<PathBuf>, problems: &mut Problems) -> Vec<String> {
    let path = found.value;
    let text = match super::files::text(&path) {
        Ok(text) => text,
        Err(error) => {
            let absent = error.kind() == io::ErrorKind::NotFound;
            let how = if absent { "; `firstclick keygen --out FILE` writes one" } else { "" };
            let what = format!("{} cannot be read: {error}{how}", path.display());
            problems.add_unusable(found.place, found.key, what, super::files::remedy(&path, &error));
            return Vec::new();
        }
    };
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        if SealKey::parse(line.trim()).is_some() {
            keys.push(line.trim().to_owned());
        } else {
            let place = SourceSpan { source: path.display().to_string(), at: Some((at + 1, 1)) };
            problems.add(place, "guard.key_file", super::tag::no_key(line));
        }
    }
    if keys.is_empty() {
        problems.add(found.place, found.key, format!("{} holds no key; `firstclick keygen --out FILE` writes one", path.display()));
    }
    keys
}

/// The store in this folder, which firstclick must be able to write; nothing is written to test that. Where it cannot be used
/// now, as before a share is mounted, guarded mails leave as they came: no reason to stop the service, or to refuse a change.
fn open_store(found: Found<PathBuf>, warnings: &mut Vec<Advice>) -> Arc<LinkStore> {
    let folder = found.value;
    let usable = fs::metadata(&folder)
        .and_then(|about| if about.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) })
        .and_then(|()| Ok(access(&folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?));
    if let Err(error) = usable {
        let error = super::access::explained(&folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, error);
        let what = format!(
            "{} cannot be used: {error}; until it can, mails to be guarded are not, and stored links do not open; create it and give it \
             to the user that firstclick runs as, or leave the key out: guard links are long then, and need no folder",
            folder.display()
        );
        warnings.push(Advice::new(Severity::Warning, found.place, found.key, what));
    }
    Arc::new(LinkStore::new(folder))
}

fn read_logo(found: Found<PathBuf>, problems: &mut Problems) -> Option<Logo> {
    let path = found.value;
    let kinds = [("png", "image/png"), ("svg", "image/svg+xml"), ("jpg", "image/jpeg"), ("jpeg", "image/jpeg"), ("webp", "image/webp")];
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    let Some((_, kind)) = kinds.iter().find(|(known, _)| *known == end) else {
        problems.add(found.place, found.key, format!("{} is no picture; expected .png, .svg, .jpg or .webp", path.display()));
        return None;
    };
    match super::files::octets(&path, limits::LOGO) {
        Ok(octets) if octets.len() as u64 > limits::LOGO => {
            problems.add(found.place, found.key, format!("{} is larger than {} KiB", path.display(), limits::LOGO / 1024));
            None
        }
        Ok(octets) => Some(Logo { kind, octets }),
        Err(error) => {
            let what = format!("{} cannot be read: {error}", path.display());
            problems.add_unusable(found.place, found.key, what, super::files::remedy(&path, &error));
            None
        }
    }
}
