//! The second day of an admin, walked from end to end with the real program: everything that is done after the installation, in
//! the order in which it happens to people. docs/operations.md says how; this test does what it says.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::Command,
};

use crate::{
    hop::{
        Client, Sink, VENDOR, needs,
        page::ask,
        process::{Folder, Process},
        read_records, reset_mail,
    },
    reload::reloaded_after,
    service::{BELIEVING, MAIL},
};

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// A folder, its service and the next hop, as the admin and the upstream meet them.
struct Day {
    folder: Folder,
    sink: Sink,
    port: u16,
}

impl Day {
    async fn begin() -> Self {
        let sink = Sink::start().await;
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
        let day = Self { folder, sink, port };
        day.configure("key_file = \"audit.key\"\nstate = \"state\"");
        day.admin(&["keygen", "--out", "audit.key"], 0);
        fs::remove_file(day.folder.path("tag.token")).unwrap();
        day.admin(&["keygen", "--token", "--out", "tag.token"], 0);
        fs::write(day.folder.path("allow.d/vendor.toml"), format!("limit = \"unlimited\"\n{VENDOR}")).unwrap();
        day
    }

    /// `audit` are further keys of `[audit]`.
    fn configure(&self, audit: &str) {
        let next_hop = self.sink.address;
        let text = format!(
            "mode = \"enforce\"\nallow = \"allow.d\"\n[smtp]\nlisten = [\"127.0.0.1:{}\"]\nhostname = \"hop.test\"\nnext_hop = \"{next_hop}\"\n\
             [tag]\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n[audit]\ndirectory = \"audit\"\n{audit}\n{BELIEVING}\n{ADMIN}",
            self.port
        );
        fs::write(self.folder.path("firstclick.toml"), text).unwrap();
    }

    /// A command of the admin's, in the folder of the configuration; all that it printed.
    fn admin(&self, arguments: &[&str], code: i32) -> String {
        let named: Vec<String> = arguments
            .iter()
            .map(|word| match *word {
                word @ ("tag.token" | "tag.key" | "audit.key") => self.folder.path(word).display().to_string(),
                word => word.to_owned(),
            })
            .collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        let (out, err, found) = self.folder.command(&named);
        assert_eq!(found, Some(code), "{arguments:?}: {out}{err}");
        format!("{out}{err}")
    }

    async fn run(&self) -> Process {
        self.folder.run().await
    }

    /// Runs the service on a day that is so many hours away, with a disk that can fill up.
    async fn run_on_a_day(&self, hours: i64) -> Process {
        let clock = format!(
            "export LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1) FAKETIME={hours:+}h FAKETIME_DONT_FAKE_MONOTONIC=1; trap '' XFSZ"
        );
        self.folder.run_after(&clock).await
    }

