//! `[audit] recipients = "hashed"`: a reader's name stands nowhere, and whoever has the key finds him by his address.

use std::{fs, net::SocketAddr};

use serde_json::Value;

use crate::{
    hop::{
        Client, Sink, VENDOR,
        mta::{Mta, Way},
        page::{BROWSER, ask, nonce},
        poll,
        process::{Folder, Process},
        read_records, reset_mail,
        sink::{Act, DOT},
        told_signature,
    },
    service::BELIEVING,
};

/// The reader, whose name is in no other word of the tests.
const LOCAL: &str = "quentinzed";
const TO: &str = "<QuentinZed+news@corp.example>";

const REST: &str = "[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nhostname = \"hop.test\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
                    [guard]\nurl = \"https://links.corp.example\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\n";

fn folder(sink: &Sink) -> Folder {
    let smtp = format!("next_hop = \"{}\"", sink.address);
    let folder = Folder::new(&smtp, "");
    for name in ["guard.key", "recipients.key"] {
        assert_eq!(folder.command(&["keygen", "--out", folder.path(name).to_str().unwrap()]).2, Some(0));
    }
    let entry = VENDOR.replace("action = \"tag\"", "action = [\"tag\", \"guard\"]\nlimit = \"1/hour\"");
    fs::write(folder.path("allow.d/vendor.toml"), entry.replace("/reset/{token}", "/reset/{word}/{token}")).unwrap();
    folder.configure(&smtp, &format!("recipients = \"hashed\"\nrecipients_key_file = \"recipients.key\"\n{BELIEVING}\n{REST}"));
    folder
}

/// A proven mail to the reader, whose name is a word of the one-time link's path.
fn mail(number: usize) -> Vec<u8> {
    let results = "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    let mail = reset_mail()
        .replace("/reset/", "/reset/quentinzed/")
        .replace("To: bob@corp.example", "To: QuentinZed+news@corp.example")
        .replace("reset-1@", &format!("reset-{number}@"));
    format!("{results}{}{mail}", told_signature("vendor.test")).into_bytes()
}

