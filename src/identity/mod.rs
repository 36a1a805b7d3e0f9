//! The sender's identity: SPF, DKIM, DMARC and ARC by DNS, or by the results of a trusted upstream.
//!
//! Looked up only for mails whose author an allowlist entry names. Any failure (no answer in time, a broken record) gives an
//! identity that proves nothing, never an error. Every record is read strictly here, and mail-auth, which does the cryptography,
//! gets no other: what two readers would read differently proves nothing.

mod arc_sign;
mod arc_verify;
mod claims;
mod coverage;
mod dkim;
mod dmarc;
mod key;
mod lookup_permits;
pub mod proof;
mod received;
mod resolver;
pub mod results;
mod spf;
mod tags;
mod upstream;
mod weakness;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use mail_auth::MessageAuthenticator;
use tokio::time::{Instant, timeout_at};

pub use self::{
    arc_sign::{ArcSignError, ArcSigner},
    resolver::ResolverError,
    upstream::{EXCHANGE_ONLINE, ResultsAt},
};
use self::{
    dkim::Keys,
    dmarc::{Policies, Policy},
    lookup_permits::LookupPermits,
    proof::{AuthResult, Client, Identity, KnownBy, Source, Spf, Trouble},
    resolver::Dns,
    spf::Envelope,
    upstream::Question,
};
pub use crate::mail::{Network, Peer};
use crate::{
    failures::Failures,
    limits,
    message::{Domain, Message},
};

/// Looks up the sender's identity.
pub struct Authenticator {
    method: Method,
    trusted_upstreams: Vec<Network>,
    hostname: String,
}

enum Method {
    Here(Box<Here>),
    Upstream { names: Vec<String>, at: ResultsAt },
}

/// The resolver and the bounds of looking up by DNS.
struct Here {
    /// Does the cryptography, on records that it is given; it looks up nothing itself.
    verifier: MessageAuthenticator,
    dns: Dns,
    deadline: Duration,
    sealers: Vec<Domain>,
    lookup_permits: LookupPermits,
}

/// How a mail came in: peer, HELO and reverse-path.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The host that handed it over.
    pub peer: Peer,
    /// The name in EHLO or HELO.
    pub helo: &'a str,
    /// The reverse-path without angle brackets; empty for the null path.
    pub reverse_path: &'a str,
    /// The time at which it came, by which signatures have ended or not begun.
    pub at: Timestamp,
}

impl<'a> Arrival<'a> {
    fn envelope(&self, client: IpAddr) -> Envelope<'a> {
        Envelope { client, helo: self.helo, reverse_path: self.reverse_path }
    }
}

impl Authenticator {
    /// An authenticator that asks DNS. One look-up takes at most half of the deadline, and all of one mail the whole.
    ///
    /// # Errors
    /// No resolver can be set up from the system's configuration.
    pub fn here(dns: &[SocketAddr], deadline: Duration, trusted_upstreams: Vec<Network>, hostname: String) -> Result<Self, ResolverError> {
        let (verifier, dns) = resolver::set_up(dns, deadline)?;
        let here = Here { verifier, dns, deadline, sealers: Vec::new(), lookup_permits: LookupPermits::new(limits::ASKED) };
        Ok(Self { method: Method::Here(Box::new(here)), trusted_upstreams, hostname })
    }

    /// The same, trusting the ARC seals of these domains (RFC 8617) where the sender's own signature is broken.
    #[must_use]
    pub fn trusting_arc(mut self, named: Vec<Domain>) -> Self {
        if let Method::Here(here) = &mut self.method {
            here.sealers = named;
        }
        self
    }

    /// The same, telling here of DNS that does not answer.
    #[must_use]
    pub fn reporting(mut self, failures: Arc<Failures>) -> Self {
        if let Method::Here(here) = &mut self.method {
            here.dns.reporting(failures);
        }
        self
    }

    /// The same with another bound on the mails that are looked up at one time (default [`limits::ASKED`]); one client network
    /// holds a tenth of it, one at least.
    #[must_use]
    pub fn asking_at_most(mut self, mails: usize) -> Self {
        if let Method::Here(here) = &mut self.method {
            here.lookup_permits = LookupPermits::new(mails);
        }
        self
    }

    /// An authenticator that trusts an upstream's Authentication-Results, written above its own Received. [`EXCHANGE_ONLINE`]
    /// among the names stands for the form without one.
    #[must_use]
    pub fn upstream(authserv_ids: Vec<String>, trusted_upstreams: Vec<Network>, hostname: String) -> Self {
        Self { method: Method::Upstream { names: authserv_ids, at: ResultsAt::default() }, trusted_upstreams, hostname }
    }

