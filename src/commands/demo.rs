//! `demo`: the product at work, all in this process and on loopback.
//!
//! A site whose links work once, a scanner that opens every link of every mail, and the hop in front of it. The same reset mail
//! goes without and with the hop; then an ordinary mail, a forged sender and a forged tag; and at last before a scanner without
//! any rule, where the link leads to the guard page. The command fails where any outcome is not the promised one.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{Answer, runtime};
use crate::{
    allowlist::{Allowlist, Entry, Mode},
    audit::{Audit, chain, pseudonym::Pseudonyms, verify},
    clock::{self, Stopwatch},
    edit::{
        guard_link::{self, GuardLinkKeys, SealKey},
        tag::{Key, Tagger, Token},
    },
    http,
    identity::Authenticator,
    mail::Protocol,
    pipeline::{Pipeline, PipelineConfig, Shared},
    recognition::Recogniser,
    service::{Shutdown, memory::MemoryBudget},
    settings::{Problems, allow},
    smtp::{
        config::Config,
        server::{self, Listener, Server, Snapshot, Start},
    },
    testbed::{Delivered, Scanner, Signer, Site, Zone, post},
};

/// What happens after the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The command ends, and everything stops.
    Leave,
    /// Everything stays up until TERM or INT (Ctrl-C).
    Stay,
}

pub(super) fn demo(after: After) -> anyhow::Result<Answer> {
    let runtime = runtime()?;
    let ends = runtime.block_on(async { Ends::listened_to() })?;
    let folder = Folder::make()?;
    let shutdown = Shutdown::default();
    let stage = runtime.block_on(Stage::set(&folder, &shutdown))?;
    let mut rows = stage.play(&runtime)?;
    explain(&mut rows, &folder)?;
    let kept = print(&rows)?;
    writeln!(io::stdout().lock(), "{}", audit_line(&rows, &folder)?)?;
    if after == After::Stay {
        stage.stay(&runtime, &folder, ends)?;
    }
    shutdown.drain.cancel();
    Ok(if kept { Answer::Yes } else { Answer::No })
}

/// TERM and INT, which end the demo once it has played, so that it leaves nothing behind.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn listened_to() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn come(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A folder for the audit, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let mut random = [0_u8; 6];
        let _ = aws_lc_rs::rand::fill(&mut random);
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = std::env::temp_dir().join(format!("firstclick-demo-{name}"));
        fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

/// How often a folder is tried to be removed: for a second.
const TRIES: usize = 50;

impl Drop for Folder {
    fn drop(&mut self) {
        // The audit's thread may put a file into it meanwhile.
        for _ in 0..TRIES {
            match fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(Duration::from_millis(20)),
                _ => return,
            }
        }
    }
}

/// The tag's token in the demo; a real one is a secret.
const TOKEN: &str = "demo-token-not-secret";
const HOP: &str = "firstclick";
/// The row of the hop before the scanner without any rule.
const GUARD: &str = "firstclick, guard";
const READER: &str = "bob@corp.example";
const PATIENCE: Duration = Duration::from_secs(10);

struct Stage {
    site: Site,
    scanner: Scanner,
    /// The scanner without a rule, which opens every link of every mail.
    deaf: Scanner,
    vendor: Signer,
    shop: Signer,
    hop: String,
    guarding_hop: String,
    _zone: Zone,
}

/// One mail's way, as promised and as seen.
struct Row {
    mail: &'static str,
    way: &'static str,
    promise: Promise,
    opened: bool,
    reader: u16,
    tagged: bool,
    guard_link: Option<String>,
    message_id: String,
    token: String,
    verdict: String,
    why: String,
}

/// What the demo promises of a mail.
#[derive(Clone, Copy)]
struct Promise {
    /// Whether the scanner opens its link.
    opened: bool,
    /// What the reader's click gives: 200 works, 410 is used up.
    reader: u16,
    /// Whether the mail reaches the mailbox with a tag.
    tagged: bool,
}

impl Row {
    fn is_judged(&self) -> bool {
        self.way == HOP || self.way == GUARD
    }

    fn kept(&self) -> bool {
        self.opened == self.promise.opened && self.reader == self.promise.reader && self.tagged == self.promise.tagged
    }
}

/// The vendor's allowlist entry with this action.
fn entry(action: &str, site: &Site) -> anyhow::Result<Entry> {
    let text = format!(
        r#"
        from = ["vendor.test"]
        other_links = ["http://www.vendor.test:{port}"]
        recipients = ["*@corp.example"]
        owner = "it-security@corp.example"
        action = "{action}"
        [links]
        password_reset = ["http://login.vendor.test:{port}/reset/{{token}}"]
        "#,
        port = site.port(),
    );
    let mut problems = Problems::default();
    let entry = allow::compile("vendor.toml", "vendor", &text, Mode::Enforce, &mut Vec::new(), &mut problems);
    entry.with_context(|| format!("the demo's allowlist: {problems}"))
}