async fn address(process: &Process, words: &str, key: &str) -> SocketAddr {
    let line = process.says(words).await;
    line.split(&format!("{key}=")).nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readers_name_stands_nowhere() {
    let sink = Sink::start().await;
    let folder = folder(&sink);
    let process = folder.run_after("export RUST_LOG=debug").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    let verp = "<bounce-7-quentinzed+news=corp.example@vendor.test>";

    // Guarded, opened and pressed.
    assert!(client.send(verp, &[TO], &mail(1)).await.starts_with("250"));
    let text = String::from_utf8(sink.mail(1).await.data).unwrap();
    let value = text.split("https://links.corp.example/c/").nth(1).unwrap_or_else(|| panic!("{text}\n{}", process.log()));
    let page =
        format!("http://{}/c/{}", address(&process, "the guard page is there", "page").await, value.split_whitespace().next().unwrap());
    let shown = ask("GET", &page, BROWSER, "").await;
    assert_eq!(ask("POST", &page, BROWSER, &format!("nonce={}", nonce(&shown))).await.status, 303);
    // One exemption in an hour was the limit, which names the reader.
    assert!(client.send(verp, &[TO], &mail(2)).await.starts_with("250"));
    // Meant for somebody else.
    let of_another = String::from_utf8(mail(3)).unwrap().replace("/reset/quentinzed/", "/reset/choose/");
    assert!(client.send(verp, &["<ann@corp.example>"], of_another.as_bytes()).await.starts_with("250"));
    // The next hop repeats the address, in its own words.
    for reply in [
        format!("550 5.1.1 {TO}: no such user"),
        format!("451 4.2.2 mailbox of {} is full", LOCAL.to_uppercase()),
        "552 5.2.2 quentinzed@store-3.corp.internal over quota".to_owned(),
    ] {
        sink.on(DOT, Act::Say(reply.clone()));
        assert_eq!(client.send(verp, &[TO], &mail(4)).await.split(' ').next(), reply.split(' ').next());
    }
    sink.on("RCPT TO:<Quentin", Act::Say(format!("550 5.1.1 {TO} unknown")));
    assert!(client.send(verp, &[TO], &mail(5)).await.starts_with("550"));
    // It closes the session in the middle, and repeats it there.
    sink.on("RCPT TO:<Quentin", Act::Say(format!("421 4.3.2 closing on {TO}")));
    let mut other = Client::connect(process.address).await;
    other.greet().await;
    let _ = other.send(verp, &[TO], &mail(6)).await;
    // Refused by the hop itself, after its data.
    let mut third = Client::connect(process.address).await;
    third.greet().await;
    assert!(third.send(verp, &[TO], b"Subject: x\r\n\r\na\nb\r\n").await.starts_with("550 5.5.2"));
    // The same by milter.
    let mut mta = Mta::connect(address(&process, "listening for MTAs", "address").await).await;
    mta.greet("127.0.0.1").await;
    let way = Way { client: "127.0.0.1", from: verp, to: &[TO], piece: 65_535 };
    mta.mail(way, &mail(7)).await;

    let records = poll("all records", || {
        let records = read_records(&folder.audit());
        let of = |kind: &str| records.iter().filter(|record| record["type"] == kind).count();
        (of("mail") >= 7 && of("click") == 2 && of("refusal") == 1 && of("outcome") >= 1).then_some(records)
    })
    .await;
    let metrics = ask("GET", &format!("http://{}/metrics", address(&process, "the admin page is there", "address").await), &[], "").await;
    let ready = ask("GET", &format!("http://{}/readyz", address(&process, "the admin page is there", "address").await), &[], "").await;
    let everything = [process.log(), metrics.body, ready.body, records.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")];
    for text in everything {
        let lower = text.to_lowercase();
        let line = lower.lines().find(|line| line.contains("quentin"));
        assert_eq!(line, None);
        assert!(!lower.contains("ann@"), "{lower}");
    }
    let guarded = records.iter().find(|record| record["decision"] == "act").unwrap();
    let name = guarded["to"][0].as_str().unwrap().trim_matches(['<', '>']).to_owned();
    assert!(name.starts_with("h:") && name.ends_with("@corp.example"), "{name}");
    assert!(
        guarded["message_id"] == "<reset-1@vendor.test>"
            && guarded["from"].as_str().unwrap().starts_with("<h:")
            && guarded["from"].as_str().unwrap().ends_with("@vendor.test>")
    );
    let click = records.iter().find(|record| record["type"] == "click").unwrap();
    assert_eq!(click["to"].as_str(), Some(name.as_str()));

    find_him(&folder, &name);
}

/// By the key, whatever the detail and the case; and by nothing else.
fn find_him(folder: &Folder, name: &str) {
    for to in ["quentinzed@corp.example", "QuentinZed+other@CORP.example", name] {
        let (said, _, code) = folder.command(&["audit", "find", "--to", to]);
        assert!(code == Some(0) && said.contains("pressed the button") && !said.to_lowercase().contains("quentin"), "{to}: {said}");
    }
    let (said, _, code) = folder.command(&["audit", "find", "--to", "quentin"]);
    assert!(
        code == Some(1) && said.contains("hold pseudonyms, which a part of an address does not find: write the whole address"),
        "{said}"
    );
    // Rotated, both are found by; destroyed, neither.
    let key = folder.path("recipients.key");
    assert_eq!(folder.command(&["keygen", "--out", key.to_str().unwrap()]).2, Some(0));
    assert_eq!(folder.command(&["audit", "find", "--to", "quentinzed@corp.example"]).2, Some(0));
    fs::remove_file(&key).unwrap();
    assert_eq!(folder.command(&["keygen", "--out", key.to_str().unwrap()]).2, Some(0));
    let (said, _, code) = folder.command(&["audit", "find", "--to", "quentinzed@corp.example"]);
    let wanted = "hold pseudonyms, made with a key that is not in [audit] recipients_key_file";
    assert!(code == Some(1) && said.contains(wanted), "{said}");
    // Nobody of another domain is meant.
    let (said, _, code) = folder.command(&["audit", "find", "--to", "quentinzed@corp.test"]);
    assert!(code == Some(1) && !said.contains("pseudonyms"), "{said}");
    assert_clear_and_hidden(folder);
}

/// Where records of both kinds are there, what was found is not all there is.
fn assert_clear_and_hidden(folder: &Folder) {
    let records = read_records(&folder.audit());
    let is_of = |record: &&Value, domain: &str| record["type"] == "mail" && record["to"].to_string().contains(domain);
    let hidden = records.iter().filter(|record| is_of(record, "corp.example")).count();
    let mut clear = records.iter().find(|record| record["type"] == "mail").unwrap().clone();
    clear.as_object_mut().unwrap().remove("recipients_key");
    (clear["to"], clear["id"]) = (serde_json::json!([TO]), "clear".into());
    // As records are written: what each begins with is in order.
    let time = clear["time"].as_str().unwrap().to_owned();
    let rest = clear.to_string().split_once('{').unwrap().1.to_owned();
    let mut rest: serde_json::Map<String, Value> = serde_json::from_str(&format!("{{{rest}")).unwrap();
    for key in ["type", "v", "time", "id"] {
        rest.remove(key);
    }
    let rest = Value::Object(rest).to_string();
    let line = format!(r#"{{"type":"mail","v":1,"time":"{time}","id":"clear",{}"#, rest.strip_prefix('{').unwrap());
    let both = folder.path("both");
    fs::create_dir(&both).unwrap();
    let text: String =
        firstclick::audit::chain::files(&folder.audit()).unwrap().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    fs::write(both.join("audit-20261124.jsonl"), format!("{text}{line}\n")).unwrap();
    let both = both.to_str().unwrap();
    let of_that_time = format!("{hidden} mails of that time hold pseudonyms, ");
    for (to, says) in [
        ("quentinzed", "which a part of an address does not find: write the whole address"),
        ("quentinzed@corp.example", "made with a key that is not in [audit] recipients_key_file"),
    ] {
        let find = ["audit", "find", "--directory", both, "--to", to];
        let (said, _, code) = folder.command(&find);
        assert!(code == Some(0) && said.contains(" clear ") && said.contains(&format!("{of_that_time}{says}")), "{to}: {said}");
        assert!(said.ends_with("\n1 mail\n"), "{said}");
        let (said, complained, code) = folder.command(&[&find[..], &["--json"]].concat());
        assert!(code == Some(0) && !said.contains("pseudonyms") && complained.contains(&format!("{of_that_time}{says}")), "{complained}");
    }
    // Of those that match otherwise.
    let (said, _, _) = folder.command(&["audit", "find", "--directory", both, "--to", "quentinzed@corp.example", "--decision", "act"]);
    assert!(said.contains("1 mail that matches otherwise holds pseudonyms, made with"), "{said}");
    // A configuration without the key, and none that could be read.
    let find = ["audit", "find", "--directory", both, "--to", "quentinzed@corp.example"];
    folder.configure("next_hop = \"127.0.0.1:1\"", "");
    let (said, _, _) = folder.command(&find);
    let config = folder.path("firstclick.toml").display().to_string();
    let wanted = format!("{of_that_time}and there is no key to find an address by: [audit] recipients_key_file is not set in {config}");
    assert!(said.contains(&wanted) && !said.contains("--config"), "{said}");
    fs::write(folder.path("firstclick.toml"), "x").unwrap();
    let (said, _, _) = folder.command(&find);
    assert!(said.contains(&format!("{config} cannot be read as it is; `firstclick check` says why")), "{said}");
}

#[test]
fn pseudonyms_need_a_key_of_their_own() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "recipients = \"hashed\"");
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("audit.recipients_key_file: recipients = \"hashed\" needs a key file of its own"), "{said}");
    folder.configure("next_hop = \"127.0.0.1:1\"", "recipients = \"hashed\"\nrecipients_key_file = \"tag.key\"");
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("is tag.key_file, too"), "{said}");
    folder.configure("next_hop = \"127.0.0.1:1\"", "recipients = \"masked\"");
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("audit.recipients"), "{said}");
}