    /// The same with another place for Authentication-Results.
    #[must_use]
    pub fn with_results(mut self, place: ResultsAt) -> Self {
        if let Method::Upstream { at, .. } = &mut self.method {
            *at = place;
        }
        self
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

    /// The client that delivered the mail to the company.
    fn client(&self, message: &Message<'_>, arrival: Arrival<'_>) -> Option<Client> {
        let (address, known_by) = match arrival.peer {
            Peer::Host(_) | Peer::TrustedUpstream if self.is_trusted(arrival.peer) => {
                (received::client(message.headers())?, KnownBy::Received)
            }
            Peer::Host(address) => (address, KnownBy::Connection),
            Peer::Forwarded { client, .. } => (client, KnownBy::Announced),
            Peer::Client(address) => (address, KnownBy::Told),
            Peer::TrustedUpstream => return None,
        };
        Some(Client { address: address.to_canonical(), known_by })
    }

    /// The address whose network a mail's look-up counts for: its client's, or the host's that handed it over. None for a trusted
    /// upstream, which hands over many clients' mails.
    fn counted(&self, client: Option<Client>, peer: Peer) -> Option<IpAddr> {
        client.map(|client| client.address).or_else(|| peer.address().filter(|_| !self.is_trusted(peer)))
    }

    /// Looks up the identity of a mail's sender: DKIM of the signatures that can speak for the author (`signers` are those that
    /// may besides the author's domain and its parents), DMARC, and ARC where sealers are named. Takes the deadline at most, and
    /// returns at once where too many mails are being looked up. Cancel-safe.
    pub async fn identify(&self, message: &Message<'_>, arrival: Arrival<'_>, signers: &[Domain]) -> Identity {
        let client = self.client(message, arrival);
        let author = message.author().ok().map(|author| author.domain);
        match &self.method {
            Method::Upstream { .. } if !self.is_trusted(arrival.peer) && !matches!(arrival.peer, Peer::Client(_)) => {
                Identity { client, ..Identity::unknown(Trouble::NobodyVouches) }
            }
            Method::Upstream { names, at } => match upstream::believed(message.headers(), names, *at) {
                Ok(methods) => {
                    let question = Question {
                        headers: message.headers(),
                        author: author.as_ref(),
                        signers,
                        now: arrival.at.as_second(),
                        sealed: None,
                    };
                    Identity { client, ..upstream::identity(&methods, &question) }
                }
                Err(trouble) => Identity { client, ..Identity::unknown(trouble) },
            },
            Method::Here(here) => match here.lookup_permits.enter(self.counted(client, arrival.peer)) {
                Some(_place) => here.identify(message, arrival, author.as_ref(), signers, client).await,
                None => Identity { client, ..Identity::unknown(Trouble::Busy) },
            },
        }
    }

    /// SPF of the reverse-path for the client, within the deadline: `none` where the client is not known. With `verify =
    /// "upstream"` the upstream's own result.
    pub async fn spf(&self, message: &Message<'_>, arrival: Arrival<'_>) -> Spf {
        let client = self.client(message, arrival);
        match &self.method {
            Method::Upstream { .. } => self.identify(message, arrival, &[]).await.spf.unwrap_or_default(),
            Method::Here(here) => {
                let Some(client) = client else { return Spf::default() };
                let envelope = arrival.envelope(client.address);
                match here.lookup_permits.enter(self.counted(Some(client), arrival.peer)) {
                    Some(_place) => here.spf(envelope, Instant::now() + here.deadline).await,
                    None => Spf { result: AuthResult::TempError, domain: envelope.domain(), by: None },
                }
            }
        }
    }
}

impl Here {
    async fn spf(&self, envelope: Envelope<'_>, end: Instant) -> Spf {
        let late = || Spf { result: AuthResult::TempError, domain: envelope.domain(), by: None };
        timeout_at(end, spf::check(&self.dns, envelope)).await.unwrap_or_else(|_| late())
    }

