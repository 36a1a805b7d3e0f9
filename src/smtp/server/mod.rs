//! The SMTP server: who may connect, and how the hop starts and stops.
//!
//! A mail's way: `session` reads the upstream's commands from its [`connection`] and passes them to the next hop through its
//! relay; the data waits in [`spool`] while the pipeline decides; then it goes on.

mod client_info;
pub mod connection;
mod permits;
mod received;
mod session;
pub mod spool;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use self::{connection::Connection, permits::Permits, spool::MemoryBudget};
use crate::{
    limits,
    pipeline::Pipeline,
    smtp::{client::route::Route, codec::reply::Reply, config::Config},
    tls::{self, Channel, TlsError},
};

/// What all sessions share, for the life of the process.
pub struct Server {
    snapshot: ArcSwap<Snapshot>,
    permits: Arc<Permits>,
    /// For those who are being sent away.
    refusals: Semaphore,
    memory: MemoryBudget,
    pub(in crate::smtp) route: Route,
}

/// Configuration, TLS and pipeline of one moment. A reload puts another one in its place; each mail is dealt with by one of them from MAIL to its record.
pub struct Snapshot {
    /// What the admin decided.
    pub config: Config,
    /// Where mails are decided.
    pub pipeline: Arc<Pipeline>,
    server_tls: Option<Arc<ServerConfig>>,
    pub(in crate::smtp) client_tls: Option<Arc<ClientConfig>>,
}

impl Snapshot {
    /// Reads certificates and authorities.
    ///
    /// # Errors
    /// Where TLS cannot be set up as the configuration says.
    pub fn new(config: Config, pipeline: Arc<Pipeline>) -> Result<Self, TlsError> {
        let server_tls = config.certificate.as_ref().map(tls::server).transpose()?;
        let client_tls = tls::client(config.next_hop_tls, config.authorities.as_deref())?;
        Ok(Self { config, pipeline, server_tls, client_tls })
    }
}

impl Server {
    /// A server that takes mails as this snapshot says.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        let memory = MemoryBudget::of(snapshot.config.bounds.memory);
        Self {
            memory,
            snapshot: ArcSwap::from_pointee(snapshot),
            permits: Arc::default(),
            refusals: Semaphore::new(limits::REFUSALS),
            route: Route::default(),
        }
    }

    /// Puts another snapshot in force: sessions stay, and their next mail is decided by it.
    pub fn replace(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Tells a peer why it has no session, and waits for a moment until it has heard that. Where too many are being told,
    /// it is only closed: those who are sent away must cost nothing.
    async fn refuse(&self, mut connection: Connection, reply: &Reply) {
        if let Ok(_place) = self.refusals.try_acquire() {
            connection.queue(reply);
            connection.hang_up().await;
        }
    }

    /// Sessions that are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.permits.open()
    }
}

/// A listener, and whether TLS is spoken on it from the first octet.
#[derive(Debug)]
pub struct Listener {
    /// Where upstreams connect.
    pub socket: TcpListener,
    /// How they start.
    pub start: Start,
}

/// How a session starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In the clear; STARTTLS may follow.
    Clear,
    /// ReceivedWith a handshake (RFC 8314 section 3.3).
    Tls,
}

/// Binds every address that the configuration names.
///
/// # Errors
/// Names the address that cannot be bound.
pub async fn bind(config: &Config) -> Result<Vec<Listener>, (SocketAddr, io::Error)> {
    let mut listeners = Vec::new();
    let clear = config.listen.iter().map(|address| (*address, Start::Clear));
    for (address, start) in clear.chain(config.listen_tls.iter().map(|address| (*address, Start::Tls))) {
        let socket = TcpListener::bind(address).await.map_err(|error| (address, error))?;
        listeners.push(Listener { socket, start });
    }
    Ok(listeners)
}

/// Serves until `stop` completes; then lets sessions finish their mails, and cuts those that take longer than the drain
/// deadline.
pub async fn run(listeners: Vec<Listener>, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let sessions = Arc::new(tokio::sync::Mutex::new(JoinSet::new()));
    let mut listening = JoinSet::new();
    for listener in listeners {
        let (server, stopped, sessions) = (Arc::clone(&server), stopped.clone(), Arc::clone(&sessions));
        listening.spawn(async move { accept(&listener, &server, &stopped, &sessions).await });
    }
    stop.await;
    listening.shutdown().await;
    let _ = stopping.send(true);
    let mut sessions = sessions.lock().await;
    while sessions.try_join_next().is_some() {}
    tracing::info!(open = sessions.len(), "stopping: sessions finish their mails");
    let drain = async { while sessions.join_next().await.is_some() {} };
    if timeout(server.snapshot().config.deadlines.drain, drain).await.is_err() {
        tracing::warn!(cut = sessions.len(), "stopping: sessions took too long and are cut");
        sessions.shutdown().await;
    }
}

async fn accept(listener: &Listener, server: &Arc<Server>, stopped: &watch::Receiver<bool>, sessions: &tokio::sync::Mutex<JoinSet<()>>) {
    loop {
        let (stream, peer) = match listener.socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for sessions to end rather than spin.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let snapshot = server.snapshot();
        let peer = peer.ip().to_canonical();
        let (server, stopped, start) = (Arc::clone(server), stopped.clone(), listener.start);
        let mut sessions = sessions.lock().await;
        while sessions.try_join_next().is_some() {}
        if let Ok(place) = server.permits.admit(&snapshot.config.bounds) {
            sessions.spawn(session::serve(stream, start, peer, server, stopped, place));
            continue;
        }
        tracing::warn!(upstream = %peer, bound = "smtp.bounds.connections", "turned away");
        let reply = Reply::new(421, format!("{} 4.3.2 too many sessions, try again soon", snapshot.config.hostname));
        let connection = Connection::new(Channel::Clear(stream), Vec::new());
        sessions.spawn(async move { server.refuse(connection, &reply).await });
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
