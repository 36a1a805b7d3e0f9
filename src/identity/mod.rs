//! Who sent a mail: SPF, DKIM and DMARC by DNS, or what a trusted upstream says of them.
//!
//! Asked only for mails whose author an allowlist entry names. Whatever goes wrong (no answer in time, a broken
//! record) gives an identity that proves nothing, never an error.

pub mod network;
pub mod proof;
mod resolver;
pub mod results;
mod sealed;
mod sealing;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mail_auth::{
    AuthenticatedMessage, DkimResult, DmarcResult, MessageAuthenticator, SpfOutput, SpfResult, crypto::Algorithm,
    dmarc::verify::DmarcParameters, spf::verify::SpfParameters,
};

use self::proof::{AuthResult, Identity, Signature, Source, Weakness};
pub use self::{
    network::Network,
    resolver::ResolverError,
    sealing::{Sealing, SealingError},
};
use crate::{
    clock, limits,
    message::{Domain, Message, header::Headers},
};

/// Finds out who sent a mail.
pub struct Authenticator {
    method: Method,
    trusted_upstreams: Vec<Network>,
    hostname: String,
}

enum Method {
    Here { dns: Box<MessageAuthenticator>, deadline: Duration, sealers: Vec<Domain> },
    Upstream { authserv_ids: Vec<String> },
}

/// How a mail came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Who handed it over.
    pub peer: Peer,
    /// The name that the peer gave.
    pub helo: &'a str,
    /// The reverse-path without angle brackets; empty for the null path.
    pub reverse_path: &'a str,
}

/// Who handed a mail over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A host at this address; whether it is a trusted upstream is looked up.
    Host(IpAddr),
    /// A host that speaks for a client (XFORWARD); it was let in because it is a trusted upstream.
    Forwarded {
        /// The host.
        upstream: IpAddr,
        /// The client.
        client: IpAddr,
    },
    /// The sender's own host, as somebody says who knows (`explain --client-ip`).
    Client(IpAddr),
    /// A trusted upstream; the mail was saved behind it (`explain`).
    TrustedUpstream,
}

impl Peer {
    /// The client that a trusted upstream named.
    #[must_use]
    pub const fn forwarded_client(&self) -> Option<IpAddr> {
        match self {
            Self::Forwarded { client, .. } => Some(*client),
            Self::Host(_) | Self::Client(_) | Self::TrustedUpstream => None,
        }
    }
}

impl Authenticator {
    /// An authenticator that asks DNS.
    ///
    /// # Errors
    /// Where no resolver can be set up.
    pub fn here(dns: &[SocketAddr], deadline: Duration, trusted_upstreams: Vec<Network>, hostname: String) -> Result<Self, ResolverError> {
        let dns = Box::new(resolver::set_up(dns, deadline)?);
        Ok(Self { method: Method::Here { dns, deadline, sealers: Vec::new() }, trusted_upstreams, hostname })
    }

    /// The same, and it believes the ARC seals of these domains (RFC 8617) where the sender's own signature is broken.
    #[must_use]
    pub fn believing(mut self, named: Vec<Domain>) -> Self {
        if let Method::Here { sealers, .. } = &mut self.method {
            *sealers = named;
        }
        self
    }

    /// An authenticator that believes a trusted upstream's Authentication-Results.
    #[must_use]
    pub fn upstream(authserv_ids: Vec<String>, trusted_upstreams: Vec<Network>, hostname: String) -> Self {
        Self { method: Method::Upstream { authserv_ids }, trusted_upstreams, hostname }
    }

