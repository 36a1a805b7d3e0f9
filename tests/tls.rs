//! TLS inward and next_hop_tls, and what must not be possible around it.

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

use firstclick::tls::ClientTls;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::hop::{Client, Sink, certificate::Authority, hop, sink::Act, stuffed};

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn starttls_and_a_mail_through_it() {
    let (authority, sink) = (Authority::new(), Sink::start().await);
    let hop = hop().next_hop(&sink).tracing().with(|config| config.certificate = Some(authority.issue("hop.test"))).start().await;
    let mut client = hop.client().await;
    assert!(client.greet().await.contains("250-STARTTLS\r\n"));
    assert!(client.say("STARTTLS").await.starts_with("220 "));
    client.encrypt(authority.client(), "hop.test").await.unwrap();
    assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("503"), "what was said in the clear is forgotten");
    assert!(!client.greet().await.contains("STARTTLS"));
    assert!(client.say("STARTTLS").await.starts_with("503"), "TLS is spoken already");
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    let arrived = String::from_utf8(sink.mail(1).await.data).unwrap();
    assert!(arrived.contains("with ESMTPS id "), "{arrived}");
    assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("250"));
    assert!(client.say("STARTTLS").await.starts_with("503"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_what_came_in_the_clear_behind_starttls_is_dropped() {
    let (authority, sink) = (Authority::new(), Sink::start().await);
    let hop = hop().next_hop(&sink).with(|config| config.certificate = Some(authority.issue("hop.test"))).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    client.raw(b"STARTTLS\r\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<c@d.test>\r\n").await;
    assert!(client.reply().await.starts_with("220 "));
    client.encrypt(authority.client(), "hop.test").await.unwrap();
    assert!(client.say("NOOP").await.starts_with("250 2.0.0 ok"), "the next reply is the next command's");
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert!(!sink.lines().iter().any(|line| line.contains("evil")));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_from_the_first_octet_and_garbage_instead_of_it() {
    let (authority, sink) = (Authority::new(), Sink::start().await);
    let hop = hop().next_hop(&sink).wrapped().with(|config| config.certificate = Some(authority.issue("hop.test"))).start().await;
    let mut garbage = TcpStream::connect(hop.address).await.unwrap();
    garbage.write_all(b"EHLO in the clear\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"220"), "nothing is said in the clear");
    let mut client = Client::connect_encrypted(hop.address, authority.client(), "hop.test").await.unwrap();
    assert!(!client.greet().await.contains("STARTTLS"));
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert!(
        Client::connect_encrypted(hop.address, Authority::new().client(), "hop.test").await.is_err(),
        "another authority's client refuses"
    );
}

/// What the next hop offers, how it is spoken with, and what becomes of the mail.
#[tokio::test(flavor = "multi_thread")]
async fn outward_as_the_configuration_says() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (offers, how, believes, reply, encrypted) in [
        ("nothing", ClientTls::Off, &authority, "250", false),
        ("nothing", ClientTls::Opportunistic, &authority, "250", false),
        ("nothing", ClientTls::Required, &authority, "451 4.7.4", false),
        ("nothing", ClientTls::Verified, &authority, "451 4.7.4", false),
        ("localhost", ClientTls::Off, &authority, "250", false),
        ("localhost", ClientTls::Opportunistic, &stranger, "250", true),
        ("localhost", ClientTls::Required, &stranger, "250", true),
        ("localhost", ClientTls::Verified, &authority, "250", true),
        ("localhost", ClientTls::Verified, &stranger, "451 4.7.4", false),
        ("other.test", ClientTls::Verified, &authority, "451 4.7.4", false),
        ("other.test", ClientTls::Opportunistic, &authority, "250", true),
    ] {
        let mut sink = Sink::start().await;
        if offers != "nothing" {
            sink = sink.encrypting(authority.server(offers));
        }
        let hop = hop()
            .next_hop_at(format!("localhost:{}", sink.address.port()))
            .with(|config| {
                config.next_hop_tls = how;
                config.authorities = Some(believes.file());
            })
            .start()
            .await;
        let got = hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await;
        assert!(got.starts_with(reply), "{offers}, {how:?}: {got}");
        assert_eq!(sink.mails().iter().any(|mail| mail.encrypted), encrypted, "{offers}, {how:?}");
        assert_eq!(sink.mails().len(), usize::from(reply == "250"), "{offers}, {how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_put_in_behind_the_answer_to_starttls_end_the_connection() {
    let authority = Authority::new();
    let sink = Sink::start().await.encrypting(authority.server("localhost"));
    let hop = hop().next_hop(&sink).with(|config| config.next_hop_tls = ClientTls::Required).start().await;
    sink.on("STARTTLS", Act::Say("220 go\r\n250-XCLIENT\r\n250 evil".into()));
    sink.on("STARTTLS", Act::Say("220 go\r\n250-XCLIENT\r\n250 evil".into()));
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("451 4.7.4"));
    assert_eq!(sink.mails().len(), 0);
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    assert!(sink.mails().iter().all(|mail| mail.encrypted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_by_tls_both_ways_arrives_whole() {
    let authority = Authority::new();
    let sink = Sink::start().await.encrypting(authority.server("localhost"));
    let hop = hop()
        .next_hop(&sink)
        .with(|config| {
            config.certificate = Some(authority.issue("hop.test"));
            config.next_hop_tls = ClientTls::Required;
            config.inspect_limit = 100_000;
        })
        .start()
        .await;
    let mail = [b"a: b\r\n\r\n".to_vec(), b".0123456789abcdef\r\n".repeat(200_000)].concat();
    let mut client = hop.client().await;
    client.greet().await;
    client.say("STARTTLS").await;
    client.encrypt(authority.client(), "hop.test").await.unwrap();
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.say(line).await;
    }
    client.raw(&stuffed(&mail)).await;
    assert!(client.reply().await.starts_with("250"));
    assert!(sink.mail(1).await.data == mail);
}
