//! ARC: vouching for a mail whose body the hop has changed (RFC 8617 section 5.1).
//!
//! A guarded mail no longer bears its sender's signature. The seal tells the next system what held before: the results of
//! SPF, DKIM and DMARC as the hop found them, in the hop's name. Whether it believes the hop is for its configuration to say.

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

/// Seals in the name of a domain.
#[derive(Clone)]
pub struct ArcSigner(Arc<ArcSealer<RsaKey<Sha256>, Ready>>);

impl fmt::Debug for ArcSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArcSigner(..)")
    }
}

/// Why a mail is not sealed.
#[derive(Debug, thiserror::Error)]
pub enum ArcSignError {
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

impl ArcSigner {
    /// Seals as `selector._domainkey.domain` with a key in PEM.
    ///
    /// # Errors
    /// [`ArcSignError::Key`].
    pub fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, ArcSignError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| ArcSignError::Key)?;
        let key = RsaKey::<Sha256>::from_key_der(der).map_err(|_| ArcSignError::Key)?;
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

    /// What held is looked up again from the resolver's cache, and with the same care: only signatures that can speak for
    /// the author, and a chain of bounded length.
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
        // Signatures that were not looked at are not spoken of: `neutral` would say that somebody looked.
        let looked_at: Vec<DkimOutput<'_>> = dkim.into_iter().filter(|output| output.signature().is_some()).collect();
        let mut results = AuthenticationResults::new(&self.hostname).with_dkim_results(&looked_at, &author);
        let sender_domain = arrival.reverse_path.rsplit_once('@').map_or(arrival.helo, |(_, domain)| domain);
        let mut spf = SpfOutput::new(sender_domain.to_owned()).with_result(SpfResult::None);
        if let Some(client) = client {
            let found = spf::check(&here.dns, arrival.envelope(client)).await;
            spf = SpfOutput::new(sender_domain.to_owned()).with_result(spf_result(found.result));
            // The path and the name are whoever's words: odd ones could speak in the field that the hop writes.
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
        let set = signer.0.seal(&after, &results, &chain).map_err(ArcSignError::Mail)?;
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
