//! `[identity]`: how a sender's identity is looked up.

use std::{net::SocketAddr, time::Duration};

use super::{
    Problems,
    keys::{List, Time, Word},
    layers::Layers,
    networks,
};
use crate::{
    identity::{Network, ResultsAt},
    message::Domain,
};

/// The compiled section `[identity]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The way in which identities are looked up.
    pub verify: Verify,
    /// Networks of hosts that may name their client, and whose Authentication-Results may be trusted.
    pub trusted_upstreams: Vec<Network>,
}

impl Default for Identity {
    fn default() -> Self {
        Self { verify: Verify::Here { dns: Vec::new(), deadline: DEADLINE, arc_sealers: Vec::new() }, trusted_upstreams: Vec::new() }
    }
}

/// The way in which identities are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// By the hop itself, in DNS.
    Here {
        /// The addresses of resolvers; empty for the system's.
        dns: Vec<SocketAddr>,
        /// The time for all look-ups of one mail.
        deadline: Duration,
        /// Domains whose ARC seals are trusted (RFC 8617).
        arc_sealers: Vec<Domain>,
    },
    /// By the Authentication-Results of a trusted upstream (RFC 8601).
    Upstream {
        /// The authserv-ids of the upstream.
        authserv_ids: Vec<String>,
        /// Where in the header it writes them.
        results: ResultsAt,
    },
}

/// For all look-ups of one mail.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
enum Verifier {
    Here,
    Upstream,
}

/// Compiles the section; what is not written has its default.
pub(super) fn compile(file: &mut Layers<'_>, problems: &mut Problems) -> Identity {
    let verify = file.take(const { Word::of("identity.verify") }, problems);
    let authserv_ids = file.take(const { List::of("identity.authserv_ids") }, problems);
    let results = file.take(const { Word::of("identity.results") }, problems);
    let dns = file.take(const { List::of("identity.dns") }, problems);
    let deadline = file.take(const { Time::of("identity.deadline") }, problems).map_or(DEADLINE, |found| found.value);
    let trusted = file.take(const { List::of("identity.trusted_upstreams") }, problems);
    let arc_sealers = file.take(const { List::of("identity.arc_sealers") }, problems);
    let dns = super::resolvers(dns, problems);
    let named_upstreams = trusted.as_ref().is_some_and(|list| !list.value.is_empty());
    let trusted_upstreams = networks(trusted, problems);
    let arc_sealers = arc_sealers
        .into_iter()
        .flat_map(|list| list.value)
        .filter_map(|item| item.parse(problems, "a domain, as in \"list.example\"", |text| Domain::parse(text).ok()))
        .collect();
    let authserv_ids: Vec<String> = authserv_ids.into_iter().flat_map(|list| list.value).map(|item| item.value).collect();
    let places = [("above_received", ResultsAt::AboveReceived), ("below_received", ResultsAt::BelowReceived)];
    let results = results.and_then(|found| found.means(problems, &places)).unwrap_or_default();
    let verifiers = [("here", Verifier::Here), ("upstream", Verifier::Upstream)];
    let verifier = verify.and_then(|found| found.means(problems, &verifiers)).unwrap_or(Verifier::Here);
    let verify = match verifier {
        Verifier::Here => Verify::Here { dns, deadline, arc_sealers },
        Verifier::Upstream => {
            let place = file.place("identity");
            if authserv_ids.is_empty() {
                let what = "verify = \"upstream\" needs the names in which the upstream writes Authentication-Results";
                problems.add_missing(place.clone(), "identity.authserv_ids", what);
            }
            if !named_upstreams {
                let what = "verify = \"upstream\" needs the networks of the hosts that may vouch for others";
                problems.add_missing(place, "identity.trusted_upstreams", what);
            }
            Verify::Upstream { authserv_ids, results }
        }
    };
    Identity { verify, trusted_upstreams }
}