    /// Whether a host is a trusted upstream.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_upstreams.iter().any(|network| network.contains(address))
    }

    fn is_trusted(&self, peer: Peer) -> bool {
        match peer {
            Peer::Host(address) | Peer::Forwarded { upstream: address, .. } => self.trusts(address),
            Peer::Client(_) => false,
            Peer::TrustedUpstream => true,
        }
    }

    /// The address that SPF is asked for.
    fn client(&self, message: &Message<'_>, arrival: Arrival<'_>) -> Option<IpAddr> {
        match arrival.peer {
            Peer::Host(_) | Peer::TrustedUpstream if self.is_trusted(arrival.peer) => client_in_received(message.headers()),
            Peer::Host(address) | Peer::Client(address) | Peer::Forwarded { client: address, .. } => Some(address),
            Peer::TrustedUpstream => None,
        }
    }

    /// Finds out who sent a mail, within the deadline.
    pub async fn identify(&self, message: &Message<'_>, arrival: Arrival<'_>) -> Identity {
        let (trusted, client) = (self.is_trusted(arrival.peer), self.client(message, arrival));
        let author = message.author().ok().map(|author| author.domain);
        match &self.method {
            Method::Upstream { .. } if !trusted && !matches!(arrival.peer, Peer::Client(_)) => {
                Identity::unknown("the peer is not among trusted_upstreams, so nobody vouches for the mail")
            }
            Method::Upstream { authserv_ids } => match results::believed(message.headers(), authserv_ids) {
                Some(results) => Identity { client, ..results.identity(author.as_ref()) },
                None => Identity::unknown("no Authentication-Results of a listed authserv_id stands on top of the mail"),
            },
            Method::Here { dns, deadline, sealers } => {
                let question = self.ask(dns, sealers, message, author.as_ref(), arrival, client);
                let answer = tokio::time::timeout(*deadline, question).await;
                answer.unwrap_or_else(|_| Identity::unknown(format!("DNS gave no answer within {} s", deadline.as_secs_f64())))
            }
        }
    }

    async fn ask(
        &self,
        dns: &MessageAuthenticator,
        sealers: &[Domain],
        message: &Message<'_>,
        author: Option<&Domain>,
        arrival: Arrival<'_>,
        client: Option<IpAddr>,
    ) -> Identity {
        let Some(mail) = screened(message.raw()) else {
            return Identity::unknown("the mail has no header");
        };
        let sender_domain = arrival.reverse_path.rsplit_once('@').map_or(arrival.helo, |(_, domain)| domain);
        let spf = async {
            match client {
                Some(client) if arrival.reverse_path.is_empty() => {
                    dns.verify_spf(SpfParameters::helo(client, arrival.helo, &self.hostname)).await
                }
                Some(client) => dns.verify_spf(SpfParameters::mail_from(client, arrival.helo, &self.hostname, arrival.reverse_path)).await,
                None => SpfOutput::new(sender_domain.to_owned()).with_result(SpfResult::None),
            }
        };
        let (verified, spf) = tokio::join!(dns.verify_dkim(&mail), spf);
        let now = u64::try_from(clock::now().as_second()).unwrap_or(0);
        let mut dkim = Vec::new();
        let mut dmarc = None;
        for output in verified {
            let Some(signature) = output.signature() else {
                continue;
            };
            let claims = Claims::of(signature);
            let mut weakness = weakness(&claims, now);
            if weakness.is_none() && *output.result() == DkimResult::Pass {
                weakness = weakness_of_key(dns, &claims).await;
            }
            let (domain, selector) = (Domain::parse(&signature.d).ok(), signature.s.escape_default().to_string());
            let covers = Some(signature.h.iter().map(|name| name.to_ascii_lowercase()).collect());
            let (result, signed_at) = (dkim_result(output.result()), signature.t);
            // Asked for each signature alone, so that it is known which one aligns; the records come from the cache.
            let mut aligned = false;
            if weakness.is_none() && result == AuthResult::Pass && !output.is_atps() {
                let only = [output];
                let verdict = dns.verify_dmarc(DmarcParameters::new(&mail, &only, sender_domain, &spf)).await;
                // RFC 9989 walks up to the highest DMARC record, and a registry that publishes one without `psd=y` would
                // make all names below it one organisation: so the owner of both must be the same, too.
                let kin = domain.as_ref().zip(author).is_some_and(|(signer, author)| signer.is_kin_of(author));
                aligned = kin && *verdict.dkim_result() == DmarcResult::Pass && has_one_record(dns, author).await;
                dmarc = dmarc.filter(|_| !aligned).or_else(|| Some(dmarc_result(verdict.dkim_result(), verdict.spf_result())));
            }
            dkim.push(Signature { domain, selector, result, weakness, covers, signed_at, aligned });
        }
        let dmarc = if let Some(dmarc) = dmarc {
            dmarc
        } else {
            let verdict = dns.verify_dmarc(DmarcParameters::new(&mail, &[], sender_domain, &spf)).await;
            dmarc_result(verdict.dkim_result(), verdict.spf_result())
        };
        let spf = spf_result(spf.result());
        let own = Identity { source: Source::Here, spf, dkim, dmarc, arc: AuthResult::None, client, trouble: None };
        if sealers.is_empty() || own.proofs().any(|signature| signature.aligned) {
            return own;
        }
        let (arc, sealed) = sealed::ask(dns, &mail, message, sealers, author, now).await;
        match sealed {
            Some(sealed) => Identity { spf, arc, client, ..sealed },
            None => Identity { arc, ..own },
        }
    }
}

