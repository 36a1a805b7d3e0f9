//! The milter inside real MTAs: Postfix, Sendmail, and opendkim's miltertest.

use std::{
    collections::HashMap,
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use firstclick::{
    edit::guard_link::{GuardLinkKeys, SealKey},
    message::Message,
    testbed::{Signer, Zone},
};

use crate::hop::{
    Client, SECRET, Sink, VENDOR, dkimpy_verifies, hop, is_tagged, needs, poll, process::Folder, programs::Program, reset_mail, vendor,
};

/// swaks or a client -> Postfix with our milter -> sink: tagged, forged tags gone, all else as without the milter.
#[tokio::test(flavor = "multi_thread")]
async fn postfix_with_our_milter() {
    let (hop, signer, _zone) = vendor().await;
    let address = hop.milter().await;
    let sink = Sink::start().await;
    let Some(postfix) = Program::postfix(sink.address, "").await else { return };
    postfix.postfix_admin(&format!("MILTER=inet:{address} deploy/postfix/add-milter"));
    let plain_sink = Sink::start().await;
    let Some(plain) = Program::postfix(plain_sink.address, "").await else { return };
    let reset = signer.sign(&reset_mail()).unwrap();
    let strange = "Subject: caf\u{e9}\r\nX-Long: one\r\n\ttwo\r\n   three\r\nX-Empty:\r\nX-NoSpace:x\r\nFrom: a@shop.test\r\nTo: bob@corp.example\r\nMessage-ID: <1@shop.test>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\n.\r\n..dots\r\n\tend";
    let forged = "x-firstclick: a\r\nX-Firstclick : b\r\nX-FIRSTCLICK:\r\n c\r\nX-Firstclick-Signature: d\r\nX-MS-Exchange-Organization-SkipSafeLinksProcessing: 1\r\nAuthentication-Results: hop.test; dkim=pass header.d=vendor.test\r\n";
    let mails: Vec<(String, bool)> = vec![
        (reset.clone(), true),
        (reset.replace("works once", "works twice"), false),
        (strange.to_owned(), false),
        (format!("{forged}{strange}"), false),
        (format!("{forged}{reset}"), true),
        (format!("{strange}\r\n{}", "large line of text that goes on\r\n".repeat(40_000)), false),
    ];
    for (count, (mail, tagged)) in mails.iter().enumerate() {
        let mut arrived = Vec::new();
        for (program, sink) in [(&postfix, &sink), (&plain, &plain_sink)] {
            let mut client = Client::connect(program.address).await;
            client.greet().await;
            let reply = client.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await;
            assert!(reply.starts_with("250"), "{reply}: {}", program.log());
            arrived.push(sink.mail(count + 1).await.data);
        }
        let [ours, without] = [0, 1].map(|at| own_only(&arrived[at]));
        assert_eq!(is_tagged(&ours), *tagged, "mail {count}: {}", hop.record(count + 1).await);
        let left: Vec<_> =
            Message::read(&ours).headers().fields().iter().map(|field| ours[field.name.clone()].to_ascii_lowercase()).collect();
        let ours_again = left.iter().filter(|name| name.trim_ascii().starts_with(b"x-firstclick")).count();
        assert_eq!(ours_again, if *tagged { 2 } else { 0 }, "mail {count}: {}", String::from_utf8_lossy(&ours[..ours.len().min(2_000)]));
        // What stands without the milter, less the forgeries, is what stands with it, less the tag.
        let tagger = crate::hop::tagger();
        let bare = |mail: &[u8]| firstclick::edit::apply(mail, &tagger.removals(Message::read(mail).headers())).unwrap();
        assert!(bare(&ours) == bare(&without), "mail {count}: the octets differ");
        if *tagged {
            assert!(dkimpy_verifies(&ours, signer.public_key()).is_none_or(|verifies| verifies), "mail {count}");
        }
    }
    assert!(hop.record(1).await["to"].to_string().contains("bob@corp.example"));
}

/// A milter cannot send a mail another way; Postfix can, by the tag.
#[tokio::test(flavor = "multi_thread")]
async fn postfix_routes_by_the_tag() {
    let (hop, signer, _zone) = vendor().await;
    let address = hop.milter().await;
    let (scanner, past_it) = (Sink::start().await, Sink::start().await);
    let table = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).tempfile().unwrap();
    fs::write(table.path(), format!("/^X-Firstclick: {}$/ FILTER smtp:[127.0.0.1]:{}\n", crate::hop::TOKEN, past_it.address.port()))
        .unwrap();
    let lines = format!("smtpd_milters = inet:{address}\nmilter_header_checks = regexp:{}\n", table.path().display());
    let Some(postfix) = Program::postfix(scanner.address, &lines).await else { return };
    let reset = signer.sign(&reset_mail()).unwrap();
    let ordinary = "X-Firstclick: forged\r\nFrom: a@shop.test\r\nTo: bob@corp.example\r\nSubject: hello\r\n\r\nHello.\r\n";
    let mut client = Client::connect(postfix.address).await;
    client.greet().await;
    for mail in [&reset, ordinary] {
        assert!(client.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    }
    assert!(is_tagged(&past_it.mail(1).await.data));
    assert!(!is_tagged(&scanner.mail(1).await.data));
}

/// Sendmail, unpacked, with our milter.
#[tokio::test(flavor = "multi_thread")]
async fn sendmail_with_our_milter() {
    let (hop, signer, _zone) = vendor().await;
    let sink = Sink::start().await;
    let Some(sendmail) = Program::sendmail(sink.address, hop.milter().await).await else { return };
    let reset = signer.sign(&reset_mail()).unwrap();
    let ordinary = "From: a@shop.test\r\nTo: bob@corp.example\r\nSubject: hello\r\nMessage-ID: <1@shop.test>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nX-Long: one\r\n\ttwo\r\n\r\n..Hello.\r\n";
    let forged = "x-firstclick: a\r\nX-FIRSTCLICK: b\r\n\tc\r\nX-Firstclick-Signature: d\r\n";
    let mails =
        [(reset.clone(), true), (ordinary.to_owned(), false), (format!("{forged}{ordinary}"), false), (format!("{forged}{reset}"), true)];
    for (count, (mail, tagged)) in mails.iter().enumerate() {
        let mut client = Client::connect(sendmail.address).await;
        client.greet().await;
        let reply = client.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await;
        assert!(reply.starts_with("250"), "{reply}: {}", sendmail.log());
        let arrived = own_only(&sink.mail(count + 1).await.data);
        let text = String::from_utf8(arrived.clone()).unwrap();
        assert_eq!(is_tagged(&arrived), *tagged, "mail {count}: {text}");
        let left = text.to_lowercase().matches("\nx-firstclick").count() + usize::from(text.to_lowercase().starts_with("x-firstclick"));
        assert_eq!(left, if *tagged { 2 } else { 0 }, "mail {count}: {text}");
        assert!(text.ends_with(mail.split_once("\r\n\r\n").unwrap().1), "mail {count}: {text}");
        if *tagged {
            assert!(dkimpy_verifies(&arrived, signer.public_key()).is_none_or(|verifies| verifies), "mail {count}");
        }
    }
}

/// MLT-08: a new body of many pieces and new header fields at once, through Postfix.
#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_a_large_guarded_mail() {
    let zone = Zone::serve().await.unwrap();
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    let key = SealKey::parse("AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=").unwrap();
    let guard_links = GuardLinkKeys { url: "https://links.corp.example".into(), keys: vec![key], lifetime: Duration::from_hours(1) };
    let entry = VENDOR.replace("action = \"tag\"", "action = [\"guard\", \"tag\"]");
    let hop = hop().allow("vendor", &entry).asking(&zone).with_guard(Arc::new(guard_links)).start().await;
    let address = hop.milter().await;
    let sink = Sink::start().await;
    let Some(postfix) = Program::postfix(sink.address, &format!("smtpd_milters = inet:{address}\n")).await else { return };
    let tail = "A line of text that goes on and on.\r\n".repeat(6_000);
    let mail = signer.sign(&format!("{}{tail}", reset_mail())).unwrap();
    let mut client = Client::connect(postfix.address).await;
    client.greet().await;
    assert!(client.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    let arrived = own_only(&sink.mail(1).await.data);
    let text = String::from_utf8(arrived.clone()).unwrap();
    assert!(is_tagged(&arrived) && !text.contains(SECRET), "{}", hop.record(1).await);
    let value = text.split("https://links.corp.example/c/").nth(1).unwrap().split_whitespace().next().unwrap();
    let one_time = mail.split_whitespace().find(|word| word.contains(SECRET)).unwrap();
    let back = text.replace(&format!("https://links.corp.example/c/{value}"), one_time);
    assert!(back.ends_with(mail.split_once("\r\n\r\n").unwrap().1), "nothing else has changed");
}

/// A mail without the trace fields that an MTA put on it.
fn own_only(mail: &[u8]) -> Vec<u8> {
    let message = Message::read(mail);
    let headers = message.headers();
    let patches: Vec<_> =
        headers.named("Received").map(|field| firstclick::edit::Patch { at: field.whole.clone(), with: Vec::new() }).collect();
    firstclick::edit::apply(mail, &patches).unwrap()
}

/// The milter is killed and started again while mails come: what Postfix took is delivered once, tagged or not; what it
/// could not ask about it put off (tempfail) or let go (accept).
#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_under_load_nothing_is_lost() {
    for action in ["tempfail", "accept"] {
        let folder = Folder::new("", "");
        let socket = folder.path("milter.sock");
        fs::write(
            folder.path("firstclick.toml"),
            format!(
                "mode = \"enforce\"\nallow = \"allow.d\"\n[milter]\nlisten = [\"unix:{}\"]\nsocket_mode = \"0666\"\nhostname = \"hop.test\"\n[tag]\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n[audit]\ndirectory = \"audit\"\n",
                socket.display()
            ),
        )
        .unwrap();
        fs::set_permissions(folder.path("."), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let sink = Sink::start().await;
        let lines = format!(
            "smtpd_milters = unix:{}\nmilter_default_action = {action}\nmilter_connect_timeout = 2s\nsmtpd_client_connection_count_limit = 0\n",
            socket.display()
        );
        let Some(postfix) = Program::postfix(sink.address, &lines).await else { return };
        let mut process = folder.run().await;
        let (next, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let delivered = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..8)
            .map(|_| {
                let (address, next, stop, delivered) = (postfix.address, Arc::clone(&next), Arc::clone(&stop), Arc::clone(&delivered));
                tokio::spawn(async move {
                    let (mut taken, mut put_off) = (Vec::new(), 0);
                    while !stop.load(Ordering::Relaxed) {
                        let Some(mut client) = Client::try_connect(address).await else { continue };
                        client.greet().await;
                        for _ in 0..5 {
                            let id = format!("m{}x", next.fetch_add(1, Ordering::Relaxed));
                            let mail = format!("From: a@shop.test\r\nTo: c@d.test\r\nSubject: {id}\r\n\r\nHello.\r\n");
                            let reply = client.send("<a@shop.test>", &["<c@d.test>"], mail.as_bytes()).await;
                            match reply.as_bytes().first() {
                                Some(b'2') => {
                                    delivered.fetch_add(1, Ordering::Relaxed);
                                    taken.push(id);
                                }
                                Some(b'4') => {
                                    put_off += 1;
                                    break;
                                }
                                _ => panic!("{reply}"),
                            }
                        }
                    }
                    (taken, put_off)
                })
            })
            .collect();
        // In mid-traffic: some mails after each start.
        for kill in 0..=4 {
            let enough = delivered.load(Ordering::Relaxed) + 11;
            poll("mails after a start", || (delivered.load(Ordering::Relaxed) >= enough).then_some(())).await;
            if kill < 4 {
                process.signal("KILL");
                process.ended().await;
                process = folder.run().await;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (mut taken, mut put_off) = (Vec::new(), 0);
        for sender in senders {
            let (own, off) = sender.await.unwrap();
            taken.extend(own);
            put_off += off;
        }
        let count = |mails: &[crate::hop::sink::Mail]| {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for mail in mails {
                let subject = Message::read(&mail.data).headers().first("Subject").unwrap();
                *seen.entry(String::from_utf8(subject).unwrap()).or_default() += 1;
            }
            seen
        };
        poll("every mail that was taken", || {
            let seen = count(&sink.mails());
            taken.iter().all(|id| seen.contains_key(id)).then_some(())
        })
        .await;
        let seen = count(&sink.mails());
        assert!(seen.values().all(|times| *times == 1), "a mail came twice");
        assert_eq!(seen.len(), taken.len(), "a mail came that nobody was told of");
        println!("{action}: {} taken and delivered once, {put_off} put off, 4 kills", taken.len());
        assert!(taken.len() > 50, "{}", taken.len());
        process.signal("TERM");
        assert_eq!(process.ended().await, Some(0));
        assert!(!socket.exists(), "the socket's file is gone");
    }
}

/// opendkim's miltertest: an MTA of another make.
#[tokio::test(flavor = "multi_thread")]
async fn miltertest_is_content() {
    if needs("miltertest").is_none() {
        return;
    }
    let (hop, signer, _zone) = vendor().await;
    let address = hop.milter().await;
    let reset = signer.sign(&reset_mail()).unwrap();
    let (head, body) = reset.split_once("\r\n\r\n").unwrap();
    let quoted =
        |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("\r\n", "\\n").replace('\t', "\\t"));
    let mut fields: Vec<String> = Vec::new();
    for line in head.split("\r\n") {
        if line.starts_with([' ', '\t']) {
            let last = fields.last_mut().unwrap();
            last.push_str("\r\n");
            last.push_str(line);
        } else {
            fields.push(line.to_owned());
        }
    }
    let header = |field: &String| {
        let (name, value) = field.split_once(':').unwrap();
        format!("mt.header(conn, {}, {})\n", quoted(name), quoted(value))
    };
    let body = format!("\"{}\"", body.replace('\\', "\\\\").replace('"', "\\\"").replace("\r\n", "\\r\\n"));
    let script = format!(
        "conn = mt.connect(\"inet:{}@127.0.0.1\")\nif conn == nil then error(\"no connection\") end\n\
         if mt.negotiate(conn, nil, nil, nil) ~= nil then error(\"negotiation\") end\n\
         mt.conninfo(conn, \"client.test\", \"127.0.0.1\")\nmt.helo(conn, \"client.test\")\n\
         mt.mailfrom(conn, \"<bounce@vendor.test>\")\nmt.rcptto(conn, \"<bob@corp.example>\")\n\
         mt.header(conn, \"X-Firstclick\", \" forged\")\n{}mt.eoh(conn)\n\
         if mt.getreply(conn) ~= SMFIR_CONTINUE then error(\"end of header\") end\n\
         mt.bodystring(conn, {})\nmt.eom(conn)\nif mt.getreply(conn) ~= SMFIR_ACCEPT then error(\"end of mail\") end\n\
         if not mt.eom_check(conn, MT_HDRDELETE, \"X-Firstclick\") then error(\"the forgery stays\") end\n\
         if not mt.eom_check(conn, MT_HDRINSERT, \"X-Firstclick\") then error(\"no tag\") end\n\
         if not mt.eom_check(conn, MT_HDRINSERT, \"X-Firstclick-Signature\") then error(\"no signature\") end\n\
         mt.disconnect(conn)\n",
        address.port(),
        fields.iter().map(header).collect::<String>(),
        body
    );
    let file = hop.audit.parent().unwrap().join("script.lua");
    fs::write(&file, &script).unwrap();
    let output = Command::new("miltertest").arg("-s").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(hop.record(1).await["decision"], "act");
}