impl Stage {
    async fn set(folder: &Folder, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let zone = Zone::serve().await.context("the demo's DNS")?;
        let site = Site::serve().await.context("the demo's site")?;
        let scanner = Scanner::serve("X-Firstclick", TOKEN)?;
        let deaf = Scanner::serve("X-Nobody-Writes-This", TOKEN)?;
        let vendor = Signer::publish(&zone, "vendor.test")?;
        let shop = Signer::publish(&zone, "shop.test")?;
        zone.publish("_dmarc.attack.test", "v=DMARC1; p=none");

        let entries = [entry("tag", &site)?, entry("guard", &site)?];
        let mut random = [0_u8; 32];
        let _ = aws_lc_rs::rand::fill(&mut random);
        let hostname = "firstclick.test".to_owned();
        let tagger = Tagger {
            header: "X-Firstclick".into(),
            tokens: Token::parse(TOKEN).into_iter().collect(),
            staged: Vec::new(),
            keys: Key::parse(&BASE64.encode(random)).into_iter().collect(),
            authserv_id: hostname.clone(),
        };
        let audit = Audit::open(&folder.0)?;
        let page = TcpListener::bind("127.0.0.1:0").await.context("the guard page's port")?;
        let guard_links = Arc::new(GuardLinkKeys {
            url: format!("http://{}", page.local_addr()?),
            keys: SealKey::parse(&BASE64.encode(random)).into_iter().collect(),
            lifetime: Duration::from_hours(24),
        });
        let guard = http::Config {
            recipient_keys: Vec::new(),
            listen: page.local_addr()?,
            guard_links: Arc::clone(&guard_links),
            links: None,
            nonces: Key::parse(&BASE64.encode(random)).context("the demo's key")?.derive("guard-nonce-of-page"),
            certificate: None,
            proxies: Vec::new(),
            confirm: http::Confirm::Press,
            others: Vec::new(),
            logo: None,
            note: "This is the demo: nothing leaves this machine.".into(),
            help_desk: http::HelpDesk::Open,
        };
        let server = Arc::new(http::Server::new(guard, Some(audit.clone()))?);
        tokio::spawn(http::run(page, server, shutdown.clone()));
        let mut hops = Vec::new();
        for (entry, scanner) in entries.into_iter().zip([&scanner, &deaf]) {
            let authenticator = Authenticator::here(&[zone.address()], Duration::from_secs(5), Vec::new(), hostname.clone())?;
            let pipeline = PipelineConfig {
                allowlist: Allowlist::new(vec![entry]),
                authenticator: Arc::new(authenticator),
                tagger: tagger.clone(),
                guard_links: Some(Arc::clone(&guard_links)),
                link_store: None,
                arc_signer: None,
                inspect_limit: 1 << 20,
                policy: String::new(),
                pseudonyms: Pseudonyms::default(),
            };
            let pipeline = Pipeline::build(pipeline, Arc::new(Shared::new(Recogniser::built_in()?, Some(audit.clone()))));
            let listener = TcpListener::bind("127.0.0.1:0").await.context("the hop's port")?;
            hops.push(listener.local_addr()?.to_string());
            let config = Config::relay(hostname.clone(), vec![scanner.address().to_string()]);
            let memory = MemoryBudget::new(config.bounds.memory, &[Protocol::Smtp]);
            let server = Arc::new(Server::new(Snapshot::new(config, Arc::new(pipeline))?, memory));
            let listener = Listener { socket: listener, start: Start::Clear };
            tokio::spawn(server::run(vec![listener], server, shutdown.clone()));
        }
        let [hop, guarding_hop] = <[String; 2]>::try_from(hops).map_err(|_| anyhow::anyhow!("two hops"))?;
        Ok(Self { site, scanner, deaf, vendor, shop, hop, guarding_hop, _zone: zone })
    }

