//! The hop between real mail servers, over real sockets.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

use firstclick::{identity::Network, tls::ClientTls};

use crate::hop::{Sink, certificate::Authority, hop, needs, poll, programs::Program, stuffed};

pub(crate) fn loopback() -> Vec<Network> {
    vec![Network::parse("127.0.0.0/8").unwrap()]
}

/// Runs swaks; what it printed, and whether it was content.
fn swaks(server: SocketAddr, arguments: &[&str]) -> (String, bool) {
    let output = Command::new("swaks")
        .args(["--server", &server.to_string(), "--ehlo", "client.test"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

/// swaks -> hop -> another mail server -> sink.
#[tokio::test(flavor = "multi_thread")]
async fn every_mail_server_is_a_next_hop() {
    if needs("swaks").is_none() {
        return;
    }
    for which in ["postfix", "exim", "opensmtpd", "haraka"] {
        let sink = Sink::start().await;
        let program = match which {
            "postfix" => Program::postfix(sink.address, "").await,
            "exim" => Program::exim(sink.address).await,
            "opensmtpd" => Program::opensmtpd(sink.address).await,
            _ => Program::haraka(sink.address).await,
        };
        let Some(program) = program else { continue };
        let hop = hop().next_hop_at(program.address).tracing().with(|config| config.inspect_limit = 100_000).start().await;

        // One recipient of two is refused, in the next hop's words.
        let (said, _) = swaks(
            hop.address,
            &["--from", "a@b.test", "--to", "no@d.test,yes@d.test", "--header", "Subject: first", "--body", ".leading dot"],
        );
        assert!(said.contains("<** 550 "), "{which}: {said}");
        assert!(said.contains("no such user") || said.contains("Invalid recipient") || said.contains("550 "), "{which}: {said}");
        let first = sink.mail(1).await;
        assert_eq!(first.to.len(), 1, "{which}: {first:?}");
        let text = String::from_utf8(first.data).unwrap();
        assert!(text.contains("by hop.test (firstclick) with ESMTP id ") && text.contains("\r\n.leading dot\r\n"), "{which}: {text}");

        // The null sender.
        let (said, content) = swaks(hop.address, &["--from", "<>", "--to", "yes@d.test", "--header", "Subject: second"]);
        assert!(content, "{which}: {said}");
        assert!(sink.mail(2).await.from.starts_with("MAIL FROM:<>"), "{which}");

        // A large one, which the hop passes on while it comes in.
        let mut client = hop.client().await;
        client.greet().await;
        let body = b"0123456789abcdef0123456789abcdef0123456789abcdef\r\n..\r\n".repeat(40_000);
        let mail = [b"From: a@b.test\r\nTo: yes@d.test\r\nSubject: third\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <3@b.test>\r\n\r\n".to_vec(), body.clone()].concat();
        for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<yes@d.test>", "DATA"] {
            let reply = client.say(line).await;
            assert!(reply.starts_with('2') || reply.starts_with("354"), "{which}: {reply}");
        }
        client.raw(&stuffed(&mail)).await;
        let reply = client.reply().await;
        assert!(reply.starts_with("250"), "{which}: {reply}");
        assert!(sink.mail(3).await.data.ends_with(&body), "{which}: the large mail was bent");

        // One grep follows a mail through both machines.
        let records = hop.records(3).await;
        for record in records.iter().filter(|record| record["type"] == "mail") {
            let id = record["queue_id"].as_str().unwrap_or_else(|| panic!("{which}: {record}"));
            assert!(which == "haraka" || program.log().contains(id), "{which} knows {id}: {}", program.log());
        }
        println!("{which}: {}", reply.trim_end());
    }
}

/// smtp-source -> Postfix -> hop -> sink: connections are cached, commands pipelined, and every mail arrives once; by TLS
/// too, where Postfix opens a connection for each mail.
#[tokio::test(flavor = "multi_thread")]
async fn postfix_is_an_upstream() {
    for (tls, count) in [("none", 500), ("encrypt", 50)] {
        let (sink, authority) = (Sink::start().await, Authority::new());
        let hop = hop()
            .next_hop(&sink)
            .tracing()
            .with(|config| {
                config.trusted_upstreams = loopback();
                config.certificate = Some(authority.issue("hop.test"));
            })
            .start()
            .await;
        let more = format!("smtp_send_xforward_command = yes\nsmtp_tls_security_level = {tls}\nsmtp_destination_concurrency_limit = 10");
        let Some(postfix) = Program::postfix(hop.address, &more).await else { return };
        let status = Command::new("smtp-source")
            .args([
                "-s",
                "10",
                "-m",
                &count.to_string(),
                "-l",
                "8000",
                "-f",
                "a@b.test",
                "-t",
                "c@d.test",
                &format!("inet:{}", postfix.address),
            ])
            .status()
            .unwrap();
        assert!(status.success());
        poll("all mails", || (sink.mails().len() >= count).then_some(())).await;
        let mails = sink.mails();
        let line = |mail: &crate::hop::sink::Mail, start: &str| {
            String::from_utf8_lossy(&mail.data).lines().find(|line| line.starts_with(start)).map(str::to_owned)
        };
        let ids: std::collections::HashSet<_> = mails.iter().map(|mail| line(mail, "Message-Id:").unwrap()).collect();
        assert_eq!((mails.len(), ids.len()), (count, count), "every mail is there once");
        let with = if tls == "none" { "with ESMTP id " } else { "with ESMTPS id " };
        assert!(mails.iter().all(|mail| line(mail, "\tby hop.test").unwrap().contains(with)), "{tls}");
        assert!(tls == "encrypt" || sink.connections() < 100, "connections are used again: {}", sink.connections());
        println!("{count} mails by {} connections, TLS {tls}", sink.connections());
    }
}

/// A recipient that the next hop refuses becomes a bounce, and the bounce, with its null sender, goes through too.
#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_goes_through() {
    let sink = Sink::start().await;
    sink.on("RCPT TO:<no@", crate::hop::sink::Act::Say("550 5.1.1 no such user here".into()));
    let hop = hop().next_hop(&sink).start().await;
    let Some(postfix) = Program::postfix(hop.address, "smtpd_recipient_restrictions =").await else { return };
    if needs("swaks").is_none() {
        return;
    }
    let (said, content) = swaks(postfix.address, &["--from", "sender@b.test", "--to", "no@d.test"]);
    assert!(content, "{said}");
    let bounce = sink.mail(1).await;
    assert!(bounce.from.starts_with("MAIL FROM:<>"), "{}", bounce.from);
    assert_eq!(bounce.to.len(), 1);
    assert!(bounce.to[0].starts_with("RCPT TO:<sender@b.test>"));
    let text = String::from_utf8(bounce.data).unwrap();
    assert!(text.contains("multipart/report") && text.contains("no such user here"), "{text}");
}

/// DSN parameters and UTF-8 addresses reach the other end of two Postfixes as they were given.
#[tokio::test(flavor = "multi_thread")]
async fn dsn_and_smtputf8_end_to_end() {
    let sink = Sink::start().await;
    let Some(second) = Program::postfix(sink.address, "").await else { return };
    let hop = hop().next_hop_at(second.address).start().await;
    let Some(first) = Program::postfix(hop.address, "").await else { return };
    let mut client = crate::hop::Client::connect(first.address).await;
    client.greet().await;
    for line in [
        "MAIL FROM:<ü@ü.example> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=e1",
        "RCPT TO:<ö@d.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@d.test",
    ] {
        let reply = client.say(line).await;
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert!(client.say("DATA").await.starts_with("354"));
    client.raw("Subject: grüß\r\n\r\nüöä\r\n.\r\n".as_bytes()).await;
    assert!(client.reply().await.starts_with("250"));
    let mail = sink.mail(1).await;
    for word in ["<ü@ü.example>", "SMTPUTF8", "RET=HDRS", "ENVID=e1"] {
        assert!(mail.from.contains(word), "{}", mail.from);
    }
    for word in ["<ö@d.test>", "NOTIFY=SUCCESS,FAILURE", "ORCPT="] {
        assert!(mail.to[0].contains(word), "{}", mail.to[0]);
    }
    assert!(mail.data.ends_with("Subject: grüß\r\n\r\nüöä\r\n".as_bytes()) || String::from_utf8_lossy(&mail.data).contains("üöä\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_with_swaks_and_postfix() {
    let (sink, authority) = (Sink::start().await, Authority::new());
    let Some(postfix) = Program::postfix(sink.address, &Program::postfix_with_tls(&authority)).await else { return };
    let hop = hop()
        .next_hop_at(format!("localhost:{}", postfix.address.port()))
        .tracing()
        .with(|config| {
            config.certificate = Some(authority.issue("hop.test"));
            config.next_hop_tls = ClientTls::Verified;
            config.authorities = Some(authority.file());
        })
        .start()
        .await;
    if needs("swaks").is_none() {
        return;
    }
    let (said, content) = swaks(hop.address, &["--tls", "--from", "a@b.test", "--to", "c@d.test"]);
    assert!(content && said.contains("~> EHLO"), "{said}");
    let text = String::from_utf8(sink.mail(1).await.data).unwrap();
    assert!(text.contains("by hop.test (firstclick) with ESMTPS id "), "swaks to the hop: {text}");
    assert!(text.contains("by postfix.test (Postfix) with ESMTPS id "), "the hop to Postfix: {text}");
}

/// smtp-source -> hop -> smtp-sink: Postfix's own load tools at both ends.
#[tokio::test(flavor = "multi_thread")]
async fn smtp_source_and_smtp_sink() {
    if needs("smtp-source").is_none() || needs("smtp-sink").is_none() {
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut sink = Command::new("smtp-sink").args(["-u", "nobody", &format!("127.0.0.1:{port}"), "200"]).spawn().unwrap();
    poll("smtp-sink listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok()).await;
    let hop = hop().next_hop_at(format!("127.0.0.1:{port}")).start().await;
    let status = Command::new("smtp-source")
        .args(["-s", "20", "-m", "2000", "-l", "4000", "-N", "-f", "a@b.test", "-t", "c@d.test", &format!("inet:{}", hop.address)])
        .status()
        .unwrap();
    let records = hop.records(2_000).await;
    let _ = sink.kill();
    let _ = sink.wait();
    assert!(status.success(), "smtp-source is content with every reply");
    assert_eq!(records.iter().filter(|record| record["delivery"] == "accepted").count(), 2_000);
}
