//! The admin page of the real program: alive, ready, and what it counted.

use std::fs;

use crate::hop::{
    Client, Sink, VENDOR,
    page::{Answer, ask},
    poll,
    process::{Folder, Process},
    reset_mail, stuffed,
};

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\nX-Firstclick: forged\r\n\r\nHello.\r\n";
const SECTIONS: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n[identity]\nverify = \"upstream\"\nauthserv_ids = [\"mx.corp.example\"]\ntrusted_upstreams = [\"127.0.0.0/8\"]";

async fn page(process: &Process) -> String {
    let line = process.says("the admin page is there").await;
    line.split("address=").nth(1).unwrap().trim().to_owned()
}

async fn get(address: &str, path: &str) -> Answer {
    ask("GET", &format!("http://{address}/{path}"), &[], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_counted() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), SECTIONS);
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    let process = folder.run().await;
    let address = page(&process).await;
    let results = "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    let reset = format!("{results}{}{}", crate::hop::told_signature("vendor.test"), reset_mail()).into_bytes();
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(client.send("<bounce@vendor.test>", &["<bob@corp.example>"], &reset).await.starts_with("250"));
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    let answer = get(&address, "metrics").await;
    assert!(answer.headers["content-type"].starts_with("application/openmetrics-text"), "{:?}", answer.headers);
    for line in [
        "firstclick_mails_total{decision=\"act\",observed=\"false\"} 1",
        "firstclick_mails_total{decision=\"pass\",observed=\"false\"} 1",
        "firstclick_stopped_total{check=\"sender\"} 1",
        "firstclick_entry_mails_total{entry=\"vendor\",decision=\"act\"} 1",
        "firstclick_forged_headers_removed_total 1",
        "firstclick_deliveries_total{delivery=\"accepted\"} 2",
        "firstclick_mail_seconds_count 2",
        "firstclick_sessions_total{protocol=\"smtp\"} 1",
        "firstclick_sessions_open{protocol=\"smtp\"} 1",
        "firstclick_allowlist_entries 1",
        "firstclick_audit_failures_total 0",
        "# EOF",
    ] {
        assert!(answer.body.lines().any(|is| is == line), "{line} is not in\n{}", answer.body);
    }
    // Nothing that came with a mail is a label.
    assert!(!answer.body.contains(".test"), "{}", answer.body);

    folder.configure("next_hop = \"nowhere\"", SECTIONS);
    process.says("not reloaded").await;
    client.say("QUIT").await;
    let (mut open, start) = (String::new(), std::time::Instant::now());
    while !open.contains("firstclick_sessions_open{protocol=\"smtp\"} 0") {
        assert!(start.elapsed() < crate::hop::PATIENCE, "the session did not end: {open}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        open = get(&address, "metrics").await.body;
    }
    assert!(open.contains("firstclick_reloads_total{result=\"refused\"} 1"), "{open}");
    assert_eq!(get(&address, "nowhere").await.status, 404);
}

/// A load balancer hears that the service stops while it finishes its mails.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_until_it_stops() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), SECTIONS);
    let mut process = folder.run().await;
    let address = page(&process).await;
    assert_eq!((get(&address, "healthz").await.status, get(&address, "readyz").await.status), (200, 200));
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.say(line).await;
    }
    process.signal("TERM");
    process.says("stopping").await;
    assert_eq!((get(&address, "healthz").await.status, get(&address, "readyz").await.status), (200, 503));
    client.raw(&stuffed(MAIL)).await;
    assert!(client.reply().await.starts_with("250"));
    assert_eq!(process.ended().await, Some(0));
    poll("the page's end", || std::net::TcpStream::connect(&address).is_err().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_and_dangers_are_told() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "[admin]\n");
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("admin.listen: missing, expected ADDRESS:PORT"), "{said}");
    folder.configure("next_hop = \"127.0.0.1:1\"", "[admin]\nlisten = \"0.0.0.0:9925\"\n");
    let (said, complaint, code) = folder.command(&["check"]);
    assert!(code == Some(0) && said.contains("admin.listen") && said.contains("firewall"), "{said}{complaint}");
}
