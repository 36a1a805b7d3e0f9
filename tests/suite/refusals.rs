//! What is refused before any data: a metric at once, and one record a minute for each code and client network.

use std::collections::BTreeMap;

use firstclick::{clock, identity::Network};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::hop::{Hop, Sink, hop, poll, read_records, sink::Act};

/// The refusals of the metrics page, by whom, at which stage and with which code.
fn counted(hop: &Hop) -> BTreeMap<String, u64> {
    let text = hop.server.snapshot().pipeline.shared.metrics.text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("firstclick_refusals_total{"));
    let mut counts = BTreeMap::new();
    for line in lines {
        let (labels, count) = line.split_once("} ").unwrap();
        counts.insert(labels.replace('"', ""), count.parse().unwrap());
    }
    counts
}

/// The summary records of the minute that is over: code, network and count.
async fn summary(hop: &Hop, wanted: usize) -> Vec<(String, String, u64)> {
    hop.server.snapshot().pipeline.shared.summarise_refusals(clock::now());
    poll("the records of a minute", || {
        let records: Vec<_> = read_records(&hop.audit)
            .into_iter()
            .filter(|record| record["type"] == "refusals")
            .map(|record| {
                let text = |key: &str| record[key].as_str().unwrap().to_owned();
                (text("code"), text("network"), record["count"].as_u64().unwrap())
            })
            .collect();
        (records.len() >= wanted).then_some(records)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_is_counted_by_whose_it_is_and_where() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).with(|config| config.bounds.recipients = 1).start().await;
    let mut client = hop.client().await;
    sink.on("MAIL FROM:<no@", Act::Say("550 5.7.1 not you".into()));
    sink.on("RCPT TO:<no@", Act::Say("550 5.1.1 no such user".into()));
    sink.on("RCPT TO:<later@", Act::Say("451 4.2.1 later".into()));
    for (line, code, label) in [
        ("RCPT TO:<c@d.test>", "503", "by=hop,stage=rcpt,code=503"),
        ("MAIL FROM:<a@b.test>", "503", "by=hop,stage=mail,code=503"),
        ("FROBNICATE", "502", "by=hop,stage=command,code=502"),
        ("EHLO", "501", "by=hop,stage=command,code=501"),
        ("EHLO client.test", "250", ""),
        ("MAIL FROM:a@b.test", "501", "by=hop,stage=mail,code=501"),
        ("MAIL FROM:<a@b.test> REQUIRETLS", "555", "by=hop,stage=mail,code=555"),
        ("MAIL FROM:<no@b.test>", "550", "by=next_hop,stage=mail,code=550"),
        ("MAIL FROM:<a@b.test>", "250", ""),
        ("RCPT TO:<>", "501", "by=hop,stage=rcpt,code=501"),
        ("RCPT TO:<no@d.test>", "550", "by=next_hop,stage=rcpt,code=550"),
        ("RCPT TO:<later@d.test>", "451", "by=next_hop,stage=rcpt,code=451"),
        ("DATA", "554", "by=hop,stage=data,code=554"),
        ("RCPT TO:<c@d.test>", "250", ""),
        ("RCPT TO:<one-more@d.test>", "452", "by=hop,stage=rcpt,code=452"),
        ("RSET", "250", ""),
    ] {
        let before = counted(&hop);
        let reply = client.say(line).await;
        assert!(reply.starts_with(code), "{line}: {reply}");
        let new: Vec<_> = counted(&hop).into_iter().filter(|(labels, count)| before.get(labels) != Some(count)).collect();
        let expected: Vec<_> = (!label.is_empty()).then(|| (label.to_owned(), 1)).into_iter().collect();
        assert_eq!(new, expected, "{line}");
    }
    let of = |code: &str, count| (code.to_owned(), "127.0.0.0/24".to_owned(), count);
    let expected = [of("451", 1), of("452", 1), of("501", 3), of("502", 1), of("503", 2), of("550", 2), of("554", 1), of("555", 1)];
    assert_eq!(summary(&hop, expected.len()).await, expected);
    // The next minute starts from nothing.
    client.say("FROBNICATE").await;
    client.say("FROBNICATE").await;
    assert_eq!(summary(&hop, expected.len() + 1).await.last(), Some(&of("502", 2)));
}

/// MAIL and its recipients in one group, refused by a next hop that is away; and a session that is closed for its idle commands.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_hop_says_for_an_absent_next_hop_is_its_own() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hop = hop().next_hop_at(gone).with(|config| config.bounds.idle_commands = 3).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "NOOP"] {
        client.say(line).await;
    }
    client.say("NOOP").await;
    let counts = counted(&hop);
    assert_eq!(counts.get("by=hop,stage=mail,code=451"), Some(&1), "{counts:?}");
    assert_eq!(counts.get("by=hop,stage=rcpt,code=503"), Some(&1), "{counts:?}");
    poll("421 is counted", || counted(&hop).get("by=hop,stage=command,code=421").copied()).await;
}

