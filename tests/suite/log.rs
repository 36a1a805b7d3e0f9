//! The log: the journal's priorities and fields, text and JSON, one clock, `RUST_LOG`.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    hop::{
        Client, Sink, VENDOR,
        certificate::Authority,
        missing, needs,
        page::ask,
        poll,
        process::{Folder, Process, program},
        reset_mail, told_signature,
    },
    service::{BELIEVING, MAIL, tagged},
};

/// The next datagram; a signal on the way is no reason to miss it.
pub(crate) fn received(socket: &UnixDatagram, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// A program that is ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An entry of the journal's native protocol.
fn entry(datagram: &[u8]) -> HashMap<String, String> {
    let (mut fields, mut rest) = (HashMap::new(), datagram);
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8(rest[..end].to_vec()).unwrap();
        rest = &rest[end + 1..];
        let (name, value) = line.split_once('=').map_or_else(
            || {
                let length = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                let value = String::from_utf8(rest[8..8 + length].to_vec()).unwrap();
                rest = &rest[8 + length + 1..];
                (line.clone(), value)
            },
            |(name, value)| (name.to_owned(), value.to_owned()),
        );
        fields.insert(name, value);
    }
    fields
}

/// Where standard error leads to the journal, as under systemd, each line is an entry with its priority and its values as fields:
/// `journalctl -p warning` and `journalctl FIRSTCLICK_ID=...` find what they should.
#[tokio::test(flavor = "multi_thread")]
async fn under_systemd_lines_have_priorities_and_fields() {
    if needs("unshare").is_none() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return missing("root");
    }
    let (sink, journal) = (Sink::start().await, tempfile::TempDir::new().unwrap());
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let socket = UnixDatagram::bind(journal.path().join("socket")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let script = "mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && mkdir /run/systemd/journal && mount --bind \"$1\" /run/systemd/journal && \
                  export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", script, "bash"]).arg(journal.path()).arg(program());
    command.arg("--config").arg(folder.path("firstclick.toml")).arg("run").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut running = Ended(command.spawn().unwrap());
    let next = |message: &str| {
        for _ in 0..50 {
            let mut datagram = vec![0; 65_536];
            let length = received(&socket, &mut datagram).unwrap();
            let found = entry(&datagram[..length]);
            if found["MESSAGE"].starts_with(message) {
                return found;
            }
        }
        panic!("no entry {message:?}");
    };
    let listening = next("listening");
    assert_eq!((listening["PRIORITY"].as_str(), listening["SYSLOG_IDENTIFIER"].as_str()), ("6", "firstclick"));
    let mut client = Client::connect(listening["FIRSTCLICK_ADDRESS"].parse().unwrap()).await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    let mail = next("mail id=");
    assert_eq!((mail["FIRSTCLICK_DECISION"].as_str(), mail["FIRSTCLICK_FROM"].as_str()), ("pass", "<a@b.test>"));
    assert!(mail["MESSAGE"].contains("decision=\"pass\"") && !mail["MESSAGE"].contains("INFO"), "{mail:?}");
    assert!(sink.mail(1).await.data.windows(mail["FIRSTCLICK_ID"].len()).any(|piece| piece == mail["FIRSTCLICK_ID"].as_bytes()));
    // A mistake in the configuration is a line of its own priority, though its text has several lines.
    std::fs::write(folder.path("firstclick.toml"), "mode = \"off\"\nallow = 1\n").unwrap();
    let refused = next("not reloaded");
    assert_eq!(refused["PRIORITY"], "3");
    assert!(refused["FIRSTCLICK_ERROR"].contains("mode"), "{refused:?}");
    // systemd goes by its own stream: nothing of it is said twice.
    let _ = running.0.kill();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut running.0.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_json_have_the_audits_clock_and_rust_log_counts_first() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "[log]\nformat = \"json\"\nlevel = \"debug\"");
    let mut command = Command::new(program());
    command.arg("--config").arg(folder.path("firstclick.toml")).arg("run").env("RUST_LOG", "firstclick=loud").stdin(Stdio::null());
    let process = Process::start(&mut command).await;
    let lines = poll("a few lines", || Some(process.log()).filter(|log| log.contains("RUST_LOG"))).await;
    for line in lines.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = object["timestamp"].as_str().unwrap();
        assert!(time.len() == "2026-11-25T18:51:46.476Z".len() && time.ends_with('Z'), "{line}");
    }
    assert!(lines.contains("\"level\":\"WARN\"") && lines.contains("the level of [log] counts"), "{lines}");
    drop(process);
    folder.configure(&format!("next_hop = \"{}\"", sink.address), "[log]\nlevel = \"error\"");
    let mut command = Command::new(program());
    command.arg("--config").arg(folder.path("firstclick.toml")).arg("run").env("RUST_LOG", "info").stdin(Stdio::null());
    let process = Process::start(&mut command).await;
    let line = process.says("listening").await;
    let time: jiff::Timestamp = line.split(' ').next().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(time).as_secs() < 60, "{line}");
    drop(process);
    // Without the variable the level of the configuration holds: nothing but errors.
    let mut command = Command::new(program());
    command.arg("--config").arg(folder.path("firstclick.toml")).arg("run").stdin(Stdio::null());
    folder.configure(&format!("next_hop = \"{}\"\nlisten_tls = [\"nowhere\"]", sink.address), "[log]\nlevel = \"error\"");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("listen_tls"));
}

