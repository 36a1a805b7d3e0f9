//! `[smtp]`: compiled into the SMTP server's configuration.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::{
    Advice, Problems, Severity, addresses,
    schema::{self, Found, Section},
};
use crate::{
    identity::Network,
    limits,
    message::Domain,
    smtp::config::{BareLineEndings, Bounds, Config, Deadlines, Trace},
    tls::{self, CertificateFiles, ClientTls},
};

/// Compiles the section; none where it is not there, or where it has mistakes.
pub(super) fn compile(mut section: Section<'_, '_>, beside: &Path, advice: &mut Vec<Advice>, problems: &mut Problems) -> Option<Config> {
    let before = problems.0.len();
    let listen = section.strings("listen", problems);
    let listen_tls = section.strings("listen_tls", problems);
    let next_hop = section.one_or_more("next_hop", problems);
    let hostname = section.string("hostname", problems);
    let inspect_limit = section.string("inspect_limit", problems);
    let size_limit = section.string("size_limit", problems);
    let trace = section.flag("trace", problems);
    let bare = section.string("bare_line_endings", problems);
    let accept_from = section.strings("accept_from", problems);
    let proxies = section.strings("proxies", problems);
    let temporary = section.string("temporary_directory", problems);
    let next_hop_tls = section.string("next_hop_tls", problems);
    let authorities = section.string("next_hop_ca", problems);
    let certificate = section.string("certificate", problems);
    let key = section.string("key", problems);
    let bounds = section.section("bounds", problems);
    let bounds = compile_bounds(bounds, problems);
    let deadlines = section.section("deadlines", problems);
    let deadlines = compile_deadlines(deadlines, problems);
    let (there, place) = (section.is_there(), section.place());
    section.finish(problems);
    if !there {
        return None;
    }
    let mut missing = |key: &str, what: &str| problems.add(place.clone(), format!("smtp.{key}"), format!("missing, expected {what}"));
    if listen.is_none() && listen_tls.is_none() {
        missing("listen", "where upstreams connect, as in [\"127.0.0.1:2525\"]");
    }
    if next_hop.is_none() {
        missing("next_hop", "where mails go, as in \"127.0.0.1:2526\"");
    }
    if hostname.is_none() {
        missing("hostname", "the hop's own name, as in \"firstclick.corp.example\"");
    }
    if certificate.is_some() != key.is_some() {
        missing(if key.is_some() { "certificate" } else { "key" }, "certificate and key together, as files in PEM");
    }
    if listen_tls.as_ref().is_some_and(|list| !list.value.is_empty()) && certificate.is_none() {
        missing("certificate", "a certificate, because listen_tls needs one");
    }
    let accept_place = listen.as_ref().map(|found| found.place.clone());
    let listen: Vec<SocketAddr> = addresses(listen, problems);
    let listen_tls: Vec<SocketAddr> = addresses(listen_tls, problems);
    let next_hops = next_hop.into_iter().flat_map(|list| list.value);
    let hops = "HOST:PORT, as in \"127.0.0.1:2526\" or \"scanner.corp.example:25\"";
    let next_hops: Vec<String> =
        next_hops.filter_map(|found| found.parse(problems, hops, |text| is_host_and_port(text).then(|| text.clone()))).collect();
    if next_hops.len() > limits::NEXT_HOPS {
        problems.add(place.clone(), "smtp.next_hop", format!("{} next hops, expected {} at most", next_hops.len(), limits::NEXT_HOPS));
    }
    let hostname = hostname.and_then(|found| {
        found
            .parse(problems, "a host name, as in \"firstclick.corp.example\"", |text| Domain::parse(text).ok().map(|name| name.to_string()))
    });
    let mut setup = Config::relay(hostname.unwrap_or_default(), next_hops);
    setup.inspect_limit = size(inspect_limit, setup.inspect_limit, problems);
    setup.size_limit = size(size_limit, setup.size_limit, problems);
    setup.trace = if trace.is_none_or(|found| found.value) { Trace::Written } else { Trace::Hidden };
    if let Some(found) = bare {
        let words = [("reject", BareLineEndings::Reject), ("normalize", BareLineEndings::Normalize)];
        setup.bare_line_endings = found.word(problems, &words).unwrap_or(setup.bare_line_endings);
    }
    if let Some(found) = next_hop_tls {
        let words = [
            ("off", ClientTls::Off),
            ("opportunistic", ClientTls::Opportunistic),
            ("required", ClientTls::Required),
            ("verified", ClientTls::Verified),
        ];
        setup.next_hop_tls = found.word(problems, &words).unwrap_or(setup.next_hop_tls);
    }
    let reach = listen.iter().chain(&listen_tls).any(|address| !address.ip().is_loopback());
    if reach && accept_from.is_none() {
        let what = "nobody is turned away, so whoever reaches this address may send to the next hop; name your upstreams in accept_from";
        advice.push(Advice::new(Severity::Warning, accept_place.unwrap_or_else(|| place.clone()), "smtp.accept_from", what));
    }
    setup.accept_from = networks(accept_from, problems);
    setup.proxies = networks(proxies, problems);
    if let Some(found) = temporary {
        let folder = beside.join(&found.value);
        if folder.is_dir() {
            setup.temporary = folder;
        } else {
            problems.add(found.place, found.key, format!("{} is no folder", folder.display()));
        }
    }
    setup.authorities = authorities.as_ref().map(|found| beside.join(&found.value));
    if let Err(error) = tls::client(setup.next_hop_tls, setup.authorities.as_deref()) {
        let at = authorities.map_or_else(|| place.clone(), |found| found.place);
        problems.add(at, "smtp.next_hop_ca", error.to_string());
    }
    setup.certificate = certificate.zip(key).map(|(certificate, key)| {
        let files = CertificateFiles { certificate: beside.join(certificate.value), key: beside.join(key.value) };
        if let Err(error) = tls::server(&files) {
            problems.add(certificate.place, certificate.key, error.to_string());
        }
        files
    });
    setup.listen = listen;
    setup.listen_tls = listen_tls;
    setup.bounds = bounds;
    setup.deadlines = deadlines;
    (problems.0.len() == before).then_some(setup)
}

