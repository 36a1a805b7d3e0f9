//! Guard links in mails: what is replaced, what is sealed, what is put back.

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

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use firstclick::{
    clock,
    edit::{guard_link, link_id::LinkId},
    identity::ArcSigner,
    link_store::LinkStore,
    message::Message,
    testbed::{Signer, Zone},
};
use serde_json::Value;
use tempfile::TempDir;

use self::hop::{
    SECRET, Sink, VENDOR, hop, mta,
    page::{URL, guard_links},
    reset_mail,
};

/// A guarded mail by both protocols: the link's every place leads to the page, and nothing else has changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_mail_leads_to_the_page() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let sink = Sink::start().await;
    let entry = VENDOR.replace("action = \"tag\"", "action = [\"tag\", \"guard\"]");
    let hop = hop().allow("vendor", &entry).asking(&zone).with_guard(guard_links(URL)).next_hop(&sink).start().await;
    let mail = vendor.sign(&reset_mail()).unwrap();
    assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    let arrived = sink.mail(1).await.data;
    let text = String::from_utf8(arrived.clone()).unwrap();
    assert!(hop::is_tagged(&arrived) && !text.contains(SECRET), "{text}");
    assert!(hop::tagger().verifies(&Message::read(&arrived)), "the tag's signature covers the guarded body");
    let value = text.split(&format!("{URL}/c/")).nth(1).unwrap().split_whitespace().next().unwrap();
    let opened = guard_links(URL).open(value, clock::now()).unwrap();
    assert!(opened.link.contains(SECRET) && opened.recipient == "bob@corp.example" && opened.author == "vendor.test");
    let record = hop.record(1).await;
    assert_eq!((record["actions"].clone(), record["id"].as_str()), (serde_json::json!(["guard", "tag"]), Some(opened.mail.as_str())));
    assert!(text.replace(&format!("{URL}/c/{value}"), &opened.link).ends_with(mail.as_str()), "nothing else has changed");

    let mut mta = mta::Mta::connect(hop.milter().await).await;
    mta.greet("127.0.0.1").await;
    let way = mta::Way { client: "127.0.0.1", from: "<bounce@vendor.test>", to: &["<bob@corp.example>"], piece: 65_535 };
    let told = String::from_utf8(mta.mail(way, mail.as_bytes()).await.mail).unwrap();
    assert!(told.contains(&format!("{URL}/c/")) && !told.contains(SECRET), "{told}");
}

