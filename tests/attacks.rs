//! Attacks as data: `tests/attacks/*.toml`, a table a group. A new case is new lines and no code.
//!
//! Each case takes a genuine mail, changes it, signs it with keys made here, and sends it through the real hop, which asks
//! a DNS served here. What must be: the hop's reply, no tag at the next hop, the mail's octets as they were sent, and an
//! audit record that names the check that stopped it. The genuine twin goes along with every case and is tagged, so that
//! a case that stops everything fails too.
//!
//! ```toml
//! [[case]]
//! id = "F1"
//! what = "in words"
//! base = "plain"                      # or "html"
//! replace = [["from", "to"]]          # before signing; each must be found
//! head = "X: y\r\n"                   # put on top before signing
//! signatures = [{ d = "bank.test" }]  # topmost first; h, tags, s; [] for none; left out: one of bank.test
//! after = [["from", "to"]]            # after signing
//! seals = [{ d = "list.test" }]      # ARC sets, oldest first, over what `after` made of the mail
//! broken = [["from", "to"]]           # after sealing
//! top = "X: y\r\n"                    # put on top after signing
//! mail_from = "<a@attack.test>"
//! rcpt = ["<bob@corp.example>"]
//! variants = ["a", "b"]               # the case once for each, which stands for {V}
//! expect = "identity"                 # the check that stops it; "tagged" where none may
//! reply = "250"
//! ```

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

use std::{collections::BTreeMap, fs, path::Path};

use firstclick::{message::Message, testbed::Zone};
use serde::Deserialize;

use self::hop::{
    Client, Hop, Sink,
    dkim::{ArcSigner, Key, Signing},
    hop, is_tagged,
    mta::{Mta, Way},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "case")]
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    what: String,
    #[serde(default = "plain")]
    base: String,
    #[serde(default)]
    replace: Vec<[String; 2]>,
    #[serde(default)]
    head: String,
    signatures: Option<Vec<Signing>>,
    #[serde(default)]
    after: Vec<[String; 2]>,
    #[serde(default)]
    seals: Vec<ArcSigner>,
    #[serde(default)]
    broken: Vec<[String; 2]>,
    #[serde(default)]
    top: String,
    #[serde(default = "bounce")]
    mail_from: String,
    #[serde(default = "bob")]
    rcpt: Vec<String>,
    #[serde(default)]
    variants: Vec<String>,
    expect: String,
    #[serde(default = "accepted")]
    reply: String,
}

fn plain() -> String {
    "plain".into()
}

fn bounce() -> String {
    "<bounce@bank.test>".into()
}

fn bob() -> Vec<String> {
    vec!["<bob@corp.example>".into()]
}

fn accepted() -> String {
    "250".into()
}

const ENTRY: &str = r#"
from = ["bank.test", "*.wild.bank.test", "two.test", "bank.nodmarc", "fail.test", "large.test", "strict.test", "co.uk", "xn--bcher-kva.test"]
other_links = ["www.bank.test", "help.bank.test"]
recipients = ["*@corp.example"]
limit = "unlimited"
owner = "it@corp.example"
action = "tag"
[links]
password_reset = ["login.bank.test/reset/{token}"]
"#;

/// A genuine mail; `{n}` makes each its own.
fn base(name: &str, number: usize) -> String {
    let date = firstclick::clock::rfc5322(firstclick::clock::now());
    let head = format!(
        "From: Bank <support@bank.test>\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nDate: {date}\r\nMessage-ID: <{number}@bank.test>\r\nMIME-Version: 1.0\r\n"
    );
    let token = format!("6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c{number:04x}");
    match name {
        "plain" => format!(
            "{head}Content-Type: text/plain; charset=utf-8\r\n\r\nYou asked to reset your password. Open this link to choose a new one:\r\n\r\n\
             https://login.bank.test/reset/{token}\r\n\r\nThe link works once.\r\n\r\nhttps://www.bank.test/\r\n"
        ),
        "html" => format!(
            "{head}Content-Type: multipart/alternative; boundary=\"b1\"\r\n\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
             You asked to reset your password. Open this link to choose a new one:\r\nhttps://login.bank.test/reset/{token}\r\n\r\n\
             --b1\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>You asked to reset your password.</p>\r\n\
             <p><a href=\"https://login.bank.test/reset/{token}\">Reset your password</a></p>\r\n<p><a href=\"https://www.bank.test/\">Bank</a></p>\r\n\
             </body></html>\r\n\r\n--b1--\r\n"
        ),
        other => panic!("no base {other}"),
    }
}

