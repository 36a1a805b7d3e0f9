//! Certificates for tests: an authority, and what it signs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use firstclick::tls::{self, CertificateFiles, ClientTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// The file that holds the authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for this name.
    pub(crate) fn issue(&self, name: &str) -> CertificateFiles {
        self.issue_to(name, &self.folder.path().join(name))
    }

    /// The same, at a place where another one may have been.
    pub(crate) fn issue_to(&self, name: &str, place: &Path) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let files = CertificateFiles { certificate: place.with_extension("pem"), key: place.with_extension("key") };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A certificate for this name that ends in so many days.
    pub(crate) fn issue_until(&self, name: &str, days: i64) -> CertificateFiles {
        let end = firstclick::clock::now().as_second() + days * 24 * 3_600 - 60;
        let day = jiff::Timestamp::from_second(end).unwrap().to_zoned_datetime(jiff::tz::TimeZone::UTC);
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let place = self.folder.path().join(format!("{name}-{days}"));
        let files = CertificateFiles { certificate: place.with_extension("pem"), key: place.with_extension("key") };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    pub(crate) fn server(&self, name: &str) -> Arc<ServerConfig> {
        tls::server(&self.issue(name)).unwrap()
    }

    /// A client that believes this authority and no other.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        tls::client(ClientTls::Verified, Some(&self.file())).unwrap().unwrap()
    }
}
