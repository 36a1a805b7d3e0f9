//! The hop as a relay: what comes in goes out, byte for byte, and every reply is the next hop's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on panics"
)]

mod hop;

use std::fs;

use firstclick::message::Message;

use self::hop::{
    Client, Sink, corpus, hop, poll,
    sink::{Act, DOT},
    stuffed,
};

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_byte_for_byte() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let mails: [&[u8]; 8] = [
        MAIL,
        b"a: b\r\n\r\n.\r\n..\r\n.a\r\n...b\r\n",
        b".leading dot: x\r\n\r\n..\r\n",
        b"a: b\r\n\r\ncaf\xe9 \xff\x80 \x01\r\n",
        b"a: b\r\n\r\n\r\n\r\n\r\n",
        b"no header at all\r\n",
        b"\r\n",
        &[b"a: b\r\n\r\n".to_vec(), vec![b'x'; 100_000], b"\r\nend\r\n".to_vec()].concat(),
    ];
    for (count, mail) in mails.iter().enumerate() {
        let reply = hop.send("<a@b.test>", &["<c@d.test>"], mail).await;
        assert_eq!(reply, "250 2.0.0 queued as SINK1\r\n");
        assert!(sink.mail(count + 1).await.data == *mail, "mail {count} was changed");
    }
    let records = hop.records(mails.len()).await;
    assert!(
        records
            .iter()
            .filter(|record| record["type"] == "mail")
            .all(|record| record["decision"] == "pass" && record["delivery"] == "accepted")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_arrives_byte_for_byte() {
    let Some(files) = corpus(&["dev/positive", "dev/negative", "mime/rfc", "mime/legacy"]) else { return };
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).tracing().start().await;
    let mut client = hop.client().await;
    client.greet().await;
    let (mut sent, mut refused) = (0, 0);
    for file in files {
        let raw = fs::read(&file).unwrap();
        // What SMTP cannot carry at all is refused, not bent; saved mails with bare LF are sent with CRLF.
        let wire = if memchr::memmem::find(&raw, b"\r\n").is_some() {
            raw
        } else {
            raw.iter().flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] }).collect()
        };
        let wire = if wire.ends_with(b"\r\n") { wire } else { [wire, b"\r\n".to_vec()].concat() };
        let reply = client.send("<>", &["<\"a b\"@[192.0.2.1]>"], &wire).await;
        if firstclick::message::header::has_bare_line_ending(&wire) {
            assert!(reply.starts_with("550 5.5.2"), "{}: {reply}", file.display());
            refused += 1;
            continue;
        }
        assert!(reply.starts_with("250 "), "{}: {reply}", file.display());
        sent += 1;
        let arrived = sink.mail(sent).await.data;
        let message = Message::read(&arrived);
        let trace = message.headers().fields()[0].whole.end;
        assert!(
            arrived.starts_with(b"Received: from client.test ([127.0.0.1])\r\n\tby hop.test (firstclick) with ESMTP id "),
            "{}",
            file.display()
        );
        assert!(arrived[trace..] == wire, "{} was changed", file.display());
    }
    println!("{sent} mails arrived byte for byte, {refused} were refused for a bare CR or LF");
    assert!(sent > 600, "only {sent} were sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_parameters_go_on_verbatim() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    for (count, (from, to)) in [
        ("<>", "<postmaster>"),
        ("<\"a b\"@c.test>", "<\"x\\\"y>\"@d.test>"),
        ("<a@[192.0.2.1]>", "<a@[IPv6:2001:db8::1]>"),
        ("<@r1.test,@r2.test:a@b.test>", "<a..b@c.test>"),
        ("<ü@ü.example> SMTPUTF8 BODY=8BITMIME SIZE=60", "<ß@ß.example>"),
        ("<a@b.test> RET=HDRS ENVID=QQ314159", "<c@d.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c@d.test"),
        ("<a@b.test> XUNKNOWN=1", "<c@d.test>"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(client.send(from, &[to], MAIL).await.starts_with("250"), "{from} {to}");
        let mail = sink.mail(count + 1).await;
        assert_eq!((mail.from, mail.to), (format!("MAIL FROM:{from}"), vec![format!("RCPT TO:{to}")]));
    }
    assert_eq!(sink.connections(), 1, "one connection a session");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_next_hop_announces_is_announced() {
    for extensions in [
        &["PIPELINING", "SIZE 1000", "8BITMIME"][..],
        &["SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS", "CHUNKING", "XCLIENT NAME"],
        &[],
    ] {
        let sink = Sink::announcing(extensions).await;
        let hop = hop().next_hop(&sink).start().await;
        let greeting = hop.client().await.greet().await;
        for keyword in ["PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"] {
            assert_eq!(greeting.contains(keyword), extensions.contains(&keyword), "{keyword} in {greeting}");
        }
        for never in ["STARTTLS", "CHUNKING", "XCLIENT"] {
            assert!(!greeting.contains(never), "{greeting}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_hears_the_next_hop() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    sink.on("RCPT TO:<no@", Act::Say("550-5.1.1 no such\r\n550 5.1.1 user".into()));
    sink.on("RCPT TO:<later@", Act::Say("451 4.2.1 later".into()));
    let mut client = hop.client().await;
    client.greet().await;
    assert_eq!(client.say("MAIL FROM:<a@b.test>").await, "250 2.1.0 sender ok\r\n");
    assert_eq!(client.say("RCPT TO:<yes@d.test>").await, "250 2.1.5 recipient ok\r\n");
    assert_eq!(client.say("RCPT TO:<no@d.test>").await, "550-5.1.1 no such\r\n550 5.1.1 user\r\n");
    assert_eq!(client.say("RCPT TO:<later@d.test>").await, "451 4.2.1 later\r\n");
    assert!(client.say("DATA").await.starts_with("354"));
    client.raw(&stuffed(MAIL)).await;
    assert!(client.reply().await.starts_with("250"));
    assert_eq!(sink.mail(1).await.to, ["RCPT TO:<yes@d.test>"]);
    assert_eq!(hop.record(1).await["to"], serde_json::json!(["<yes@d.test>"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_commands_are_answered_in_order() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    sink.on("RCPT TO:<no@", Act::Say("550 5.1.1 no".into()));
    let mut client = hop.client().await;
    client.greet().await;
    client.raw(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<one@d.test>\r\nRCPT TO:<no@d.test>\r\nRCPT TO:<two@d.test>\r\nDATA\r\n").await;
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(client.reply().await[..3].to_owned());
    }
    assert_eq!(codes, ["250", "250", "550", "250", "354"]);
    client.raw(&[stuffed(MAIL), b"MAIL FROM:<x@b.test>\r\nRSET\r\nNOOP\r\nQUIT\r\n".to_vec()].concat()).await;
    for code in ["250", "250", "250", "250", "221"] {
        assert_eq!(client.reply().await[..3], *code);
    }
    assert_eq!(sink.mail(1).await.to, ["RCPT TO:<one@d.test>", "RCPT TO:<two@d.test>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_hops_refusals_are_the_upstreams() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    for (line, said) in [
        ("MAIL FROM", "550 5.7.1 not you"),
        ("MAIL FROM", "452 4.3.1 full"),
        ("RCPT TO", "552 5.2.2 full"),
        ("DATA", "554 5.5.1 no"),
        (DOT, "550 5.7.1 spam"),
        (DOT, "451 4.7.1 greylisted"),
    ] {
        sink.on(line, Act::Say(said.into()));
        assert_eq!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await, format!("{said}\r\n"), "{line}");
        client.say("RSET").await;
    }
    assert!(sink.mails().is_empty());
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert_eq!(sink.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_breaks_off_costs_no_mail() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    for (line, code) in [("RCPT TO", "451 4.4.2"), ("DATA", "451 4.4.2"), (DOT, "451 4.4.2")] {
        sink.on(line, Act::HangUp);
        let mut client = hop.client().await;
        client.greet().await;
        let reply = client.send("<a@b.test>", &["<c@d.test>"], MAIL).await;
        assert!(reply.starts_with(code), "{line}: {reply}");
        // The session goes on: the same mail is taken at the second try.
        client.say("RSET").await;
        assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"), "{line}");
    }
    assert_eq!(sink.mails().len(), 3);
    let records = hop.records(5).await;
    assert!(records.iter().any(|record| record["delivery"] == "unknown"), "the lost reply is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_went_stale_is_opened_again() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    sink.on("MAIL FROM", Act::HangUp);
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert_eq!((sink.mails().len(), sink.connections()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_next_hop_is_451() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let hop = hop().next_hop_at(gone).start().await;
    let mut client = hop.client().await;
    assert!(client.greet().await.contains("250"), "the session is open");
    assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("451 4.4.1 "));
    assert!(client.say("NOOP").await.starts_with("250"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    for fake in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\r\r\n.\r\r\n"] {
        let mut client = hop.client().await;
        client.greet().await;
        for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
            client.say(line).await;
        }
        client.raw(format!("Subject: x\r\n\r\nbody{fake}MAIL FROM:<evil@x.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nFrom: evil@x.test\r\n\r\nsmuggled\r\n.\r\n").as_bytes()).await;
        assert!(client.reply().await.starts_with("550 5.5.2"), "{fake:?}");
        assert!(client.say("NOOP").await.starts_with("250"), "{fake:?}: the session is in step");
        assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"), "{fake:?}");
    }
    let mails = sink.mails();
    assert_eq!(mails.len(), 8);
    assert!(mails.iter().all(|mail| mail.data == MAIL));
    assert!(!sink.lines().iter().any(|line| line.contains("evil")));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_are_none() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let mut client = hop.client().await;
    for (line, code) in [
        ("MAIL FROM:<a@b.test>", "503"),
        ("", "500"),
        ("BDAT 10", "502"),
        ("STARTTLS", "502"),
        ("EHLO", "501"),
        ("DATA", "503"),
        ("EHLO c.test", "250"),
        ("RCPT TO:<a@b.test>", "503"),
        ("MAIL FROM:a@b.test", "501"),
        ("MAIL FROM:<a@b.test>", "250"),
        ("MAIL FROM:<a@b.test>", "503"),
        ("DATA", "554"),
        ("VRFY x", "252"),
        ("HELP", "214"),
        ("RSET", "250"),
        ("RCPT TO:<a@b.test>", "503"),
        ("QUIT", "221"),
    ] {
        let reply = client.say(line).await;
        assert!(reply.starts_with(code), "{line:?}: {reply}");
    }
    let mut client = Client::connect(hop.address).await;
    client.raw(b"NOOP\nNOOP\r\n").await;
    assert!(client.reply().await.starts_with("500"), "a bare LF ends no command");
    assert!(client.reply().await.starts_with("250"));
    client.raw(&[vec![b'x'; 60_000], b"\r\nNOOP\r\n".to_vec()].concat()).await;
    assert!(client.reply().await.starts_with("500"), "too long");
    assert!(client.reply().await.starts_with("250"));
    let mut endless = Client::connect(hop.address).await;
    endless.raw(&[vec![b'x'; 1 << 20], b"\r\nNOOP\r\n".to_vec()].concat()).await;
    assert!(endless.reply().await.starts_with("500"), "without end");
    assert_eq!(endless.reply().await, "", "and nothing behind it is a command");
    let mut last = String::new();
    for _ in 0..200 {
        last = client.say("NOOP").await;
        if !last.starts_with("250") {
            break;
        }
    }
    assert!(!last.starts_with("250"), "a session that brings no mail ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_refused_early_and_late() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).with(|config| config.size_limit = 1_000).start().await;
    let mut client = hop.client().await;
    assert!(client.greet().await.contains("SIZE 1000"));
    assert!(client.say("MAIL FROM:<a@b.test> SIZE=1001").await.starts_with("552 5.3.4"));
    let large = [b"a: b\r\n\r\n".to_vec(), vec![b'x'; 2_000], b"\r\n".to_vec()].concat();
    assert!(client.send("<a@b.test>", &["<c@d.test>"], &large).await.starts_with("552 5.3.4"));
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert_eq!(sink.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let looping = format!("{}From: a@b.test\r\n\r\nbody\r\n", "Received: from x by y; date\r\n".repeat(101));
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], looping.as_bytes()).await.starts_with("554 5.4.6"));
    assert!(sink.mails().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_a_mail_finish() {
    let sink = Sink::start().await;
    let mut hop = hop().next_hop(&sink).start().await;
    let mut idle = hop.client().await;
    idle.greet().await;
    let mut busy = hop.client().await;
    busy.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        busy.say(line).await;
    }
    busy.raw(b"Subject: half\r\n").await;
    hop.stop();
    assert!(idle.reply().await.starts_with("421 4.3.2"), "an idle session is closed");
    busy.raw(b"\r\nthe other half\r\n.\r\n").await;
    assert!(busy.reply().await.starts_with("250"), "a mail under way is finished");
    assert!(busy.reply().await.starts_with("421"));
    assert_eq!(sink.mails().len(), 1);
    let address = hop.address;
    hop.has_stopped().await;
    poll("the port is free", || std::net::TcpStream::connect(address).is_err().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_goes_away_leaves_nothing_behind() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let dialogue =
        [b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n".to_vec(), MAIL.to_vec(), b".\r".to_vec()].concat();
    for cut in 0..dialogue.len() {
        let mut client = hop.client().await;
        client.raw(&dialogue[..cut]).await;
    }
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert_eq!(sink.mails().len(), 1, "no half mail arrives");
}
