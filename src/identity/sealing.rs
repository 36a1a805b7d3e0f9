//! ARC: vouching for a mail whose body the hop has changed (RFC 8617 section 5.1).
//!
//! A guarded mail no longer bears its sender's signature. The seal tells the next system what held before: the results of
//! SPF, DKIM and DMARC as the hop found them, in the hop's name. Whether it believes the hop is for its configuration to say.

use std::{fmt, sync::Arc};

use mail_auth::{
    ArcOutput, AuthenticatedMessage, AuthenticationResults, MessageAuthenticator, SpfOutput, SpfResult,
    arc::ArcSealer,
    crypto::{RsaKey, Sha256},
    dmarc::verify::DmarcParameters,
    headers::HeaderWriter as _,
    signer::Ready,
    spf::verify::SpfParameters,
};

use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

use super::{Arrival, Authenticator, Method, screened};
use crate::message::Message;

/// Seals in the name of a domain.
#[derive(Clone)]
pub struct Sealing(Arc<ArcSealer<RsaKey<Sha256>, Ready>>);

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealing(..)")
    }
}

/// Why a mail is not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The key's file.
    #[error("expected an RSA key of 1024 bits or more in PEM, as `openssl genrsa -out FILE 2048` writes it")]
    Key,
    /// Whoever sealed it before said that the chain is broken: there is nothing to add (RFC 8617 section 5.1.2).
    #[error("its ARC chain is broken already")]
    Chain,
    /// The hop did not look itself.
    #[error("a seal tells what the hop found, and the hop asked nobody: [arc] needs verify = \"here\"")]
    NothingFound,
    /// DNS gave no answer in time.
    #[error("DNS gave no answer within identity.deadline")]
    Late,
    /// The mail cannot be sealed.
    #[error("the mail cannot be sealed: {0}")]
    Mail(mail_auth::Error),
}

impl Sealing {
    /// Seals as `selector._domainkey.domain` with a key in PEM.
    ///
    /// # Errors
    /// [`SealingError::Key`].
    pub fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, SealingError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| SealingError::Key)?;
        let key = RsaKey::<Sha256>::from_key_der(der).map_err(|_| SealingError::Key)?;
        Ok(Self(Arc::new(ArcSealer::from_key(key).domain(domain).selector(selector).headers(FIELDS))))
    }
}

/// Whether a text holds nothing that means something in an Authentication-Results field.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@.-_+=/~:[]".contains(&byte))
}

/// What the seal's signature covers: what a reader sees, and what decides how it is read.
const FIELDS: [&str; 13] = [
    "From",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "DKIM-Signature",
];

impl Authenticator {
    /// The header fields that vouch for a changed mail: an ARC set, and Authentication-Results in the hop's name. The records
    /// come from the cache: the mail was asked about a moment ago.
    ///
    /// # Errors
    /// [`SealingError`]; the mail then must not be changed.
    pub async fn vouch(
        &self,
        sealing: &Sealing,
        original: &Message<'_>,
        changed: &[u8],
        arrival: Arrival<'_>,
    ) -> Result<Vec<u8>, SealingError> {
        let Method::Here { dns, deadline, .. } = &self.method else { return Err(SealingError::NothingFound) };
        let work = self.seal(dns, sealing, original, changed, arrival);
        tokio::time::timeout(*deadline, work).await.unwrap_or(Err(SealingError::Late))
    }

    async fn seal(
        &self,
        dns: &MessageAuthenticator,
        sealing: &Sealing,
        original: &Message<'_>,
        changed: &[u8],
        arrival: Arrival<'_>,
    ) -> Result<Vec<u8>, SealingError> {
        let before = screened(original.raw()).ok_or(SealingError::Mail(mail_auth::Error::NoHeadersFound))?;
        let after = AuthenticatedMessage::parse(changed).ok_or(SealingError::Mail(mail_auth::Error::NoHeadersFound))?;
        let client = self.client(original, arrival);
        let sender_domain = arrival.reverse_path.rsplit_once('@').map_or(arrival.helo, |(_, domain)| domain);
        let mail_from = client.map(|client| match arrival.reverse_path {
            "" => SpfParameters::helo(client, arrival.helo, &self.hostname),
            path => SpfParameters::mail_from(client, arrival.helo, &self.hostname, path),
        });
        let dkim = dns.verify_dkim(&before).await;
        let chain: ArcOutput<'_> = dns.verify_arc(&before).await;
        if !chain.can_be_sealed() {
            return Err(SealingError::Chain);
        }
        let author = original.author().map(|author| format!("x@{}", author.domain)).unwrap_or_default();
        let mut results = AuthenticationResults::new(&self.hostname).with_dkim_results(&dkim, &author);
        let spf = match mail_from {
            Some(parameters) => {
                let spf = dns.verify_spf(parameters).await;
                // The path and the name are whoever's words: odd ones could speak in the field that the hop writes.
                if is_plain(arrival.reverse_path) && is_plain(arrival.helo) {
                    results.set_spf_result(&spf, &parameters);
                }
                spf
            }
            None => SpfOutput::new(sender_domain.to_owned()).with_result(SpfResult::None),
        };
        let dmarc = dns.verify_dmarc(DmarcParameters::new(&before, &dkim, sender_domain, &spf)).await;
        results.set_dmarc_result(&dmarc);
        let set = sealing.0.seal(&after, &results, &chain).map_err(SealingError::Mail)?;
        Ok(format!("{}{}", set.to_header(), results.to_header()).into_bytes())
    }
}
