//! Mails and senders of public reports, by their numbers: what is decided about them, by the hop and by `explain` alike.
//! The mails stand in `tests/fixtures/reports`. [`COVERED`] says where each report is tried.

use std::{fs, path::Path};

use firstclick::testbed::Zone;
use serde_json::Value;

use crate::hop::{
    Hop, Sink,
    dkim::Key,
    hop, is_tagged,
    page::{URL, guard_links},
    process::Folder,
};

/// Each report, a file that tries it, and what stands there.
const COVERED: &[(&str, &str, &str)] = &[
    ("A06g", "tests/suite/edits.rs", "\"A06g\""),
    ("A06g", "tests/suite/public_reports.rs", "mail: \"A06g\""),
    ("A09g", "tests/suite/edits.rs", "\"A09g\""),
    ("A09g", "tests/suite/public_reports.rs", "mail: \"A09g\""),
    ("A100", "tests/suite/public_reports.rs", "fn a100_"),
    ("A10g", "tests/suite/edits.rs", "\"A10g\""),
    ("A10g", "tests/suite/public_reports.rs", "mail: \"A10g\""),
    ("A14", "tests/suite/public_reports.rs", "fn a14_"),
    ("A20", "tests/suite/recognised_mails.rs", "\"A20\""),
    ("A20", "tests/suite/public_reports.rs", "mail: \"A20\""),
    ("A21", "tests/suite/recognised_mails.rs", "\"A21\""),
    ("A21", "tests/suite/public_reports.rs", "mail: \"A21\""),
    ("A25", "tests/suite/recognised_mails.rs", "\"A25\""),
    ("A25", "tests/suite/public_reports.rs", "mail: \"A25\""),
    ("A31", "tests/suite/recognised_mails.rs", "\"A31\""),
    ("A31", "tests/suite/public_reports.rs", "mail: \"A31\""),
    ("A37g", "tests/suite/edits.rs", "\"A37g\""),
    ("A37g", "tests/suite/public_reports.rs", "mail: \"A37g\""),
    ("A47", "tests/suite/public_reports.rs", "mail: \"A47\""),
    ("A48", "tests/suite/recognised_mails.rs", "\"A48\""),
    ("A48", "tests/suite/public_reports.rs", "mail: \"A48\""),
    ("A62", "tests/suite/recognised_mails.rs", "\"A62\""),
    ("A62", "tests/suite/public_reports.rs", "mail: \"A62\""),
    ("A63", "tests/suite/recognised_mails.rs", "\"A63\""),
    ("A63", "tests/suite/public_reports.rs", "mail: \"A63\""),
    ("A71g", "tests/suite/edits.rs", "\"A71g\""),
    ("A71g", "tests/suite/public_reports.rs", "mail: \"A71g\""),
    ("A73g", "tests/suite/edits.rs", "\"A73g\""),
    ("A73g", "tests/suite/public_reports.rs", "mail: \"A73g\""),
    ("A85", "tests/suite/edits.rs", "\"A85\""),
    ("A85", "tests/suite/public_reports.rs", "mail: \"A85\""),
    ("A94", "tests/suite/edits.rs", "\"A94\""),
    ("A94", "tests/suite/public_reports.rs", "mail: \"A94\""),
    ("A96", "tests/suite/edits.rs", "\"A96\""),
    ("A96", "tests/suite/public_reports.rs", "mail: \"A96\""),
    ("B06", "tests/suite/identity.rs", "B06: "),
    ("B06", "tests/suite/public_reports.rs", "(\"B06\""),
    ("B07", "tests/suite/identity.rs", "B07: "),
    ("B07", "tests/suite/public_reports.rs", "(\"B07\""),
    ("B07c", "tests/suite/identity.rs", "B07c: "),
    ("B07c", "tests/suite/public_reports.rs", "(\"B07c\""),
    ("B106", "tests/dialogues/s7-reply-long-final.txt", "B106"),
    ("B145", "tests/suite/identity_upstream.rs", "B145: "),
    ("B145", "tests/suite/public_reports.rs", "fn b145_"),
    ("B189", "tests/suite/identity_upstream.rs", "B189: "),
    ("B192", "tests/suite/identity.rs", "B192: "),
    ("B192", "tests/suite/public_reports.rs", "(\"B192\""),
    ("B193", "tests/suite/identity.rs", "B193: "),
    ("B193", "tests/suite/public_reports.rs", "(\"B193\""),
    ("B215", "tests/suite/identity.rs", "let exim = "),
    ("B215", "tests/suite/public_reports.rs", "(\"B215\""),
    ("B227", "tests/suite/identity.rs", "let notqmail = "),
    ("B227", "tests/suite/public_reports.rs", "(\"B227\""),
    ("B25e", "tests/suite/identity.rs", "B25e: "),
    ("B25e", "tests/suite/public_reports.rs", "(\"B25e\""),
    ("B44", "tests/suite/identity.rs", "B44, "),
    ("B44", "tests/suite/public_reports.rs", "(\"B44\""),
    ("B74", "tests/dialogues/s7-helo-after-502.txt", "B74"),
    ("B75", "tests/dialogues/s7-reply-bare-everywhere.txt", "B75"),
    ("B75a", "tests/dialogues/s7-reply-bare-greeting.txt", "B75a"),
    ("B75f", "tests/dialogues/s7-reply-bare-last-of-ehlo.txt", "B75f"),
];

