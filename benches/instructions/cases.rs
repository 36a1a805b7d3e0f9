//! The cases, from an octet on the wire to a record.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    allowlist::{
        Allowlist, LinkRules, Mode, OtherLink, Shape,
        entry::AddressPattern,
        index::Index,
        judge::{self, BodyFacts, HeaderFacts},
    },
    audit::pseudonym::Pseudonyms,
    edit::{
        guard_link::{GuardLink, GuardLinkKeys, SealKey},
        rewrite::{self, Swap},
        tag::{Key, Tagger, Token},
    },
    identity::{Arrival, Authenticator, Network, proof::Identity},
    mail::{Client, Delivery, Envelope, Held, LineRepair, Outcome, Peer, Protocol, Record, Transaction},
    message::{Message, Target},
    pipeline::{Pipeline, PipelineConfig, Proving, Shared},
    recognition::{Kind, Recogniser, Recognition},
    settings::{Problems, allow},
    smtp::{
        codec::{command::Command, data::DataReader, reply::Reply, stuffing::Stuffing},
        config::BareLineEndings,
    },
};
use jiff::Timestamp;

use super::{Bench, mails};

pub(crate) fn run(bench: &Bench) {
    wire(bench);
    ordinary(bench);
    candidate(bench);
    growth(bench);
    hostile(bench);
}

/// Commands, replies and data.
fn wire(bench: &Bench) {
    bench.case("command", || || drop(black_box(Command::parse(black_box(b"MAIL FROM:<ann@partner.example> SIZE=8334 BODY=8BITMIME")))));
    bench.case("reply", || || drop(black_box(Reply::parse(black_box("250 2.0.0 Ok: queued as 4XyZ1234\r\n")))));
    bench.growth("data", &[1 << 10, 8 << 10, 1 << 20, 50 << 20], |octets| {
        let mut data = mails::ordinary(octets);
        data.extend_from_slice(b".\r\n");
        move || {
            let mut kept = 0;
            let mut reader = DataReader::new(BareLineEndings::Reject);
            black_box(reader.read(black_box(&data), &mut |piece| kept += piece.len()));
            black_box(kept);
        }
    });
    bench.growth("stuffing", &[8 << 10, 1 << 20], |octets| {
        let mail = mails::ordinary(octets);
        move || {
            let mut stuffing = Stuffing::default();
            for piece in mail.chunks(64 << 10) {
                stuffing.push(black_box(piece));
                black_box(stuffing.ready().len());
                stuffing.written();
            }
        }
    });
}

/// What every mail costs.
fn ordinary(bench: &Bench) {
    let mail: &'static [u8] = mails::ordinary(8 << 10).leak();
    bench.case("header", || || drop(black_box(Message::read(black_box(mail)))));
    bench.case("author", || {
        let message = Message::read(mail);
        move || drop(black_box(message.author()))
    });
    bench.case("removals", || {
        let (message, tagger) = (Message::read(mail), tagger());
        move || drop(black_box(tagger.removals(message.headers())))
    });
    bench.growth("entries, may_name", &[10, 1_000, 100_000], |count| {
        let patterns = (0..count).map(|at| vec![AddressPattern::parse_sender(&format!("no-reply@sender{at}.example")).unwrap()]);
        let patterns: Vec<Vec<AddressPattern>> = patterns.collect();
        let index = Index::new(patterns.iter().enumerate().map(|(at, list)| (at, list.as_slice())));
        let author = Message::read(mail).author().unwrap();
        move || {
            black_box(index.may_name(black_box(&author)));
        }
    });
    bench.growth("recipients, process", &[1, 10, 100, 1_000], |count| {
        let (runtime, pipeline) = (runtime(), pipeline());
        let recipients: Vec<String> = (0..count).map(|at| format!("<bob{at}@corp.example>")).collect();
        move || {
            let decided = runtime.block_on(pipeline.process(&transaction(mail, &recipients))).unwrap();
            let ready = runtime.block_on(decided.commit());
            runtime.block_on(ready.finish(Outcome::of_the_hop(Delivery::Accepted, "250 2.0.0 Ok: queued as 4XyZ1234")));
        }
    });
}

