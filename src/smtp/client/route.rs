//! Which next hop gets a mail: the first that can be reached. One that failed within `dead_hop` is tried last.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};
use tokio_rustls::rustls::ClientConfig;

use super::{
    next_hop::{HopError, NextHop},
    pool::{Pool, Starving},
};
use crate::{
    failures::Failures,
    limits,
    smtp::{codec::extensions::Extensions, config::Config},
};

/// How `HOST:PORT` becomes addresses.
pub trait Resolve: Send + Sync {
    /// The addresses of one next hop, in the order in which they are tried.
    fn resolve<'a>(&'a self, next_hop: &'a str) -> Resolving<'a>;
}

/// The future of a resolver's answer.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// The system's resolver.
#[derive(Debug)]
struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, next_hop: &'a str) -> Resolving<'a> {
        Box::pin(async move { Ok(lookup_host(next_hop).await?.collect()) })
    }
}

/// The route to the next hops, and which of their names and addresses failed lately.
pub struct Route {
    resolver: Box<dyn Resolve>,
    dead: Mutex<HashMap<Target, Instant>>,
    /// Where failures are told; nowhere in a command.
    failures: Option<Arc<Failures>>,
}

/// What failed: a name that has no address, or an address that accepted no session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Name(String),
    Address(SocketAddr),
}

impl Default for Route {
    fn default() -> Self {
        Self::resolving(Box::new(System))
    }
}

impl Route {
    /// A route that asks this resolver.
    #[must_use]
    pub fn resolving(resolver: Box<dyn Resolve>) -> Self {
        Self { resolver, dead: Mutex::default(), failures: None }
    }

    /// The same, telling failures here.
    #[must_use]
    pub fn reporting(self, failures: Arc<Failures>) -> Self {
        Self { failures: Some(failures), ..self }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        if let Some(failures) = &self.failures {
            failures.failed(error);
        }
    }

    /// Connects to the first next hop that greets; every address of every name is tried once, and a name is resolved when it is
    /// its turn. The only place where a connection is made.
    ///
    /// # Errors
    /// That of the last one tried. None is tried once four times `deadlines.connect` are over.
    pub async fn connect(&self, config: &Config, tls: Option<&Arc<ClientConfig>>) -> Result<NextHop, HopError> {
        self.find(config, tls, Parked::None, Extensions::default()).await
    }

    /// The same, where connections may wait in a pool, and the upstream was `offered` these extensions. Of several addresses of a
    /// name the first that announces them is taken; where none does, one that does not.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(super) async fn find(
        &self,
        config: &Config,
        tls: Option<&Arc<ClientConfig>>,
        parked: Parked<'_>,
        offered: Extensions,
    ) -> Result<NextHop, HopError> {
        let mut search = Search {
            route: self,
            config,
            tls,
            parked,
            offered,
            misfit: None,
            // The upstream waits for its answer to MAIL, five minutes at most (RFC 5321 section 4.5.3.2.2).
            end: Instant::now() + config.deadlines.connect * 4,
            tried: HashSet::new(),
            last: HopError::Unreachable("no next hop has an address".into()),
        };
        let dead = self.dead(config);
        let (names_for_later, names): (Vec<&str>, Vec<&str>) =
            config.next_hops.iter().map(String::as_str).partition(|name| dead.contains(&Target::Name((*name).to_owned())));
        let mut addresses_for_later = Vec::new();
        for name in names {
            if let Some(hop) = self.take(&search, name) {
                return Ok(hop);
            }
            for address in search.resolve(name).await {
                if dead.contains(&Target::Address(address)) {
                    addresses_for_later.push((name, address));
                } else if let Some(hop) = search.connect(name, address).await {
                    return Ok(hop);
                }
            }
            // Another name is for when this one cannot be reached.
            if let Some(hop) = search.misfit.take() {
                return Ok(hop);
            }
        }
        for (name, address) in addresses_for_later {
            if let Some(hop) = search.connect(name, address).await {
                return Ok(hop);
            }
        }
        for name in names_for_later {
            if let Some(hop) = self.take(&search, name) {
                return Ok(hop);
            }
            for address in search.resolve(name).await {
                if let Some(hop) = search.connect(name, address).await {
                    return Ok(hop);
                }
            }
        }
        search.misfit.ok_or(search.last)
    }

    /// A connection that waits: its next hop is there.
    fn take(&self, search: &Search<'_>, name: &str) -> Option<NextHop> {
        let found = search.parked.take(name, search.config, search.offered)?;
        if let Some(failures) = &self.failures {
            failures.works();
        }
        Some(found)
    }

    /// The names and addresses that failed within the last `deadlines.dead_hop`.
    fn dead(&self, config: &Config) -> HashSet<Target> {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.retain(|_, since| since.elapsed() < config.deadlines.dead_hop);
        dead.keys().cloned().collect()
    }

    fn is_alive(&self, target: &Target) {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
    }

    fn is_dead(&self, target: Target) {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        if dead.len() >= REMEMBERED {
            dead.clear();
        }
        dead.insert(target, Instant::now());
    }
}

