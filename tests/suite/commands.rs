//! What holds for every command: its output ends quietly where nobody reads on, what stops it is named for what it is, and what it
//! leaves behind.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use crate::hop::{
    TOKEN, VENDOR, needs,
    process::{Folder, program},
};

const NEXT_HOP: &str = "next_hop = \"127.0.0.1:1\"";

/// A folder with an entry and a mail that it takes, `m.eml`.
fn folder() -> Folder {
    let folder = Folder::new(NEXT_HOP, "");
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    let mail = "From: a@vendor.test\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\n\
                https://login.vendor.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a\r\n";
    fs::write(folder.path("m.eml"), mail).unwrap();
    folder
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let folder = folder();
    let mail = fs::read_to_string(folder.path("m.eml")).unwrap().replace("\r\n", "\n");
    let one = format!("From a@b Tue Nov 24 10:00:00 2026\n{mail}\n");
    fs::write(folder.path("all.mbox"), one.repeat(200)).unwrap();
    for form in [&["--json"][..], &[]] {
        let mut command = Command::new(program());
        command.arg("--config").arg(folder.path("firstclick.toml")).arg("explain").args(form).arg(folder.path("all.mbox"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        // The pipe closes behind its first line.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!((String::from_utf8_lossy(&ended.stderr).as_ref(), ended.status.code()), ("", Some(0)), "{form:?}");
    }
}

#[test]
fn what_explain_writes_is_its_callers_alone_and_what_fails_is_named() {
    let folder = folder();
    let (out, mail) = (folder.path("out.eml"), folder.path("m.eml"));
    let explain = |out: &str, inputs: &[&str]| folder.command(&[&["explain", "--as-proven", "--out", out], inputs].concat());
    let mail = mail.to_str().unwrap();
    for before in [None, Some("of before")] {
        let _ = fs::remove_file(&out);
        if let Some(text) = before {
            fs::write(&out, text).unwrap();
            fs::set_permissions(&out, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let (said, complained, code) = explain(out.to_str().unwrap(), &[mail]);
        assert_eq!(code, Some(0), "{said}{complained}");
        assert!(fs::read_to_string(&out).unwrap().contains(TOKEN.trim()), "{said}");
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let directory = folder.path("allow.d");
    let (_, complained, code) = explain(directory.to_str().unwrap(), &[mail]);
    assert!(code == Some(2) && complained.contains("allow.d cannot be written") && !complained.contains("read"), "{complained}");
    let (_, complained, code) = explain(out.to_str().unwrap(), &[mail, mail]);
    assert!(code == Some(2) && complained.contains("--out takes one mail") && !complained.contains("read"), "{complained}");
    let (_, complained, code) = explain(out.to_str().unwrap(), &["/proc/self/mem"]);
    assert!(code == Some(2) && complained.contains("/proc/self/mem cannot be read"), "{complained}");
}

/// Nothing that cannot be read is called a mistake of who wrote it.
#[test]
fn a_configuration_that_cannot_be_read_is_called_that() {
    let folder = folder();
    let commands: [&[&str]; 5] = [&["check"], &["explain", "m.eml"], &["audit", "find"], &["digest", "--dry-run"], &["run"]];
    for command in commands {
        let output = Command::new(program()).args(["--config", "/nonexistent/firstclick.toml"]).args(command).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let first = said.lines().find(|line| line.contains("configuration")).unwrap_or_default().to_owned();
        assert!(first.contains("the configuration is not there") && !said.contains("mistake"), "{command:?}: {said}");
        assert!(matches!(output.status.code(), Some(2 | 75)), "{command:?}");
    }
    let (said, _, code) = Folder::new("", "").command(&["--config", "/nonexistent/firstclick.toml", "health"]);
    assert!(code != Some(0) || said.is_empty(), "{said}");
    if needs("setpriv").is_none() || !is_root() {
        return;
    }
    let own = tempfile::TempDir::new().unwrap();
    fs::set_permissions(own.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = own.path().join("firstclick");
    fs::copy(program(), &copy).unwrap();
    let top = folder.path("firstclick.toml").parent().unwrap().to_owned();
    fs::set_permissions(top, fs::Permissions::from_mode(0o700)).unwrap();
    for (command, answer) in [("check", 2), ("health", 1)] {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=64999", "--regid=64999", "--clear-groups"]).arg(&copy);
        let output = nobody.arg("--config").arg(folder.path("firstclick.toml")).arg(command).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("the configuration may not be read by this user\n") && !said.contains("mistake"), "{command}: {said}");
        assert_eq!(output.status.code(), Some(answer), "{command}: {said}");
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

#[test]
fn a_demo_that_is_ended_leaves_nothing_behind() {
    for signal in ["TERM", "INT"] {
        let temporary = tempfile::TempDir::new().unwrap();
        let mut command = Command::new(program());
        let mut child = command.args(["demo", "--keep"]).env("TMPDIR", temporary.path()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.starts_with("The audit: ")), "it stays");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
        assert!(Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "{signal}");
    }
}

#[test]
fn help_has_help() {
    let said = |arguments: &[&str]| {
        let output = Command::new(program()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said(&["help", "--help"]), said(&["help"]));
    assert_eq!(said(&["help", "explain", "-h"]), said(&["help", "explain"]));
}

/// Also what became of the last mail is on record by then.
#[test]
fn the_demo_says_what_the_readme_says_of_its_audit() {
    let readme = fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let promised = readme.lines().find(|line| line.starts_with("audit: ")).unwrap();
    for _ in 0..3 {
        let said = Command::new(program()).arg("demo").output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said.lines().last(), Some(promised), "{said}");
    }
}
