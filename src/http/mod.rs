//! HTTP servers: the guard page, which only a person's press gets past, and the admin page (`admin`).
//!
//! A reader opens a guard link; `guard` opens the sealed value, shows who sent the mail and where the link leads, and only a
//! press of the button sends the browser on. Each open and each press is recorded. The mail path does not depend on it: they
//! share the audit's queue and, where guard links are stored, their folder.

pub mod admin;
mod clicks;
mod guard;
mod page;
pub mod words;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{Router, http::StatusCode};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use self::words::Languages;
use crate::{
    audit::Audit,
    clock,
    edit::{guard_link::GuardLinkKeys, tag::Key},
    limits,
    link_store::LinkStore,
    mail::Network,
    metrics::Metrics,
    service::{
        Shutdown,
        listener::{Accepted, ListenerFailed, Listeners, OnFailure, Refused, Service},
        permits::{ClientKey, Permits},
    },
    tls::{self, CertificateFiles, TlsError},
};

/// The settings of the guard page.
#[derive(Clone, Debug)]
pub struct Config {
    /// The keys of readers' pseudonyms in the records of clicks; none where their addresses are recorded.
    pub recipient_keys: Vec<Key>,
    /// The address on which readers' browsers, or the proxy in front, connect.
    pub listen: SocketAddr,
    /// The keys of guard links, by which their values open.
    pub guard_links: Arc<GuardLinkKeys>,
    /// The store of guard links; none where each link holds its value.
    pub links: Option<Arc<LinkStore>>,
    /// The key of the nonces in forms.
    pub nonces: Key,
    /// The certificate for TLS here; without it a proxy in front does TLS.
    pub certificate: Option<CertificateFiles>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub proxies: Vec<Network>,
    /// What a reader does to show that a person is there.
    pub confirm: Confirm,
    /// Names to choose among, beside the sender's, with [`Confirm::Choose`].
    pub others: Vec<String>,
    /// The picture on every page.
    pub logo: Option<Logo>,
    /// The admin's own sentence on every page; empty for none.
    pub note: String,
    /// Whether the help desk's page is served.
    pub help_desk: HelpDesk,
}

/// What a reader does to show that a person is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// A press of a button.
    Press,
    /// Choosing the sender among three names.
    Choose,
}

/// Whether `/unwrap`, the help desk's page, is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelpDesk {
    /// `/unwrap` is served.
    Open,
    /// `/unwrap` is 404.
    Closed,
}

/// A picture for the pages, of [`limits::LOGO`] octets at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logo {
    /// The media type, as in `image/png`.
    pub kind: &'static str,
    /// The file's octets.
    pub octets: Vec<u8>,
}

/// The guard page's server: all that its requests share.
pub struct Server {
    current: ArcSwap<Config>,
    tls: ArcSwap<Option<Arc<ServerConfig>>>,
    audit: Option<Audit>,
    metrics: Arc<Metrics>,
    languages: Languages,
    rates: Mutex<HashMap<IpAddr, (i64, u32)>>,
    /// Permits for connections, by TCP peer.
    connections: Arc<Permits>,
    /// Permits for requests that are being handled, by the client that a trusted proxy names.
    requests: Arc<Permits>,
}

impl Server {
    /// A server with these settings, which records clicks in this audit.
    ///
    /// # Errors
    /// [`GuardError`]: TLS cannot be set up.
    pub fn new(config: Config, audit: Option<Audit>) -> Result<Self, GuardError> {
        let tls = config.certificate.as_ref().map(tls::server).transpose()?;
        Ok(Self {
            tls: ArcSwap::from_pointee(tls),
            current: ArcSwap::from_pointee(config),
            audit,
            metrics: Arc::default(),
            languages: Languages::built_in()?,
            rates: Mutex::default(),
            connections: Arc::new(Permits::new(ClientKey::Host)),
            requests: Arc::new(Permits::new(ClientKey::Host)),
        })
    }

    /// The same server, counting in these metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Prepares other settings for [`replace`](Self::replace): all that can fail is done here.
    ///
    /// # Errors
    /// [`GuardError`]: their TLS cannot be set up.
    pub fn prepare(config: Config) -> Result<Prepared, GuardError> {
        let tls = config.certificate.as_ref().map(tls::server).transpose()?;
        Ok(Prepared { config, tls })
    }

