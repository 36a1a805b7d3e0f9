//! The listeners of all protocols: a permit among all before anything is read, a PROXY header in the session's own task, then a
//! permit of the client and whether it may connect, and then the protocol's session.
//!
//! A refused client gets its reply on a connection that is closed for writing and read from for a moment, because a reset would
//! take the reply away from a client that was still sending. A session that panics ends alone and is counted. A listener that
//! fails stops the service in good order, unless the service can do without it.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    Shutdown,
    permits::{Permit, Permits},
    proxy,
};
use crate::{limits, metrics::Metrics};

/// A bound socket, of TCP or in the file system.
pub trait Socket: Send + Sync + 'static {
    /// The stream of one connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection; returns its stream and the peer's address. Cancel-safe.
    ///
    /// # Errors
    /// The error of the system: no connection can be taken, now or ever again.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, IpAddr)>> + Send;
}

impl Socket for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        let (stream, peer): (TcpStream, SocketAddr) = self.accept().await?;
        let _ = stream.set_nodelay(true);
        Ok((stream, peer.ip().to_canonical()))
    }
}

impl Socket for UnixListener {
    type Stream = UnixStream;

    /// The peer of a socket in the file system is this host: its address is loopback.
    async fn accept(&self) -> io::Result<(UnixStream, IpAddr)> {
        Ok((self.accept().await?.0, IpAddr::V4(Ipv4Addr::LOCALHOST)))
    }
}

/// A protocol, as the listener uses it. Each method is called anew for each connection, so that a reload takes effect.
pub trait Service<S>: Send + Sync + 'static {
    /// The permits of the protocol's connections.
    fn permits(&self) -> &Arc<Permits>;

    /// The most connections at one time, of all clients.
    fn most(&self) -> usize;

    /// The most connections of one client at one time.
    fn most_of(&self, client: IpAddr) -> usize;

    /// Whether connections of this TCP peer start with a PROXY header.
    fn is_proxy(&self, _peer: IpAddr) -> bool {
        false
    }

    /// Whether this client may connect (`accept_from`).
    fn accepts(&self, _client: IpAddr) -> bool {
        true
    }

    /// Counts a refused client. Returns the octets to send to it; none where the protocol has no reply for it.
    fn refuse(&self, why: Refused, client: IpAddr) -> Vec<u8>;

    /// Runs the session to its end. It is dropped where it stands once sessions are cut.
    fn serve(self: Arc<Self>, connection: Accepted<S>) -> impl Future<Output = ()> + Send;
}

/// A connection that has its permits.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The stream, read from up to the end of the PROXY header, if any.
    pub stream: S,
    /// Octets that were read from it behind the PROXY header.
    pub input: Vec<u8>,
    /// The address of the TCP peer, or of the client in its PROXY header; loopback for a socket in the file system.
    pub client: IpAddr,
    /// The signals that stop the service.
    pub shutdown: Shutdown,
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The bound on all connections is reached.
    TooMany,
    /// The bound on this client's connections is reached.
    TooManyOfClient,
    /// The client is not among those that may connect.
    NotAccepted,
}

/// What a failed listener does to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The service stops: it cannot do its work without this listener.
    Stop,
    /// The service goes on, and the log has a warning.
    Warn,
}

/// A listener has failed: no connection comes in there any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "the listener {name} has died: {error}. The service stops, so that whoever watches over it starts it again (systemd: Restart=on-failure); if this comes back, look for what closes its socket"
)]
pub struct ListenerFailed {
    /// The key of the configuration and the address, as in `smtp.listen 127.0.0.1:2525`.
    pub name: String,
    /// The error of the system.
    pub error: io::Error,
}

/// The listeners of one protocol and their sessions.
pub struct Listeners {
    listening: JoinSet<ListenerFailed>,
    sessions: Sessions,
    on_failure: OnFailure,
}

