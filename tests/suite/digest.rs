//! The digest, as the owner of an entry and the operator get it: by a real Postfix, by a server that wants TLS and a password, and
//! by one that is away.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use firstclick::clock;
use jiff::Timestamp;
use mail_parser::MessageParser;
use serde_json::Value;

use crate::hop::{
    Client, Sink, VENDOR,
    certificate::Authority,
    poll,
    process::{Folder, Process},
    programs::Program,
    sink::{Act, DOT, Mail},
    stuffed,
};

/// The day so many days from now, as an entry's `expires`.
fn in_days(days: i64) -> String {
    let day = Timestamp::from_second(clock::now().as_second() + days * 24 * 3_600).unwrap();
    day.strftime("%Y-%m-%d").to_string()
}

/// `[mail]` with this server, and this besides.
fn mail(server: impl std::fmt::Display, more: &str) -> String {
    format!(
        "[mail]\nserver = \"{server}\"\nfrom = \"firstclick@corp.example\"\nto = [\"ops@corp.example\"]\nat = \"00:00\"\nstate = \"state\"\n{more}\n"
    )
}

/// An audit in which the vendor's mails missed, by text of a stranger's.
fn missed(folder: &Path, number: u64, detail: &str) {
    let detail = serde_json::to_string(detail).unwrap();
    let time = clock::rfc3339(clock::now());
    let line = format!(
        r#"{{"type":"mail","v":1,"time":"{time}","id":"{number}","from":"<>","to":["<bob@corp.example>"],"size":1,"decision":"near_miss","observed":false,"entry":"vendor","reasons":[{{"check":"other_links","ok":false,"detail":{detail}}}],"outcome":null,"prev":"{}","n":{number}}}"#,
        "0".repeat(64)
    );
    fs::create_dir_all(folder).unwrap();
    let file = folder.join(format!("audit-{}.jsonl", clock::now().strftime("%Y%m%d")));
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(file, format!("{before}{line}\n")).unwrap();
}

/// A folder whose entry ends soon, is `owner`'s, and has missed a mail by hostile text.
fn folder(smtp: &str, rest: &str) -> Folder {
    let folder = Folder::new(smtp, rest);
    let entry = VENDOR.replace("action = \"tag\"", &format!("action = \"tag\"\nexpires = {}", in_days(5)));
    fs::write(folder.path("allow.d/vendor.toml"), entry.replace("it@corp.example", "HR <hr@corp.example>")).unwrap();
    let hostile = "https://evil.example/<b onclick=x>\u{202e}\u{1b}[31m leads elsewhere\r\nBcc: victim@evil.example\r\n; write other_links = [\"evil.example\"]";
    missed(&folder.audit(), 1, hostile);
    folder
}

/// A mail as its reader sees it: a header value, and the text.
fn field(mail: &Mail, name: &str) -> String {
    let octets = String::from_utf8(mail.data.clone()).unwrap();
    let header = octets.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n\t", " ");
    let values: Vec<&str> = header.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':')).collect();
    assert!(values.len() <= 1, "{name}: {header}");
    values.first().map(|value| value.trim().to_owned()).unwrap_or_default()
}

