//! The SMTP door: who may speak, and how the hop starts and stops.
//!
//! A mail's way: `session` hears the upstream's commands by [`wire`] and [`command`], and tells them to the next hop by
//! `onward` and [`next_hop`]; the data waits in [`holding`] while the hall decides; then it goes on.

mod admission;
pub mod command;
pub mod holding;
pub mod next_hop;
mod onward;
mod origin;
pub mod reply;
mod session;
pub mod setup;
mod trace;
pub mod wire;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use self::{admission::Admission, holding::Memory, next_hop::Route, reply::Reply, setup::Setup, wire::Wire};
use crate::{
    limits,
    pipeline::Hall,
    tls::{self, Channel, TlsError},
};

/// What all sessions share, for the life of the process.
pub struct Front {
    current: ArcSwap<Current>,
    admission: Arc<Admission>,
    /// For those who are being sent away.
    refusals: Semaphore,
    memory: Memory,
    route: Route,
}

/// What mails go by at one moment. A reload puts another one in its place, and each mail sees one of them.
pub struct Current {
    /// How the door is set up.
    pub setup: Setup,
    /// Where mails are decided.
    pub hall: Arc<Hall>,
    inward_tls: Option<Arc<ServerConfig>>,
    onward_tls: Option<Arc<ClientConfig>>,
}

impl Current {
    /// Reads certificates and authorities.
    ///
    /// # Errors
    /// Where TLS cannot be set up as the configuration says.
    pub fn new(setup: Setup, hall: Arc<Hall>) -> Result<Self, TlsError> {
        let inward_tls = setup.certificate.as_ref().map(tls::server).transpose()?;
        let onward_tls = tls::client(setup.outward, setup.authorities.as_deref())?;
        Ok(Self { setup, hall, inward_tls, onward_tls })
    }
}

impl Front {
    /// Opens for business with this.
    #[must_use]
    pub fn new(current: Current) -> Self {
        let memory = Memory::of(current.setup.bounds.memory);
        Self {
            memory,
            current: ArcSwap::from_pointee(current),
            admission: Arc::default(),
            refusals: Semaphore::new(limits::REFUSALS),
            route: Route::default(),
        }
    }

    /// Goes by something else from the next mail on; sessions stay.
    pub fn replace(&self, current: Current) {
        self.current.store(Arc::new(current));
    }

    /// What mails go by now.
    #[must_use]
    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Tells a peer why it has no session, and waits for a moment until it has heard that. Where too many are being told,
    /// it is only closed: those who are sent away must cost nothing.
    async fn turn_away(&self, mut wire: Wire, reply: &Reply) {
        if let Ok(_place) = self.refusals.try_acquire() {
            wire.queue(reply);
            wire.hang_up().await;
        }
    }

    /// Sessions that are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.admission.open()
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
    /// With a handshake (RFC 8314 section 3.3).
    Tls,
}

/// Binds every address that the configuration names.
///
/// # Errors
/// Names the address that cannot be bound.
pub async fn bind(setup: &Setup) -> Result<Vec<Listener>, (SocketAddr, io::Error)> {
    let mut listeners = Vec::new();
    let clear = setup.listen.iter().map(|address| (*address, Start::Clear));
    for (address, start) in clear.chain(setup.listen_tls.iter().map(|address| (*address, Start::Tls))) {
        let socket = TcpListener::bind(address).await.map_err(|error| (address, error))?;
        listeners.push(Listener { socket, start });
    }
    Ok(listeners)
}

/// Serves until `stop` completes; then lets sessions finish their mails, and cuts those that take longer than the drain
/// deadline.
pub async fn run(listeners: Vec<Listener>, front: Arc<Front>, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let sessions = Arc::new(tokio::sync::Mutex::new(JoinSet::new()));
    let mut doors = JoinSet::new();
    for listener in listeners {
        let (front, stopped, sessions) = (Arc::clone(&front), stopped.clone(), Arc::clone(&sessions));
        doors.spawn(async move { accept(&listener, &front, &stopped, &sessions).await });
    }
    stop.await;
    doors.shutdown().await;
    let _ = stopping.send(true);
    let mut sessions = sessions.lock().await;
    while sessions.try_join_next().is_some() {}
    tracing::info!(open = sessions.len(), "stopping: sessions finish their mails");
    let drain = async { while sessions.join_next().await.is_some() {} };
    if timeout(front.current().setup.deadlines.drain, drain).await.is_err() {
        tracing::warn!(cut = sessions.len(), "stopping: sessions took too long and are cut");
        sessions.shutdown().await;
    }
}

async fn accept(listener: &Listener, front: &Arc<Front>, stopped: &watch::Receiver<bool>, sessions: &tokio::sync::Mutex<JoinSet<()>>) {
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
        let current = front.current();
        let peer = peer.ip().to_canonical();
        let (front, stopped, start) = (Arc::clone(front), stopped.clone(), listener.start);
        let mut sessions = sessions.lock().await;
        while sessions.try_join_next().is_some() {}
        if let Ok(place) = front.admission.admit(&current.setup.bounds) {
            sessions.spawn(session::serve(stream, start, peer, front, stopped, place));
            continue;
        }
        tracing::warn!(upstream = %peer, bound = "smtp.bounds.connections", "turned away");
        let reply = Reply::new(421, format!("{} 4.3.2 too many sessions, try again soon", current.setup.hostname));
        let wire = Wire::new(Channel::Clear(stream), Vec::new());
        sessions.spawn(async move { front.turn_away(wire, &reply).await });
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
