//! Who is exempted, and who is not: each refusal beside its genuine twin, through the real hop.

use std::{net::Ipv4Addr, time::Duration};

use firstclick::{
    mail::{Client, Envelope, Held, LineRepair, Peer, Protocol, Transaction},
    message::Message,
    testbed::{Signer, Zone},
};
use serde_json::Value;

use crate::hop::{SECRET, Sink, TOKEN, VENDOR, dkimpy_verifies, hop, is_tagged, reset_mail};

const BOB: &[&str] = &["<bob@corp.example>"];
const BOUNCE: &str = "<bounce@vendor.test>";

fn stopped_by(record: &Value) -> &str {
    record["reasons"].as_array().unwrap().iter().find(|reason| reason["ok"] == false).map_or("", |reason| reason["check"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_reset_mail_is_tagged_and_its_signature_still_verifies() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let sink = Sink::start().await;
    let hop = hop().allow("vendor", VENDOR).asking(&zone).next_hop(&sink).tracing().start().await;
    let mail = vendor.sign(&reset_mail()).unwrap();
    assert!(hop.send(BOUNCE, BOB, mail.as_bytes()).await.starts_with("250"));
    let arrived = sink.mail(1).await.data;
    assert!(is_tagged(&arrived), "{}", String::from_utf8_lossy(&arrived));
    assert!(arrived.ends_with(mail.as_bytes()), "only the top of the mail changed");
    let header = Message::read(&arrived).headers().first("X-Firstclick").unwrap();
    assert_eq!(header, TOKEN.as_bytes());

    let records = hop.records(1).await;
    let record = records.iter().find(|record| record["type"] == "mail").unwrap();
    assert_eq!(
        (record["decision"].as_str(), record["observed"].as_bool(), record["entry"].as_str()),
        (Some("act"), Some(false), Some("vendor"))
    );
    assert_eq!(record["actions"], serde_json::json!(["tag"]));
    assert_eq!(record["one_time_links"][0]["link"], "https://login.vendor.test/reset/{40}");
    assert_eq!(record["identity"]["dmarc"], "pass");
    assert!(!serde_json::to_string(&records).unwrap().contains(SECRET), "the link's token is nowhere in the audit");
    let outcome =
        crate::hop::poll("the outcome", || crate::hop::read_records(&hop.audit).into_iter().find(|record| record["type"] == "outcome"))
            .await;
    assert_eq!((outcome["id"].clone(), outcome["delivery"].as_str()), (record["id"].clone(), Some("accepted")));

    if let Some(verifies) = dkimpy_verifies(&arrived, vendor.public_key()) {
        assert!(verifies, "dkimpy: the sender's signature holds behind the hop");
        let bent = arrived.iter().map(|byte| if *byte == b'!' { b'?' } else { *byte }).collect::<Vec<u8>>();
        let bent = String::from_utf8(bent).unwrap().replace("works once", "works twice");
        assert_eq!(dkimpy_verifies(bent.as_bytes(), vendor.public_key()), Some(false), "and would not hold for another body");
    }
}

/// Each case changes one thing of the genuine mail.
#[tokio::test(flavor = "multi_thread")]
async fn one_thing_changed_and_the_mail_is_ordinary() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let attacker = Signer::publish(&zone, "attack.test").unwrap();
    let parent = Signer::publish(&zone, "test").unwrap();
    let sink = Sink::start().await;
    let hop = hop().allow("vendor", VENDOR).asking(&zone).next_hop(&sink).start().await;
    let genuine = reset_mail();
    let signed = |mail: &str| vendor.sign(mail).unwrap();
    let link = "https://www.vendor.test/\r\n";
    let all = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"];
    let without = |field: &str| vendor.sign_over(&genuine, all.into_iter().filter(|name| *name != field)).unwrap();
    let cases: Vec<(&str, String, &[&str], &str)> = vec![
        ("genuine", signed(&genuine), BOB, ""),
        ("unsigned", genuine.clone(), BOB, "identity"),
        ("signed by another domain", attacker.sign(&genuine).unwrap(), BOB, "identity"),
        ("signed by the public suffix", parent.sign(&genuine).unwrap(), BOB, "identity"),
        ("From another domain", attacker.sign(&genuine.replace("support@vendor.test", "support@attack.test")).unwrap(), BOB, "sender"),
        ("From a domain below", signed(&genuine.replace("support@vendor.test", "support@x.vendor.test")), BOB, "sender"),
        ("two From fields", signed(&format!("From: Other <x@attack.test>\r\n{genuine}")), BOB, "author"),
        (
            "two addresses in From",
            signed(&genuine.replace("<support@vendor.test>", "<support@vendor.test>, <x@attack.test>")),
            BOB,
            "author",
        ),
        ("body changed", signed(&genuine).replace("works once", "works twice"), BOB, "identity"),
        ("one more link", signed(&genuine.replace(link, "https://www.vendor.test/\r\nhttps://attack.test/\r\n")), BOB, "other_links"),
        ("one more link, without scheme", signed(&genuine.replace(link, "www.attack.test/login\r\n")), BOB, "other_links"),
        ("link elsewhere", signed(&genuine.replace("login.vendor.test", "login.vendor.test.attack.test")), BOB, "one_time_link"),
        ("link by http", signed(&genuine.replace("https://login", "http://login")), BOB, "one_time_link"),
        ("link on another path", signed(&genuine.replace("/reset/", "/redirect/reset/")), BOB, "one_time_link"),
        (
            "link that carries another",
            signed(&genuine.replace(SECRET, &format!("{SECRET}?next=https://attack.test/"))),
            BOB,
            "one_time_link",
        ),
        (
            "link with another host in front",
            signed(&genuine.replace("https://login.vendor.test/", "https://login.vendor.test@attack.test/")),
            BOB,
            "reading",
        ),
        ("From not covered", without("From"), BOB, "identity"),
        ("Subject not covered", without("Subject"), BOB, "identity"),
        ("Content-Type not covered, and the signed body tells the same", without("Content-Type"), BOB, ""),
        ("To not covered", without("To"), BOB, "addressees"),
        ("second Subject on top", format!("Subject: Your invoice\r\n{}", without("")), BOB, "reading"),
        ("another recipient", signed(&genuine), &["<bob@other.example>"], "recipients"),
        ("not the addressee", signed(&genuine), &["<eve@corp.example>"], "addressees"),
        ("one of two not the addressee", signed(&genuine), &["<bob@corp.example>", "<eve@corp.example>"], "addressees"),
        (
            "no reset",
            signed(
                &genuine
                    .replace("Finish resetting your password", "Lunch?")
                    .replace("You asked to reset your password. Open this link to choose a new one:", "Look at this:")
                    .replace("/reset/", "/lunch-menu/"),
            ),
            BOB,
            "one_time_link",
        ),
        (
            "attachment",
            signed(&genuine.replace("Content-Type: text/plain; charset=utf-8", "Content-Type: application/octet-stream")),
            BOB,
            "one_time_link",
        ),
    ];
    for (count, (name, mail, recipients, check)) in cases.iter().enumerate() {
        // What was sent to somebody else was sent on from elsewhere; from the vendor's own host it would be a list's.
        let from = if *check == "addressees" { "<x@attack.test>" } else { BOUNCE };
        let reply = hop.send(from, recipients, mail.as_bytes()).await;
        assert!(reply.starts_with("250"), "{name}: {reply}");
        let arrived = sink.mail(count + 1).await.data;
        let record = hop.record(count + 1).await;
        assert_eq!(is_tagged(&arrived), check.is_empty(), "{name}: {record}");
        assert_eq!(stopped_by(&record), *check, "{name}: {record}");
        if !check.is_empty() {
            assert!(arrived == mail.as_bytes(), "{name}: an ordinary mail goes on as it came");
            assert_ne!(record["decision"], "act", "{name}");
        }
    }
    // A mail that is proven and fails by little is told apart from one that is not proven.
    let records = hop.records(cases.len()).await;
    let decision = |name: &str| {
        let at = cases.iter().position(|case| case.0 == name).unwrap();
        records.iter().filter(|record| record["type"] == "mail").nth(at).unwrap()["decision"].as_str().unwrap().to_owned()
    };
    assert_eq!(decision("link on another path"), "near_miss");
    assert_eq!(decision("unsigned"), "near_miss", "DMARC passes by SPF, so it is the sender who forgot to sign");
    assert_eq!(decision("From another domain"), "pass");
    assert_eq!(decision("two From fields"), "pass");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_voices_never_leave_the_hop() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let sink = Sink::start().await;
    let hop = hop().allow("vendor", VENDOR).asking(&zone).next_hop(&sink).start().await;
    let rest = "From: x@attack.test\r\nSubject: hello\r\n\r\nX-Firstclick: in the body stays\r\n";
    let forged = format!(
        "{}x-FIRSTCLICK: {TOKEN}\r\nX-Firstclick\r\n : folded\r\nX-Firstclick : {TOKEN}\r\nX-Firstclick-Signature: v=1; entry=vendor;\r\n b=x\r\n\
         X-MS-Exchange-Organization-SkipSafeLinksProcessing: 1\r\nX-MS-Exchange-Organization-SkipSafeAttachmentProcessing: 1\r\n\
         Authentication-Results: HOP.test; dkim=pass header.d=vendor.test\r\n",
        format!("X-Firstclick: {TOKEN}\r\n").repeat(100)
    );
    assert!(hop.send("<x@attack.test>", BOB, format!("{forged}{rest}").as_bytes()).await.starts_with("250"));
    assert_eq!(String::from_utf8(sink.mail(1).await.data).unwrap(), rest);
    assert_eq!(hop.record(1).await["removed"], 107);
    // In front of a genuine mail too: the forgeries go, our own stands alone.
    let genuine = vendor.sign(&reset_mail()).unwrap();
    assert!(hop.send(BOUNCE, BOB, format!("X-Firstclick: forged\r\n{genuine}").as_bytes()).await.starts_with("250"));
    let arrived = sink.mail(2).await.data;
    assert!(is_tagged(&arrived));
    assert_eq!(Message::read(&arrived).headers().named("X-Firstclick").count(), 1);
    // And from a mail that is too large to be inspected.
    let large = format!("X-Firstclick: {TOKEN}\r\n{rest}{}", "line\r\n".repeat(300_000));
    assert!(hop.send("<x@attack.test>", BOB, large.as_bytes()).await.starts_with("250"));
    assert_eq!(Message::read(&sink.mail(3).await.data).headers().named("X-Firstclick").count(), 0);
    assert_eq!(stopped_by(&hop.record(3).await), "size");
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_trouble_means_no_exemption_and_no_delay_past_the_deadline() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let mail = vendor.sign(&reset_mail()).unwrap();
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sink = Sink::start().await;
    let hop =
        hop().allow("vendor", VENDOR).asking_at(silent.local_addr().unwrap(), Duration::from_millis(300)).next_hop(&sink).start().await;
    assert!(hop.send(BOUNCE, BOB, mail.as_bytes()).await.starts_with("250"));
    assert!(!is_tagged(&sink.mail(1).await.data));
    assert_eq!(stopped_by(&hop.record(1).await), "identity");

    zone.fail("s1._domainkey.vendor.test");
    let hop = crate::hop::hop().allow("vendor", VENDOR).asking(&zone).next_hop(&sink).start().await;
    assert!(hop.send(BOUNCE, BOB, mail.as_bytes()).await.starts_with("250"));
    assert!(!is_tagged(&sink.mail(2).await.data));
    let record = hop.record(1).await;
    assert_eq!((stopped_by(&record), record["identity"]["dkim"][0]["result"].as_str()), ("identity", Some("temperror")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_upstream_is_believed_and_nobody_below_it() {
    let own = "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    let received = "Received: from out.vendor.test (out.vendor.test [192.0.2.10])\r\n\tby mx.corp.example with ESMTPS id 1; date\r\n";
    let mail = format!("{}{}", crate::hop::told_signature("vendor.test"), reset_mail());
    let sink = Sink::start().await;
    let trusting_arc = hop().allow("vendor", VENDOR).trusting_upstream("mx.corp.example").next_hop(&sink).start().await;
    let other = "Authentication-Results: mx.attack.test; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    let half = "Authentication-Results: mx.corp.example; dmarc=pass header.from=vendor.test\r\n";
    let foreign = "Authentication-Results: mx.corp.example; dkim=pass header.d=attack.test; dmarc=pass header.from=attack.test\r\n";
    let commented = "Authentication-Results: mx.corp.example; dkim=fail (header.d=vendor.test) header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    for (count, (name, head, tagged)) in [
        ("on top", format!("{own}{received}"), true),
        ("below its Received", format!("{received}{own}"), false),
        ("below another's Received", format!("{received}{received}{own}"), false),
        ("below another's results", format!("{other}{own}"), false),
        ("SPF only", half.to_owned(), false),
        ("of another mail", foreign.to_owned(), false),
        ("in a comment", commented.to_owned(), false),
        ("not there", received.to_owned(), false),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(trusting_arc.send(BOUNCE, BOB, format!("{head}{mail}").as_bytes()).await.starts_with("250"), "{name}");
        assert_eq!(is_tagged(&sink.mail(count + 1).await.data), tagged, "{name}: {}", trusting_arc.record(count + 1).await);
    }
    // The same field from a host that is no trusted upstream is worth nothing.
    let unbelieving = hop().allow("vendor", VENDOR).next_hop(&sink).start().await;
    assert!(unbelieving.send(BOUNCE, BOB, format!("{own}{received}{mail}").as_bytes()).await.starts_with("250"));
    assert!(!is_tagged(&sink.mail(9).await.data));
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_decides_and_does_nothing() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let mail = vendor.sign(&reset_mail()).unwrap();
    let sink = Sink::start().await;
    let whole = hop().allow("vendor", VENDOR).observing().asking(&zone).next_hop(&sink).start().await;
    let entry = hop().allow("vendor", &format!("mode = \"observe\"\n{VENDOR}")).asking(&zone).next_hop(&sink).start().await;
    for (count, hop) in [whole, entry].iter().enumerate() {
        assert!(hop.send(BOUNCE, BOB, format!("X-Firstclick: forged\r\n{mail}").as_bytes()).await.starts_with("250"));
        assert!(sink.mail(count + 1).await.data == mail.as_bytes(), "only the forgery is gone");
        let record = hop.record(1).await;
        assert_eq!((record["decision"].as_str(), record["observed"].as_bool()), (Some("act"), Some(true)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_end_and_limits_trip() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let mail = vendor.sign(&reset_mail()).unwrap();
    let sink = Sink::start().await;
    let expired = hop().allow("vendor", &format!("expires = 2020-01-01\n{VENDOR}")).asking(&zone).next_hop(&sink).start().await;
    assert!(expired.send(BOUNCE, BOB, mail.as_bytes()).await.starts_with("250"));
    assert!(!is_tagged(&sink.mail(1).await.data));
    assert_eq!(stopped_by(&expired.record(1).await), "expiry");

    let limited = hop().allow("vendor", &format!("limit = \"2/hour\"\n{VENDOR}")).asking(&zone).next_hop(&sink).start().await;
    for count in 1..=4 {
        assert!(limited.send(BOUNCE, BOB, mail.as_bytes()).await.starts_with("250"));
        assert_eq!(is_tagged(&sink.mail(count + 1).await.data), count <= 2, "mail {count}");
    }
    assert_eq!(stopped_by(&limited.record(4).await), "limit");
}

/// F27: a genuine mail whose To is not signed, delivered straight to one reader and then to another. It is known by its signature,
/// whatever its Message-ID says.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_to_is_not_signed_is_exempted_for_one_reader() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    zone.publish("vendor.test", "v=spf1 ip4:127.0.0.1 -all");
    let mail = vendor.sign_over(&reset_mail(), ["From", "Subject", "Date", "MIME-Version", "Content-Type"]).unwrap();
    let other = mail.replace("To: bob@", "To: eve@").replace("<reset-1@", "<reset-2@");
    let sink = Sink::start().await;
    let hop = hop().allow("vendor", &format!("reader = \"straight\"\n{VENDOR}")).asking(&zone).next_hop(&sink).start().await;
    for (count, (reader, mail, tagged)) in
        [("<bob@corp.example>", &mail, true), ("<eve@corp.example>", &other, false), ("<bob@corp.example>", &mail, true)]
            .into_iter()
            .enumerate()
    {
        assert!(hop.send("<bounce@vendor.test>", &[reader], mail.as_bytes()).await.starts_with("250"));
        assert_eq!(is_tagged(&sink.mail(count + 1).await.data), tagged, "{reader}: {}", hop.record(count + 1).await);
    }
    assert_eq!(stopped_by(&hop.records(3).await.into_iter().filter(|record| record["type"] == "mail").nth(1).unwrap()), "replay");
}

/// One mail to several readers is exempted for each of them, where the entry says that it may be.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_readers_is_named() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let mail = vendor.sign(&reset_mail().replace("To: bob@corp.example", "To: bob@corp.example, eve@corp.example")).unwrap();
    let sink = Sink::start().await;
    let hop = hop().allow("vendor", &format!("several_readers = true\n{VENDOR}")).asking(&zone).next_hop(&sink).start().await;
    let readers: [&[&str]; 3] = [&["<bob@corp.example>"], &["<eve@corp.example>"], &["<bob@corp.example>", "<eve@corp.example>"]];
    for (count, readers) in readers.into_iter().enumerate() {
        assert!(hop.send("<x@attack.test>", readers, mail.as_bytes()).await.starts_with("250"));
        assert!(is_tagged(&sink.mail(count + 1).await.data), "{readers:?}: {}", hop.record(count + 1).await);
    }
    assert!(hop.send("<x@attack.test>", &["<mallory@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    assert!(!is_tagged(&sink.mail(4).await.data));
}

/// What an admin learns before the users do: a sandbox on another name, a link path that moved, a key that is gone; and
/// what nobody proves is no near miss. `audit report` counts them for the entry.
#[tokio::test(flavor = "multi_thread")]
async fn near_misses_are_told_with_what_would_make_them_match() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let sandbox = Signer::publish(&zone, "sandbox.vendor.test").unwrap();
    zone.publish("keyless.vendor.test", "v=spf1 ip4:127.0.0.1 -all");
    let sink = Sink::start().await;
    let hop = hop().allow("vendor", VENDOR).asking(&zone).next_hop(&sink).start().await;
    let from = |name: &str| reset_mail().replace("@vendor.test", &format!("@{name}"));
    let cases = [
        (vendor.sign(&reset_mail()).unwrap(), BOUNCE, "act", ""),
        (
            sandbox.sign(&from("sandbox.vendor.test")).unwrap(),
            "<bounce@sandbox.vendor.test>",
            "near_miss",
            "entry \"vendor\" does not name support@sandbox.vendor.test, which has the same owner; from = [\"*@vendor.test\", \"support@sandbox.vendor.test\"] would",
        ),
        (
            vendor.sign(&reset_mail().replace("/reset/", "/v2/reset/")).unwrap(),
            BOUNCE,
            "near_miss",
            "https://login.vendor.test/v2/reset/{40}: the nearest shape is \"login.vendor.test/reset/{token}\": segment 1 of the path is not \"reset\"; if it is the mail's one-time link, write password_reset = [\"login.vendor.test/reset/{token}\", \"login.vendor.test/v2/reset/{token}\"] under [links]",
        ),
        (
            vendor.sign(&reset_mail()).unwrap().replace("s=s1", "s=gone").replace("s=demo", "s=gone"),
            "<bounce@keyless.vendor.test>",
            "near_miss",
            "DMARC passes, but not by an aligned DKIM signature; ",
        ),
        (from("forged.vendor.test"), "<a@attack.test>", "pass", "does not name support@forged.vendor.test"),
    ];
    for (count, (mail, path, decision, says)) in cases.into_iter().enumerate() {
        assert!(hop.send(path, BOB, mail.as_bytes()).await.starts_with("250"));
        assert_eq!(is_tagged(&sink.mail(count + 1).await.data), decision == "act", "{says}");
        let record = hop.record(count + 1).await;
        assert_eq!(record["decision"], decision, "{record}");
        let detail =
            record["reasons"].as_array().unwrap().iter().find(|reason| reason["ok"] == false).map(|reason| reason["detail"].clone());
        assert!(detail.unwrap_or_default().as_str().unwrap_or_default().contains(says), "{says}: {record}");
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_firstclick"))
        .args(["audit", "report", "--directory", hop.audit.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}");
    assert!(said.contains("vendor         1         0          3         1"), "{said}");
    for check in ["sender", "one_time_link", "identity"] {
        assert!(said.contains(&format!("    near_miss by {check}: 1\n")), "{said}");
    }
    assert!(said.contains("    the newest, 20") && said.contains(": identity: DMARC passes, but not by"), "{said}");
}

/// A session that is cut while its exemption is committed, wherever that stands: its mail has one record, and one outcome.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_cut_while_it_is_committed_has_one_record_and_one_outcome() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let hop = hop().allow("vendor", &format!("limit = \"unlimited\"\n{VENDOR}")).asking(&zone).start().await;
    let pipeline = std::sync::Arc::clone(&hop.server.snapshot().pipeline);
    let recipients = vec!["<bob@corp.example>".to_owned()];
    for number in 0..40_u64 {
        let (id, mail) = (format!("cut{number}"), reset_mail().replace("reset-1", &format!("reset-{number}")));
        let data = vendor.sign(&mail).unwrap();
        let transaction = Transaction {
            id: &id,
            protocol: Protocol::Smtp,
            client: Client { peer: Peer::Host(Ipv4Addr::LOCALHOST.into()), helo: "mx.vendor.test" },
            envelope: Envelope { reverse_path: BOUNCE, recipients: &recipients },
            data: data.as_bytes(),
            held: Held::Whole,
            size: data.len(),
            repair: LineRepair::None,
        };
        let decided = pipeline.process(&transaction).await.unwrap();
        // It is polled once, and cut then or a little later.
        let _ = tokio::time::timeout(Duration::from_micros(number * 50), decided.commit()).await;
    }
    let audit = pipeline.shared.audit.as_ref().unwrap();
    audit.settle().await.unwrap();
    let records = crate::hop::read_records(&hop.audit);
    for number in 0..40 {
        let of_mail: Vec<_> = records.iter().filter(|record| record["id"] == format!("cut{number}")).collect();
        let types: Vec<_> = of_mail.iter().map(|record| record["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["mail", "outcome"], "{of_mail:?}");
        assert_eq!((of_mail[0]["decision"].as_str(), of_mail[1]["reply"].as_str()), (Some("act"), Some("cancelled")), "{of_mail:?}");
    }
}
