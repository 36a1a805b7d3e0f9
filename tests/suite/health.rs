//! `health`, as a container runtime or a monitor asks it.

use std::{fs, net::TcpListener};

use crate::{
    hop::{Sink, process::Folder},
    reload::reloaded_after,
};

/// It answers for the service, which goes on by the configuration of before while the files have a mistake.
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_files_is_no_reason_to_end_a_service_that_takes_mails() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let mut process = folder.run().await;
    let file = folder.path("firstclick.toml");
    let good = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &process.address.to_string());
    reloaded_after(&process, || fs::write(&file, &good).unwrap()).await;
    let health = || folder.command(&["health"]);
    let here = format!("listens: smtp.listen {}\n", process.address);
    assert_eq!(health(), (here.clone(), String::new(), Some(0)));

    for (from, to, said) in [
        ("[tag]", "[tgg]", "did you mean"),
        ("mode = \"enforce\"", "mode = enforce", "mode"),
        ("hostname = \"hop.test\"", "", "hostname"),
        ("hostname = \"hop.test\"", "hostname = \"not a name\"", "hostname"),
        ("next_hop = ", "next_hop = 25 #", "next_hop"),
        ("tag.key\"", "no.key\"", "no.key"),
        ("[audit]\n", "[audit\n", "audit"),
        ("directory = \"audit\"", "directory = \"audit", "has no end"),
    ] {
        assert!(good.contains(from));
        fs::write(&file, good.replacen(from, to, 1)).unwrap();
        let (out, err, code) = health();
        assert!(code == Some(0) && err.is_empty() && out.ends_with(&here), "{to}: {code:?} {out}{err}");
        assert!(out.starts_with("the configuration has mistakes\n") && out.contains(said), "{to}: {out}");
    }
    // Where nothing says any more who is to be asked, there is no answer.
    for text in ["", "\u{0}", "[smtp]\nlisten = 25\n"] {
        fs::write(&file, text).unwrap();
        assert_eq!(health().2, Some(1), "{text:?}");
    }
    fs::write(&file, &good).unwrap();
    process.signal("TERM");
    process.ended().await;
    assert_eq!(health().2, Some(1));
}

/// Whoever has the port is asked for the greeting of a mail server.
#[tokio::test(flavor = "multi_thread")]
async fn another_program_on_the_port_is_not_taken_for_the_service() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let file = folder.path("firstclick.toml");
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &other.local_addr().unwrap().to_string());
    fs::write(&file, text).unwrap();
    // It is no other program that is asked, however the environment would have it.
    let mut health = std::process::Command::new(crate::hop::process::program());
    health.arg("--config").arg(&file).arg("health").envs([("HTTP_PROXY", "http://127.0.0.1:1"), ("ALL_PROXY", "http://127.0.0.1:1")]);
    for answer in ["", "HTTP/1.1 400 Bad Request\r\n\r\n", "421 4.3.2 not now\r\n"] {
        let other = other.try_clone().unwrap();
        let served = std::thread::spawn(move || std::io::Write::write_all(&mut other.accept().unwrap().0, answer.as_bytes()));
        let (out, _, code) = folder.command(&["health"]);
        assert!(code == Some(1) && out.contains("smtp.listen"), "{answer}: {out}");
        served.join().unwrap().unwrap();
    }
    for (page, code) in [("ready\n", 0), ("<html>ready</html>", 1)] {
        let admin = format!("\n[admin]\nlisten = \"{}\"\n", other.local_addr().unwrap());
        fs::write(&file, fs::read_to_string(folder.path("firstclick.toml")).unwrap().replace(&admin, "") + &admin).unwrap();
        let other = other.try_clone().unwrap();
        let served = std::thread::spawn(move || {
            let mut stream = other.accept().unwrap().0;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len());
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
            std::io::Read::read_to_end(&mut stream, &mut Vec::new())
        });
        assert_eq!(health.output().unwrap().status.code(), Some(code), "{page}");
        let _ = served.join().unwrap();
    }
}

/// A milter that a kernel takes connections for, and that answers nobody, is not well; one that answers is.
#[tokio::test(flavor = "multi_thread")]
async fn a_milter_is_asked_as_an_mta_asks_it() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let file = folder.path("firstclick.toml");
    let socket = folder.path("milter.sock");
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("[smtp]").unwrap();
    let rest = rest.split_once("[tag]").unwrap().1;
    fs::write(&file, format!("{before}[milter]\nlisten = [\"unix:{}\"]\nhostname = \"hop.test\"\n[tag]{rest}", socket.display())).unwrap();
    let process = folder.run_until("listening for MTAs").await;
    assert_eq!(folder.command(&["health"]).2, Some(0));
    process.signal("STOP");
    let (out, _, code) = folder.command(&["health"]);
    process.signal("CONT");
    assert!(code == Some(1) && out.contains("no answer within 5s"), "{code:?} {out}");
}

/// The service says itself where it listens: what was written since, and counts from the next start on, is not asked.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_where_it_listens_and_not_where_it_will() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let runtime = folder.path("run");
    fs::create_dir(&runtime).unwrap();
    let mut process = folder.run_after(&format!("export RUNTIME_DIRECTORY={}", runtime.display())).await;
    let file = folder.path("firstclick.toml");
    let text = fs::read_to_string(&file).unwrap();
    let health = || {
        let mut health = std::process::Command::new(crate::hop::process::program());
        let output = health.arg("--config").arg(&file).arg("health").env("RUNTIME_DIRECTORY", &runtime).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let here = format!("listens: smtp.listen {}\n", process.address);
    for new in [
        text.clone(),
        format!("{text}\n[admin]\nlisten = \"127.0.0.1:1\"\n[milter]\nlisten = [\"inet:127.0.0.1:1\"]\n"),
        text.replace("127.0.0.1:0", "127.0.0.1:1"),
        text.replace("[smtp]", "[smpt]"),
        text.replace("[smtp]", "[smtp"),
        text.replace("listen = [", "lisen = ["),
        text.replace("[\"127.0.0.1:0\"]", "\"127.0.0.1:0\""),
    ] {
        fs::write(&file, &new).unwrap();
        let (code, said) = health();
        assert!(code == Some(0) && said.ends_with(&here), "{new}: {said}");
    }
    process.signal("TERM");
    process.ended().await;
    assert_eq!(health().0, Some(1));
}
