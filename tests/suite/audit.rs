//! What an admin sees of the audit by the command line: `find`, `tail`, `verify`; and what `explain` says of the same mails.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::Value;

use crate::hop::{
    PATIENCE, VENDOR, hop, poll, read_records, reset_mail,
    sink::{Act, DOT, Sink},
    told_signature,
};

const ORDINARY: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nMessage-ID: <ordinary@b.test>\r\nSubject: x\r\n\r\nx\r\n";

fn exempt() -> Vec<u8> {
    let results = "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    format!("{results}{}{}", told_signature("vendor.test"), reset_mail()).into_bytes()
}

/// What a command says, and how it exits.
fn firstclick(arguments: &[&str], folder: &Path) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstclick"));
    let output = command.args(arguments).args(["--directory", folder.to_str().unwrap()]).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_mails_can_be_found() {
    let sink = Sink::start().await;
    let hop = hop().allow("vendor", VENDOR).trusting_upstream("mx.corp.example").next_hop(&sink).start().await;
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], ORDINARY).await.starts_with("250"));
    assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], &exempt()).await.starts_with("250"));
    sink.on(DOT, Act::Say("550 5.7.1 no".into()));
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], ORDINARY).await.starts_with("550 5.7.1"));
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], b"Subject: x\r\n\r\na\nb\r\n").await.starts_with("550 5.5.2"));
    let lines = poll("all records", || {
        let records = read_records(&hop.audit);
        (records.iter().any(|record| record["type"] == "refusal") && records.iter().any(|record| record["type"] == "outcome"))
            .then_some(records.len())
    })
    .await;

    // For people.
    let (said, code) = firstclick(&["audit", "find", "--decision", "act"], &hop.audit);
    assert!(said.contains(" act entry=vendor kind=password_reset from=<bounce@vendor.test> to=<bob@corp.example>"), "{said}");
    assert!(said.contains("one-time link https://login.vendor.test/reset/{40}") && said.contains(" accepted next hop: 250 "), "{said}");
    assert!(said.ends_with("\n1 mail\n") && code == Some(0), "{said}");
    let (said, code) = firstclick(&["audit", "find", "--to", "nobody@corp.example"], &hop.audit);
    assert!(said.starts_with("looked at ") && said.ends_with("\n0 mails\n") && code == Some(1), "{said}");
    // For pipelines: the mail's record, and behind it what became of it.
    let (said, _) = firstclick(&["audit", "find", "--json", "--message-id", "reset-1@vendor.test"], &hop.audit);
    let found: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> = found.iter().map(|record| record["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["mail", "outcome"], "{said}");

    let (said, _) = firstclick(&["audit", "tail", "-n", "2"], &hop.audit);
    assert_eq!(said.lines().filter(|line| !line.starts_with(' ')).count(), 2, "{said}");
    assert!(said.contains("refused by the hop itself: 550 5.5.2 the mail holds a CR or an LF that stands alone"), "{said}");
    let (said, code) = firstclick(&["audit", "verify"], &hop.audit);
    assert!(said.starts_with(&format!("{lines} lines in 1 file, from the first line ever")) && code == Some(0), "{said}");

    // Somebody makes an exemption an ordinary mail.
    let file = firstclick::audit::chain::files(&hop.audit).unwrap().pop().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"decision\":\"act\"", "\"decision\":\"pass\"")).unwrap();
    let (said, code) = firstclick(&["audit", "verify"], &hop.audit);
    assert!(said.contains("the chain is broken: audit-") && code == Some(1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstclick"));
    command.args(["audit", "tail", "--follow", "--json", "--directory", hop.audit.to_str().unwrap()]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let next = || -> Value { serde_json::from_str(&lines.recv_timeout(PATIENCE).expect("a line comes")).unwrap() };
    assert_eq!(next()["type"], "start");
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], ORDINARY).await.starts_with("250"));
    let record = next();
    assert_eq!((record["type"].as_str(), record["message_id"].as_str()), (Some("mail"), Some("<ordinary@b.test>")));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// `explain` says what the hop would do, and that it would refuse where it would.
#[test]
fn explain_says_what_the_hop_refuses() {
    let folder = tempfile::TempDir::new().unwrap();
    for (name, mail, says) in [
        ("ordinary.eml", ORDINARY.to_vec(), "\"decision\":\"pass\""),
        ("looping.eml", [b"Received: x\r\n".repeat(200), ORDINARY.to_vec()].concat(), "\"reply\":\"554 5.4.6 the mail is looping"),
        ("large.eml", [b"X-Large: ".to_vec(), vec![b'x'; 4 << 20], b"\r\n".to_vec(), ORDINARY.to_vec()].concat(), "\"reply\":\"552 5.3.4"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, mail).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_firstclick")).args(["explain", "--json"]).arg(&path).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(says), "{name}: {said}");
    }
}
