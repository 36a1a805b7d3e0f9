//! ARC: signing a mail whose body the hop has changed (RFC 8617 section 5.1).
//!
//! A changed mail no longer has its sender's signature. The ARC set carries on what held before: the results of SPF, DKIM and
//! DMARC as the hop found them, in the hop's name. Whether the next system trusts the hop is set by its own configuration.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use mail_auth::{
    ArcOutput, AuthenticatedMessage, AuthenticationResults, DkimOutput, Parameters, SpfOutput, SpfResult,
    arc::ArcSealer,
    crypto::{RsaKey, Sha256},
    dkim::{DkimError, DomainKey},
    dmarc::{DmarcRecord, verify::DmarcParameters},
    dns::TxtRecordParser as _,
    headers::HeaderWriter as _,
    signer::Ready,
    spf::verify::SpfParameters,
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

use super::{
    Arrival, Authenticator, Here, Method,
    arc_verify::{self, Broken},
    dkim::{self, Keys, Records},
    dmarc::Policies,
    proof::AuthResult,
    spf,
};
use crate::{
    clock,
    message::{Domain, Message},
};

/// Seals mails in the name of a domain.
#[derive(Clone)]
pub struct ArcSigner {
    domain: Box<str>,
    sealer: Arc<ArcSealer<RsaKey<Sha256>, Ready>>,
}

impl fmt::Debug for ArcSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArcSigner(..)")
    }
}

/// Why a mail is not sealed.
#[derive(Debug, thiserror::Error)]
pub enum ArcSignError {
    /// The key's file holds no RSA key in PEM.
    #[error("expected an RSA key of 1024 bits or more in PEM, as `openssl genrsa -out FILE 2048` writes it")]
    Key,
    /// An earlier sealer found the chain broken (`cv=fail`), so no set may be added (RFC 8617 section 5.1.2).
    #[error("its ARC chain is broken already")]
    Chain,
    /// The hop made no checks of its own whose results could be sealed.
    #[error("a seal tells what the hop found, and the hop asked nobody: [arc] needs verify = \"here\"")]
    NothingFound,
    /// DNS gave no answer within the deadline.
    #[error("DNS gave no answer within identity.deadline")]
    Late,
    /// mail-auth cannot seal the mail.
    #[error("the mail cannot be sealed: {0}")]
    Mail(mail_auth::Error),
}

impl ArcSigner {
    /// Seals as `selector._domainkey.domain` with a key in PEM.
    ///
    /// # Errors
    /// [`ArcSignError::Key`]: the text is no RSA key in PEM.
    pub fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, ArcSignError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| ArcSignError::Key)?;
        let key = RsaKey::<Sha256>::from_key_der(der).map_err(|_| ArcSignError::Key)?;
        Ok(Self { domain: domain.into(), sealer: Arc::new(ArcSealer::from_key(key).domain(domain).selector(selector).headers(FIELDS)) })
    }

    /// The domain in whose name it seals.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

/// Whether a text holds nothing that means something in an Authentication-Results field.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@.-_+=/~:[]".contains(&byte))
}

