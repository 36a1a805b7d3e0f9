//! What `run` needs before it serves: its sockets and the audit's lock.
//!
//! Each of them may be on its way: an address that the network is still bringing up, a port or a lock that the service from before
//! holds while it finishes its mails. So the start waits for them, once for all, and says for what. What a person must mend ends
//! it at once; [`Remedy`] tells the two apart, and is the exit code.

use std::{fmt, io, net::SocketAddr, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use super::run::notify;
use crate::{
    limits, milter,
    remedy::Remedy,
    settings::Settings,
    smtp::{
        config::Config as SmtpConfig,
        server::{Listener, Start},
    },
};

/// Why the service does not start, and who mends it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct NotStarted {
    what: String,
    pub(super) remedy: Remedy,
}

impl NotStarted {
    pub(super) fn new(what: impl fmt::Display, remedy: Remedy) -> Self {
        Self { what: what.to_string(), remedy }
    }

    fn cannot_bind(key: &str, address: impl fmt::Display, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; is another program there, or another firstclick?",
            io::ErrorKind::AddrNotAvailable => "; this machine does not have the address, or not yet",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 take CAP_NET_BIND_SERVICE, and a socket a folder that firstclick may write"
            }
            io::ErrorKind::NotFound => "; its folder is not there",
            _ => "",
        };
        Self::new(format!("{key}: {address} cannot be bound: {error}{hint}"), Remedy::of(error))
    }
}

/// The time that a start still waits for what may pass.
pub(super) struct Patience {
    end: Instant,
    /// What the log has been told last.
    told: String,
}

impl Patience {
    /// The time of one start, from now on.
    pub(super) fn begin() -> Self {
        Self { end: Instant::now() + limits::START_WAIT, told: String::new() }
    }

    /// Tries until it is done, a person must mend it, or the time is over. Dropping this future ends it at once.
    pub(super) async fn wait_for<T>(&mut self, mut attempt: impl AsyncFnMut() -> Result<T, NotStarted>) -> Result<T, NotStarted> {
        loop {
            match attempt().await {
                Err(error) if error.remedy == Remedy::Wait && Instant::now() < self.end => self.tell(&error),
                done => return done,
            }
            sleep(limits::START_RETRY).await;
        }
    }

    /// Says, once for each, what is waited for.
    fn tell(&mut self, error: &NotStarted) {
        if self.told == error.what {
            return;
        }
        error.what.clone_into(&mut self.told);
        let left = self.end.saturating_duration_since(Instant::now()).as_secs();
        let bound = u32::try_from((limits::START_WAIT + Duration::from_secs(15)).as_micros()).unwrap_or(u32::MAX);
        tracing::warn!(seconds = left, "waiting: {error}");
        notify(&[NotifyState::Status(&format!("waiting {left} seconds at most: {error}")), NotifyState::ExtendTimeoutUsec(bound)]);
    }
}

/// The sockets of the service.
pub(super) struct Sockets {
    pub(super) mails: MailSockets,
    /// The admin page's, which stays open until the others are closed.
    pub(super) admin: Option<TcpListener>,
}

/// The sockets for mails and their readers.
pub(super) struct MailSockets {
    pub(super) smtp: Vec<Listener>,
    pub(super) milter: Vec<milter::Listener>,
    pub(super) guard: Option<TcpListener>,
}

impl Sockets {
    /// Binds all that the configuration names. What is bound stays bound while the next is waited for.
    pub(super) async fn bind(settings: &Settings, patience: &mut Patience) -> anyhow::Result<Self> {
        let mut mails = MailSockets { smtp: Vec::new(), milter: Vec::new(), guard: None };
        if let Some(config) = &settings.smtp {
            mails.smtp = listeners(config, patience).await?;
        }
        if let Some(config) = &settings.milter {
            for address in &config.listen {
                let bind = async || milter::bind(address, config).await.map_err(|error| not_bound(address, &error));
                mails.milter.push(patience.wait_for(bind).await?);
            }
        }
        if let Some(config) = &settings.guard {
            mails.guard = Some(tcp("guard.listen", config.listen, patience).await?);
        }
        let mut admin = None;
        if let Some(address) = settings.admin {
            admin = Some(tcp("admin.listen", address, patience).await?);
        }
        Ok(Self { mails, admin })
    }

    /// Logs where the service listens.
    pub(super) fn log(&self, settings: &Settings) -> io::Result<()> {
        let (mode, entries) = (settings.mode.code(), settings.allowlist.entries().len());
        let next_hop = settings.smtp.as_ref().map(|config| config.next_hops.join(" ")).unwrap_or_default();
        for listener in &self.mails.smtp {
            let tls = listener.start == Start::Tls;
            tracing::info!(address = %listener.socket.local_addr()?, tls, next_hop, mode, entries, "listening");
        }
        for listener in &self.mails.milter {
            tracing::info!(address = %listener.address()?, mode, entries, "listening for MTAs");
        }
        if let Some((socket, config)) = self.mails.guard.as_ref().zip(settings.guard.as_ref()) {
            tracing::info!(page = %socket.local_addr()?, url = config.guard_links.url, "the guard page is there");
        }
        if let Some(socket) = &self.admin {
            tracing::info!(address = %socket.local_addr()?, "the admin page is there");
        }
        Ok(())
    }
}

async fn tcp(key: &str, address: SocketAddr, patience: &mut Patience) -> Result<TcpListener, NotStarted> {
    let bind = async || TcpListener::bind(address).await.map_err(|error| NotStarted::cannot_bind(key, address, &error));
    patience.wait_for(bind).await
}

fn not_bound(address: &milter::Address, error: &milter::BindError) -> NotStarted {
    let address: &dyn fmt::Display = match address {
        milter::Address::Inet(address) => address,
        milter::Address::Unix(path) => &path.display(),
    };
    match error {
        milter::BindError::Bind(error) => NotStarted::cannot_bind("milter.listen", address, error),
        _ => NotStarted::new(format!("milter.listen: {address}: {error}"), error.remedy()),
    }
}

/// The sockets that systemd hands over, or the ones that the configuration names. Of the former, those on an address of
/// `listen_tls` speak TLS from the first octet.
async fn listeners(config: &SmtpConfig, patience: &mut Patience) -> anyhow::Result<Vec<Listener>> {
    let mut handed = ListenFd::from_env();
    let mut listeners = Vec::new();
    if handed.len() == 0 {
        let clear = config.listen.iter().map(|address| (*address, Start::Clear, "smtp.listen"));
        let tls = config.listen_tls.iter().map(|address| (*address, Start::Tls, "smtp.listen_tls"));
        for (address, start, key) in clear.chain(tls) {
            listeners.push(Listener { socket: tcp(key, address, patience).await?, start });
        }
        return Ok(listeners);
    }
    for number in 0..handed.len() {
        let Some(socket) = handed.take_tcp_listener(number)? else { continue };
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address: SocketAddr = socket.local_addr()?;
        let start = if config.listen_tls.iter().any(|tls| tls.port() == address.port()) { Start::Tls } else { Start::Clear };
        listeners.push(Listener { socket, start });
    }
    Ok(listeners)
}
