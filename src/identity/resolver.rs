//! The resolver: the system's, or the ones that the configuration names. Each look-up has a deadline of its own.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError},
    proto::rr::{Name, RData, RecordType},
};
use mail_auth::MessageAuthenticator;
use tokio::{sync::Semaphore, task::JoinSet};

use super::claims::is_name;
use crate::{failures::Failures, limits};

/// No resolver could be set up.
#[derive(Debug, thiserror::Error)]
#[error("the resolver cannot be set up: {0}; name one in [identity] dns, as in dns = [\"127.0.0.1:53\"]")]
pub struct ResolverError(String);

/// The answer of DNS about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// Records of the type that was asked for.
    Records(Vec<T>),
    /// No such name, or no such record.
    Nothing,
    /// No answer in time, or none that can be read.
    Failed,
}

/// Looks up names in DNS, each within a deadline of its own.
#[derive(Clone)]
pub(super) struct Dns {
    resolver: TokioResolver,
    /// The deadline of one look-up, so that one silent name costs no more.
    look_up: Duration,
    /// Permits for look-ups in flight; waiting for one counts as waiting for the answer.
    places: Arc<Semaphore>,
    /// Where failures are told; nowhere in a command.
    failures: Option<Arc<Failures>>,
}

/// Sets up a resolver with a cache. One look-up gets half of `deadline`, and each of its tries a part of that.
///
/// # Errors
/// Where the system's resolver configuration cannot be read.
pub(super) fn set_up(servers: &[SocketAddr], deadline: Duration) -> Result<(MessageAuthenticator, Dns), ResolverError> {
    let mut options = ResolverOpts::default();
    let look_up = deadline / 2;
    options.timeout = (look_up / 2).max(Duration::from_millis(50));
    options.attempts = 2;
    options.cache_size = limits::DNS_CACHE;
    options.edns0 = true;
    let fail = |error: &dyn std::fmt::Display| ResolverError(error.to_string());
    let config = if servers.is_empty() {
        hickory_resolver::system_conf::read_system_conf().map_err(|error| fail(&error))?.0
    } else {
        let servers = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        });
        ResolverConfig::from_parts(None, Vec::new(), servers.collect())
    };
    let verifier = MessageAuthenticator::new(config, options).map_err(|error| fail(&error))?;
    let dns = Dns { resolver: verifier.resolver().clone(), look_up, places: Arc::new(Semaphore::new(limits::LOOK_UPS)), failures: None };
    Ok((verifier, dns))
}

impl Dns {
    /// The same, telling failures here.
    pub(super) fn reporting(&mut self, failures: Arc<Failures>) {
        self.failures = Some(failures);
    }

    /// The TXT records of a name, each with its strings joined (RFC 6376 section 3.6.2.2).
    pub(super) async fn texts(&self, name: &str) -> Answer<Vec<u8>> {
        let pick = |data: &RData| match data {
            RData::TXT(text) => Some(text.txt_data.iter().flat_map(|piece| piece.iter().copied()).collect()),
            _ => None,
        };
        self.ask(name, RecordType::TXT, pick).await
    }

    /// The TXT records of several names, looked up at one time; in the order of the names.
    pub(super) async fn texts_of(&self, names: Vec<String>) -> Vec<(String, Answer<Vec<u8>>)> {
        let mut asked = JoinSet::new();
        for (at, name) in names.iter().cloned().enumerate() {
            let dns = self.clone();
            asked.spawn(async move { (at, dns.texts(&name).await) });
        }
        let mut answers: Vec<_> = names.into_iter().map(|name| (name, Answer::Failed)).collect();
        while let Some(done) = asked.join_next().await {
            if let Ok((at, answer)) = done
                && let Some(slot) = answers.get_mut(at)
            {
                slot.1 = answer;
            }
        }
        answers
    }

    /// The A or AAAA records of a host, of the family of `like`.
    pub(super) async fn addresses(&self, name: &str, like: IpAddr) -> Answer<IpAddr> {
        let kind = if like.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        let pick = |data: &RData| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        };
        self.ask(name, kind, pick).await
    }

    /// The MX hosts of a domain, the preferred ones first.
    pub(super) async fn exchanges(&self, name: &str) -> Answer<String> {
        let pick = |data: &RData| match data {
            RData::MX(exchange) => Some((exchange.preference, exchange.exchange.to_ascii())),
            _ => None,
        };
        match self.ask(name, RecordType::MX, pick).await {
            Answer::Records(mut records) => {
                records.sort();
                Answer::Records(records.into_iter().map(|(_, name)| name).collect())
            }
            Answer::Nothing => Answer::Nothing,
            Answer::Failed => Answer::Failed,
        }
    }

    /// The PTR names of an address.
    pub(super) async fn names(&self, address: IpAddr) -> Answer<String> {
        let pick = |data: &RData| match data {
            RData::PTR(name) => Some(name.to_ascii()),
            _ => None,
        };
        self.within(&address, self.resolver.reverse_lookup(address), pick).await
    }

    async fn ask<T>(&self, name: &str, kind: RecordType, pick: impl Fn(&RData) -> Option<T>) -> Answer<T> {
        // A text that is no name has no records; nothing odd goes into a DNS library or onto the wire.
        let plain = name.strip_suffix('.').unwrap_or(name);
        if !is_name(plain) {
            return Answer::Nothing;
        }
        let Ok(name) = Name::from_ascii(format!("{plain}.")) else { return Answer::Nothing };
        self.within(&plain, self.resolver.lookup(name, kind), pick).await
    }

    async fn within<T>(
        &self,
        name: &(dyn std::fmt::Display + Sync),
        question: impl Future<Output = Result<Lookup, NetError>>,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Answer<T> {
        let placed = async {
            let _place = self.places.acquire().await;
            question.await
        };
        let answer = tokio::time::timeout(self.look_up, placed).await;
        if let Some(failures) = &self.failures {
            match &answer {
                Ok(Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => failures.worked(),
                Ok(Err(error)) => failures.failed(&format_args!("{name}: {error}")),
                Err(_) => failures.failed(&format_args!("{name}: timed out")),
            }
        }
        match answer {
            Ok(Ok(lookup)) => {
                let records: Vec<T> = lookup.answers().iter().filter_map(|record| pick(&record.data)).take(limits::DNS_RECORDS).collect();
                if records.is_empty() { Answer::Nothing } else { Answer::Records(records) }
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => Answer::Nothing,
            Ok(Err(_)) | Err(_) => Answer::Failed,
        }
    }
}