/// A guarded mail's ARC chain, as the first set and as the second, verified by dkimpy.
#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_mail_is_sealed() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let key = hop::dkim::Key::make();
    key.publish(&zone, "corp.example");
    key.publish(&zone, "list.test");
    let sealing = || ArcSigner::new("corp.example", "s1", &key.pem()).unwrap();
    let sink = Sink::start().await;
    let entry = VENDOR.replace("action = \"tag\"", "action = [\"tag\", \"guard\"]\nlimit = \"unlimited\"");
    let hop = hop()
        .allow("vendor", &entry)
        .asking(&zone)
        .with_guard(guard_links(URL))
        .with_arc(sealing())
        .sealed_by(&["list.test"])
        .next_hop(&sink)
        .start()
        .await;
    let mail = vendor.sign(&reset_mail()).unwrap();
    // The sender's own signature, folded over lines, is left out of the earlier seal: the tests' sealer knows fields of one line.
    let earlier: hop::dkim::ArcSigner = toml::from_str("h = \"from:to:subject:date:message-id:mime-version:content-type\"").unwrap();
    for (count, (mail, sets)) in [(mail.clone(), 1), (key.seal(&earlier, &mail), 2)].into_iter().enumerate() {
        // The second comes by a path whose words would speak in the hop's own field.
        let path = ["<bounce@vendor.test>", "<\"x) smtp.mailfrom=y; dmarc=pass header.from=attack.test; (\"@vendor.test>"][count];
        assert!(hop.send(path, &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
        let arrived = sink.mail(count + 1).await.data;
        let text = String::from_utf8(arrived.clone()).unwrap();
        assert!(!text.contains("attack.test"), "{text}");
        assert!(!text.contains(SECRET) && hop::is_tagged(&arrived), "{text}: {}", hop.record(count + 1).await);
        assert!(text.starts_with("ARC-Seal: i=") && text.matches("ARC-Seal:").count() == sets, "{text}");
        let results = text.split("\r\nAuthentication-Results: ").nth(1).unwrap().split("\r\nX-Firstclick").next().unwrap();
        assert!(results.starts_with("hop.test;") && results.contains("dkim=pass") && results.contains("dmarc=pass"), "{results}");
        // RFC 8617 section 4.1.1: the chain as it came is a result too, in the sealed field and in the plain one.
        let chain = ["arc=none", "arc=pass"][count];
        let sealed = text.split("ARC-Authentication-Results: ").nth(1).unwrap().split("\r\nARC-").next().unwrap();
        assert!(results.contains(chain) && sealed.contains(chain), "{chain}: {text}");
        if hop::needs("python3").is_none() {
            return;
        }
        let script = "import sys, dkim\nkeys = dict(item.split('=', 1) for item in sys.argv[1:])\ncv, results, why = dkim.arc_verify(sys.stdin.buffer.read(), dnsfunc=lambda name, **_: keys.get(name.decode().rstrip('.'), '').encode())\nprint(cv, why)\n";
        let record = format!("v=DKIM1; k=rsa; p={}", key.public());
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", script, &format!("s1._domainkey.corp.example={record}"), &format!("s1._domainkey.list.test={record}")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&arrived).unwrap();
        let output = child.wait_with_output().unwrap();
        if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("No module named") {
            hop::missing("python3-dkim");
            return;
        }
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("b'pass'"), "dkimpy, {sets} sets: {said} {}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Behind a gateway that wrapped every link: the originals are judged and put back, and the one-time link is guarded too
/// where the entry says so. What only the vendor knows is a near miss.
#[tokio::test(flavor = "multi_thread")]
async fn wrapped_links_are_put_back() {
    let wrap = |link: &str| {
        let encoded: String = url::form_urlencoded::byte_serialize(link.as_bytes()).collect();
        format!("https://linkprotect.cudasvc.com/url?a={encoded}&c=E,1,abc,,&typo=1")
    };
    let mail = format!("{}{}", hop::told_signature("vendor.test"), reset_mail());
    let one_time = mail.split_whitespace().find(|word| word.contains(SECRET)).unwrap().to_owned();
    let wrapped = mail.replace(&one_time, &wrap(&one_time)).replace("https://www.vendor.test/", &wrap("https://www.vendor.test/"));
    assert_ne!(wrapped, mail);
    let results = "Authentication-Results: gw.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    for (action, guarded) in [("\"unwrap\"", false), ("[\"guard\", \"unwrap\"]", true)] {
        let sink = Sink::start().await;
        let entry = VENDOR.replace("action = \"tag\"", &format!("action = {action}"));
        let hop = hop().allow("vendor", &entry).trusting_arc("gw.corp.example").with_guard(guard_links(URL)).next_hop(&sink).start().await;
        assert!(
            hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], format!("{results}{wrapped}").as_bytes()).await.starts_with("250")
        );
        let text = String::from_utf8(sink.mail(1).await.data).unwrap();
        assert!(!text.contains("cudasvc"), "{text}: {}", hop.record(1).await);
        assert!(text.contains("https://www.vendor.test/\r\n"));
        assert_eq!((text.contains(&one_time), text.contains(&format!("{URL}/c/"))), (!guarded, guarded), "{text}");
        if !guarded {
            assert!(text.ends_with(&mail), "it is the mail as it was before the gateway");
        }
        let opaque = mail.replace(&one_time, "https://protect-us.mimecast.com/s/abcdefghij0123456789abcd?domain=login.vendor.test");
        assert!(
            hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], format!("{results}{opaque}").as_bytes()).await.starts_with("250")
        );
        assert_ne!(hop.record(2).await["decision"], "act");
        assert!(sink.mail(2).await.data.ends_with(opaque.as_bytes()));
    }
}

