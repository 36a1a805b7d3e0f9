//! `check` as an admin calls it: what it says of a configuration that could run, by which exit code, and as whom.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;

use crate::hop::{
    VENDOR, missing, needs,
    process::{Folder, program},
};

const NEXT_HOP: &str = "next_hop = \"127.0.0.1:1\"";
/// As on a machine whose own MTA hands the mails over.
const TRUSTING: &str = "[identity]\ntrusted_upstreams = [\"127.0.0.0/8\"]\n";

/// A folder whose secrets are nobody else's, with one entry.
fn folder(rest: &str) -> Folder {
    let folder = Folder::new(NEXT_HOP, &format!("{TRUSTING}{rest}"));
    fs::write(folder.path("allow.d/vendor.toml"), format!("expires = 2099-12-31\n{VENDOR}")).unwrap();
    // One word to Exchange, or there is advice about it.
    fs::write(folder.path("tag.token"), "fc7k2m9q4x8z1b3n5v6c\n").unwrap();
    for secret in ["tag.token", "tag.key"] {
        mode(&folder.path(secret), 0o640);
    }
    folder
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn change(folder: &Folder, from: &str, to: &str) {
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(folder.path("firstclick.toml"), text.replacen(from, to, 1)).unwrap();
}

fn advice(said: &str) -> Vec<&str> {
    said.lines().filter(|line| ["danger: ", "warning: ", "note: "].iter().any(|word| line.starts_with(word))).collect()
}

/// In observe mode it says what enforce will need; in enforce mode the same is a mistake.
#[test]
fn what_enforce_will_need_is_said_before_it_is_needed() {
    let folder = folder("");
    assert_eq!(folder.command(&["check", "--strict"]).2, Some(0));
    for (name, words) in [("tag.token", "firstclick keygen --token --out"), ("tag.key", "firstclick keygen --out")] {
        let kept = fs::read(folder.path(name)).unwrap();
        fs::write(folder.path(name), "# none yet\n").unwrap();
        let (_, said, code) = folder.command(&["check"]);
        assert!(code == Some(2) && said.contains(words) && said.contains("1 mistake"), "{name}: {said}");
        change(&folder, "mode = \"enforce\"", "mode = \"observe\"");
        let (said, _, code) = folder.command(&["check"]);
        assert!(code == Some(0) && said.contains("mode = \"enforce\" will need") && said.contains(words), "{name}: {said}");
        change(&folder, "mode = \"observe\"", "mode = \"enforce\"");
        fs::write(folder.path(name), kept).unwrap();
    }
    change(&folder, "mode = \"enforce\"", "mode = \"observe\"");
    change(&folder, "[tag]\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n[audit]\ndirectory = \"audit\"", "");
    let entry = fs::read_to_string(folder.path("allow.d/vendor.toml")).unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), entry.replace("action = \"tag\"", "action = [\"tag\", \"guard\"]")).unwrap();
    let (said, complained, code) = folder.command(&["check"]);
    assert_eq!(code, Some(0), "{complained}");
    for words in ["will need [tag] with", "will need [audit] with", "will need [guard] with"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(folder.command(&["check", "--strict"]).2, Some(0), "notes are no dangers");
}

