//! `run`: the service, from its start to its end.
//!
//! The configuration is read, the servers are bound, systemd is notified, and then the hop serves until SIGTERM or SIGINT, or
//! until a listener fails. SIGHUP, or a changed file, reads the configuration again.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing_subscriber::EnvFilter;

use super::{
    Answer, Config, build,
    reload::{InForce, Reload, Servers},
    runtime,
};
use crate::{
    clock,
    http::{self, admin::Admin},
    limits,
    link_store::LinkStore,
    mail::Protocol,
    milter,
    pipeline::Shared,
    service::{Shutdown, listener::ListenerFailed, memory::MemoryBudget},
    settings::Settings,
    smtp::{
        config::Config as SmtpConfig,
        server::{self, Listener, Server, Snapshot, Start},
    },
};

pub(super) fn run(config: &Config) -> anyhow::Result<Answer> {
    let settings = config.load()?;
    let Some(hostname) = settings.hostname().map(str::to_owned) else {
        bail!(
            "{}: there is nothing to run; write [smtp] with listen, next_hop and hostname, [milter] with listen and hostname, or [guard]",
            config.path().display()
        );
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    raise_file_limit(&settings);
    let runtime = runtime()?;
    let answer = runtime.block_on(service(config, settings, hostname));
    // A file that is still being read, perhaps on a share that hangs, does not keep the program.
    runtime.shutdown_timeout(limits::CUT);
    answer
}

/// The service, from its sockets to its last record.
async fn service(config: &Config, settings: Settings, hostname: String) -> anyhow::Result<Answer> {
    let mut stop = StopSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let hangup = signal(SignalKind::hangup())?;
    let sockets = Sockets::bind(&settings).await?;
    let in_force = InForce::of(&settings);
    let servers = servers(settings, hostname)?;
    let shared = Arc::clone(&servers.pipeline.shared);
    let (mails, page) = (Shutdown::default(), Shutdown::default());
    let page_ended = sockets.admin.map(|socket| {
        let admin = Arc::new(Admin::new(Arc::clone(&shared.metrics), Arc::clone(&shared.readiness), mails.clone()));
        tokio::spawn(http::admin::run(socket, admin, page.clone()))
    });
    let mut running = serve(sockets.mails, &servers, &mails);
    // Ends with this function.
    let mut keeping = JoinSet::new();
    keeping.spawn(summarise_refusals(Arc::clone(&shared)));
    keeping.spawn(reload_on_change(hangup, Reload::new(servers, config.clone(), in_force)));
    keeping.spawn(notify_watchdog());
    notify(&[NotifyState::Ready]);

    let failure = tokio::select! {
        () = stop.received() => None,
        () = mails.drain.cancelled() => None,
        Some(ended) = running.join_next() => failure(ended),
    };
    notify(&[NotifyState::Stopping]);
    let failure = drain(running, &mails).await.or(failure);
    shared.summarise_refusals(clock::now());
    if let Some(audit) = &shared.audit {
        // An empty queue: the last records are written.
        let _ = audit.wait_for_room(limits::AUDIT_QUEUE).await;
    }
    page.drain.cancel();
    if let Some(ended) = page_ended {
        let _ = ended.await;
    }
    tracing::info!("stopped");
    failure.map_or(Ok(Answer::Yes), |died| Err(died.into()))
}

/// The sockets of the service.
struct Sockets {
    mails: MailSockets,
    /// The admin page's, which stays open until the others are closed.
    admin: Option<TcpListener>,
}

/// The sockets for mails and their readers.
struct MailSockets {
    smtp: Vec<Listener>,
    milter: Vec<milter::Listener>,
    guard: Option<TcpListener>,
}

impl Sockets {
    /// Binds all that the configuration names.
    async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let (mode, entries) = (settings.mode, settings.allowlist.entries().len());
        let mut mails = MailSockets { smtp: Vec::new(), milter: Vec::new(), guard: None };
        if let Some(config) = &settings.smtp {
            mails.smtp = listeners(config).await?;
            for listener in &mails.smtp {
                let tls = listener.start == Start::Tls;
                tracing::info!(address = %listener.socket.local_addr()?, tls, next_hop = config.next_hops.join(" "), ?mode, entries, "listening");
            }
        }
        if let Some(config) = &settings.milter {
            mails.milter = milter::bind(config).await.map_err(|(address, error)| cannot_bind("milter.listen", address, &error))?;
            for listener in &mails.milter {
                let address = match listener {
                    milter::Listener::Inet(socket) => socket.local_addr()?.to_string(),
                    milter::Listener::Unix(_) => "a socket in the file system".to_owned(),
                };
                tracing::info!(%address, ?mode, entries, "listening for MTAs");
            }
        }
        if let Some(config) = &settings.guard {
            let socket = bind("guard.listen", config.listen).await?;
            tracing::info!(page = %socket.local_addr()?, url = config.guard_links.url, "the guard page is there");
            mails.guard = Some(socket);
        }
        let mut admin = None;
        if let Some(address) = settings.admin {
            let socket = bind("admin.listen", address).await?;
            tracing::info!(address = %socket.local_addr()?, "the admin page is there");
            admin = Some(socket);
        }
        Ok(Self { mails, admin })
    }
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| cannot_bind(key, address, &error))
}

fn cannot_bind(key: &str, address: impl std::fmt::Display, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("{key}: {address} cannot be bound: {error}; is another program there, or another firstclick?")
}

