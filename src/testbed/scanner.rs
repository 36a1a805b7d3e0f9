//! A link scanner, as Safe Links is one: it opens every link of every mail, except of those whose tag its rule knows.
//!
//! It uses mailin-embedded, which is good enough for a sink on loopback and for nothing else (docs/decisions.md).

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use mailin_embedded::{Handler, Response, Server, response};

use crate::message::Message;

/// A mail as it reached the mailbox, and what the scanner did to it on the way.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The octets of the mail, as delivered.
    pub raw: Vec<u8>,
    /// The links that the scanner opened, each with the status of the response.
    pub opened: Vec<(String, u16)>,
    /// Whether the rule made the scanner leave the mail alone.
    pub skipped: bool,
}

/// A scanner on loopback with a mailbox behind it.
pub struct Scanner {
    address: SocketAddr,
    mailbox: Receiver<Delivered>,
    rule: Rule,
}

/// The rule: a header, and the words of which it must hold one. As Exchange does, it compares whole words and no case.
#[derive(Clone, Debug)]
pub struct Rule {
    header: Arc<str>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Rule {
    /// Takes these tokens in the place of those from before, for the next mail on.
    pub fn learn(&self, tokens: &[&str]) {
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = tokens.iter().map(|token| (*token).to_owned()).collect();
    }

    fn takes(&self, message: &Message<'_>) -> bool {
        let Some(value) = message.headers().first(&self.header) else { return false };
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let mut words = value.split(u8::is_ascii_whitespace);
        words.any(|word| tokens.iter().any(|token| token.as_bytes().eq_ignore_ascii_case(word)))
    }
}

impl Scanner {
    /// Starts scanning on a free port. Its thread ends with the process: mailin-embedded cannot be stopped.
    ///
    /// # Errors
    /// No port can be had on loopback.
    pub fn serve(header: &str, token: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the scanner's port")?;
        let address = listener.local_addr()?;
        let (sender, mailbox) = mpsc::channel();
        let rule = Rule { header: header.into(), tokens: Arc::default() };
        rule.learn(&[token]);
        let desk = Desk { rule: rule.clone(), sender, mail: Vec::new() };
        let mut server = Server::new(desk);
        server.with_name("scanner.test").with_tcp_listener(listener).with_num_threads(8);
        thread::spawn(move || {
            if let Err(error) = server.serve() {
                tracing::error!(%error, "the scanner stopped");
            }
        });
        Ok(Self { address, mailbox, rule })
    }

    /// The address that accepts mails by SMTP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The rule, which can be changed while mails come.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule.clone()
    }

    /// The next mail of the mailbox.
    ///
    /// # Errors
    /// No mail comes within `patience`.
    pub fn next(&self, patience: Duration) -> anyhow::Result<Delivered> {
        self.mailbox.recv_timeout(patience).context("no mail came through the scanner")
    }

    /// Opens a link as a reader's browser would; returns the status. Every host leads to loopback.
    ///
    /// # Errors
    /// Where the site does not answer.
    pub fn open(link: &str) -> anyhow::Result<u16> {
        let (local, host) = on_loopback(link)?;
        Ok(agent().get(&local).header("Host", host).call()?.status().as_u16())
    }

    /// Opens a guard link as a reader does: the page, a press of its button, and the link that it leads to.
    ///
    /// # Errors
    /// Where the page has no button or leads nowhere.
    pub fn press(guard_link: &str) -> anyhow::Result<u16> {
        let (local, host) = on_loopback(guard_link)?;
        let browser = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0";
        let mut shown = agent().get(&local).header("Host", &host).header("User-Agent", browser).header("Accept-Language", "en").call()?;
        let page = shown.body_mut().read_to_string()?;
        let nonce =
            page.split("name=\"nonce\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).context("the page has no button")?;
        let pressed = agent()
            .post(&local)
            .header("Host", host)
            .header("User-Agent", browser)
            .header("Accept-Language", "en")
            .send_form([("nonce", nonce)])?;
        let link = pressed.headers().get("location").and_then(|link| link.to_str().ok()).context("the press led nowhere")?;
        Self::open(link)
    }
}

/// A link's address on this machine, and the host that it names.
fn on_loopback(link: &str) -> anyhow::Result<(String, String)> {
    let url = url::Url::parse(link)?;
    let port = url.port_or_known_default().unwrap_or(80);
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok((format!("http://127.0.0.1:{port}{}{query}", url.path()), url.host_str().unwrap_or_default().to_owned()))
}

/// A browser that follows no redirect by itself.
fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).timeout_global(Some(Duration::from_secs(5)));
    ureq::Agent::new_with_config(config.build())
}

#[derive(Clone)]
struct Desk {
    rule: Rule,
    sender: Sender<Delivered>,
    mail: Vec<u8>,
}

impl Handler for Desk {
    fn data_start(&mut self, _domain: &str, _from: &str, _is8bit: bool, _to: &[String]) -> Response {
        self.mail.clear();
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.mail.extend_from_slice(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let raw = std::mem::take(&mut self.mail);
        let message = Message::read(&raw);
        let skipped = self.rule.takes(&message);
        let mut opened = Vec::new();
        if !skipped {
            for found in message.content().links {
                let link = found.link.expose();
                if !opened.iter().any(|(known, _)| known == link) {
                    opened.push((link.to_owned(), Scanner::open(link).unwrap_or(0)));
                }
            }
        }
        // Nobody may be waiting for the mail.
        let _ = self.sender.send(Delivered { raw, opened, skipped });
        response::OK
    }

    fn helo(&mut self, _ip: IpAddr, _domain: &str) -> Response {
        response::OK
    }
}
