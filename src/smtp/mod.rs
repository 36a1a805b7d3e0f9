//! The SMTP door: who may speak, and how the hop starts and stops.

pub mod command;
pub mod next_hop;
pub mod reply;
mod session;
mod trace;
pub mod wire;

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use self::reply::Reply;
use crate::{limits, pipeline::Hall, settings::Smtp};

/// What every session needs.
pub struct Front {
    /// How the hop is set up.
    pub smtp: Smtp,
    /// Where mails are decided.
    pub hall: Arc<Hall>,
}

/// Binds every address that the configuration names.
///
/// # Errors
/// Names the address that cannot be bound.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(TcpListener::bind(address).await.map_err(|error| (*address, error))?);
    }
    Ok(listeners)
}

/// Serves until `stop` completes; then lets sessions finish their mails, and cuts those that take longer than
/// [`limits::DRAIN`].
pub async fn run(listeners: Vec<TcpListener>, front: Arc<Front>, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let room = Arc::new(Semaphore::new(limits::SESSIONS));
    let mut doors = JoinSet::new();
    let sessions = Arc::new(tokio::sync::Mutex::new(JoinSet::new()));
    for listener in listeners {
        let (front, stopped, room, sessions) = (Arc::clone(&front), stopped.clone(), Arc::clone(&room), Arc::clone(&sessions));
        doors.spawn(async move { accept(&listener, &front, &stopped, &room, &sessions).await });
    }
    stop.await;
    doors.shutdown().await;
    let _ = stopping.send(true);
    let mut sessions = sessions.lock().await;
    let open = sessions.len();
    tracing::info!(open, "stopping: sessions finish their mails");
    let drain = async { while sessions.join_next().await.is_some() {} };
    if timeout(limits::DRAIN, drain).await.is_err() {
        tracing::warn!(cut = sessions.len(), "stopping: sessions took too long and are cut");
        sessions.shutdown().await;
    }
}

async fn accept(listener: &TcpListener, front: &Arc<Front>, stopped: &watch::Receiver<bool>, room: &Arc<Semaphore>, sessions: &tokio::sync::Mutex<JoinSet<()>>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for sessions to end rather than spin.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
            let mut busy = Vec::new();
            Reply::new(421, format!("4.3.2 {} is busy, try again soon", front.smtp.hostname)).write(&mut busy);
            // One try: a client that takes nothing must not hold up the others.
            let _ = stream.try_write(&busy);
            continue;
        };
        let (front, stopped) = (Arc::clone(front), stopped.clone());
        let mut sessions = sessions.lock().await;
        while sessions.try_join_next().is_some() {}
        sessions.spawn(async move {
            session::serve(stream, peer, front, stopped).await;
            drop(permit);
        });
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