/// The lines of `/readyz` and of `/metrics`.
async fn pages(process: &Process) -> (u16, String, String) {
    let address = process.says("the admin page is there").await.split("address=").nth(1).unwrap().trim().to_owned();
    let ready = ask("GET", &format!("http://{address}/readyz"), &[], "").await;
    let metrics = ask("GET", &format!("http://{address}/metrics"), &[], "").await;
    (ready.status, ready.body, metrics.body)
}

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// DNS is away: mails flow, and one warning, a metric, `/readyz` and a near miss say why nothing is exempted.
#[tokio::test(flavor = "multi_thread")]
async fn dns_that_does_not_answer_is_told() {
    let (sink, silent) = (Sink::start().await, std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let identity = format!("[identity]\ndns = [\"{}\"]\ndeadline = \"400ms\"\n{ADMIN}", silent.local_addr().unwrap());
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), &identity);
    std::fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    let process = folder.run().await;
    assert_eq!(pages(&process).await.1, "ready\n");
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    let mail = format!("{}{}", told_signature("vendor.test"), reset_mail());
    for _ in 0..3 {
        assert!(client.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    }
    let (status, ready, metrics) = pages(&process).await;
    assert_eq!(status, 200, "mails can be taken");
    assert!(ready.contains("dns: DNS does not answer, ") && ready.contains("timed out"), "{ready}");
    assert!(metrics.contains("firstclick_dns_answers_total 0\n") && !metrics.contains("firstclick_dns_failures_total 0\n"), "{metrics}");
    let log = process.log();
    assert_eq!(log.lines().filter(|line| line.contains("WARN") && line.contains("DNS does not answer")).count(), 1, "{log}");
    let near = poll("the records", || {
        let records = crate::hop::read_records(&folder.audit());
        let near: Vec<_> = records.iter().filter(|record| record["decision"] == "near_miss").cloned().collect();
        (near.len() == 3).then_some(near)
    })
    .await;
    assert!(near[0]["reasons"].to_string().contains("DNS did not answer"), "{}", near[0]);
}