/// What becomes of the connections that wait, where one is wanted.
#[derive(Clone, Copy)]
pub(super) enum Parked<'p> {
    /// One of them will do.
    Wanted(&'p Pool),
    /// A new one is wanted; they only must not stand in its way.
    Unwanted(&'p Pool),
    /// There is no pool.
    None,
}

impl<'p> Parked<'p> {
    fn take(self, name: &str, config: &Config, offered: Extensions) -> Option<NextHop> {
        match self {
            Self::Wanted(pool) => pool.take(name, config, offered),
            Self::Unwanted(_) | Self::None => None,
        }
    }

    /// Makes room at an address at which somebody waits; see [`Pool::starve`].
    fn starve(self, address: SocketAddr) -> Option<Starving<'p>> {
        match self {
            Self::Wanted(pool) | Self::Unwanted(pool) => Some(pool.starve(address)),
            Self::None => None,
        }
    }

    /// Closes those to an address that does not answer.
    fn discard(self, address: SocketAddr) {
        if let Self::Wanted(pool) | Self::Unwanted(pool) = self {
            pool.discard(address);
        }
    }

    /// Closes those to an address; returns whether there were any.
    async fn evict(self, address: SocketAddr) -> bool {
        match self {
            Self::Wanted(pool) | Self::Unwanted(pool) => pool.evict(address).await,
            Self::None => false,
        }
    }
}

/// One search for a next hop that greets.
struct Search<'a> {
    route: &'a Route,
    config: &'a Config,
    tls: Option<&'a Arc<ClientConfig>>,
    parked: Parked<'a>,
    /// What the upstream was offered.
    offered: Extensions,
    /// The first that greets and does not announce it.
    misfit: Option<NextHop>,
    /// The time after which none is tried.
    end: Instant,
    tried: HashSet<SocketAddr>,
    /// The error of the last one tried.
    last: HopError,
}