/// What is allowed and yet probably not meant. Each is exit 1 with --strict.
#[test]
fn what_probably_is_not_meant_is_said() {
    let said_of = |prepare: &dyn Fn(&Folder)| {
        let folder = folder("");
        prepare(&folder);
        let (said, complained, code) = folder.command(&["check"]);
        assert_eq!((complained.as_str(), code), ("", Some(0)));
        assert_eq!(folder.command(&["check", "--strict"]).2, Some(1), "{said}");
        advice(&said).join("\n")
    };
    for name in ["new.tml", "x.yaml", "UP.TOML", "vendor.toml.txt", "vendor"] {
        let said = said_of(&|folder| fs::write(folder.path("allow.d").join(name), "").unwrap());
        assert!(said.contains(name) && said.contains("is not read: entries are files that end in .toml; call it"), "{said}");
    }
    for mode_of in [0o644, 0o666] {
        let said = said_of(&|folder| mode(&folder.path("tag.key"), mode_of));
        assert!(said.contains("tag.key_file: everybody on this machine") && said.contains("chmod g-w,o-rwx"), "{said}");
    }
    let said = said_of(&|folder| mode(&folder.path("allow.d"), 0o777));
    assert!(said.contains("everybody on this machine can change what is exempted") && said.contains("chmod o-w"), "{said}");
    let said = said_of(&|folder| mode(&folder.path("firstclick.toml"), 0o666));
    assert!(said.contains("everybody on this machine can change what is exempted"), "{said}");
    let said = said_of(&|folder| {
        let text = fs::read_to_string(folder.path("allow.d/vendor.toml")).unwrap();
        fs::write(folder.path("allow.d/vendor.toml"), text.replace("action = \"tag\"", "action = [\"unwrap\", \"tag\"]")).unwrap();
    });
    assert!(said.contains("unwraps, and verify = \"here\""), "{said}");
    let folder = Folder::new("", "");
    fs::write(folder.path("firstclick.toml"), "").unwrap();
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("there is nothing to run"), "{said}");
    // An editor's backup is told, and no more.
    let folder = self::folder("");
    fs::write(folder.path("allow.d/vendor.toml~"), "").unwrap();
    fs::write(folder.path("allow.d/vendor.toml.bak"), "").unwrap();
    let (said, _, _) = folder.command(&["check"]);
    assert_eq!(said.matches("note: ").count(), 2, "{said}");
    assert_eq!(folder.command(&["check", "--strict"]).2, Some(0));
}

/// What a machine that is set up for the first time often has: a name that is none, the MTA's own port as the next hop, nobody trusted.
#[test]
fn what_a_first_setup_often_has_is_said() {
    let said = |prepare: &dyn Fn(&Folder)| {
        let folder = folder("");
        prepare(&folder);
        let (said, complained, code) = folder.command(&["check"]);
        assert_eq!((complained.as_str(), code), ("", Some(0)));
        advice(&said).join("\n")
    };
    for (name, words) in [("firstclick.localdomain", "is the package's placeholder"), ("vm", "is no full name")] {
        let said = said(&|folder| change(folder, "hop.test", name));
        assert!(said.starts_with("note: ") && said.contains(&format!("smtp.hostname: \"{name}\" {words}")), "{said}");
    }
    assert!(!said(&|_| ()).contains("hostname"));
    for (hop, warned) in
        [("127.0.0.1:25", true), ("localhost:25", true), ("[::1]:25", true), ("192.0.2.1:25", false), ("127.0.0.1:26", false)]
    {
        let said = said(&|folder| change(folder, "127.0.0.1:1", hop));
        let found = said.lines().any(|line| line.starts_with("warning: ") && line.contains(&format!("{hop} is mostly the MTA that hands")));
        assert_eq!(found, warned, "{hop}: {said}");
    }
    let untrusted = "identity.trusted_upstreams: no upstream is trusted";
    for nobody in ["", "[identity]\ntrusted_upstreams = []\n"] {
        assert!(
            said(&|folder| change(folder, TRUSTING, nobody)).lines().any(|line| line.starts_with("note: ") && line.contains(untrusted))
        );
    }
    assert!(!said(&|_| ()).contains(untrusted));
}

