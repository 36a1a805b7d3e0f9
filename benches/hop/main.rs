//! What a mail costs end to end, beside `HAProxy`, which only moves its octets, and Postfix where it is installed:
//!
//! ```text
//! cargo bench --ignore-rust-version --bench hop                 # the table
//! cargo bench --ignore-rust-version --bench hop -- ordinary     # one case
//! cargo bench --ignore-rust-version --bench hop -- growth       # how cost grows
//! cargo bench --ignore-rust-version --bench hop -- --against OTHER/firstclick ordinary
//! ```
//!
//! Figures are processor time of the hop for one mail; rounds alternate, and each ratio is to `HAProxy` in the same round.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a program that prints figures")]
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss, clippy::disallowed_methods, reason = "figures of now")]

mod load;
mod peers;

use std::{path::PathBuf, sync::Arc};

use self::{
    load::{Load, Sink, idle, stuffed},
    peers::Peer,
};

const ROUNDS: usize = 7;
/// What the next hop announces.
const USUAL: &str = "250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n";

/// One row of the table.
struct Case {
    name: &'static str,
    says: &'static str,
    load: Load,
    postfix: bool,
    /// What the next hop announces beside the usual, and lines of firstclick's `[smtp]`.
    announces: &'static str,
    settings: &'static str,
}

fn main() {
    let mut programs = vec![("firstclick".to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_firstclick")))];
    let (mut rounds, mut wanted) = (ROUNDS, Vec::new());
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap(),
            "--against" => programs.push(("the other".to_owned(), arguments.next().unwrap().into())),
            name => wanted.push(name.to_owned()),
        }
    }
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("| work | hop | us a mail, median [least to most] | x HAProxy | mails/s | highest memory, MB |\n| --- | --- | --- | --- | --- | --- |");
        for case in table().into_iter().filter(|case| wanted.is_empty() || is_wanted(case.name)) {
            compare(&case, &programs, rounds).await;
        }
        for case in growth().into_iter().filter(|_| is_wanted("growth")) {
            compare(&case, &programs, rounds.min(3)).await;
        }
        if wanted.is_empty() || is_wanted("idle") {
            memory(&programs).await;
        }
    });
}

