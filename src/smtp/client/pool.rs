//! Connections to next hops that wait for a session: opened by one upstream's session, used by the next.
//!
//! What waits here has carried mails that were all accepted, at the first try and without a 4xx or 5xx in between, so that no
//! upstream meets what another has brought upon a connection: an error limit, a tarpit, a transaction that was given up. A
//! snapshot of the configuration has a pool of its own, and what was opened by one is never parked for the next.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::time::{Instant, sleep_until};

use super::next_hop::{Achieved, NextHop};
use crate::{
    limits,
    metrics::{Metrics, Pooled},
    smtp::{
        codec::extensions::Extensions,
        config::{Config, Pooling},
    },
    tls::ClientTls,
};

/// Addresses of which something is remembered: several times what a configuration names.
const ADDRESSES: usize = 100;

/// The connections that wait, and what the next hop announced last.
pub struct Pool {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

struct State {
    pooling: Pooling,
    /// Those that wait, the one that was parked last at the end. It is taken first, so that what is too many ends by itself.
    idle: Vec<Idle>,
    announced: Option<Announced>,
    /// Addresses that have spoken TLS by this configuration: [`ADDRESSES`] at most.
    encrypted: Vec<SocketAddr>,
    /// Addresses that have refused BDAT: [`ADDRESSES`] at most.
    without_chunks: Vec<SocketAddr>,
    /// Addresses at which somebody waits for a greeting, once for each.
    starving: Vec<SocketAddr>,
    keeper: Keeper,
}

/// Somebody waits for an address's greeting. As long as this exists, no connection to it is parked.
pub(super) struct Starving<'p> {
    pool: &'p Pool,
    address: SocketAddr,
}

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if let Some(at) = state.starving.iter().position(|address| *address == self.address) {
            state.starving.swap_remove(at);
        }
    }
}

struct Idle {
    hop: NextHop,
    end: Instant,
}

/// What the next hop announced, and when it was last heard of.
#[derive(Clone, Copy)]
struct Announced {
    extensions: Extensions,
    since: Instant,
}

/// The task that closes what has waited too long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// It does not run: nothing waits.
    Gone,
    /// It sleeps until the first connection's time is over.
    Sleeps,
}

impl Pool {
    /// An empty pool; one that is off stays empty.
    #[must_use]
    pub fn new(pooling: Pooling, metrics: Arc<Metrics>) -> Self {
        let state = State {
            pooling,
            idle: Vec::new(),
            announced: None,
            encrypted: Vec::new(),
            without_chunks: Vec::new(),
            starving: Vec::new(),
            keeper: Keeper::Gone,
        };
        Self { state: Mutex::new(state), metrics }
    }

    /// Takes a connection that waits for this next hop and this configuration, and whose next hop announces what was offered. One
    /// that its next hop has closed meanwhile, or on which there is something to read, is closed and never used.
    pub(super) fn take(&self, name: &str, config: &Config, offered: Extensions) -> Option<NextHop> {
        loop {
            let Idle { mut hop, end } = {
                let mut state = self.state();
                let serves = |hop: &NextHop| hop.key().serves(name, config) && hop.extensions().covers(offered);
                let at = state.idle.iter().rposition(|idle| serves(&idle.hop))?;
                state.idle.remove(at)
            };
            self.metrics.unparked(1);
            if end > Instant::now() && hop.is_quiet() {
                self.metrics.pooled(Pooled::Reused);
                hop.is_passed_on();
                return Some(hop);
            }
            self.metrics.pooled(Pooled::Closed);
        }
    }

    /// Parks a connection whose mail was accepted, for whoever comes next. Returned where it may not wait here.
    pub(super) fn park(self: &Arc<Self>, mut hop: NextHop) -> Option<NextHop> {
        let now = Instant::now();
        let Some(end) = hop.parkable_until(now) else { return Some(hop) };
        let mut state = self.state();
        if state.pooling == Pooling::Off {
            return Some(hop);
        }
        if let Some(announced) = state.announced.as_mut().filter(|announced| announced.extensions == hop.extensions()) {
            announced.since = now;
        }
        let address = hop.key().address;
        // One EHLO without STARTTLS would put everybody's mails in the clear.
        if hop.key().achieved == Achieved::Clear && hop.key().tls != ClientTls::Off && state.encrypted.contains(&address) {
            return Some(hop);
        }
        if end <= now || state.starving.contains(&address) {
            // The session keeps nothing either that has served its time, or that stands in somebody's way.
            drop(state);
            self.retire([hop]);
            return None;
        }
        let of_this_hop = state.idle.iter().filter(|idle| idle.hop.key().address == address).count();
        if state.idle.len() >= limits::PARKED || of_this_hop >= limits::PARKED_PER_HOP {
            self.metrics.pooled(Pooled::Full);
            return Some(hop);
        }
        state.idle.push(Idle { hop, end });
        self.metrics.parked();
        if std::mem::replace(&mut state.keeper, Keeper::Sleeps) == Keeper::Gone {
            tokio::spawn(Self::keep(Arc::downgrade(self)));
        }
        None
    }

