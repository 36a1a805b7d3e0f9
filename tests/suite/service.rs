//! The real program: its start, its reloads in mid-traffic, its stop, and what it does when the machine runs out.

use std::{fs, net::TcpListener, os::unix::net::UnixDatagram, process::Command, time::Duration};

use crate::hop::{
    Client, Sink, VENDOR, is_tagged, poll,
    process::{Folder, Process},
    read_records, reset_mail, stuffed,
};

pub(crate) const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";

/// A trusted upstream vouches for senders, so that no test needs DNS.
pub(crate) const BELIEVING: &str =
    "[identity]\nverify = \"upstream\"\nauthserv_ids = [\"mx.corp.example\"]\ntrusted_upstreams = [\"127.0.0.0/8\"]";

pub(crate) fn arc_signed() -> Vec<u8> {
    let results = "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    format!("{results}{}{}", crate::hop::told_signature("vendor.test"), reset_mail()).into_bytes()
}

pub(crate) async fn tagged(client: &mut Client, sink: &Sink) -> bool {
    let before = sink.mails().len();
    assert!(client.send("<bounce@vendor.test>", &["<bob@corp.example>"], &arc_signed()).await.starts_with("250"));
    is_tagged(&sink.mail(before + 1).await.data)
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

pub(crate) async fn poll_connect(process: &Process) -> Client {
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
            let length = crate::log::received(&notices, &mut buffer).expect(word);
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
        "smtp.size_limit: found the number 5, expected a size with its unit",
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
    let mails = || read_records(&folder.audit()).iter().filter(|record| record["type"] == "mail").count();
    poll("records", || (mails() == 5).then_some(())).await;
    let (said, code) = verify();
    assert!(code == Some(0) && said.contains("every line was written with the key"), "{said}");
    // A key that is put on top takes effect without a restart, and old lines stay proven.
    assert_eq!(folder.command(&["keygen", "--out", &key]).2, Some(0));
    process.says("reloaded").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], b"From: a@b.test\r\n\r\nx\r\n").await.starts_with("250"));
    poll("records", || (mails() == 6).then_some(())).await;
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
    // The head file knows better; and whoever has neither head nor key is told that the chain alone proves little.
    folder.configure(&smtp, "");
    let (said, code) = verify();
    assert!(code == Some(1) && said.contains("the chain was replaced"), "{said}");
    fs::remove_file(folder.audit().join("audit.head")).unwrap();
    let (said, code) = verify();
    assert!(code == Some(0) && said.contains("has no key"), "{said}");
    let (said, code) = {
        let (out, err, code) = folder.command(&["audit", "verify", "--key-file", &key]);
        (format!("{out}{err}"), code)
    };
    assert!(code == Some(1) && said.contains("the chain is broken"), "{said}");
}

/// An empty list is a mistake where it would let nothing or everybody in.
#[test]
fn empty_lists_are_mistakes() {
    let (_, said, code) = Folder::new("next_hop = \"127.0.0.1:1\"\naccept_from = []", "").command(&["check"]);
    assert!(code == Some(2) && said.contains("smtp.accept_from"), "{said}");
    let (_, said, code) = Folder::new("next_hop = \"127.0.0.1:1\"", "[milter]\nlisten = []").command(&["check"]);
    assert!(code == Some(2) && said.contains("milter.listen"), "{said}");
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), text.replace("listen = [\"127.0.0.1:0\"]", "listen = []")).unwrap();
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("smtp.listen"), "{said}");
}