fn mail(octets: usize) -> Vec<u8> {
    let mut mail = String::from(
        "Received: from a.shop.test by mx.corp.example with ESMTPS id 4XyZ; Mon, 23 Nov 2026 10:00:00 +0000\r\n\
         Authentication-Results: mx.corp.example; dkim=pass header.d=shop.test; spf=pass smtp.mailfrom=news@shop.test; dmarc=pass header.from=shop.test\r\n\
         From: Shop <news@shop.test>\r\nTo: bob@corp.example\r\nSubject: This week\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <1@shop.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    );
    while mail.len() < octets {
        mail.push_str("A line of an ordinary mail that says nothing, and is as long as lines are.\r\n");
    }
    mail.into_bytes()
}

fn load(mail: &[u8], mails: u64, connections: u64, each: u64) -> Load {
    Load { wire: Arc::new(stuffed(mail)), mails, connections, each, recipients: 1, number: Arc::default() }
}

fn table() -> Vec<Case> {
    let ordinary = mail(8 * 1024);
    // Signed now: an exemption needs a signature of this day.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let reset = include_str!("reset.eml").replace("t=0;", &format!("t={now};"));
    let case = |name, says, load| Case { name, says, load, postfix: false, announces: "", settings: "" };
    vec![
        Case { postfix: true, ..case("ordinary", "ordinary 8 KB, 20 connections, 100 mails each", load(&ordinary, 20_000, 20, 100)) },
        Case { postfix: true, ..case("one", "ordinary 8 KB, one mail a connection", load(&ordinary, 10_000, 20, 1)) },
        Case {
            announces: "250-CHUNKING\r\n",
            settings: "chunking = \"on\"\n",
            ..case("chunking", "ordinary 8 KB, by BDAT, 20 connections, 100 mails each", load(&ordinary, 20_000, 20, 100))
        },
        case("large", "10 MB, 20 at once", load(&mail(10 << 20), 200, 20, 5)),
        case("reset", "reset mail, tagged, durable record", load(reset.as_bytes(), 6_000, 20, 100)),
    ]
}

fn growth() -> Vec<Case> {
    let case = |says, load| Case { name: "growth", says, load, postfix: false, announces: "", settings: "" };
    let mut cases = Vec::new();
    for (says, octets, mails) in [
        ("1 KB", 1 << 10, 20_000),
        ("8 KB", 8 << 10, 20_000),
        ("64 KB", 64 << 10, 8_000),
        ("512 KB", 512 << 10, 2_000),
        ("4 MB", 4 << 20, 300),
        ("49 MB", 49 << 20, 40),
    ] {
        cases.push(case(says, load(&mail(octets), mails, 10, 20)));
    }
    for (says, recipients, mails) in
        [("1 recipient", 1, 10_000), ("10 recipients", 10, 5_000), ("100 recipients", 100, 2_000), ("1,000 recipients", 1_000, 300)]
    {
        cases.push(case(says, Load { recipients, ..load(&mail(1 << 10), mails, 10, 20) }));
    }
    for (says, connections) in [
        ("1 connection", 1),
        ("10 connections", 10),
        ("100 connections", 100),
        ("500 connections", 500),
        ("1,000 connections", 1_000),
        ("2,000 connections", 2_000),
    ] {
        cases.push(case(says, load(&mail(8 << 10), 20_000, connections, 10)));
    }
    cases
}

/// Measures a case with each hop in turn, round by round.
async fn compare(case: &Case, programs: &[(String, PathBuf)], rounds: usize) {
    let firstclick = |(name, program): &(String, PathBuf)| Peer::Firstclick { name: name.clone(), program: program.clone() };
    let mut peers = vec![Peer::HaProxy];
    peers.extend(programs.iter().map(firstclick));
    if case.postfix {
        peers.push(Peer::Postfix);
    }
    peers.retain(Peer::is_here);
    let mut figures: Vec<Vec<(f64, f64, u64)>> = vec![Vec::new(); peers.len()];
    for _ in 0..rounds {
        for (at, peer) in peers.iter().enumerate() {
            let sink = Sink::start(format!("{USUAL}{}", case.announces)).await;
            let running = peer.start(sink.address, case.settings).await;
            let mails = if *peer == Peer::Postfix { case.load.mails / 10 } else { case.load.mails };
            let before = running.cpu();
            let arrived = sink.measure(running.address, &Load { mails, ..case.load.clone() }).await;
            let used = running.cpu().saturating_sub(before);
            let complete = arrived.mails == mails && arrived.errors == 0;
            let tagged = case.name != "reset" || arrived.tagged == mails || !matches!(peer, Peer::Firstclick { .. });
            if !complete || !tagged {
                eprintln!("{}, {}: {arrived:?} of {mails}", case.says, peer.name());
            }
            figures[at].push((used.as_secs_f64() * 1e6 / arrived.mails.max(1) as f64, arrived.rate, running.memory().1));
        }
    }
    let bare: Option<Vec<f64>> =
        peers.iter().position(|peer| *peer == Peer::HaProxy).map(|at| figures[at].iter().map(|figure| figure.0).collect());
    for (peer, figures) in peers.iter().zip(&figures) {
        let (least, middle, most) = spread(figures.iter().map(|figure| figure.0));
        let ratio = bare.as_ref().map_or_else(String::new, |bare| {
            let (least, middle, most) = spread(figures.iter().zip(bare).map(|(figure, bare)| figure.0 / bare));
            format!("{middle:.2} [{least:.2} to {most:.2}]")
        });
        let (rate, memory) = (spread(figures.iter().map(|figure| figure.1)).1, figures.iter().map(|figure| figure.2).max().unwrap_or(0));
        println!(
            "| {} | {} | {middle:.1} [{least:.1} to {most:.1}] | {ratio} | {rate:.0} | {:.0} |",
            case.says,
            peer.name(),
            memory as f64 / 1024.0
        );
    }
}

/// The least, the median, the most.
fn spread(figures: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2], figures[figures.len() - 1])
}

/// Memory of a hop that has nothing to do, and with sessions that say nothing.
async fn memory(programs: &[(String, PathBuf)]) {
    for (name, program) in programs {
        let sink = Sink::start(USUAL.to_owned()).await;
        let running = Peer::Firstclick { name: name.clone(), program: program.clone() }.start(sink.address, "").await;
        let alone = running.memory().0;
        let sessions = idle(running.address, 1_000).await;
        let with_sessions = running.memory().0;
        println!("\n{name}: {} MB idle, {} MB with {} idle sessions", alone / 1024, with_sessions / 1024, sessions.len());
    }
}