/// The header fields that the signature covers: what a reader sees, and what decides how the body is read.
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
    /// The header fields for a changed mail: an ARC set, and Authentication-Results in the hop's name. The records come from the
    /// resolver's cache: they were looked up a moment ago.
    ///
    /// # Errors
    /// [`ArcSignError`]; the mail then must not be changed.
    pub async fn arc_seal(
        &self,
        signer: &ArcSigner,
        original: &Message<'_>,
        changed: &[u8],
        arrival: Arrival<'_>,
    ) -> Result<Vec<u8>, ArcSignError> {
        let Method::Here(here) = &self.method else { return Err(ArcSignError::NothingFound) };
        let work = self.seal(here, signer, original, changed, arrival);
        tokio::time::timeout(here.deadline, work).await.unwrap_or(Err(ArcSignError::Late))
    }

    /// The checks are made again from the resolver's cache, with the same care: only signatures that can speak for the author,
    /// and a chain of bounded length.
    async fn seal(
        &self,
        here: &Here,
        signer: &ArcSigner,
        original: &Message<'_>,
        changed: &[u8],
        arrival: Arrival<'_>,
    ) -> Result<Vec<u8>, ArcSignError> {
        let no_header = || ArcSignError::Mail(mail_auth::Error::NoHeadersFound);
        let mut before = AuthenticatedMessage::parse(original.raw()).ok_or_else(no_header)?;
        let after = AuthenticatedMessage::parse(changed).ok_or_else(no_header)?;
        let author = original.author().ok().map(|author| author.domain);
        let list = dkim::listed(original.headers(), author.as_ref(), &[], clock::now().as_second());
        let sets = match arc_verify::chain(original.headers()) {
            Ok(sets) => sets,
            Err(Broken::Absent) => Vec::new(),
            Err(Broken::Invalid | Broken::TooLong) => return Err(ArcSignError::Chain),
        };
        let links = || sets.iter().map(|set| &set.seal).chain(sets.last().map(|set| &set.signature));
        let mut policies = Policies::default();
        let authors: Vec<&Domain> = author.iter().collect();
        let (keys, ()) = tokio::join!(Keys::ask(&here.dns, dkim::open(&list).chain(links())), policies.ask(&here.dns, &authors));
        let mut records = Records::default();
        for claims in dkim::open(&list).chain(links()) {
            if let Some(key) = keys.of(claims).ok().and_then(|record| DomainKey::parse(record).ok()) {
                records.add(&claims.key_name(), key.into());
            }
        }
        for (name, text) in policies.texts() {
            if let Ok(record) = DmarcRecord::parse(text) {
                records.add(name, record.into());
            }
        }
        let open: Vec<_> = dkim::open(&list).collect();
        before.retain_dkim_signatures(|found| {
            if open.iter().any(|claims| claims.agrees(found)) { Ok(()) } else { Err(DkimError::UnsupportedVersion) }
        });
        let dkim = here.verifier.verify_dkim(Parameters::new(&before).with_cache(&records)).await;
        let chain: ArcOutput<'_> = here.verifier.verify_arc(Parameters::new(&before).with_cache(&records)).await;
        if !chain.can_be_sealed() {
            return Err(ArcSignError::Chain);
        }
        let client = self.client(original, arrival).map(|client| client.address);
        let author = author.map(|author| format!("x@{author}")).unwrap_or_default();
        // Signatures that were not looked up are left out: `neutral` would claim that they were.
        let looked_at: Vec<DkimOutput<'_>> = dkim.into_iter().filter(|output| output.signature().is_some()).collect();
        let mut results = AuthenticationResults::new(&self.hostname).with_dkim_results(&looked_at, &author);
        let sender_domain = arrival.reverse_path.rsplit_once('@').map_or(arrival.helo, |(_, domain)| domain);
        let mut spf = SpfOutput::new(sender_domain.to_owned()).with_result(SpfResult::None);
        if let Some(client) = client {
            let found = spf::check(&here.dns, arrival.envelope(client)).await;
            spf = SpfOutput::new(sender_domain.to_owned()).with_result(spf_result(found.result));
            // Reverse-path and HELO are the client's own text: odd ones could add results to the field.
            if is_plain(arrival.reverse_path) && is_plain(arrival.helo) {
                let parameters = match arrival.reverse_path {
                    "" => SpfParameters::helo(client, arrival.helo, &self.hostname),
                    path => SpfParameters::mail_from(client, arrival.helo, &self.hostname, path),
                };
                results.set_spf_result(&spf, &parameters);
            }
        }
        let parameters = DmarcParameters::new(&before, &looked_at, sender_domain, &spf);
        let dmarc = here.verifier.verify_dmarc(Parameters::new(parameters).with_cache(&records)).await;
        results.set_dmarc_result(&dmarc);
        // RFC 8617 section 4.1.1: the state of the chain as it came, beside the other results.
        results.set_arc_result(&chain, client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let set = signer.sealer.seal(&after, &results, &chain).map_err(ArcSignError::Mail)?;
        Ok(format!("{}{}", set.to_header(), results.to_header()).into_bytes())
    }
}

const fn spf_result(result: AuthResult) -> SpfResult {
    match result {
        AuthResult::Pass => SpfResult::Pass,
        AuthResult::Fail | AuthResult::Policy => SpfResult::Fail,
        AuthResult::SoftFail => SpfResult::SoftFail,
        AuthResult::Neutral => SpfResult::Neutral,
        AuthResult::None => SpfResult::None,
        AuthResult::TempError => SpfResult::TempError,
        AuthResult::PermError => SpfResult::PermError,
    }
}
