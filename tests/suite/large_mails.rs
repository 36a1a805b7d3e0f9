//! Mails over `inspect_limit`: they go to the next hop while they come in, and nothing of them is kept.

use std::time::Duration;

use firstclick::smtp::config::{BareLineEndings, Config, Pooling};

use crate::hop::{
    Build, Client, Hop, Sink,
    faulty::Dice,
    hop, poll,
    sink::{Act, IN_DATA},
    stuffed,
};

/// A hop that passes on what has more than a thousand octets.
fn build(sink: &Sink) -> Build {
    hop().next_hop(sink).with(|config| config.inspect_limit = 1_000)
}

/// A mail of many lines.
fn mail() -> Vec<u8> {
    let lines = "0123456789abcdef0123456789abcdef\r\n".repeat(3_000);
    format!("From: a@b.test\r\nTo: c@d.test\r\nSubject: large\r\n\r\n{lines}").into_bytes()
}

/// An upstream that has been told to send.
async fn told_to_send(hop: &Hop, begin: &str) -> Client {
    let mut client = hop.client().await;
    client.greet().await;
    for line in [begin, "RCPT TO:<c@d.test>"] {
        assert!(client.say(line).await.starts_with("250"));
    }
    assert!(client.say("DATA").await.starts_with("354"));
    client
}

/// The next hop has heard DATA, and so the beginning of the mail is on its way.
async fn has_heard_data(sink: &Sink) {
    poll("DATA at the next hop", || sink.lines().iter().any(|line| line == "DATA").then_some(())).await;
}

/// Text of lines as odd as mails have them.
fn lines(dice: &Dice) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..dice.throw(60) {
        match dice.throw(9) {
            0 => text.extend_from_slice(b"."),
            1 => text.extend_from_slice(b".."),
            2 => text.extend_from_slice(b".text behind a dot"),
            3 => text.extend_from_slice(b"a NUL \0 and octets \xff\x80"),
            4 => text.extend(b"long ".repeat(usize::try_from(dice.throw(8_000)).unwrap())),
            5 => {}
            _ => text.extend(b"0123456789".repeat(usize::try_from(dice.throw(9)).unwrap())),
        }
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// Any mail, announced or not, in pieces of any size: what arrives is what was sent, without forged fields and with the hop's own.
#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_is_what_was_sent() {
    let (sink, dice) = (Sink::start().await, Dice::new(5));
    // One that other sessions share is closed after a hundred mails.
    let hop = build(&sink).tracing().with(|config| config.pool = Pooling::Off).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    let mut sizes = Vec::new();
    for number in 1..=300 {
        let forged: &[u8] = if dice.throw(2) == 0 { b"X-Firstclick: forged\r\n\tfolded\r\n" } else { b"" };
        let dot: &[u8] = if dice.throw(3) == 0 { b".a: field behind a dot\r\n" } else { b"" };
        let (head, rest) = (b"From: a@b.test\r\n", [b"Subject: x\r\n\r\n".to_vec(), lines(&dice)].concat());
        let sent = [dot, head, forged, &rest].concat();
        let begin = match dice.throw(3) {
            0 => format!("MAIL FROM:<a@b.test> SIZE={}", sent.len()),
            // More than comes.
            1 => "MAIL FROM:<a@b.test> SIZE=1000000".into(),
            _ => "MAIL FROM:<a@b.test>".into(),
        };
        for line in [begin.as_str(), "RCPT TO:<c@d.test>", "DATA"] {
            client.say(line).await;
        }
        let wire = stuffed(&sent);
        let cut = [1, 7, 100, 3_000, wire.len()][usize::try_from(dice.throw(5)).unwrap()].max(wire.len() / 500);
        for piece in wire.chunks(cut) {
            client.raw(piece).await;
        }
        let reply = client.reply().await;
        assert!(reply.starts_with("250"), "mail {number}: {reply}");
        let arrived = sink.mail(number).await.data;
        let own = firstclick::message::Message::read(&arrived).headers().fields()[0].whole.end;
        assert!(arrived.starts_with(b"Received: from client.test"), "mail {number}");
        assert!(arrived[own..] == [dot, head, &rest].concat(), "mail {number} was bent");
        sizes.push(sent.len());
    }
    let records = hop.records(sizes.len()).await;
    let mails: Vec<_> = records.iter().filter(|record| record["type"] == "mail").collect();
    assert_eq!(mails.iter().map(|record| usize::try_from(record["size"].as_u64().unwrap()).unwrap()).collect::<Vec<_>>(), sizes);
    let by_size = mails.iter().filter(|record| record["reasons"][0]["check"] == "size").count();
    assert!(by_size > 200 && by_size < 300, "{by_size} by their header alone");
    assert_eq!(sink.connections(), 1, "the next hop's connection is kept");
}

