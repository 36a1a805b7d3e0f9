//! The real program: its start, its reloads in mid-traffic, its stop, and what it does when the machine runs out.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixDatagram,
    process::Command,
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::KeySize,
    signature::RsaKeyPair,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    edit::guard_link::{GuardLinkKeys, SealKey},
    testbed::Zone,
};

use crate::hop::{
    Client, Sink, VENDOR,
    certificate::Authority,
    is_tagged,
    page::{BROWSER, ask},
    poll,
    process::{Folder, Process},
    read_records, reset_mail, stuffed,
};

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";

/// A trusted upstream vouches for senders, so that no test needs DNS.
const BELIEVING: &str = "[identity]\nverify = \"upstream\"\nauthserv_ids = [\"mx.corp.example\"]\ntrusted_upstreams = [\"127.0.0.0/8\"]";

fn arc_signed() -> Vec<u8> {
    let results = "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    format!("{results}{}{}", crate::hop::told_signature("vendor.test"), reset_mail()).into_bytes()
}

async fn tagged(client: &mut Client, sink: &Sink) -> bool {
    let before = sink.mails().len();
    assert!(client.send("<bounce@vendor.test>", &["<bob@corp.example>"], &arc_signed()).await.starts_with("250"));
    is_tagged(&sink.mail(before + 1).await.data)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_takes_effect_in_mid_session_and_a_bad_one_does_not() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), BELIEVING);
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(!tagged(&mut client, &sink).await, "nobody is allowlisted yet");

    // A file in the folder is enough: nobody has to send a signal.
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    process.says("reloaded entries=1").await;
    assert!(tagged(&mut client, &sink).await);

    // A mistake leaves the old one in force, and all of it is said.
    fs::write(folder.path("allow.d/other.toml"), "from = [\"-\"]\nlinsk = [\"a.test\"]\naction = \"tag\"\n").unwrap();
    let said = process.says("not reloaded").await;
    assert!(said.contains("did you mean `links`?") && said.contains("other.toml:1:"), "{said}");
    assert!(tagged(&mut client, &sink).await);

    fs::remove_file(folder.path("allow.d/other.toml")).unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), format!("mode = \"observe\"\n{VENDOR}")).unwrap();
    poll("the second reload", || (process.log().matches("reloaded entries=1").count() == 2).then_some(())).await;
    assert!(!tagged(&mut client, &sink).await, "the entry observes now");

    // SIGHUP reads again at once.
    process.signal("HUP");
    poll("the third reload", || (process.log().matches("reloaded entries=1").count() == 3).then_some(())).await;
    assert_eq!(sink.connections(), 1, "no session was dropped");
    // A token that is rotated: the newest is written.
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    fs::write(folder.path("tag.token"), "a-newer-token\ntest-token-1234\n").unwrap();
    poll("the fourth reload", || (process.log().matches("reloaded entries=1").count() >= 4).then_some(())).await;
    process.signal("HUP");
    poll("the fifth reload", || (process.log().matches("reloaded entries=1").count() >= 5).then_some(())).await;
    assert!(client.send("<bounce@vendor.test>", &["<bob@corp.example>"], &arc_signed()).await.starts_with("250"));
    assert!(String::from_utf8(sink.mails().last().unwrap().data.clone()).unwrap().contains("X-Firstclick: a-newer-token\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let (old, new, sink) = (Authority::new(), Authority::new(), Sink::start().await);
    let folder = Folder::new(&format!("next_hop = \"{}\"\ncertificate = \"hop.pem\"\nkey = \"hop.key\"", sink.address), "");
    old.issue_to("hop.test", &folder.path("hop"));
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    client.say("STARTTLS").await;
    client.encrypt(old.client(), "hop.test").await.unwrap();
    client.greet().await;
    new.issue_to("hop.test", &folder.path("hop"));
    process.says("reloaded").await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"), "the session from before goes on");
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    client.say("STARTTLS").await;
    client.encrypt(new.client(), "hop.test").await.unwrap();
    assert!(client.greet().await.contains("250"));
    // A certificate that does not fit is not taken, and the hop goes on with the one before.
    fs::write(folder.path("hop.key"), "no key").unwrap();
    assert!(process.says("not reloaded").await.contains("hop.key"));
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    client.say("STARTTLS").await;
    client.encrypt(new.client(), "hop.test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s11_sigterm_in_mid_mail_lets_it_finish() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let mut process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.say(line).await;
    }
    let wire = stuffed(MAIL);
    client.raw(&wire[..20]).await;
    process.signal("TERM");
    process.says("stopping").await;
    assert!(Client::try_connect(process.address).await.is_none(), "nobody new is taken");
    client.raw(&wire[20..]).await;
    assert!(client.reply().await.starts_with("250"));
    assert!(client.reply().await.starts_with("421"));
    assert_eq!(process.ended().await, Some(0));
    assert_eq!(sink.mails().len(), 1);
    assert_eq!(firstclick::audit::verify::verify(&folder.audit()).unwrap().broken, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn s11_a_mail_that_takes_too_long_is_cut_at_the_drain_deadline() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"\n[smtp.deadlines]\ndrain = \"200ms\"", sink.address), "");
    let mut process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.say(line).await;
    }
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    assert!(client.reply().await.is_empty(), "no 250 is heard for half a mail");
    assert_eq!(sink.mails().len(), 0);
}

