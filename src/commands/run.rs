//! `run`: the service, from its start to its end.
//!
//! Read this to know what happens when: the configuration is read, the servers are bound, systemd is told, and then the
//! hop serves until SIGTERM or SIGINT. SIGHUP, or a changed file, reads the configuration again.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tracing_subscriber::EnvFilter;

use super::{
    Answer, Config, build,
    reload::{Reload, Servers, Watched},
    runtime,
};
use crate::{
    http::{self, admin::Admin},
    limits,
    link_store::LinkStore,
    milter,
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
    let (smtp, milter, guard) = (settings.smtp.clone(), settings.milter.clone(), settings.guard.clone());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let watched = Watched::of(config.path(), &settings);
    let (mode, entries, identity, admin) = (settings.mode, settings.allowlist.entries().len(), settings.identity.clone(), settings.admin);
    let connections =
        smtp.as_ref().map_or(0, |config| config.bounds.connections * 3) + milter.as_ref().map_or(0, |config| config.connections);
    raise_file_limit(connections);
    runtime()?.block_on(async {
        let pipeline = Arc::new(build(settings, &hostname)?);
        let (stopping, stopped) = watch::channel(false);
        let mut servers = Servers { smtp: None, milter: None, guard: None, pipeline: Arc::clone(&pipeline), hostname };
        let mut running = JoinSet::new();
        if let Some(config) = smtp {
            let server = Arc::new(Server::new(Snapshot::new(config.clone(), Arc::clone(&pipeline))?));
            let listeners = listeners(&config).await?;
            for listener in &listeners {
                let tls = listener.start == Start::Tls;
                tracing::info!(address = %listener.socket.local_addr()?, tls, next_hop = config.next_hops.join(" "), ?mode, entries, "listening");
            }
            servers.smtp = Some(Arc::clone(&server));
            let mut stopped = stopped.clone();
            running.spawn(server::run(listeners, server, async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            }));
        }
        if let Some(config) = milter {
            let server = Arc::new(milter::Server::new(pipeline, &config));
            let listeners = milter::bind(&config).await.map_err(|(address, error)| {
                anyhow::anyhow!("milter.listen: {address} cannot be bound: {error}; is another program there, or another firstclick?")
            })?;
            for listener in &listeners {
                let address = match listener {
                    milter::Listener::Inet(socket) => socket.local_addr()?.to_string(),
                    milter::Listener::Unix(..) => "a socket in the file system".to_owned(),
                };
                tracing::info!(%address, ?mode, entries, "listening for MTAs");
            }
            servers.milter = Some(Arc::clone(&server));
            running.spawn(milter::run(listeners, server, config.drain, stopped.clone()));
        }
        if let Some(config) = guard {
            let address = config.listen;
            let listener = TcpListener::bind(address).await.map_err(|error| {
                anyhow::anyhow!("guard.listen: {address} cannot be bound: {error}; is another program there, or another firstclick?")
            })?;
            tracing::info!(page = %listener.local_addr()?, url = config.guard_links.url, "the guard page is there");
            let server = http::Server::new(config, servers.pipeline.audit.clone())?.with_metrics(Arc::clone(&servers.pipeline.metrics));
            let server = Arc::new(server);
            servers.guard = Some(Arc::clone(&server));
            running.spawn(http::run(listener, server, stopped.clone()));
        }
        if let Some(links) = &servers.pipeline.links {
            tokio::spawn(LinkStore::keep_swept(Arc::downgrade(links)));
        }
        servers.pipeline.metrics.entries_in_force(entries);
        let page = Arc::new(Admin::new(Arc::clone(&servers.pipeline.metrics)));
        let (closing, closed) = watch::channel(false);
        let mut admin_page = None;
        if let Some(address) = admin {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                anyhow::anyhow!("admin.listen: {address} cannot be bound: {error}; is another program there, or another firstclick?")
            })?;
            tracing::info!(address = %listener.local_addr()?, "the admin page is there");
            admin_page = Some(tokio::spawn(http::admin::run(listener, Arc::clone(&page), closed)));
        }
        let mut hangup = signal(SignalKind::hangup()).context("signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
        let mut reload = Reload { servers, config: config.clone(), identity, watched, admin };
        notify(&[NotifyState::Ready]);
        let reloads = tokio::spawn(async move {
            loop {
                let asked = tokio::select! {
                    _ = hangup.recv() => true,
                    () = sleep(limits::RELOAD_LOOK) => false,
                };
                if asked || reload.has_changed() {
                    notify(&[NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading), NotifyState::Reloading]);
                    // It reads files, perhaps of another machine: mails on this thread go on elsewhere.
                    tokio::task::block_in_place(|| reload.reload());
                    notify(&[NotifyState::Ready]);
                }
            }
        });
        let watchdog = sd_notify::watchdog_enabled().map(|interval| {
            tokio::spawn(async move {
                loop {
                    notify(&[NotifyState::Watchdog]);
                    sleep(interval / 2).await;
                }
            })
        });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify(&[NotifyState::Stopping]);
        page.stopping();
        let _ = stopping.send(true);
        while running.join_next().await.is_some() {}
        let _ = closing.send(true);
        if let Some(page) = admin_page {
            let _ = page.await;
        }
        reloads.abort();
        if let Some(watchdog) = watchdog {
            watchdog.abort();
        }
        tracing::info!("stopped");
        Ok(Answer::Yes)
    })
}

/// Tells systemd; where there is none, nobody hears it.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// The sockets that systemd hands over, or the ones that the configuration names. Of the former, those on an address of
/// `listen_tls` speak TLS from the first octet.
async fn listeners(config: &SmtpConfig) -> anyhow::Result<Vec<Listener>> {
    let mut handed = ListenFd::from_env();
    if handed.len() == 0 {
        return server::bind(config).await.map_err(|(address, error)| {
            anyhow::anyhow!("smtp.listen: {address} cannot be bound: {error}; is another program there, or another firstclick?")
        });
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

/// An SMTP session takes two file descriptors, and a large mail a third; a milter session takes one. Says so where the
/// system gives fewer.
fn raise_file_limit(files: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