/// A mail's signatures, bounded and screened before anything is looked up: each costs a query, and its names go into DNS.
fn screened(raw: &[u8]) -> Option<AuthenticatedMessage<'_>> {
    let mut mail = AuthenticatedMessage::parse(raw)?;
    let mut seen = 0;
    mail.retain_dkim_signatures(|signature| {
        seen += 1;
        let screened = seen <= limits::SIGNATURES && is_name(&signature.d) && is_name(&signature.s);
        if screened { Ok(()) } else { Err(mail_auth::dkim::DkimError::UnsupportedVersion) }
    });
    Some(mail)
}

const fn dmarc_result(by_dkim: &DmarcResult, by_spf: &DmarcResult) -> AuthResult {
    match (by_dkim, by_spf) {
        (DmarcResult::Pass, _) | (_, DmarcResult::Pass) => AuthResult::Pass,
        (DmarcResult::TempError(_), _) => AuthResult::TempError,
        (DmarcResult::PermError(_), _) => AuthResult::PermError,
        (DmarcResult::Fail(_), _) => AuthResult::Fail,
        (DmarcResult::None, _) => AuthResult::None,
    }
}

/// What a DKIM-Signature or an ARC-Message-Signature says of itself.
struct Claims<'s> {
    algorithm: Algorithm,
    domain: &'s str,
    selector: &'s str,
    fields: &'s [String],
    body_length: u64,
    signed_at: u64,
    expires: u64,
}

impl<'s> Claims<'s> {
    fn of(signature: &'s mail_auth::dkim::Signature) -> Self {
        let mail_auth::dkim::Signature { a, d, s, h, l, t, x, .. } = signature;
        Self { algorithm: *a, domain: d, selector: s, fields: h, body_length: *l, signed_at: *t, expires: *x }
    }

    fn of_sealer(signature: &'s mail_auth::arc::Signature) -> Self {
        let mail_auth::arc::Signature { a, d, s, h, l, t, x, .. } = signature;
        Self { algorithm: *a, domain: d, selector: s, fields: h, body_length: *l, signed_at: *t, expires: *x }
    }
}

fn weakness(claims: &Claims<'_>, now: u64) -> Option<Weakness> {
    let covers = |field: &str| claims.fields.iter().any(|name| name.eq_ignore_ascii_case(field));
    let late = claims.expires != 0 && claims.expires <= now;
    let early = claims.signed_at > now + CLOCK_SKEW.as_secs();
    if claims.algorithm == Algorithm::RsaSha1 {
        Some(Weakness::Sha1)
    } else if claims.body_length != 0 {
        Some(Weakness::BodyLength)
    } else if !covers("from") {
        Some(Weakness::FromUnsigned)
    } else if !covers("subject") {
        Some(Weakness::SubjectUnsigned)
    } else if late || early {
        Some(Weakness::OutOfTime)
    } else if Domain::parse(claims.domain).is_err() {
        Some(Weakness::Name)
    } else {
        None
    }
}