/// A mail that is under way when the configuration changes is decided by the one that it began with.
#[tokio::test(flavor = "multi_thread")]
async fn s11_a_reload_in_mid_mail_changes_the_next_one() {
    let (old, new) = (Sink::start().await, Sink::start().await);
    let folder = Folder::new(&format!("next_hop = \"{}\"", old.address), BELIEVING);
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    for line in ["MAIL FROM:<bounce@vendor.test>", "RCPT TO:<bob@corp.example>", "DATA"] {
        client.say(line).await;
    }
    let wire = stuffed(&arc_signed());
    client.raw(&wire[..100]).await;
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    folder.configure(&format!("next_hop = \"{}\"", new.address), BELIEVING);
    process.says("reloaded entries=1").await;
    client.raw(&wire[100..]).await;
    assert!(client.reply().await.starts_with("250"));
    assert!(!is_tagged(&old.mail(1).await.data), "this mail began before the entry was there");
    assert!(tagged(&mut client, &new).await, "the next one is decided by the new entry and goes to the new next hop");
    assert_eq!(old.mails().len(), 1);
}

/// The disk of the audit is full: nothing is exempted without a record, and mails flow.
#[tokio::test(flavor = "multi_thread")]
async fn s11_the_audit_disk_is_full() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), BELIEVING);
    fs::write(folder.path("allow.d/vendor.toml"), format!("limit = \"unlimited\"\n{VENDOR}")).unwrap();
    // Files may have 16 KiB; the signal that says so is ignored, so that writing fails as on a full disk.
    let process = folder.run_after("trap '' XFSZ; ulimit -f 16").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(tagged(&mut client, &sink).await);
    let mut first_without = None;
    for count in 0..60 {
        if !tagged(&mut client, &sink).await {
            first_without = Some(count);
            break;
        }
    }
    assert!(first_without.is_some(), "the audit filled up");
    process.says("exemption withheld").await;
    // As many exemptions as there are records of them.
    let tags = sink.mails().iter().filter(|mail| is_tagged(&mail.data)).count();
    let records = read_records(&folder.audit()).iter().filter(|record| record["type"] == "mail" && record["decision"] == "act").count();
    assert_eq!(tags, records);
    assert_eq!(firstclick::audit::verify::verify(&folder.audit()).unwrap().broken, None, "no half line breaks the chain");
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"), "mails flow");
}

/// No file descriptors are left: what is open goes on, what is new waits, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn s11_the_file_descriptor_limit_is_reached() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let process = folder.run_after("ulimit -n 40").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(tokio::net::TcpStream::connect(process.address).await.unwrap());
    }
    process.says("a connection could not be taken").await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"), "an open session goes on");
    drop(crowd);
    let mut later = poll_connect(&process).await;
    later.greet().await;
    assert!(later.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert_eq!(sink.mails().len(), 2);
}