fn octets(text: &str) -> String {
    // TOML has no \0 in basic strings, and long runs are better named than written.
    let mut out = text.replace("{NUL}", "\0").replace("{BOUNDARY}", &"b".repeat(1_000));
    while let Some(at) = out.find("{REPEAT ") {
        let rest = &out[at + 8..];
        let (count, rest) = rest.split_once(' ').unwrap();
        let (what, rest) = rest.split_once("}}").unwrap();
        out = format!("{}{}{rest}", &out[..at], what.repeat(count.parse().unwrap()));
    }
    out
}

struct Bench {
    key: Key,
    hop: Hop,
    sink: Sink,
    client: Client,
    sent: usize,
    /// Mails that went through, each with its record.
    relayed: usize,
    /// The same entry behind a milter, and mails that it was told.
    _by_milter: Hop,
    mta: Mta,
    told: usize,
}

impl Bench {
    fn build(&self, case: &Case, variant: &str) -> Vec<u8> {
        let fill = |text: &str| octets(&text.replace("{V}", variant));
        let mut mail = base(&fill(&case.base), self.sent);
        for [from, to] in &case.replace {
            let (from, to) = (fill(from), fill(to));
            assert!(mail.contains(&from), "{}: {from:?} is not in the mail", case.id);
            mail = mail.replacen(&from, &to, 1);
        }
        mail.insert_str(0, &fill(&case.head));
        let own = [Signing::default()];
        let signatures = case.signatures.as_deref().unwrap_or(&own);
        for signing in signatures.iter().rev() {
            mail = self.key.sign(&signing.filled(&fill), &mail);
        }
        for [from, to] in &case.after {
            let (from, to) = (fill(from), fill(to));
            assert!(mail.contains(&from), "{}: {from:?} is not in the signed mail", case.id);
            mail = mail.replacen(&from, &to, 1);
        }
        for sealing in &case.seals {
            mail = self.key.seal(&sealing.filled(&fill), &mail);
        }
        for [from, to] in &case.broken {
            let (from, to) = (fill(from), fill(to));
            assert!(mail.contains(&from), "{}: {from:?} is not in the sealed mail", case.id);
            mail = mail.replacen(&from, &to, 1);
        }
        mail.insert_str(0, &fill(&case.top));
        mail.into_bytes()
    }

    /// Sends a mail; what the hop said, and what arrived, where anything did.
    async fn send(&mut self, from: &str, rcpt: &[String], mail: &[u8]) -> (String, Option<Vec<u8>>) {
        self.sent += 1;
        let before = self.sink.mails().len();
        let rcpt: Vec<&str> = rcpt.iter().map(String::as_str).collect();
        let reply = self.client.send(from, &rcpt, mail).await;
        if !reply.starts_with("250") {
            self.client.say("RSET").await;
            return (reply, None);
        }
        self.relayed += 1;
        (reply, Some(self.sink.mail(before + 1).await.data))
    }

