//! The admin page: `/healthz`, `/readyz` and `/metrics`, in plain HTTP, for this host or a network of its own.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    limits,
    metrics::Metrics,
    readiness::{Means, Readiness},
    service::{
        Shutdown,
        listener::{Accepted, Listeners, OnFailure, Refused, Service},
        permits::{ClientKey, Permits},
    },
};

/// The admin page: metrics, and whether the service is ready.
#[derive(Debug)]
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    /// The shutdown of the servers that take mails: the service is ready until they drain.
    mails: Shutdown,
    permits: Arc<Permits>,
}

impl Admin {
    /// A page about these metrics, what stands in the way, and the servers that `mails` stops.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, readiness: Arc<Readiness>, mails: Shutdown) -> Self {
        Self { metrics, readiness, mails, permits: Arc::new(Permits::new(ClientKey::Address)) }
    }
}

/// Serves until its own drain begins, which is after the other listeners were closed: `/readyz` is 503 in between. A listener
/// that fails is a warning in the log, and mails go on.
pub async fn run(listener: TcpListener, admin: Arc<Admin>, shutdown: Shutdown) {
    let mut all = Listeners::new("admin", Arc::clone(&admin.metrics), OnFailure::Warn, shutdown);
    let name = listener.local_addr().map_or_else(|_| "admin.listen".to_owned(), |address| format!("admin.listen {address}"));
    all.listen(name, listener, admin);
    // A listener that fails has been logged, and stops nothing.
    let _ = all.run(|| DRAIN).await;
}

impl Service<TcpStream> for Admin {
    fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    fn most(&self) -> usize {
        limits::ADMIN_CONNECTIONS
    }

    /// No bound for one client: a collector may have all connections.
    fn most_of(&self, _client: IpAddr) -> usize {
        limits::ADMIN_CONNECTIONS
    }

    fn refuse(&self, _why: Refused, _client: IpAddr) -> Vec<u8> {
        self.metrics.refused("hop", "connection", StatusCode::SERVICE_UNAVAILABLE.as_u16());
        Vec::new()
    }

    async fn serve(self: Arc<Self>, connection: Accepted<TcpStream>) {
        let Accepted { stream, client, shutdown, .. } = connection;
        let talk = super::talk(TokioIo::new(stream), client, router(self), &shutdown);
        // Done or not, the connection is closed afterwards.
        let _ = timeout(limits::HTTP_CONNECTION, talk).await;
    }
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
    if admin.mails.drain.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let (means, lines) = admin.readiness.look();
    match means {
        Means::NoMails => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{lines}")).into_response(),
        Means::Detail => format!("ready\n{lines}").into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], admin.metrics.text()).into_response()
}

/// For requests that are under way when the page is closed.
const DRAIN: Duration = Duration::from_secs(1);
