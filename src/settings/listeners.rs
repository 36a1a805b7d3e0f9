//! The listeners of all sections beside one another, and the next hop beside them: two on one port, and a hop that would send
//! its mails to itself, are mistakes that show only when all sections are known.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use super::{Advice, Problems, Settings, Severity, SourceSpan, Verify};
use crate::milter;

/// Where one section listens.
struct Listener<'s> {
    key: &'static str,
    at: Socket<'s>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket<'s> {
    Inet(SocketAddr),
    Unix(&'s Path),
}

impl fmt::Display for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Socket<'_> {
    /// Whether the system gives only one of the two. A port of 0 is another one each time.
    fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inet(one), Self::Inet(other)) => one.port() != 0 && one.port() == other.port() && overlap(one.ip(), other.ip()),
            (Self::Unix(one), Self::Unix(other)) => one == other,
            _ => false,
        }
    }
}

/// `[::]` takes connections of IPv4 too.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    let takes = |all: IpAddr, other: IpAddr| all == IpAddr::from(Ipv6Addr::UNSPECIFIED) || (all.is_unspecified() && other.is_ipv4());
    one == other || takes(one, other) || takes(other, one)
}

fn of(settings: &Settings) -> Vec<Listener<'_>> {
    let mut all = Vec::new();
    let inet = |key, address: &SocketAddr| Listener { key, at: Socket::Inet(*address) };
    if let Some(smtp) = &settings.smtp {
        all.extend(smtp.listen.iter().map(|address| inet("smtp.listen", address)));
        all.extend(smtp.listen_tls.iter().map(|address| inet("smtp.listen_tls", address)));
    }
    for address in settings.milter.iter().flat_map(|milter| &milter.listen) {
        all.push(match address {
            milter::Address::Inet(address) => inet("milter.listen", address),
            milter::Address::Unix(path) => Listener { key: "milter.listen", at: Socket::Unix(path) },
        });
    }
    all.extend(settings.guard.iter().map(|guard| inet("guard.listen", &guard.listen)));
    all.extend(settings.admin.iter().map(|address| inet("admin.listen", address)));
    all
}

/// Adds what cannot be: `place` says where a key stands.
pub(super) fn check(settings: &Settings, place: impl Fn(&str) -> SourceSpan, problems: &mut Problems) {
    let all = of(settings);
    for (at, one) in all.iter().enumerate() {
        if let Some(before) = all.iter().take(at).find(|before| before.at.collides(&one.at)) {
            let what = if before.key == one.key {
                format!("{} and {} are the same listener; take one of them out", before.at, one.at)
            } else {
                format!("{} is taken by {} = {} already; give each its own port", one.at, before.key, before.at)
            };
            problems.add(place(one.key), one.key, what);
        }
    }
    for hop in settings.smtp.iter().flat_map(|smtp| &smtp.next_hops) {
        if let Some(own) = all.iter().find(|own| leads_to(hop, own, Reach::Loopback)) {
            problems.add(place("smtp.next_hop"), "smtp.next_hop", itself(hop, own));
        }
    }
}

/// A next hop that is this very machine's by an address of its own, which may be another's tomorrow.
pub(super) fn advice(settings: &Settings, place: &SourceSpan, advice: &mut Vec<Advice>) {
    let all = of(settings);
    for hop in settings.smtp.iter().flat_map(|smtp| &smtp.next_hops) {
        if let Some(own) = all.iter().find(|own| leads_to(hop, own, Reach::Interfaces)) {
            advice.push(Advice::new(Severity::Danger, place.clone(), "smtp.next_hop", itself(hop, own)));
        }
    }
    let Some(smtp) = settings.smtp.as_ref().filter(|smtp| is_loopback(&smtp.listen)) else { return };
    let leads_back = |hop: &&String| addresses(hop).is_some_and(|(hosts, port)| port == 25 && hosts.iter().all(IpAddr::is_loopback));
    if let Some(hop) = smtp.next_hops.iter().find(leads_back) {
        let what = format!(
            "{hop} is mostly the MTA that hands the mails over, to which they would go back, round and round; name the scanner, or a port at \
             which that MTA takes mails and sends them to the scanner"
        );
        advice.push(Advice::new(Severity::Warning, place.clone(), "smtp.next_hop", what));
    }
    let is_here = matches!(settings.identity.verify, Verify::Here { .. });
    if is_here && settings.identity.trusted_upstreams.is_empty() && smtp.proxies.is_empty() {
        let what = "no upstream is trusted, so that every mail seems to come from this machine, and SPF fails; where an MTA of this machine \
                    hands them over, write trusted_upstreams = [\"127.0.0.0/8\", \"::1\"]";
        advice.push(Advice::new(Severity::Note, place.clone(), "identity.trusted_upstreams", what));
    }
}

