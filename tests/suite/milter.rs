//! The milter, to an MTA of the tests' own. tests/mtas.rs has the real ones.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    time::Duration,
};

use firstclick::{
    message::Message,
    testbed::{Signer, Zone},
};
use serde_json::{Value, json};

use crate::hop::{
    Hop, SECRET, Sink, VENDOR, dkimpy_verifies, hop, is_tagged,
    mta::{Mta, OFFER, Told, Way, frame},
    poll,
    process::Folder,
    read_records, reset_mail, vendor,
};

const BOB: Way<'_> = Way { client: "127.0.0.1", from: "<bounce@vendor.test>", to: &["<bob@corp.example>"], piece: 65_535 };

async fn tell(hop: &Hop, mail: &[u8]) -> Told {
    let mut mta = Mta::connect(hop.milter().await).await;
    mta.greet("127.0.0.1").await;
    mta.mail(BOB, mail).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_reset_mail_is_tagged_and_an_ordinary_one_is_let_go_after_its_header() {
    let (hop, signer, _zone) = vendor().await;
    let mut mta = Mta::connect(hop.milter().await).await;
    mta.greet("127.0.0.1").await;
    let reset = signer.sign(&reset_mail()).unwrap();
    let told = mta.mail(BOB, reset.as_bytes()).await;
    assert_eq!(told.verdict, 'a');
    assert!(is_tagged(&told.mail) && told.mail.ends_with(reset.as_bytes()), "only the top changed");
    assert!(dkimpy_verifies(&told.mail, signer.public_key()).is_none_or(|verifies| verifies));
    let record = hop.record(1).await;
    assert_eq!((record["decision"].as_str(), record["entry"].as_str()), (Some("act"), Some("vendor")));
    assert!(!record.to_string().contains(SECRET));
    let outcome = poll("the outcome", || read_records(&hop.audit).into_iter().find(|record| record["type"] == "outcome")).await;
    assert_eq!((outcome["delivery"].as_str(), outcome["queue_id"].as_str()), (Some("left_to_mta"), Some("ABC123DEF")));

    // On the same connection: nobody's mail, of which no body is asked for.
    let ordinary = b"From: a@shop.test\r\nTo: bob@corp.example\r\nSubject: hello\r\n\r\nHello.\r\n".to_vec();
    let told = mta.mail(BOB, &ordinary).await;
    assert_eq!((told.verdict, told.body_sent), ('a', 0));
    assert!(told.mail == ordinary);
    let record = hop.record(2).await;
    assert_eq!((record["reasons"][0]["check"].as_str(), record["reasons"][0]["ok"].as_bool()), (Some("sender"), Some(false)));

    // Of a mail that came by no session Postfix tells addresses without their brackets.
    for (from, to, record) in [("a@shop.test", "bob@corp.example", 3), ("", "<bob@corp.example>", 4)] {
        assert_eq!(mta.mail(Way { from, to: &[to], ..BOB }, &ordinary).await.verdict, 'a');
        let record = hop.record(record).await;
        assert_eq!((&record["from"], &record["to"]), (&json!(format!("<{from}>")), &json!(["<bob@corp.example>"])));
    }

    // Forged tags, in any case and number; the body is not needed for it.
    let forged = [
        &b"X-FIRSTCLICK: a\r\nSubject: x\r\nx-firstclick: b\r\nX-Firstclick-Signature: c\r\n\td\r\n"[..],
        b"X-Firstclick: e\r\n",
        &ordinary,
    ]
    .concat();
    let told = mta.mail(BOB, &forged).await;
    assert_eq!(told.verdict, 'a');
    assert!(told.mail == [&b"Subject: x\r\n"[..], &ordinary].concat(), "{}", String::from_utf8_lossy(&told.mail));
    assert_eq!(hop.record(5).await["removed"], 4);
}

/// Hung up on, an MTA would let a mail go with what its header hides: one that is too large is refused instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_too_large_is_refused() {
    let (hop, signer, _zone) = vendor().await;
    let mut mta = Mta::connect(hop.milter().await).await;
    mta.greet("127.0.0.1").await;
    let large =
        format!("{}X-Firstclick: forged\r\nFrom: a@shop.test\r\n\r\nx\r\n", format!("X-Large: {}\r\n", "a".repeat(990)).repeat(1_100));
    assert_eq!(mta.mail(BOB, large.as_bytes()).await.verdict, 'y');
    // As many forged fields as the bound lets through, all removed, and the connection goes on.
    let many = format!("{}From: a@shop.test\r\n\r\nx\r\n", "X-Firstclick: f\r\n".repeat(20_000));
    assert!(mta.mail(BOB, many.as_bytes()).await.mail == b"From: a@shop.test\r\n\r\nx\r\n");
    assert!(is_tagged(&mta.mail(BOB, signer.sign(&reset_mail()).unwrap().as_bytes()).await.mail));
}

