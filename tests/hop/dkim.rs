//! DKIM signatures as no honest signer would make them (RFC 6376), beside those that one would.

use aws_lc_rs::{
    digest,
    encoding::{AsDer as _, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::testbed::Zone;
use serde::Deserialize;

/// A key that every domain of a test shares.
pub(crate) struct Key(RsaKeyPair);

/// How to sign.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Signing {
    d: String,
    s: String,
    h: String,
    /// Put in front of `h=`, with its semicolon.
    tags: String,
    /// Octets of the body that are hashed; all where it is left out.
    hashed: Option<usize>,
    /// So many signatures.
    times: usize,
    /// Seconds from now at which it says it was made.
    signed_at: i64,
    /// It does not say when.
    undated: bool,
}

impl Default for Signing {
    fn default() -> Self {
        let h = "from:to:subject:date:message-id:mime-version:content-type";
        Self {
            d: "bank.test".into(),
            s: "s1".into(),
            h: h.into(),
            tags: String::new(),
            hashed: None,
            times: 1,
            signed_at: 0,
            undated: false,
        }
    }
}

impl Signing {
    pub(crate) fn filled(&self, fill: &impl Fn(&str) -> String) -> Self {
        Self { d: fill(&self.d), s: fill(&self.s), h: fill(&self.h), tags: fill(&self.tags), ..self.clone() }
    }
}

/// How to seal (RFC 8617): one set, on top of those that are there.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ArcSigner {
    d: String,
    i: usize,
    /// `cv=`; left out: what an honest sealer says.
    cv: Option<String>,
    h: String,
    /// What the ARC-Authentication-Results say.
    results: String,
    /// Put in front of `h=` of the ARC-Message-Signature, with its semicolon.
    tags: String,
    /// Put in front of `b=` of the ARC-Seal, with its semicolon.
    seal_tags: String,
    /// Taken out of the ARC-Message-Signature; without its `c=` the fields are hashed as they stand.
    without: String,
}

impl Default for ArcSigner {
    fn default() -> Self {
        Self {
            d: "list.test".into(),
            i: 1,
            cv: None,
            h: "from:to:subject:date:message-id:mime-version:content-type:dkim-signature".into(),
            results: "mx.list.test; dkim=pass header.d=bank.test header.s=s1; dmarc=pass header.from=bank.test".into(),
            tags: String::new(),
            seal_tags: String::new(),
            without: String::new(),
        }
    }
}

impl ArcSigner {
    pub(crate) fn filled(&self, fill: &impl Fn(&str) -> String) -> Self {
        Self { tags: fill(&self.tags), seal_tags: fill(&self.seal_tags), ..self.clone() }
    }
}

/// A field by the relaxed canonicalisation of RFC 6376 section 3.4.2.
fn relaxed(field: &str) -> String {
    let (name, value) = field.split_once(':').unwrap();
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    format!("{}:{}\r\n", name.trim().to_ascii_lowercase(), words.join(" "))
}

impl Key {
    fn signature(&self, input: &str) -> String {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
        BASE64.encode(signature)
    }

    /// Seals a mail whose earlier sets stand on top of it, the newest first, each of three fields of one line.
    pub(crate) fn seal(&self, how: &ArcSigner, mail: &str) -> String {
        let (head, body) = mail.split_once("\r\n\r\n").unwrap();
        let fields: Vec<&str> = head.split("\r\n").collect();
        let body = format!("{}\r\n", body.trim_end_matches("\r\n"));
        let now = firstclick::clock::now().as_second();
        let (i, d) = (how.i, &how.d);
        let hash = BASE64.encode(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
        let results = format!("ARC-Authentication-Results: i={i}; {}", how.results);
        let unsigned = format!(
            "ARC-Message-Signature: i={i}; a=rsa-sha256; c=relaxed/simple; d={d}; s=s1; t={now};{} h={}; bh={hash}; b=",
            how.tags, how.h
        );
        let unsigned = if how.without.is_empty() { unsigned } else { unsigned.replacen(&how.without, "", 1) };
        let hashed = |field: &str| if unsigned.contains(" c=") { relaxed(field) } else { format!("{field}\r\n") };
        let signed = how.h.split(':').filter_map(|name| {
            fields.iter().rev().find(|field| field.split(':').next().unwrap().eq_ignore_ascii_case(name)).map(|field| hashed(field))
        });
        let input = signed.collect::<String>() + hashed(&unsigned).trim_end();
        let signature = format!("{unsigned}{}", self.signature(&input));
        let cv = how.cv.clone().unwrap_or_else(|| if i == 1 { "none".into() } else { "pass".into() });
        let unsealed = format!("ARC-Seal: i={i}; a=rsa-sha256; cv={cv}; d={d}; s=s1; t={now};{} b=", how.seal_tags);
        let mut input = String::new();
        let earlier: Vec<&&str> = fields.iter().take_while(|field| field.starts_with("ARC-")).collect();
        for set in earlier.chunks(3).rev() {
            let [seal, signature, results] = set else { panic!("a set of three fields") };
            input.push_str(&(relaxed(results) + &relaxed(signature) + &relaxed(seal)));
        }
        input.push_str(&(relaxed(&results) + &relaxed(&signature) + relaxed(&unsealed).trim_end()));
        format!("{unsealed}{}\r\n{signature}\r\n{results}\r\n{mail}", self.signature(&input))
    }
}

impl Key {
    pub(crate) fn make() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn public(&self) -> String {
        BASE64
            .encode(aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(self.0.public_key()).unwrap().as_ref())
    }

