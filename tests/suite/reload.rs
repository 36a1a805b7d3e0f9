//! Changes of the configuration while the real program runs: what takes effect, when, and what waits for a restart.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

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
    reset_mail, stuffed,
};

use crate::service::{BELIEVING, MAIL, arc_signed, tagged};

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_takes_effect_in_mid_session_and_a_bad_one_does_not() {
    let sink = Sink::start().await;
    // The session's connection is its own: a pool is emptied by a reload.
    let folder = Folder::new(&format!("next_hop = \"{}\"\npool = \"off\"", sink.address), BELIEVING);
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(!tagged(&mut client, &sink).await, "nobody is allowlisted yet");

    // A file in the folder is enough: nobody has to send a signal.
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    process.says("reloaded entries=1").await;
    assert!(tagged(&mut client, &sink).await);

    // A file with a mistake is left out, the others go on, and all of it is said.
    fs::write(folder.path("allow.d/other.toml"), "from = [\"-\"]\nlinsk = [\"a.test\"]\naction = \"tag\"\n").unwrap();
    let said = process.says("is left out").await;
    assert!(said.contains("did you mean `links`?") && said.contains("other.toml:1:"), "{said}");
    assert!(tagged(&mut client, &sink).await);

    fs::remove_file(folder.path("allow.d/other.toml")).unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), format!("mode = \"observe\"\n{VENDOR}")).unwrap();
    poll("the third reload", || (process.log().matches("reloaded entries=1").count() == 3).then_some(())).await;
    assert!(!tagged(&mut client, &sink).await, "the entry observes now");

    // SIGHUP reads again at once.
    process.signal("HUP");
    poll("the fourth reload", || (process.log().matches("reloaded entries=1").count() == 4).then_some(())).await;
    assert_eq!(sink.connections(), 1, "no session was dropped");
    // A token that is rotated: the newest is written.
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    fs::write(folder.path("tag.token"), "a-newer-token\ntest-token-1234\n").unwrap();
    poll("the next reload", || (process.log().matches("reloaded entries=1").count() >= 5).then_some(())).await;
    process.signal("HUP");
    poll("the last reload", || (process.log().matches("reloaded entries=1").count() >= 6).then_some(())).await;
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

/// How often the program read its configuration again, well.
fn reloads(process: &Process) -> usize {
    process.log().matches("reloaded entries=").count()
}

/// Does something to a file, and waits until the program goes by it, with nobody telling it.
pub(crate) async fn reloaded_after(process: &Process, change: impl FnOnce()) {
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
        .replace("[smtp]\nlisten = [\"127.0.0.1:0\"]", "[smtp]\nlisten = [\"127.0.0.1:2\"]")
        .replace("memory = \"64MiB\"\nrecipients = 500", "memory = \"32MiB\"\nrecipients = 600")
        .replace("directory = \"audit\"", "directory = \"elsewhere\"")
        .replace("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"127.0.0.1:3\"")
        .replace(
            "inet:127.0.0.1:0\"]\nconnections = 10",
            "inet:127.0.0.1:4\"]\nsocket_mode = \"0600\"\nsocket_owner = \"0:0\"\nconnections = 20",
        )
        .replace("links.test\"\nlisten = \"127.0.0.1:0\"", "links.test\"\nlisten = \"127.0.0.1:5\"");
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
    let waiting = restarts_for(&process).await;
    assert!(changed.iter().all(|key| waiting.iter().any(|waits| waits == key)), "{waiting:?}");
    // Another change does not name them again; a mistake names nothing.
    reloaded_after(&process, || fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap()).await;
    fs::write(folder.path("firstclick.toml"), old.replace("64MiB", "16MB")).unwrap();
    process.says("not reloaded").await;
    assert_eq!(named("takes effect at the next start"), sorted);
    // The default, written out, and what holds are the same again.
    reloaded_after(&process, || fs::write(folder.path("firstclick.toml"), &old).unwrap()).await;
    assert_eq!(named("takes effect at the next start"), sorted);
    assert_eq!(named("is again what it was"), sorted);
    assert_eq!(restarts_for(&process).await, [""; 0]);
}

/// What `/readyz` says that a restart would put in force.
async fn restarts_for(process: &Process) -> Vec<String> {
    let page = process.says("the admin page is there").await.split("address=").nth(1).unwrap().trim().to_owned();
    let ready = ask("GET", &format!("http://{page}/readyz"), &[], "").await.body;
    let said = ready.lines().find_map(|line| line.strip_prefix("restart: the next start puts in force: "));
    said.map(|keys| keys.split(", ").map(str::to_owned).collect()).unwrap_or_default()
}

/// A page that the next start opens is one to which no mail leads before.
#[tokio::test(flavor = "multi_thread")]
async fn no_mail_leads_to_a_page_that_is_not_there_yet() {
    let (zone, sink) = (Zone::serve().await.unwrap(), Sink::start().await);
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let (next_hop, rest) = (
        format!("next_hop = \"{}\"", sink.address),
        format!("[admin]\nlisten = \"127.0.0.1:0\"\n[identity]\ndns = [\"{}\"]\n", zone.address()),
    );
    folder.configure(&next_hop, &rest);
    let process = folder.run().await;
    let send = async |process: &Process| {
        let count = sink.mails().len() + 1;
        let mut client = Client::connect(process.address).await;
        client.greet().await;
        assert!(client.send("<a@vendor.test>", &["<bob@corp.example>"], reset_mail().as_bytes()).await.starts_with("250"));
        String::from_utf8(sink.mail(count).await.data).unwrap()
    };

    assert_eq!(folder.command(&["keygen", "--out", folder.path("guard.key").to_str().unwrap()]).2, Some(0));
    let terms = "require = { ip = [\"127.0.0.0/8\"], spf = false }\nlimit = \"unlimited\"\naction = \"guard\"";
    reloaded_after(&process, || {
        fs::write(folder.path("allow.d/vendor.toml"), VENDOR.replace("action = \"tag\"", terms)).unwrap();
        let guard = "[guard]\nurl = \"https://links.corp.example\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\n";
        folder.configure(&next_hop, &format!("{rest}{guard}"));
    })
    .await;
    let arrived = send(&process).await;
    assert!(arrived.contains("https://login.vendor.test") && !arrived.contains("links.corp.example"), "{arrived}");
    assert_eq!(restarts_for(&process).await, ["[guard]"]);
    drop(process);
    let process = folder.run().await;
    process.says("the guard page is there").await;
    let arrived = send(&process).await;
    assert!(arrived.contains("https://links.corp.example/c/"), "{arrived}\n{}", process.log());
    // And where the page is to move, nor before it has.
    let moved = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    let moved = moved.replace("links.corp.example\"\nlisten = \"127.0.0.1:0\"", "links.corp.eu\"\nlisten = \"127.0.0.2:0\"");
    reloaded_after(&process, || fs::write(folder.path("firstclick.toml"), &moved).unwrap()).await;
    let arrived = send(&process).await;
    assert!(arrived.contains("https://login.vendor.test") && !arrived.contains("links.corp"), "{arrived}");
    assert_eq!(restarts_for(&process).await, ["guard.listen"]);
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
