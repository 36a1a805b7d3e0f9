//! One way in for all protocols: a permit among all before anything is read, a PROXY header in the session's own task, then a
//! permit of the client and whether it may connect, and then the protocol's session.
//!
//! Whoever is turned away is told why by a connection that is closed for writing and read on for a moment, because a reset
//! would take the reply away from a client that was still sending. A session that panics ends alone and is counted. A listener
//! that dies stops the service in good order, but for one that the service can do without.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

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

/// A bound socket.
pub trait Socket: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection, and says whose it is.
    ///
    /// # Errors
    /// Where none can be taken, now or ever.
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

    /// A peer on a socket in the file system is the machine itself.
    async fn accept(&self) -> io::Result<(UnixStream, IpAddr)> {
        Ok((self.accept().await?.0, IpAddr::V4(Ipv4Addr::LOCALHOST)))
    }
}

/// A protocol, as the listener sees it. All of it is asked anew for each connection, so that a reload takes effect.
pub trait Service<S>: Send + Sync + 'static {
    /// The connections of the protocol.
    fn permits(&self) -> &Arc<Permits>;

    /// The most connections at one time.
    fn most(&self) -> usize;

    /// The most of one client at one time.
    fn most_of(&self, client: IpAddr) -> usize;

    /// Whether connections of this TCP peer start with a PROXY header.
    fn is_proxy(&self, _peer: IpAddr) -> bool {
        false
    }

    /// Whether this client may connect.
    fn accepts(&self, _client: IpAddr) -> bool {
        true
    }

    /// Counts that a client is turned away. Returns the octets that it is told; none where the protocol has no word for it.
    fn turn_away(&self, why: TurnedAway, client: IpAddr) -> Vec<u8>;

    /// Speaks the protocol to its end.
    fn serve(self: Arc<Self>, connection: Accepted<S>) -> impl Future<Output = ()> + Send;
}

/// A connection that is let in.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What is left of it.
    pub stream: S,
    /// Octets that were read from it behind the PROXY header.
    pub input: Vec<u8>,
    /// The TCP peer, or whom its PROXY header names; loopback for a socket in the file system.
    pub client: IpAddr,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// Why a client has no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// There are too many connections.
    TooMany,
    /// There are too many of this client.
    TooManyOfClient,
    /// It may not connect.
    NotAccepted,
}

/// What becomes of the service where a listener dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeath {
    /// It stops: what this listener is for is what the service is for.
    Stop,
    /// It goes on, with a warning.
    Warn,
}

/// A listener has died: nothing comes in there any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "the listener {name} has died: {error}. The service stops, so that whoever watches over it starts it again (systemd: Restart=on-failure); if this comes back, look for what closes its socket"
)]
pub struct ListenerDied {
    /// The key of the configuration, and the address.
    pub name: String,
    /// What the system said.
    pub error: io::Error,
}

/// The listeners of one protocol and their sessions.
pub struct Listeners {
    listening: JoinSet<ListenerDied>,
    sessions: Sessions,
    on_death: OnDeath,
}

impl Listeners {
    /// No listener yet. `protocol` is the label in log and metrics.
    #[must_use]
    pub fn new(protocol: &'static str, metrics: Arc<Metrics>, on_death: OnDeath, shutdown: Shutdown) -> Self {
        let sessions = Sessions {
            protocol,
            metrics,
            tracker: TaskTracker::new(),
            shutdown: shutdown.cut_apart(),
            refusals: Arc::new(Semaphore::new(limits::REFUSALS)),
            warned: Arc::default(),
        };
        Self { listening: JoinSet::new(), sessions, on_death }
    }

    /// Takes connections of this socket. `name` is the key of the configuration, and the address.
    pub fn listen<L: Socket, S: Service<L::Stream>>(&mut self, name: String, socket: L, service: Arc<S>) {
        let sessions = self.sessions.clone();
        self.listening.spawn(async move {
            let died = caught(Box::pin(accept(&socket, &service, &sessions))).await;
            ListenerDied { name, error: died.unwrap_or_else(|| io::Error::other("its task panicked")) }
        });
    }

