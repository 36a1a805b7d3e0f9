//! The SMTP server: its listeners, its sessions, and the snapshot of the configuration that they work by.
//!
//! A mail's way: `session` reads the upstream's commands from its [`connection`] and sends them on to the next hop by its
//! `relay`; the data comes by [`incoming`], and goes to the next hop, too, once the pipeline has decided.

mod client_info;
pub mod connection;
pub mod incoming;
mod received;
mod session;

pub use session::as_kept;

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use crate::{
    limits,
    pipeline::{Pipeline, RefusedBy, Stage},
    service::{
        Shutdown,
        listener::{Accepted, ListenerFailed, Listeners, OnFailure, Refused, Service},
        memory::MemoryBudget,
        permits::{ClientKey, Permits},
    },
    smtp::{
        client::{pool::Pool, route::Route},
        codec::reply::Reply,
        config::Config,
    },
    tls::{self, TlsError},
};

/// The server: all that its sessions share for the life of the process.
pub struct Server {
    snapshot: ArcSwap<Snapshot>,
    permits: Arc<Permits>,
    memory: MemoryBudget,
    route: Route,
}

/// Configuration, TLS and pipeline of one moment. A reload replaces it; each mail is handled by one snapshot from MAIL to its
/// record.
pub struct Snapshot {
    /// The settings of both sides of SMTP.
    pub config: Config,
    /// The pipeline that decides about mails.
    pub pipeline: Arc<Pipeline>,
    server_tls: Option<Arc<ServerConfig>>,
    client_tls: Option<Arc<ClientConfig>>,
    pool: Arc<Pool>,
}

impl Snapshot {
    /// Makes a snapshot; reads the files of certificates and authorities.
    ///
    /// # Errors
    /// A file cannot be read, or does not hold what the configuration requires.
    pub fn new(config: Config, pipeline: Arc<Pipeline>) -> Result<Self, TlsError> {
        let server_tls = config.certificate.as_ref().map(tls::server).transpose()?;
        let client_tls = tls::client(config.next_hop_tls, config.authorities.as_deref())?;
        let pool = Arc::new(Pool::new(config.pool, Arc::clone(&pipeline.shared.metrics)));
        Ok(Self { config, pipeline, server_tls, client_tls, pool })
    }
}

impl Server {
    /// A server that works by this snapshot, and takes the memory for its mails from this budget.
    #[must_use]
    pub fn new(snapshot: Snapshot, memory: MemoryBudget) -> Self {
        let failures = Arc::clone(&snapshot.pipeline.shared.needs.next_hop);
        Self {
            memory,
            snapshot: ArcSwap::from_pointee(snapshot),
            permits: Arc::new(Permits::new(ClientKey::Address)),
            route: Route::default().reporting(failures),
        }
    }

    /// Puts another snapshot in force, from each session's next mail on. Connections to next hops that wait are closed.
    pub fn replace(&self, snapshot: Snapshot) {
        self.snapshot.swap(Arc::new(snapshot)).pool.close();
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Sessions that are open, in number.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.permits.open()
    }

    /// Whether sessions are so many that idle ones get less time.
    fn is_crowded(&self, config: &Config) -> bool {
        self.open_sessions() * 100 >= config.bounds.connections * limits::CROWDED
    }
}

/// A bound socket, and whether TLS is spoken on it from the first octet.
#[derive(Debug)]
pub struct Listener {
    /// The socket on which upstreams connect.
    pub socket: TcpListener,
    /// Whether its sessions start in TLS.
    pub start: Start,
}

/// Whether a session starts in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In the clear; STARTTLS may follow (RFC 3207).
    Clear,
    /// With a TLS handshake (RFC 8314 section 3.3).
    Tls,
}

/// Serves until the drain begins; then lets sessions finish their mails, and cuts those that take longer than `deadlines.drain`.
///
/// # Errors
/// A listener failed; the drain began because of it.
pub async fn run(listeners: Vec<Listener>, server: Arc<Server>, shutdown: Shutdown) -> Result<(), ListenerFailed> {
    let metrics = Arc::clone(&server.snapshot().pipeline.shared.metrics);
    let mut all = Listeners::new("smtp", metrics, OnFailure::Stop, shutdown.clone());
    for Listener { socket, start } in listeners {
        let key = if start == Start::Tls { "smtp.listen_tls" } else { "smtp.listen" };
        let name = socket.local_addr().map_or_else(|_| key.to_owned(), |address| format!("{key} {address}"));
        all.listen(name, socket, Arc::new(Sessions { server: Arc::clone(&server), start }));
    }
    let draining = tokio::spawn({
        let (server, drain) = (Arc::clone(&server), shutdown.drain.clone());
        async move {
            drain.cancelled().await;
            server.snapshot.load().pool.close();
        }
    });
    let ended = all.run(|| server.snapshot().config.deadlines.drain).await;
    draining.abort();
    // A reload may have come in between.
    server.snapshot.load().pool.close();
    ended
}

/// The sessions of one listener.
struct Sessions {
    server: Arc<Server>,
    start: Start,
}

impl Service<TcpStream> for Sessions {
    fn permits(&self) -> &Arc<Permits> {
        &self.server.permits
    }

    fn most(&self) -> usize {
        self.server.snapshot.load().config.bounds.connections
    }

    fn most_of(&self, _client: IpAddr) -> usize {
        self.server.snapshot.load().config.bounds.connections_per_address
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.server.snapshot.load().config.proxies.iter().any(|network| network.contains(peer))
    }

    fn accepts(&self, client: IpAddr) -> bool {
        let snapshot = self.server.snapshot.load();
        let listed = &snapshot.config.accept_from;
        listed.is_empty() || listed.iter().any(|network| network.contains(client))
    }

    fn refuse(&self, why: Refused, client: IpAddr) -> Vec<u8> {
        let snapshot = self.server.snapshot.load();
        let hostname = &snapshot.config.hostname;
        let reply = match why {
            Refused::TooMany => Reply::new(421, format!("{hostname} 4.3.2 too many sessions, try again soon")),
            Refused::TooManyOfClient => Reply::new(421, format!("{hostname} 4.7.0 too many sessions from your address, try again soon")),
            Refused::NotAccepted => Reply::new(554, "5.7.1 you may not connect here"),
        };
        snapshot.pipeline.shared.refused(RefusedBy::Hop, Stage::Connection, reply.code(), client);
        let mut told = Vec::new();
        reply.write(&mut told);
        told
    }

    async fn serve(self: Arc<Self>, connection: Accepted<TcpStream>) {
        session::serve(connection, self.start, &self.server).await;
    }
}