impl Listeners {
    /// Without a listener. `protocol` is the label in log and metrics.
    #[must_use]
    pub fn new(protocol: &'static str, metrics: Arc<Metrics>, on_failure: OnFailure, shutdown: Shutdown) -> Self {
        let sessions = Sessions {
            protocol,
            metrics,
            tracker: TaskTracker::new(),
            shutdown: shutdown.cut_apart(),
            refusals: Arc::new(Semaphore::new(limits::REFUSALS)),
            warned: Arc::default(),
        };
        Self { listening: JoinSet::new(), sessions, on_failure }
    }

    /// Takes connections of this socket. `name` is the key of the configuration, and the address.
    pub fn listen<L: Socket, S: Service<L::Stream>>(&mut self, name: String, socket: L, service: Arc<S>) {
        let sessions = self.sessions.clone();
        self.listening.spawn(async move {
            let died = AssertUnwindSafe(accept(&socket, &service, &sessions)).catch_unwind().await;
            ListenerFailed { name, error: died.unwrap_or_else(|_| io::Error::other("its task panicked")) }
        });
    }

    /// Serves until the drain begins or a listener fails, which begins it with [`OnFailure::Stop`]. Then sessions have the time
    /// that `drain` returns to finish, and are cut.
    ///
    /// # Errors
    /// A listener failed.
    pub async fn run(mut self, drain: impl FnOnce() -> Duration) -> Result<(), ListenerFailed> {
        let Sessions { protocol, tracker, shutdown, .. } = self.sessions;
        let died = tokio::select! {
            () = shutdown.drain.cancelled() => None,
            Some(died) = self.listening.join_next() => Some(died.unwrap_or_else(|error| ListenerFailed { name: protocol.to_owned(), error: error.into() })),
        };
        match (&died, self.on_failure) {
            (Some(died), OnFailure::Stop) => tracing::error!("{died}"),
            (Some(died), OnFailure::Warn) => {
                tracing::warn!(listener = died.name, error = %died.error, "a listener has died; mails go on, restart the service when it suits");
            }
            (None, _) => {}
        }
        // At once, so that `/readyz` is 503 from here on.
        shutdown.drain.cancel();
        self.listening.shutdown().await;
        tracker.close();
        tracing::info!(protocol, open = tracker.len(), "stopping: sessions finish their mails");
        if timeout(drain(), tracker.wait()).await.is_err() {
            tracing::warn!(protocol, cut = tracker.len(), "stopping: sessions took too long and are cut");
            shutdown.cut.cancel();
            // A future is dropped within a moment, unless it computes.
            let _ = timeout(limits::CUT, tracker.wait()).await;
        }
        match (died, self.on_failure) {
            (Some(died), OnFailure::Stop) => Err(died),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("protocol", &self.sessions.protocol).finish_non_exhaustive()
    }
}

/// What the tasks of one protocol share.
#[derive(Clone)]
struct Sessions {
    protocol: &'static str,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    shutdown: Shutdown,
    /// Permits to send a refused client its reply.
    refusals: Arc<Semaphore>,
    /// When the log last had a line about a refused client.
    warned: Arc<Mutex<Option<Instant>>>,
}

/// Takes connections until the socket fails; returns the error.
async fn accept<L: Socket, S: Service<L::Stream>>(socket: &L, service: &Arc<S>, sessions: &Sessions) -> io::Error {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let permit = service.permits().admit(service.most()).ok();
                let (of, service) = (sessions.clone(), Arc::clone(service));
                sessions.spawn(Box::pin(async move {
                    match permit {
                        Some(permit) => of.admit(stream, peer, permit, service).await,
                        None => of.refuse(stream, peer, Refused::TooMany, &*service).await,
                    }
                }));
            }
            Err(error) if is_final(&error) => return error,
            Err(error) => {
                // Out of file descriptors, most likely: wait for sessions to end rather than spin.
                tracing::warn!(protocol = sessions.protocol, %error, "a connection could not be taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether a socket that fails with this error gives no connection ever again: it is closed, or no longer listens.
fn is_final(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let finals = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::OPNOTSUPP, Errno::FAULT];
    finals.iter().any(|last| error.raw_os_error() == Some(last.raw_os_error()))
}

impl Sessions {
    /// Runs a session, which may be cut, and whose panic ends nothing else.
    fn spawn(&self, session: Pin<Box<impl Future<Output = ()> + Send + 'static>>) {
        let (protocol, metrics, cut) = (self.protocol, Arc::clone(&self.metrics), self.shutdown.cut.clone());
        self.tracker.spawn(async move {
            let session = async {
                tokio::select! {
                    biased;
                    () = cut.cancelled() => {}
                    () = session => {}
                }
            };
            if AssertUnwindSafe(session).catch_unwind().await.is_err() {
                metrics.panicked(protocol);
                tracing::error!(protocol, "a session panicked and was ended; report this with the lines above");
            }
        });
    }

    /// A connection that has a permit among all: reads its PROXY header, and takes a permit of the client.
    async fn admit<T, S>(&self, mut stream: T, peer: IpAddr, mut permit: Permit, service: Arc<S>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
        S: Service<T>,
    {
        // From here on it counts as open, as it does for the bound.
        let _open = self.metrics.session(self.protocol);
        let (mut client, mut input, mut is_check) = (peer, Vec::new(), false);
        if service.is_proxy(peer) {
            let header = tokio::select! {
                header = proxy::read_header(&mut stream, limits::PROXY_HEADER) => header,
                () = self.shutdown.drain.cancelled() => return,
            };
            match header {
                Ok((Some(named), rest)) => (client, input) = (named.to_canonical(), rest),
                // The proxy's own health check, or a connection whose client it cannot name.
                Ok((None, rest)) => (is_check, input) = (true, rest),
                Err(error) => {
                    tracing::debug!(protocol = self.protocol, %peer, %error, "no PROXY header");
                    return;
                }
            }
        }
        let refusal = if !is_check && !service.accepts(client) {
            Some(Refused::NotAccepted)
        } else {
            permit.assign(client, service.most_of(client)).err().map(|_| Refused::TooManyOfClient)
        };
        if let Some(why) = refusal {
            // Refused clients take no permit from others.
            drop(permit);
            return self.refuse(stream, client, why, &*service).await;
        }
        service.serve(Accepted { stream, input, client, shutdown: self.shutdown.clone() }).await;
        drop(permit);
    }

    /// Sends a refused client its reply. Where too many are being refused, the connection is closed at once: a refusal must cost
    /// nothing.
    async fn refuse<T, S>(&self, mut stream: T, client: IpAddr, why: Refused, service: &S)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
        S: Service<T>,
    {
        let told = service.refuse(why, client);
        if self.may_warn() {
            tracing::warn!(protocol = self.protocol, %client, ?why, "connection refused; one line a second, all are counted");
        }
        if let Ok(_place) = self.refusals.try_acquire()
            && !told.is_empty()
        {
            hang_up(&mut stream, &told).await;
        }
    }

    /// Whether a line about a refused client may be logged: one a second, so that clients cannot fill the disk.
    fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let may = warned.is_none_or(|at| at.elapsed() >= WARNING);
        if may {
            *warned = Some(Instant::now());
        }
        may
    }
}

/// Sends last octets, closes for writing, and reads on for [`limits::LINGER`] or [`limits::LINGER_OCTETS`]: a connection that is
/// closed with octets unread is reset, and a reset takes the last reply away from a peer that was still sending.
pub async fn hang_up(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), last: &[u8]) {
    let drain = async {
        stream.write_all(last).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        let (mut dropped, mut block) = (0, [0; BLOCK]);
        while dropped < limits::LINGER_OCTETS {
            match stream.read(&mut block).await? {
                0 => break,
                read => dropped += read,
            }
        }
        Ok::<_, io::Error>(())
    };
    // Done or not, the connection is closed afterwards.
    let _ = timeout(limits::LINGER, drain).await;
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two log lines about refused clients.
const WARNING: Duration = Duration::from_secs(1);
/// Octets of one read from a refused peer.
const BLOCK: usize = 4 * 1024;
