//! The milter server: an MTA asks, over the milter protocol, what to change in its mails.
//!
//! A mail's way: [`codec`] reads the MTA's commands, [`assembly`] puts the mail together, the session hands it to the same
//! pipeline as the SMTP server does, and the pipeline's patches go back as header changes. The mail itself stays with the MTA:
//! this server can neither lose nor delay it beyond the MTA's own deadline.

pub mod assembly;
pub mod codec;
mod session;

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
};

use crate::{
    pipeline::{Pipeline, RefusedBy, Stage},
    remedy::Remedy,
    service::{
        Shutdown,
        listener::{Accepted, ListenerFailed, Listeners, OnFailure, Refused, Service, Socket},
        memory::MemoryBudget,
        permits::{ClientKey, Permits},
    },
};

/// The settings of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The sockets on which MTAs connect.
    pub listen: Vec<Address>,
    /// The mode of sockets in the file system, as in 0o660.
    pub socket_mode: u32,
    /// Their owner; none leaves them with the user that runs the program.
    pub socket_owner: Option<Owner>,
    /// The hop's own domain name: Authentication-Results that claim it are removed.
    pub hostname: String,
    /// Octets of the largest mail that is inspected.
    pub inspect_limit: usize,
    /// Connections at one time, of all MTAs.
    pub connections: usize,
    /// Time for sessions to finish their mails once the hop drains.
    pub drain: Duration,
}

/// A socket on which MTAs connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket: `inet:127.0.0.1:8891`, `inet6:[::1]:8891`.
    Inet(SocketAddr),
    /// A socket in the file system: `unix:/run/firstclick/milter.sock`.
    Unix(PathBuf),
}

/// Owner of a socket in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's number (uid).
    pub user: u32,
    /// The group's number (gid).
    pub group: u32,
    /// Both as the admin wrote them, `USER:GROUP`.
    pub written: String,
}

/// The server: all that its sessions share for the life of the process.
pub struct Server {
    pipeline: ArcSwap<Pipeline>,
    memory: MemoryBudget,
    permits: Arc<Permits>,
    /// The most connections at one time.
    connections: usize,
    /// Time for sessions to finish their mails.
    drain: Duration,
}

impl Server {
    /// A server that decides by this pipeline, and takes the memory for its mails from this budget.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, config: &Config, memory: MemoryBudget) -> Self {
        let permits = Arc::new(Permits::new(ClientKey::Address));
        Self { pipeline: ArcSwap::from(pipeline), memory, permits, connections: config.connections, drain: config.drain }
    }

    /// Puts another pipeline in force, from each session's next mail on.
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
    /// A TCP socket.
    Inet(TcpListener),
    /// A socket in the file system.
    Unix(UnixSocket),
}

impl Listener {
    /// Where MTAs find it.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Inet(socket) => Ok(socket.local_addr()?.to_string()),
            Self::Unix(socket) => Ok(socket.path.display().to_string()),
        }
    }
}

/// A socket in the file system; the file is removed when this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket for UnixSocket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, IpAddr)> {
        Socket::accept(&self.listener).await
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Why a socket is not there.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error(transparent)]
    Bind(io::Error),
    /// What stands in the socket's place is something else.
    #[error("it is no socket; move it away, or name another path")]
    Occupied,
    /// The socket cannot be given to its user.
    #[error("cannot give the socket to user {0}: only root may; in milter.socket_owner write the user that firstclick runs as")]
    User(String),
    /// The socket cannot be given to its group.
    #[error(
        "cannot give the socket to group {0}: the service is not in it; add SupplementaryGroups={0} to the unit (systemctl edit firstclick) and restart it"
    )]
    Group(String),
    /// The socket's owner or its mode cannot be set for another reason.
    #[error("its owner and mode cannot be set: {0}")]
    Attributes(io::Error),
}

impl BindError {
    /// Who mends it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Bind(error) | Self::Attributes(error) => Remedy::of(error),
            Self::Occupied | Self::User(_) | Self::Group(_) => Remedy::Mend,
        }
    }
}

/// Binds one address of `listen`.
///
/// # Errors
/// Why it cannot be bound.
pub async fn bind(address: &Address, config: &Config) -> Result<Listener, BindError> {
    match address {
        Address::Inet(address) => TcpListener::bind(address).await.map(Listener::Inet).map_err(BindError::Bind),
        Address::Unix(path) => bind_unix(path, config),
    }
}

fn bind_unix(path: &Path, config: &Config) -> Result<Listener, BindError> {
    // A socket on which nothing listens was left behind by an earlier run.
    match fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_socket() => return Err(BindError::Occupied),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_err() => fs::remove_file(path).map_err(BindError::Bind)?,
        Ok(_) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(BindError::Bind)?;
    let socket = UnixSocket { listener, path: path.to_owned() };
    if let Some(owner) = &config.socket_owner {
        std::os::unix::fs::chown(path, Some(owner.user), Some(owner.group)).map_err(|error| not_given(owner, error))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(config.socket_mode)).map_err(BindError::Attributes)?;
    Ok(Listener::Unix(socket))
}

/// Why a socket cannot be given away: without privileges, a program gives files to its own user and to groups that it is in.
fn not_given(owner: &Owner, error: io::Error) -> BindError {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return BindError::Attributes(error);
    }
    let (user, group) = owner.written.split_once(':').unwrap_or((&owner.written, &owner.written));
    if rustix::process::geteuid().as_raw() == owner.user { BindError::Group(group.to_owned()) } else { BindError::User(user.to_owned()) }
}

/// Serves until the drain begins; then lets sessions finish their mails, and cuts those that take longer than [`Config::drain`].
///
/// # Errors
/// A listener failed; the drain began because of it.
pub async fn run(listeners: Vec<Listener>, server: Arc<Server>, shutdown: Shutdown) -> Result<(), ListenerFailed> {
    let metrics = Arc::clone(&server.pipeline().shared.metrics);
    let mut all = Listeners::new("milter", metrics, OnFailure::Stop, shutdown);
    for listener in listeners {
        match listener {
            Listener::Inet(socket) => {
                let name = socket.local_addr().map_or_else(|_| "milter.listen".to_owned(), |address| format!("milter.listen {address}"));
                all.listen(name, socket, Arc::clone(&server));
            }
            Listener::Unix(socket) => all.listen(format!("milter.listen {}", socket.path.display()), socket, Arc::clone(&server)),
        }
    }
    all.run(|| server.drain).await
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Service<S> for Server {
    fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    fn most(&self) -> usize {
        self.connections
    }

    /// No bound for one client: an MTA may have all connections.
    fn most_of(&self, _client: IpAddr) -> usize {
        self.connections
    }

    /// No octets: the protocol has no reply before its first frame, so the connection is closed, and the MTA applies its
    /// `milter_default_action`. The refusal is counted under the code that SMTP would use.
    fn refuse(&self, _why: Refused, client: IpAddr) -> Vec<u8> {
        self.pipeline().shared.refused(RefusedBy::Hop, Stage::Connection, 421, client);
        Vec::new()
    }

    async fn serve(self: Arc<Self>, connection: Accepted<S>) {
        if let Err(error) = Box::pin(session::serve(connection, &self)).await {
            tracing::warn!(%error, "milter session broke off");
        }
    }
}