/// MLT-03: what was known of one mail counts for no other, whatever came between.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_begins_anew_after_abort_and_after_another_client() {
    let (hop, signer, _zone) = vendor().await;
    let reset = signer.sign(&reset_mail()).unwrap();
    let mut mta = Mta::connect(hop.milter().await).await;
    mta.greet("127.0.0.1").await;
    // The genuine header, and then the mail is off; the next one brings a body only.
    mta.raw(&frame(b'M', b"<bounce@vendor.test>\0")).await;
    mta.raw(&frame(b'R', b"<bob@corp.example>\0")).await;
    mta.raw(&frame(b'L', b"From\0 support@vendor.test\0")).await;
    mta.raw(&frame(b'A', b"")).await;
    let told = mta.mail(BOB, b"Subject: x\r\n\r\nhttps://login.vendor.test/reset/x\r\n").await;
    assert_eq!((told.verdict, is_tagged(&told.mail)), ('a', false));
    assert_eq!(hop.record(1).await["author"], Value::Null);
    // Another client on the connection.
    mta.raw(&frame(b'K', b"")).await;
    mta.raw(&frame(b'C', b"x\x004\x00\x19198.51.100.7\0")).await;
    let told = mta.mail(BOB, reset.as_bytes()).await;
    assert!(is_tagged(&told.mail));
    let record = hop.record(2).await;
    assert_eq!((record["upstream"].as_str(), record["helo"].as_str()), (Some("198.51.100.7"), None));
}

/// MLT-07: a body cut into any pieces is the same body.
#[tokio::test(flavor = "multi_thread")]
async fn any_cutting_of_the_body_decides_the_same() {
    let (hop, signer, _zone) = vendor().await;
    let reset = signer.sign(&reset_mail()).unwrap();
    let mut mta = Mta::connect(hop.milter().await).await;
    mta.greet("127.0.0.1").await;
    for piece in [1, 2, 7, 65_535] {
        let told = mta.mail(Way { piece, ..BOB }, reset.as_bytes()).await;
        assert!(is_tagged(&told.mail), "pieces of {piece}");
    }
}

/// MLT-01, MLT-02: what is no milter conversation ends the connection, and others are served.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_connection_only() {
    let (hop, signer, _zone) = vendor().await;
    let reset = signer.sign(&reset_mail()).unwrap();
    let address = hop.milter().await;
    let offer = frame(b'O', &OFFER.map(u32::to_be_bytes).concat());
    let after = |frames: &[Vec<u8>]| [vec![offer.clone()], frames.to_vec()].concat().concat();
    let gigabyte = [&(1_u32 << 30).to_be_bytes()[..], b"L"].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a frame of nothing", vec![0; 4]),
        ("a frame of 1 GB", gigabyte),
        ("a frame of 4 GB", vec![0xff; 8]),
        ("an unknown letter", after(&[frame(b'Z', b"")])),
        ("SMTP", b"EHLO client.test\r\n".to_vec()),
        ("no negotiation", frame(b'M', b"<a@b.test>\0")),
        ("the end before the mail", after(&[frame(b'E', b"")])),
        ("a body before the header's end and before MAIL", after(&[frame(b'B', b"x")])),
        ("a header before MAIL", after(&[frame(b'L', b"X\0 y\0")])),
        ("a header without an end", after(&[frame(b'M', b"<>\0"), frame(b'L', b"X")])),
        ("MAIL without an end", after(&[frame(b'M', b"<a@b.test>")])),
        ("version 2", frame(b'O', &[2_u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes).concat())),
        ("no header changes", frame(b'O', &[6_u32, 0x1, 0x1f_ffff].map(u32::to_be_bytes).concat())),
        ("no leading space", frame(b'O', &[6_u32, 0x1ff, 0x0f_ffff].map(u32::to_be_bytes).concat())),
    ];
    for (what, bytes) in cases {
        let mut mta = Mta::connect(address).await;
        mta.raw(&bytes).await;
        let mut answers = String::new();
        while let Some((letter, _)) = mta.answer().await {
            answers.push(letter);
        }
        assert!(answers.is_empty() || answers == "O", "{what}: {answers}");
    }
    // One octet short, and then nothing: its connection waits, and nobody else does.
    let mut short = Mta::connect(address).await;
    short.raw(&offer[..offer.len() - 1]).await;
    assert!(is_tagged(&tell(&hop, reset.as_bytes()).await.mail));
    // A slow MTA, octet by octet.
    let mut slow = Mta::connect(address).await;
    for byte in &offer {
        slow.raw(&[*byte]).await;
    }
    assert_eq!(slow.answer().await.unwrap().0, 'O');
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_is_let_go_uninspected() {
    let zone = Zone::serve().await.unwrap();
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    let hop = hop().allow("vendor", VENDOR).asking(&zone).with(|config| config.inspect_limit = 100_000).start().await;
    let reset = signer.sign(&format!("{}{}", reset_mail(), "One more line of text.\r\n".repeat(20_000))).unwrap();
    let told = tell(&hop, format!("X-Firstclick: forged\r\n{reset}").as_bytes()).await;
    assert!(told.verdict == 'a' && told.body_sent < 200_000, "{} octets of the body were sent", told.body_sent);
    assert!(told.mail == reset.as_bytes(), "only the forgery is gone");
    let record = hop.record(1).await;
    assert_eq!((record["decision"].as_str(), record["reasons"][0]["check"].as_str()), (Some("pass"), Some("size")));
}

