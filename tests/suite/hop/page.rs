//! A guard page on loopback, and requests to it by hand.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    audit::Audit,
    clock,
    edit::{
        guard_link::{GuardLink, GuardLinkKeys, SealKey},
        tag::Key,
    },
    http::{self, Config, Confirm, HelpDesk},
    service::Shutdown,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use super::{PATIENCE, poll, read_records};

pub(crate) const URL: &str = "https://links.corp.example";

pub(crate) fn seal_key(letter: u8) -> SealKey {
    SealKey::parse(&BASE64.encode([letter; 32])).unwrap()
}

pub(crate) fn guard_links(url: &str) -> Arc<GuardLinkKeys> {
    Arc::new(GuardLinkKeys { url: url.into(), keys: vec![seal_key(3)], lifetime: Duration::from_hours(24) })
}

fn config(address: SocketAddr) -> Config {
    Config {
        recipient_keys: Vec::new(),
        listen: address,
        guard_links: guard_links(&format!("http://{address}")),
        links: None,
        nonces: Key::parse(&BASE64.encode([4; 32])).unwrap(),
        certificate: None,
        proxies: Vec::new(),
        confirm: Confirm::Press,
        others: ["google.com", "apple.com", "zoom.us"].map(str::to_owned).to_vec(),
        logo: None,
        note: String::new(),
        help_desk: HelpDesk::Closed,
    }
}

/// The server of a guard page, without records.
pub(crate) fn server() -> Arc<http::Server> {
    Arc::new(http::Server::new(config(SocketAddr::from(([127, 0, 0, 1], 0))), None).unwrap())
}

/// A guard page on loopback.
pub(crate) struct Page {
    pub(crate) address: SocketAddr,
    pub(crate) guard_links: Arc<GuardLinkKeys>,
    pub(crate) audit: TempDir,
    _stop: DropGuard,
}

impl Page {
    pub(crate) async fn open(change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = config(address);
        change(&mut config);
        let guard_links = Arc::clone(&config.guard_links);
        let audit = TempDir::new().unwrap();
        let server = Arc::new(http::Server::new(config, Some(Audit::open(audit.path()).unwrap())).unwrap());
        let shutdown = Shutdown::default();
        let stop = shutdown.drain.clone().drop_guard();
        tokio::spawn(http::run(listener, server, shutdown));
        Self { address, guard_links, audit, _stop: stop }
    }

    pub(crate) fn seal(&self, link: &str) -> String {
        self.seal_of(link, "vendor.test", Duration::from_hours(1))
    }

    pub(crate) fn seal_of(&self, link: &str, author: &str, lifetime: Duration) -> String {
        // The mail came a while ago, as it does when people open it.
        let at = clock::now() - Duration::from_mins(1);
        let sealed = GuardLink {
            link: link.into(),
            mail: "mail-1".into(),
            entry: "vendor".into(),
            author: author.into(),
            recipient: "bob@corp.example".into(),
            at,
            until: at + lifetime,
        };
        self.guard_links.seal(&sealed).unwrap()
    }

    pub(crate) async fn clicks(&self, count: usize) -> Vec<Value> {
        poll("clicks", || {
            let clicks: Vec<Value> = read_records(self.audit.path()).into_iter().filter(|record| record["type"] == "click").collect();
            (clicks.len() >= count).then_some(clicks)
        })
        .await
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

pub(crate) const BROWSER: &[(&str, &str)] =
    &[("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"), ("accept-language", "en")];

/// One request by hand; redirects are not followed.
pub(crate) async fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut text = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", body.len()));
    }
    raw(host.parse().unwrap(), format!("{text}\r\n{body}").into_bytes()).await
}

pub(crate) async fn raw(address: SocketAddr, octets: Vec<u8>) -> Answer {
    let read = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&octets);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    let text = String::from_utf8(read.await.unwrap()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    Answer { status, headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(), body: body.to_owned() }
}

pub(crate) fn nonce(page: &Answer) -> String {
    page.body.split("name=\"nonce\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

pub(crate) const LINK: &str = "https://login.vendor.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a?x=1&y=2";