#[test]
fn every_report_is_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (report, file, mark) in COVERED {
        let text = fs::read_to_string(root.join(file)).unwrap();
        // Of this file what stands behind the table.
        let text = if *file == "tests/suite/public_reports.rs" { text.split_once("#[test]").unwrap().1 } else { &text };
        assert!(text.contains(mark), "{report}: {mark} stands no longer in {file}");
    }
    if let Some(table) = crate::hop::shared("cases/public-reports.tsv") {
        let table = fs::read_to_string(table).unwrap();
        for report in table.lines().skip(1).filter_map(|line| line.split('\t').next()) {
            assert!(COVERED.iter().any(|(known, ..)| *known == report), "{report} is tried nowhere");
        }
    }
}

/// A mail of the reports, as it was sent.
fn reported(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reports").join(format!("{name}.eml"));
    String::from_utf8(firstclick::message::as_sent(fs::read(path).unwrap())).unwrap()
}

/// The mail as the upstream hands it over: proven.
fn arc_signed(mail: &str) -> String {
    let author = if mail.contains("@bank.test") { "bank.test" } else { "acme.test" };
    let results = format!("Authentication-Results: mx.corp.example; dkim=pass header.d={author}; dmarc=pass header.from={author}\r\n");
    let covered = crate::hop::told_signature(author).replace(":content-type;", ":content-type:content-transfer-encoding;");
    format!("{results}{covered}{mail}")
}

