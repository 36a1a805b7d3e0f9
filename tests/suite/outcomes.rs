//! What becomes of a mail in each way that it can end: reply, record, metric, quota, and the connection to the next hop. The rows
//! stand in docs/architecture.md, word for word.
//!
//! Each mail is one that is exempted, of an entry that exempts one mail an hour, so that the quota shows.

use std::{fs, path::Path, time::Duration};

use firstclick::{clock, pipeline::fault::FaultPoint, smtp::config::BareLineEndings};
use serde_json::Value;

use crate::hop::{
    Build, Client, Hop, VENDOR, hop,
    mta::{Mta, Way, frame},
    poll,
    process::Folder,
    read_records, reset_mail,
    sink::{Act, DOT, IN_DATA, Sink},
    stuffed, told_signature,
};

const FROM: &str = "<bounce@vendor.test>";
const BOB: &str = "<bob@corp.example>";
const PROBE: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: x\r\n\r\nx\r\n";

fn build(sink: &Sink) -> Build {
    hop().allow("vendor", &format!("limit = \"1/hour\"\n{VENDOR}")).trusting_upstream("mx.corp.example").next_hop(sink)
}

/// A mail that is exempted, and no other one's twin.
fn exempt() -> Vec<u8> {
    let results = "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    format!("{results}{}{}", told_signature("vendor.test"), reset_mail()).into_bytes()
}

struct Row<'r> {
    name: &'r str,
    hop: &'r Hop,
    sink: &'r Sink,
    reply: String,
    /// The session, where it goes on.
    client: Option<Client>,
}

impl Row<'_> {
    /// Compares with the line of docs/architecture.md, once that is what is seen.
    async fn check(mut self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("| {} |", self.name)));
        let line = line.unwrap_or_else(|| panic!("docs/architecture.md has no row {:?}", self.name));
        let wanted: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let connection = self.connection().await;
        let quota = self.quota().await;
        self.hop.server.snapshot().pipeline.shared.summarise_refusals(clock::now());
        let mut seen = Vec::new();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            seen = vec![self.name.to_owned(), self.reply(), self.record(), self.metric(), quota.clone(), connection.clone()];
            if seen == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(seen, wanted);
    }

    /// Code and enhanced code.
    fn reply(&self) -> String {
        let mut words = self.reply.split_whitespace();
        let code = words.next().unwrap_or("none");
        let enhanced = words.next().filter(|word| word.matches('.').count() == 2 && word.starts_with(['2', '4', '5']));
        enhanced.map_or_else(|| code.to_owned(), |enhanced| format!("{code} {enhanced}"))
    }

    fn record(&self) -> String {
        let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let mut ours = Vec::new();
        let mut said = Vec::new();
        for record in read_records(&self.hop.audit) {
            match record["type"].as_str().unwrap_or_default() {
                "mail" | "refusal" if text(&record, "from") == FROM && text(&record, "message_id") != "<quota@vendor.test>" => {
                    ours.push(text(&record, "id"));
                    said.push(format!("{} {}", text(&record, "type"), text(&record, "delivery")).trim_end().to_owned());
                }
                "outcome" if ours.contains(&text(&record, "id")) => said.push(format!("outcome {}", text(&record, "delivery"))),
                "refusals" => said.push(format!("summary {}", text(&record, "code"))),
                _ => {}
            }
        }
        if said.is_empty() { "none".into() } else { said.join(", ") }
    }

    /// Counters beside those of the probes, which are accepted.
    fn metric(&self) -> String {
        let text = self.hop.server.snapshot().pipeline.shared.metrics.text();
        let mut said = Vec::new();
        for line in text.lines() {
            let Some((name, count)) = line.rsplit_once(' ') else { continue };
            let labels: Vec<&str> = name.split('"').skip(1).step_by(2).collect();
            if name.starts_with("firstclick_refusals_total{") {
                said.push(format!("refusals {}", labels.join(" ")));
            } else if name.starts_with("firstclick_deliveries_total{") {
                let ours = count.parse::<usize>().unwrap() - if labels[0] == "accepted" { self.probes() } else { 0 };
                if ours > 0 {
                    said.push(format!("deliveries {}", labels[0]));
                }
            }
        }
        said.sort();
        if said.is_empty() { "none".into() } else { said.join(", ") }
    }

    fn probes(&self) -> usize {
        read_records(&self.hop.audit)
            .iter()
            .filter(|record| record["type"] == "mail")
            .filter(|record| record["from"] != FROM || record["message_id"] == "<quota@vendor.test>")
            .count()
    }

    /// Whether another mail for the same reader is exempted in this hour.
    async fn quota(&self) -> String {
        let mail = String::from_utf8(exempt()).unwrap().replace("<reset-1@vendor.test>", "<quota@vendor.test>");
        let before = self.sink.mails().len();
        let Some(mut client) = Client::try_connect(self.hop.address).await else { return "-".into() };
        client.greet().await;
        if !client.send(FROM, &[BOB], mail.as_bytes()).await.starts_with("250") {
            return "-".into();
        }
        let mail = self.sink.mail(before + 1).await;
        poll("the record", || {
            read_records(&self.hop.audit).iter().any(|record| record["message_id"] == "<quota@vendor.test>").then_some(())
        })
        .await;
        if crate::hop::is_tagged(&mail.data) { "free".into() } else { "spent".into() }
    }

    /// What the session's next mail meets: its own connection, one that waits for whoever comes next, or none.
    async fn connection(&mut self) -> String {
        let waits = || self.hop.server.snapshot().pipeline.shared.metrics.text().contains("\nfirstclick_next_hop_parked 1\n");
        let Some(client) = &mut self.client else {
            poll("the session ends", || (self.hop.server.open_sessions() == 0).then_some(())).await;
            return if waits() { "parked".into() } else { "closed".into() };
        };
        let waits = waits();
        let (connections, lines) = (self.sink.connections(), self.sink.lines().len());
        let reply = client.send("<a@b.test>", &["<c@d.test>"], PROBE).await;
        if reply.is_empty() {
            return "closed".into();
        }
        assert!(reply.starts_with("250"), "{}: the next mail of the session: {reply}", self.name);
        if waits {
            assert_eq!(self.sink.connections(), connections, "{}: it is used again", self.name);
            return "parked".into();
        }
        match (self.sink.connections() - connections, self.sink.lines()[lines..].iter().any(|line| line == "RSET")) {
            (0, true) => "kept, RSET".into(),
            (0, false) => "kept".into(),
            _ => "a new one".into(),
        }
    }
}

