//! SPF: whether a client may send for a domain, and by which mechanism (RFC 7208).
//!
//! mail-auth gives the result and not the mechanism that matched, and a pass by `+all` is no evidence of anything. Strict: two
//! records, a bad prefix, an unknown mechanism are permerror. Bounded: 10 terms that query DNS, 2 void look-ups, 10 hosts of an
//! `mx` and 10 names of a `ptr` (section 4.6.4), each look-up with its own deadline.

mod expand;
mod record;

use std::{future::Future, net::IpAddr, pin::Pin};

use self::{
    expand::{Spec, Values},
    record::{Matcher, Prefixes, Qualifier, Record},
};
use super::{
    Network,
    claims::is_name,
    proof::{AuthResult, Mechanism, Spf},
    resolver::{Answer, Dns},
};
use crate::message::Domain;

/// Terms that query DNS, in all records of one check (section 4.6.4).
const TERMS: usize = 10;
/// Void look-ups: answers without records (section 4.6.4).
const VOIDS: usize = 2;
/// Hosts of one `mx`; more are a permerror. Names of one `ptr`; more are not looked at.
const HOSTS: usize = 10;

/// The identities that SPF checks: client, HELO and MAIL FROM.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope<'e> {
    pub(super) client: IpAddr,
    pub(super) helo: &'e str,
    /// Without angle brackets; empty for the null path.
    pub(super) reverse_path: &'e str,
}

impl<'e> Envelope<'e> {
    /// The sender: MAIL FROM, or HELO's postmaster for the null path (RFC 7208 section 2.4).
    fn sender(&self) -> (&'e str, &'e str) {
        match self.reverse_path.rsplit_once('@') {
            Some(("", domain)) => ("postmaster", domain),
            Some((local, domain)) => (local, domain),
            None if self.reverse_path.is_empty() => ("postmaster", self.helo),
            None => ("postmaster", self.reverse_path),
        }
    }

    /// The domain whose record is looked up.
    pub(super) fn domain(&self) -> Option<Domain> {
        Domain::parse(self.sender().1).ok()
    }
}

/// Checks the sender of a mail; each look-up has its own deadline.
pub(super) async fn check(dns: &Dns, envelope: Envelope<'_>) -> Spf {
    let (local, domain) = envelope.sender();
    let sender = Envelope::domain(&envelope);
    // A name of one label, or none at all, has no record (RFC 7208 section 4.3).
    if sender.as_ref().is_none_or(|domain| !domain.as_str().contains('.')) {
        return Spf { result: AuthResult::None, domain: sender, by: None };
    }
    let mut check = Check {
        dns,
        values: Values { client: envelope.client.to_canonical(), local, sender_domain: domain, helo: envelope.helo, domain },
        terms: 0,
        voids: 0,
    };
    let (result, by) = check.host(domain.to_owned()).await;
    Spf { result, domain: sender, by }
}

/// A result that ends the whole check: temperror or permerror.
type Ended<T> = Result<T, AuthResult>;

struct Check<'c> {
    dns: &'c Dns,
    /// The domain inside is the first one; each record has its own.
    values: Values<'c>,
    terms: usize,
    voids: usize,
}

type Found = (AuthResult, Option<Mechanism>);

