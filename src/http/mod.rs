//! HTTP servers: the guard page, which only a person's press gets past, and the admin page (`admin`).
//!
//! A reader opens a guard link; `guard` opens the seal, shows who sent the mail and where the link leads, and only a press
//! of the button sends the browser on. Each open and each press is put on record. The mail path never waits for it:
//! it shares nothing with it but the audit's queue and, where guard links are stored, their folder.

pub mod admin;
mod clicks;
mod client_permits;
mod guard;
mod page;
pub mod words;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use self::{client_permits::ClientPermits, words::Languages};
use crate::{
    audit::Audit,
    clock,
    edit::{guard_link::GuardLinkKeys, tag::Key},
    identity::Network,
    limits,
    link_store::LinkStore,
    metrics::Metrics,
    tls::{self, CertificateFiles, TlsError},
};

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where readers' browsers connect, or the proxy in front.
    pub listen: SocketAddr,
    /// Seals and opens.
    pub guard_links: Arc<GuardLinkKeys>,
    /// Where guard links are stored; none where each holds what it needs.
    pub links: Option<Arc<LinkStore>>,
    /// Signs what goes back with a press.
    pub nonces: Key,
    /// For TLS here; without it a proxy in front does it.
    pub certificate: Option<CertificateFiles>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub proxies: Vec<Network>,
    /// How a reader shows that it is a person.
    pub confirm: Confirm,
    /// Names to choose among beside the sender's.
    pub others: Vec<String>,
    /// A picture on every page.
    pub logo: Option<Logo>,
    /// A sentence on every page.
    pub note: String,
    /// Whether the help desk's page is there.
    pub help_desk: HelpDesk,
}

/// How a reader shows that it is a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// By a press of a button.
    Press,
    /// By choosing the sender among three names.
    Choose,
}

/// Whether `/unwrap` is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelpDesk {
    /// It is.
    Open,
    /// It is not.
    Closed,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logo {
    /// Its media type.
    pub kind: &'static str,
    /// Its octets.
    pub octets: Vec<u8>,
}

/// What all requests share.
pub struct Server {
    current: ArcSwap<Config>,
    tls: ArcSwap<Option<Arc<ServerConfig>>>,
    audit: Option<Audit>,
    metrics: Arc<Metrics>,
    languages: Languages,
    rates: Mutex<HashMap<IpAddr, (i64, u32)>>,
    permits: Arc<Semaphore>,
    /// Connections by TCP peer.
    connections: Arc<ClientPermits>,
    /// Requests under way, by the client that a trusted proxy names.
    requests: Arc<ClientPermits>,
}

impl Server {
    /// A server that answers as this configuration says.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(config: Config, audit: Option<Audit>) -> Result<Self, GuardError> {
        let tls = config.certificate.as_ref().map(tls::server).transpose()?;
        Ok(Self {
            tls: ArcSwap::from_pointee(tls),
            current: ArcSwap::from_pointee(config),
            audit,
            metrics: Arc::default(),
            languages: Languages::built_in()?,
            rates: Mutex::default(),
            permits: Arc::new(Semaphore::new(limits::GUARD_CONNECTIONS)),
            connections: Arc::default(),
            requests: Arc::default(),
        })
    }

    /// The same server, counting there.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Goes by another config from the next request on.
    ///
    /// # Errors
    /// Where its TLS cannot be set up; the one from before stays.
    pub fn replace(&self, config: Config) -> Result<(), GuardError> {
        let tls = config.certificate.as_ref().map(tls::server).transpose()?;
        self.tls.store(Arc::new(tls));
        self.current.store(Arc::new(config));
        Ok(())
    }

    /// Whether an address may ask once more in this minute.
    fn admits(&self, address: IpAddr) -> bool {
        let (address, minute) = (client_permits::network(address), clock::now().as_second() / 60);
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= limits::GUARD_ADDRESSES {
            rates.retain(|_, (at, _)| *at == minute);
            // So many addresses in one minute: whoever is not known yet waits for the next one.
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

/// Why the server cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The program was built from broken data.
    #[error("built-in words: {0}")]
    Words(#[from] toml::de::Error),
}

/// Serves until `stop` turns true; then gives requests that are under way a moment.
pub async fn run(listener: TcpListener, server: Arc<Server>, stop: watch::Receiver<bool>) {
    let mut connections = take(listener, &server.permits, stop, |stream, peer| {
        let is_proxy = server.current.load().proxies.iter().any(|proxy| proxy.contains(peer));
        let most = if is_proxy { limits::GUARD_CONNECTIONS_PER_PROXY } else { limits::GUARD_CONNECTIONS_PER_CLIENT };
        // Too many of one peer: the connection is closed at once.
        let permit = server.connections.admit(peer, most)?;
        let server = Arc::clone(&server);
        Some(async move {
            let _ = serve(stream, peer, server).await;
            drop(permit);
        })
    })
    .await;
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(DRAIN, drained).await;
}

/// Takes connections while there are `permits`, until `stop` turns true; those that are still open then. `serve` gives none
/// for a connection that is to be closed.
async fn take<Served: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    permits: &Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, IpAddr) -> Option<Served>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return connections,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { continue };
        let Some(served) = serve(stream, peer.ip().to_canonical()) else { continue };
        connections.spawn(async move {
            // Whatever a client does, it is gone after this.
            let _ = timeout(limits::HTTP_CONNECTION, served).await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, server: Arc<Server>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let tls = server.tls.load_full();
    match tls.as_ref() {
        Some(config) => {
            let stream = timeout(limits::GUARD_HEADER, TlsAcceptor::from(Arc::clone(config)).accept(stream)).await??;
            talk(TokioIo::new(stream), peer, guard::router(server, peer)).await;
        }
        None => talk(TokioIo::new(stream), peer, guard::router(server, peer)).await,
    }
    Ok(())
}

async fn talk(stream: impl hyper::rt::Read + hyper::rt::Write + Unpin, peer: IpAddr, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::GUARD_HEADER).max_buf_size(limits::GUARD_BUFFER).max_headers(64);
    if let Err(error) = http.serve_connection(stream, service).await {
        tracing::debug!(client = %peer, %error, "an HTTP connection broke off");
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For requests that are under way when the service stops.
const DRAIN: Duration = Duration::from_secs(5);