/// The next hop is away, and comes back: told once each, and by `/readyz` in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_is_away_is_told_until_it_is_back() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let folder = Folder::new(&format!("next_hop = \"{address}\""), ADMIN);
    std::fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    for _ in 0..3 {
        assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("451"));
        client.say("RSET").await;
    }
    let (status, ready, metrics) = pages(&process).await;
    assert_eq!(status, 200, "one next hop for all replicas: a load balancer must not take all of them out");
    assert!(ready.contains("next_hop: next hop: cannot be reached, 4 times since") && ready.contains(&address.to_string()), "{ready}");
    assert!(metrics.contains("firstclick_next_hop_failures_total 4\n"), "{metrics}");
    let log = process.log();
    assert_eq!(log.lines().filter(|line| line.contains("next hop: cannot be reached")).count(), 1, "{log}");
    let sink = Sink::start_at(address).await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    process.says("next hop: can be reached again").await;
    assert_eq!((pages(&process).await.1.as_str(), sink.mails().len()), ("ready\n", 1));
}

/// Each outage is told when it begins, and systemd hears of it; one that comes and goes all the time does not fill the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_outage_is_told_at_once_and_the_tenth_is_not() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let folder = Folder::new(&format!("next_hop = \"{address}\""), ADMIN);
    let notices = UnixDatagram::bind(folder.path("notify")).unwrap();
    notices.set_read_timeout(Some(crate::hop::PATIENCE)).unwrap();
    let process = folder.run_after(&format!("export NOTIFY_SOCKET={}", folder.path("notify").display())).await;
    let hears = |words: &str| {
        let mut buffer = [0; 4_000];
        loop {
            let length = received(&notices, &mut buffer).expect(words);
            if String::from_utf8_lossy(&buffer[..length]).contains(words) {
                break;
            }
        }
    };
    hears("STATUS=takes mails; entries: ");
    let count = |words: &str| process.log().lines().filter(|line| line.contains(words)).count();
    for outage in 1..=8 {
        let mut client = Client::connect(process.address).await;
        client.greet().await;
        assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("451"));
        let told = outage.min(5);
        poll("told that it is away", || (count("next hop: cannot be reached") == told).then_some(())).await;
        if outage == 1 {
            hears("next_hop: next hop: cannot be reached");
        }
        let listener = std::net::TcpListener::bind(address).unwrap();
        let greeting = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            std::io::Write::write_all(&mut stream, b"220 there\r\n").unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            std::io::Write::write_all(&mut stream, b"250 there\r\n").unwrap();
        });
        client.say("RSET").await;
        client.say("MAIL FROM:<a@b.test>").await;
        greeting.join().unwrap();
        poll("told that it is back", || (count("next hop: can be reached again") == told).then_some(())).await;
    }
}

/// The audit's disk refuses: one warning, `/readyz` says what is withheld, and the metrics count; a mail is still taken.
#[tokio::test(flavor = "multi_thread")]
async fn exemptions_that_are_withheld_are_told() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), &format!("{BELIEVING}\n{ADMIN}"));
    std::fs::write(folder.path("allow.d/vendor.toml"), format!("limit = \"unlimited\"\nexpires = 2099-12-31\n{VENDOR}")).unwrap();
    let process = folder.run_after("trap '' XFSZ; ulimit -f 16").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    let mut without = 0;
    for _ in 0..60 {
        without += usize::from(!tagged(&mut client, &sink).await);
        if without == 3 {
            break;
        }
    }
    assert_eq!(without, 3, "the audit filled up");
    let (status, ready, metrics) = pages(&process).await;
    assert_eq!(status, 200);
    assert!(ready.contains("exemptions: exemption withheld, ") && ready.contains("audit: audit records cannot be written"), "{ready}");
    assert!(metrics.contains("firstclick_exemptions_withheld_total 3\n"), "{metrics}");
    for line in [
        "firstclick_mode{mode=\"enforce\"} 1",
        "firstclick_mode{mode=\"observe\"} 0",
        "firstclick_entry_expires_timestamp_seconds{entry=\"vendor\"} 4102444800",
    ] {
        assert!(metrics.lines().any(|is| is == line), "{line}: {metrics}");
    }
    for name in ["memory_bytes", "readings_waiting", "audit_queue_bytes"] {
        assert!(metrics.contains(&format!("\nfirstclick_{name} ")) && metrics.ends_with("# EOF\n"), "{name}: {metrics}");
    }
    let log = process.log();
    assert_eq!(log.lines().filter(|line| line.contains("WARN") && line.contains("exemption withheld")).count(), 1, "{log}");
}

