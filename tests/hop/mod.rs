//! A harness that reads like English: `hop().allow(..).next_hop(&sink).start()`.
#![allow(dead_code, reason = "each test file uses its own part of it")]

pub(crate) mod certificate;
pub(crate) mod dkim;
pub(crate) mod faulty;
pub(crate) mod mta;
pub(crate) mod page;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod sink;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    allowlist::{Allowlist, Entry, Mode, reader::Readers},
    audit::Audit,
    edit::{
        guard_link::GuardLinkKeys,
        tag::{Key, Tagger, Token},
    },
    identity::{ArcSigner, Authenticator, Network},
    link_store::LinkStore,
    message::{Domain, Message},
    milter,
    pipeline::Pipeline,
    recognition::Recogniser,
    settings::{Problems, allow},
    smtp::{
        config::{Config, Trace},
        server::{self, Listener, Server, Snapshot, Start},
    },
    testbed::{Signer, Zone},
    tls::Channel,
};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use tokio_rustls::rustls::ClientConfig;

pub(crate) use self::sink::Sink;

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

    pub(crate) fn trusting_arc(mut self, authserv_id: &str) -> Self {
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
        let pipeline = Pipeline::new(
            Allowlist::new(entries).for_readers(self.readers),
            Recogniser::built_in().unwrap(),
            authenticator,
            tagger(),
            Some(audit),
            config.inspect_limit,
        )
        .with_guard(self.guard)
        .storing_links(self.links)
        .with_arc(self.arc);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Arc::new(Server::new(Snapshot::new(config, Arc::new(pipeline)).unwrap()));
        let running = tokio::spawn(server::run(vec![Listener { socket, start: self.start }], Arc::clone(&server), async {
            let _ = stopped.await;
        }));
        Hop { address, audit: audit_folder, server, stop: Some(stop), running, _folder: folder }
    }
}

pub(crate) fn tagger() -> Tagger {
    Tagger {
        header: "X-Firstclick".into(),
        tokens: vec![Token::parse(TOKEN).unwrap()],
        keys: vec![Key::parse(&BASE64.encode([7; 32])).unwrap()],
        authserv_id: "hop.test".into(),
    }
}

pub(crate) struct Hop {
    pub address: SocketAddr,
    pub audit: PathBuf,
    pub(crate) server: Arc<Server>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
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
            inspect_limit: self.server.snapshot().pipeline.inspect_limit,
            connections: 600,
            drain: PATIENCE,
        };
        let listeners = milter::bind(&config).await.unwrap();
        let milter::Listener::Inet(socket) = &listeners[0] else { panic!("a socket of the network") };
        let address = socket.local_addr().unwrap();
        let server = Arc::new(milter::Server::new(Arc::clone(&self.server.snapshot().pipeline), &config));
        let (stopping, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            milter::run(listeners, server, PATIENCE, stopped).await;
            drop(stopping);
        });
        address
    }

    /// Says stop, as SIGTERM does.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn has_stopped(self) {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the hop stops").unwrap();
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

/// An SMTP client that says what it is told.
pub(crate) struct Client {
    stream: Channel,
    input: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("a greeting")
    }

    /// None where nobody is there, or nobody greets.
    pub(crate) async fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        // Where nobody listens, a loopback connection can meet itself: the port that it leaves from is the one it goes to.
        if stream.local_addr().ok()? == address {
            return None;
        }
        Self::on(stream).await
    }

    /// The same, from an address of the test's choice.
    pub(crate) async fn from(local: [u8; 4], address: SocketAddr) -> Option<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((local, 0))).unwrap();
        Self::on(socket.connect(address).await.ok()?).await
    }

    async fn on(stream: TcpStream) -> Option<Self> {
        stream.set_nodelay(true).unwrap();
        let mut client = Self { stream: Channel::Clear(stream), input: Vec::new() };
        client.reply().await.starts_with("220 ").then_some(client)
    }

    /// With TLS from the first octet.
    pub(crate) async fn connect_encrypted(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = Channel::Clear(stream).connect(config, ServerName::try_from(name.to_owned()).unwrap()).await?;
        let mut client = Self { stream, input: Vec::new() };
        assert!(client.reply().await.starts_with("220 "));
        Ok(client)
    }

    /// Shakes hands; what the server said before is in `input` still.
    pub(crate) async fn encrypt(&mut self, config: Arc<ClientConfig>, name: &str) -> io::Result<()> {
        assert!(self.input.is_empty(), "the server says nothing in the clear behind its 220");
        self.stream = std::mem::take(&mut self.stream).connect(config, ServerName::try_from(name.to_owned()).unwrap()).await?;
        Ok(())
    }

    pub(crate) async fn greet(&mut self) -> String {
        self.say("EHLO client.test").await
    }

    /// Sends a line and reads its reply, of one line or several.
    pub(crate) async fn say(&mut self, line: &str) -> String {
        self.raw(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Sends octets; a server that is gone shows in the reply that does not come.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// The next reply; empty where the server hung up.
    pub(crate) async fn reply(&mut self) -> String {
        self.reply_within(PATIENCE).await
    }

    pub(crate) async fn reply_within(&mut self, patience: Duration) -> String {
        let mut text = String::new();
        loop {
            while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                text.push_str(&String::from_utf8(line).unwrap());
                let last = text.lines().next_back().unwrap();
                if last.as_bytes().get(3) != Some(&b'-') {
                    return text;
                }
            }
            let read = tokio::time::timeout(patience, self.stream.read_buf(&mut self.input)).await.expect("a reply comes");
            if read.unwrap_or(0) == 0 {
                return text;
            }
        }
    }

    pub(crate) async fn send(&mut self, from: &str, to: &[&str], mail: &[u8]) -> String {
        let reply = self.say(&format!("MAIL FROM:{from}")).await;
        if !reply.starts_with("250") {
            return reply;
        }
        for to in to {
            let reply = self.say(&format!("RCPT TO:{to}")).await;
            if !reply.starts_with("250") {
                return reply;
            }
        }
        let reply = self.say("DATA").await;
        if !reply.starts_with("354") {
            return reply;
        }
        self.raw(&stuffed(mail)).await;
        self.reply().await
    }
}

