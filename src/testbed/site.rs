//! A site with one-time links: the first GET uses a link up, as at many services.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use tokio::net::TcpListener;

/// A site on loopback. `/reset/TOKEN` works once; every other page works always.
#[derive(Clone)]
pub struct Site {
    address: SocketAddr,
    visits: Visits,
}

type Visits = Arc<Mutex<HashMap<String, usize>>>;

impl Site {
    /// Starts serving on a free port.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn serve() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let visits = Visits::default();
        let router =
            Router::new().route("/reset/{token}", get(reset)).fallback(|| async { "An ordinary page." }).with_state(Arc::clone(&visits));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, visits })
    }

    /// The port; every host name of the testbed leads to it.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// How often a token was visited.
    #[must_use]
    pub fn visits(&self, token: &str) -> usize {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner).get(token).copied().unwrap_or(0)
    }
}

async fn reset(State(visits): State<Visits>, Path(token): Path<String>) -> (StatusCode, &'static str) {
    let mut visits = visits.lock().unwrap_or_else(PoisonError::into_inner);
    let count = visits.entry(token).or_default();
    *count += 1;
    if *count == 1 {
        (StatusCode::OK, "Choose a new password.")
    } else {
        (StatusCode::GONE, "Your reset link expired or has already been used.")
    }
}
