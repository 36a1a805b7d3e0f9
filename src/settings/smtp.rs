//! `[smtp]`: compiled into the SMTP server's configuration.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::fs::Access;

use super::{
    Advice, Problems, Severity, SourceSpan, access, addresses, hint, host_name,
    keys::{File, Flag, List, Number, Size, Text, Time, Word},
    layers::Layers,
    networks,
    schema::Found,
};
use crate::{
    limits,
    message::Domain,
    smtp::config::{BareLineEndings, Bounds, Chunking, Config, Deadlines, Pooling, Trace},
    tls::{self, CertificateFiles, ClientTls},
};

/// Compiles the section; none where it is not there. What mistakes are about is as if it were not written.
pub(super) fn compile(file: &mut Layers<'_>, advice: &mut Vec<Advice>, problems: &mut Problems) -> Option<Config> {
    let listen = file.take(const { List::of("smtp.listen") }, problems);
    let listen_tls = file.take(const { List::of("smtp.listen_tls") }, problems);
    let mut next_hop = file.take(const { List::of("smtp.next_hop") }, problems);
    let hostname = file.take(const { Text::of("smtp.hostname") }, problems);
    let accept_from = file.take(const { List::of("smtp.accept_from") }, problems);
    let proxies = file.take(const { List::of("smtp.proxies") }, problems);
    let pair = CertificatePair {
        certificate: file.take(const { File::of("smtp.certificate") }, problems),
        key: file.take(const { File::of("smtp.key") }, problems),
    };
    let place = file.place("smtp");
    let there = file.has("smtp");
    if there {
        let mut missing =
            |key: &str, what: &str| problems.add_missing(place.clone(), format!("smtp.{key}"), format!("missing, expected {what}"));
        let empty = |list: &Option<Found<Vec<Found<String>>>>| list.as_ref().is_none_or(|list| list.value.is_empty());
        if empty(&listen) && empty(&listen_tls) {
            missing("listen", "where upstreams connect, as in [\"127.0.0.1:2525\"]");
        }
        if hostname.is_none() {
            missing("hostname", "the hop's own name, as in \"firstclick.corp.example\"");
        }
        if listen_tls.as_ref().is_some_and(|list| !list.value.is_empty()) && pair.certificate.is_none() {
            missing("certificate", "a certificate, because listen_tls needs one");
        }
    }
    if there && next_hop.as_ref().is_none_or(|list| list.value.iter().all(|name| name.value.trim().is_empty())) {
        let place = next_hop.take().map_or_else(|| place.clone(), |found| found.place);
        let what =
            "missing, so that no mail can be taken: upstreams get 421 until it is written, as in next_hop = \"scanner.corp.example:25\"";
        advice.push(Advice::new(Severity::Warning, place, "smtp.next_hop", what));
    }
    if let Some(list) = accept_from.as_ref().filter(|list| list.value.is_empty()) {
        let what = "an empty list would let everybody connect; name your upstreams, or leave the key out";
        problems.add(list.place.clone(), "smtp.accept_from", what);
    }
    let accept_place = listen.as_ref().map_or_else(|| place.clone(), |found| found.place.clone());
    let (listen, listen_tls) = (addresses(listen, problems), addresses(listen_tls, problems));
    let reach = listen.iter().chain(&listen_tls).any(|address| !address.ip().is_loopback());
    if there && reach && accept_from.is_none() {
        let what = "nobody is refused, so whoever reaches this address may send to the next hop; name your upstreams in accept_from";
        advice.push(Advice::new(Severity::Warning, accept_place, "smtp.accept_from", what));
    }
    let next_hops = next_hops(next_hop, problems);
    let hostname = hostname.and_then(|found| host_name(&found, problems)).unwrap_or_default();
    let mut config = Config::relay(hostname, next_hops);
    (config.listen, config.listen_tls) = (listen, listen_tls);
    config.accept_from = networks(accept_from, problems);
    config.proxies = networks(proxies, problems);
    config.certificate = pair.compile("smtp", &place, problems);
    mail(file, &mut config, problems);
    next_hop_tls(file, &mut config, &place, problems);
    bounds(file, &mut config.bounds, problems);
    deadlines(file, &mut config.deadlines, problems);
    there.then_some(config)
}

/// What is done with a mail while it is taken.
fn mail(file: &mut Layers<'_>, config: &mut Config, problems: &mut Problems) {
    if let Some(found) = file.take(const { Size::of("smtp.inspect_limit") }, problems) {
        config.inspect_limit = found.value;
    }
    if let Some(found) = file.take(const { Size::of("smtp.size_limit") }, problems) {
        config.size_limit = found.value;
    }
    if let Some(found) = file.take(const { Flag::of("smtp.trace") }, problems) {
        config.trace = if found.value { Trace::Written } else { Trace::Hidden };
    }
    if let Some(found) = file.take(const { Word::of("smtp.bare_line_endings") }, problems) {
        let words = [("reject", BareLineEndings::Reject), ("normalize", BareLineEndings::Normalize)];
        config.bare_line_endings = found.means(problems, &words).unwrap_or(config.bare_line_endings);
    }
}