    /// Closes all that wait for the address of a next hop, and waits until it has heard so: a next hop that counts the connections
    /// of a client has no place for one more as long as they wait. Returns whether there were any.
    pub(super) async fn evict(&self, address: SocketAddr) -> bool {
        let evicted: Vec<Idle> = self.state().idle.extract_if(.., |idle| idle.hop.key().address == address).collect();
        self.metrics.unparked(evicted.len());
        let closing: Vec<_> = evicted.into_iter().map(|idle| tokio::spawn(idle.hop.leave())).collect();
        let any = !closing.is_empty();
        for closed in closing {
            self.metrics.pooled(Pooled::Closed);
            // A task that panicked has dropped its connection, too.
            let _ = closed.await;
        }
        any
    }

    /// Whether an address has not refused BDAT yet.
    pub(super) fn takes_chunks(&self, address: SocketAddr) -> bool {
        !self.state().without_chunks.contains(&address)
    }

    /// An address has refused BDAT: from now on it gets DATA. One of too many to remember is found out again.
    pub(super) fn takes_no_chunks(&self, address: SocketAddr) {
        let mut state = self.state();
        if !state.without_chunks.contains(&address) && state.without_chunks.len() < ADDRESSES {
            state.without_chunks.push(address);
        }
    }

    /// What the next hop announced last, where it was heard of within the time that a connection may wait. An upstream's EHLO is
    /// answered by it, so that a session without a mail needs no connection; [`super::relay::Relay::begin`] compares.
    pub(super) fn announced(&self) -> Option<Extensions> {
        self.state().announced.filter(|announced| announced.since.elapsed() < limits::PARKED_IDLE).map(|announced| announced.extensions)
    }

    /// A connection was opened just now: what its next hop announces, and whether it speaks TLS.
    pub(super) fn learn(&self, hop: &NextHop) {
        let mut state = self.state();
        if state.pooling == Pooling::Off {
            return;
        }
        state.announced = Some(Announced { extensions: hop.extensions(), since: Instant::now() });
        let address = hop.key().address;
        if !hop.is_encrypted() || state.encrypted.contains(&address) || state.encrypted.len() >= ADDRESSES {
            return;
        }
        state.encrypted.push(address);
        let clear: Vec<Idle> = state.idle.extract_if(.., |idle| idle.hop.key().address == address && !idle.hop.is_encrypted()).collect();
        drop(state);
        self.metrics.unparked(clear.len());
        self.retire(clear.into_iter().map(|idle| idle.hop));
    }

    /// Whether a session may go on with a connection of its own by this pool's configuration. Where connections are not pooled, it
    /// is enough that it [suits](NextHop::suits).
    pub(super) fn is_home_of(self: &Arc<Self>, hop: &NextHop) -> bool {
        hop.home.as_ref().is_none_or(|home| Arc::ptr_eq(home, self)) || self.state().pooling == Pooling::Off
    }

    /// Notes that somebody has waited for [`limits::STARVED`] to be greeted at an address: it may serve so many connections and no
    /// more, and those that wait here would be served for ever.
    pub(super) fn starve(&self, address: SocketAddr) -> Starving<'_> {
        self.state().starving.push(address);
        self.discard(address);
        Starving { pool: self, address }
    }

    /// Closes all that wait for an address, beside what the caller does.
    pub(super) fn discard(&self, address: SocketAddr) {
        let discarded: Vec<Idle> = self.state().idle.extract_if(.., |idle| idle.hop.key().address == address).collect();
        self.metrics.unparked(discarded.len());
        self.retire(discarded.into_iter().map(|idle| idle.hop));
    }

    /// Forgets what was announced: a next hop announces something else.
    pub(super) fn forget(&self) {
        self.state().announced = None;
    }

    /// Counts a connection that was replaced by a new one, before a mail.
    pub(super) fn replaced(&self) {
        self.metrics.pooled(Pooled::Replaced);
    }

    /// Closes all that wait, and parks nothing any more: the configuration has been replaced, or the service drains.
    pub fn close(&self) {
        let mut state = self.state();
        state.pooling = Pooling::Off;
        state.announced = None;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        self.metrics.unparked(idle.len());
        self.retire(idle.into_iter().map(|idle| idle.hop));
    }

    /// Closes with QUIT, beside what the caller does.
    fn retire(&self, hops: impl IntoIterator<Item = NextHop>) {
        for hop in hops {
            self.metrics.pooled(Pooled::Closed);
            tokio::spawn(hop.quit());
        }
    }

    /// Closes what has waited too long, as long as something waits.
    async fn keep(pool: Weak<Self>) {
        while let Some(next) = pool.upgrade().and_then(|pool| pool.expire()) {
            sleep_until(next).await;
        }
    }

    /// Closes what has waited too long. Returns when the next one's time is over.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        let expired: Vec<Idle> = state.idle.extract_if(.., |idle| idle.end <= now).collect();
        let next = state.idle.iter().map(|idle| idle.end).min();
        if next.is_none() {
            state.keeper = Keeper::Gone;
        }
        drop(state);
        self.metrics.unparked(expired.len());
        self.retire(expired.into_iter().map(|idle| idle.hop));
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let idle = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).idle.len();
        self.metrics.unparked(idle);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.state().idle.len()).finish_non_exhaustive()
    }
}