/// Mistakes stand in the order of the lines, and what is to be written stands there as it is written.
#[test]
fn mistakes_are_in_the_order_of_lines_and_what_to_write_has_lines_of_its_own() {
    let folder = folder("");
    let old = "from = [\"vendor.test\"]\nlinks = [\"login.vendor.test/reset/*\"]\nlimt = \"20/hour\"\nmails = [\"password_reset\"]\nactoin = \"tag\"\n";
    fs::write(folder.path("allow.d/vendor.toml"), old).unwrap();
    let (_, said, code) = folder.command(&["check"]);
    assert_eq!(code, Some(2));
    assert!(
        !said.contains("\\n") && said.contains("\n    [links]\n    password_reset = [\"login.vendor.test/reset/{token}\"]\n"),
        "{said}"
    );
    let at = |line: &str| line.split("vendor.toml:").nth(1).and_then(|rest| rest.split(':').next()?.parse::<u32>().ok());
    let lines: Vec<u32> = said.lines().filter_map(at).collect();
    assert!(lines.len() > 2 && lines.is_sorted(), "{said}");
    change(&folder, "mode = \"enforce\"", "mode = \"enforce\"\ngarbage ===");
    let (_, said, _) = folder.command(&["check"]);
    assert!(said.contains("`=` stands there more than once, and no value behind it") && !said.contains("garbage = "), "{said}");
}

/// An entry whose time is over is told in the past.
#[test]
fn an_entry_that_has_ended_is_told_as_that() {
    let folder = folder("");
    fs::write(folder.path("allow.d/vendor.toml"), format!("expires = 2025-01-01\n{VENDOR}")).unwrap();
    let (said, _, _) = folder.command(&["check"]);
    assert!(said.contains("were exempted (tag) until 2025-01-01, when the entry ended."), "{said}");
}

/// Variables of ours that set nothing.
#[test]
fn unknown_variables_are_said() {
    let folder = folder("");
    for (name, words) in [
        ("FIRSTCLICK_CONFIG", "the file is named by --config"),
        ("FIRSTCLICK_MODES", "did you mean FIRSTCLICK_MODE?"),
        ("FIRSTCLICK_SMTP_NEXT_HOP", "did you mean FIRSTCLICK_SMTP__NEXT_HOP?"),
        ("FIRSTCLICK_SMTP_LISTEN", "did you mean FIRSTCLICK_SMTP__LISTEN?"),
        ("FIRSTCLICK_WHATEVER", "no key of this name, so that it sets nothing"),
    ] {
        let output =
            Command::new(program()).arg("--config").arg(folder.path("firstclick.toml")).arg("check").env(name, "x").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!("warning: {name}: ")) && said.contains(words), "{name}: {said}");
    }
    let output =
        Command::new(program()).arg("--config").arg(folder.path("firstclick.toml")).arg("check").env("FIRSTCLICK_FAULT", "x").output();
    assert!(!String::from_utf8(output.unwrap().stdout).unwrap().contains("FIRSTCLICK_FAULT"));
}

/// What cannot run is a mistake.
#[test]
fn what_cannot_run_is_a_mistake() {
    let said_of = |prepare: &dyn Fn(&Folder)| {
        let folder = folder("");
        prepare(&folder);
        let (_, said, code) = folder.command(&["check"]);
        assert!(code == Some(2) && said.contains("\n1 mistake"), "{said}");
        said
    };
    let listen = |folder: &Folder, address: &str| change(folder, "listen = [\"127.0.0.1:0\"]", &format!("listen = [\"{address}\"]"));
    for (own, hop) in [
        ("127.0.0.1:2525", "localhost:2525"),
        ("0.0.0.0:2525", "127.0.0.1:2525"),
        ("[::]:2525", "[::1]:2525"),
        ("127.0.0.1:2525", "0.0.0.0:2525"),
    ] {
        let said = said_of(&|folder| {
            listen(folder, own);
            change(folder, "127.0.0.1:1\"", &format!("{hop}\""));
        });
        assert!(said.contains(&format!("smtp.next_hop: {hop} is this hop's own smtp.listen")), "{said}");
    }
    let said = said_of(&|folder| {
        listen(folder, "0.0.0.0:2525");
        change(folder, "directory = \"audit\"", "directory = \"audit\"\n[admin]\nlisten = \"127.0.0.1:2525\"");
    });
    assert!(said.contains("admin.listen: 127.0.0.1:2525 is taken by smtp.listen = 0.0.0.0:2525 already"), "{said}");
    let said = said_of(&|folder| fs::write(folder.audit(), "").unwrap());
    assert!(said.contains("audit.directory: ") && said.contains("is a file and must be a folder"), "{said}");
    let said = said_of(&|folder| change(folder, "directory = \"audit\"", "directory = \"tag.key/audit\""));
    assert!(said.contains("audit.directory: ") && said.contains("is a file and must be a folder"), "{said}");
}