/// Says the lines, and returns the reply to the last.
async fn say(client: &mut Client, lines: &[&str]) -> String {
    let mut reply = String::new();
    for line in lines {
        reply = client.say(line).await;
    }
    reply
}

const MAIL: &str = "MAIL FROM:<bounce@vendor.test>";
const RCPT: &str = "RCPT TO:<bob@corp.example>";

#[tokio::test(flavor = "multi_thread")]
async fn refused_before_data() {
    let sink = Sink::start().await;
    let hop = build(&sink).start().await;
    let mut client = hop.client().await;
    let reply = say(&mut client, &["EHLO client.test", "FROB"]).await;
    Row { name: "an unknown command", hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;

    for (name, line, says) in [
        ("MAIL refused by the next hop", "MAIL FROM:<bounce@vendor.test>", "550 5.1.8 no such sender"),
        ("every RCPT refused", "RCPT TO:<bob@corp.example>", "550 5.1.1 no such reader"),
        ("421 of the next hop to MAIL", "MAIL FROM:<bounce@vendor.test>", "421 4.3.2 stopping"),
    ] {
        let sink = Sink::start().await;
        let hop = build(&sink).start().await;
        sink.on(line, Act::Say(says.into()));
        let mut client = hop.client().await;
        client.greet().await;
        let mut reply = client.say(MAIL).await;
        if reply.starts_with("250") {
            reply = client.say(RCPT).await;
            assert!(client.say("DATA").await.starts_with("554 5.5.1"), "{name}: nobody is left");
            client.say("RSET").await;
        }
        Row { name, hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;
    }

    let sink = Sink::start().await;
    let hop = build(&sink).start().await;
    sink.on("RCPT TO:<ann@corp.example>", Act::Say("550 5.1.1 no such reader".into()));
    let mut client = hop.client().await;
    client.greet().await;
    say(&mut client, &[MAIL, "RCPT TO:<ann@corp.example>", RCPT, "DATA"]).await;
    client.raw(&stuffed(&exempt())).await;
    let reply = client.reply().await;
    Row { name: "some RCPT refused", hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_before_the_end() {
    let sink = Sink::start().await;
    let hop = build(&sink).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    let reply = say(&mut client, &[MAIL, RCPT, "RSET"]).await;
    Row { name: "RSET", hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;

    for (name, lines, data) in
        [("gone before DATA", &[MAIL, RCPT][..], &b""[..]), ("gone in DATA", &[MAIL, RCPT, "DATA"], b"From: a@b.test\r\n")]
    {
        let sink = Sink::start().await;
        let hop = build(&sink).start().await;
        let mut client = hop.client().await;
        client.greet().await;
        say(&mut client, lines).await;
        client.raw(data).await;
        drop(client);
        poll("the session ends", || (hop.server.open_sessions() == 0).then_some(())).await;
        Row { name, hop: &hop, sink: &sink, reply: String::new(), client: None }.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_data() {
    for (name, act) in [
        ("accepted", None),
        ("gone after the dot", None),
        ("4xx of the next hop", Some(Act::Say("451 4.3.0 later".into()))),
        ("5xx of the next hop", Some(Act::Say("550 5.7.1 no".into()))),
        ("421 of the next hop to the dot", Some(Act::Say("421 4.3.2 stopping".into()))),
        ("the next hop hangs up after the dot", Some(Act::HangUp)),
    ] {
        let sink = Sink::start().await;
        let hop = build(&sink).start().await;
        if let Some(act) = act {
            sink.on(DOT, act);
        }
        let mut client = hop.client().await;
        client.greet().await;
        say(&mut client, &[MAIL, RCPT, "DATA"]).await;
        client.raw(&stuffed(&exempt())).await;
        if name == "gone after the dot" {
            drop(client);
            sink.mail(1).await;
            Row { name, hop: &hop, sink: &sink, reply: String::new(), client: None }.check().await;
            continue;
        }
        let reply = client.reply().await;
        Row { name, hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;
    }
}

/// Mails that go on while they come in, decided about by their header.
#[tokio::test(flavor = "multi_thread")]
async fn large_mails() {
    for (name, act, rest) in [
        ("large: accepted", None, &b""[..]),
        ("large: gone in the data", None, b""),
        ("large: 4xx of the next hop in the data", Some(Act::Say("452 4.3.1 disk full".into())), b""),
        ("large: the next hop hangs up in the data", Some(Act::HangUp), b""),
        ("large: an LF alone in the data", None, b"a\nb\r\n"),
        ("large: over size_limit", None, &b"0123456789\r\n".repeat(10_000)),
    ] {
        let sink = Sink::start().await;
        let limits = |config: &mut firstclick::smtp::config::Config| (config.inspect_limit, config.size_limit) = (10_000, 100_000);
        let hop = build(&sink).with(limits).start().await;
        if let Some(act) = &act {
            sink.on(IN_DATA, act.clone());
        }
        let mut client = hop.client().await;
        client.greet().await;
        say(&mut client, &[MAIL, RCPT, "DATA"]).await;
        client.raw(&[exempt(), b"0123456789\r\n".repeat(2_000)].concat()).await;
        poll("DATA", || sink.lines().iter().any(|line| line == "DATA").then_some(())).await;
        if name == "large: gone in the data" {
            drop(client);
            poll("the session ends", || (hop.server.open_sessions() == 0).then_some(())).await;
            Row { name, hop: &hop, sink: &sink, reply: String::new(), client: None }.check().await;
            continue;
        }
        poll(name, || (act.is_none() || sink.has_acted()).then_some(())).await;
        client.raw(&[rest, b".\r\n"].concat()).await;
        let reply = client.reply().await;
        Row { name, hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hops_own_refusals() {
    let sink = Sink::start().await;
    let hop = build(&sink).with(|config| config.bounds.memory = 1).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    let large = [exempt(), b"x\r\n".repeat(100_000)].concat();
    say(&mut client, &[MAIL, RCPT, "DATA"]).await;
    client.raw(&stuffed(&large)).await;
    let reply = client.reply().await;
    Row { name: "own 4xx after the dot", hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;

    let sink = Sink::start().await;
    let hop = build(&sink).with(|config| config.bare_line_endings = BareLineEndings::Reject).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    say(&mut client, &[MAIL, RCPT, "DATA"]).await;
    client.raw(&stuffed(&[exempt(), b"a\nb\r\n".to_vec()].concat())).await;
    let reply = client.reply().await;
    Row { name: "own 5xx after the dot", hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;

    // Bounds come before effects: a looping mail spends nothing.
    let sink = Sink::start().await;
    let hop = build(&sink).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    say(&mut client, &[MAIL, RCPT, "DATA"]).await;
    client.raw(&stuffed(&[b"Received: x\r\n".repeat(200), exempt()].concat())).await;
    let reply = client.reply().await;
    Row { name: "a looping mail", hop: &hop, sink: &sink, reply, client: Some(client) }.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_the_mail_its_exemption_and_nothing_else() {
    for (name, fault) in [
        ("a panic while deciding", FaultPoint::Identity),
        ("a panic while reading the body", FaultPoint::Body),
        ("a panic while editing", FaultPoint::Edits),
        ("a panic while reading the header", FaultPoint::Header),
        ("a panic once it is decided", FaultPoint::Delivery),
    ] {
        let sink = Sink::start().await;
        let hop = build(&sink).failing(fault).start().await;
        let mut client = hop.client().await;
        client.greet().await;
        say(&mut client, &[MAIL, RCPT, "DATA"]).await;
        let forged = [b"X-Firstclick: forged\r\n".to_vec(), exempt()].concat();
        client.raw(&stuffed(&forged)).await;
        let reply = client.reply().await;
        if reply.starts_with("250") {
            let arrived = sink.mail(1).await.data;
            assert!(!String::from_utf8_lossy(&arrived).contains("forged"), "{name}: forged fields go all the same");
        }
        poll("the session", || (!reply.is_empty() || hop.server.open_sessions() == 0).then_some(())).await;
        // Every mail of this hop fails, so there is no probe.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap_or_else(|| panic!("{name}"));
        let wanted: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let row = Row { name, hop: &hop, sink: &sink, reply, client: None };
        poll(name, || ([row.reply(), row.record()] == wanted[1..3]).then_some(())).await;
    }
}

/// The same with the program itself; CI tries the release too, where a panic must not abort.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_no_program() {
    for fault in ["identity", "body", "edits", "header", "delivery"] {
        let sink = Sink::start().await;
        let folder = Folder::new(
            &format!("next_hop = \"{}\"", sink.address),
            "[identity]\nverify = \"upstream\"\nauthserv_ids = [\"mx.corp.example\"]\ntrusted_upstreams = [\"127.0.0.0/8\"]\n",
        );
        fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
        let process = folder.run_after(&format!("export FIRSTCLICK_FAULT={fault}")).await;
        for mail in [exempt(), PROBE.to_vec()] {
            let mut client = Client::connect(process.address).await;
            client.greet().await;
            let reply = client.send(FROM, &[BOB], &mail).await;
            let wanted = match fault {
                "header" => "451 4.3.0",
                "delivery" => "",
                _ => "250",
            };
            assert!(reply.starts_with(wanted) && (wanted.is_empty() == reply.is_empty()), "{fault}: {reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_by_the_end_of_a_drain() {
    let sink = Sink::start().await;
    let mut hop = build(&sink).with(|config| config.deadlines.drain = Duration::from_millis(300)).start().await;
    sink.on(DOT, Act::Nothing);
    let mut client = hop.client().await;
    client.greet().await;
    say(&mut client, &[MAIL, RCPT, "DATA"]).await;
    client.raw(&stuffed(&exempt())).await;
    poll("the mail is on record", || read_records(&hop.audit).iter().any(|record| record["type"] == "mail").then_some(())).await;
    hop.stop();
    let reply = client.reply().await;
    Row { name: "cut by the end of a drain", hop: &hop, sink: &sink, reply, client: None }.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_milter() {
    let way = Way { client: "127.0.0.1", from: FROM, to: &[BOB], piece: 10_000 };
    let told = |name: &'static str| async move {
        let sink = Sink::start().await;
        let hop = build(&sink).start().await;
        let mut mta = Mta::connect(hop.milter().await).await;
        mta.greet(way.client).await;
        if name == "milter: accepted" {
            assert_eq!(mta.mail(way, &exempt()).await.verdict, 'a');
        } else {
            mta.raw(&frame(b'M', format!("{FROM}\0").as_bytes())).await;
            mta.raw(&frame(b'R', format!("{BOB}\0").as_bytes())).await;
            if name == "milter: aborted" {
                mta.raw(&frame(b'A', b"")).await;
            }
        }
        drop(mta);
        Row { name, hop: &hop, sink: &sink, reply: String::new(), client: None }.check().await;
    };
    for name in ["milter: accepted", "milter: aborted", "milter: the MTA is gone"] {
        told(name).await;
    }
}