/// Whether the author's own name has one DMARC record at most: several are none (RFC 9989 section 4.10.1), and mail-auth
/// takes one of them. The records come from the cache.
async fn has_one_record(dns: &MessageAuthenticator, author: Option<&Domain>) -> bool {
    let Some(author) = author else { return false };
    let Ok(records) = dns.txt_raw_lookup(format!("_dmarc.{author}.")).await else { return true };
    let records = records.to_ascii_lowercase();
    memchr::memmem::find_iter(&records, b"v=dmarc1").count() <= 1
}

/// What is wrong with a key's record, which mail-auth has read and tells nobody: the flag `t=y`, or more text than a key
/// needs. The record comes from the cache; one that cannot be had again proves nothing.
async fn weakness_of_key(dns: &MessageAuthenticator, claims: &Claims<'_>) -> Option<Weakness> {
    let record = dns
        .txt_raw_lookup(format!("{}._domainkey.{}.", claims.selector, claims.domain))
        .await
        .ok()
        .filter(|record| record.len() <= limits::KEY_RECORD);
    let Some(record) = record.and_then(|record| String::from_utf8(record).ok()) else { return Some(Weakness::KeyRecord) };
    let flags = record.split(';').filter_map(|tag| tag.split_once('=')).filter(|(name, _)| name.trim().eq_ignore_ascii_case("t"));
    let testing = flags.flat_map(|(_, value)| value.split(':')).any(|flag| flag.trim().eq_ignore_ascii_case("y"));
    testing.then_some(Weakness::TestingKey)
}

/// How far a signer's clock may run ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Letters, digits, hyphens, underscores and dots: nothing that a DNS library or a log would read differently.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

const fn dkim_result(result: &DkimResult) -> AuthResult {
    match result {
        DkimResult::Pass => AuthResult::Pass,
        DkimResult::Neutral(_) => AuthResult::Neutral,
        DkimResult::Fail(_) => AuthResult::Fail,
        DkimResult::PermError(_) => AuthResult::PermError,
        DkimResult::TempError(_) => AuthResult::TempError,
        DkimResult::None => AuthResult::None,
    }
}

const fn spf_result(result: SpfResult) -> AuthResult {
    match result {
        SpfResult::Pass => AuthResult::Pass,
        SpfResult::Fail => AuthResult::Fail,
        SpfResult::SoftFail => AuthResult::SoftFail,
        SpfResult::Neutral => AuthResult::Neutral,
        SpfResult::TempError => AuthResult::TempError,
        SpfResult::PermError => AuthResult::PermError,
        SpfResult::None => AuthResult::None,
    }
}

/// The client's address as the trusted upstream wrote it into its Received field, the topmost one (RFC 5321
/// section 4.4): the last address literal in front of `by`.
fn client_in_received(headers: &Headers<'_>) -> Option<IpAddr> {
    let value = headers.first("Received")?;
    let text = std::str::from_utf8(&value).ok()?;
    let from = text.split(" by ").next()?;
    from.split('[')
        .skip(1)
        .filter_map(|piece| piece.split_once(']'))
        .filter_map(|(literal, _)| literal.trim_start_matches("IPv6:").parse().ok())
        .last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_of_a_trusted_upstream() {
        let client = |received: &str| client_in_received(&Headers::read(format!("Received: {received}\r\n\r\n").as_bytes()));
        assert_eq!(client("from a.test (b.test [192.0.2.10])\r\n\tby mx.corp.example; date"), "192.0.2.10".parse().ok());
        assert_eq!(client("from [198.51.100.1] (unknown [IPv6:2001:db8::1]) by mx.corp.example"), "2001:db8::1".parse().ok());
        assert_eq!(client("from a.test by mx.corp.example with ESMTP ([192.0.2.1])"), None);
        assert_eq!(client("by mx.corp.example"), None);
    }
}
