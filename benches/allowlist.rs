//! What naming a mail's author costs with ten entries and with 100,000, and what a link costs: `cargo bench
//! --ignore-rust-version --bench allowlist`. Fails where the many cost more than four times the few: caches are smaller
//! than the index, and nothing else may grow.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints figures")]

use std::{hint::black_box, time::Duration};

use firstclick::{
    allowlist::{LinkRules, OtherLink, Shape, entry::AddressPattern, index::Index},
    message::{Author, Link, Target},
    recognition::Kind,
};
use rustix::time::{ClockId, clock_gettime};

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

fn nanos(rounds: u32, mut work: impl FnMut(u32)) -> f64 {
    work(0);
    let start = cpu();
    for round in 0..rounds {
        work(round);
    }
    cpu().saturating_sub(start).as_secs_f64() * 1e9 / f64::from(rounds)
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn link(address: &str) -> Link {
    let Target::Web(link) = Target::read(address) else { unreachable!("{address}") };
    link
}

fn main() {
    let authors: Vec<Author> = (0..1_000)
        .map(|at| {
            let domain = if at % 4 == 0 { format!("mail.sender{at}.example") } else { format!("stranger{at}.example") };
            Author::read(&format!("No-Reply@{domain}")).unwrap()
        })
        .collect();
    let mut figures = Vec::new();
    for count in [10_usize, 100_000] {
        let before = resident();
        let patterns: Vec<Vec<AddressPattern>> = (0..count)
            .map(|at| {
                let texts =
                    [format!("no-reply@sender{at}.example"), format!("*@*.sender{at}.example"), format!("alerts@*.sender{at}.example")];
                texts.iter().map(|text| AddressPattern::parse_sender(text).unwrap()).collect()
            })
            .collect();
        let index = Index::new(patterns.iter().enumerate().map(|(at, list)| (at, list.as_slice())));
        let grown = resident().saturating_sub(before);
        let cost = nanos(200_000, |round| {
            let author = authors.get(round as usize % authors.len()).unwrap();
            black_box(index.may_name(black_box(author)));
            black_box(index.naming(black_box(author)).count());
        });
        println!("{count:>7} entries  naming {cost:>8.0} ns  memory {grown:>8} KiB with the patterns");
        figures.push(cost);
    }
    for count in [1_usize, 1_000] {
        let shapes =
            (0..count).map(|at| (Kind::Invite, Shape::parse(&format!("login{at}.bank.example/reset/{{token}}?lang={{word}}")).unwrap()));
        let others = (0..count).map(|at| OtherLink::parse(&format!("www{at}.bank.example/help/*")).unwrap());
        let rules = LinkRules::new(shapes.collect(), others.collect(), Vec::new());
        let one_time = link("https://login0.bank.example/reset/x7Kq2mZt9LbVw4RnYp3d?lang=en");
        let other = link("https://www0.bank.example/help/articles/7?from=mail");
        let first = nanos(50_000, |_| {
            black_box(rules.one_time(black_box(&one_time), &[]));
        });
        let second = nanos(50_000, |_| {
            drop(black_box(rules.other(black_box(&other), &[])));
        });
        println!("{count:>7} shapes   one_time {first:>6.0} ns  other {second:>6.0} ns");
    }
    let [few, many] = figures.as_slice() else { return };
    assert!(many < &(few * 4.0), "100,000 entries cost {many} ns, ten cost {few} ns");
}
