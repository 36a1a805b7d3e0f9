//! `[mail]`: by which server the digest is sent, as whom, and to whom.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use jiff::civil::Time;

use super::{
    Problems, SourceSpan,
    keys::{File, Folder, List, Text, Word},
    layers::Layers,
    schema::Found,
    smtp::is_host_and_port,
};
use crate::digest::{
    Address, Config,
    post::{Login, Password, Server, Tls},
};

/// Compiles the section; none where it is not there, or where it has mistakes.
pub(super) fn compile(file: &mut Layers<'_>, problems: &mut Problems) -> Option<Config> {
    let before = problems.0.len();
    let server = file.take(const { Text::of("mail.server") }, problems);
    let tls = file.take(const { Word::of("mail.tls") }, problems);
    let authorities = file.take(const { File::of("mail.ca") }, problems);
    let username = file.take(const { Text::of("mail.username") }, problems);
    let password_file = file.take(const { File::of("mail.password_file") }, problems);
    let from = file.take(const { Text::of("mail.from") }, problems);
    let to = file.take(const { List::of("mail.to") }, problems);
    let at = file.take(const { Text::of("mail.at") }, problems);
    let state = file.take(const { Folder::of("mail.state") }, problems);
    if !file.has("mail") {
        return None;
    }
    let place = file.place("mail");
    let mut missing =
        |key: &str, what: &str| problems.add_missing(place.clone(), format!("mail.{key}"), format!("missing, expected {what}"));
    if server.is_none() {
        missing("server", "the mail server that takes the digest, as in \"127.0.0.1:25\"");
    }
    if from.is_none() {
        missing("from", "an address that nothing else sends from, as in \"firstclick@corp.example\"");
    }
    if to.as_ref().is_none_or(|list| list.value.is_empty()) {
        missing("to", "who hears of what has no owner, as in [\"postmaster@corp.example\"]");
    }
    let words = [("off", Tls::Off), ("starttls", Tls::StartTls), ("tls", Tls::FromTheStart)];
    let tls_word = tls.as_ref().map(|found| found.place.clone());
    let tls = tls.and_then(|found| found.means(problems, &words)).unwrap_or_default();
    let server = server.and_then(|found| {
        let name = |text: &String| if is_host_and_port(text) { host_and_port(text) } else { None };
        found.parse(problems, "HOST:PORT, as in \"127.0.0.1:25\" or \"mail.corp.example:587\"", name)
    });
    let login = login(username, password_file, &place, problems);
    if let (Some((host, _)), Some(_), Tls::Off) = (&server, &login, tls)
        && !is_here(host)
    {
        let what = "off would show the password to the network; write starttls or tls, or take username out";
        problems.add(tls_word.unwrap_or_else(|| place.clone()), "mail.tls", what);
    }
    let authorities = authorities.and_then(|found| pem(found, problems));
    let address = |text: &String| text.parse::<Address>().ok().filter(|address| AsRef::<str>::as_ref(address).is_ascii());
    let allowed = "an address, as in \"firstclick@corp.example\"";
    let from = from.and_then(|found| found.parse(problems, allowed, address));
    let to: Vec<Address> = to.into_iter().flat_map(|list| list.value).filter_map(|found| found.parse(problems, allowed, address)).collect();
    let at = at.and_then(|found| found.parse(problems, "a time of day, as in \"07:00\"", |text| Time::strptime("%H:%M", text).ok()));
    let state = state.map_or_else(default_state, |found| found.value);
    let (host, port) = server?;
    let config = Config { server: Server { host, port, tls, authorities, login }, from: from?, to, at: at.unwrap_or(MORNING), state };
    (problems.0.len() == before).then_some(config)
}

/// When people come to work and find it.
const MORNING: Time = Time::constant(7, 0, 0, 0);

/// The folder that systemd gives, or would.
fn default_state() -> PathBuf {
    let given = std::env::var_os("STATE_DIRECTORY").and_then(|folders| std::env::split_paths(&folders).next());
    given.unwrap_or_else(|| PathBuf::from("/var/lib/firstclick")).join("digest")
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_string(), address.port()));
    }
    let (host, port) = text.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Who logs in; name and password stand together. What the file holds is never repeated in a message.
fn login(
    username: Option<Found<String>>,
    password_file: Option<Found<PathBuf>>,
    place: &SourceSpan,
    problems: &mut Problems,
) -> Option<Login> {
    if username.is_some() != password_file.is_some() {
        let absent = if username.is_some() { "password_file" } else { "username" };
        problems.add_missing(place.clone(), format!("mail.{absent}"), "missing, expected username and password_file together");
    }
    let (username, found) = username.zip(password_file)?;
    let read = super::files::text(&found.value).map_err(|error| format!("cannot be read: {error}"));
    let line = read.and_then(|text| {
        let line = text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned);
        line.ok_or_else(|| "is empty, expected the password in its first line".to_owned())
    });
    match line {
        Ok(line) => Some(Login { username: username.value, password: Password::new(line) }),
        Err(what) => {
            problems.add(found.place, found.key, format!("{} {what}", found.value.display()));
            None
        }
    }
}

fn pem(found: Found<PathBuf>, problems: &mut Problems) -> Option<Vec<u8>> {
    let read = super::files::text(&found.value).map_err(|error| format!("cannot be read: {error}"));
    let is_pem = |text: &String| text.contains("-----BEGIN CERTIFICATE-----");
    match read.and_then(|text| if is_pem(&text) { Ok(text) } else { Err("holds no certificate in PEM".to_owned()) }) {
        Ok(text) => Some(text.into_bytes()),
        Err(what) => {
            problems.add(found.place, found.key, format!("{} {what}", found.value.display()));
            None
        }
    }
}