/// Connections to the next hop: TLS, the authorities that it needs, whether they are kept, and how mails go over them.
fn next_hop_tls(file: &mut Layers<'_>, config: &mut Config, place: &SourceSpan, problems: &mut Problems) {
    if let Some(found) = file.take(const { Word::of("smtp.next_hop_tls") }, problems) {
        let words = [
            ("off", ClientTls::Off),
            ("opportunistic", ClientTls::Opportunistic),
            ("required", ClientTls::Required),
            ("verified", ClientTls::Verified),
        ];
        config.next_hop_tls = found.means(problems, &words).unwrap_or(config.next_hop_tls);
    }
    if let Some(found) = file.take(const { Word::of("smtp.pool") }, problems) {
        config.pool = found.means(problems, &[("on", Pooling::On), ("off", Pooling::Off)]).unwrap_or(config.pool);
    }
    if let Some(found) = file.take(const { Word::of("smtp.chunking") }, problems) {
        config.chunking = found.means(problems, &[("on", Chunking::On), ("off", Chunking::Off)]).unwrap_or(config.chunking);
    }
    let authorities = file.take(const { File::of("smtp.next_hop_ca") }, problems);
    let path = authorities.as_ref().map(|found| found.value.clone());
    if file.has("smtp")
        && let Err(error) = tls::client(config.next_hop_tls, path.as_deref())
    {
        let at = authorities.map_or_else(|| place.clone(), |found| found.place);
        let closed = path.as_deref().and_then(|path| access::closed(path, Access::READ_OK));
        let what = closed.unwrap_or_else(|| error.to_string());
        problems.add_unusable(at, "smtp.next_hop_ca", what, super::files::remedy_of_all(path.as_deref()));
    }
    config.authorities = path;
}

fn next_hops(found: Option<Found<Vec<Found<String>>>>, problems: &mut Problems) -> Vec<String> {
    let Some(found) = found else { return Vec::new() };
    let allowed = "HOST:PORT, as in \"127.0.0.1:2526\" or \"scanner.corp.example:25\"";
    let one = |item: Found<String>| {
        let text = &item.value;
        item.parse(problems, &format!("{allowed}{}", hint::next_hop(text)), |text| is_host_and_port(text).then(|| text.clone()))
    };
    let next_hops: Vec<String> = found.value.into_iter().filter_map(one).collect();
    if next_hops.len() > limits::NEXT_HOPS {
        problems.add(found.place, found.key, format!("{} next hops, expected {} at most", next_hops.len(), limits::NEXT_HOPS));
    }
    next_hops
}

/// A certificate and its key, of which neither stands alone.
pub(super) struct CertificatePair {
    pub(super) certificate: Option<Found<PathBuf>>,
    pub(super) key: Option<Found<PathBuf>>,
}

impl CertificatePair {
    /// The files; that they fit is tried.
    pub(super) fn compile(self, section: &str, place: &SourceSpan, problems: &mut Problems) -> Option<CertificateFiles> {
        if self.certificate.is_some() != self.key.is_some() {
            let absent = if self.key.is_some() { "certificate" } else { "key" };
            let what = "missing, expected certificate and key together, as files in PEM";
            problems.add_missing(place.clone(), format!("{section}.{absent}"), what);
        }
        let (certificate, key) = self.certificate.zip(self.key)?;
        let files = CertificateFiles { certificate: certificate.value.clone(), key: key.value.clone() };
        if let Err(error) = tls::server(&files) {
            let remedy = super::files::remedy_of_all([files.certificate.as_path(), &files.key]);
            // What is closed is told with the line that opens it, at its own key.
            let closed = |path: &Path| access::closed(path, Access::READ_OK);
            match (closed(&files.certificate), closed(&files.key)) {
                (None, Some(what)) => problems.add_unusable(key.place, key.key, what, remedy),
                (Some(what), _) => problems.add_unusable(certificate.place, certificate.key, what, remedy),
                (None, None) => problems.add_unusable(certificate.place, certificate.key, error.to_string(), remedy),
            }
        }
        Some(files)
    }
}

pub(super) fn is_host_and_port(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok_and(|port| port > 0) && (host == "localhost" || Domain::parse(host).is_ok())
        })
}

fn bounds(file: &mut Layers<'_>, bounds: &mut Bounds, problems: &mut Problems) {
    for (key, bound) in [
        (const { Number::of("smtp.bounds.connections") }, &mut bounds.connections),
        (const { Number::of("smtp.bounds.connections_per_address") }, &mut bounds.connections_per_address),
        (const { Number::of("smtp.bounds.recipients") }, &mut bounds.recipients),
        (const { Number::of("smtp.bounds.idle_commands") }, &mut bounds.idle_commands),
    ] {
        if let Some(found) = file.take(key, problems) {
            *bound = found.value;
        }
    }
    if let Some(found) = file.take(const { Size::of("smtp.bounds.memory") }, problems) {
        bounds.memory = found.value;
    }
}

fn deadlines(file: &mut Layers<'_>, deadlines: &mut Deadlines, problems: &mut Problems) {
    for (key, deadline) in [
        (const { Time::of("smtp.deadlines.connect") }, &mut deadlines.connect),
        (const { Time::of("smtp.deadlines.reply") }, &mut deadlines.reply),
        (const { Time::of("smtp.deadlines.final_reply") }, &mut deadlines.final_reply),
        (const { Time::of("smtp.deadlines.command") }, &mut deadlines.command),
        (const { Time::of("smtp.deadlines.data_block") }, &mut deadlines.data_block),
        (const { Time::of("smtp.deadlines.data") }, &mut deadlines.data),
        (const { Time::of("smtp.deadlines.drain") }, &mut deadlines.drain),
        (const { Time::of("smtp.deadlines.dead_hop") }, &mut deadlines.dead_hop),
    ] {
        if let Some(found) = file.take(key, problems) {
            *deadline = found.value;
        }
    }
}