/// Every positive mail of the corpus: the labelled link, wherever it stands, in every charset and encoding, and nothing
/// else; read again by Python's email package.
#[tokio::test(flavor = "multi_thread")]
async fn every_charset_and_encoding_is_guarded() {
    corpus_guarded(None).await;
}

/// The same with links that are stored.
#[tokio::test(flavor = "multi_thread")]
async fn every_charset_and_encoding_is_guarded_by_short_links() {
    corpus_guarded(Some(TempDir::new().unwrap().path())).await;
}

async fn corpus_guarded(store: Option<&Path>) {
    let shared = std::env::var_os("FIRSTCLICK_SHARED").map(PathBuf::from);
    let root = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join("corpus/dev");
    let Ok(table) = fs::read_to_string(root.join("labels.tsv")) else {
        println!("skipped: needs ../shared/corpus/dev");
        return;
    };
    let rows: Vec<Vec<&str>> =
        table.lines().skip(1).map(|line| line.split('\t').collect()).filter(|row: &Vec<&str>| row[0].starts_with("positive")).collect();
    let mails: Vec<Vec<u8>> = rows.iter().map(|row| fs::read(root.join(row[0])).unwrap()).collect();
    let (mut authors, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for mail in &mails {
        let message = Message::read(mail);
        authors.extend(message.author().ok().map(|author| author.domain.to_string()));
        hosts.extend(message.content().links.iter().filter_map(|found| found.link.url().host_str().map(str::to_owned)));
    }
    let list = |items: &BTreeSet<String>| items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ");
    let entry = format!(
        "from = [{}]\ndecide_by = \"words\"\nother_links = [{}]\nrequire = {{ ip = [\"127.0.0.0/8\"], spf = false }}\nlimit = \"unlimited\"\nowner = \"it@corp.example\"\naction = \"guard\"\n",
        list(&authors),
        list(&hosts)
    );
    let (zone, sink) = (Zone::serve().await.unwrap(), Sink::start().await);
    let build = hop().allow("all", &entry).asking(&zone).with_guard(guard_links(URL)).next_hop(&sink);
    let hop = match store {
        Some(folder) => build.storing_links(folder).start().await,
        None => build.start().await,
    };
    let store = store.map(|folder| LinkStore::new(folder.to_owned()));
    let mut client = hop.client().await;
    client.greet().await;
    let folder = TempDir::new().unwrap();
    for (count, mail) in mails.iter().enumerate() {
        assert!(client.send("<a@b.test>", &[&hop::reader_of(mail)], mail).await.starts_with("250"));
        let arrived = sink.mail(count + 1).await.data;
        fs::write(folder.path().join(format!("{count}.before")), mail).unwrap();
        fs::write(folder.path().join(format!("{count}.after")), &arrived).unwrap();
    }
    let records: Vec<Value> = hop.records(mails.len()).await.into_iter().filter(|record| record["type"] == "mail").collect();
    let (mut guarded, mut longest, mut not) = (0, 0, Vec::new());
    for (count, row) in rows.iter().enumerate() {
        let after = fs::read(folder.path().join(format!("{count}.after"))).unwrap();
        if records[count]["decision"] != "act" {
            assert!(after == mails[count], "{}: what is not acted on goes on as it came", row[0]);
            let stopped = records[count]["reasons"].as_array().unwrap().iter().find(|reason| reason["ok"] == false).unwrap();
            not.push(format!("{}: {}: {}", row[0], stopped["check"], stopped["detail"]));
            continue;
        }
        guarded += 1;
        let content = Message::read(&after).content();
        let mut seen = 0;
        for found in &content.links {
            assert_ne!(found.link.expose(), row[5], "{}: the labelled link still stands", row[0]);
            let of = |path: &str| found.link.expose().strip_prefix(&format!("{URL}{path}"));
            let opened = match &store {
                None => of(guard_link::PATH).map(|value| guard_links(URL).open(value, clock::now())),
                Some(store) => match of(guard_link::SHORT_PATH).and_then(LinkId::parse) {
                    Some(id) => store.find(id).await.unwrap().map(|stored| guard_links(URL).open_stored(&stored, clock::now())),
                    None => None,
                },
            };
            if let Some(opened) = opened {
                assert_eq!(opened.unwrap().link, row[5], "{}", row[0]);
                longest = longest.max(found.link.expose().len());
                seen += 1;
            }
        }
        let wanted = Message::read(&mails[count]).content().links.iter().filter(|found| found.link.expose() == row[5]).count();
        assert_eq!(seen, wanted, "{}", row[0]);
        fs::write(folder.path().join(format!("{count}.link")), row[5]).unwrap();
        for line in after.split(|byte| *byte == b'\n') {
            assert!(line.len() <= 999, "{}: a line of {}", row[0], line.len());
        }
    }
    println!("{guarded} of {} guarded, the longest guard link {longest} characters; not: {not:#?}", rows.len());
    assert_eq!(guarded, rows.len(), "{not:#?}");
    let script = r#"
import email, email.policy, glob, os, re, sys
folder, count = sys.argv[1], 0
for link_file in glob.glob(folder + "/*.link"):
    stem, link = link_file[:-5], open(link_file, newline="").read().encode()
    before, after = (email.message_from_bytes(open(stem + end, "rb").read()) for end in (".before", ".after"))
    def fields(part):
        # A part whose line would be too long is encoded anew.
        return [item for item in part.items() if item[0].lower() != "content-transfer-encoding"]
    assert fields(before) == fields(after), stem
    one, other = list(before.walk()), list(after.walk())
    assert [part.get_content_type() for part in one] == [part.get_content_type() for part in other], stem
    for left, right in zip(one, other):
        assert fields(left) == fields(right), stem
        if left.is_multipart():
            continue
        left, right = left.get_payload(decode=True), right.get_payload(decode=True)
        for form in (link, link.replace(b"&", b"&amp;")):
            left = left.replace(form, b"LINK")
        right = re.sub(rb"https://links\.corp\.example/[cs]/[A-Za-z0-9_-]+", b"LINK", right)
        assert left == right, (stem, left, right)
    count += 1
print(count)
"#;
    let output = Command::new("python3").args(["-c", script]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), guarded.to_string());
}