    fn play(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Vec<Row>> {
        let used_up = Promise { opened: true, reader: 410, tagged: false };
        let alive = Promise { opened: false, reader: 200, tagged: true };
        let ordinary = Promise { opened: true, reader: 200, tagged: false };
        let guarded = Promise { opened: false, reader: 200, tagged: false };
        let forged = format!("X-Firstclick: {TOKEN}\r\n");
        let reset = |host: &str, from: &str| self.reset(host, from);

        let (first, first_link) = reset("login.vendor.test", "vendor.test");
        let (second, second_link) = reset("login.vendor.test", "vendor.test");
        let (phish, phish_link) = reset("login.attack.test", "vendor.test");
        let (tagged, tagged_link) = reset("login.attack.test", "attack.test");
        let (news, news_link) = self.news();
        let (third, third_link) = reset("login.vendor.test", "vendor.test");
        let (fourth, fourth_link) = reset("login.vendor.test", "vendor.test");
        let plan = [
            ("reset mail", "scanner only", used_up, self.vendor.sign(&first)?, first_link),
            ("the same, another link", HOP, alive, self.vendor.sign(&second)?, second_link),
            ("ordinary mail", HOP, ordinary, self.shop.sign(&news)?, news_link),
            ("phish, forged sender", HOP, used_up, phish, phish_link),
            ("phish, forged tag", HOP, used_up, format!("{forged}{tagged}"), tagged_link),
            ("reset, deaf scanner", "deaf scanner", used_up, self.vendor.sign(&third)?, third_link),
            ("the same, another link", GUARD, guarded, self.vendor.sign(&fourth)?, fourth_link),
        ];
        let mut rows = Vec::new();
        for (mail, way, promise, raw, link) in plan {
            let (server, scanner) = match way {
                HOP => (self.hop.clone(), &self.scanner),
                GUARD => (self.guarding_hop.clone(), &self.deaf),
                "deaf scanner" => (self.deaf.address().to_string(), &self.deaf),
                _ => (self.scanner.address().to_string(), &self.scanner),
            };
            let reply = runtime.block_on(post(&server, "bounce@sender.test", &[READER], &raw))?;
            ensure!(reply.is_accepted(), "{mail}: {server} said {reply}");
            let delivered = scanner.next(PATIENCE)?;
            let row = Row::of(mail, way, promise, &delivered, &link);
            // The reader clicks on what stands in the mail.
            let reader = row.guard_link.as_deref().map_or_else(|| Scanner::open(&link), Scanner::press)?;
            rows.push(Row { reader, ..row });
        }
        Ok(rows)
    }

    fn reset(&self, host: &str, from: &str) -> (String, String) {
        let mut random = [0_u8; 24];
        let _ = aws_lc_rs::rand::fill(&mut random);
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let port = self.site.port();
        let link = format!("http://{host}:{port}/reset/{token}");
        let date = clock::rfc5322(clock::now());
        let mail = format!(
            "From: Vendor <support@{from}>\r\nTo: {READER}\r\nSubject: Finish resetting your password\r\nDate: {date}\r\n\
             Message-ID: <{id}@{from}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
             Hi Bob,\r\n\r\nYou asked to reset your password. Open this link to choose a new one:\r\n\r\n{link}\r\n\r\n\
             The link works once and for 24 hours.\r\n\r\nhttp://www.vendor.test:{port}/\r\n",
            id = token.get(..12).unwrap_or_default(),
        );
        (mail, link)
    }

    fn news(&self) -> (String, String) {
        let link = format!("http://www.shop.test:{}/winter", self.site.port());
        let date = clock::rfc5322(clock::now());
        let mail = format!(
            "From: Shop <news@shop.test>\r\nTo: {READER}\r\nSubject: Our winter sale\r\nDate: {date}\r\nMessage-ID: <winter@shop.test>\r\n\r\n\
             Everything must go: {link}\r\n"
        );
        (mail, link)
    }

    fn stay(&self, runtime: &tokio::runtime::Runtime, folder: &Folder, ends: Ends) -> anyhow::Result<()> {
        let (mail, link) = self.reset("login.vendor.test", "vendor.test");
        let path = folder.0.join("reset.eml");
        fs::write(&path, self.vendor.sign(&mail)?)?;
        let mut out = io::stdout().lock();
        writeln!(out, "\nEverything stays up until Ctrl-C. Send the signed reset mail by hand:\n")?;
        writeln!(out, "  swaks --server {} --from support@vendor.test --to {READER} --data @{}\n", self.hop, path.display())?;
        writeln!(out, "Then press its link as the reader would:\n\n  curl {}\n", link.replacen("login.vendor.test", "127.0.0.1", 1))?;
        writeln!(out, "Straight to the scanner, for comparison: --server {}", self.scanner.address())?;
        writeln!(out, "The audit: firstclick audit tail --follow --directory {}", folder.0.display())?;
        out.flush()?;
        runtime.block_on(ends.come());
        Ok(())
    }
}

impl Row {
    fn of(mail: &'static str, way: &'static str, promise: Promise, delivered: &Delivered, link: &str) -> Self {
        let message = crate::message::Message::read(&delivered.raw);
        let tagged = message.headers().named("X-Firstclick").next().is_some();
        let opened = delivered.opened.iter().any(|(opened, _)| opened == link);
        let links = message.content().links;
        let guard_link = links.iter().map(|found| found.link.expose()).find(|link| link.contains(guard_link::PATH)).map(str::to_owned);
        let token = link.rsplit('/').next().unwrap_or_default().to_owned();
        Self {
            mail,
            way,
            promise,
            opened,
            reader: 0,
            tagged,
            guard_link,
            message_id: message.message_id(),
            token,
            verdict: "-".into(),
            why: "nobody judged it".into(),
        }
    }
}

/// Adds to the rows what the audit's records say of each mail. A relayed mail's record follows its delivery, so the last one may
/// not be there at once.
fn explain(rows: &mut [Row], folder: &Folder) -> anyhow::Result<()> {
    let watch = Stopwatch::start();
    for row in rows.iter_mut().filter(|row| row.is_judged()) {
        let record = loop {
            if let Some(record) = records(folder)?.into_iter().find(|record| text(record, "message_id") == row.message_id) {
                break record;
            }
            ensure!(watch.elapsed() < PATIENCE, "{}: no audit record was written", row.mail);
            thread::sleep(Duration::from_millis(20));
        };
        text(&record, "decision").clone_into(&mut row.verdict);
        let reasons = record.get("reasons").and_then(Value::as_array).cloned().unwrap_or_default();
        let stopped = reasons.iter().find(|reason| reason.get("ok") == Some(&Value::Bool(false)));
        row.why = match stopped {
            Some(reason) => format!("{}: {}", text(reason, "check"), text(reason, "detail")),
            None => format!("{} checks hold", reasons.len()),
        };
        let removed = record.get("removed").and_then(Value::as_u64).unwrap_or(0);
        if removed > 0 {
            row.why.push_str(&format!("; {removed} forged header removed"));
        }
    }
    Ok(())
}

fn records(folder: &Folder) -> anyhow::Result<Vec<Value>> {
    let mut records = Vec::new();
    for file in chain::files(&folder.0)? {
        records.extend(fs::read_to_string(file)?.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    Ok(records)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The line about the audit of the demo: its chain holds, and no token is in it.
/// What became of each mail that was exempted, and three clicks on the guard page: the scanner opens it, the reader opens it and presses.
fn await_the_rest(rows: &[Row], folder: &Folder) -> anyhow::Result<()> {
    let exempted = rows.iter().filter(|row| row.verdict == "act").count();
    let guarded = rows.iter().filter(|row| row.guard_link.is_some()).count();
    let watch = Stopwatch::start();
    loop {
        let records = records(folder)?;
        let count = |what: &str| records.iter().filter(|record| text(record, "type") == what).count();
        if count("outcome") >= exempted && count("click") >= 3 * guarded {
            return Ok(());
        }
        ensure!(watch.elapsed() < PATIENCE, "what became of the mails is not on record");
        thread::sleep(Duration::from_millis(20));
    }
}

fn audit_line(rows: &[Row], folder: &Folder) -> anyhow::Result<String> {
    await_the_rest(rows, folder)?;
    let report = verify::verify(&folder.0)?;
    ensure!(report.broken.is_none(), "the audit's chain is broken: {:?}", report.broken);
    for file in chain::files(&folder.0)? {
        let written = fs::read_to_string(file)?;
        ensure!(!rows.iter().any(|row| row.token.len() > 20 && written.contains(&row.token)), "the audit holds a live link");
    }
    Ok(format!("audit: {} records, the chain holds, and no link's token is in them", report.lines))
}

fn print(rows: &[Row]) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    writeln!(out, "One site whose links work once, one scanner that opens every link, one reader who clicks afterwards.\n")?;
    writeln!(out, "{:24} {:18} {:22} {:22} {:9} as promised", "mail", "sent through", "scanner", "reader's click", "decision")?;
    for row in rows {
        let scanner = match (row.opened, row.tagged) {
            (true, _) => "opened the link",
            (false, true) => "left it alone (tag)",
            (false, false) if row.guard_link.is_some() => "opened the page only",
            (false, false) => "did not open it",
        };
        let reader = match row.reader {
            200 => "works".to_owned(),
            410 => "already used".to_owned(),
            other => format!("status {other}"),
        };
        let kept = if row.kept() { "yes" } else { "NO" };
        writeln!(out, "{:24} {:18} {scanner:22} {reader:22} {:9} {kept}", row.mail, row.way, row.verdict)?;
    }
    writeln!(out, "\nWhy:")?;
    for row in rows.iter().filter(|row| row.is_judged()) {
        writeln!(out, "  {:24} {:18} {}", row.mail, row.way, row.why)?;
    }
    writeln!(out)?;
    Ok(rows.iter().all(Row::kept))
}