/// What the hop and `explain` say of one mail.
struct Told {
    /// `act`, `pass` or `near_miss`.
    decision: String,
    kind: String,
    links: Vec<String>,
    /// The check that did not hold.
    stopped_by: String,
    /// Why.
    why: String,
    flaws: Vec<String>,
    /// The mail as it left.
    arrived: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn stopped_by(record: &Value) -> String {
    record["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .find(|reason| reason["ok"] == false)
        .map_or_else(String::new, |reason| text(&reason["check"]))
}

/// Sends the mail through the hop, asks `explain` too, and holds that both say the same and that what `explain` writes is what
/// left.
async fn told(entry: &str, mail: &str) -> Told {
    let raw = arc_signed(mail);
    let folder = Folder::new(
        "next_hop = \"127.0.0.1:1\"",
        &format!(
            "[identity]\nverify = \"upstream\"\nauthserv_ids = [\"mx.corp.example\"]\ntrusted_upstreams = [\"127.0.0.0/8\"]\n\
             [guard]\nurl = \"{URL}\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\nproxies = [\"127.0.0.0/8\"]"
        ),
    );
    let text_of_entry = format!("from = [\"acme.test\", \"bank.test\"]\nowner = \"it@corp.example\"\nlimit = \"unlimited\"\n{entry}");
    fs::write(folder.path("guard.key"), "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n").unwrap();
    fs::write(folder.path("allow.d/acme.toml"), &text_of_entry).unwrap();
    fs::write(folder.path("mail.eml"), &raw).unwrap();
    let (mail_file, out_file) = (folder.path("mail.eml"), folder.path("out.eml"));
    let (mail_file, out_file) = (mail_file.to_str().unwrap(), out_file.to_str().unwrap());
    let (said, complained, code) =
        folder.command(&["explain", "--json", "--show-links", "--rcpt", "bob@corp.example", "--out", out_file, mail_file]);
    assert_eq!((complained.as_str(), code), ("", Some(0)), "{said}");
    let view: Value = serde_json::from_str(&said).unwrap();

    let sink = Sink::start().await;
    let hop: Hop =
        hop().allow("acme", &text_of_entry).trusting_upstream("mx.corp.example").with_guard(guard_links(URL)).next_hop(&sink).start().await;
    assert!(hop.send("<bounce@acme.test>", &["<bob@corp.example>"], raw.as_bytes()).await.starts_with("250"));
    let arrived = String::from_utf8(sink.mail(1).await.data).unwrap();
    let record = hop.record(1).await;
    assert_eq!(view["decision"], record["decision"], "explain and the hop");
    assert_eq!(stopped_by(&view), stopped_by(&record), "explain and the hop");
    assert_eq!(view["actions"], record["actions"], "explain and the hop");
    let acted = view["decision"] == "act";
    assert_eq!(is_tagged(arrived.as_bytes()), acted && entry.contains("tag"), "{arrived}");
    if !acted {
        assert!(arrived == raw && fs::read_to_string(out_file).unwrap() == raw, "an ordinary mail is not changed");
    }
    let strings = |value: &Value| value.as_array().unwrap().iter().map(text).collect();
    Told {
        decision: text(&view["decision"]),
        kind: text(&view["kind"]),
        links: strings(&view["one_time_links"]),
        stopped_by: stopped_by(&view),
        why: view["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .find(|reason| reason["ok"] == false)
            .map_or_else(String::new, |reason| text(&reason["detail"])),
        flaws: strings(&view["flaws"]),
        arrived,
    }
}

/// A report that is to be exempted.
struct Report {
    mail: &'static str,
    /// Kind and shape, or what else decides.
    entry: &'static str,
    kind: &'static str,
    /// How many one-time links there are, each in its spelling.
    links: usize,
}

const WORDS: &str = "decide_by = \"words\"\nmails = [\"password_reset\", \"magic_link\", \"email_verify\", \"invite\"]\n";

const ACTS: &[Report] = &[
    Report {
        mail: "A06g",
        entry: "action = \"guard\"\n[links]\npassword_reset = [\"shop.acme.test/wp-login.php?action=rp&key={token}&login={text}\"]",
        kind: "password_reset",
        links: 1,
    },
    Report {
        mail: "A09g",
        entry: "action = \"guard\"\n[links]\npassword_reset = [\"stats.acme.test/index.php?module=Login&action=confirmResetPassword&login={text}&resetToken={token}\"]",
        kind: "password_reset",
        links: 1,
    },
    Report {
        mail: "A10g",
        entry: "action = \"guard\"\n[links]\npassword_reset = [\"forum.acme.test/reset/{word}/{token}\"]",
        kind: "password_reset",
        links: 1,
    },
    Report {
        mail: "A37g",
        entry: "action = \"guard\"\n[links]\nmagic_link = [\"id.acme.test/signin/confirm/{token}/{word}\"]",
        kind: "magic_link",
        links: 2,
    },
    Report {
        mail: "A71g",
        entry: "action = \"guard\"\n[links]\ninvite = [\"app.acme.test/invites/{token}/{word}\"]",
        kind: "invite",
        links: 2,
    },
    Report {
        mail: "A73g",
        entry: "action = \"guard\"\n[links]\npassword_reset = [\"login.acme.test/reset/{token}\"]",
        kind: "password_reset",
        links: 2,
    },
    Report { mail: "A20", entry: "action = \"tag\"\nother_links = [\"app.acme.test/\"]\n{WORDS}", kind: "magic_link", links: 1 },
    Report { mail: "A21", entry: "action = \"tag\"\nother_links = [\"app.acme.test/\"]\n{WORDS}", kind: "magic_link", links: 1 },
    Report { mail: "A25", entry: "action = \"tag\"\n{WORDS}", kind: "password_reset", links: 1 },
    Report { mail: "A31", entry: "action = \"tag\"\n{WORDS}", kind: "password_reset", links: 1 },
    Report { mail: "A48", entry: "action = \"tag\"\n{WORDS}", kind: "invite", links: 1 },
    Report {
        mail: "A62",
        entry: "action = \"tag\"\nother_links = [\"www.acme.test\"]\n[links]\npassword_reset = [\"login.acme.test/reset/{token}\"]",
        kind: "password_reset",
        links: 1,
    },
    Report {
        mail: "A63",
        entry: "action = \"tag\"\nother_links = [\"www.acme.test/help\"]\n[links]\npassword_reset = [\"login.acme.test/reset/{token}\"]",
        kind: "password_reset",
        links: 1,
    },
    Report {
        mail: "A85",
        entry: "action = [\"unwrap\", \"tag\"]\n[links]\npassword_reset = [\"login.acme.test/reset/{token}\"]",
        kind: "password_reset",
        links: 1,
    },
    Report {
        mail: "A94",
        entry: "action = [\"unwrap\", \"tag\"]\n[links]\npassword_reset = [\"login.acme.test/reset/{token}\"]",
        kind: "password_reset",
        links: 1,
    },
    Report {
        mail: "A96",
        entry: "action = [\"unwrap\", \"tag\"]\n[links]\npassword_reset = [\"login.acme.test/reset/{token}\"]",
        kind: "password_reset",
        links: 1,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_are_exempted() {
    let mut wrong = Vec::new();
    for report in ACTS {
        let told = told(&report.entry.replace("{WORDS}", WORDS), &reported(report.mail)).await;
        // A link that a scanner wrapped is told in both spellings: as it stands, and what it hides.
        let links = if report.entry.contains("unwrap") { told.links.len() / 2 } else { told.links.len() };
        if (told.decision.as_str(), told.kind.as_str(), links) != ("act", report.kind, report.links) {
            wrong.push(format!("{}: {} {} {:?} {} {:?}", report.mail, told.decision, told.kind, told.links, told.why, told.flaws));
        }
        if told.decision != "act" {
            continue;
        }
        if report.entry.contains("guard") {
            // Behind the guard page alone: no one-time link is left bare.
            for link in &told.links {
                let token = link.split(['/', '=', '&', '?']).max_by_key(|piece| piece.len()).unwrap();
                assert!(!told.arrived.contains(token), "{}: {token} is left in {}", report.mail, told.arrived);
            }
            assert!(told.arrived.replace("=\r\n", "").contains(URL), "{}", report.mail);
        }
        if report.entry.contains("unwrap") {
            for mark in ["urldefense", "safelinks", "[.]"] {
                assert!(!told.arrived.contains(mark), "{}: {mark} is left", report.mail);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A report that is not to be exempted.
struct Refused {
    mail: &'static str,
    entry: &'static str,
    /// Checks that may stop it.
    by: &'static [&'static str],
}

const RESET: &str = "action = \"tag\"\n[links]\npassword_reset = [\"login.bank.test/reset/{token}\"]";

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_are_not_exempted() {
    let refused = [
        Refused {
            mail: "A47",
            entry: "action = \"tag\"\nother_links = [\"accounts.acme.test\"]\n[links]\npassword_reset = [\"accounts.acme.test/password/reset?token={token}\"]",
            by: &["reading", "other_links"],
        },
        // Parts that programs read in different ways.
        Refused { mail: "min-mime-1", entry: RESET, by: &["reading"] },
        Refused { mail: "min-mime-1b", entry: RESET, by: &["reading"] },
        Refused { mail: "min-mime-2", entry: RESET, by: &["reading"] },
        Refused { mail: "min-mime-3", entry: RESET, by: &["reading"] },
    ];
    for report in refused {
        let told = told(report.entry, &reported(report.mail)).await;
        assert_ne!(told.decision, "act", "{}", report.mail);
        assert!(report.by.contains(&told.stopped_by.as_str()), "{}: {}", report.mail, told.stopped_by);
        assert!(!report.by.eq(&["reading"]) || !told.flaws.is_empty(), "{}", report.mail);
    }
    // The twin of the odd parts.
    let plain = reported("min-mime-1").replace("--faa", "--foo").replace("https://attack.test", "https://login.bank.test");
    let html = "<p>Reset your password</p>\r\n";
    let (before, after) = plain.split_once("Content-Transfer-Encoding: base64\r\n\r\n").unwrap();
    let twin = format!("{before}\r\n{html}{}", &after[after.find("--foo").unwrap()..]);
    assert_eq!(told(RESET, &twin).await.decision, "act", "{twin}");
}

/// A link that format=flowed joins is judged as a whole, never by its half.
#[tokio::test(flavor = "multi_thread")]
async fn a14_a_flowed_link_is_judged_whole() {
    let whole = "action = \"tag\"\nother_links = [\"accounts.acme.test\"]\n[links]\npassword_reset = [\"accounts.acme.test/password/reset?token={token}&email={email}&return={url}\"]";
    let half = "[links]\npassword_reset = [\"accounts.acme.test/password/reset?token={token}\"]";
    let told_half = told(&format!("action = \"tag\"\n{half}"), &reported("A14")).await;
    assert_ne!(told_half.decision, "act", "half of the link");
    // Where any page of the host may stand there, the whole link may, and neither reading is broken.
    let guarded = told(&format!("action = \"guard\"\nother_links = [\"accounts.acme.test\"]\n{half}"), &reported("A14")).await;
    assert_ne!(guarded.decision, "act", "half of the link would be replaced, and the rest stick to it: {}", guarded.arrived);
    // The whole link is the one-time link; what a program reads that does not join lines is judged with the others.
    let told_whole = told(whole, &reported("A14")).await;
    assert_eq!(told_whole.decision, "act", "{}", told_whole.why);
    assert!(told_whole.links.iter().all(|link| link.contains("&email=bob%40corp.example&return=")), "{:?}", told_whole.links);
    let guarded = told(&whole.replace("tag", "guard"), &reported("A14")).await;
    let token = "c1a9d03b7e5f2846a0b9c8d7e6f5a4b3";
    match guarded.decision.as_str() {
        "act" => assert!(!guarded.arrived.contains(token) && !guarded.arrived.contains("&email="), "{}", guarded.arrived),
        _ => assert_eq!(guarded.stopped_by, "edit", "{}", guarded.why),
    }
    // Its twin on one line.
    let twin = reported("A14").replace("2d3c \r\n&email", "2d3c&email");
    assert_eq!(told(whole, &twin).await.decision, "act");
}

/// Where guard cannot replace every place, nothing is done, and `explain` says what the hop does.
#[tokio::test(flavor = "multi_thread")]
async fn a100_an_edit_that_cannot_be_made_is_said() {
    let entry = ACTS[0].entry;
    let mail = reported("A06g");
    let token = "Xk29LmQz81PwVt7RbYcD";
    for (what, html) in [
        ("a picture that carries the value", format!("<img src=\"https://shop.acme.test/open.gif?key={token}\">")),
        ("a style that carries the value", format!("<p style=\"background:url(https://shop.acme.test/{token}.png)\">.</p>")),
    ] {
        let told = told(entry, &mail.replace("</body>", &format!("{html}</body>"))).await;
        assert_eq!((told.decision.as_str(), told.stopped_by.as_str()), ("pass", "edit"), "{what}: {:?}", told.flaws);
        assert!(told.arrived.contains(token) && !told.arrived.contains(URL), "{what}");
    }
    // The same mail with a tag alone, which needs no such edit.
    let tagged = told(&entry.replace("\"guard\"", "\"tag\""), &mail).await;
    assert_eq!(tagged.decision, "act");
}

const LINK: &str = "https://login.bank.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";

fn mail_from(domain: &str) -> String {
    let date = firstclick::clock::rfc5322(firstclick::clock::now());
    format!(
        "From: Bank <support@{domain}>\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nDate: {date}\r\nMessage-ID: <{}@{domain}>\r\n\r\n{LINK}\r\n",
        firstclick::clock::id()
    )
}

fn entry_for(from: &str, more: &str) -> String {
    format!("from = [{from}]\nowner = \"it@corp.example\"\nlimit = \"unlimited\"\n{more}{RESET}")
}

const H: &str = "from:to:subject:date:message-id";

/// Key records, signatures and policies that RFCs call invalid, each beside its valid twin.
#[tokio::test(flavor = "multi_thread")]
async fn senders_that_prove_nothing() {
    let zone = Zone::serve().await.unwrap();
    let key = Key::make();
    let p = key.public();
    let field = "v=1; a=rsa-sha256; d={d}; s=s1; h=from:to:subject:date:message-id; bh={bh}; b={b}";
    let plain = format!("v=DKIM1; k=rsa; p={p}");
    let policy = &["v=DMARC1; p=reject"][..];
    let rows = [
        ("B06", format!("v=DKIM1; s=tlsrpt; p={p}"), format!("v=DKIM1; s=email; p={p}"), field.to_owned(), policy),
        ("B07", format!("v=DKIM1; h=sha1; p={p}"), format!("v=DKIM1; h=sha1:sha256; p={p}"), field.to_owned(), policy),
        ("B07c", format!("k=rsa; v=DKIM1; p={p}"), plain.clone(), field.to_owned(), policy),
        ("B192", plain.clone(), plain.clone(), field.replace("a=rsa-sha256; ", ""), policy),
        ("B193", plain.clone(), plain.clone(), field.replace("v=1; ", ""), policy),
        ("B25e", plain.clone(), plain.clone(), field.to_owned(), &["v=DMARC1; p=reject", "v=DMARC1; p=none"]),
    ];
    let sink = Sink::start().await;
    let names: Vec<String> =
        (0..rows.len()).flat_map(|at| [format!("\"*@mail.wrong{at}.test\""), format!("\"*@mail.right{at}.test\"")]).collect();
    let hop = hop().allow("bank", &entry_for(&names.join(", "), "")).asking(&zone).next_hop(&sink).start().await;
    let mut sent = 0;
    for (at, (report, wrong, right, wrong_field, policies)) in rows.iter().enumerate() {
        for (name, record, tags, policies, exempted) in [
            (format!("wrong{at}.test"), wrong, wrong_field.as_str(), *policies, false),
            (format!("right{at}.test"), right, field, policy, true),
        ] {
            zone.publish(&format!("s1._domainkey.{name}"), record.clone());
            zone.publish_several(&format!("_dmarc.{name}"), policies);
            let signed = key.sign_field(&tags.replace("{d}", &name), H, None, &mail_from(&format!("mail.{name}")));
            assert!(hop.send(&format!("<bounce@{name}>"), &["<bob@corp.example>"], signed.as_bytes()).await.starts_with("250"));
            sent += 1;
            let arrived = sink.mail(sent).await.data;
            assert_eq!(is_tagged(&arrived), exempted, "{report}, {name}: {}", hop.record(sent).await);
        }
    }
}

/// Entries that rest on an address: what a stranger writes into HELO, behind Exim and notqmail, is not the client's address,
/// and two SPF records are none.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_prove_nothing() {
    let zone = Zone::serve().await.unwrap();
    zone.publish("bank.test", "v=spf1 ip4:192.0.2.10 ip4:127.0.0.1 -all");
    zone.publish_several("double.test", &["v=spf1 ip4:127.0.0.1 -all", "v=spf1 ip4:127.0.0.1 -all"]);
    let exim = "Received: from [198.51.100.66] (helo=[192.0.2.10])\r\n\tby mx.corp.example with esmtp (Exim 4.96)\r\n\t(envelope-from <a@bank.test>)\r\n\tid 1; Wed, 25 Nov 2026 14:00:00 +0000\r\n";
    let notqmail =
        "Received: from unknown (HELO [192.0.2.10]) (198.51.100.66)\r\n  by mx.corp.example with SMTP; Wed, 25 Nov 2026 14:00:00 +0000\r\n";
    let require = "require = { ip = [\"192.0.2.10\"], spf = true }\n";
    let own = "require = { ip = [\"127.0.0.1\"], spf = true }\n";
    for (report, received, domain, upstream, require, exempted) in [
        ("B215", exim, "bank.test", true, require, false),
        ("B227", notqmail, "bank.test", true, require, false),
        ("B44", "", "double.test", false, own, false),
        ("the twin", "", "bank.test", false, own, true),
    ] {
        let sink = Sink::start().await;
        let trusted = if upstream { vec![firstclick::identity::Network::parse("127.0.0.0/8").unwrap()] } else { Vec::new() };
        let hop = hop()
            .allow("bank", &entry_for(&format!("\"{domain}\""), require))
            .with(|config| config.trusted_upstreams = trusted)
            .asking(&zone)
            .next_hop(&sink)
            .start()
            .await;
        let mail = format!("{received}{}", mail_from(domain));
        assert!(hop.send(&format!("<bounce@{domain}>"), &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
        let arrived = sink.mail(1).await.data;
        assert_eq!(is_tagged(&arrived), exempted, "{report}: {}", hop.record(1).await);
    }
}

/// `header.i` without `header.d`, as Gmail and Cisco write it, names the signer; that of somebody else does not.
#[tokio::test(flavor = "multi_thread")]
async fn b145_results_that_name_the_signer_by_i() {
    for (results, exempted) in [("dkim=pass header.i=@bank.test", true), ("dkim=pass header.i=@attack.test", false), ("dkim=pass", false)] {
        let sink = Sink::start().await;
        let hop = hop().allow("bank", &entry_for("\"bank.test\"", "")).trusting_upstream("mx.corp.example").next_hop(&sink).start().await;
        let mail = format!(
            "Authentication-Results: mx.corp.example; {results}; dmarc=pass header.from=bank.test\r\n{}{}",
            crate::hop::told_signature("bank.test"),
            mail_from("bank.test")
        );
        assert!(hop.send("<bounce@bank.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
        let arrived = sink.mail(1).await.data;
        assert_eq!(is_tagged(&arrived), exempted, "{results}: {}", hop.record(1).await);
    }
}