impl Check<'_> {
    /// `check_host()` (RFC 7208 section 4).
    fn host(&mut self, domain: String) -> Pin<Box<dyn Future<Output = Found> + Send + '_>> {
        Box::pin(async move { self.evaluate(&domain).await.unwrap_or_else(|error| (error, None)) })
    }

    async fn evaluate(&mut self, domain: &str) -> Ended<Found> {
        if !is_name(domain) {
            return Ok((AuthResult::None, None));
        }
        let texts = match self.dns.texts(domain).await {
            Answer::Records(texts) => texts,
            Answer::Nothing => return Ok((AuthResult::None, None)),
            Answer::Failed => return Err(AuthResult::TempError),
        };
        let mut meant = texts.iter().filter(|text| record::is_meant(text));
        let text = match (meant.next(), meant.next()) {
            (None, _) => return Ok((AuthResult::None, None)),
            (Some(only), None) => only,
            (Some(_), Some(_)) => return Err(AuthResult::PermError),
        };
        let record = Record::parse(text).map_err(|_| AuthResult::PermError)?;
        for (qualifier, matcher) in &record.directives {
            if let Some(by) = self.matches(matcher, domain).await? {
                let result = match qualifier {
                    Qualifier::Pass => AuthResult::Pass,
                    Qualifier::Fail => AuthResult::Fail,
                    Qualifier::SoftFail => AuthResult::SoftFail,
                    Qualifier::Neutral => AuthResult::Neutral,
                };
                return Ok((result, Some(by)));
            }
        }
        let Some(redirect) = &record.redirect else { return Ok((AuthResult::Neutral, None)) };
        self.term()?;
        let target = self.name(Some(redirect), domain);
        match self.host(target).await {
            (AuthResult::None, _) => Err(AuthResult::PermError),
            found => Ok(found),
        }
    }

    /// Whether a mechanism matches, and of which kind what matched is.
    async fn matches(&mut self, matcher: &Matcher, domain: &str) -> Ended<Option<Mechanism>> {
        let client = self.values.client;
        let when = |matched: bool, by: Mechanism| Ok(matched.then_some(by));
        match matcher {
            Matcher::All => when(true, Mechanism::All),
            // Half of the internet names no host of the sender's.
            Matcher::Network(base, bits) => {
                let wide = if base.is_ipv4() { 8 } else { 16 };
                when(covers(*base, *bits, client), if *bits < wide { Mechanism::All } else { Mechanism::Address })
            }
            Matcher::Include(spec) => {
                self.term()?;
                let target = self.name(Some(spec), domain);
                // RFC 7208 section 5.2.
                match self.host(target).await {
                    (AuthResult::Pass, by) => Ok(by),
                    (AuthResult::TempError, _) => Err(AuthResult::TempError),
                    (AuthResult::PermError | AuthResult::None, _) => Err(AuthResult::PermError),
                    _ => Ok(None),
                }
            }
            Matcher::A(spec, prefixes) => {
                self.term()?;
                let target = self.name(spec.as_ref(), domain);
                when(self.resolves(&target, *prefixes).await?, Mechanism::Address)
            }
            Matcher::Mx(spec, prefixes) => {
                self.term()?;
                let target = self.name(spec.as_ref(), domain);
                let hosts = self.dns.exchanges(&target).await;
                let hosts = self.records(hosts)?;
                if hosts.len() > HOSTS {
                    return Err(AuthResult::PermError);
                }
                for host in hosts {
                    if self.resolves(&host, *prefixes).await? {
                        return Ok(Some(Mechanism::Address));
                    }
                }
                Ok(None)
            }
            Matcher::Exists(spec) => {
                self.term()?;
                let target = self.name(Some(spec), domain);
                // An A record, whatever the client's family (section 5.7).
                let answer = self.dns.addresses(&target, IpAddr::from([127, 0, 0, 1])).await;
                when(!self.records(answer)?.is_empty(), Mechanism::Exists)
            }
            Matcher::Ptr(spec) => {
                self.term()?;
                let target = self.name(spec.as_ref(), domain).to_ascii_lowercase();
                // Whatever goes wrong here is no match (section 5.5).
                let Answer::Records(names) = self.dns.names(client).await else { return Ok(None) };
                for name in names.iter().take(HOSTS) {
                    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                    let below = name.strip_suffix(&target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                    if below
                        && let Answer::Records(addresses) = self.dns.addresses(&name, client).await
                        && addresses.contains(&client)
                    {
                        return Ok(Some(Mechanism::Ptr));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Whether a host has the client's address, as far as the prefix goes.
    async fn resolves(&mut self, host: &str, prefixes: Prefixes) -> Ended<bool> {
        let client = self.values.client;
        let bits = if client.is_ipv4() { prefixes.v4 } else { prefixes.v6 };
        let answer = self.dns.addresses(host, client).await;
        Ok(self.records(answer)?.into_iter().any(|address| covers(address, bits, client)))
    }

    /// A target's name with its macros put in; the record's own domain where none is named.
    fn name(&self, spec: Option<&Spec>, domain: &str) -> String {
        spec.map_or_else(|| domain.to_owned(), |spec| spec.expand(&Values { domain, ..self.values }))
    }

    /// One more term that asks DNS (section 4.6.4).
    const fn term(&mut self) -> Ended<()> {
        self.terms += 1;
        if self.terms > TERMS { Err(AuthResult::PermError) } else { Ok(()) }
    }

    /// The records of an answer; an empty one counts (section 4.6.4).
    fn records<T>(&mut self, answer: Answer<T>) -> Ended<Vec<T>> {
        match answer {
            Answer::Records(records) => Ok(records),
            Answer::Nothing => {
                self.voids += 1;
                if self.voids > VOIDS { Err(AuthResult::PermError) } else { Ok(Vec::new()) }
            }
            Answer::Failed => Err(AuthResult::TempError),
        }
    }
}

fn covers(base: IpAddr, bits: u8, client: IpAddr) -> bool {
    Network::new(base, bits).is_some_and(|network| network.contains(client))
}

/// Reads what may be a record, for the fuzzer.
pub(super) fn read_anything(text: &[u8]) {
    if record::is_meant(text) {
        let _ = Record::parse(text);
    }
}