/// What a mail costs that an entry exempts.
fn candidate(bench: &Bench) {
    let mail: &'static [u8] = mails::reset(mails::Links::Plain).leak();
    let wrapped: &'static [u8] = mails::reset(mails::Links::Wrapped).leak();
    let recipients = vec!["<bob@corp.example>".to_owned()];
    let (runtime, pipeline, recogniser, tagger) = (runtime(), pipeline(), Recogniser::built_in().unwrap(), tagger());
    let message = Message::read(mail);
    let (content, author) = (message.content(), message.author());
    let now = Timestamp::from_second(mails::CAME).unwrap();
    let list = &pipeline.config.allowlist;
    let arrival = Arrival { peer: Peer::Host(IpAddr::V4(Ipv4Addr::LOCALHOST)), helo: "mx", reverse_path: "bounce@vendor.test", at: now };
    let identify = || runtime.block_on(pipeline.config.authenticator.identify(&message, arrival, &[]));
    let (identity, readers) = (identify(), vec!["bob@corp.example".to_owned()]);
    let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &readers, now };
    let domain = author.as_ref().ok().map(|author| &author.domain);
    let recognition = recogniser.recognise(&content, domain);
    let body = BodyFacts { content: &content, recognition: &recognition, identity: &identity };
    let candidates = judge::candidates(list, &facts, &identity);
    let decision = judge::decide(candidates.clone(), &facts, &body);
    assert!(decision.verdict.entry().is_some() && decision.findings.iter().all(|finding| finding.ok), "{decision:?}");
    bench.case("reset, content", || || drop(black_box(message.content())));
    bench.case("reset, content by a scanner", || {
        let message = Message::read(wrapped);
        move || drop(black_box(message.content().unwrapped()))
    });
    bench.case("reset, recognition", || || drop(black_box(recogniser.recognise(black_box(&content), domain))));
    bench.case("reset, identity of the upstream", || || drop(black_box(identify())));
    bench.case("reset, judging the header", || || drop(black_box(judge::candidates(list, &facts, &identity))));
    bench.case("reset, judging the body", || || drop(black_box(judge::decide(candidates.clone(), &facts, &body))));
    bench.case("reset, tag", || || drop(black_box(tagger.tag(&message, "vendor", now))));
    bench.case("reset, guard link", || {
        let (keys, from) = (guard_links(), content.links.first().unwrap().link.expose());
        move || drop(black_box(keys.seal(&sealed(from, now))))
    });
    bench.case("reset, guard", || {
        let from = content.links.first().unwrap().link.expose();
        let swap = Swap::one_time(from.to_owned(), guard_links().seal(&sealed(from, now)).unwrap(), from);
        let (message, content) = (&message, &content);
        move || drop(black_box(rewrite::swap(message, content, std::slice::from_ref(&swap)).unwrap()))
    });
    bench.case("reset, unwrap", || {
        let message = Message::read(wrapped);
        let content = message.content().unwrapped();
        let found = content.links.first().unwrap();
        let swap = Swap::back(found.wrapped.clone().unwrap(), found.link.expose().to_owned());
        move || drop(black_box(rewrite::swap(&message, &content, std::slice::from_ref(&swap)).unwrap()))
    });
    let preview = runtime.block_on(pipeline.preview(&transaction(mail, &recipients), now, Proving::Looked)).unwrap();
    let mut record = preview.record;
    record.outcome = Some(Outcome::of_the_hop(Delivery::Accepted, "250 2.0.0 Ok: queued as 4XyZ1234"));
    let record = Record::Mail(Box::new(record));
    bench.case("reset, record as JSON", || || drop(black_box(record.json())));
    bench.case("reset, hash of a link", || {
        let key = key();
        let link = content.links.first().unwrap().link.expose();
        move || drop(black_box(key.fingerprint(black_box(link))))
    });
}

/// How cost grows.
fn growth(bench: &Bench) {
    bench.growth("mail, header and author", &[1 << 10, 64 << 10, 1 << 20, 50 << 20], |octets| {
        let mail = mails::ordinary(octets);
        move || drop(black_box(Message::read(black_box(&mail)).author()))
    });
    bench.growth("mail, content", &[1 << 10, 8 << 10, 64 << 10, 1 << 20], |octets| {
        let mail = mails::ordinary(octets);
        move || drop(black_box(Message::read(black_box(&mail)).content()))
    });
    bench.growth("links, content", &[1, 10, 100, 1_000, 5_000], |count| {
        let mail = mails::links(count);
        move || drop(black_box(Message::read(black_box(&mail)).content()))
    });
    let recogniser = Recogniser::built_in().unwrap();
    bench.growth("links, recognition", &[1, 10, 100, 200], |count| {
        let mail = mails::links(count);
        let (content, author) = (Message::read(&mail).content(), Message::read(&mail).author().unwrap());
        let recogniser = &recogniser;
        move || drop(black_box(recogniser.recognise(black_box(&content), Some(&author.domain))))
    });
    for (what, listed) in [("links, judging", "www.vendor.test/help/*"), ("links, judging strays", "www.vendor.test/")] {
        bench.growth(what, &[1, 10, 100, 200], |count| {
            let message = Message::read(mails::links(count).leak());
            let (content, author) = (message.content(), message.author());
            let list = allowlist(&mails::ENTRY.replace("www.vendor.test/help/*", listed));
            let (identity, recognition) = (Identity::default(), Recognition::default());
            move || {
                let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &[], now: Timestamp::UNIX_EPOCH };
                let body = BodyFacts { content: &content, recognition: &recognition, identity: &identity };
                drop(black_box(judge::decide(judge::candidates(&list, &facts, &identity), &facts, &body)));
            }
        });
    }
    bench.growth("links, guard", &[1, 10, 100, 200], |count| {
        let message = Message::read(mails::links(count).leak());
        let content = message.content();
        let guarded = |(at, link): (usize, &str)| Swap::one_time(link.to_owned(), format!("https://links.corp.example/g/{at}aaaa"), link);
        let swaps: Vec<Swap> = content.links.iter().map(|found| found.link.expose()).enumerate().map(guarded).collect();
        move || drop(black_box(rewrite::swap(&message, &content, &swaps).unwrap()))
    });
    bench.growth("shapes, one_time", &[1, 10, 1_000], |count| {
        let shapes =
            (0..count).map(|at| (Kind::Invite, Shape::parse(&format!("login{at}.bank.example/reset/{{token}}?lang={{word}}")).unwrap()));
        let others = (0..count).map(|at| OtherLink::parse(&format!("www{at}.bank.example/help/*")).unwrap());
        let rules = LinkRules::new(shapes.collect(), others.collect(), Vec::new());
        let Target::Web(link) = Target::read("https://login0.bank.example/reset/x7Kq2mZt9LbVw4RnYp3d?lang=en") else { unreachable!() };
        move || {
            black_box(rules.one_time(black_box(&link), &[]));
        }
    });
}

