//! The milter server: an MTA asks, over the milter protocol, what to change in its mails.
//!
//! A mail's way: [`codec`] reads what the MTA tells, [`assembly`] puts the mail together, the session hands it to the same
//! pipeline as the SMTP server does, and the pipeline's patches go back as header changes. The mail itself stays with the MTA: this
//! server can neither lose nor delay it beyond the MTA's own deadline.

pub mod assembly;
pub mod codec;
mod session;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{limits, pipeline::Pipeline};

/// How the server is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where MTAs connect.
    pub listen: Vec<Address>,
    /// Who may open the sockets in the file system, as in 0o660.
    pub socket_mode: u32,
    /// Whose the sockets are; none leaves them with whoever runs the program.
    pub socket_owner: Option<Owner>,
    /// The hop's own name: Authentication-Results that claim it are removed.
    pub hostname: String,
    /// Octets up to which a mail is inspected.
    pub inspect_limit: usize,
    /// Connections at one time.
    pub connections: usize,
    /// For sessions to finish their mails when the service stops.
    pub drain: Duration,
}

/// Where an MTA connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `inet:127.0.0.1:8891`, `inet6:[::1]:8891`.
    Inet(SocketAddr),
    /// `unix:/run/firstclick/milter.sock`.
    Unix(PathBuf),
}

/// Owner and group of a socket, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// What all sessions share.
pub struct Server {
    pipeline: ArcSwap<Pipeline>,
    memory: Arc<Semaphore>,
    permits: Arc<Semaphore>,
}

impl Server {
    /// A server that decides by this pipeline.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, config: &Config) -> Self {
        let memory = Arc::new(Semaphore::new((limits::MEMORY / limits::MEMORY_STEP).min(Semaphore::MAX_PERMITS)));
        let permits = Arc::new(Semaphore::new(config.connections.min(Semaphore::MAX_PERMITS)));
        Self { pipeline: ArcSwap::from(pipeline), memory, permits }
    }

    /// Puts another pipeline in force, from the next mail on; sessions stay.
    pub fn replace(&self, pipeline: Arc<Pipeline>) {
        self.pipeline.store(pipeline);
    }

    /// The pipeline in force.
    #[must_use]
    pub fn pipeline(&self) -> Arc<Pipeline> {
        self.pipeline.load_full()
    }
}

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// Over the network.
    Inet(TcpListener),
    /// In the file system; the file goes with it.
    Unix(UnixListener, SocketFile),
}

/// A socket's file; it is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds every address that the configuration names.
///
/// # Errors
/// Names the address that cannot be bound.
pub async fn bind(config: &Config) -> Result<Vec<Listener>, (String, io::Error)> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        listeners.push(match address {
            Address::Inet(address) => Listener::Inet(TcpListener::bind(address).await.map_err(|error| (address.to_string(), error))?),
            Address::Unix(path) => bind_unix(path, config).map_err(|error| (path.display().to_string(), error))?,
        });
    }
    Ok(listeners)
}

fn bind_unix(path: &Path, config: &Config) -> io::Result<Listener> {
    // A socket that nobody listens on is what an earlier run left behind.
    let left = fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
    if left && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    if let Some(owner) = config.socket_owner {
        std::os::unix::fs::chown(path, Some(owner.user), Some(owner.group))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(config.socket_mode))?;
    Ok(Listener::Unix(socket, file))
}

/// Serves until `stop` turns true; then lets sessions finish their mails, and cuts those that take longer than `drain`.
pub async fn run(listeners: Vec<Listener>, server: Arc<Server>, drain: Duration, mut stop: watch::Receiver<bool>) {
    let sessions = Arc::new(tokio::sync::Mutex::new(JoinSet::new()));
    let mut listening = JoinSet::new();
    for listener in listeners {
        let (server, stop, sessions) = (Arc::clone(&server), stop.clone(), Arc::clone(&sessions));
        listening.spawn(async move { accept(&listener, &server, &stop, &sessions).await });
    }
    let _ = stop.wait_for(|stop| *stop).await;
    listening.shutdown().await;
    let mut sessions = sessions.lock().await;
    let drained = async { while sessions.join_next().await.is_some() {} };
    if timeout(drain, drained).await.is_err() {
        tracing::warn!(cut = sessions.len(), "stopping: milter sessions took too long and are cut");
        sessions.shutdown().await;
    }
}

async fn accept(listener: &Listener, server: &Arc<Server>, stop: &watch::Receiver<bool>, sessions: &tokio::sync::Mutex<JoinSet<()>>) {
    loop {
        let accepted = match listener {
            Listener::Inet(socket) => socket.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                Box::new(stream) as Box<dyn Stream>
            }),
            Listener::Unix(socket, _) => socket.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>),
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a milter connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Hung up on, the MTA does what its default action says.
        let Ok(permit) = Arc::clone(&server.permits).try_acquire_owned() else {
            tracing::warn!(bound = "milter.connections", "turned away");
            continue;
        };
        let open = server.pipeline().metrics.session("milter");
        let (server, stop) = (Arc::clone(server), stop.clone());
        let mut sessions = sessions.lock().await;
        while sessions.try_join_next().is_some() {}
        sessions.spawn(async move {
            if let Err(error) = Box::pin(session::serve(stream, &server, stop)).await {
                tracing::warn!(%error, "milter session broke off");
            }
            drop((permit, open));
        });
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