/// MLT-10: while DNS does not answer, the MTA hears that somebody is still at it, and then the mail goes on untagged.
#[tokio::test(flavor = "multi_thread")]
async fn slow_dns_keeps_the_mta_waiting_knowingly() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let hop = hop().allow("vendor", VENDOR).asking_at(silent.local_addr().unwrap(), Duration::from_millis(5_500)).start().await;
    let zone = Zone::serve().await.unwrap();
    let reset = Signer::publish(&zone, "vendor.test").unwrap().sign(&reset_mail()).unwrap();
    let told = tell(&hop, reset.as_bytes()).await;
    assert_eq!((told.verdict, is_tagged(&told.mail)), ('a', false));
    assert!(told.progress >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_connections_at_once() {
    let zone = Zone::serve().await.unwrap();
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    let hop = hop().allow("vendor", &format!("limit = \"unlimited\"\n{VENDOR}")).asking(&zone).start().await;
    let reset = signer.sign(&reset_mail()).unwrap();
    let address = hop.milter().await;
    let mut crowd = Vec::new();
    for _ in 0..500 {
        let mut mta = Mta::connect(address).await;
        mta.greet("127.0.0.1").await;
        crowd.push(mta);
    }
    let mails: Vec<_> = crowd
        .into_iter()
        .map(|mut mta| {
            let reset = reset.clone();
            tokio::spawn(async move { mta.mail(BOB, reset.as_bytes()).await })
        })
        .collect();
    for mail in mails {
        assert!(is_tagged(&mail.await.unwrap().mail));
    }
}

/// Takes away what differs between two tags of one mail: time and signature.
fn without_signature(mail: &[u8]) -> Vec<u8> {
    let message = Message::read(mail);
    let headers = message.headers();
    let patches: Vec<_> = headers
        .named("X-Firstclick-Signature")
        .map(|field| firstclick::edit::Patch { at: field.whole.clone(), with: b"SIGNED\r\n".to_vec() })
        .collect();
    firstclick::edit::apply(mail, &patches).unwrap()
}

/// Every mail of the corpus by both protocols: the same decision for the same reason, and the same octets.
#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_decide_and_edit_alike() {
    let Some(corpus) = crate::hop::shared("corpus") else { return };
    let mut mails: Vec<(String, Vec<u8>)> = Vec::new();
    for folder in ["dev/positive", "dev/negative", "mime/rfc", "mime/legacy"] {
        for file in fs::read_dir(corpus.join(folder)).unwrap().flatten() {
            let mail = fs::read(file.path()).unwrap();
            // What holds a bare CR or LF never comes past the SMTP server.
            if !firstclick::message::header::has_bare_line_ending(&mail) && mail.windows(4).any(|four| four == b"\r\n\r\n") {
                mails.push((file.path().display().to_string(), mail));
            }
        }
    }
    // An entry that takes what it can: every author, every host, whoever sends from this machine.
    let (mut authors, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for (_, mail) in &mails {
        let message = Message::read(mail);
        authors.extend(message.author().ok().filter(|author| author.domain.registered().is_some()).map(|author| author.domain.to_string()));
        hosts.extend(
            message
                .content()
                .links
                .iter()
                .filter_map(|found| found.link.host())
                .filter(|host| host.registered().is_some())
                .map(|host| host.to_string()),
        );
    }
    let list = |items: &BTreeSet<String>| items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ");
    let entry = format!(
        "from = [{}]\ndecide_by = \"words\"\nother_links = [{}]\nrequire = {{ ip = [\"127.0.0.0/8\"], spf = false }}\nattachments = true\nlimit = \"unlimited\"\nowner = \"it@corp.example\"\naction = \"tag\"\n",
        list(&authors),
        list(&hosts)
    );
    let (zone, sink) = (Zone::serve().await.unwrap(), Sink::start().await);
    let by_smtp = hop().allow("all", &entry).next_hop(&sink).asking(&zone).start().await;
    let by_milter = hop().allow("all", &entry).asking(&zone).start().await;
    let mut client = by_smtp.client().await;
    client.greet().await;
    let mut mta = Mta::connect(by_milter.milter().await).await;
    mta.greet("127.0.0.1").await;
    let mut decisions: HashMap<String, usize> = HashMap::new();
    for (count, (name, mail)) in mails.iter().enumerate() {
        let reader = crate::hop::reader_of(mail);
        let reply = client.send("<bounce@vendor.test>", &[&reader], mail).await;
        assert!(reply.starts_with("250"), "{name}: {reply}");
        let arrived = sink.mail(count + 1).await.data;
        let told = mta.mail(Way { to: &[&reader], ..BOB }, mail).await;
        assert_eq!(told.verdict, 'a', "{name}");
        assert!(without_signature(&arrived) == without_signature(&told.mail), "{name}: the octets differ");
    }
    let mails_of = |records: Vec<Value>| records.into_iter().filter(|record| record["type"] == "mail").collect::<Vec<_>>();
    let (ones, others) = (mails_of(by_smtp.records(mails.len()).await), mails_of(by_milter.records(mails.len()).await));
    for ((name, _), (one, other)) in mails.iter().zip(ones.iter().zip(&others)) {
        for key in ["decision", "entry", "actions", "reasons", "recognized", "flaws", "removed", "author", "message_id"] {
            assert_eq!(one[key], other[key], "{name}: {key}");
        }
        *decisions.entry(one["decision"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    println!("{} mails by both protocols: {decisions:?}", mails.len());
    assert!(decisions["act"] > 100 && mails.len() > 500, "{decisions:?}");
}

/// Another allowlist takes effect in the middle of a connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reaches_the_milter() {
    let folder = Folder::new("", "");
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    let (head, rest) = text.split_once("[smtp]").unwrap();
    let rest = rest.split_once("[tag]").unwrap().1;
    let socket = folder.path("milter.sock").display().to_string();
    let milter = "[milter]\nlisten = [\"inet:127.0.0.1:0\", \"unix:SOCKET\"]\nhostname = \"hop.test\"\n[identity]\ndns = [\"127.0.0.1:1\"]\ndeadline = \"100ms\"\n[tag]".replace("SOCKET", &socket);
    fs::write(folder.path("firstclick.toml"), format!("{head}{milter}{rest}")).unwrap();
    let process = folder.run().await;
    assert!(process.says(&socket).await.contains("listening for MTAs"), "a socket is told by its path");
    let mut mta = Mta::connect(process.address).await;
    mta.greet("127.0.0.1").await;
    let reset = reset_mail();
    let told = mta.mail(BOB, reset.as_bytes()).await;
    assert_eq!((told.verdict, told.body_sent), ('a', 0), "nobody is named, so nobody's body is asked for");
    fs::create_dir_all(folder.path("allow.d")).unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    process.signal("HUP");
    process.says("reloaded").await;
    let told = mta.mail(BOB, reset.as_bytes()).await;
    assert!(told.verdict == 'a' && told.body_sent > 0, "the entry names the author now");
}

/// What is told out of turn would stay unread: the session ends, and the MTA does what its default action says. A mail without a
/// recipient is nobody's to exempt.
#[tokio::test(flavor = "multi_thread")]
async fn frames_out_of_turn_end_the_session() {
    let hop = hop().allow("vendor", VENDOR).start().await;
    let address = hop.milter().await;
    let (mail, rcpt) = (frame(b'M', b"<a@b.test>\0"), frame(b'R', b"<bob@corp.example>\0"));
    let (field, end) = (frame(b'L', b"From\0 support@vendor.test\0"), frame(b'N', b""));
    for (name, frames) in [
        ("a field behind the header", vec![&mail, &rcpt, &field, &end, &field]),
        ("the header's end twice", vec![&mail, &rcpt, &field, &end, &end]),
        ("a body before the header's end", vec![&mail, &rcpt, &field, &frame(b'B', b"x")]),
        ("a recipient behind the header", vec![&mail, &rcpt, &field, &end, &rcpt]),
        ("the end before the header's end", vec![&mail, &rcpt, &field, &frame(b'E', b"")]),
    ] {
        let mut mta = Mta::connect(address).await;
        mta.greet("127.0.0.1").await;
        for frame in frames {
            mta.raw(frame).await;
        }
        // Whatever was answered before, the session is over then.
        while let Some((letter, _)) = mta.answer().await {
            assert!(letter != 'a', "{name}: it is accepted");
        }
    }
}
