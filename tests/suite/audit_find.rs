//! `audit find`, `tail` and `report` over files as the hop writes them: times, filters, and that no answer says more than it knows.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::hop::{missing, process::program};

/// An audit of four days, with a mail at noon of each.
struct Archive(TempDir);

impl Archive {
    fn new() -> Self {
        let archive = Self(TempDir::new().unwrap());
        for (number, day) in (21..=24).enumerate() {
            let time = format!("2025-11-{day}T12:00:00.000Z");
            let decision = ["act", "near_miss", "pass", "act"][number];
            archive.write(day, &[mail(&time, &format!("m{day}"), decision, day == 24, number + 1)]);
        }
        archive
    }

    fn file(&self, day: u32) -> PathBuf {
        self.0.path().join(format!("audit-202511{day}.jsonl"))
    }

    fn write(&self, day: u32, lines: &[String]) {
        fs::write(self.file(day), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    fn say(&self, arguments: &[&str]) -> Said {
        self.say_in("UTC", arguments)
    }

    /// What the command says in a zone: standard output, standard error, exit code.
    fn say_in(&self, zone: &str, arguments: &[&str]) -> Said {
        let mut command = Command::new(program());
        command.env("TZ", zone).arg("audit").args(arguments).arg("--directory").arg(self.0.path());
        said(&mut command)
    }
}

#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code() }
}

fn mail(time: &str, id: &str, decision: &str, observed: bool, number: usize) -> String {
    format!(
        r#"{{"type":"mail","v":1,"time":"{time}","id":"{id}","upstream":"192.0.2.1","helo":"mx","from":"<no-reply@vendor.test>","to":["<bob+news@corp.example>"],"message_id":"<{id}@vendor.test>","author":"vendor.test","size":812,"decision":"{decision}","observed":{observed},"actions":["guard"],"entry":"vendor","recognized":{{"kind":"password_reset","confidence":0.9}},"reasons":[{{"check":"author","ok":{ok},"detail":"x"}}],"delivery":"accepted","next_hop":"mx:25","reply":"250 ok","latency_ms":3,"prev":"{zeros}","n":{number}}}"#,
        ok = decision == "act",
        zeros = "0".repeat(64),
    )
}

fn ids(said: &Said) -> Vec<String> {
    let records = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.map(|record| record["id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_cannot_be_read_is_an_error_and_never_nothing() {
    let archive = Archive::new();
    for (arguments, says) in [
        (&["find", "--decision", "foo"][..], "[possible values: act, near_miss, pass]"),
        (&["find", "--since", "2026-13-01"], "is no time"),
        (&["find", "--since", "yesterdya"], "2026-11-24, \"2026-11-24 10:00\""),
        (&["find", "--until", "soon"], "is no time"),
        (&["find", "--since", "2025-11-24", "--until", "2025-11-22"], "no time lies between them"),
        (&["find", "--since", "2999-01-01"], "still to come"),
        (&["report", "--since", "x"], "is no time"),
        (&["report", "--until", "x"], "is no time"),
        (&["find", "--directory", "/nonexistent"], ""),
    ] {
        let mut command = Command::new(program());
        command.arg("audit").args(arguments);
        if !arguments.contains(&"--directory") {
            command.arg("--directory").arg(archive.0.path());
        }
        let said = said(&mut command);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{arguments:?}: {said:?}");
        assert!(said.err.contains(says), "{arguments:?}: {said:?}");
    }
    let help = said(Command::new(program()).args(["audit", "find", "--help"])).out;
    for words in ["near_miss", "2h ago", "yesterday", "a day is in it as a whole", "--utc", "Exempted"] {
        assert!(help.contains(words), "{words}: {help}");
    }
}

#[test]
fn a_span_is_what_its_words_say() {
    let archive = Archive::new();
    for (zone, since, until, wanted) in [
        ("UTC", "2025-11-22", "2025-11-22", &["m22"][..]),
        ("UTC", "2025-11-22", "2025-11-23", &["m22", "m23"]),
        ("UTC", "2025-11-22 12:00", "2025-11-22 12:01", &["m22"]),
        ("UTC", "2025-11-21 12:01", "2025-11-22 12:00", &[]),
        ("UTC", "2025-11-22T13:00:00+01:00", "2025-11-22T12:00:01Z", &["m22"]),
        ("Europe/Berlin", "2025-11-22 13:00", "2025-11-22 13:01", &["m22"]),
        ("Europe/Berlin", "2025-11-22 12:00", "2025-11-22 12:59", &[]),
        // Noon in UTC is the next day there.
        ("Pacific/Kiritimati", "2025-11-23", "2025-11-23", &["m22"]),
    ] {
        let said = archive.say_in(zone, &["find", "--json", "--since", since, "--until", until]);
        assert_eq!(ids(&said), wanted, "{zone} {since} {until}: {said:?}");
        assert_eq!(said.code, Some(i32::from(wanted.is_empty())), "{said:?}");
    }
    let said = archive.say_in("Europe/Berlin", &["find", "--utc", "--json", "--since", "2025-11-22 12:00", "--until", "2025-11-22 12:01"]);
    assert_eq!(ids(&said), ["m22"]);
    assert_eq!(ids(&archive.say(&["find", "--json", "--since", "2h ago"])).len(), 0);
    assert_eq!(ids(&archive.say(&["find", "--json"])).len(), 4);
    // Printed times say their zone.
    let said = archive.say_in("Europe/Berlin", &["find", "--id", "m22"]);
    assert!(said.out.starts_with("2025-11-22 13:00:00+01:00 m22 near_miss"), "{said:?}");
    let said = archive.say_in("Europe/Berlin", &["find", "--utc", "--id", "m22"]);
    assert!(said.out.starts_with("2025-11-22 12:00:00Z m22 near_miss"), "{said:?}");
    let said = archive.say_in("Europe/Berlin", &["tail", "-n", "1"]);
    assert!(said.out.starts_with("2025-11-24 13:00:00+01:00 m24 act"), "{said:?}");
}

#[test]
fn nothing_found_says_what_was_looked_at() {
    let archive = Archive::new();
    let said = archive.say(&["find", "--to", "nobody@corp.example", "--since", "2025-11-22", "--until", "2025-11-23"]);
    let wanted = "looked at 2 records of 2025-11-22 12:00:00Z to 2025-11-23 12:00:00Z, in 4 files, \
                  asked for since 2025-11-22 00:00:00Z until 2025-11-24 00:00:00Z\n0 mails\n";
    assert_eq!((said.out.as_str(), said.code), (wanted, Some(1)));
    let said = archive.say(&["find", "--id", "m22"]);
    assert!(said.out.ends_with(", in 4 files\n1 mail\n") && said.code == Some(0), "{said:?}");
    // A time without a record, an entry that nobody knows.
    let said = archive.say(&["find", "--since", "2025-12-24", "--until", "2025-12-24"]);
    assert!(said.out.contains("there is no record of that time") && said.code == Some(1), "{said:?}");
    let said = archive.say(&["find", "--entry", "vendro"]);
    assert!(said.out.contains("no entry \"vendro\" is known, neither to the configuration nor to any record"), "{said:?}");
    let said = archive.say(&["find", "--entry", "vendor", "--since", "2025-12-01"]);
    assert!(!said.out.contains("no entry"), "{said:?}");
    assert_eq!(ids(&archive.say(&["find", "--json", "--entry", "vendor"])).len(), 4);
    // For programs the same, on standard error.
    let said = archive.say(&["find", "--json", "--to", "nobody"]);
    assert!(said.out.is_empty() && said.err.ends_with("0 mails\n") && said.code == Some(1), "{said:?}");
    // No file at all.
    for command in ["find", "report"] {
        let empty = Archive(TempDir::new().unwrap());
        let said = empty.say(&[command]);
        assert!(said.err.contains("there is no audit file in") && said.code == Some(2), "{said:?}");
    }
    let empty = Archive(TempDir::new().unwrap());
    assert!(empty.say(&["tail"]).err.contains("there is no record in"), "{:?}", empty.say(&["tail"]));
}

#[test]
fn a_reader_is_found_by_every_form_of_the_address() {
    let archive = Archive::new();
    for to in ["bob+news@corp.example", "BOB@corp.example", "<bob@corp.example>", "corp.example", "bob+", "bob+other@corp.example"] {
        assert_eq!(ids(&archive.say(&["find", "--json", "--to", to])).len(), 4, "{to}");
    }
    for to in ["bobby@corp.example", "bob@corp.test"] {
        assert_eq!(ids(&archive.say(&["find", "--json", "--to", to])).len(), 0, "{to}");
    }
    assert_eq!(ids(&archive.say(&["find", "--json", "--from", "VENDOR.test", "--decision", "act"])), ["m21", "m24"]);
    assert_eq!(ids(&archive.say(&["find", "--json", "--decision", "near-miss"])), ["m22"]);
}

#[test]
fn a_file_that_may_not_be_read_is_said() {
    if !unprivileged() {
        return;
    }
    let archive = Archive::new();
    for path in [archive.0.path().to_owned(), archive.file(21), archive.file(22), archive.file(23), archive.file(24)] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program()).arg("audit").args(arguments);
        said(command.arg("--directory").arg(archive.0.path()))
    };
    fs::set_permissions(archive.file(23), fs::Permissions::from_mode(0o600)).unwrap();
    let said = as_nobody(&["find", "--to", "bob"]);
    assert!(said.err.contains("not all was looked at: 1 file could not be read") && said.err.contains("Permission denied"), "{said:?}");
    assert!(said.out.contains(" m22 ") && said.code == Some(2), "{said:?}");
    assert_eq!(as_nobody(&["report"]).code, Some(2));
    for day in 21..=24 {
        fs::set_permissions(archive.file(day), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let said = as_nobody(&["find", "--to", "nobody"]);
    assert!(said.err.contains("no file could be read") && said.code == Some(2), "{said:?}");
}

/// Whether the program can be run as somebody who may read nothing; it must be readable for him.
fn unprivileged() -> bool {
    let output =
        Command::new("setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program()).arg("--version").output();
    let can = output.is_ok_and(|output| output.status.success());
    if !can {
        missing("root, and a program that others may read");
    }
    can
}

#[test]
fn a_clicks_record_days_later_belongs_to_its_mail() {
    let archive = Archive::new();
    let click = r#"{"type":"click","v":1,"time":"2025-11-24T20:00:00.000Z","id":"m21","what":"press","entry":"vendor","to":"bob@corp.example","after_s":288000,"address":"192.0.2.9","user_agent":"x","likely":"person","why":"x","prev":"0","n":9}"#;
    archive.write(24, &[mail("2025-11-24T12:00:00.000Z", "m24", "act", false, 4), click.to_owned()]);
    let said = archive.say(&["find", "--since", "2025-11-21", "--until", "2025-11-21"]);
    assert!(said.out.contains("+288000 s person pressed the button") && said.out.ends_with("1 mail\n"), "{said:?}");
    assert!(said.out.contains("looked at 1 record of"), "what lies behind is not of that time: {said:?}");
}

#[test]
fn packed_files_are_read_and_others_stay_closed() {
    let archive = Archive::new();
    for (day, program) in [(21, "gzip"), (22, "gzip")] {
        assert!(Command::new(program).arg(archive.file(day)).status().unwrap().success());
    }
    assert_eq!(ids(&archive.say(&["find", "--json"])).len(), 4);
    // Twenty more days behind. Some places of a plain file tell that it is of its day alone; of what somebody else packed nothing does.
    for day in 1..=20 {
        let time = format!("2025-10-{day:02}T12:00:00.000Z");
        fs::write(archive.0.path().join(format!("audit-202510{day:02}.jsonl")), mail(&time, "old", "pass", false, 1) + "\n").unwrap();
    }
    let asked = ["find", "--since", "2025-11-24", "--until", "2025-11-24"];
    let said = archive.say(&asked);
    assert!(said.out.contains("looked at 1 record of") && said.out.contains(", in 4 files, asked"), "{said:?}");
    // The clock was wrong for a while: the name does not tell what is in it.
    let (wrong, right) =
        (mail("2025-10-01T12:00:00.000Z", "old", "pass", false, 1), mail("2025-11-24T13:00:00.000Z", "m25", "act", false, 5));
    fs::write(archive.0.path().join("audit-20251001.jsonl"), format!("{wrong}\n{right}\n")).unwrap();
    assert_eq!(ids(&archive.say(&[&asked[..], &["--json"]].concat())), ["m24", "m25"]);
    // A FIFO is named, and never waited for.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        archive.0.path().join("audit-20251002.jsonl.gz"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for asked in [&asked[..], &["report"], &["tail", "--lines", "99"], &["verify"]] {
        let said = archive.say(asked);
        assert!(said.err.contains("audit-20251002.jsonl.gz: it is no regular file") && said.code == Some(2), "{asked:?}: {said:?}");
    }
}

#[test]
fn a_report_counts_what_acted_and_what_would_have() {
    let archive = Archive::new();
    let said = archive.say(&["report"]);
    let wanted = "\
entry        act  observed  near_miss      pass
vendor         1         1          1         1
    near_miss by author: 1
    the newest, 2025-11-22 12:00:00Z: author: x
total          1         1          1         1
4 mails, 0 of no entry
looked at 4 records of 2025-11-21 12:00:00Z to 2025-11-24 12:00:00Z, in 4 files
";
    assert_eq!((said.out.as_str(), said.code), (wanted, Some(0)));
    let json = archive.say(&["report", "--json", "--since", "2025-11-22", "--until", "2025-11-23"]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["total"]["near_miss"].as_u64(), json["total"]["act"].as_u64(), json["mails"].as_u64()), (Some(1), Some(0), Some(2)));
    assert_eq!((json["since"].as_str(), json["until"].as_str()), (Some("2025-11-22T00:00:00.000Z"), Some("2025-11-24T00:00:00.000Z")));
    assert_eq!(json["entries"][0]["near_misses"]["author"].as_u64(), Some(1));
    assert_eq!(archive.say(&["report", "--csv"]).out, "entry,act,observed,near_miss,pass\nvendor,1,1,1,1\n");
    assert_eq!(archive.say(&["report", "--csv", "--json"]).code, Some(2));
    // A time without a record, as `find` says it.
    let empty = ["report", "--since", "2025-12-24", "--until", "2025-12-24"];
    let said = archive.say(&empty);
    assert!(said.out.ends_with("\nthere is no record of that time: the service did not run, or its files are elsewhere\n"), "{said:?}");
    assert_eq!(said.code, Some(1));
    for form in ["--json", "--csv"] {
        let said = archive.say(&[&empty[..], &[form]].concat());
        assert!(said.err.contains("there is no record of that time") && !said.out.contains("there is") && said.code == Some(1), "{said:?}");
    }
}

/// A copy of a closed file beside its gzip, changed: no mail counts twice, and the answer says so.
#[test]
fn records_that_are_there_twice_count_once_and_are_told() {
    let archive = Archive::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&fs::read(archive.file(22)).unwrap()).unwrap();
    fs::write(archive.file(22).with_extension("jsonl.gz"), packed.finish().unwrap()).unwrap();
    let whole = archive.say(&["report"]);
    let edited = fs::read_to_string(archive.file(22)).unwrap().replace("\"helo\":\"mx\"", "\"helo\":\"other\"");
    fs::write(archive.file(22), edited).unwrap();
    let doubt = "1 record is of that time there twice, as where a copy of a file lies beside it";
    let said = archive.say(&["report"]);
    assert!(said.out.contains("\n4 mails, 0 of no entry\n") && said.out.contains(doubt) && said.code == Some(0), "{said:?}");
    assert!(!whole.out.contains("twice") && whole.out.contains("\n4 mails"), "{whole:?}");
    assert!(archive.say(&["report", "--json"]).out.contains("\"twice\":1"));
    assert!(archive.say(&["report", "--csv"]).err.contains(doubt));
    let said = archive.say(&["find", "--json"]);
    assert!(ids(&said) == ["m21", "m22", "m23", "m24"] && said.err.contains(doubt), "{said:?}");
}

/// Whoever asks for some mails is told by which policy they were decided, and not of all there were.
#[test]
fn a_mail_that_was_asked_for_comes_with_its_policy_alone() {
    let archive = Archive::new();
    let policy = |time: &str, hash: &str, number: usize| {
        let whole = hash.repeat(16);
        format!(
            r#"{{"type":"policy","v":1,"time":"{time}","by":"reload","hash":"{whole}","version":"1.0.0","mode":"enforce","entries":{{}},"prev":"0","n":{number}}}"#
        )
    };
    let by = |mail: String, hash: &str| mail.replace(r#""decision""#, &format!(r#""policy":"{}","decision""#, hash.repeat(4)));
    archive.write(
        22,
        &[
            policy("2025-11-22T01:00:00.000Z", "aaaa", 11),
            policy("2025-11-22T02:00:00.000Z", "bbbb", 12),
            by(mail("2025-11-22T03:00:00.000Z", "p1", "act", false, 13), "bbbb"),
            by(mail("2025-11-22T03:00:01.000Z", "p2", "act", false, 14), "bbbb"),
            policy("2025-11-22T04:00:00.000Z", "cccc", 15),
            by(mail("2025-11-22T05:00:00.000Z", "p3", "pass", false, 16), "cccc"),
            policy("2025-11-22T06:00:00.000Z", "bbbb", 17),
            r#"{"type":"policy_refused","v":1,"time":"2025-11-22T07:00:00.000Z","policy":"bbbb","mistake":"x","prev":"0","n":18}"#.into(),
        ],
    );
    let shown = |arguments: &[&str]| -> Vec<String> {
        let said = archive.say(&[&["find"], arguments].concat());
        let of = |line: &str| line.split("policy ").nth(1).map(|rest| rest.chars().take(1).collect());
        said.out.lines().filter_map(of).collect()
    };
    assert_eq!(shown(&["--since", "2025-11-22", "--until", "2025-11-22"]), ["a", "b", "c", "b", "b"], "all of them, and one refused");
    for filter in [&["--id", "p1"][..], &["--message-id", "<p1@vendor.test>"]] {
        assert_eq!(shown(filter), ["b"], "{filter:?}");
    }
    for filter in [&["--to", "bob@corp.example"][..], &["--from", "vendor.test"], &["--entry", "vendor"]] {
        assert_eq!(shown(filter), ["b", "c"], "{filter:?}");
    }
    assert_eq!(shown(&["--decision", "near_miss"]), [""; 0]);
    // Where its record is of an earlier time, by its hash.
    let said = archive.say(&["find", "--id", "p1", "--since", "2025-11-22 02:30"]);
    assert!(said.out.contains("\n    decided by policy bbbbbbbbbbbbbbbb\n") && !said.out.contains("in force"), "{said:?}");
    let json = archive.say(&["find", "--json", "--id", "p3"]);
    let kinds: Vec<Value> = json.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone()).collect();
    assert_eq!(kinds, ["policy", "mail"], "{json:?}");
}

/// A configuration that may not be read, or that is not there, is not an empty one.
#[test]
fn a_configuration_that_cannot_be_read_is_said() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("firstclick.toml");
    let mail = folder.path().join("mail.eml");
    fs::write(&mail, "From: a@b.test\r\n\r\nx\r\n").unwrap();
    let commands: &[&[&str]] = &[
        &["explain", mail.to_str().unwrap()],
        &["check"],
        &["setup", "defender"],
        &["audit", "find"],
        &["audit", "tail"],
        &["audit", "report"],
        &["audit", "verify"],
        &["run"],
    ];
    for arguments in commands {
        let said = said(Command::new(program()).arg("--config").arg(&missing).args(*arguments));
        assert!(said.code == Some(2) && said.err.contains("No such file"), "{arguments:?}: {said:?}");
    }
    if !unprivileged() {
        return;
    }
    fs::write(&missing, "").unwrap();
    fs::set_permissions(&missing, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for arguments in commands {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program()).arg("--config").arg(&missing).args(*arguments);
        let said = said(&mut command);
        assert!(said.code == Some(2) && said.err.contains("is closed to user nobody"), "{arguments:?}: {said:?}");
    }
    assert_default_is_not_passed_over(folder.path(), &mail);
}

/// The same where no configuration is named, and the folder of the installed one is closed: in a namespace of its own.
fn assert_default_is_not_passed_over(folder: &Path, mail: &Path) {
    let script = folder.join("script");
    let mut file = fs::File::create(&script).unwrap();
    let run = format!("setpriv --reuid=65534 --regid=65534 --clear-groups {} explain {}", program(), mail.display());
    writeln!(file, "mkdir -p /etc/firstclick && mount -t tmpfs none /etc/firstclick && touch /etc/firstclick/firstclick.toml && chmod 700 /etc/firstclick || exit 99\n{run}").unwrap();
    let said = said(Command::new("unshare").args(["--mount", "sh"]).arg(&script));
    if said.code == Some(99) || said.code.is_none() {
        return missing("a mount namespace");
    }
    let closed = ["Permission denied", "is closed to user nobody"].iter().any(|words| said.err.contains(words));
    assert!(said.code == Some(2) && closed, "{said:?}");
}
