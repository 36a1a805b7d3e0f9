//! Key records (RFC 6376 section 3.6.1), read strictly.

use mail_auth::crypto::Algorithm;

use super::{
    claims::{Claims, decoded},
    proof::Weakness,
    resolver::Answer,
    tags::{self, Tags},
};
use crate::limits;

const KNOWN: &[&str] = &["v", "h", "k", "n", "p", "s", "t", "g"];

/// The one record under a key's name, where it may verify this signature (RFC 6376 section 6.1.2).
///
/// # Errors
/// [`Weakness`]: no record, several, or one that does not fit the signature.
pub(super) fn record<'a>(answer: &'a Answer<Vec<u8>>, claims: &Claims) -> Result<&'a [u8], Weakness> {
    let records = match answer {
        Answer::Records(records) => records.as_slice(),
        Answer::Nothing => return Err(Weakness::KeyMissing),
        Answer::Failed => return Err(Weakness::NoAnswer),
    };
    let [record] = records else {
        return Err(if records.is_empty() { Weakness::KeyMissing } else { Weakness::KeySeveral });
    };
    check(record, claims).map(|()| record.as_slice())
}

fn check(record: &[u8], claims: &Claims) -> Result<(), Weakness> {
    if record.len() > limits::KEY_RECORD {
        return Err(Weakness::KeyRecord);
    }
    let tags = Tags::read(record, KNOWN).map_err(|_| Weakness::KeyRecord)?;
    if tags.get("v").is_some() && tags.first() != Some(("v", "DKIM1")) {
        return Err(Weakness::KeyRecord);
    }
    let key = tags.get("p").ok_or(Weakness::KeyRecord)?;
    if key.is_empty() {
        return Err(Weakness::KeyRevoked);
    }
    decoded(&tags::squeezed(key)).map_err(|_| Weakness::KeyRecord)?;
    let names = |tag: &str, words: &[&str]| {
        tags.get(tag).is_none_or(|list| tags::items(list).any(|item| words.iter().any(|word| item.eq_ignore_ascii_case(word))))
    };
    if !names("s", &["*", "email"]) {
        return Err(Weakness::KeyService);
    }
    if !names("h", &["sha256"]) {
        return Err(Weakness::KeyHash);
    }
    let kind = match claims.algorithm {
        Algorithm::RsaSha256 => "rsa",
        Algorithm::Ed25519Sha256 => "ed25519",
        Algorithm::RsaSha1 | Algorithm::MlDsa44 => return Err(Weakness::KeyType),
    };
    if !tags.get("k").unwrap_or("rsa").eq_ignore_ascii_case(kind) {
        return Err(Weakness::KeyType);
    }
    let flag = |flag: &str| tags.get("t").is_some_and(|flags| tags::items(flags).any(|found| found.eq_ignore_ascii_case(flag)));
    if flag("y") {
        return Err(Weakness::TestingKey);
    }
    if flag("s") && claims.identity_below {
        return Err(Weakness::KeyStrict);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(tags: &str) -> Claims {
        Claims::dkim(format!("v=1; a=rsa-sha256; d=bank.test; s=s1; h=from:subject; bh=YQ==; b=YQ==;{tags}").as_bytes()).unwrap()
    }

    #[test]
    fn what_a_record_must_say() {
        let plain = claims("");
        for (record, right) in [
            ("v=DKIM1; k=rsa; p=YQ==", Ok(())),
            ("v=DKIM1;k=rsa;p=YQ==;", Ok(())),
            ("p=YQ==", Ok(())),
            ("k=rsa; p=YQ==; n=a note", Ok(())),
            ("v=DKIM1; p=Y Q==", Ok(())),
            ("v=DKIM1; p=YQ==; s=email", Ok(())),
            ("v=DKIM1; p=YQ==; s=*", Ok(())),
            ("v=DKIM1; p=YQ==; s=tlsrpt : email", Ok(())),
            ("v=DKIM1; p=YQ==; h=sha1:sha256", Ok(())),
            ("v=DKIM1; p=YQ==; t=s", Ok(())),
            ("k=rsa; v=DKIM1; p=YQ==", Err(Weakness::KeyRecord)),
            ("v=DKIM2; p=YQ==", Err(Weakness::KeyRecord)),
            ("v=dkim1; p=YQ==", Err(Weakness::KeyRecord)),
            ("v=DKIM1; p=YQ==; p=Yg==", Err(Weakness::KeyRecord)),
            ("v=DKIM1; p=YQ==; P=Yg==", Err(Weakness::KeyRecord)),
            ("v=DKIM1;; p=YQ==", Err(Weakness::KeyRecord)),
            ("v=DKIM1\\; p=YQ==", Err(Weakness::KeyRecord)),
            ("v=DKIM1; k=rsa", Err(Weakness::KeyRecord)),
            ("v=DKIM1; p=!", Err(Weakness::KeyRecord)),
            ("v=DKIM1; p=", Err(Weakness::KeyRevoked)),
            ("v=DKIM1; p=YQ==; s=tlsrpt", Err(Weakness::KeyService)),
            ("v=DKIM1; p=YQ==; s=", Err(Weakness::KeyService)),
            ("v=DKIM1; p=YQ==; h=sha1", Err(Weakness::KeyHash)),
            ("v=DKIM1; p=YQ==; k=ed25519", Err(Weakness::KeyType)),
            ("v=DKIM1; p=YQ==; t=y", Err(Weakness::TestingKey)),
            ("v=DKIM1; p=YQ==; t=s:y", Err(Weakness::TestingKey)),
        ] {
            assert_eq!(check(record.as_bytes(), &plain), right, "{record}");
        }
        assert_eq!(check(format!("p=YQ==; n={}", "x".repeat(limits::KEY_RECORD)).as_bytes(), &plain), Err(Weakness::KeyRecord));
        let below = claims(" i=@a.bank.test");
        assert_eq!(check(b"p=YQ==; t=s", &below), Err(Weakness::KeyStrict));
        assert_eq!(check(b"p=YQ==", &below), Ok(()));
        assert_eq!(check(b"p=YQ==; t=s", &claims(" i=x@bank.test")), Ok(()));
    }

    #[test]
    fn one_record_and_no_more() {
        let answer = |records: &[&str]| Answer::Records(records.iter().map(|text| text.as_bytes().to_vec()).collect());
        let plain = claims("");
        assert!(record(&answer(&["p=YQ=="]), &plain).is_ok());
        assert_eq!(record(&answer(&["p=YQ==", "p=YQ=="]), &plain), Err(Weakness::KeySeveral));
        assert_eq!(record(&answer(&["p=YQ==", "a note"]), &plain), Err(Weakness::KeySeveral));
        assert_eq!(record(&answer(&[]), &plain), Err(Weakness::KeyMissing));
        assert_eq!(record(&Answer::Nothing, &plain), Err(Weakness::KeyMissing));
        assert_eq!(record(&Answer::Failed, &plain), Err(Weakness::NoAnswer));
    }
}