#[test]
fn certificates_are_looked_at() {
    for (from, until, name, words) in [
        (2020, 2021, "hop.test", "the certificate has expired on 2021-01-01"),
        (2099, 2100, "hop.test", "the certificate counts only from 2099-01-01"),
        (2020, 2099, "other.test", "the certificate is for other.test; whoever verifies it for hop.test refuses it"),
        (2020, 2099, "*.test", ""),
    ] {
        let folder = folder("");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        fs::write(folder.path("hop.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(folder.path("hop.key"), key.serialize_pem()).unwrap();
        mode(&folder.path("hop.key"), 0o640);
        change(&folder, NEXT_HOP, &format!("{NEXT_HOP}\ncertificate = \"hop.pem\"\nkey = \"hop.key\""));
        let (said, complained, code) = folder.command(&["check"]);
        assert_eq!((complained.as_str(), code), ("", Some(0)));
        let said = advice(&said).join("\n");
        assert!(if words.is_empty() { said.is_empty() } else { said.contains(words) }, "{name}: {said}");
    }
    // Another's key.
    let folder = folder("");
    let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    fs::write(folder.path("hop.pem"), CertificateParams::new(vec!["hop.test".to_owned()]).unwrap().self_signed(&one).unwrap().pem())
        .unwrap();
    fs::write(folder.path("hop.key"), other.serialize_pem()).unwrap();
    change(&folder, NEXT_HOP, &format!("{NEXT_HOP}\ncertificate = \"hop.pem\"\nkey = \"hop.key\""));
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("the key is not the certificate's"), "{said}");
}

/// For programs: the same in one object.
#[test]
fn all_of_it_is_one_object() {
    let folder = folder("");
    fs::write(folder.path("allow.d/new.tml"), "").unwrap();
    let (said, _, code) = folder.command(&["check", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["mistakes"], &report["entries"][0]["name"]), (Some(0), &Value::Array(Vec::new()), &Value::from("vendor")));
    assert!(report["entries"][0]["sentences"][0].as_str().unwrap().starts_with("Mails from"));
    let warned = &report["advice"][0];
    assert!(warned["severity"] == "warning" && warned["file"].as_str().unwrap().ends_with("new.tml"), "{said}");
    assert_eq!(folder.command(&["check", "--json", "--strict"]).2, Some(1));
    change(&folder, "mode = \"enforce\"", "mode = \"enforced\"");
    let (said, complained, code) = folder.command(&["check", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    let mistake = &report["mistakes"][0];
    assert_eq!(
        (code, complained.as_str(), &mistake["line"], &mistake["column"], &mistake["key"]),
        (Some(2), "", &Value::from(1), &Value::from(8), &Value::from("mode"))
    );
    assert!(mistake["text"].as_str().unwrap().contains("did you mean \"enforce\"?"));
}

/// Nothing of the audit is read, however large it is.
#[test]
fn the_audit_is_not_read() {
    let folder = folder("");
    fs::create_dir(folder.audit()).unwrap();
    // Opened, it would be waited for.
    assert!(Command::new("mkfifo").arg(folder.audit().join("2026-11-24.jsonl")).status().unwrap().success());
    assert_eq!(folder.command(&["check"]).2, Some(0));
}

fn is_root() -> bool {
    let root = uid() == Some(0);
    if !root {
        missing("root");
    }
    root
}

/// The number of the user that the tests run as.
fn uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").ok().map(|about| about.uid())
}

/// M6: what root can read and the service cannot, by the same look as the service's user.
#[test]
fn it_looks_as_another_user() {
    if !is_root() {
        let (_, said, code) = folder("").command(&["check", "--as", "root"]);
        assert!(code == Some(2) && said.contains("only root can look as another user"), "{said}");
        return;
    }
    let folder = folder("");
    let root = folder.path("firstclick.toml").parent().unwrap().to_owned();
    let look = || folder.command(&["check", "--as", "nobody"]);
    // The folder above is closed.
    mode(&root, 0o700);
    let (_, said, code) = look();
    assert!(
        code == Some(2)
            && said.contains(&format!("the folder {} (0700 root:root) is closed to user nobody: chgrp nogroup", root.display())),
        "{said}"
    );
    mode(&root, 0o755);
    mode(&folder.path("tag.key"), 0o600);
    let (_, said, code) = look();
    let closed = format!(
        "{key} (0600 root:root) is closed to user nobody: chgrp nogroup {key} && chmod g+r {key}",
        key = folder.path("tag.key").display()
    );
    assert!(code == Some(2) && said.contains(&closed), "{said}");
    // A new token or key would put those out of force that scanners know.
    assert!(!said.contains("keygen"), "{said}");
    // The line that it says is the one that helps.
    for secret in ["tag.token", "tag.key"] {
        assert!(Command::new("chgrp").arg("nogroup").arg(folder.path(secret)).status().unwrap().success());
        mode(&folder.path(secret), 0o640);
    }
    let (_, said, code) = look();
    assert!(code == Some(2) && said.contains("audit is not there, and user nobody may not create it: mkdir -p"), "{said}");
    fs::create_dir(folder.audit()).unwrap();
    let (_, said, code) = look();
    assert!(code == Some(2) && said.contains("audit.directory: the folder ") && said.contains("chown nobody"), "{said}");
    assert!(Command::new("chown").arg("nobody").arg(folder.audit()).status().unwrap().success());
    let (said, complained, code) = look();
    assert_eq!((complained.as_str(), code), ("", Some(0)), "{said}");
    // Files in the audit's folder that somebody made as root, as by a `run` by hand.
    for name in ["audit.lock", "audit.head", "audit-20261124.jsonl"] {
        let file = folder.audit().join(name);
        fs::write(&file, "").unwrap();
        mode(&file, 0o600);
        let (_, said, code) = look();
        let closed =
            format!("audit.directory: {0} (0600 root:root) is closed to user nobody: chown nobody {0} && chmod u+rw {0}\n", file.display());
        assert!(code == Some(2) && said.contains(&closed), "{said}");
        let mut run = Command::new("setpriv");
        run.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
            .arg(program())
            .arg("--config")
            .arg(folder.path("firstclick.toml"));
        if name != "audit.head" && needs("setpriv").is_some() {
            let output = run.arg("run").output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(2) && said.contains(&format!("{name}: Permission denied")), "{said}");
        }
        fs::remove_file(&file).unwrap();
    }
    // What the service could rewrite would be no list of the admin's.
    assert!(Command::new("chown").arg("nobody").arg(folder.path("allow.d")).status().unwrap().success());
    let (said, _, _) = look();
    assert!(said.contains("user nobody can rewrite it") && said.contains("chown root"), "{said}");
    let (_, said, code) = folder.command(&["check", "--as", "no-such-user"]);
    assert!(code == Some(2) && said.contains("this system has no such user"), "{said}");
}

/// A person who may not read the configuration is not told to take it from the service's group: that would stop the service.
#[test]
fn a_person_is_told_to_ask_root_and_not_to_take_files_from_the_service() {
    if needs("setpriv").is_none() || !is_root() {
        return;
    }
    let folder = folder("");
    let root = folder.path("firstclick.toml").parent().unwrap().to_owned();
    assert!(Command::new("chgrp").arg("64321").arg(&root).status().unwrap().success());
    mode(&root, 0o750);
    let copy = tempfile::TempDir::new().unwrap();
    mode(copy.path(), 0o755);
    let own = copy.path().join("firstclick");
    fs::copy(program(), &own).unwrap();
    for (uid, words) in [("64999", "call it by sudo"), ("999", "usermod --append --groups 64321")] {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]).arg(&own);
        let output = command.arg("--config").arg(folder.path("firstclick.toml")).args(["audit", "find"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(words) && !said.contains("chgrp"), "{uid}: {said}");
    }
}