/// A mail is as large as its octets: dots that are stuffed for the wire, and the end of data, are none of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_on_the_wire_only_is_inspected() {
    let sink = Sink::start().await;
    let hop = build(&sink).start().await;
    let of = |octets: usize| {
        let head = "From: a@b.test\r\nSubject: dots\r\n\r\n";
        format!("{head}{}{}\r\n", ".\r\n".repeat(200), "x".repeat(octets - 602 - head.len())).into_bytes()
    };
    for (number, (octets, check)) in [(999, "sender"), (1_000, "sender"), (1_001, "size")].into_iter().enumerate() {
        for (at, cut) in [5_000, 700, 64, 1].into_iter().enumerate() {
            let mut client = told_to_send(&hop, "MAIL FROM:<a@b.test>").await;
            for piece in stuffed(&of(octets)).chunks(cut) {
                client.raw(piece).await;
            }
            assert!(client.reply().await.starts_with("250"));
            let records = hop.records(number * 4 + at + 1).await;
            let mail = records.iter().filter(|record| record["type"] == "mail").nth(number * 4 + at).unwrap();
            let failed = mail["reasons"].as_array().unwrap().iter().find(|reason| reason["ok"] == false);
            assert_eq!(failed.unwrap()["check"], check, "{octets} octets in pieces of {cut}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_before_it_has_come_and_ends_when_it_has() {
    let sink = Sink::start().await;
    let hop = build(&sink).start().await;
    let (mail, wire) = (mail(), stuffed(&mail()));
    for begin in ["MAIL FROM:<a@b.test>", "MAIL FROM:<a@b.test> SIZE=200000"] {
        let before = sink.mails().len();
        // Announced, the header is enough.
        let half = if begin.ends_with('0') { 60 } else { wire.len() / 2 };
        let mut client = told_to_send(&hop, begin).await;
        client.raw(&wire[..half]).await;
        has_heard_data(&sink).await;
        assert_eq!(sink.mails().len(), before, "no dot before the upstream's");
        client.raw(&wire[half..]).await;
        assert_eq!(client.reply().await, "250 2.0.0 queued as SINK1\r\n");
        assert!(sink.mail(before + 1).await.data == mail);
    }
}

/// What is found late costs the next hop's connection, and the session stays in step.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_late_is_not_delivered() {
    let half = mail();
    for (name, rest, reply) in [
        ("an LF alone", &b"a\nb\r\n"[..], "550 5.5.2"),
        ("a CR alone", b"a\rb\r\n", "550 5.5.2"),
        ("a false end", b"\n.\nRSET\r\n", "550 5.5.2"),
        ("a dot beside NULs", b"\0.\0\r\nRSET\r\n", "550 5.5.2"),
        ("too many octets", &b"0123456789abcde\r\n".repeat(20_000), "552 5.3.4"),
    ] {
        let sink = Sink::start().await;
        let hop = build(&sink).with(|config| config.size_limit = 200_000).start().await;
        let mut client = told_to_send(&hop, "MAIL FROM:<a@b.test>").await;
        client.raw(&half).await;
        has_heard_data(&sink).await;
        client.raw(&[rest, b"the rest\r\n.\r\n"].concat()).await;
        let said = client.reply().await;
        assert!(said.starts_with(reply), "{name}: {said}");
        assert!(client.say("NOOP").await.starts_with("250"), "{name}: the session is in step");
        assert!(client.send("<a@b.test>", &["<c@d.test>"], &half).await.starts_with("250"), "{name}: the next mail");
        let mails = sink.mails();
        assert!(mails.len() == 1 && mails[0].data == half, "{name}: {} mails", mails.len());
        let record = &hop.records(2).await[1];
        assert!(record["delivery"] == "refused" && record["size"].as_u64().unwrap() > half.len() as u64, "{name}: {record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_ends_are_repaired_on_the_way() {
    let sink = Sink::start().await;
    let hop = build(&sink).with(|config| config.bare_line_endings = BareLineEndings::Normalize).start().await;
    let mut client = told_to_send(&hop, "MAIL FROM:<a@b.test>").await;
    client.raw(&mail()).await;
    has_heard_data(&sink).await;
    client.raw(b"a\nb\r.c\n.d\n\r\n..e\r\n.\r\n").await;
    assert!(client.reply().await.starts_with("250"));
    assert!(sink.mail(1).await.data == [mail(), b"a\r\nb\r\n.c\r\n.d\r\n\r\n.e\r\n".to_vec()].concat());
}

/// What the header tells is told before a single octet goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_header_refuses_never_reaches_the_next_hop() {
    let sink = Sink::start().await;
    let hop = build(&sink).with(|config| config.inspect_limit = 10_000).start().await;
    let looping = [b"Received: from x by y; date\r\n".repeat(101), mail()].concat();
    let endless = [b"a: ".to_vec(), b"x".repeat(12_000), mail()].concat();
    for (mail, reply) in [(looping, "554 5.4.6"), (endless, "552 5.3.4")] {
        assert!(hop.send("<a@b.test>", &["<c@d.test>"], &mail).await.starts_with(reply), "{reply}");
    }
    assert!(!sink.lines().iter().any(|line| line == "DATA"));
}

/// A next hop that says no in the middle is heard in the middle, and the upstream at its end of data.
#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_breaks_off_is_relayed() {
    for (act, reply, delivery) in [
        (Act::Say("452 4.3.1 disk full".into()), "452 4.3.1 disk full", "deferred"),
        (Act::Say("552 5.3.4 too large for me".into()), "552 5.3.4 too large for me", "refused"),
        (Act::Say("421 4.3.2 shutting down".into()), "421 4.3.2 shutting down", "deferred"),
        // What accepts, or is no reply, before the end accepts nothing.
        (Act::Say("250 2.0.0 thank you".into()), "451 4.4.2", "deferred"),
        (Act::Say("what".into()), "451 4.4.2", "deferred"),
        (Act::HangUp, "451 4.4.2", "deferred"),
    ] {
        let sink = Sink::start().await;
        let hop = build(&sink).start().await;
        sink.on(IN_DATA, act.clone());
        let wire = stuffed(&mail());
        let mut client = told_to_send(&hop, "MAIL FROM:<a@b.test>").await;
        client.raw(&wire[..wire.len() / 2]).await;
        poll("the next hop breaks off", || sink.has_acted().then_some(())).await;
        client.raw(&wire[wire.len() / 2..]).await;
        let said = client.reply().await;
        assert!(said.starts_with(reply), "{act:?}: {said}");
        let record = hop.record(1).await;
        assert!(record["delivery"] == delivery && record["size"] == mail().len(), "{act:?}: {record}");
        assert!(sink.mails().is_empty());
        if !reply.starts_with("421") {
            assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail()).await.starts_with("250"), "{act:?}: the next mail");
        }
    }
}