/// A mail as it goes over the wire, with its end.
pub(crate) fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(mail.len() + 64);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !wire.is_empty() && !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
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

/// The program of a test that needs one; where it is missing, the test says so and is over. In CI nothing may be
/// missing.
pub(crate) fn needs(program: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|paths| {
        std::env::split_paths(&paths)
            .chain(["/usr/sbin".into(), "/usr/bin".into()])
            .map(|folder| folder.join(program))
            .find(|path| path.is_file())
    });
    if found.is_none() {
        missing(program);
    }
    found
}

/// Says that something is missing.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI nothing may be missing: {what}");
    println!("skipped: needs {what}");
}

/// Runs a script for dkimpy, another implementation; none where it is missing.
fn dkimpy(script: &str, arguments: &[&str], mail: &[u8]) -> Option<Vec<u8>> {
    let python = "/usr/bin/python3";
    let there = Command::new(python).args(["-c", "import dkim"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !there {
        missing("python3-dkim");
        return None;
    }
    let mut child = Command::new(python).args(["-c", script]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    io::Write::write_all(child.stdin.as_mut().unwrap(), mail).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

/// Whether dkimpy verifies a mail's signature with this key.
pub(crate) fn dkimpy_verifies(mail: &[u8], public_key: &str) -> Option<bool> {
    let script = r"
import sys, dkim
key = sys.argv[1].encode()
def txt(name, timeout=5):
    return b'v=DKIM1; k=rsa; p=' + key
print(dkim.verify(sys.stdin.buffer.read(), dnsfunc=txt))
";
    dkimpy(script, &[public_key], mail).map(|said| said.trim_ascii() == b"True")
}

/// Signs a mail of bank.test by dkimpy.
pub(crate) fn dkimpy_signs(mail: &str, private_key: &str, algorithm: &str) -> Option<Vec<u8>> {
    let script = r"
import sys, dkim
mail = sys.stdin.buffer.read()
fields = [b'from', b'to', b'subject', b'date', b'message-id', b'mime-version', b'content-type']
signature = dkim.sign(mail, b's1', b'bank.test', sys.argv[1].encode(), include_headers=fields, signature_algorithm=sys.argv[2].encode())
sys.stdout.buffer.write(signature + mail)
";
    dkimpy(script, &[private_key, algorithm], mail.as_bytes())
}

/// Whether a mail that arrived carries our tag, with a signature that belongs to it.
pub(crate) fn is_tagged(mail: &[u8]) -> bool {
    let message = Message::read(mail);
    let there = message.headers().named("X-Firstclick").next().is_some();
    assert_eq!(there, tagger().verifies(&message), "a tag without its signature, or the other way round");
    there
}

/// The files of the shared corpus; none where it is not at hand.
pub(crate) fn corpus(folders: &[&str]) -> Option<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !root.exists() {
        println!("skipped: needs ../shared/corpus");
        return None;
    }
    let mut files = Vec::new();
    for folder in folders {
        files.extend(
            fs::read_dir(root.join(folder))
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|end| end == "eml")),
        );
    }
    files.sort();
    Some(files)
}

/// A hop whose entry takes vendor.test's mails, and that vendor.
pub(crate) async fn vendor() -> (Hop, Signer, Zone) {
    let zone = Zone::serve().await.unwrap();
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    let hop = hop().allow("vendor", VENDOR).asking(&zone).start().await;
    (hop, signer, zone)
}
