//! The address from which a scanner sees the hop: which can be one, and which of them a cloud sees.

use std::net::{IpAddr, Ipv6Addr};

use super::facts::Values;

/// The address that was meant: an IPv4 address may be written within an IPv6 one.
///
/// # Errors
/// It can be nobody's, in a sentence.
pub fn hop(typed: IpAddr) -> Result<IpAddr, String> {
    let hop = typed.to_canonical();
    let why = match hop {
        IpAddr::V4(hop) if hop.octets()[0] == 0 => "it means this network, and no host",
        IpAddr::V6(hop) if hop.is_unspecified() => "it means every address, and no host",
        IpAddr::V4(hop) if hop.is_broadcast() => "it means every host of a network",
        IpAddr::V4(hop) if hop.octets()[0] >= 240 => "it is reserved (240.0.0.0/4), and no host has it",
        IpAddr::V4(hop) if hop.is_link_local() => "it holds on one cable only (169.254.0.0/16), and no scanner can know a host by it",
        IpAddr::V6(hop) if hop.is_unicast_link_local() => "it holds on one cable only (fe80::/10), and no scanner can know a host by it",
        _ if hop.is_multicast() => "it is a group's, and no mail comes from it",
        _ => return Ok(hop),
    };
    Err(format!("--hop {typed}: no hop has this address: {why}"))
}

/// The addresses that a rule can name.
pub(super) fn addresses(hops: &[IpAddr]) -> Result<Values, String> {
    if hops.is_empty() {
        return Err("the address from which the scanner sees the hop is in no key: give it with `--hop IP`".into());
    }
    Ok(Values { texts: hops.iter().map(ToString::to_string).collect(), notes: hops.iter().filter_map(|hop| example(*hop)).collect() })
}

/// The addresses that a cloud can be told: Exchange Online takes IPv4 only, and sees no private address.
pub(super) fn public_ipv4(hops: &[IpAddr]) -> Result<Values, String> {
    let (mut texts, mut notes) = (Vec::new(), addresses(hops)?.notes);
    for hop in hops {
        if is_private(*hop) {
            notes.push(format!("{hop} is no public address: give the one that the cloud sees with `--hop`"));
        } else if hop.is_ipv6() {
            notes.push(format!(
                "{hop} is left out: this takes IPv4 addresses only, and mails that the hop sends by IPv6 would not be known by it; have it deliver from an IPv4 address"
            ));
        } else {
            texts.push(hop.to_string());
        }
    }
    if texts.is_empty() { Err(notes.join(". ")) } else { Ok(Values { texts, notes }) }
}

/// Whether only hosts nearby see it: RFC 1918, RFC 6598 (a provider's own), RFC 4193, and this machine.
fn is_private(hop: IpAddr) -> bool {
    match hop {
        IpAddr::V4(hop) => hop.is_private() || hop.is_loopback() || (hop.octets()[0] == 100 && hop.octets()[1] & 0xc0 == 64),
        IpAddr::V6(hop) => hop.is_unique_local() || hop.is_loopback(),
    }
}

/// What to know of an address that documents use as an example (RFC 5737, 3849 and 9637).
fn example(hop: IpAddr) -> Option<String> {
    let is_documented = |hop: Ipv6Addr| matches!(hop.segments(), [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..]);
    let is_example = match hop {
        IpAddr::V4(hop) => hop.is_documentation(),
        IpAddr::V6(hop) => is_documented(hop),
    };
    is_example.then(|| format!("{hop} is an example of documents, and no host's: give the hop's own with `--hop`"))
}