    /// A reset mail of the vendor's that is signed so many hours away; what it carried when it had come: the token, or nothing.
    async fn mail(&self, hours: i64) -> Option<String> {
        let mut client = Client::connect(([127, 0, 0, 1], self.port).into()).await;
        client.greet().await;
        let signed = firstclick::clock::now().as_second() + hours * 3_600;
        let mail = format!(
            "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n\
             DKIM-Signature: v=1; a=rsa-sha256; d=vendor.test; s=s1; t={signed};\r\n\th=from:to:subject:date:message-id:mime-version:content-type; bh=YWJj; b={}\r\n{}",
            firstclick::clock::id(),
            reset_mail()
        );
        let before = self.sink.mails().len();
        assert!(client.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
        let come = String::from_utf8(self.sink.mail(before + 1).await.data).unwrap();
        come.lines().find_map(|line| line.strip_prefix("X-Firstclick: ")).map(str::to_owned)
    }

    fn token(&self) -> String {
        let text = fs::read_to_string(self.folder.path("tag.token")).unwrap();
        text.lines().find(|line| !line.starts_with("next ") && !line.starts_with('#')).unwrap().to_owned()
    }

    fn verify(&self) -> String {
        self.admin(&["audit", "verify"], 0)
    }
}

async fn ready(process: &Process) -> (u16, String) {
    let address = process.says("the admin page is there").await.split("address=").nth(1).unwrap().trim().to_owned();
    let answer = ask("GET", &format!("http://{address}/readyz"), &[], "").await;
    (answer.status, answer.body)
}

async fn stop(mut process: Process) {
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_day() {
    if needs("faketime").is_none() || needs("prlimit").is_none() {
        return;
    }
    let day = Day::begin().await;

    // Yesterday: the first day, with one mail.
    let process = day.run_on_a_day(-24).await;
    assert_eq!(day.mail(-24).await, Some(day.token()));
    stop(process).await;

    // Today: the token is rotated. No mail carries one that the scanner's rule does not know yet.
    let process = day.run().await;
    let old = day.token();
    reloaded_after(&process, || drop(day.admin(&["keygen", "--token", "--stage", "--out", "tag.token"], 0))).await;
    assert_eq!(day.mail(0).await, Some(old.clone()), "staged is not written");
    let rule = day.admin(&["setup", "defender", "--hop", "192.0.2.25"], 0);
    let staged = fs::read_to_string(day.folder.path("tag.token")).unwrap();
    let new = staged.lines().find_map(|line| line.strip_prefix("next ")).unwrap().to_owned();
    assert!(rule.contains(&old) && rule.contains(&new), "{rule}");
    reloaded_after(&process, || drop(day.admin(&["keygen", "--token", "--activate", "--out", "tag.token"], 0))).await;
    assert_eq!(day.mail(0).await, Some(new.clone()));
    reloaded_after(&process, || drop(day.admin(&["keygen", "--token", "--retire", "--out", "tag.token"], 0))).await;
    assert!(!day.admin(&["setup", "defender", "--hop", "192.0.2.25"], 0).contains(&old));

    // The keys: of the tag, of the audit. The chain is one all the same.
    reloaded_after(&process, || drop(day.admin(&["keygen", "--out", "tag.key"], 0))).await;
    reloaded_after(&process, || drop(day.admin(&["keygen", "--out", "audit.key"], 0))).await;
    assert_eq!(day.mail(0).await, Some(new.clone()));
    let told = day.verify();
    assert!(told.contains("the chain holds"), "{told}");

    // A log rotation that nobody asked for moves the live file away: noticed before the next exemption, and told.
    let live = firstclick::audit::chain::files(&day.folder.audit()).unwrap().pop().unwrap();
    let away = day.folder.path("away.jsonl");
    fs::rename(&live, &away).unwrap();
    assert_eq!(day.mail(0).await, Some(new.clone()));
    process.says("touched by somebody else").await;
    assert!(live.exists(), "records go on");
    assert!(day.admin(&["audit", "verify"], 1).contains("the chain is broken"), "the moved records are missing, and it says so");
    // What was moved is put back beside it, under a name of its own.
    fs::rename(&away, live.with_extension("jsonl.1")).unwrap();
    assert!(day.verify().contains("the chain holds"));

    // One entry is broken in mid-edit: it is out, the others stay, the service is ready and says so.
    fs::write(day.folder.path("allow.d/other.toml"), "from = [\"other.test\"]\nlinks = 7\n").unwrap();
    let (status, body) = {
        let start = std::time::Instant::now();
        loop {
            let (status, body) = ready(&process).await;
            if body.contains("other.toml") {
                break (status, body);
            }
            assert!(start.elapsed() < crate::hop::PATIENCE, "{body}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    assert_eq!(status, 200, "{body}");
    assert_eq!(day.mail(0).await, Some(new.clone()), "the other entry is in force");
    assert!(day.admin(&["check"], 2).contains("other.toml"));
    reloaded_after(&process, || fs::remove_file(day.folder.path("allow.d/other.toml")).unwrap()).await;
    assert_eq!(ready(&process).await, (200, "ready\n".to_owned()));
    stop(process).await;

    // The machine comes up, and another program still has the port: the service waits, says so, and takes mails once it is free.
    let busy = TcpListener::bind(("127.0.0.1", day.port)).unwrap();
    let process = day.folder.run_until("waiting: smtp.listen").await;
    drop(busy);
    process.says("listening").await;
    assert_eq!(day.mail(0).await, Some(new.clone()));
    stop(process).await;

    // The clock steps back over midnight: records go on behind the newest, under no older name.
    let process = day.run_on_a_day(-24).await;
    assert_eq!(day.mail(-24).await, Some(new.clone()));
    let newest = firstclick::audit::chain::files(&day.folder.audit()).unwrap().pop().unwrap();
    let numbers = read_records(&day.folder.audit()).iter().filter_map(|record| record["n"].as_u64()).max();
    let last: serde_json::Value = serde_json::from_str(fs::read_to_string(&newest).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!(last["n"].as_u64(), numbers, "the newest record stands in the newest file");
    assert!(day.verify().contains("the chain holds"));

    // The disk is full: mails flow without an exemption, and the log, /readyz and the metrics say so; then there is room again.
    let size = File::open(&newest).unwrap().metadata().unwrap().len();
    let limit = |octets: &str| {
        let status = Command::new("prlimit").args(["--pid", &process.id().to_string(), &format!("--fsize={octets}")]).status().unwrap();
        assert!(status.success());
    };
    limit(&format!("{size}:unlimited"));
    assert_eq!(day.mail(-24).await, None, "no record, no exemption");
    process.says("exemption withheld").await;
    let (status, body) = ready(&process).await;
    assert!(status == 200 && body.contains("exemptions: "), "{status} {body}");
    limit("unlimited");
    assert_eq!(day.mail(-24).await, Some(new.clone()));
    assert!(!ready(&process).await.1.contains("exemptions: "));
    let mut client = Client::connect(([127, 0, 0, 1], day.port).into()).await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    stop(process).await;
    assert!(day.verify().contains("the chain holds"), "no half line breaks it");

    // The help desk looks for the mails that bob got yesterday, and sees those of both processes of that day.
    let found = day.admin(&["audit", "find", "--to", "bob@corp.example", "--since", "yesterday", "--until", "yesterday"], 0);
    let acts = found.lines().filter(|line| line.contains(" act ") && line.contains("bob@corp.example")).count();
    assert_eq!(acts, 3, "{found}");
    let none = day.admin(&["audit", "find", "--to", "bob@corp.example", "--since", "2020-01-01", "--until", "2020-01-02"], 1);
    assert!(none.contains("0 mails"), "{none}");
    assert!(day.admin(&["audit", "find", "--since", "yesteryear"], 2).contains("yesteryear"), "nonsense is a mistake, not 0 mails");
    assert!(day.admin(&["audit", "find", "--decision", "acted"], 2).contains("near_miss"), "and what is allowed is said");
}