/// What the worst mails cost to be read.
fn hostile(bench: &Bench) {
    const SIZES: &[usize] = &[16 << 10, 128 << 10];
    let head = |kind: &str| {
        format!("Content-Type: text/{kind}; charset=utf-8; format=flowed; delsp=yes\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
    };
    let read = |fields: &str, pattern: &str, end: &str, octets: usize| {
        let mail = mails::hostile(fields, pattern, end, octets);
        move || drop(black_box(Message::read(black_box(&mail)).content()))
    };
    for (name, pattern, end) in mails::TEXTS {
        bench.growth(&format!("text of {name}"), SIZES, |octets| read(&head("plain"), pattern, end, octets));
    }
    for (name, pattern, end) in mails::MARKUP {
        let start = if *name == "many attributes" { "<a" } else { "" };
        bench.growth(&format!("markup of {name}"), SIZES, |octets| read(&(head("html") + start), pattern, end, octets));
    }
    for (name, fields, pattern, end) in mails::STRUCTURE {
        bench.growth(&format!("mail of {name}"), SIZES, |octets| read(fields, pattern, end, octets));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn allowlist(entry: &str) -> Allowlist {
    let mut problems = Problems::default();
    let entry = allow::compile("vendor.toml", "vendor", entry, Mode::Enforce, &mut Vec::new(), &mut problems);
    assert!(problems.0.is_empty(), "{problems}");
    Allowlist::new(entry.into_iter().collect())
}

fn pipeline() -> Pipeline {
    let trusted = vec![Network::parse("127.0.0.0/8").unwrap()];
    let config = PipelineConfig {
        allowlist: allowlist(mails::ENTRY),
        authenticator: Arc::new(Authenticator::upstream(vec!["mx.corp.example".into()], trusted, "hop.test".into())),
        tagger: tagger(),
        guard_links: Some(Arc::new(guard_links())),
        link_store: None,
        arc_signer: None,
        inspect_limit: 1 << 20,
        policy: "0123456789abcdef".into(),
        pseudonyms: Pseudonyms::default(),
    };
    Pipeline::build(config, Arc::new(Shared::new(Recogniser::built_in().unwrap(), None)))
}

fn transaction<'t>(data: &'t [u8], recipients: &'t [String]) -> Transaction<'t> {
    Transaction {
        id: "1a21581ba34e4bced02",
        protocol: Protocol::Smtp,
        client: Client { peer: Peer::Host(IpAddr::V4(Ipv4Addr::LOCALHOST)), helo: "mx" },
        envelope: Envelope { reverse_path: "<bounce@vendor.test>", recipients },
        data,
        held: Held::Whole,
        size: data.len(),
        repair: LineRepair::None,
    }
}

fn key() -> Key {
    Key::parse(&BASE64.encode([7; 32])).unwrap()
}

fn tagger() -> Tagger {
    Tagger {
        header: "X-Firstclick".into(),
        tokens: vec![Token::parse("test-token-1234").unwrap()],
        staged: Vec::new(),
        keys: vec![key()],
        authserv_id: "hop.test".into(),
    }
}

fn guard_links() -> GuardLinkKeys {
    let keys = vec![SealKey::parse(&BASE64.encode([8; 32])).unwrap()];
    GuardLinkKeys { url: "https://links.corp.example".into(), keys, lifetime: Duration::from_hours(1) }
}

fn sealed(link: &str, now: Timestamp) -> GuardLink {
    GuardLink {
        link: link.to_owned(),
        mail: "1a21581ba34e4bced02".into(),
        entry: "vendor".into(),
        author: "vendor.test".into(),
        recipient: "bob@corp.example".into(),
        at: now,
        until: now + Duration::from_hours(1),
    }
}
