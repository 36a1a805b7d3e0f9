//! A harness that reads like English: `hop().allow(..).next_hop(&sink).start()`.
#![allow(dead_code, unused_imports, reason = "the benches use a part of it")]

pub(crate) mod certificate;
mod client;
pub(crate) mod dkim;
pub(crate) mod faulty;
pub(crate) mod mta;
mod needs;
pub(crate) mod page;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod scanners;
pub(crate) mod sink;
pub(crate) mod strict;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    allowlist::{Allowlist, Entry, Mode, reader::Readers},
    audit::{Audit, pseudonym::Pseudonyms},
    edit::{
        guard_link::GuardLinkKeys,
        tag::{Key, Tagger, Token},
    },
    identity::{ArcSigner, Authenticator, Network},
    link_store::LinkStore,
    mail::Protocol,
    message::{Domain, Message},
    milter,
    pipeline::{Pipeline, PipelineConfig, Shared, fault::FaultPoint},
    recognition::Recogniser,
    service::{Shutdown, listener::ListenerFailed, memory::MemoryBudget},
    settings::{Problems, allow},
    smtp::{
        config::{Config, Trace},
        server::{self, Listener, Server, Snapshot, Start},
    },
    testbed::{Signer, Zone},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::DropGuard;

pub(crate) use self::{
    client::{Client, stuffed},
    needs::{corpus, dkimpy_signs, dkimpy_verifies, missing, needs, shared},
    sink::Sink,
};

pub(crate) const TOKEN: &str = "test-token-1234";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An allowlist entry for a vendor of the tests.
pub(crate) const VENDOR: &str = r#"
from = ["vendor.test"]
other_links = ["www.vendor.test"]
recipients = ["*@corp.example"]
owner = "it@corp.example"
action = "tag"
[links]
password_reset = ["login.vendor.test/reset/{token}"]
"#;

pub(crate) fn hop() -> Build {
    let mut config = Config::relay("hop.test", vec!["127.0.0.1:1".into()]);
    config.trace = Trace::Hidden;
    Build {
        allow: Vec::new(),
        readers: Readers::default(),
        mode: Mode::Enforce,
        identity: Who::Nobody,
        start: Start::Clear,
        config,
        audit: None,
        sealers: Vec::new(),
        guard: None,
        links: None,
        arc: None,
        fault: None,
        pseudonyms: Pseudonyms::default(),
        protocols: &[Protocol::Smtp],
    }
}

pub(crate) struct Build {
    allow: Vec<(String, String)>,
    readers: Readers,
    mode: Mode,
    identity: Who,
    start: Start,
    config: Config,
    audit: Option<PathBuf>,
    sealers: Vec<Domain>,
    guard: Option<Arc<GuardLinkKeys>>,
    links: Option<Arc<LinkStore>>,
    arc: Option<ArcSigner>,
    fault: Option<FaultPoint>,
    pseudonyms: Pseudonyms,
    protocols: &'static [Protocol],
}

enum Who {
    Nobody,
    Zone(SocketAddr, Duration),
    Upstream(String),
}

impl Build {
    pub(crate) fn allow(mut self, name: &str, text: &str) -> Self {
        self.allow.push((name.into(), text.into()));
        self
    }

    /// Whose readers these domains and aliases are.
    pub(crate) fn for_readers(mut self, domains: &[&str], aliases: &[&str]) -> Self {
        self.readers = Readers::new(domains.iter().map(|name| Domain::parse(name).unwrap()));
        for line in aliases {
            self.readers.add_alias(line).unwrap();
        }
        self
    }

    pub(crate) fn observing(mut self) -> Self {
        self.mode = Mode::Observe;
        self
    }

    pub(crate) fn next_hop(self, sink: &Sink) -> Self {
        self.next_hop_at(sink.address)
    }

    pub(crate) fn next_hop_at(mut self, address: impl std::fmt::Display) -> Self {
        self.config.next_hops = vec![address.to_string()];
        self
    }

    /// Tried after the ones before.
    pub(crate) fn or_next_hop(mut self, sink: &Sink) -> Self {
        self.config.next_hops.push(sink.address.to_string());
        self
    }

    pub(crate) fn asking(self, zone: &Zone) -> Self {
        self.asking_at(zone.address(), Duration::from_secs(5))
    }

    pub(crate) fn asking_at(mut self, dns: SocketAddr, deadline: Duration) -> Self {
        self.identity = Who::Zone(dns, deadline);
        self
    }

    /// Seals guard links.
    pub(crate) fn with_guard(mut self, guard_links: Arc<GuardLinkKeys>) -> Self {
        self.guard = Some(guard_links);
        self
    }