    /// Serves until the drain begins or a listener dies, which begins it where [`OnDeath::Stop`] says so. Then sessions have
    /// this long to finish, and are cut.
    ///
    /// # Errors
    /// A listener died.
    pub async fn run(mut self, drain: impl FnOnce() -> Duration) -> Result<(), ListenerDied> {
        let Sessions { protocol, tracker, shutdown, .. } = self.sessions;
        let died = tokio::select! {
            () = shutdown.drain.cancelled() => None,
            Some(died) = self.listening.join_next() => Some(died.unwrap_or_else(|error| ListenerDied { name: protocol.to_owned(), error: error.into() })),
        };
        match (&died, self.on_death) {
            (Some(died), OnDeath::Stop) => tracing::error!("{died}"),
            (Some(died), OnDeath::Warn) => {
                tracing::warn!(listener = died.name, error = %died.error, "a listener has died; mails go on, restart the service when it suits");
            }
            (None, _) => {}
        }
        // First of all: whoever asks whether the service is ready hears at once that it is not.
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
        match (died, self.on_death) {
            (Some(died), OnDeath::Stop) => Err(died),
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
    /// For those who are being told that they are turned away.
    refusals: Arc<Semaphore>,
    /// When the log last said that somebody is turned away.
    warned: Arc<Mutex<Option<Instant>>>,
}

/// Takes connections until that is no more possible, and says why.
async fn accept<L: Socket, S: Service<L::Stream>>(socket: &L, service: &Arc<S>, sessions: &Sessions) -> io::Error {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let permit = service.permits().admit(service.most()).ok();
                let (of, service) = (sessions.clone(), Arc::clone(service));
                sessions.spawn(Box::pin(async move {
                    match permit {
                        Some(permit) => of.admit(stream, peer, permit, service).await,
                        None => of.turn_away(stream, peer, TurnedAway::TooMany, &*service).await,
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

/// Whether a socket that fails so never gives a connection again: it is closed, or listens no more.
fn is_final(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let finals = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::OPNOTSUPP, Errno::FAULT];
    finals.iter().any(|last| error.raw_os_error() == Some(last.raw_os_error()))
}

impl Sessions {
    /// Runs a session, which may be cut, and whose panic is its own.
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
            if caught(session).await.is_none() {
                metrics.panicked(protocol);
                tracing::error!(protocol, "a session panicked and was ended; report this with the lines above");
            }
        });
    }

    /// A connection that has a permit among all: finds out whose it is, and whether that client has a session.
    async fn admit<T, S>(&self, mut stream: T, peer: IpAddr, mut permit: Permit, service: Arc<S>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
        S: Service<T>,
    {
        let (mut client, mut input, mut is_check) = (peer, Vec::new(), false);
        if service.is_proxy(peer) {
            let header = tokio::select! {
                header = proxy::read_header(&mut stream, limits::PROXY_HEADER) => header,
                () = self.shutdown.drain.cancelled() => return,
            };
            match header {
                Ok((Some(named), rest)) => (client, input) = (named.to_canonical(), rest),
                // The proxy looks whether the hop is there, or cannot say for whom it connects.
                Ok((None, rest)) => (is_check, input) = (true, rest),
                Err(error) => {
                    tracing::debug!(protocol = self.protocol, %peer, %error, "no PROXY header");
                    return;
                }
            }
        }
        let turned_away = if !is_check && !service.accepts(client) {
            Some(TurnedAway::NotAccepted)
        } else {
            permit.assign(client, service.most_of(client)).err().map(|_| TurnedAway::TooManyOfClient)
        };
        if let Some(why) = turned_away {
            // Those who are turned away take no permit from those who are let in.
            drop(permit);
            return self.turn_away(stream, client, why, &*service).await;
        }
        let _open = self.metrics.session(self.protocol);
        service.serve(Accepted { stream, input, client, shutdown: self.shutdown.clone() }).await;
        drop(permit);
    }

    /// Tells a client why it has no session. Where too many are being told, it is only closed: those who are turned away must
    /// cost nothing.
    async fn turn_away<T, S>(&self, mut stream: T, client: IpAddr, why: TurnedAway, service: &S)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
        S: Service<T>,
    {
        let told = service.turn_away(why, client);
        if self.may_warn() {
            tracing::warn!(protocol = self.protocol, %client, ?why, "turned away; there may be more of them, which are counted and not logged");
        }
        if let Ok(_place) = self.refusals.try_acquire()
            && !told.is_empty()
        {
            hang_up(&mut stream, &told).await;
        }
    }

    /// Whether a line about one who is turned away may be logged: one a second, so that strangers do not fill the disk.
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
/// closed with octets unread is reset, and a reset takes the last reply away from a peer that was still talking.
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
    // Whatever comes of it, the connection is closed.
    let _ = timeout(limits::LINGER, drain).await;
}

/// Runs a future to its end; none where it panics. It is dropped either way.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two log lines about those who are turned away.
const WARNING: Duration = Duration::from_secs(1);
/// Octets of one read from a peer that is sent away.
const BLOCK: usize = 4 * 1024;