/// Root that calls `check` is told what the service's user, of the unit, cannot read; by users and groups of a namespace.
#[test]
fn root_is_told_what_the_service_cannot_read() {
    let Some(unshare) = needs("unshare") else { return };
    if !is_root() {
        return;
    }
    let folder = folder("");
    mode(folder.path("firstclick.toml").parent().unwrap(), 0o755);
    for (database, line) in [
        ("passwd", "firstclick:x:64321:64321::/nonexistent:/usr/sbin/nologin"),
        ("group", "firstclick:x:64321:\nmail-hop:x:64322:firstclick"),
    ] {
        let text = fs::read_to_string(format!("/etc/{database}")).unwrap();
        fs::write(folder.path(database), format!("{text}{line}\n")).unwrap();
    }
    let script = "mount --bind \"$1/passwd\" /etc/passwd && mount --bind \"$1/group\" /etc/group && exec \"$2\" --config \"$1/firstclick.toml\" check";
    let look = || {
        let mut command = Command::new(&unshare);
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(folder.path("")).arg(program()).stdin(Stdio::null());
        let output = command.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let (said, complained, code) = look();
    assert_eq!(code, Some(0), "{complained}");
    let words = "tag.key_file: as user firstclick, which the service runs as: ";
    assert!(said.contains(words) && said.contains("chgrp firstclick "), "{said}");
    // By a further group of the user's.
    for secret in ["tag.token", "tag.key"] {
        assert!(Command::new("chgrp").arg("64322").arg(folder.path(secret)).status().unwrap().success());
    }
    fs::create_dir(folder.audit()).unwrap();
    assert!(Command::new("chown").arg("64321").arg(folder.audit()).status().unwrap().success());
    let (said, _, _) = look();
    assert_eq!(advice(&said), Vec::<&str>::new());
}

/// Each of several at once writes its key beside the others'.
#[test]
fn keys_that_are_made_at_once_are_all_kept() {
    let folder = folder("");
    let path = folder.path("new.key");
    let start = || Command::new(program()).args(["keygen", "--out"]).arg(&path).stdout(Stdio::null()).spawn().unwrap();
    let all: Vec<_> = (0..8).map(|_| start()).collect();
    for mut one in all {
        assert!(one.wait().unwrap().success());
    }
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 8);
}

/// The name of a file is words of whoever may write there: it makes no line of its own, on a terminal or in a log.
#[tokio::test]
async fn names_of_files_forge_no_line() {
    let folder = folder("[admin]\nlisten = \"127.0.0.1:0\"\n");
    let name = "allow.d/x\nINFO firstclick: decision=act \u{1b}[31m\u{202e}.toml";
    fs::write(folder.path(name), "from = 3\n").unwrap();
    let is_forged = |text: &str| text.contains('\u{1b}') || text.contains('\u{202e}') || text.lines().any(|line| line.starts_with("INFO"));
    for arguments in [&["check"][..], &["explain", "no\nINFO such"], &["keygen", "--out", "no\nINFO/such"]] {
        let (said, complained, _) = folder.command(arguments);
        assert!(!is_forged(&said) && !is_forged(&complained), "{said}{complained}");
    }
    assert!(folder.command(&["check"]).1.contains("\\nINFO firstclick: decision=act \\u{1b}[31m\\u{202e}.toml"));
    let process = folder.run().await;
    process.says("left out").await;
    assert!(!is_forged(&process.log()), "{}", process.log());
}
