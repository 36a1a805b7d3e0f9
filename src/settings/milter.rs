//! `[milter]`: compiled into the milter's configuration.

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    path::{Path, PathBuf},
};

use super::{
    Advice, Problems, Severity,
    schema::{Found, Section},
    smtp::{count, size},
};
use crate::{
    limits,
    message::Domain,
    milter::{Address, Config, Owner},
    smtp::config,
};

/// Compiles the section; none where it is not there, or where it has mistakes.
pub(super) fn compile(
    mut section: Section<'_, '_>,
    smtp: Option<&config::Config>,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) -> Option<Config> {
    let before = problems.0.len();
    let listen = section.strings("listen", problems);
    let mode = section.string("socket_mode", problems);
    let owner = section.string("socket_owner", problems);
    let hostname = section.string("hostname", problems);
    let inspect_limit = section.string("inspect_limit", problems);
    let connections = section.number("connections", problems);
    let (there, place) = (section.is_there(), section.place());
    section.finish(problems);
    if !there {
        return None;
    }
    if listen.is_none() {
        problems.add(place.clone(), "milter.listen", "missing, expected where MTAs connect, as in [\"inet:127.0.0.1:8891\"]");
    }
    if hostname.is_none() && smtp.is_none() {
        problems.add(place, "milter.hostname", "missing, expected the hop's own name, as in \"firstclick.corp.example\"");
    }
    if let Some(found) = inspect_limit.as_ref().filter(|_| smtp.is_some()) {
        problems.add(found.place.clone(), found.key.clone(), "smtp.inspect_limit counts for SMTP and milter; take this one out");
    }
    let allowed = "\"inet:ADDRESS:PORT\", \"inet6:[ADDRESS]:PORT\" or \"unix:/PATH\"";
    let listen: Vec<Address> = listen
        .into_iter()
        .flat_map(|list| list.value)
        .filter_map(|item| {
            let (item_place, key) = (item.place.clone(), item.key.clone());
            let address = item.parse(problems, allowed, |text| address(text))?;
            if matches!(&address, Address::Inet(address) if !address.ip().is_loopback()) {
                let what =
                    "whoever reaches this address can have mails judged as if an MTA had taken them; keep it to your MTAs by a firewall";
                advice.push(Advice::new(Severity::Warning, item_place, &key, what));
            }
            Some(address)
        })
        .collect();
    let socket_mode = mode.and_then(|found| {
        found.parse(problems, "a mode in octal, as in \"0660\"", |text| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777))
    });
    let socket_owner =
        owner.and_then(|found| found.parse(problems, "USER:GROUP, names or numbers that this system has", |text| owner_of(text)));
    let hostname = hostname.and_then(|found: Found<String>| {
        let allowed = "a host name, as in \"firstclick.corp.example\"";
        found.parse(problems, allowed, |text| Domain::parse(text).ok().map(|name| name.to_string()))
    });
    let own_limit = size(inspect_limit, limits::INSPECT, problems);
    let connections = count(connections, limits::MILTER_CONNECTIONS, problems);
    let setup = Config {
        listen,
        socket_mode: socket_mode.unwrap_or(0o660),
        socket_owner,
        hostname: hostname.or_else(|| smtp.map(|smtp| smtp.hostname.clone())).unwrap_or_default(),
        inspect_limit: smtp.map_or(own_limit, |smtp| smtp.inspect_limit),
        connections,
        drain: smtp.map_or(limits::DRAIN, |smtp| smtp.deadlines.drain),
    };
    (problems.0.len() == before).then_some(setup)
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
    Some(Owner { user: number_of(user, "/etc/passwd")?, group: number_of(group, "/etc/group")? })
}

/// A number, or the one that a file of names gives (passwd(5), group(5): the third field).
fn number_of(name: &str, file: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let names = fs::read_to_string(file).ok()?;
    let fields = names.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.into_iter().find(|fields| fields.first() == Some(&name)).and_then(|fields| fields.get(2)?.parse().ok())
}
