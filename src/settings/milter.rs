//! `[milter]`: compiled into the milter's configuration.

use std::{
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    path::{Path, PathBuf},
};

use super::{
    Advice, Problems, Severity, hint, host_name,
    keys::{List, Number, Size, Text},
    layers::Layers,
    schema::Found,
    users,
};
use crate::{
    limits,
    milter::{Address, Config, Owner},
    smtp::config,
};

/// Compiles the section; none where it is not there, or where it has mistakes.
pub(super) fn compile(
    file: &mut Layers<'_>,
    smtp: Option<&config::Config>,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) -> Option<Config> {
    let before = problems.0.len();
    let listen = file.take(const { List::of("milter.listen") }, problems);
    let mode = file.take(const { Text::of("milter.socket_mode") }, problems);
    let owner = file.take(const { Text::of("milter.socket_owner") }, problems);
    let hostname = file.take(const { Text::of("milter.hostname") }, problems);
    let inspect_limit = file.take(const { Size::of("milter.inspect_limit") }, problems);
    let connections = file.take(const { Number::of("milter.connections") }, problems);
    if !file.has("milter") {
        return None;
    }
    let place = file.place("milter");
    if listen.as_ref().is_none_or(|list| list.value.is_empty()) {
        problems.add_missing(place.clone(), "milter.listen", "missing, expected where MTAs connect, as in [\"inet:127.0.0.1:8891\"]");
    }
    // A section with mistakes has a name all the same.
    if hostname.is_none() && !file.has("smtp") {
        problems.add_missing(place, "milter.hostname", "missing, expected the hop's own name, as in \"firstclick.corp.example\"");
    }
    if let Some(found) = inspect_limit.as_ref().filter(|_| smtp.is_some()) {
        problems.add(found.place.clone(), found.key.clone(), "smtp.inspect_limit counts for SMTP and milter; take this one out");
    }
    let listen = addresses(listen, advice, problems);
    let socket_mode = mode.and_then(|found| {
        found.parse(problems, "a mode in octal, as in \"0660\"", |text| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777))
    });
    let socket_owner =
        owner.and_then(|found| found.parse(problems, "USER:GROUP, names or numbers that this system has", |text| owner_of(text)));
    let hostname = hostname.and_then(|found| host_name(&found, problems));
    let own_limit = inspect_limit.map_or(limits::INSPECT, |found| found.value);
    let config = Config {
        listen,
        socket_mode: socket_mode.unwrap_or(0o660),
        socket_owner,
        hostname: hostname.or_else(|| smtp.map(|smtp| smtp.hostname.clone())).unwrap_or_default(),
        inspect_limit: smtp.map_or(own_limit, |smtp| smtp.inspect_limit),
        connections: connections.map_or(limits::MILTER_CONNECTIONS, |found| found.value),
        drain: smtp.map_or(limits::DRAIN, |smtp| smtp.deadlines.drain),
    };
    (problems.0.len() == before).then_some(config)
}

/// Where MTAs connect; an address that other machines reach is warned of.
fn addresses(listen: Option<Found<Vec<Found<String>>>>, advice: &mut Vec<Advice>, problems: &mut Problems) -> Vec<Address> {
    let parse = |item: Found<String>| {
        let allowed = format!("\"inet:ADDRESS:PORT\", \"inet6:[ADDRESS]:PORT\" or \"unix:/PATH\"{}", hint::write(meant(&item.value)));
        let address = item.parse(problems, &allowed, |text| address(text))?;
        if matches!(&address, Address::Inet(address) if !address.ip().is_loopback()) {
            let what = "whoever reaches this address can have mails judged as if an MTA had taken them; keep it to your MTAs by a firewall";
            advice.push(Advice::new(Severity::Warning, item.place, &item.key, what));
        }
        Some(address)
    };
    listen.into_iter().flat_map(|list| list.value).filter_map(parse).collect()
}

/// The address that was meant by a path without its family, by Sendmail's `inet:PORT@HOST`, or by an address alone.
fn meant(text: &str) -> Option<String> {
    if text.starts_with('/') {
        return Some(format!("unix:{text}"));
    }
    if let Some(path) = text.strip_prefix("unix:").or_else(|| text.strip_prefix("local:")) {
        return Some(format!("unix:/run/firstclick/{path}"));
    }
    let bare = ["inet6:", "inet:"].iter().find_map(|family| text.strip_prefix(family)).unwrap_or(text);
    let turned = bare.split_once('@').map(|(port, host)| format!("{host}:{port}"));
    let address = hint::listen(turned.as_deref().unwrap_or(bare), 8891)?;
    Some(if address.starts_with('[') { format!("inet6:{address}") } else { format!("inet:{address}") })
}

fn address(text: &str) -> Option<Address> {
    let (family, rest) = text.split_once(':')?;
    match family {
        "inet" => rest.parse::<SocketAddrV4>().ok().map(|address| Address::Inet(SocketAddr::V4(address))),
        "inet6" => rest.parse::<SocketAddrV6>().ok().map(|address| Address::Inet(SocketAddr::V6(address))),
        "unix" | "local" if Path::new(rest).is_absolute() => Some(Address::Unix(PathBuf::from(rest))),
        _ => None,
    }
}

/// The numbers of `USER:GROUP`.
fn owner_of(text: &str) -> Option<Owner> {
    let (user, group) = text.split_once(':')?;
    Some(Owner { user: users::number_of_user(user)?, group: users::number_of_group(group)?, written: text.to_owned() })
}
