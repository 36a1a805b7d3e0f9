//! Mails that go to the next hop by BDAT (RFC 3030): octet for octet as by DATA, and by DATA wherever BDAT is not wanted.

use std::{sync::Arc, time::Duration};

use firstclick::{
    smtp::{config::Chunking, server::Snapshot},
    testbed::{Signer, Zone},
};

use crate::hop::{
    Build, Client, Hop, Sink, VENDOR,
    faulty::Dice,
    hop, is_tagged, poll,
    process::Folder,
    programs::Program,
    reset_mail,
    sink::{ALL, Act, DOT},
};

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";

async fn sink() -> Sink {
    Sink::announcing(&[ALL, &["CHUNKING", "BINARYMIME"]].concat()).await
}

fn build(sink: &Sink) -> Build {
    hop().next_hop(sink).with(|config| config.chunking = Chunking::On)
}

/// How each mail came to the next hop: by the lines that begin so.
fn commands(sink: &Sink) -> Vec<String> {
    sink.lines().into_iter().filter(|line| line.starts_with("BDAT") || line == "DATA").collect()
}

async fn send(hop: &Hop) -> String {
    hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await
}

#[tokio::test(flavor = "multi_thread")]
async fn any_mail_arrives_as_it_was_sent() {
    let (sink, dice) = (sink().await, Dice::new(9));
    let hop = build(&sink).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    for number in 1..=90 {
        let mut sent = b"From: a@b.test\r\nSubject: x\r\n\r\n".to_vec();
        for _ in 0..dice.throw(40) {
            let line: &[u8] = match dice.throw(6) {
                0 => b".",
                1 => b"..two",
                2 => b"a NUL \0 and octets \xff\x80",
                3 => b"BDAT 5 LAST",
                4 => &b"long ".repeat(usize::try_from(dice.throw(9_000)).unwrap()),
                _ => b"",
            };
            sent.extend_from_slice(line);
            sent.extend_from_slice(b"\r\n");
        }
        let reply = client.send("<a@b.test>", &["<c@d.test>"], &sent).await;
        assert!(reply.starts_with("250"), "mail {number}: {reply}");
        assert!(sink.mail(number).await.data == sent, "mail {number} was bent");
        assert_eq!(commands(&sink).last().unwrap(), &format!("BDAT {} LAST", sent.len()));
    }
    assert_eq!(commands(&sink).len(), 90);
    assert_eq!(sink.connections(), 1, "a connection is shared as with DATA");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_mail_has_the_size_that_it_is_edited_to() {
    let (sink, zone) = (sink().await, Zone::serve().await.unwrap());
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    let hop = build(&sink).allow("vendor", VENDOR).asking(&zone).tracing().start().await;
    let signed = signer.sign(&reset_mail()).unwrap();
    assert!(hop.send("<support@vendor.test>", &["<bob@corp.example>"], signed.as_bytes()).await.starts_with("250"));
    let arrived = sink.mail(1).await.data;
    assert!(is_tagged(&arrived) && arrived.starts_with(b"Received: "), "{}", arrived.escape_ascii());
    assert_eq!(commands(&sink), [format!("BDAT {} LAST", arrived.len())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_for_next_hops_that_announce_it_and_admins_that_want_it() {
    for (setting, announces, command) in [
        ("", true, "DATA"),
        ("chunking = \"off\"\n", true, "DATA"),
        ("chunking = \"on\"\n", true, "BDAT 56 LAST"),
        ("chunking = \"on\"\n", false, "DATA"),
    ] {
        let sink = if announces { sink().await } else { Sink::start().await };
        let process = Folder::new(&format!("next_hop = \"{}\"\ntrace = false\n{setting}", sink.address), "").run().await;
        let mut client = Client::connect(process.address).await;
        client.greet().await;
        let offered = client.say("EHLO client.test").await;
        assert!(!offered.contains("CHUNKING") && !offered.contains("BINARYMIME"), "{offered}");
        assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
        assert_eq!(commands(&sink), [command], "{setting}");
    }
}

/// What is refused, what the upstream hears, and what the next mail is sent by.
#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_refuses_it_gets_data_from_then_on() {
    for (line, said, heard, then) in [
        // The command: no mail was refused, and it must not be lost.
        ("BDAT", "502 5.5.2 what", "451 4.5.1", "DATA"),
        ("BDAT", "503 5.5.1 need rcpt", "451 4.5.1", "DATA"),
        // The mail, perhaps.
        (DOT, "554 5.6.0 no", "554 5.6.0", "DATA"),
        (DOT, "552 5.2.2 full", "552 5.2.2", "DATA"),
        // Not for good.
        ("BDAT", "421 4.3.2 closing", "421 4.3.2", "BDAT 56 LAST"),
        (DOT, "451 4.3.0 later", "451 4.3.0", "BDAT 56 LAST"),
        (DOT, "354 what", "451 4.5.0", "BDAT 56 LAST"),
    ] {
        let sink = sink().await;
        let hop = build(&sink).start().await;
        sink.on(line, Act::Say(said.into()));
        let reply = send(&hop).await;
        assert!(reply.starts_with(heard), "{said}: {reply}");
        assert!(sink.mails().is_empty(), "{said}");
        for _ in 0..3 {
            assert!(send(&hop).await.starts_with("250"), "{said}");
            assert_eq!(commands(&sink).last().unwrap(), then, "{said}");
        }
        let before = hop.server.snapshot();
        hop.server.replace(Snapshot::new(before.config.clone(), Arc::clone(&before.pipeline)).unwrap());
        assert!(send(&hop).await.starts_with("250"), "{said}");
        assert_eq!(commands(&sink).last().unwrap(), "BDAT 56 LAST", "{said}: a reload tries it again");
    }
}

/// Whether it is refused as a command before its octets are read, or half-way: they are never read as commands of the next mail.
#[tokio::test(flavor = "multi_thread")]
async fn octets_behind_a_refused_chunk_reach_nobody() {
    let sink = sink().await;
    let hop = build(&sink).start().await;
    sink.on("BDAT", Act::Say("500 5.5.2 what".into()));
    let inner = "MAIL FROM:<evil@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n";
    let mail = format!("From: a@b.test\r\nSubject: x\r\n\r\n{inner}").into_bytes();
    let mut client = hop.client().await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail).await.starts_with("451"));
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    let arrived = sink.mails().into_iter().find(|arrived| arrived.data == MAIL).expect("the mail that was sent");
    assert_eq!(arrived.from, "MAIL FROM:<a@b.test>");
    assert_eq!(sink.connections(), 2, "the connection is not used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_told_as_lost_and_silence_ends() {
    for (act, heard) in [(Act::HangUp, "451 4.4.2"), (Act::Nothing, "451 4.4.2")] {
        let sink = sink().await;
        let hop = build(&sink).with(|config| config.deadlines.final_reply = Duration::from_millis(200)).start().await;
        sink.on(DOT, act.clone());
        let reply = send(&hop).await;
        assert!(reply.starts_with(heard), "{act:?}: {reply}");
        assert!(send(&hop).await.starts_with("250"), "{act:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_while_it_comes_goes_by_data() {
    let sink = sink().await;
    let hop = build(&sink).with(|config| config.inspect_limit = 1_000).start().await;
    let large = [MAIL, &b"0123456789abcdef\r\n".repeat(1_000)].concat();
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], &large).await.starts_with("250"));
    assert!(sink.mail(1).await.data == large);
    assert_eq!(commands(&sink), ["DATA"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn binarymime_is_not_taken() {
    let sink = sink().await;
    let hop = build(&sink).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    for body in ["body=BinaryMime", "BODY=8BITMIME BODY=BINARYMIME", "BODY=\"BINARYMIME\""] {
        assert!(client.say(&format!("MAIL FROM:<a@b.test> {body}")).await.starts_with("555 5.5.4"), "{body}");
    }
    assert!(client.say("MAIL FROM:<a@b.test> BODY=8BITMIME").await.starts_with("250"));
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_chunks() {
    let sink = Sink::start().await;
    let Some(postfix) = Program::postfix(sink.address, "").await else { return };
    let hop = hop().next_hop_at(postfix.address).with(|config| config.chunking = Chunking::On).start().await;
    let mail = [MAIL, b".dot\r\n..\r\nend\r\n"].concat();
    for number in 1..=5 {
        assert!(hop.send("<a@b.test>", &["<yes@d.test>"], &mail).await.starts_with("250"));
        assert!(sink.mail(number).await.data.ends_with(b"Hello.\r\n.dot\r\n..\r\nend\r\n"), "mail {number}");
    }
    poll("Postfix notes them", || (postfix.log().matches("status=sent").count() >= 5).then_some(())).await;
}