    /// Keys and the author's policy are looked up at one time, then the policies of signers under another name: two waits of half
    /// the deadline at most. SPF and ARC get what is left of it.
    async fn identify(
        &self,
        message: &Message<'_>,
        arrival: Arrival<'_>,
        author: Option<&Domain>,
        signers: &[Domain],
        client: Option<Client>,
    ) -> Identity {
        let end = Instant::now() + self.deadline;
        let now = arrival.at.as_second();
        let mut list = dkim::listed(message.headers(), author, signers, now);
        let mut identity = Identity { source: Source::Here, client, ..Identity::default() };
        let Some(author) = author else {
            identity.dkim = list.into_iter().map(|listed| listed.signature).collect();
            return identity;
        };
        let mut policies = Policies::default();
        let authors = [author];
        let (keys, ()) = tokio::join!(Keys::ask(&self.dns, dkim::open(&list)), policies.ask(&self.dns, &authors));
        dkim::verify(&self.verifier, message.raw(), &mut list, &keys).await;
        identity.dkim = list.into_iter().map(|listed| listed.signature).collect();
        self.align(&mut identity, &mut policies, author).await;
        let proven = |identity: &Identity| identity.proofs().any(|signature| signature.aligned);
        if proven(&identity) {
            return identity;
        }
        self.ask_spf(&mut identity, &mut policies, author, arrival, end).await;
        if self.sealers.is_empty() {
            return identity;
        }
        let question = Question { headers: message.headers(), author: Some(author), signers, now, sealed: None };
        let asked = arc_verify::ask(&self.verifier, &self.dns, message, &self.sealers, &question);
        let (arc, sealed) = timeout_at(end, asked).await.unwrap_or((AuthResult::TempError, None));
        match sealed {
            // The client and its SPF were found here and stay; the sealer's SPF is of another client.
            Some(sealed) => Identity { arc, client, spf: identity.spf, ..sealed },
            None => Identity { arc, ..identity },
        }
    }

    /// DMARC by DKIM: which signatures align, and what follows (RFC 9989 section 4.4).
    async fn align(&self, identity: &mut Identity, policies: &mut Policies, author: &Domain) {
        let dkim = match policies.policy(author) {
            Policy::Absent(result) => {
                identity.dmarc = result;
                return;
            }
            Policy::Published { dkim, .. } => dkim,
        };
        let proven: Vec<Domain> = identity.proofs().filter_map(|signature| signature.domain.clone()).collect();
        // Two names of two owners never align, so nothing is looked up for them.
        policies.ask(&self.dns, &proven.iter().filter(|signer| signer.is_kin_of(author)).collect::<Vec<_>>()).await;
        for signature in &mut identity.dkim {
            signature.aligned =
                signature.is_proof() && signature.domain.as_ref().is_some_and(|signer| policies.aligns(signer, author, dkim));
        }
        let any = |result: AuthResult| identity.dkim.iter().any(|signature| signature.result == result);
        identity.dmarc = if identity.dkim.iter().any(|signature| signature.aligned) {
            AuthResult::Pass
        } else if any(AuthResult::TempError) {
            AuthResult::TempError
        } else {
            AuthResult::Fail
        };
    }

    /// Where no signature proves the author, SPF may still make DMARC pass: no proof here, but the correct result. It is checked
    /// only for a reverse-path of the author's organisation, because no other aligns.
    async fn ask_spf(&self, identity: &mut Identity, policies: &mut Policies, author: &Domain, arrival: Arrival<'_>, end: Instant) {
        let Some(client) = identity.client else { return };
        let envelope = arrival.envelope(client.address);
        let Some(domain) = envelope.domain().filter(|domain| domain.is_kin_of(author)) else { return };
        let domains = [&domain];
        let (found, _) = tokio::join!(self.spf(envelope, end), timeout_at(end, policies.ask(&self.dns, &domains)));
        if let Policy::Published { spf, .. } = policies.policy(author) {
            let aligned = policies.aligns(&domain, author, spf);
            match found.result {
                AuthResult::Pass if aligned => identity.dmarc = AuthResult::Pass,
                AuthResult::TempError if aligned => identity.dmarc = AuthResult::TempError,
                _ => {}
            }
        }
        identity.spf = Some(found);
    }
}

/// Reads bytes from outside with every reader of this module, for the fuzzer: nothing may panic.
#[doc(hidden)]
pub fn read_anything(bytes: &[u8]) {
    let _ = tags::Tags::read(bytes, &[]);
    let _ = claims::Claims::dkim(bytes);
    let _ = claims::Claims::arc_message(bytes);
    let _ = claims::Claims::arc_seal(bytes);
    let _ = claims::arc_results(bytes);
    spf::read_anything(bytes);
    dmarc::read_anything(bytes);
    let raw = [b"Received: ", bytes].concat();
    let message = Message::read(&raw);
    let _ = received::client(message.headers());
    let _ = upstream::believed(message.headers(), &["mx".to_owned(), EXCHANGE_ONLINE.to_owned()], ResultsAt::BelowReceived);
    let _ = arc_verify::chain(message.headers());
}
