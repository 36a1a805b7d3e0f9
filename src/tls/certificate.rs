//! What a certificate says of itself: from when to when it counts, and for which names.

use std::{net::IpAddr, path::Path};

use jiff::Timestamp;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{TlsError, certificates};

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// It counts from this time on.
    pub from: Timestamp,
    /// It ends at this time.
    pub until: Timestamp,
    /// The host names and addresses that it is for; none in one of an authority.
    pub names: Vec<String>,
}

impl CertificateFacts {
    /// The certificates of a file in PEM, in their order: the hop's own first, then those of authorities.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn read(path: &Path) -> Result<Vec<Self>, TlsError> {
        let wrong = || TlsError::File { path: path.display().to_string(), what: "holds a certificate that cannot be read".into() };
        certificates(path)?.iter().map(|octets| Self::of(octets).ok_or_else(wrong)).collect()
    }

    fn of(octets: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(octets).ok()?;
        let validity = certificate.validity();
        let time = |time: i64| Timestamp::from_second(time).ok();
        let names = certificate.subject_alternative_name().ok()?.map(|found| &found.value.general_names);
        let names = names.into_iter().flatten().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => match octets.len() {
                4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
                _ => <[u8; 16]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
            },
            _ => None,
        });
        let (from, until) = (time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?);
        Some(Self { from, until, names: names.collect() })
    }

    /// Whether it is for this name; `*` stands for one label, the first (RFC 9525 section 6.3).
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.names.iter().any(|known| {
            *known == name
                || known
                    .strip_prefix("*.")
                    .is_some_and(|below| name.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == below))
        })
    }
}
