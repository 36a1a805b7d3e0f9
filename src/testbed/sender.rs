//! A sender: signs mails as its domain and posts them.

use anyhow::{anyhow, bail};
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mail_auth::{
    crypto::{RsaKey, Sha256},
    dkim::DkimSigner,
    headers::HeaderWriter as _,
};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::Zone;
use crate::smtp::{
    client::{
        next_hop::{Sent, Step},
        route::Route,
    },
    codec::{command::PathCommand, reply::Reply},
    config::Config,
};

/// A domain that signs its mails with a fresh RSA key.
pub struct Signer {
    domain: String,
    private: Vec<u8>,
    public: String,
}

/// The selector of every signer.
const SELECTOR: &str = "s1";

impl Signer {
    /// Makes a key and publishes it with SPF and `p=reject`.
    ///
    /// # Errors
    /// No key can be made.
    pub fn publish(zone: &Zone, domain: &str) -> anyhow::Result<Self> {
        let signer = Self::new(domain)?;
        zone.publish(&format!("{SELECTOR}._domainkey.{domain}"), format!("v=DKIM1; k=rsa; p={}", signer.public));
        zone.publish(&format!("_dmarc.{domain}"), "v=DMARC1; p=reject");
        zone.publish(domain, "v=spf1 ip4:127.0.0.1 -all");
        Ok(signer)
    }

    fn new(domain: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no key could be made"))?;
        let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| anyhow!("the key cannot be written"))?;
        let public = pair.public_key().as_der().map_err(|_| anyhow!("the key cannot be written"))?;
        Ok(Self { domain: domain.to_owned(), private: private.as_ref().to_vec(), public: BASE64.encode(public.as_ref()) })
    }

    /// The public key as DNS holds it.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public
    }

    /// Signs a mail; every field that is there and matters is covered.
    ///
    /// # Errors
    /// Where the mail has none of these fields.
    pub fn sign(&self, mail: &str) -> anyhow::Result<String> {
        let all = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"];
        let there = all.into_iter().filter(|name| {
            mail.lines()
                .take_while(|line| !line.is_empty())
                .any(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())))
        });
        self.sign_over(mail, there)
    }

    /// Signs a mail over these fields only.
    ///
    /// # Errors
    /// Where the mail has none of these fields.
    pub fn sign_over<'n>(&self, mail: &str, fields: impl IntoIterator<Item = &'n str>) -> anyhow::Result<String> {
        let key =
            RsaKey::<Sha256>::from_key_der(PrivatePkcs8KeyDer::from(self.private.as_slice()).into()).map_err(|error| anyhow!("{error}"))?;
        let signature = DkimSigner::from_key(key)
            .domain(&self.domain)
            .selector(SELECTOR)
            .headers(fields)
            .sign(mail.as_bytes())
            .map_err(|error| anyhow!("{error}"))?;
        Ok(format!("{}{mail}", signature.to_header()))
    }
}

/// Posts a mail to an SMTP server and returns its last reply.
///
/// # Errors
/// Where the server refuses the envelope, or breaks off.
pub async fn post(server: &str, from: &str, to: &[&str], mail: &str) -> anyhow::Result<Reply> {
    let config = Config::relay("sender.test", vec![server.to_owned()]);
    let path = |address: &str| PathCommand { path: format!("<{address}>"), parameters: String::new() };
    let (from, to) = (path(from), to.iter().map(|to| path(to)).collect::<Vec<_>>());
    let steps: Vec<Step<'_>> = std::iter::once(Step::Mail(&from)).chain(to.iter().map(Step::Recipient)).collect();
    let hop = Route::default().connect(&config, None).await?;
    let (replies, hop) = hop.commands(&steps, config.deadlines.reply).await;
    let hop = hop?;
    if let Some(refusal) = replies.iter().find(|reply| !reply.is_accepted()) {
        bail!("{server} said {refusal}");
    }
    match hop.mail(&[mail.as_bytes()]).await {
        Sent::Replied { reply, hop } => {
            if let Some(hop) = hop {
                hop.quit().await;
            }
            Ok(reply)
        }
        Sent::NotSent(error) | Sent::Unknown(error) => Err(error.into()),
    }
}
