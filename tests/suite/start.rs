//! How the real program starts, waits and gives up: nothing depends on which of two things is there first.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixDatagram, UnixListener},
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    hop::{
        Client, Sink,
        page::ask,
        poll,
        process::{Folder, Process, program},
    },
    service::MAIL,
};

/// A configuration whose SMTP server wants this port.
fn on_port(address: SocketAddr, smtp: &str, rest: &str) -> Folder {
    let folder = Folder::new(smtp, rest);
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), text.replace("127.0.0.1:0", &address.to_string())).unwrap();
    folder
}

/// How often something was said to systemd, and what.
fn heard(notices: &UnixDatagram) -> String {
    let (mut said, mut buffer) = (String::new(), [0; 4_000]);
    while let Ok(length) = notices.recv(&mut buffer) {
        said.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        said.push('\n');
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_busy_is_waited_for_and_it_is_said() {
    let sink = Sink::start().await;
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = on_port(busy.local_addr().unwrap(), &format!("next_hop = \"{}\"", sink.address), "");
    let notices = UnixDatagram::bind(folder.path("notify")).unwrap();
    notices.set_nonblocking(true).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(folder.path("firstclick.toml")).arg("run").env("NOTIFY_SOCKET", folder.path("notify"));
    let process = Process::start_until(command.stdin(Stdio::null()), "waiting: smtp.listen").await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(process.log().matches("waiting: ").count(), 1, "once: {}", process.log());
    let said = heard(&notices);
    assert!(said.contains("STATUS=waiting") && said.contains("EXTEND_TIMEOUT_USEC=") && !said.contains("READY=1"), "{said}");
    let address = busy.local_addr().unwrap();
    drop(busy);
    process.says("listening").await;
    let said = poll("READY", || Some(heard(&notices)).filter(|said| said.contains("READY=1"))).await;
    assert!(said.contains("STATUS=takes mails"), "{said}");
    let mut client = Client::connect(address).await;
    client.greet().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_in_time_ends_with_75() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap();
    let path = tempfile::TempDir::new().unwrap();
    let socket = path.path().join("milter.sock");
    let _held = UnixListener::bind(&socket).unwrap();
    let next = "next_hop = \"127.0.0.1:1\"";
    // An address of TEST-NET is nobody's (RFC 5737).
    let folders = [
        ("smtp.listen", on_port(address, next, "")),
        ("smtp.listen", on_port("192.0.2.1:2525".parse().unwrap(), next, "")),
        ("milter.listen", Folder::new(next, &format!("[milter]\nlisten = [\"inet:{address}\"]"))),
        ("milter.listen", Folder::new(next, &format!("[milter]\nlisten = [\"unix:{}\"]", socket.display()))),
        ("milter.listen", Folder::new(next, &format!("[milter]\nlisten = [\"unix:{}/not/yet/m.sock\"]", path.path().display()))),
        ("admin.listen", Folder::new(next, &format!("[admin]\nlisten = \"{address}\""))),
        ("another firstclick writes", Folder::new(next, "")),
        ("cannot be used", Folder::new(next, "")),
    ];
    let lock = |folder: &Folder| {
        fs::create_dir_all(folder.audit()).unwrap();
        let file = fs::File::create(folder.audit().join("audit.lock")).unwrap();
        file.try_lock().unwrap();
        file
    };
    let _lock = lock(&folders[6].1);
    // A folder on a share that is not mounted: it is not there, and nobody may make it.
    let text = fs::read_to_string(folders[7].1.path("firstclick.toml")).unwrap();
    fs::write(folders[7].1.path("firstclick.toml"), text.replace("\"audit\"", "\"/proc/share/audit\"")).unwrap();
    let start = Instant::now();
    let mut children = Vec::new();
    for (words, folder) in &folders {
        let mut command = Command::new(program());
        command.arg("--config").arg(folder.path("firstclick.toml")).arg("run").stdin(Stdio::null());
        children.push((words, command.stderr(Stdio::piped()).spawn().unwrap()));
    }
    for (words, child) in children {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(75), "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
        assert!(start.elapsed() > Duration::from_secs(29), "{words} was not waited for: {said}");
    }
    assert!(start.elapsed() < Duration::from_mins(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_must_mend_ends_at_once_with_2() {
    let next = "next_hop = \"127.0.0.1:1\"";
    let folder = Folder::new(next, "");
    fs::write(folder.path("tag.key"), "short\n").unwrap();
    let (_, said, code) = folder.command(&["run"]);
    assert!(code == Some(2) && said.contains("tag.key"), "{said}");
    let folder = Folder::new(next, "");
    fs::write(folder.audit(), "a file").unwrap();
    let (_, said, code) = folder.command(&["run"]);
    assert!(code == Some(2) && said.contains("the audit folder"), "{said}");
    let folder = Folder::new(next, "");
    let rest = format!("[milter]\nlisten = [\"unix:{}\"]", folder.path("tag.token").display());
    folder.configure(next, &rest);
    let (_, said, code) = folder.command(&["run"]);
    assert!(code == Some(2) && said.contains("it is no socket"), "{said}");
    assert_eq!(fs::read_to_string(folder.path("tag.token")).unwrap(), crate::hop::TOKEN, "nothing was removed");
    let folder = Folder::new(next, "");
    fs::remove_file(folder.path("tag.key")).unwrap();
    assert_eq!(folder.command(&["run"]).2, Some(2), "its folder is there, with others in it");
}

#[test]
fn a_configuration_on_a_share_that_is_not_mounted_may_come() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let share = folder.path("share");
    fs::create_dir(&share).unwrap();
    let run = |path: &std::path::Path| Command::new(program()).arg("--config").arg(path).arg("run").output().unwrap().status.code();
    assert_eq!(run(&share.join("firstclick.toml")), Some(75));
    assert_eq!(run(&share.join("below/firstclick.toml")), Some(75));
    assert_eq!(run(&folder.path("fistclick.toml")), Some(2), "others stand beside it");
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), text.replace("\"tag.key\"", "\"share/tag.key\"")).unwrap();
    assert_eq!(run(&folder.path("firstclick.toml")), Some(75));
    fs::write(folder.path("tag.token"), "short").unwrap();
    assert_eq!(run(&folder.path("firstclick.toml")), Some(2), "what is wrong besides stays wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_wait_at_once() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = on_port(busy.local_addr().unwrap(), "next_hop = \"127.0.0.1:1\"", "");
    let mut process = folder.run_until("waiting: ").await;
    let start = Instant::now();
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A package starts the service before anybody has written where mails go.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_next_hop_it_is_there_and_takes_no_mail() {
    let sink = Sink::start().await;
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"";
    for smtp in ["", "next_hop = \"\"", "next_hop = []"] {
        let folder = Folder::new(smtp, admin);
        let (said, complaint, code) = folder.command(&["check"]);
        assert!(code == Some(0) && said.contains("smtp.next_hop: missing, so that no mail can be taken"), "{smtp}: {said}{complaint}");
        let process = folder.run().await;
        let line = process.says("the admin page is there").await;
        let page = format!("http://{}/readyz", line.split("address=").nth(1).unwrap().trim());
        process.says("no next hop is set").await;
        let answer = ask("GET", &page, &[], "").await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("next_hop: none is set"), "{}", answer.body);
        let mut said = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut tokio::net::TcpStream::connect(process.address).await.unwrap(), &mut said)
            .await
            .unwrap();
        assert!(said.starts_with("421 hop.test 4.3.5"), "{said}");
        if smtp.is_empty() {
            // Written, it is taken without a restart; taken out again, it stays.
            folder.configure(&format!("next_hop = \"{}\"", sink.address), admin);
            process.says("reloaded").await;
            assert_eq!(ask("GET", &page, &[], "").await.status, 200);
            let mut client = Client::connect(process.address).await;
            client.greet().await;
            assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
            folder.configure("", admin);
            assert!(process.says("not reloaded").await.contains("smtp.next_hop is gone"));
            let answer = ask("GET", &page, &[], "").await;
            assert!(answer.status == 200 && answer.body.contains("reload: "), "{}", answer.body);
        }
    }
}

/// The error names the true cause: a program gives files only to groups that it is in.
#[test]
fn a_socket_for_a_group_that_the_service_is_not_in() {
    if !rustix::process::geteuid().is_root() {
        crate::hop::missing("root");
        return;
    }
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let rest = format!("[milter]\nlisten = [\"unix:{}\"]\nsocket_owner = \"nobody:daemon\"", folder.path("run/m.sock").display());
    folder.configure("next_hop = \"127.0.0.1:1\"", &rest);
    fs::create_dir(folder.path("run")).unwrap();
    fs::create_dir(folder.audit()).unwrap();
    for path in ["", "run", "audit"] {
        fs::set_permissions(folder.path(path), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let as_nobody = |path: &std::path::Path| {
        Command::new("setpriv")
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
            .arg(path)
            .arg("--config")
            .arg(folder.path("firstclick.toml"))
            .arg("run")
            .output()
            .unwrap()
    };
    // Where others may run it.
    let copy = folder.path("firstclick");
    fs::copy(program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let output = as_nobody(&copy);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot give the socket to group daemon: the service is not in it"), "{said}");
    assert!(!folder.path("run/m.sock").exists(), "no socket is left behind");
}

/// As an upgrade asks: would this program start in the place of the one that runs? Nothing is opened and nothing changed by the question.
#[tokio::test(flavor = "multi_thread")]
async fn whether_it_would_start_in_the_place_of_the_one_that_runs() {
    let sink = Sink::start().await;
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), text.replace("hostname = \"hop.test\"\n", "")).unwrap();
    // By a name of its own, from its folder, and whole by an environment with values of any kind and length.
    let mut command = Command::new("/bin/bash");
    command.args(["-c", "exec -a fc \"$0\" --config firstclick.toml run"]).arg(program()).current_dir(folder.path("."));
    command.env_clear().env("FIRSTCLICK_SMTP__HOSTNAME", "hop.test").env("FIRSTCLICK_SMTP__NEXT_HOP", sink.address.to_string());
    command.env("SECRET", format!("secret\n'\"{}", "x".repeat(100_000))).envs((0..10).map(|n| (format!("LONG{n}"), "y".repeat(50_000))));
    let mut process = Process::start(command.stdin(Stdio::null())).await;
    let asked = || {
        let mut command = Command::new(program());
        command.args(["run", "--dry-run", "--of", &process.id().to_string()]).env("FIRSTCLICK_MODE", "nonsense").current_dir("/");
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("secret"), "{said}");
        (output.status.code(), said)
    };
    let files = || fs::read_dir(folder.audit()).unwrap().count();
    let before = files();
    assert_eq!(asked().0, Some(0), "{}", asked().1);
    fs::write(folder.path("allow.d/wrong.toml"), "no_such = 1\n").unwrap();
    let (code, said) = asked();
    assert!(code == Some(0) && said.contains("wrong.toml"), "{said}");
    fs::write(folder.path("firstclick.toml"), format!("no_such = 1\n{text}")).unwrap();
    let (code, said) = asked();
    assert!(code == Some(2) && said.contains("no_such"), "{said}");
    assert_eq!(files(), before);
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let gone = Command::new(program()).args(["run", "--dry-run", "--of", "4194304"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(2));
}
