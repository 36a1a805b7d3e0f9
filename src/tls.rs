//! TLS: the hop's certificate towards upstreams, and how the next hop's certificate is verified.
//!
//! rustls does the work. A certificate is read again on every reload, so that a renewed one takes effect without a
//! dropped session. [`Channel`] is a connection with or without TLS, inward and outward alike.

mod certificate;

use std::{
    fmt,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    },
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

pub use self::certificate::CertificateFacts;

/// The files of the hop's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and the chain to its authority, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// How TLS is spoken with the next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientTls {
    /// No TLS.
    Off,
    /// Where the next hop offers it, with any certificate; in the clear where it does not or the handshake fails.
    #[default]
    Opportunistic,
    /// Always, with any certificate; a next hop that does not offer it gets no mail.
    Required,
    /// Always, with a certificate that a known authority signed for the next hop's name.
    Verified,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("{path}: {what}")]
    File {
        /// The path of the file.
        path: String,
        /// What is wrong with it, in words.
        what: String,
    },
    /// rustls refuses the certificate and the key; its error.
    #[error("{}", refusal(.0))]
    Refused(#[from] Error),
    /// The system has no certificate authorities.
    #[error("the system's certificate authorities cannot be read; name a file in smtp.next_hop_ca")]
    NoAuthorities,
}

/// What rustls says of a certificate and its key, in words.
fn refusal(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(_) => "the key is not the certificate's: name the two files that were made together".into(),
        Error::InvalidCertificate(_) => "the certificate cannot be used: it is damaged, or of a kind that TLS does not know".into(),
        Error::NoCertificatesPresented => "the file holds no certificate".into(),
        // Of a key that cannot be used: its kind is none that TLS knows.
        Error::General(_) => "the key cannot be used: it is damaged, or neither RSA, ECDSA nor Ed25519".into(),
        other => format!("certificate and key cannot be used: {other}"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Reads the hop's certificate.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn server(files: &CertificateFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.certificate)?;
    regular(&files.key)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| at(&files.key, &error))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// Sets up TLS towards the next hop; none where it is off. `authorities` is a file of them, instead of the system's.
///
/// # Errors
/// Where authorities are needed and cannot be read.
pub fn client(how: ClientTls, authorities: Option<&Path>) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let config = match how {
        ClientTls::Off => return Ok(None),
        ClientTls::Opportunistic | ClientTls::Required => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyCert(provider()))).with_no_client_auth()
        }
        ClientTls::Verified => {
            let mut roots = RootCertStore::empty();
            match authorities {
                Some(path) => {
                    for certificate in certificates(path)? {
                        roots.add(certificate)?;
                    }
                }
                None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            }
            if roots.is_empty() {
                return Err(TlsError::NoAuthorities);
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(Some(Arc::new(config)))
}

/// When the first certificate of a file ends.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub fn ends(certificate: &Path) -> Result<Timestamp, TlsError> {
    let wrong = |what: &str| TlsError::File { path: certificate.display().to_string(), what: what.into() };
    let mut first: Option<Timestamp> = None;
    for one in certificates(certificate)? {
        let (_, read) = X509Certificate::from_der(&one).map_err(|_| wrong("holds a certificate that cannot be read"))?;
        let end = Timestamp::from_second(read.validity().not_after.timestamp()).map_err(|_| wrong("ends at a time that cannot be"))?;
        first = Some(first.map_or(end, |first| first.min(end)));
    }
    first.ok_or_else(|| wrong("holds no certificate in PEM"))
}

/// What is no regular file, as a FIFO in its place, is not opened: that would wait for a writer.
fn regular(path: &Path) -> Result<(), TlsError> {
    match std::fs::metadata(path) {
        Ok(about) if !about.is_file() => Err(TlsError::File { path: path.display().to_string(), what: "is no regular file".into() }),
        // Reading says what is wrong.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    regular(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| at(path, &error))?.collect();
    let found = found.map_err(|error| at(path, &error))?;
    if found.is_empty() {
        return Err(TlsError::File { path: path.display().to_string(), what: "holds no certificate in PEM".into() });
    }
    Ok(found)
}

fn at(path: &Path, error: &rustls_pki_types::pem::Error) -> TlsError {
    TlsError::File { path: path.display().to_string(), what: format!("cannot be read as PEM: {error}") }
}

/// A verifier for encryption without authentication (RFC 7435): every certificate is accepted. The handshake's signatures are
/// verified all the same.
#[derive(Debug)]
struct AcceptAnyCert(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCert {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TCP connection, with or without TLS.
#[derive(Default)]
pub enum Channel {
    /// Without TLS.
    Clear(TcpStream),
    /// With TLS, of either side.
    Tls(Box<TlsStream<TcpStream>>),
    /// No connection any more: a handshake failed or was given up.
    #[default]
    Gone,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear(_) => "Channel::Clear",
            Self::Tls(_) => "Channel::Tls",
            Self::Gone => "Channel::Gone",
        })
    }
}

impl Channel {
    /// Whether TLS is in use.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Runs the handshake as the server. Octets that came before must have been read. Not cancel-safe: dropped half-way, the
    /// connection is closed.
    ///
    /// # Errors
    /// The peer fails the handshake, or the network does.
    pub async fn accept(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let Self::Clear(stream) = self else { return Err(io::Error::other("TLS is spoken already")) };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// Runs the handshake as the client, with a server of this name. Not cancel-safe: dropped half-way, the connection is closed.
    ///
    /// # Errors
    /// The server fails the handshake, or its certificate is not accepted.
    pub async fn connect(self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let Self::Clear(stream) = self else { return Err(io::Error::other("TLS is spoken already")) };
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// The TCP connection underneath; none once a handshake has failed.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Clear(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Gone => None,
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Gone => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