/// Two tables of wrapped links, by the command: the shared one of links that were found, and the project's own, one public
/// form of each scanner, with values made up.
#[test]
fn wrapped_links_are_unwrapped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("FIRSTCLICK_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    for (path, count) in [(root.join("tests/fixtures/wrapped.tsv"), 46), (shared.join("wrapped_urls.tsv"), 15)] {
        let Ok(table) = fs::read_to_string(&path) else {
            assert!(count != 46, "the project's own table is missing");
            println!("skipped: needs {}", path.display());
            continue;
        };
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstclick"));
        let output = command.args(["unwrap", "--json"]).args(rows.iter().map(|cells| cells[1])).output().unwrap();
        let answers: Vec<Value> =
            String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((rows.len(), answers.len()), (count, count));
        for (cells, found) in rows.iter().zip(&answers) {
            match cells[2] {
                "OPAQUE" => assert_eq!(found["result"], "opaque", "{cells:?}"),
                "NOT-WRAPPED" => assert_eq!(found["result"], "not_wrapped", "{cells:?}"),
                "BROKEN" => assert_eq!(found["result"], "broken", "{cells:?}"),
                original => assert_eq!(found["original"], original, "{cells:?}"),
            }
            if let Some(host) = cells.get(3) {
                assert_eq!(found["host"].as_str().unwrap_or_default(), *host, "{cells:?}");
            }
            let two = cells[0].starts_with("two-gateways");
            assert!(!two || found["by"].as_array().unwrap().len() == 2, "{cells:?}");
        }
    }
}