    /// Stores them in this folder, so that they are short.
    pub(crate) fn storing_links(mut self, folder: &Path) -> Self {
        self.links = Some(Arc::new(LinkStore::new(folder.to_owned())));
        self
    }

    /// Vouches for changed mails.
    pub(crate) fn with_arc(mut self, arc_signer: ArcSigner) -> Self {
        self.arc = Some(arc_signer);
        self
    }

    /// Believes the ARC seals of these.
    pub(crate) fn sealed_by(mut self, sealers: &[&str]) -> Self {
        self.sealers = sealers.iter().map(|name| Domain::parse(name).unwrap()).collect();
        self
    }

    /// Panics there, with every mail.
    pub(crate) fn failing(mut self, fault: FaultPoint) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Shares its memory with milters.
    pub(crate) fn beside_milters(mut self) -> Self {
        self.protocols = &[Protocol::Smtp, Protocol::Milter];
        self
    }

    pub(crate) fn trusting_upstream(mut self, authserv_id: &str) -> Self {
        self.identity = Who::Upstream(authserv_id.into());
        self
    }

    pub(crate) fn tracing(mut self) -> Self {
        self.config.trace = Trace::Written;
        self
    }

    /// TLS from the first octet.
    pub(crate) fn wrapped(mut self) -> Self {
        self.start = Start::Tls;
        self
    }

    /// Set up otherwise.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) async fn start(self) -> Hop {
        let folder = TempDir::new().unwrap();
        let mut problems = Problems::default();
        let entries: Vec<Entry> = self
            .allow
            .iter()
            .filter_map(|(name, text)| allow::compile(&format!("{name}.toml"), name, text, self.mode, &mut Vec::new(), &mut problems))
            .collect();
        assert!(problems.0.is_empty(), "{problems}");
        let mut config = self.config;
        let hostname = config.hostname.clone();
        let trusted = if matches!(self.identity, Who::Upstream(_)) {
            vec![Network::parse("127.0.0.0/8").unwrap()]
        } else {
            config.trusted_upstreams.clone()
        };
        config.trusted_upstreams.clone_from(&trusted);
        let authenticator = match self.identity {
            Who::Nobody => Authenticator::upstream(vec!["nobody.test".into()], trusted, hostname.clone()),
            Who::Zone(dns, deadline) => {
                Authenticator::here(&[dns], deadline, trusted, hostname.clone()).unwrap().trusting_arc(self.sealers)
            }
            Who::Upstream(id) => Authenticator::upstream(vec![id], trusted, hostname.clone()),
        };
        let audit_folder = self.audit.unwrap_or_else(|| folder.path().join("audit"));
        let audit = Audit::open(&audit_folder).unwrap();
        let pipeline = PipelineConfig {
            allowlist: Allowlist::new(entries).for_readers(self.readers),
            authenticator: Arc::new(authenticator),
            tagger: tagger(),
            guard_links: self.guard,
            link_store: self.links,
            arc_signer: self.arc,
            inspect_limit: config.inspect_limit,
            policy: String::new(),
            pseudonyms: self.pseudonyms,
        };
        let shared = Shared::new(Recogniser::built_in().unwrap(), Some(audit)).with_fault(self.fault);
        let pipeline = Pipeline::build(pipeline, Arc::new(shared));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let memory = MemoryBudget::new(config.bounds.memory, self.protocols);
        let server = Arc::new(Server::new(Snapshot::new(config, Arc::new(pipeline)).unwrap(), memory.clone()));
        let shutdown = Shutdown::default();
        let running = tokio::spawn(server::run(vec![Listener { socket, start: self.start }], Arc::clone(&server), shutdown.clone()));
        Hop { address, audit: audit_folder, server, memory, _stop: shutdown.drain.clone().drop_guard(), shutdown, running, _folder: folder }
    }
}

pub(crate) fn tagger() -> Tagger {
    Tagger {
        header: "X-Firstclick".into(),
        tokens: vec![Token::parse(TOKEN).unwrap()],
        staged: Vec::new(),
        keys: vec![Key::parse(&BASE64.encode([7; 32])).unwrap()],
        authserv_id: "hop.test".into(),
    }
}

pub(crate) struct Hop {
    pub address: SocketAddr,
    pub audit: PathBuf,
    pub(crate) server: Arc<Server>,
    pub(crate) memory: MemoryBudget,
    pub(crate) shutdown: Shutdown,
    running: JoinHandle<Result<(), ListenerFailed>>,
    /// A hop that is dropped stops.
    _stop: DropGuard,
    _folder: TempDir,
}