/// Whether all of these are reached from this machine alone.
fn is_loopback(listen: &[SocketAddr]) -> bool {
    !listen.is_empty() && listen.iter().all(|address| address.ip().is_loopback())
}

fn itself(hop: &str, own: &Listener<'_>) -> String {
    let mails =
        if own.key.starts_with("smtp.") { "mails would go round until they have too many Received fields" } else { "no scanner is there" };
    format!("{hop} is this hop's own {} = {}, so that {mails}; name the scanner, or the MTA before it", own.key, own.at)
}

/// Which addresses count as this machine's.
#[derive(Clone, Copy)]
enum Reach {
    /// Those that are it everywhere.
    Loopback,
    /// Those that its interfaces have now.
    Interfaces,
}

fn leads_to(hop: &str, own: &Listener<'_>, reach: Reach) -> bool {
    let Socket::Inet(listen) = own.at else { return false };
    let Some((addresses, port)) = addresses(hop) else { return false };
    if port != listen.port() || listen.port() == 0 {
        return false;
    }
    addresses.into_iter().any(|address| match reach {
        Reach::Loopback => listen.ip() == address || (address.is_loopback() && overlap(listen.ip(), address)),
        Reach::Interfaces => !address.is_loopback() && listen.ip() != address && overlap(listen.ip(), address) && is_ours(address),
    })
}

/// The addresses of a next hop that is written as one, and its port.
fn addresses(hop: &str) -> Option<(Vec<IpAddr>, u16)> {
    let (host, port) = hop.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    let addresses = match (host.parse::<IpAddr>(), host) {
        // Connected to, "every address" is this machine.
        (Ok(address), _) if address.is_unspecified() => LOOPBACK.to_vec(),
        (Ok(address), _) => vec![address],
        (Err(_), "localhost") => LOOPBACK.to_vec(),
        (Err(_), _) => return None,
    };
    Some((addresses, port.parse().ok()?))
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Whether an interface has the address: only then the system gives a socket with it. Nothing is sent.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_collides() {
        for (one, other, collides) in [
            ("127.0.0.1:25", "127.0.0.1:25", true),
            ("0.0.0.0:25", "127.0.0.1:25", true),
            ("[::]:25", "127.0.0.1:25", true),
            ("[::]:25", "0.0.0.0:25", true),
            ("[::ffff:127.0.0.1]:25", "127.0.0.1:25", true),
            ("0.0.0.0:25", "[::1]:25", false),
            ("127.0.0.1:25", "127.0.0.2:25", false),
            ("127.0.0.1:25", "127.0.0.1:26", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let [one, other] = [one, other].map(|text| Socket::Inet(text.parse().unwrap()));
            assert_eq!((one.collides(&other), other.collides(&one)), (collides, collides), "{one} {other}");
        }
        assert!(Socket::Unix(Path::new("/run/a")).collides(&Socket::Unix(Path::new("/run/a"))));
    }

    #[test]
    fn a_next_hop_that_is_the_hop_itself() {
        for (hop, listen, is_itself) in [
            ("127.0.0.1:2525", "127.0.0.1:2525", true),
            ("localhost:2525", "127.0.0.1:2525", true),
            ("localhost:2525", "[::1]:2525", true),
            ("127.0.0.1:2525", "0.0.0.0:2525", true),
            ("[::1]:2525", "[::]:2525", true),
            ("0.0.0.0:2525", "127.0.0.1:2525", true),
            ("[::]:2525", "0.0.0.0:2525", true),
            ("127.0.0.5:2525", "0.0.0.0:2525", true),
            ("192.0.2.1:2525", "192.0.2.1:2525", true),
            ("127.0.0.1:2526", "127.0.0.1:2525", false),
            ("127.0.0.2:2525", "127.0.0.1:2525", false),
            ("192.0.2.1:2525", "0.0.0.0:2525", false),
            ("scanner.corp.example:2525", "0.0.0.0:2525", false),
            ("127.0.0.1:1", "127.0.0.1:0", false),
        ] {
            let own = Listener { key: "smtp.listen", at: Socket::Inet(listen.parse().unwrap()) };
            assert_eq!(leads_to(hop, &own, Reach::Loopback), is_itself, "{hop} {listen}");
        }
    }
}
