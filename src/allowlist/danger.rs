//! What makes an address, a shape or another link of an entry dangerous: strangers could use it to get mails of theirs exempted.
//!
//! The lint warns of it, and nothing that is advised has it.

use super::{
    hosts::{CONTENT, FREE_MAIL, REDIRECTORS, SHARED_HOSTS, SHARED_PATHS, STRANGERS_BELOW, STRANGERS_SEND, is_within},
    placeholder::Placeholder,
    shape::{OtherLink, Shape},
};
use crate::{
    allowlist::entry::{AddressPattern, HostPattern},
    message::Domain,
};

/// What is dangerous about an address of From whose `{tenant}` was expanded. `by_tenant`: it had one.
#[must_use]
pub fn sender(pattern: &AddressPattern, tenancy: Tenancy) -> Option<String> {
    let domain = pattern.host().domain();
    let is_below = matches!(pattern.host(), HostPattern::Below(_));
    if domain.registered().is_none() {
        return Some(format!("{domain} is a public suffix, so strangers can send from below it; name the sender's own domain"));
    }
    if is_within(domain, FREE_MAIL) {
        return Some("everybody can have an address there; an entry cannot tell who writes".to_owned());
    }
    let is_anybodys = is_below || pattern.local().is_none();
    (tenancy == Tenancy::Unnamed && STRANGERS_SEND.contains(&domain.as_str()) && is_anybodys)
        .then(|| "every customer of the service sends from there; name your own with {tenant} and tenant = [...]".to_owned())
}

/// Whether the company's own name at a service stands in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// By `{tenant}`.
    Named,
    /// It does not.
    Unnamed,
}

/// What is dangerous about the shape of a one-time link.
#[must_use]
pub fn shape(shape: &Shape) -> Option<&'static str> {
    let host = shape.host();
    let by_tenant = shape.has(Placeholder::Tenant);
    if is_within(host, SHARED_HOSTS) {
        Some(SHARED)
    } else if shape.has_many_hosts() && !by_tenant && is_within(host, STRANGERS_BELOW) {
        Some("strangers have hosts of their own there; put {tenant} where their name stands")
    } else if !by_tenant && SHARED_PATHS.contains(&host.as_str()) {
        Some("strangers have pages of their own on this host; put {tenant} where their name stands")
    } else {
        None
    }
}

/// What is dangerous about one of `other_links`.
#[must_use]
pub fn other_link(link: &OtherLink) -> Option<&'static str> {
    let host = link.host();
    let by_tenant = link.has(Placeholder::Tenant);
    let takes = |known: &&&str| Domain::parse(known).is_ok_and(|known| if link.is_below() { known.is_below(host) } else { known == *host });
    if is_within(host, SHARED_HOSTS) {
        Some(SHARED)
    } else if !by_tenant && (link.is_below() || link.has_many_hosts()) && STRANGERS_BELOW.contains(&host.as_str()) {
        Some("strangers have hosts of their own there; put {tenant} where their name stands, or name the hosts")
    } else if link.is_whole_host() && !by_tenant && CONTENT.iter().any(|known| takes(&known)) {
        Some("strangers put pages and files on this host; name the paths that the mail leads to")
    } else if link.is_whole_host() && REDIRECTORS.iter().any(|known| takes(&known)) {
        Some("pages of this host redirect to any site; name the paths that the mail leads to")
    } else {
        None
    }
}

const SHARED: &str = "everybody can put a page or a redirect on this host; a phish there would be exempted too";