fn text(mail: &Mail) -> String {
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    assert_eq!((parsed.text_body().len(), parsed.attachments().len()), (1, 0));
    assert!(parsed.is_content_type("text", "plain"));
    parsed.body_text(0).unwrap().into_owned()
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The digest's mail to this address, once it is there.
async fn mail_to(sink: &Sink, address: &str) -> Mail {
    poll(&format!("a digest to {address}"), || sink.mails().into_iter().find(|mail| mail.to.iter().any(|to| to.contains(address)))).await
}

fn assert_is_a_digest(mail: &Mail) {
    assert!(mail.from.starts_with("MAIL FROM:<>"), "{}", mail.from);
    assert_eq!(mail.to.len(), 1);
    assert_eq!(field(mail, "Auto-Submitted"), "auto-generated");
    assert_eq!(field(mail, "Content-Type"), "text/plain; charset=utf-8");
    assert_eq!(field(mail, "From"), "firstclick <firstclick@corp.example>");
    assert!(field(mail, "Message-ID").starts_with("<digest.") && field(mail, "Message-ID").ends_with("@hop.test>"));
    assert!(!field(mail, "Date").is_empty() && field(mail, "MIME-Version") == "1.0");
    let octets = String::from_utf8(mail.data.clone()).expect("ASCII");
    assert!(octets.lines().all(|line| line.len() < 78 && line.is_ascii()), "{octets}");
}

fn assert_is_the_owners(mail: &Mail) {
    assert_is_a_digest(mail);
    assert_eq!(field(mail, "To"), "hr@corp.example");
    assert_eq!(field(mail, "Subject"), "firstclick: 1 entry ends, 1 near miss");
    let seen = text(mail);
    let said = flat(&seen);
    assert!(said.contains(&format!("vendor ends on {}, in 5 days", in_days(5))) || said.contains("in 4 days"), "{seen}");
    assert!(said.contains("vendor, other_links: 1 mail, the newest"), "{seen}");
    assert!(
        said.contains("hxxps://evil[.]example/<b onclick=x>\\u{202e}\\u{1b}[31m leads elsewhere\\u{d}\\u{a}Bcc: victim[@]evil[.]example")
    );
    assert!(said.contains("write other_links = [\"evil[.]example\"]"), "{seen}");
    assert!(!seen.contains("//evil.example") && !seen.contains('\u{202e}') && !seen.contains('\u{1b}'), "{seen}");
    assert!(!seen.contains("bob@corp.example"), "{seen}");
    assert_eq!(field(mail, "Bcc"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_postfix_brings_it_to_the_owner() {
    let sink = Sink::start().await;
    let authority = Authority::new();
    let Some(postfix) = Program::postfix(sink.address, &Program::postfix_with_tls(&authority)).await else { return };
    let server = format!("localhost:{}", postfix.address.port());
    let folder = folder("next_hop = \"127.0.0.1:1\"", &mail(server, &format!("ca = \"{}\"", authority.file().display())));
    let process = folder.run().await;
    let brought = mail_to(&sink, "hr@corp.example").await;
    assert!(brought.data.windows(8).any(|octets| octets == b"Received"), "it went through Postfix");
    let hops_own = brought.data.windows(5).position(|octets| octets == b"From:").unwrap();
    assert_is_the_owners(&Mail { data: brought.data[hops_own..].to_vec(), ..brought });
    assert!(postfix.log().contains("from=<>") && postfix.log().contains("starttls=1"), "{}", postfix.log());
    process.says("digest sent to=\"hr@corp.example\"").await;
    assert!(!sink.mails().iter().any(|mail| mail.to[0].contains("ops@")), "the operator has no news");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_tls_and_a_password_gets_both() {
    let authority = Authority::new();
    let sink = Sink::announcing(&["AUTH PLAIN LOGIN"]).await.encrypting(authority.server("localhost"));
    sink.on("AUTH", Act::Say("235 2.7.0 welcome".into()));
    let server = format!("localhost:{}", sink.address.port());
    let login = format!("ca = \"{}\"\nusername = \"firstclick\"\npassword_file = \"mail.password\"", authority.file().display());
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    drop(folder);
    let folder = {
        let folder = self::folder("next_hop = \"127.0.0.1:1\"", "");
        fs::write(folder.path("mail.password"), "open sesame\n").unwrap();
        folder.configure("next_hop = \"127.0.0.1:1\"", &mail(server, &login));
        folder
    };
    let process = folder.run().await;
    let brought = mail_to(&sink, "hr@corp.example").await;
    assert!(brought.encrypted);
    assert_is_the_owners(&brought);
    let lines = sink.lines();
    let (starttls, auth) =
        (lines.iter().position(|line| line == "STARTTLS"), lines.iter().position(|line| line.starts_with("AUTH PLAIN ")));
    assert!(starttls.is_some() && starttls < auth, "{lines:?}");
    process.says("digest sent").await;
    assert!(!process.log().contains("sesame"), "{}", process.log());

    // Another authority's certificate is not believed, and no password is told.
    let (other, again) = (Authority::new(), self::folder("next_hop = \"127.0.0.1:1\"", ""));
    fs::write(again.path("mail.password"), "open sesame\n").unwrap();
    let login = login.replace(&authority.file().display().to_string(), &other.file().display().to_string());
    again.configure("next_hop = \"127.0.0.1:1\"", &mail(format!("localhost:{}", sink.address.port()), &login));
    let process = again.run().await;
    let said = process.says("a digest could not be sent").await;
    assert!(said.contains("WARN") && said.contains("again_s=60"), "{said}");
    assert_eq!(sink.lines().iter().filter(|line| line.starts_with("AUTH")).count(), 1);
}

/// The program has looked at its digests and has nothing to send: a later look would log it.
async fn sends_none(sink: &Sink, folder: &Folder, mails: usize) {
    let process = folder.run().await;
    let start = Instant::now();
    // What would be sent is sent at the first look, within milliseconds.
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(sink.mails().len(), mails, "{}", process.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is remembered, moved back by so many hours, as if that time had passed.
fn time_passes(folder: &Folder, hours: i64) {
    let path = folder.path("state/sent.json");
    let mut sent: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for reader in sent.as_object_mut().unwrap().values_mut() {
        for key in ["tried", "taken"] {
            if let Some(second) = reader[key].as_i64() {
                reader[key] = (second - hours * 3_600).into();
            }
        }
    }
    fs::write(path, sent.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_a_day_over_restarts_and_nothing_is_told_twice() {
    let sink = Sink::start().await;
    let folder = folder(&format!("next_hop = \"{}\"", sink.address), &mail(sink.address, "tls = \"off\""));
    let process = folder.run().await;
    mail_to(&sink, "hr@corp.example").await;
    process.says("digest sent").await;
    drop(process);
    // More has happened on the same day.
    missed(&folder.audit(), 1_000, "later on that day");
    sends_none(&sink, &folder, 1).await;
    let (said, _, code) = folder.command(&["digest", "--dry-run"]);
    assert!(said.starts_with("not before tomorrow 00:00, as today's was sent at ") && said.contains("later on that day"), "{said}");
    assert_eq!(code, Some(0));
    // The next day: what is new, and not what was told.
    time_passes(&folder, 24);
    let process = folder.run().await;
    let second = poll("the next day's", || sink.mails().get(1).cloned()).await;
    assert_is_a_digest(&second);
    let seen = text(&second);
    assert!(seen.contains("later on that day") && !seen.contains("evil[.]example/"), "{seen}");
    assert!(seen.contains("vendor, other_links: 1 mail,") && seen.contains("Near misses since "), "{seen}");
    process.says("digest sent").await;
    drop(process);
    // A day without news.
    time_passes(&folder, 24);
    sends_none(&sink, &folder, 2).await;
    let (said, _, _) = folder.command(&["digest", "--dry-run"]);
    assert_eq!(said, "0 to send now, 0 later, 2 with no news\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_holds_up_no_mail_and_gets_it_later() {
    let sink = Sink::start().await;
    let folder = folder(&format!("next_hop = \"{}\"", sink.address), &mail("127.0.0.1:1", "tls = \"off\""));
    let process = folder.run().await;
    process.says("a digest could not be sent").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], b"Subject: x\r\n\r\nx\r\n").await.starts_with("250"));
    drop(process);
    // Nothing counts as sent: it goes as soon as there is a server. One that refuses it, and one that takes it.
    sink.on("RCPT TO:<hr@", Act::Say("450 4.2.0 not now".into()));
    folder.configure(&format!("next_hop = \"{}\"", sink.address), &mail(sink.address, "tls = \"off\""));
    let process = folder.run().await;
    let said = process.says("a digest could not be sent").await;
    assert!(said.contains("4.2.0 not now"), "{said}");
    drop(process);
    let process = folder.run().await;
    process.says("digest sent").await;
    assert_is_the_owners(&mail_to(&sink, "hr@corp.example").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_may_have_arrived_is_not_sent_again_on_that_day() {
    let sink = Sink::start().await;
    sink.on(DOT, Act::HangUp);
    let folder = folder(&format!("next_hop = \"{}\"", sink.address), &mail(sink.address, "tls = \"off\""));
    let process = folder.run().await;
    process.says("did not say whether it has a digest").await;
    drop(process);
    sends_none(&sink, &folder, 0).await;
    // What it told does not count as told.
    time_passes(&folder, 24);
    let _process = folder.run().await;
    assert_is_the_owners(&mail_to(&sink, "hr@corp.example").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_share_a_folder_one_sends() {
    let (sink, shared) = (Sink::start().await, tempfile::TempDir::new().unwrap());
    let state = format!("tls = \"off\"\nstate = \"{}\"", shared.path().display());
    let both: Vec<Folder> =
        (0..2).map(|_| folder("next_hop = \"127.0.0.1:1\"", &mail(sink.address, &state).replacen("state = \"state\"\n", "", 1))).collect();
    let (one, two) = (both[0].run().await, both[1].run().await);
    let says = |process: &Process, words: &str| process.log().contains(words);
    poll("one sends and one leaves it", || {
        let sends = |one: &Process, other: &Process| says(one, "digest sent") && says(other, "another firstclick sends the digests");
        (sends(&one, &two) || sends(&two, &one)).then_some(())
    })
    .await;
    assert_eq!(sink.mails().len(), 1);
}

/// What only the running service knows. Until the test lets go of the folder, another one sends.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_hears_of_a_reload_that_was_refused() {
    let sink = Sink::start().await;
    let folder = folder(&format!("next_hop = \"{}\"", sink.address), &mail(sink.address, "tls = \"off\""));
    let held = firstclick::digest::memory::Memory::open(&folder.path("state")).unwrap();
    let process = folder.run().await;
    process.says("another firstclick sends the digests").await;
    let before = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), before.replace("[tag]", "[tga]")).unwrap();
    process.says("not reloaded").await;
    drop(held);
    let brought = mail_to(&sink, "ops@corp.example").await;
    assert_is_a_digest(&brought);
    let seen = text(&brought);
    let said = flat(&seen);
    assert!(said.contains("What stands in the way") && said.contains("reload since 2"), "{seen}");
    assert!(said.contains("firstclick.toml:") && said.contains("tga"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_hears_of_certificates_and_of_entries_without_an_address() {
    let sink = Sink::start().await;
    let authority = Authority::new();
    let files = authority.issue_until("hop.test", 9);
    let smtp =
        format!("next_hop = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"", sink.address, files.certificate.display(), files.key.display());
    let folder = folder(&smtp, &mail(sink.address, "tls = \"off\""));
    let entry = fs::read_to_string(folder.path("allow.d/vendor.toml")).unwrap().replace("HR <hr@corp.example>", "the HR team");
    fs::write(folder.path("allow.d/vendor.toml"), entry).unwrap();
    let (shown, _, _) = folder.command(&["digest", "--dry-run"]);
    let _process = folder.run().await;
    let brought = mail_to(&sink, "ops@corp.example").await;
    assert_is_a_digest(&brought);
    assert_eq!(field(&brought, "Subject"), "firstclick: 1 entry ends, 1 near miss, 1 certificate ends");
    let seen = text(&brought);
    assert!(flat(&seen).contains("smtp.certificate: the certificate ends on") && seen.contains("in 8 days"), "{seen}");
    assert!(shown.contains(seen.replace("\r\n", "\n").trim_end()), "the dry run showed it:\n{shown}");
    assert!(shown.starts_with(&format!(
        "now, by {}:\nFrom: firstclick <firstclick@corp.example>\nTo: ops@corp.example\nSubject: firstclick: ",
        sink.address
    )));
    assert!(shown.ends_with("1 to send now, 0 later, 0 with no news\n"), "{shown}");
}

/// What is to be written into an entry is read whole: no line breaks in it, and nothing of it is cut. What is too much says where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn what_to_write_stands_whole() {
    let sink = Sink::start().await;
    let folder = folder("next_hop = \"127.0.0.1:1\"", &mail(sink.address, "tls = \"off\""));
    let shape = |at: usize| format!("login.vendor.test/account/{at}/reset/password/of/a/reader?display=page&locale=en&token={{token}}");
    let shapes: Vec<String> = (0..9).map(shape).collect();
    let link = "https://login.vendor.test/account is not among the entry's other_links, and carries a token, as one-time links do";
    let one = format!("{link}; if it is the sender's own, write password_reset = {shapes:?} under [links]");
    missed(&folder.audit(), 2, &one);
    let much = format!("{link}; {}", one.repeat(3));
    let newest = fs::read_to_string(folder.path("allow.d/vendor.toml")).unwrap().replace("vendor", "other");
    fs::write(folder.path("allow.d/other.toml"), newest).unwrap();
    let file = fs::read_dir(folder.audit()).unwrap().next().unwrap().unwrap().path();
    missed(&folder.audit(), 3, &much);
    let records = fs::read_to_string(&file).unwrap();
    let (before, last) = records.trim_end().rsplit_once('\n').unwrap();
    fs::write(&file, format!("{before}\n{}\n", last.replace("\"entry\":\"vendor\"", "\"entry\":\"other\""))).unwrap();
    let _process = folder.run().await;
    let brought = mail_to(&sink, "hr@corp.example").await;
    assert_is_a_digest(&brought);
    let seen = text(&brought);
    let written = shape(8).replace(".test", "[.]test").replace(".vendor", "[.]vendor");
    assert!(seen.lines().any(|line| line.contains(&format!("\"{written}\"]"))), "{written}\n{seen}");
    assert!(flat(&seen).contains("... the whole of it: `firstclick audit find --entry other --decision near_miss`"), "{seen}");
}

/// A digest that comes through the hop is an ordinary mail, whatever the entries say, and makes no near miss.
#[tokio::test(flavor = "multi_thread")]
async fn the_hop_judges_no_digest_and_a_stranger_gains_nothing() {
    let sink = Sink::start().await;
    let folder = folder(&format!("next_hop = \"{}\"", sink.address), &mail("127.0.0.1:1", "tls = \"off\""));
    let terms = "from = [\"corp.example\"]\nrequire = { ip = [\"127.0.0.0/8\"], spf = false }";
    let entry = VENDOR.replace("from = [\"vendor.test\"]", terms);
    fs::write(folder.path("allow.d/vendor.toml"), entry).unwrap();
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    let reset = |from: &str| {
        let date = clock::rfc5322(clock::now());
        stuffed(format!("From: {from}\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nDate: {date}\r\nMessage-ID: <1@corp.example>\r\n\r\nhttps://login.vendor.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a\r\n").as_bytes())
    };
    for (from, decision) in [("FirstClick@corp.example", "pass"), ("hr@corp.example", "act")] {
        for line in ["MAIL FROM:<a@corp.example>", "RCPT TO:<bob@corp.example>", "DATA"] {
            client.say(line).await;
        }
        client.raw(&reset(from)).await;
        let reply = client.reply().await;
        assert!(reply.starts_with("250"), "{reply}");
        let last = poll("its record", || {
            let mut mails = crate::hop::read_records(&folder.audit())
                .into_iter()
                .filter(|record| record["type"] == "mail" && record["author"] == "corp.example");
            mails.next_back().filter(|record| record["decision"] == decision)
        })
        .await;
        assert_eq!(last["decision"], decision, "{from}: {last}");
    }
    let (said, _, _) = folder.command(&["check"]);
    assert!(said.contains("the entry \"vendor\" names this address"), "{said}");
}

#[test]
fn mistakes_in_the_section_say_what_to_write() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let says = |section: &str| {
        folder.configure("next_hop = \"127.0.0.1:1\"", section);
        folder.command(&["check"]).1
    };
    fs::write(folder.path("empty"), "").unwrap();
    for (section, words) in [
        ("[mail]", "mail.server: missing, expected the mail server that takes the digest"),
        ("[mail]", "mail.to: missing, expected who hears of what has no owner"),
        (&mail("nowhere", ""), "expected HOST:PORT"),
        (&mail("127.0.0.1:25", "tls = \"always\""), "expected \"off\" or \"starttls\" or \"tls\""),
        (&mail("127.0.0.1:25", "").replace("ops@corp.example", "the admins"), "expected an address"),
        (&mail("127.0.0.1:25", "").replace("00:00", "7 am"), "expected a time of day, as in \"07:00\""),
        (&mail("127.0.0.1:25", "username = \"x\""), "mail.password_file: missing"),
        (&mail("127.0.0.1:25", "username = \"x\"\npassword_file = \"empty\""), "is empty, expected the password in its first line"),
        (
            &mail("mail.corp.example:25", "tls = \"off\"\nusername = \"x\"\npassword_file = \"tag.token\""),
            "off would show the password to the network",
        ),
        (&mail("127.0.0.1:25", "ca = \"tag.token\""), "holds no certificate in PEM"),
    ] {
        let said = says(section);
        assert!(said.contains(words), "{section}: {said}");
        assert!(!said.contains(crate::hop::TOKEN), "{said}");
    }
    folder.configure("next_hop = \"127.0.0.1:1\"", "");
    let (_, said, code) = folder.command(&["digest", "--dry-run"]);
    assert!(said.contains("there is no [mail]") && code == Some(2), "{said}");
    assert_eq!(folder.command(&["digest"]).2, Some(2), "without --dry-run there is nothing to do");
}