/// The client is the one that the upstream names, not the upstream.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_counted_for_the_client_that_an_upstream_names() {
    let sink = Sink::start().await;
    let loopback = || vec![Network::parse("127.0.0.0/8").unwrap()];
    let named = hop().next_hop(&sink).with(|config| config.trusted_upstreams = loopback()).start().await;
    let mut client = named.client().await;
    client.greet().await;
    client.say("XFORWARD ADDR=192.0.2.7").await;
    client.say("RCPT TO:<c@d.test>").await;
    client.say("XCLIENT ADDR=198.51.100.7").await;
    client.say("RCPT TO:<c@d.test>").await;
    let of = |code: &str, network: &str| (code.to_owned(), network.to_owned(), 1);
    assert_eq!(summary(&named, 2).await, [of("503", "192.0.2.0/24"), of("503", "198.51.100.0/24")]);

    let behind_proxy = hop()
        .next_hop(&sink)
        .with(|config| {
            config.proxies = loopback();
            config.accept_from = vec![Network::parse("198.51.100.0/24").unwrap()];
        })
        .start()
        .await;
    let mut stream = TcpStream::connect(behind_proxy.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"PROXY TCP4 203.0.113.7 192.0.2.1 4000 25\r\n").await.unwrap();
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"554 ");
    assert_eq!(summary(&behind_proxy, 1).await, [of("554", "203.0.113.0/24")]);
    assert_eq!(counted(&behind_proxy).get("by=hop,stage=connection,code=554"), Some(&1));
}

/// A refusal after the data is a record of its own and in no summary.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_the_data_is_in_no_summary() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    sink.on(".", Act::Say("550 5.7.1 spam".into()));
    let mail = b"a: b\r\n\r\nbody\r\n";
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], mail).await.starts_with("550"));
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], b"a: b\n\r\n").await.starts_with("550 5.5.2"));
    let mut client = hop.client().await;
    client.say("FROBNICATE").await;
    let records = summary(&hop, 1).await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0].0, "502");
}

/// Guesses in a group end a session as those one by one do.
#[tokio::test(flavor = "multi_thread")]
async fn refused_recipients_of_a_group_count() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).with(|config| config.bounds.idle_commands = 5).start().await;
    for _ in 0..10 {
        sink.on("RCPT TO:<guess", Act::Say("550 5.1.1 no such user".into()));
    }
    let mut client = hop.client().await;
    client.greet().await;
    let guesses: String = (0..10).map(|number| format!("RCPT TO:<guess{number}@d.test>\r\n")).collect();
    client.raw(format!("MAIL FROM:<a@b.test>\r\n{guesses}").as_bytes()).await;
    let mut replies = Vec::new();
    loop {
        let reply = client.reply().await;
        if reply.is_empty() {
            break;
        }
        replies.push(reply);
    }
    let refused = replies.iter().filter(|reply| reply.starts_with("550 5.1.1")).count();
    assert!(replies[0].starts_with("250") && (6..=10).contains(&refused), "{replies:?}");
}