impl Search<'_> {
    /// The addresses of a name, [`ADDRESSES`] at most; empty where it has none, or the time is over.
    async fn resolve(&mut self, next_hop: &str) -> Vec<SocketAddr> {
        if Instant::now() >= self.end {
            return Vec::new();
        }
        let found = match timeout(self.config.deadlines.connect, self.route.resolver.resolve(next_hop)).await {
            Ok(Ok(addresses)) if addresses.is_empty() => Err(HopError::Unreachable(format!("{next_hop} has no address"))),
            Ok(Ok(addresses)) => Ok(addresses.into_iter().take(ADDRESSES).collect()),
            Ok(Err(error)) => Err(HopError::Unreachable(format!("{next_hop}: {error}"))),
            Err(_) => Err(HopError::TimedOut),
        };
        let target = Target::Name(next_hop.to_owned());
        found.inspect(|_| self.route.is_alive(&target)).unwrap_or_else(|error| {
            // What a resolver says names it already.
            match &error {
                HopError::Unreachable(named) => self.route.failed(named),
                other => self.route.failed(&format_args!("{next_hop}: {other}")),
            }
            self.route.is_dead(Target::Name(next_hop.to_owned()));
            self.last = error;
            Vec::new()
        })
    }

    /// A session with this address; none where it fails, the time is over, it was tried before, or does not announce what was offered.
    async fn connect(&mut self, next_hop: &str, address: SocketAddr) -> Option<NextHop> {
        if Instant::now() >= self.end || !self.tried.insert(address) {
            return None;
        }
        let mut connecting = Box::pin(NextHop::connect(address, next_hop, self.config, self.tls));
        let mut found = if let Ok(found) = timeout(limits::STARVED, &mut connecting).await {
            found
        } else {
            let _starving = self.parked.starve(address);
            connecting.await
        };
        // It may take no more connections of one client than are open already.
        let may_be_full = matches!(found, Err(HopError::Refused(_) | HopError::Broken(_) | HopError::Unreachable(_)));
        if may_be_full && self.parked.evict(address).await {
            found = NextHop::connect(address, next_hop, self.config, self.tls).await;
        }
        match found {
            Ok(hop) => {
                self.route.is_alive(&Target::Address(address));
                if let Some(failures) = &self.route.failures {
                    failures.worked();
                }
                if hop.extensions().covers(self.offered) {
                    return Some(hop);
                }
                self.misfit.get_or_insert(hop);
                None
            }
            Err(error) => {
                self.route.failed(&format_args!("{next_hop} ({address}): {error}"));
                self.route.is_dead(Target::Address(address));
                self.parked.discard(address);
                self.last = error;
                None
            }
        }
    }
}