fn is_host_and_port(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok_and(|port| port > 0) && (host == "localhost" || Domain::parse(host).is_ok())
        })
}

pub(super) fn size(found: Option<Found<String>>, default: usize, problems: &mut Problems) -> usize {
    found
        .and_then(|found| found.parse(problems, "a size with its unit, as in \"1MiB\"", |text| schema::size(text).filter(|size| *size > 0)))
        .unwrap_or(default)
}

/// A number of things that there may be.
pub(super) fn count(found: Option<Found<i64>>, default: usize, problems: &mut Problems) -> usize {
    let allowed = "a number from 1 to 1000000";
    let parse = |number: &i64| usize::try_from(*number).ok().filter(|number| (1..=1_000_000).contains(number));
    found.and_then(|found| found.parse(problems, allowed, parse)).unwrap_or(default)
}

pub(super) fn networks(found: Option<Found<Vec<Found<String>>>>, problems: &mut Problems) -> Vec<Network> {
    let each = found.into_iter().flat_map(|list| list.value);
    each.filter_map(|item| item.parse(problems, "a network, as in \"10.0.0.0/8\" or \"192.0.2.1\"", |text| Network::parse(text))).collect()
}

fn compile_bounds(mut section: Section<'_, '_>, problems: &mut Problems) -> Bounds {
    let mut bounds = Bounds::default();
    let counts = [
        ("connections", &mut bounds.connections),
        ("connections_per_address", &mut bounds.connections_per_address),
        ("recipients", &mut bounds.recipients),
        ("idle_commands", &mut bounds.idle_commands),
    ];
    for (key, bound) in counts {
        let found = section.number(key, problems);
        *bound = count(found, *bound, problems);
    }
    let memory = section.string("memory", problems);
    bounds.memory = size(memory, bounds.memory, problems);
    section.finish(problems);
    bounds
}

fn compile_deadlines(mut section: Section<'_, '_>, problems: &mut Problems) -> Deadlines {
    let mut deadlines = Deadlines::default();
    let times = [
        ("connect", &mut deadlines.connect),
        ("reply", &mut deadlines.reply),
        ("final_reply", &mut deadlines.final_reply),
        ("command", &mut deadlines.command),
        ("data_block", &mut deadlines.data_block),
        ("data", &mut deadlines.data),
        ("drain", &mut deadlines.drain),
        ("dead_hop", &mut deadlines.dead_hop),
    ];
    let (least, most) = (Duration::from_millis(100), Duration::from_hours(24));
    for (key, deadline) in times {
        if let Some(found) = section.string(key, problems) {
            let allowed = "a time with its unit, from \"100ms\" to \"24h\"";
            *deadline = found
                .parse(problems, allowed, |text| schema::duration(text).filter(|time| (least..=most).contains(time)))
                .unwrap_or(*deadline);
        }
    }
    section.finish(problems);
    deadlines
}