    /// Puts other settings in force, from the next request on.
    pub fn replace(&self, prepared: Prepared) {
        self.tls.store(Arc::new(prepared.tls));
        self.current.store(Arc::new(prepared.config));
    }

    /// Whether this address may send one more request in this minute.
    fn admits(&self, address: IpAddr) -> bool {
        let (address, minute) = (ClientKey::Host.of(address), clock::now().as_second() / 60);
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= limits::GUARD_ADDRESSES {
            rates.retain(|_, (at, _)| *at == minute);
            // The table of this minute is full: an address that is not in it waits for the next minute.
            if rates.len() >= limits::GUARD_ADDRESSES && !rates.contains_key(&address) {
                return false;
            }
        }
        let (at, count) = rates.entry(address).or_insert((minute, 0));
        if *at != minute {
            (*at, *count) = (minute, 0);
        }
        *count += 1;
        *count <= limits::GUARD_REQUESTS
    }
}

/// Settings whose certificate was read.
pub struct Prepared {
    config: Config,
    tls: Option<Arc<ServerConfig>>,
}

/// Why the server cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The built-in sentences cannot be read: the program was built from broken data.
    #[error("built-in words: {0}")]
    Words(#[from] toml::de::Error),
}

/// Serves until the drain begins; then requests that are being handled have some seconds to finish.
///
/// # Errors
/// The listener failed; the drain began because of it.
pub async fn run(listener: TcpListener, server: Arc<Server>, shutdown: Shutdown) -> Result<(), ListenerFailed> {
    let mut all = Listeners::new("guard", Arc::clone(&server.metrics), OnFailure::Stop, shutdown);
    let name = listener.local_addr().map_or_else(|_| "guard.listen".to_owned(), |address| format!("guard.listen {address}"));
    all.listen(name, listener, server);
    all.run(|| DRAIN).await
}

impl Service<TcpStream> for Server {
    fn permits(&self) -> &Arc<Permits> {
        &self.connections
    }

    fn most(&self) -> usize {
        limits::GUARD_CONNECTIONS
    }

    fn most_of(&self, client: IpAddr) -> usize {
        let is_proxy = self.current.load().proxies.iter().any(|proxy| proxy.contains(client));
        if is_proxy { limits::GUARD_CONNECTIONS_PER_PROXY } else { limits::GUARD_CONNECTIONS_PER_CLIENT }
    }

    /// No octets: a reply would need a TLS handshake, so the connection is closed. The refusal is counted under the code that
    /// HTTP would use.
    fn refuse(&self, _why: Refused, _client: IpAddr) -> Vec<u8> {
        self.metrics.refused("hop", "connection", StatusCode::SERVICE_UNAVAILABLE.as_u16());
        Vec::new()
    }

    async fn serve(self: Arc<Self>, connection: Accepted<TcpStream>) {
        // Done or not, the connection is closed afterwards.
        let _ = timeout(limits::HTTP_CONNECTION, serve(connection, self)).await;
    }
}

async fn serve(connection: Accepted<TcpStream>, server: Arc<Server>) -> io::Result<()> {
    let Accepted { stream, client: peer, shutdown, .. } = connection;
    let tls = server.tls.load_full();
    match tls.as_ref() {
        Some(config) => {
            let stream = timeout(limits::GUARD_HEADER, TlsAcceptor::from(Arc::clone(config)).accept(stream)).await??;
            talk(TokioIo::new(stream), peer, guard::router(server, peer), &shutdown).await;
        }
        None => talk(TokioIo::new(stream), peer, guard::router(server, peer), &shutdown).await,
    }
    Ok(())
}

/// Serves one connection's requests. Once the drain begins, the current one is the last.
async fn talk(stream: impl hyper::rt::Read + hyper::rt::Write + Unpin, peer: IpAddr, router: Router, shutdown: &Shutdown) {
    let service = TowerToHyperService::new(router);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::GUARD_HEADER).max_buf_size(limits::GUARD_BUFFER).max_headers(64);
    let mut connection = pin!(http.serve_connection(stream, service));
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = shutdown.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(client = %peer, %error, "an HTTP connection broke off");
    }
}

/// Time for requests that are being handled when the drain begins.
const DRAIN: Duration = Duration::from_secs(5);