impl Hop {
    /// Serves the milter with the same pipeline; it is open as long as the test runs.
    pub(crate) async fn milter(&self) -> SocketAddr {
        let config = milter::Config {
            listen: vec![milter::Address::Inet(SocketAddr::from(([127, 0, 0, 1], 0)))],
            socket_mode: 0o600,
            socket_owner: None,
            hostname: "hop.test".into(),
            inspect_limit: self.server.snapshot().pipeline.config.inspect_limit,
            connections: 600,
            drain: PATIENCE,
        };
        let listeners = vec![milter::bind(&config.listen[0], &config).await.unwrap()];
        let milter::Listener::Inet(socket) = &listeners[0] else { panic!("a socket of the network") };
        let address = socket.local_addr().unwrap();
        let server = Arc::new(milter::Server::new(Arc::clone(&self.server.snapshot().pipeline), &config, self.memory.clone()));
        tokio::spawn(milter::run(listeners, server, self.shutdown.clone()));
        address
    }

    /// Says stop, as SIGTERM does.
    pub(crate) fn stop(&mut self) {
        self.shutdown.drain.cancel();
    }

    pub(crate) async fn has_stopped(self) {
        self.ended().await.unwrap();
    }

    /// How it ended.
    pub(crate) async fn ended(self) -> Result<(), ListenerFailed> {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the hop stops").unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sends a mail in a session of its own; the reply to its final dot, or the first refusal.
    pub(crate) async fn send(&self, from: &str, to: &[&str], mail: &[u8]) -> String {
        let mut client = self.client().await;
        client.greet().await;
        client.send(from, to, mail).await
    }

    /// The audit's records, once there are so many mails among them.
    pub(crate) async fn records(&self, mails: usize) -> Vec<Value> {
        poll("audit records", || {
            let records = read_records(&self.audit);
            (records.iter().filter(|record| record["type"] == "mail").count() >= mails).then_some(records)
        })
        .await
    }

    /// The newest mail's record, once there are so many.
    pub(crate) async fn record(&self, mails: usize) -> Value {
        self.records(mails).await.into_iter().rfind(|record| record["type"] == "mail").unwrap()
    }
}

pub(crate) fn read_records(folder: &Path) -> Vec<Value> {
    let mut records = Vec::new();
    for file in firstclick::audit::chain::files(folder).unwrap_or_default() {
        let text = fs::read_to_string(file).unwrap_or_default();
        records.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    records
}

/// Waits until something is there.
pub(crate) async fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: nothing came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The path of the reader whom a saved mail names in To; of bob where it names nobody.
pub(crate) fn reader_of(mail: &[u8]) -> String {
    let to = Message::read(mail).headers().first("To").and_then(|value| firstclick::message::mailbox::list(&value).ok());
    to.and_then(|list| list.first().map(|reader| format!("<{reader}>"))).unwrap_or_else(|| "<bob@corp.example>".into())
}

/// A reset mail of the vendor's, not signed.
pub(crate) fn reset_mail() -> String {
    let date = firstclick::clock::rfc5322(firstclick::clock::now());
    format!(
        "From: Vendor <support@vendor.test>\r\nTo: bob@corp.example\r\nSubject: Finish resetting your password\r\nDate: {date}\r\n\
         Message-ID: <reset-1@vendor.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         You asked to reset your password. Open this link to choose a new one:\r\n\r\nhttps://login.vendor.test/reset/{SECRET}\r\n\r\n\
         The link works once.\r\n\r\nhttps://www.vendor.test/\r\n"
    )
}

/// The field of a signature that an upstream says it verified; nobody else can.
pub(crate) fn told_signature(domain: &str) -> String {
    format!(
        "DKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=s1; t={};\r\n\th=from:to:subject:date:message-id:mime-version:content-type; bh=YWJj; b=YWJj\r\n",
        firstclick::clock::now().as_second()
    )
}

/// The token of [`reset_mail`]'s link.
pub(crate) const SECRET: &str = "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";

/// Whether a mail that arrived carries our tag, with a signature that belongs to it.
pub(crate) fn is_tagged(mail: &[u8]) -> bool {
    let message = Message::read(mail);
    let there = message.headers().named("X-Firstclick").next().is_some();
    assert_eq!(there, tagger().verifies(&message), "a tag without its signature, or the other way round");
    there
}

/// A hop whose entry takes vendor.test's mails, and that vendor.
pub(crate) async fn vendor() -> (Hop, Signer, Zone) {
    let zone = Zone::serve().await.unwrap();
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    let hop = hop().allow("vendor", VENDOR).asking(&zone).start().await;
    (hop, signer, zone)
}
