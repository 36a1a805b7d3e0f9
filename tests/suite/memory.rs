//! The memory of mails is one budget: no protocol and no client network takes it all.

use std::net::SocketAddr;

use firstclick::{identity::Network, limits::MEMORY_STEP, mail::Protocol, smtp::config::Config};

use crate::hop::{
    Client, Hop, Sink, hop,
    mta::{Mta, Told, Way, frame},
    poll, stuffed,
};

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";

/// A mail of about this many steps of memory.
fn mail_of(steps: usize) -> Vec<u8> {
    let lines = (steps * MEMORY_STEP - 100) / 100;
    [MAIL.to_vec(), format!("{}\r\n", "x".repeat(98)).repeat(lines).into_bytes()].concat()
}

/// Sends all of a mail but its end: the hop keeps it.
async fn half(mut client: Client, mail: &[u8]) -> Client {
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.say(line).await;
    }
    client.raw(&stuffed(mail)[..mail.len()]).await;
    client
}

/// Waits until the hop holds so many steps: what was sent to it is in its memory.
async fn holds(hop: &Hop, protocol: Protocol, steps: usize) {
    poll("the hop's memory", || (hop.memory.held(protocol) == steps * MEMORY_STEP).then_some(())).await;
}

async fn send(client: Client, mail: &[u8]) -> String {
    let mut client = client;
    client.greet().await;
    client.send("<a@b.test>", &["<c@d.test>"], mail).await
}

/// An MTA tells a header and no end of it: the hop keeps it.
async fn half_told(address: SocketAddr, client: &str, steps: usize) -> Mta {
    let mut mta = Mta::connect(address).await;
    mta.greet(client).await;
    mta.raw(&frame(b'M', b"<a@b.test>\0")).await;
    mta.raw(&frame(b'R', b"<c@d.test>\0")).await;
    for _ in 0..steps {
        mta.raw(&frame(b'L', &[b"X-Long\0 ", "x".repeat(MEMORY_STEP - 200).as_bytes(), b"\0"].concat())).await;
    }
    mta
}

/// A mail with a header of so many steps, told by an MTA.
async fn tell(address: SocketAddr, client: &str, steps: usize) -> Told {
    let mut mta = Mta::connect(address).await;
    mta.greet(client).await;
    let field = format!("X-Long: {}\r\n", "x".repeat(MEMORY_STEP - 200));
    let mail = [field.repeat(steps).into_bytes(), MAIL.to_vec()].concat();
    mta.mail(Way { client, from: "<a@b.test>", to: &["<c@d.test>"], piece: 60_000 }, &mail).await
}

async fn shared(sink: &Sink, change: impl FnOnce(&mut Config)) -> Hop {
    let bounds = |config: &mut Config| {
        config.bounds.memory = 40 * MEMORY_STEP;
        config.inspect_limit = 10 * MEMORY_STEP;
        change(config);
    };
    hop().next_hop(sink).beside_milters().with(bounds).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_leaves_the_milter_its_quarter() {
    let sink = Sink::start().await;
    let hop = shared(&sink, |_| {}).await;
    let milter = hop.milter().await;
    let mut halves = Vec::new();
    for _ in 0..3 {
        halves.push(half(hop.client().await, &mail_of(9)).await);
    }
    holds(&hop, Protocol::Smtp, 27).await;
    let reply = send(hop.client().await, &mail_of(9)).await;
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    assert_eq!(tell(milter, "127.0.0.1", 9).await.verdict, 'a', "SMTP is full, and a quarter is the milter's");
    for mut client in halves {
        client.raw(b".\r\n").await;
        assert!(client.reply().await.starts_with("250"), "whoever had room keeps it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_milter_leaves_smtp_its_quarter() {
    let sink = Sink::start().await;
    let hop = shared(&sink, |_| {}).await;
    let milter = hop.milter().await;
    let mut halves = Vec::new();
    for _ in 0..3 {
        halves.push(half_told(milter, "127.0.0.1", 9).await);
    }
    holds(&hop, Protocol::Milter, 27).await;
    assert_eq!(
        tell(milter, "127.0.0.1", 9).await.verdict,
        'y',
        "its header cannot be read now, so it may be forged: the MTA is to keep it"
    );
    let reply = send(hop.client().await, &mail_of(9)).await;
    assert!(reply.starts_with("250"), "the milter is full, and a quarter is SMTP's: {reply}");
    drop(halves);
}

/// No client network takes more than a tenth, whoever names it; whoever speaks for many is no client network.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_network_takes_a_tenth() {
    let sink = Sink::start().await;
    let networks = |config: &mut Config| {
        config.bounds.memory = 100 * MEMORY_STEP;
        config.inspect_limit = 5 * MEMORY_STEP;
        config.proxies = vec![Network::parse("127.0.0.0/8").unwrap()];
        config.trusted_upstreams = vec![Network::parse("203.0.113.0/24").unwrap()];
    };
    let hop = shared(&sink, networks).await;
    let milter = hop.milter().await;
    let through = |client: &'static str| Client::through_proxy(client, hop.address);
    let mail = mail_of(5);
    let halves = [half(through("192.0.2.1").await, &mail).await, half(through("192.0.2.2").await, &mail).await];
    holds(&hop, Protocol::Smtp, 10).await;
    let reply = send(through("192.0.2.3").await, &mail).await;
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    assert!(send(through("198.51.100.1").await, &mail).await.starts_with("250"), "another network");

    let mut upstream = through("203.0.113.1").await;
    upstream.greet().await;
    upstream.say("XFORWARD ADDR=192.0.2.4").await;
    let reply = upstream.send("<a@b.test>", &["<c@d.test>"], &mail).await;
    assert!(reply.starts_with("452 4.3.1"), "a trusted upstream names a client of the network: {reply}");
    let mut of_many = Vec::new();
    for _ in 0..4 {
        of_many.push(half(through("203.0.113.1").await, &mail).await);
    }
    holds(&hop, Protocol::Smtp, 30).await;
    for mut client in of_many {
        client.raw(b".\r\n").await;
        assert!(client.reply().await.starts_with("250"), "a trusted upstream speaks for many");
    }
    assert_eq!(tell(milter, "192.0.2.5", 2).await.verdict, 'y', "the same network by the milter");
    assert_eq!(tell(milter, "198.51.100.1", 2).await.verdict, 'a');
    for mut client in halves {
        client.raw(b".\r\n").await;
        assert!(client.reply().await.starts_with("250"), "whoever had room keeps it");
    }
    assert!(send(through("192.0.2.3").await, &mail).await.starts_with("250"), "and afterwards there is room again");
}