/// The servers that the configuration asks for, on one pipeline and one budget of memory.
fn servers(settings: Settings, hostname: String) -> anyhow::Result<Servers> {
    let (smtp, milter, guard) = (settings.smtp.clone(), settings.milter.clone(), settings.guard.clone());
    let served = [(Protocol::Smtp, smtp.is_some()), (Protocol::Milter, milter.is_some())];
    let protocols: Vec<Protocol> = served.into_iter().filter(|(_, served)| *served).map(|(protocol, _)| protocol).collect();
    let memory = MemoryBudget::new(smtp.as_ref().map_or(limits::MEMORY, |config| config.bounds.memory), &protocols);
    let entries = settings.allowlist.entries().len();
    let pipeline = Arc::new(build(settings, &hostname)?);
    let metrics = &pipeline.shared.metrics;
    metrics.entries_in_force(entries);
    if let Some(links) = &pipeline.config.link_store {
        tokio::spawn(LinkStore::keep_swept(Arc::downgrade(links)));
    }
    let smtp = smtp
        .map(|config| Snapshot::new(config, Arc::clone(&pipeline)).map(|snapshot| Arc::new(Server::new(snapshot, memory.clone()))))
        .transpose()?;
    let milter = milter.map(|config| Arc::new(milter::Server::new(Arc::clone(&pipeline), &config, memory)));
    let guard = guard.map(|config| http::Server::new(config, pipeline.shared.audit.clone())).transpose()?;
    let guard = guard.map(|server| Arc::new(server.with_metrics(Arc::clone(metrics))));
    Ok(Servers { smtp, milter, guard, pipeline, hostname })
}

/// Starts each server on its sockets.
fn serve(sockets: MailSockets, servers: &Servers, shutdown: &Shutdown) -> JoinSet<Result<(), ListenerFailed>> {
    let mut running = JoinSet::new();
    if let Some(server) = &servers.smtp {
        running.spawn(server::run(sockets.smtp, Arc::clone(server), shutdown.clone()));
    }
    if let Some(server) = &servers.milter {
        running.spawn(milter::run(sockets.milter, Arc::clone(server), shutdown.clone()));
    }
    if let Some((server, socket)) = servers.guard.as_ref().zip(sockets.guard) {
        running.spawn(http::run(socket, Arc::clone(server), shutdown.clone()));
    }
    running
}

/// Lets every server drain; returns the first listener that had failed, if one had.
async fn drain(mut running: JoinSet<Result<(), ListenerFailed>>, shutdown: &Shutdown) -> Option<ListenerFailed> {
    shutdown.drain.cancel();
    let mut first = None;
    while let Some(ended) = running.join_next().await {
        first = first.or_else(|| failure(ended));
    }
    first
}

/// The listener that failed, where a server ended before the drain.
fn failure(ended: Result<Result<(), ListenerFailed>, JoinError>) -> Option<ListenerFailed> {
    ended.unwrap_or_else(|error| Err(ListenerFailed { name: "of a server".to_owned(), error: error.into() })).err()
}

/// The signals that end the service.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reads the configuration again on SIGHUP, and where a file of it has changed.
async fn reload_on_change(mut hangup: Signal, mut reload: Reload) {
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            () = sleep(limits::RELOAD_LOOK) => false,
        };
        // It reads files, perhaps on a share that hangs: on a thread that serves no mails.
        let mut reading = tokio::task::spawn_blocking(move || {
            if asked || reload.has_changed() {
                notify(&[NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading), NotifyState::Reloading]);
                reload.reload();
                notify(&[NotifyState::Ready]);
            }
            reload
        });
        let read = if let Ok(read) = timeout(limits::RELOAD, &mut reading).await {
            read
        } else {
            tracing::error!("the configuration cannot be read: a file system does not answer; the one before stays in force until it does");
            reading.await
        };
        match read {
            Ok(back) => reload = back,
            Err(error) => {
                tracing::error!(%error, "reading the configuration failed; restart the service to read it again, and report this");
                return;
            }
        }
    }
}

/// Writes the summary records of refusals, once a minute.
async fn summarise_refusals(shared: Arc<Shared>) {
    let mut minutes = interval(limits::REFUSALS_SUMMARY);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        minutes.tick().await;
        shared.summarise_refusals(clock::now());
    }
}

/// Notifies systemd's watchdog, where there is one, while the runtime runs.
async fn notify_watchdog() {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    loop {
        notify(&[NotifyState::Watchdog]);
        sleep(patience / 2).await;
    }
}

/// Notifies systemd; does nothing where there is none.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// The sockets that systemd hands over, or the ones that the configuration names. Of the former, those on an address of
/// `listen_tls` speak TLS from the first octet.
async fn listeners(config: &SmtpConfig) -> anyhow::Result<Vec<Listener>> {
    let mut handed = ListenFd::from_env();
    if handed.len() == 0 {
        return server::bind(config).await.map_err(|(address, error)| cannot_bind("smtp.listen", address, &error));
    }
    let mut listeners = Vec::new();
    for number in 0..handed.len() {
        let Some(socket) = handed.take_tcp_listener(number).context("a socket that systemd handed over")? else { continue };
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address: SocketAddr = socket.local_addr()?;
        let start = if config.listen_tls.iter().any(|tls| tls.port() == address.port()) { Start::Tls } else { Start::Clear };
        listeners.push(Listener { socket, start });
    }
    Ok(listeners)
}

/// Raises the limit of file descriptors: an SMTP session takes two, and a large mail a third; a milter session takes one. Logs a
/// warning where the system gives fewer.
fn raise_file_limit(settings: &Settings) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let smtp = settings.smtp.as_ref().map_or(0, |config| config.bounds.connections * 3);
    let files = smtp + settings.milter.as_ref().map_or(0, |config| config.connections);
    let wanted = files as u64 + 100;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let possible = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: limit.maximum });
    if possible < wanted {
        tracing::warn!(
            possible,
            wanted,
            "the system allows too few open files for smtp.bounds.connections and milter.connections; raise LimitNOFILE"
        );
    }
}
