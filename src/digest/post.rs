//! Sends a mail by SMTP, with lettre. What became of it is told exactly: taken, certainly not sent, or unknown.

use std::{fmt, time::Duration};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, Mechanism},
    client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
    commands::{Data, Mail, Rcpt},
    extension::ClientId,
};
use tokio::time::timeout;

use super::letter::Letter;
use crate::limits;

/// The server that takes the mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How TLS is spoken with it.
    pub tls: Tls,
    /// The authorities that its certificate may be signed by, in PEM; none: the system's.
    pub authorities: Option<Vec<u8>>,
    /// As whom to log in; none: as nobody.
    pub login: Option<Login>,
}

/// How TLS is spoken. The certificate is verified, whichever way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Off,
    /// By STARTTLS; without it there is no mail.
    #[default]
    StartTls,
    /// From the first octet.
    FromTheStart,
}

/// As whom to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Password,
}

/// A password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password with these characters.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// What became of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The server has taken it.
    Taken,
    /// The server refused this mail; nothing was sent. Its words.
    Refused(String),
    /// There was no session in which it could have been sent.
    Unreachable(String),
    /// It was sent, and the server has not said whether it has it.
    Unknown(String),
}

/// Sends a mail; the hop calls itself `hop`. It takes [`limits::DIGEST_SEND`] at most.
pub async fn send(server: &Server, hop: &str, letter: &Letter) -> Delivery {
    let opened = timeout(SESSION, open(server, hop)).await;
    let mut session = match opened {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return Delivery::Unreachable(words(&error)),
        Err(_) => return Delivery::Unreachable("it did not answer in time".into()),
    };
    let envelope = timeout(SESSION, envelope(&mut session, letter)).await;
    let ready = match envelope {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Delivery::Refused(words(&error))),
        Err(_) => Err(Delivery::Unreachable("it did not answer in time".into())),
    };
    let delivery = match ready {
        Err(delivery) => delivery,
        Ok(()) => match timeout(limits::DIGEST_SEND, session.message(&letter.octets)).await {
            Ok(Ok(_)) => Delivery::Taken,
            Ok(Err(error)) if error.status().is_some() => Delivery::Refused(words(&error)),
            Ok(Err(error)) => Delivery::Unknown(words(&error)),
            Err(_) => Delivery::Unknown("it did not answer in time".into()),
        },
    };
    // The mail's fate is known: whether it hears QUIT is of no matter.
    let _ = timeout(Duration::from_secs(5), session.abort()).await;
    delivery
}

/// For the connection, TLS and the log-in, and again for the envelope.
const SESSION: Duration = Duration::from_mins(1);

async fn open(server: &Server, hop: &str) -> Result<AsyncSmtpConnection, Error> {
    let hello = ClientId::Domain(hop.to_owned());
    let parameters = || {
        let builder = TlsParameters::builder(server.host.clone());
        match &server.authorities {
            None => builder.build(),
            Some(pem) => {
                let builder = builder.certificate_store(CertificateStore::None);
                builder.add_root_certificate(Certificate::from_pem(pem)?).build()
            }
        }
    };
    let wrapped = if server.tls == Tls::FromTheStart { Some(parameters()?) } else { None };
    let address = (server.host.as_str(), server.port);
    let mut session = AsyncSmtpConnection::connect_tokio1(address, Some(SESSION), &hello, wrapped, None).await?;
    if server.tls == Tls::StartTls {
        session.starttls(parameters()?, &hello).await?;
    }
    if let Some(Login { username, password }) = &server.login {
        let credentials = Credentials::new(username.clone(), password.0.clone());
        session.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
    }
    Ok(session)
}

async fn envelope(session: &mut AsyncSmtpConnection, letter: &Letter) -> Result<(), Error> {
    session.command(Mail::new(letter.envelope.from().cloned(), Vec::new())).await?;
    for to in letter.envelope.to() {
        session.command(Rcpt::new(to.clone(), Vec::new())).await?;
    }
    session.command(Data).await.map(drop)
}

/// An error on one line; the server's words are a stranger's.
fn words(error: &Error) -> String {
    super::text::plain(&error.to_string())
}
