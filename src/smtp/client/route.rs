//! Which next hop gets the mail: the first that can be reached, and one that could not a moment ago is tried last.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};
use tokio_rustls::rustls::ClientConfig;

use super::next_hop::{HopError, NextHop};
use crate::smtp::config::Config;

/// The memory of next hops that could not be reached.
#[derive(Debug, Default)]
pub struct Route(Mutex<HashMap<SocketAddr, Instant>>);

impl Route {
    /// Connects to the first next hop that answers; every address of every name is tried once.
    ///
    /// # Errors
    /// What the last one did.
    pub async fn connect(&self, config: &Config, tls: Option<&Arc<ClientConfig>>) -> Result<NextHop, HopError> {
        let mut last = HopError::Unreachable("no address is known".into());
        let mut candidates: Vec<(SocketAddr, &str)> = Vec::new();
        for next_hop in &config.next_hops {
            match timeout(config.deadlines.connect, lookup_host(next_hop)).await {
                Ok(Ok(addresses)) => candidates.extend(addresses.take(ADDRESSES).map(|address| (address, next_hop.as_str()))),
                Ok(Err(error)) => last = HopError::Unreachable(format!("{next_hop}: {error}")),
                Err(_) => last = HopError::Silent,
            }
        }
        candidates.sort_by_key(|(address, _)| self.is_dead(*address, config));
        // The upstream waits for its answer to MAIL, five minutes at most (RFC 5321 section 4.5.3.2.2).
        let end = Instant::now() + config.deadlines.connect * 4;
        for (address, next_hop) in candidates {
            if Instant::now() >= end {
                break;
            }
            match NextHop::connect(address, next_hop, config, tls).await {
                Ok(hop) => {
                    self.note(address, None);
                    return Ok(hop);
                }
                Err(error) => {
                    tracing::warn!(next_hop, %address, %error, "next hop");
                    self.note(address, Some(Instant::now()));
                    last = error;
                }
            }
        }
        Err(last)
    }

    fn is_dead(&self, address: SocketAddr, config: &Config) -> bool {
        let dead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dead.get(&address).is_some_and(|since| since.elapsed() < config.deadlines.dead_hop)
    }

    fn note(&self, address: SocketAddr, died: Option<Instant>) {
        let mut dead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match died {
            Some(at) => {
                if dead.len() >= REMEMBERED {
                    dead.clear();
                }
                dead.insert(address, at);
            }
            None => {
                dead.remove(&address);
            }
        }
    }
}

/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;
/// Addresses that are remembered; names change theirs.
const REMEMBERED: usize = 1_000;