    /// What stopped a case, or what went wrong.
    async fn play(&mut self, case: &Case, variant: &str) -> Result<String, String> {
        let name = if variant.is_empty() { case.id.clone() } else { format!("{} {variant:?}", case.id) };
        let twin = self.key.sign(&Signing::default(), &base(case.base.replace("{V}", variant).as_str(), self.sent));
        let (_, arrived) = self.send("<bounce@bank.test>", &bob(), twin.as_bytes()).await;
        assert!(is_tagged(&arrived.expect("the twin is relayed")), "{name}: the genuine twin is not exempted");

        let mail = self.build(case, variant);
        let (reply, arrived) = self.send(&case.mail_from, &case.rcpt, &mail).await;
        assert!(reply.starts_with(&case.reply), "{name}: {reply}");
        let Some(arrived) = arrived else { return Ok(format!("refused: {}", reply.trim_end())) };
        let record = self.hop.record(self.relayed).await;
        let stopped = record["reasons"].as_array().unwrap().iter().find(|reason| reason["ok"] == false);
        let detail = stopped
            .map_or_else(String::new, |reason| format!("{}: {}", reason["check"].as_str().unwrap(), reason["detail"].as_str().unwrap()));
        self.told += 1;
        let rcpt: Vec<&str> = case.rcpt.iter().map(String::as_str).collect();
        let told = self.mta.mail(Way { client: "127.0.0.1", from: &case.mail_from, to: &rcpt, piece: 65_535 }, &mail).await;
        if is_tagged(&told.mail) != (case.expect == "tagged") {
            return Err(format!("{name}: by the milter, expected {}: {detail}", case.expect));
        }
        if case.expect == "tagged" {
            return if is_tagged(&arrived) { Ok("exempted".into()) } else { Err(format!("{name}: not exempted, {detail}")) };
        }
        // A header of ours in the mail is a tag, or a forgery that was left in.
        if Message::read(&arrived).headers().named("X-Firstclick").next().is_some() || record["decision"] == "act" {
            return Err(format!("{name}: exempted"));
        }
        let Some(stopped) = stopped else { return Err(format!("{name}: nothing stopped it")) };
        let check = stopped["check"].as_str().unwrap();
        if !case.expect.split('|').any(|expected| expected == check) {
            return Err(format!("{name}: expected {}, stopped by {detail}", case.expect));
        }
        assert!(detail.len() > check.len() + 5, "{name}: the check says nothing: {detail}");
        let kept: Vec<u8> = {
            let message = Message::read(&mail);
            firstclick::edit::apply(&mail, &hop::tagger().removals(message.headers())).unwrap()
        };
        assert!(arrived == kept, "{name}: the mail's octets were changed");
        Ok(detail)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attack_is_exempted_and_every_twin_is() {
    let zone = Zone::serve().await.unwrap();
    let key = Key::make();
    for domain in [
        "bank.test",
        "attack.test",
        "list.test",
        "gateway.test",
        "test",
        "a.wild.bank.test",
        "two.test",
        "bank.nodmarc",
        "fail.test",
        "large.test",
        "strict.test",
        "mail.strict.test",
        "mail.bank.test",
        "co.uk",
        "evil.co.uk",
        "xn--bcher-kva.test",
    ] {
        key.publish(&zone, domain);
    }
    zone.publish("testing._domainkey.bank.test", format!("v=DKIM1; k=rsa; t=y; p={}", key.public()));
    zone.publish("revoked._domainkey.bank.test", "v=DKIM1; k=rsa; p=");
    zone.publish("_dmarc.strict.test", "v=DMARC1; p=reject; adkim=s");
    zone.publish_several("_dmarc.two.test", &["v=DMARC1; p=reject", "v=DMARC1; p=none"]);
    zone.withdraw("_dmarc.bank.nodmarc");
    zone.fail("s1._domainkey.fail.test");
    zone.publish("s1._domainkey.large.test", format!("v=DKIM1; k=rsa; n={}; p={}", "x".repeat(60_000), key.public()));
    let sink = Sink::start().await;
    let entry = || hop().allow("bank", ENTRY).asking(&zone).sealed_by(&["list.test", "gateway.test"]);
    let (by_milter, hop) = (entry().start().await, entry().next_hop(&sink).start().await);
    let mut client = hop.client().await;
    client.greet().await;
    let mut mta = Mta::connect(by_milter.milter().await).await;
    mta.greet("127.0.0.1").await;
    let mut bench = Bench { key, hop, sink, client, sent: 0, relayed: 0, _by_milter: by_milter, mta, told: 0 };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures: Vec<String> = Vec::new();
    println!("{:5} {:72} what stopped it", "", "attack");
    for file in files {
        let table: Table =
            toml::from_str(&fs::read_to_string(&file).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for case in table.cases {
            let variants = if case.variants.is_empty() { vec![String::new()] } else { case.variants.clone() };
            for variant in variants {
                let outcome = bench.play(&case, &variant).await.unwrap_or_else(|wrong| {
                    failures.push(wrong);
                    "WRONG".into()
                });
                let what: String = format!("{} {variant}", case.what).escape_debug().to_string().chars().take(72).collect();
                println!("{:5} {what:72} {}", case.id, outcome.chars().take(110).collect::<String>());
                *rows.entry(case.id.clone()).or_default() += 1;
            }
        }
    }
    for row in (1..=27).map(|number| format!("F{number}")).chain((1..=14).map(|number| format!("M{number}"))) {
        assert!(rows.contains_key(&row) || ELSEWHERE.contains(&row.as_str()), "{row} of attacks.md has no case");
    }
    println!("{} rows, {} cases", rows.len(), rows.values().sum::<usize>());
    assert!(failures.is_empty(), "{} cases are wrong:\n{}", failures.len(), failures.join("\n"));
}

/// Rows that need more than one mail, or another hop: they are tests of their own in tests/exempt.rs.
const ELSEWHERE: &[&str] = &["F20", "F21"];

/// F18: a signature that dkimpy makes with SHA-1, and its twin with SHA-256.
#[tokio::test(flavor = "multi_thread")]
async fn f18_rsa_sha1_is_no_proof() {
    let zone = Zone::serve().await.unwrap();
    let key = Key::make();
    key.publish(&zone, "bank.test");
    let sink = Sink::start().await;
    let hop = hop().allow("bank", ENTRY).asking(&zone).next_hop(&sink).start().await;
    for (count, algorithm) in ["rsa-sha256", "rsa-sha1"].into_iter().enumerate() {
        let Some(mail) = hop::dkimpy_signs(&base("plain", count), &key.pem(), algorithm) else { return };
        assert!(hop.send("<bounce@bank.test>", &["<bob@corp.example>"], &mail).await.starts_with("250"));
        let tagged = is_tagged(&sink.mail(count + 1).await.data);
        assert_eq!(tagged, algorithm == "rsa-sha256", "{algorithm}: {}", hop.record(count + 1).await);
    }
}
