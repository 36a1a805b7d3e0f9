//! How long ordinary mail waits beside hostile mail: `cargo bench --ignore-rust-version --bench hostile`. The peer is the same hop
//! with nothing beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a program that prints figures"
)]

#[path = "../tests/hop/mod.rs"]
mod hop;

use std::time::{Duration, Instant};

use firstclick::testbed::{Signer, Zone};
use tokio::{net::UdpSocket, task::JoinSet};

use self::hop::{Client, Hop, Sink, VENDOR, hop, reset_mail};

const ORDINARY: &str =
    "From: Ann <ann@elsewhere.test>\r\nTo: bob@corp.example\r\nSubject: Lunch\r\nMessage-ID: <1@elsewhere.test>\r\n\r\nNoon?\r\n";

/// Waits of ordinary mails in milliseconds, sorted: one mail after another in one session, until the time is up.
async fn ordinary(hop: &Hop, time: Duration) -> Vec<f64> {
    let mut client = hop.client().await;
    client.greet().await;
    let (start, mut waits) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let sent = Instant::now();
        assert!(client.send("<ann@elsewhere.test>", &["<bob@corp.example>"], ORDINARY.as_bytes()).await.starts_with("250"));
        waits.push(sent.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waits.sort_by(f64::total_cmp);
    waits
}

fn print(what: &str, waits: &[f64], peer: Option<&[f64]>) {
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    let delay = peer.map_or_else(String::new, |peer| format!("  added at most {:>6.1} ms", at(100) - peer[peer.len() - 1]));
    println!("{what:58} {:>5} mails  median {:>6.2} ms  99 % {:>6.2} ms  most {:>6.2} ms{delay}", waits.len(), at(50), at(99), at(100));
}

/// Sends the same mails over several sessions at once; the seconds that it took.
fn flood(hop: &Hop, sessions: usize, mails: &[Vec<u8>]) -> JoinSet<f64> {
    let mut set = JoinSet::new();
    for mails in mails.chunks(mails.len().div_ceil(sessions)) {
        let (address, mails) = (hop.address, mails.to_vec());
        set.spawn(async move {
            let start = Instant::now();
            let mut client = Client::connect(address).await;
            client.greet().await;
            for mail in mails {
                let reply = client.send("<bounce@vendor.test>", &["<bob@corp.example>"], &mail).await;
                assert!(reply.starts_with("250"), "{reply}");
            }
            start.elapsed().as_secs_f64()
        });
    }
    set
}

async fn beside(what: &str, hop: &Hop, sessions: usize, mails: &[Vec<u8>], peer: &[f64]) {
    let flood = flood(hop, sessions, mails);
    let waits = ordinary(hop, Duration::from_secs(3)).await;
    let took = flood.join_all().await.into_iter().fold(0.0, f64::max);
    print(what, &waits, Some(peer));
    println!("{:58} the hostile ones took {took:.2} s", "");
}

#[tokio::main]
async fn main() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    // A resolver that never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sink = Sink::start().await;
    let deaf = hop().allow("vendor", VENDOR).asking_at(silent.local_addr().unwrap(), Duration::from_secs(5)).next_hop(&sink).start().await;
    let peer = ordinary(&deaf, Duration::from_secs(3)).await;
    print("ordinary mail, nothing beside it", &peer, None);

    let forged: Vec<Vec<u8>> = (0..80)
        .map(|number| {
            let signature = format!(
                "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=vendor.test; s=s{number}; h=from:to:subject; bh=AAAA; b=AAAA\r\n"
            );
            format!("{signature}{}", reset_mail()).into_bytes()
        })
        .collect();
    beside("beside 80 forged mails, silent DNS, 20 sessions", &deaf, 20, &forged, &peer).await;

    let hop = hop().allow("vendor", VENDOR).asking(&zone).next_hop(&sink).start().await;
    let peer = ordinary(&hop, Duration::from_secs(3)).await;
    for (what, piece) in [("www.a.co ", "www.a.co "), ("dots", "a.b.c.d."), ("://", "x://"), ("<a", "<a href=x>"), ("<", "<")] {
        let text = piece.repeat(1_000_000 / piece.len());
        let lines = text.as_bytes().chunks(900).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\r\n");
        let bomb = reset_mail().replace("The link works once.", &lines);
        let bomb = if piece.contains('<') { bomb.replace("text/plain", "text/html") } else { bomb };
        let unsigned = vec![bomb.clone().into_bytes(); 4];
        beside(&format!("beside 4 bombs of 1 MB of {what:?}, unsigned"), &hop, 4, &unsigned, &peer).await;
        let signed = vec![vendor.sign(&bomb).unwrap().into_bytes(); 4];
        beside(&format!("beside 4 bombs of 1 MB of {what:?}, the sender's own"), &hop, 4, &signed, &peer).await;
    }
}