async fn poll_connect(process: &Process) -> Client {
    for _ in 0..400 {
        if let Ok(Some(client)) = tokio::time::timeout(Duration::from_millis(500), Client::try_connect(process.address)).await {
            return client;
        }
    }
    panic!("nobody is served any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hands_a_socket_over_and_is_told() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let notices = UnixDatagram::bind(folder.path("notify")).unwrap();
    notices.set_read_timeout(Some(crate::hop::PATIENCE)).unwrap();
    let mut command = folder.run_on(socket);
    command.env("NOTIFY_SOCKET", folder.path("notify")).env("WATCHDOG_USEC", "200000");
    let mut process = Process::start(&mut command).await;
    assert_eq!(process.address, address, "the socket that was handed over");
    let heard = |word: &str| {
        let mut buffer = [0; 1_000];
        for _ in 0..100 {
            let length = notices.recv(&mut buffer).expect(word);
            if std::str::from_utf8(&buffer[..length]).unwrap().lines().any(|line| line == word) {
                return;
            }
        }
        panic!("systemd never heard {word}");
    };
    heard("READY=1");
    heard("WATCHDOG=1");
    let mut client = Client::connect(address).await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    process.signal("HUP");
    heard("RELOADING=1");
    heard("READY=1");
    process.signal("TERM");
    heard("STOPPING=1");
    assert_eq!(process.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_stop_the_start_and_all_are_listed() {
    let folder = Folder::new(
        "next_hop = \"nowhere\"\nlisten_tsl = []\nsize_limit = 5\n[smtp.bounds]\nconnections = 0",
        "[identity]\nverify = \"heer\"",
    );
    fs::write(folder.path("allow.d/one.toml"), "sender = \"salesfroce\"\n").unwrap();
    let (_, said, code) = folder.command(&["run"]);
    assert_eq!(code, Some(2));
    for words in [
        "firstclick.toml:6:12: smtp.next_hop: found \"nowhere\", expected HOST:PORT",
        "did you mean `listen_tls`?",
        "smtp.size_limit: found the number 5, expected a string in quotes",
        "smtp.bounds.connections: found 0, expected a number from 1",
        "identity.verify: found \"heer\", expected \"here\"",
        "did you mean \"salesforce\"?",
        "mistakes",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert_eq!(folder.command(&["check"]).2, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_lies_over_the_file() {
    let sink = Sink::start().await;
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let process = folder.run_after(&format!("export FIRSTCLICK_SMTP__NEXT_HOP={} FIRSTCLICK_SMTP__HOSTNAME=env.test", sink.address)).await;
    let mut client = Client::connect(process.address).await;
    assert!(client.greet().await.starts_with("250-env.test"));
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert_eq!(sink.mails().len(), 1);
    let mistaken = Command::new(env!("CARGO_BIN_EXE_firstclick"))
        .arg("--config")
        .arg(folder.path("firstclick.toml"))
        .arg("check")
        .env("FIRSTCLICK_SMTP__NEXT_HOPP", "x")
        .output()
        .unwrap();
    let said = String::from_utf8(mistaken.stderr).unwrap();
    assert!(said.contains("did you mean FIRSTCLICK_SMTP__NEXT_HOP?"), "{said}");
}

/// What is missing because its name is misspelt is not said twice, and what is missing is said at its section.
#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_key_is_one_mistake() {
    let folder = Folder::new("next_hopp = \"127.0.0.1:1\"", "[guard]\nurl = \"https://links.test\"\nlisten = \"127.0.0.1:0\"");
    fs::write(folder.path("allow.d/one.toml"), VENDOR.replace("from = ", "form = ")).unwrap();
    let (_, said, code) = folder.command(&["check"]);
    assert_eq!(code, Some(2));
    for words in ["did you mean `next_hop`?", "did you mean `from`?", "firstclick.toml:12:1: guard.key_file: missing", "3 mistakes"] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    // What is gone is not recommended.
    fs::write(folder.path("allow.d/one.toml"), format!("linsk = 3\nexpanded_recipients = []\n{VENDOR}")).unwrap();
    let (_, said, _) = folder.command(&["check"]);
    assert!(said.contains("one.toml:2:23: expanded_recipients: this key is gone"), "{said}");
    assert_eq!(said.matches("expanded_recipients").count(), 1, "{said}");
}

/// How often the program read its configuration again, well.
fn reloads(process: &Process) -> usize {
    process.log().matches("reloaded entries=").count()
}

/// Does something to a file, and waits until the program goes by it, with nobody telling it.
async fn reloaded_after(process: &Process, change: impl FnOnce()) {
    let before = reloads(process);
    change();
    poll("a reload", || (reloads(process) > before).then_some(())).await;
}

/// A hop that replaces links, and its page.
struct Guarding {
    _zone: Zone,
    sink: Sink,
    folder: Folder,
    process: Process,
    page: SocketAddr,
}

impl Guarding {
    /// With this in `[guard]`.
    async fn start(guard: &str) -> Self {
        let (zone, sink) = (Zone::serve().await.unwrap(), Sink::start().await);
        let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
        let terms = "require = { ip = [\"127.0.0.0/8\"], spf = false }\nlimit = \"unlimited\"\naction = \"guard\"";
        fs::write(folder.path("allow.d/vendor.toml"), VENDOR.replace("action = \"tag\"", terms)).unwrap();
        assert_eq!(folder.command(&["keygen", "--out", folder.path("guard.key").to_str().unwrap()]).2, Some(0));
        fs::write(folder.path("arc.pem"), pem(KeySize::Rsa2048)).unwrap();
        fs::write(folder.path("logo.png"), "one").unwrap();
        let rest = format!(
            "[identity]\ndns = [\"{}\"]\n[guard]\nurl = \"https://links.corp.example\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\n{guard}\n\
             [arc]\ndomain = \"corp.example\"\nselector = \"arc1\"\nkey_file = \"arc.pem\"\n",
            zone.address()
        );
        folder.configure(&format!("next_hop = \"{}\"", sink.address), &rest);
        let process = folder.run().await;
        let line = process.says("the guard page is there").await;
        let page = line.split("page=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        Self { _zone: zone, sink, folder, process, page }
    }

    /// Sends a mail: what arrives.
    async fn mail(&self) -> String {
        let count = self.sink.mails().len() + 1;
        let mut client = Client::connect(self.process.address).await;
        client.greet().await;
        assert!(client.send("<a@vendor.test>", &["<bob@corp.example>"], reset_mail().as_bytes()).await.starts_with("250"));
        String::from_utf8(self.sink.mail(count).await.data).unwrap()
    }

    /// The sealed value of a mail's link.
    async fn sealed(&self) -> String {
        let text = self.mail().await;
        let value = text.split("https://links.corp.example/c/").nth(1).unwrap_or_else(|| panic!("{text}\n{}", self.process.log()));
        value.split_whitespace().next().unwrap().to_owned()
    }

    async fn opens(&self, value: &str) -> bool {
        let shown = ask("GET", &format!("http://{}/c/{value}", self.page), BROWSER, "").await;
        shown.status == 200 && shown.body.contains("login.vendor.test")
    }
}

/// A new RSA key in PEM.
fn pem(size: KeySize) -> String {
    let pair = RsaKeyPair::generate(size).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der.as_ref()))
}

/// Keys of guard links are rotated by writing the file, however that is done: nobody restarts and nobody sends a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_guard_key_seals_and_older_ones_open_while_they_stand_in_the_file() {
    let guarding = Guarding::start("").await;
    let file = guarding.folder.path("guard.key");
    let newest_opens = |value: &str| {
        let keys = vec![SealKey::parse(fs::read_to_string(&file).unwrap().lines().next().unwrap()).unwrap()];
        GuardLinkKeys { url: String::new(), keys, lifetime: Duration::from_hours(1) }.open(value, firstclick::clock::now()).is_ok()
    };
    let first = guarding.sealed().await;
    assert!(newest_opens(&first) && guarding.opens(&first).await);
    // `keygen` puts another file in the place of this one.
    reloaded_after(&guarding.process, || {
        assert_eq!(guarding.folder.command(&["keygen", "--out", file.to_str().unwrap()]).2, Some(0));
    })
    .await;
    let second = guarding.sealed().await;
    assert!(newest_opens(&second) && !newest_opens(&first));
    assert!(guarding.opens(&first).await && guarding.opens(&second).await);
    // The file is written in place, no longer than before: a third key, and the first is gone.
    let keys = fs::read_to_string(&file).unwrap();
    let third = BASE64.encode([9; 32]);
    reloaded_after(&guarding.process, || fs::write(&file, format!("{third}\n{}\n", keys.lines().next().unwrap())).unwrap()).await;
    let last = guarding.sealed().await;
    assert!(newest_opens(&last));
    assert!(guarding.opens(&last).await && guarding.opens(&second).await);
    assert!(!guarding.opens(&first).await, "its key is gone");
    // A file without a key is not taken, and page and mails go on by the same keys.
    fs::write(&file, "").unwrap();
    guarding.process.says("not reloaded").await;
    let after = guarding.sealed().await;
    assert!(guarding.opens(&after).await && guarding.opens(&second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_arc_key_seals_without_a_restart() {
    let guarding = Guarding::start("").await;
    // Octets of the signature of the seal: as many as the key's modulus has.
    let seal = |mail: &str| {
        let field =
            mail.split("ARC-Seal:").nth(1).unwrap_or_else(|| panic!("{mail}")).split("\r\nARC-").next().unwrap().replace("\r\n", "");
        let signature = field.split(';').find_map(|tag| tag.trim().strip_prefix("b=")).unwrap().replace([' ', '\t'], "");
        BASE64.decode(signature).unwrap().len()
    };
    assert_eq!(seal(&guarding.mail().await), 256);
    reloaded_after(&guarding.process, || fs::write(guarding.folder.path("arc.pem"), pem(KeySize::Rsa3072)).unwrap()).await;
    assert_eq!(seal(&guarding.mail().await), 384);
    fs::write(guarding.folder.path("arc.pem"), "no key").unwrap();
    assert!(guarding.process.says("not reloaded").await.contains("arc.key_file"));
    assert_eq!(seal(&guarding.mail().await), 384, "the key from before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_logo_is_shown_without_a_restart() {
    let guarding = Guarding::start("logo = \"logo.png\"").await;
    let logo = async || ask("GET", &format!("http://{}/logo", guarding.page), BROWSER, "").await.body;
    assert_eq!(logo().await, "one");
    let (old, new) = (guarding.folder.path("logo.png"), guarding.folder.path("new.png"));
    fs::write(&new, "two").unwrap();
    reloaded_after(&guarding.process, || fs::rename(&new, &old).unwrap()).await;
    assert_eq!(logo().await, "two");
}

/// What a reload cannot change is named, each key once for each change; it is no mistake.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_need_a_restart_are_named() {
    let folder = Folder::new("", "");
    assert_eq!(folder.command(&["keygen", "--out", folder.path("guard.key").to_str().unwrap()]).2, Some(0));
    let before = "[smtp.bounds]\nmemory = \"64MiB\"\nrecipients = 500\n";
    folder.configure(
        &format!("next_hop = \"127.0.0.1:1\"\n{before}"),
        "[admin]\nlisten = \"127.0.0.1:0\"\n[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nconnections = 10\n\
         [guard]\nurl = \"https://links.test\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"",
    );
    let process = folder.run().await;
    process.says("the admin page is there").await;
    let old = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    let new = old
        .replace("[smtp]\nlisten = [\"127.0.0.1:0\"]", "[smtp]\nlisten = [\"127.0.0.1:1\"]")
        .replace("memory = \"64MiB\"\nrecipients = 500", "memory = \"32MiB\"\nrecipients = 600")
        .replace("directory = \"audit\"", "directory = \"elsewhere\"")
        .replace("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"127.0.0.1:1\"")
        .replace(
            "inet:127.0.0.1:0\"]\nconnections = 10",
            "inet:127.0.0.1:1\"]\nsocket_mode = \"0600\"\nsocket_owner = \"0:0\"\nconnections = 20",
        )
        .replace("links.test\"\nlisten = \"127.0.0.1:0\"", "links.test\"\nlisten = \"127.0.0.1:1\"");
    let changed = [
        "smtp.listen",
        "smtp.bounds.memory",
        "audit.directory",
        "admin.listen",
        "milter.listen",
        "milter.socket_mode",
        "milter.socket_owner",
        "milter.connections",
        "guard.listen",
    ];
    let named = |words: &str| {
        let log = process.log();
        let lines = log.lines().filter(|line| line.contains(words));
        let mut keys: Vec<String> = lines.map(|line| line.split("key=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()).collect();
        keys.sort();
        keys
    };
    let mut sorted = changed.map(str::to_owned).to_vec();
    sorted.sort();
    reloaded_after(&process, || fs::write(folder.path("firstclick.toml"), &new).unwrap()).await;
    assert_eq!(named("takes effect at the next start"), sorted);
    // Another change does not name them again; a mistake names nothing.
    reloaded_after(&process, || fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap()).await;
    fs::write(folder.path("firstclick.toml"), old.replace("64MiB", "16MB")).unwrap();
    process.says("not reloaded").await;
    assert_eq!(named("takes effect at the next start"), sorted);
    // The default, written out, and what holds are the same again.
    reloaded_after(&process, || fs::write(folder.path("firstclick.toml"), &old).unwrap()).await;
    assert_eq!(named("takes effect at the next start"), sorted);
    assert_eq!(named("is again what it was"), sorted);
}

/// M5: an exemption that was taken out shows, however well the chain was computed anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_verified_by_its_key() {
    let sink = Sink::start().await;
    let (smtp, rest) = (format!("next_hop = \"{}\"", sink.address), "key_file = \"audit.key\"");
    let folder = Folder::new(&smtp, rest);
    let verify = || {
        let (out, err, code) = folder.command(&["audit", "verify"]);
        (format!("{out}{err}"), code)
    };
    let (said, code) = verify();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("audit.key_file") && said.contains("firstclick.toml:"), "{said}");
    let key = folder.path("audit.key").display().to_string();
    assert_eq!(folder.command(&["keygen", "--out", &key]).2, Some(0));
    fs::create_dir(folder.audit()).unwrap();
    let (said, code) = verify();
    assert!(code == Some(1) && said.contains("there is no record"), "{said}");

    let process = folder.run().await;
    for _ in 0..5 {
        let mut client = Client::connect(process.address).await;
        client.greet().await;
        assert!(client.send("<a@b.test>", &["<c@d.test>"], b"From: a@b.test\r\n\r\nx\r\n").await.starts_with("250"));
    }
    poll("records", || (read_records(&folder.audit()).len() == 6).then_some(())).await;
    let (said, code) = verify();
    assert!(code == Some(0) && said.contains("every line was written with the key"), "{said}");
    // A key that is put on top takes effect without a restart, and old lines stay proven.
    assert_eq!(folder.command(&["keygen", "--out", &key]).2, Some(0));
    process.says("reloaded").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], b"From: a@b.test\r\n\r\nx\r\n").await.starts_with("250"));
    poll("records", || (read_records(&folder.audit()).len() == 7).then_some(())).await;
    let (said, code) = verify();
    assert!(code == Some(0) && said.contains("every line was written with the key"), "{said}");
    drop(process);

    // Somebody takes a record out and computes the chain anew.
    let file = firstclick::audit::chain::files(&folder.audit()).unwrap().pop().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let (mut prev, mut forged) = (firstclick::audit::chain::GENESIS.to_owned(), String::new());
    for (at, line) in text.lines().enumerate().filter(|(at, _)| *at != 3).map(|(_, line)| line).enumerate() {
        let open = line.split(",\"prev\":").next().unwrap();
        let line = format!("{open},\"prev\":\"{prev}\",\"n\":{}}}", at + 1);
        prev = firstclick::audit::chain::hash(line.as_bytes());
        forged.push_str(&line);
        forged.push('\n');
    }
    fs::write(&file, forged).unwrap();
    let (said, code) = verify();
    assert!(code == Some(1) && said.contains("the chain is broken") && said.contains("key"), "{said}");
    // Whoever has no key is told that the chain alone proves little.
    folder.configure(&smtp, "");
    let (said, code) = verify();
    assert!(code == Some(0) && said.contains("has no key"), "{said}");
    let (said, code) = {
        let (out, err, code) = folder.command(&["audit", "verify", "--key-file", &key]);
        (format!("{out}{err}"), code)
    };
    assert!(code == Some(1) && said.contains("the chain is broken"), "{said}");
}

/// A FIFO in a file's place is no reason to wait for ever: the reload says so, the one after it is taken, and SIGTERM ends the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_in_a_files_place_holds_up_nothing() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let mut process = folder.run().await;
    let token = folder.path("tag.token");
    fs::remove_file(&token).unwrap();
    assert!(Command::new("mkfifo").arg(&token).status().unwrap().success());
    process.signal("HUP");
    process.says("it is no regular file").await;
    fs::remove_file(&token).unwrap();
    fs::write(&token, "another-token-5678").unwrap();
    process.says("reloaded").await;
    assert!(Command::new("rm").arg(&token).status().unwrap().success());
    assert!(Command::new("mkfifo").arg(&token).status().unwrap().success());
    process.signal("HUP");
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
}

/// An empty list is a mistake where it would let nothing or everybody in.
#[test]
fn empty_lists_are_mistakes() {
    for (smtp, key) in [("next_hop = []", "smtp.next_hop"), ("next_hop = \"127.0.0.1:1\"\naccept_from = []", "smtp.accept_from")] {
        let (_, said, code) = Folder::new(smtp, "").command(&["check"]);
        assert!(code == Some(2) && said.contains(key), "{smtp}: {said}");
    }
    let (_, said, code) = Folder::new("next_hop = \"127.0.0.1:1\"", "[milter]\nlisten = []").command(&["check"]);
    assert!(code == Some(2) && said.contains("milter.listen"), "{said}");
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), text.replace("listen = [\"127.0.0.1:0\"]", "listen = []")).unwrap();
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("smtp.listen"), "{said}");
}