    /// The private key in PEM, for other implementations.
    pub(crate) fn pem(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.0.as_der().unwrap();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der.as_ref()))
    }

    /// Publishes the key with `p=reject`, and SPF for loopback.
    pub(crate) fn publish(&self, zone: &Zone, domain: &str) {
        zone.publish(&format!("s1._domainkey.{domain}"), format!("v=DKIM1; k=rsa; p={}", self.public()));
        zone.publish(&format!("_dmarc.{domain}"), "v=DMARC1; p=reject");
        zone.publish(domain, "v=spf1 ip4:127.0.0.1 -all");
    }

    /// Signs with simple canonicalisation of header and body, so that nothing is smoothed over.
    pub(crate) fn sign(&self, how: &Signing, mail: &str) -> String {
        let now = firstclick::clock::now().as_second() + how.signed_at;
        let time = if how.undated { String::new() } else { format!(" t={now};") };
        let field =
            format!("v=1; a=rsa-sha256; c=simple/simple; d={}; s={};{time}{} h={}; bh={{bh}}; b={{b}}", how.d, how.s, how.tags, how.h);
        let signed = self.sign_field(&field, &how.h, how.hashed, mail);
        let field = &signed[..signed.len() - mail.len()];
        format!("{}{mail}", field.repeat(how.times))
    }

    /// Signs with a field of any wording, in which `{bh}` and `{b}` stand for body hash and signature.
    pub(crate) fn sign_field(&self, field: &str, h: &str, hashed: Option<usize>, mail: &str) -> String {
        let (head, body) = mail.split_once("\r\n\r\n").unwrap_or((mail, ""));
        let mut body = body.trim_end_matches("\r\n").to_owned();
        body.push_str("\r\n");
        let hashed = hashed.map_or(body.as_bytes(), |octets| &body.as_bytes()[..octets]);
        let hash = BASE64.encode(digest::digest(&digest::SHA256, hashed).as_ref());
        let unsigned = format!("DKIM-Signature: {}", field.replace("{bh}", &hash));
        let mut fields: Vec<&str> = Vec::new();
        let mut at = 0;
        for line in head.split_inclusive("\r\n") {
            if line.starts_with([' ', '\t']) && !fields.is_empty() {
                let start = head.len() - head[at - fields.last().unwrap().len()..].len();
                *fields.last_mut().unwrap() = &head[start..at + line.len()];
            } else {
                fields.push(line);
            }
            at += line.len();
        }
        let mut input = String::new();
        let mut used = vec![false; fields.len()];
        for name in h.split(':').map(str::trim) {
            let is = |field: &str| field.split(':').next().unwrap().trim_end().eq_ignore_ascii_case(name);
            if let Some(at) = (0..fields.len()).rev().find(|at| !used[*at] && is(fields[*at])) {
                used[at] = true;
                input.push_str(fields[at].trim_end_matches("\r\n"));
                input.push_str("\r\n");
            }
        }
        input.push_str(&unsigned.replace("{b}", ""));
        format!("{}\r\n{mail}", unsigned.replace("{b}", &self.signature(&input)))
    }
}
