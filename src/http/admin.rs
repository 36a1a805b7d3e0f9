//! The admin page: is the service alive, may a load balancer send to it, and what did it count. Plain HTTP, for the
//! machine itself or a network of its own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::{limits, metrics::Metrics};

/// What the page tells.
#[derive(Debug)]
pub struct Admin {
    metrics: Arc<Metrics>,
    ready: AtomicBool,
}

impl Admin {
    /// A page of a service that is ready.
    #[must_use]
    pub const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ready: AtomicBool::new(true) }
    }

    /// The service stops: new mails go elsewhere.
    pub fn stopping(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }
}

/// Serves until `stop` turns true, which is when the other listeners are closed: a load balancer hears "stopping" meanwhile.
pub async fn run(listener: TcpListener, admin: Arc<Admin>, stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
    let serve = |stream, peer| Some(super::talk(TokioIo::new(stream), peer, router(Arc::clone(&admin))));
    drop(super::take(listener, &permits, stop, serve).await);
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(|| async { "/healthz  is it alive\n/readyz   does it take mails\n/metrics  what it counted\n" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.ready.load(Ordering::Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response()
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], admin.metrics.text()).into_response()
}