/// A next hop that takes nothing more does not hold the upstream for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_is_stuck_is_given_up() {
    let sink = Sink::start().await;
    let patience = |config: &mut Config| config.deadlines.data_block = Duration::from_millis(500);
    let hop = build(&sink).with(patience).start().await;
    sink.on(IN_DATA, Act::Nothing);
    let mut client = told_to_send(&hop, "MAIL FROM:<a@b.test>").await;
    for _ in 0..200 {
        client.raw(&mail()).await;
    }
    client.raw(b".\r\n").await;
    assert!(client.reply().await.starts_with("451 4.4.2"));
    assert!(sink.mails().is_empty());
}

/// The upstream breaks off, or falls silent, anywhere in the body.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_off_leaves_nothing_behind() {
    let (sink, dice) = (Sink::start().await, Dice::new(3));
    let hop = build(&sink).start().await;
    let wire = stuffed(&mail());
    let tail = (1..=5).map(|before| wire.len() - before);
    let cuts: Vec<usize> = (0..40).map(|_| usize::try_from(dice.throw(wire.len() as u64 - 3)).unwrap()).chain(tail).collect();
    for cut in &cuts {
        let mut client = told_to_send(&hop, "MAIL FROM:<a@b.test>").await;
        client.raw(&wire[..*cut]).await;
    }
    poll("all sessions end", || (hop.server.open_sessions() == 0).then_some(())).await;
    assert!(sink.mails().is_empty(), "no half mail arrives");

    let sink = Sink::start().await;
    let patience = |config: &mut Config| config.deadlines.data_block = Duration::from_millis(300);
    let hop = build(&sink).with(patience).start().await;
    let mut client = told_to_send(&hop, "MAIL FROM:<a@b.test>").await;
    client.raw(&wire[..50_000]).await;
    assert!(client.reply().await.starts_with("421 4.4.2"), "silence has an end");
    let record = hop.record(1).await;
    assert!(record["delivery"] == "deferred" && record["reply"].as_str().unwrap().contains("broke off"), "{record}");
    assert!(sink.mails().is_empty());
}

/// Commands behind the end of data are commands, however much comes at once.
#[tokio::test(flavor = "multi_thread")]
async fn commands_behind_the_data_are_commands() {
    let sink = Sink::start().await;
    let hop = build(&sink).start().await;
    for begin in ["MAIL FROM:<a@b.test>", "MAIL FROM:<a@b.test> SIZE=200000"] {
        let mut client = told_to_send(&hop, begin).await;
        client.raw(&[stuffed(&mail()), b"NOOP\r\nMAIL FROM:<x@b.test>\r\nQUIT\r\n".to_vec()].concat()).await;
        for code in ["250", "250", "250", "221"] {
            assert!(client.reply().await.starts_with(code), "{begin}");
        }
        assert!(sink.mails().iter().all(|arrived| arrived.data == mail()));
    }
}