/// A certificate that ends soon is told before it does.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_end_are_told() {
    let authority = Authority::new();
    let files = authority.issue_until("hop.test", 10);
    let smtp = format!("next_hop = \"127.0.0.1:1\"\ncertificate = \"{}\"\nkey = \"{}\"", files.certificate.display(), files.key.display());
    let folder = Folder::new(&smtp, ADMIN);
    let process = folder.run().await;
    let line = process.says("certificates end").await;
    assert!(line.contains("WARN") && line.contains("smtp.certificate ends 20"), "{line}");
    let (status, ready, metrics) = pages(&process).await;
    assert!(status == 200 && ready.contains("certificates: smtp.certificate ends 20"), "{ready}");
    let shown = "firstclick_certificate_expires_timestamp_seconds{key=\"smtp.certificate\"} ";
    let end: i64 = metrics.lines().find_map(|line| line.strip_prefix(shown)).unwrap().parse().unwrap();
    let days = (end - firstclick::clock::now().as_second()) / 86_400;
    assert!((8..=10).contains(&days), "{days}");
}

/// Nobody reads standard error: mails flow, what does not fit is counted, and told once it is read again. The last lines are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_no_mail_and_what_was_dropped_is_told() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), ADMIN);
    let mut command = Command::new(program());
    command.arg("--config").arg(folder.path("firstclick.toml")).arg("run").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut running = Ended(command.spawn().unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut address = |words: &str| -> String {
        let line = lines.find(|line| line.contains(words)).unwrap();
        line.split("address=").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    let (hop, page) = (address("listening"), address("the admin page is there"));
    let count = async || -> u64 {
        let metrics = ask("GET", &format!("http://{page}/metrics"), &[], "").await.body;
        let value = metrics.lines().find_map(|line| line.strip_prefix("firstclick_log_lines_dropped_total ")).map(str::to_owned);
        value.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
    };
    assert_eq!(count().await, 0);
    let mut client = Client::connect(hop.parse().unwrap()).await;
    client.greet().await;
    let sender = format!("<{}@b.test>", "long".repeat(60));
    let mut sent = 0;
    while sent % 100 != 0 || count().await == 0 {
        assert!(client.send(&sender, &["<c@d.test>"], MAIL).await.starts_with("250"), "mail {sent}");
        sent += 1;
        assert!(sent < 20_000, "the buffer has a bound");
    }
    let dropped = count().await;
    let told = lines.find(|line| line.contains("log lines were dropped")).unwrap();
    assert!(told.contains("ERROR") && told.contains(&format!("lines={dropped}")), "{told}, and the metric says {dropped}");
    assert!(Command::new("kill").arg(running.0.id().to_string()).status().unwrap().success());
    let last = lines.last().unwrap();
    assert!(last.ends_with("stopped"), "{last}");
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

/// A panic is a line of the log like any other; and whoever ends by an error has its lines out before.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_before_an_end_are_there() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let process = folder.run_after("export FIRSTCLICK_FAULT=delivery").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert_eq!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await, "");
    let line = process.says("panicked at").await;
    assert!(line.contains(" ERROR firstclick::log: panicked at src/") && line.contains("a test asked for a fault here"), "{line}");
    process.says("a session panicked").await;
    drop(process);
    // The start waits, and fails by what a person must mend: both are told, in their order.
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    std::fs::write(folder.audit(), "no folder").unwrap();
    let output = Command::new("bash")
        .args(["-c", "RUST_LOG=loud=loud exec \"$@\"", "bash", &program(), "--config"])
        .arg(folder.path("firstclick.toml"))
        .arg("run")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let (log, error) = (said.find("RUST_LOG cannot be read"), said.find("firstclick: the audit folder"));
    assert!(output.status.code() == Some(2) && log < error && log.is_some(), "{said}");
}
