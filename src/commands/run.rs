//! `run`: the service, from its start to its end.
//!
//! Read this to know what happens when: the configuration is read, the doors are bound, systemd is told, and then the
//! hop serves until SIGTERM or SIGINT. SIGHUP, or a changed file, reads the configuration again.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tracing_subscriber::EnvFilter;

use super::{
    Answer, Config, furnish,
    reload::{Reload, Watched},
    runtime,
};
use crate::{
    limits,
    smtp::{self, Current, Front, Listener, Start, setup::Setup},
};

pub(super) fn run(config: &Config) -> anyhow::Result<Answer> {
    let settings = config.load()?;
    let Some(setup) = settings.smtp.clone() else {
        bail!("{}: there is nothing to run; write [smtp] with listen, next_hop and hostname", config.path().display());
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let watched = Watched::of(config.path(), &settings);
    let (mode, entries, identity) = (settings.mode, settings.policy.senders().len(), settings.identity.clone());
    raise_file_limit(&setup);
    runtime()?.block_on(async {
        let hall = Arc::new(furnish(settings, &setup.hostname)?);
        let front = Arc::new(Front::new(Current::new(setup.clone(), hall)?));
        let listeners = listeners(&setup).await?;
        for listener in &listeners {
            let tls = listener.start == Start::Tls;
            tracing::info!(address = %listener.socket.local_addr()?, tls, next_hop = setup.next_hops.join(" "), ?mode, entries, "listening");
        }
        let mut hangup = signal(SignalKind::hangup()).context("signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
        let mut reload = Reload { front: Arc::clone(&front), config: config.clone(), identity, watched };
        notify(&[NotifyState::Ready]);
        let reloads = tokio::spawn(async move {
            loop {
                let asked = tokio::select! {
                    _ = hangup.recv() => true,
                    () = sleep(limits::RELOAD_LOOK) => false,
                };
                if asked || reload.has_changed() {
                    notify(&[NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading), NotifyState::Reloading]);
                    reload.reload();
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
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            notify(&[NotifyState::Stopping]);
        };
        smtp::run(listeners, front, stop).await;
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
async fn listeners(setup: &Setup) -> anyhow::Result<Vec<Listener>> {
    let mut handed = ListenFd::from_env();
    if handed.len() == 0 {
        return smtp::bind(setup).await.map_err(|(address, error)| {
            anyhow::anyhow!("smtp.listen: {address} cannot be bound: {error}; is another program there, or another firstclick?")
        });
    }
    let mut listeners = Vec::new();
    for number in 0..handed.len() {
        let Some(socket) = handed.take_tcp_listener(number).context("a socket that systemd handed over")? else { continue };
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address: SocketAddr = socket.local_addr()?;
        let start = if setup.listen_tls.iter().any(|tls| tls.port() == address.port()) { Start::Tls } else { Start::Clear };
        listeners.push(Listener { socket, start });
    }
    Ok(listeners)
}

/// Each session takes two file descriptors, and a large mail a third. Says so where the system gives fewer.
fn raise_file_limit(setup: &Setup) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = setup.bounds.connections as u64 * 3 + 100;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let possible = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: limit.maximum });
    if possible < wanted {
        tracing::warn!(possible, wanted, "the system allows too few open files for smtp.bounds.connections; raise LimitNOFILE");
    }
}
