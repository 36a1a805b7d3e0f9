//! The log: the journal's priorities and fields, text and JSON, one clock, `RUST_LOG`.

use std::{
    collections::HashMap,
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    hop::{
        Client, Sink, missing, needs, poll,
        process::{Folder, Process, program},
    },
    service::MAIL,
};

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
            let length = socket.recv(&mut datagram).unwrap();
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