/// Addresses of one name that are tried, so that a name with hundreds does not use up the time.
const ADDRESSES: usize = 8;
/// Failed names and addresses that are kept: several times what a configuration names.
const REMEMBERED: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        net::TcpListener,
    };

    use super::*;
    use crate::smtp::codec::extensions::Extension;

    /// A resolver for tests: names with these addresses, and a name that hangs; the names asked for are kept.
    struct Names {
        names: HashMap<&'static str, Vec<SocketAddr>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Resolve for Names {
        fn resolve<'a>(&'a self, next_hop: &'a str) -> Resolving<'a> {
            self.asked.lock().unwrap().push(next_hop.to_owned());
            Box::pin(async move {
                match self.names.get(next_hop) {
                    Some(addresses) => Ok(addresses.clone()),
                    None if next_hop.starts_with("hangs.") => std::future::pending().await,
                    None => Err(io::ErrorKind::NotFound.into()),
                }
            })
        }
    }

    /// A next hop that greets so and replies 250 to everything; its address, and the number of connections it accepted.
    async fn next_hop(greeting: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
        announcing(greeting, b"250\r\n").await
    }

    /// The same with another reply to everything.
    async fn announcing(greeting: &'static [u8], reply: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    let _ = stream.write_all(greeting).await;
                    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                        let _ = stream.write_all(reply).await;
                    }
                });
            }
        });
        (address, connections)
    }

    struct Case {
        route: Route,
        /// Connections to `refuses.test`.
        refused: Arc<AtomicUsize>,
        asked: Arc<Mutex<Vec<String>>>,
        config: Config,
    }

    impl Case {
        /// These next hops; `lives.test` can be reached, `refuses.test` refuses sessions, and of the others there is no address.
        async fn of(next_hops: &[&str]) -> Self {
            let (refuses, refused) = next_hop(b"554 5.7.1 no\r\n").await;
            let (lives, lives2) = (next_hop(b"220\r\n").await.0, next_hop(b"220\r\n").await.0);
            let names =
                HashMap::from([("lives.test:25", vec![lives]), ("lives2.test:25", vec![lives2]), ("refuses.test:25", vec![refuses])]);
            let asked = Arc::default();
            let mut config = Config::relay("hop.test", next_hops.iter().map(|name| (*name).to_owned()).collect());
            config.deadlines.connect = Duration::from_millis(300);
            Self { route: Route::resolving(Box::new(Names { names, asked: Arc::clone(&asked) })), refused, asked, config }
        }

        /// The name that was connected to, and the names that were asked for.
        async fn connect(&self) -> (Option<String>, Vec<String>) {
            let hop = self.route.connect(&self.config, None).await;
            (hop.ok().map(|hop| hop.name().to_string()), std::mem::take(&mut *self.asked.lock().unwrap()))
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_when_it_is_its_turn() {
        let case = Case::of(&["lives.test:25", "hangs.test:25", "lives2.test:25"]).await;
        for _ in 0..2 {
            assert_eq!(case.connect().await, (Some("lives.test:25".into()), vec!["lives.test:25".into()]));
        }
    }

    #[tokio::test]
    async fn what_was_dead_is_tried_last() {
        for dead in ["hangs.test:25", "unknown.test:25"] {
            let case = Case::of(&[dead, "lives.test:25"]).await;
            assert_eq!(case.connect().await, (Some("lives.test:25".into()), vec![dead.into(), "lives.test:25".into()]));
            assert_eq!(case.connect().await, (Some("lives.test:25".into()), vec!["lives.test:25".into()]), "{dead} waits for its turn");
        }
        let mut case = Case::of(&["refuses.test:25", "lives.test:25"]).await;
        for _ in 0..2 {
            assert_eq!(case.connect().await.0, Some("lives.test:25".into()));
            assert_eq!(case.refused.load(Ordering::Relaxed), 1, "the second time it waits for its turn");
        }
        // The only next hop is tried all the same, and its error returned.
        case.config.next_hops.truncate(1);
        let error = case.route.connect(&case.config, None).await.unwrap_err();
        assert_eq!(error.to_string(), "session refused: 554 5.7.1 no");
        case.asked.lock().unwrap().clear();
        // It is tried first again once `dead_hop` is over.
        case.config.next_hops = vec!["unknown.test:25".into(), "lives.test:25".into()];
        case.config.deadlines.dead_hop = Duration::ZERO;
        for _ in 0..2 {
            assert_eq!(case.connect().await.1, ["unknown.test:25", "lives.test:25"]);
        }
    }

    #[tokio::test]
    async fn of_several_addresses_the_one_that_announces_what_was_offered() {
        let (plain, eight) = (next_hop(b"220\r\n").await.0, announcing(b"220\r\n", b"250-h\r\n250 8BITMIME\r\n").await.0);
        let names = HashMap::from([("both.test:25", vec![plain, eight]), ("other.test:25", vec![eight])]);
        let route = Route::resolving(Box::new(Names { names, asked: Arc::default() }));
        let config = Config::relay("hop.test", vec!["both.test:25".into(), "other.test:25".into()]);
        for (offered, found) in [
            (Extensions::default(), plain),
            (Extensions::default().with(Extension::EightBitMime), eight),
            // Nobody does: it is the first's to say so, and no other name's.
            (Extensions::default().with(Extension::Smtputf8), plain),
        ] {
            let hop = route.find(&config, None, Parked::None, offered).await.unwrap();
            assert_eq!((&**hop.name(), hop.key().address), ("both.test:25", found), "{offered:?}");
        }
    }

    #[tokio::test]
    async fn nothing_to_connect_to_is_an_error() {
        let case = Case::of(&["hangs.test:25"]).await;
        assert!(matches!(case.route.connect(&case.config, None).await, Err(HopError::TimedOut)));
        let case = Case::of(&["unknown.test:25"]).await;
        assert!(matches!(case.route.connect(&case.config, None).await, Err(HopError::Unreachable(_))));
    }
}
