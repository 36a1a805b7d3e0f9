//! What is shipped is true: the example configuration, the catalogue, and the tables in docs/.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on panics"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use firstclick::{allowlist::Reason, message::Flaw, settings::Settings};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn firstclick(arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_firstclick")).args(arguments).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// config/ as an admin installs it: copied, with keys of its own.
fn installed(change: impl Fn(String) -> String) -> TempDir {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let text = fs::read_to_string(root().join("config/firstclick.toml")).unwrap().replace("/var/log/firstclick", "audit");
    fs::write(place("firstclick.toml"), change(text)).unwrap();
    fs::create_dir(place("allow.d")).unwrap();
    for entry in fs::read_dir(root().join("config/allow.d")).unwrap().flatten() {
        fs::copy(entry.path(), place("allow.d").join(entry.file_name())).unwrap();
    }
    for arguments in [&["keygen", "--token", "--out"][..], &["keygen", "--out"]] {
        let file = place(if arguments.len() == 3 { "tag.token" } else { "tag.key" });
        assert_eq!(firstclick(&[arguments, &[file.to_str().unwrap()]].concat()).2, Some(0));
    }
    folder
}

#[test]
fn check_has_nothing_to_say_about_the_shipped_examples() {
    let folder = installed(|text| text);
    let config = folder.path().join("firstclick.toml");
    let (said, complained, code) = firstclick(&["--config", config.to_str().unwrap(), "check"]);
    assert_eq!((said.as_str(), complained.as_str(), code), ("", "", Some(0)));
    // And in enforce mode.
    let folder = installed(|text| text.replace("mode = \"observe\"", "mode = \"enforce\""));
    let config = folder.path().join("firstclick.toml");
    assert_eq!(firstclick(&["--config", config.to_str().unwrap(), "check"]), (String::new(), String::new(), Some(0)));
}

/// The lines that start with `#key` are the defaults: written out, they change nothing.
#[test]
fn the_commented_keys_are_the_defaults() {
    let files = ["next_hop_ca", "certificate", "key", "accept_from", "proxies", "trusted_upstreams", "authserv_ids", "dns"];
    let written_out = |text: String| {
        let lines = text.lines().map(|line| {
            let key = line.strip_prefix('#').and_then(|rest| rest.split(" = ").next()).unwrap_or_default();
            let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if is_key && !files.contains(&key) { line.trim_start_matches('#') } else { line }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let (short, long) = (installed(|text| text), installed(written_out));
    let load = |folder: &TempDir| Settings::load(&folder.path().join("firstclick.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    let written = fs::read_to_string(long.path().join("firstclick.toml")).unwrap();
    assert!(written.contains("\nconnections = 2500") && written.contains("\ndrain = \"30s\""), "{written}");
    let (short, long) = (load(&short), load(&long));
    assert_eq!(short.smtp, long.smtp);
    assert_eq!(short.identity, long.identity);
    assert_eq!(short.tag.unwrap().header, long.tag.unwrap().header);
}

#[test]
fn the_catalogue_is_sound_and_never_wider_than_a_service() {
    let (list, _, code) = firstclick(&["senders"]);
    assert_eq!(code, Some(0));
    let names: Vec<&str> = list
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .take_while(|name| !name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    assert!(names.len() >= 60, "{list}");
    for name in &names {
        let (shown, _, code) = firstclick(&["senders", "show", name]);
        assert_eq!(code, Some(0), "{name}");
        let folder = installed(|text| text.replace("mode = \"observe\"", "mode = \"enforce\""));
        fs::write(folder.path().join("allow.d/this.toml"), format!("name = \"this\"\nsender = \"{name}\"\nowner = \"it@corp.example\"\n"))
            .unwrap();
        let settings = Settings::load(&folder.path().join("firstclick.toml")).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let entry = settings.allowlist.entries().iter().find(|sender| sender.name == "this").unwrap();
        for pattern in &entry.from {
            assert!(pattern.domain().registered().is_some(), "{name}: {pattern} is a public suffix");
        }
        for link in &entry.links {
            assert!(link.host().domain().registered().is_some(), "{name}: {link} is a public suffix");
            assert!(!link.is_whole_host(), "{name}: a one-time link has a path, {link} has none");
        }
        assert!(shown.contains("confidence") && shown.contains("On the sender's side: "), "{name}");
    }
}

/// docs/reasons.md is the vocabulary, word for word.
#[test]
fn every_reason_and_every_flaw_is_documented() {
    let page = fs::read_to_string(root().join("docs/reasons.md")).unwrap();
    let row = |code: &str, says: &str| format!("| `{code}` | {says} |");
    for reason in Reason::ALL {
        assert!(page.contains(&row(reason.code(), reason.says())), "missing in docs/reasons.md: {}", row(reason.code(), reason.says()));
    }
    for flaw in Flaw::ALL {
        assert!(page.contains(&row(flaw.code(), flaw.says())), "missing in docs/reasons.md: {}", row(flaw.code(), flaw.says()));
    }
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Reason::ALL.len() + Flaw::ALL.len(), "docs/reasons.md has rows of codes that are none");
}

#[test]
fn keys_and_tokens_rotate_with_an_overlap() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tag.key");
    for _ in 0..2 {
        assert_eq!(firstclick(&["keygen", "--out", file.to_str().unwrap()]).2, Some(0));
    }
    let keys = fs::read_to_string(&file).unwrap();
    assert_eq!(keys.lines().count(), 2);
    assert_ne!(keys.lines().next(), keys.lines().nth(1));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o007, 0, "others may not read it");
    let (printed, _, code) = firstclick(&["keygen", "--token"]);
    assert_eq!((printed.trim().len() < 64, printed.starts_with("fc-"), code), (true, true, Some(0)));
}

#[test]
fn setup_defender_prints_the_rule_with_the_token() {
    let folder = installed(|text| text);
    let token = fs::read_to_string(folder.path().join("tag.token")).unwrap();
    let config = folder.path().join("firstclick.toml");
    let (said, _, code) = firstclick(&["--config", config.to_str().unwrap(), "setup", "defender", "--hop", "192.0.2.25"]);
    assert_eq!(code, Some(0));
    for words in [
        "New-TransportRule",
        "-SenderIpRanges \"192.0.2.25\"",
        "-HeaderContainsMessageHeader \"X-Firstclick\"",
        token.trim(),
        "SkipSafeLinksProcessing",
        "-EFSkipIPs",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (_, complained, code) = firstclick(&["--config", config.to_str().unwrap(), "setup", "defendr"]);
    assert_eq!(code, Some(2));
    assert!(complained.contains("did you mean \"defender\"?"));
}

/// tests/policies: an entry a file, and the one piece of advice, or the one mistake, that it deserves.
#[test]
fn each_bad_policy_gets_its_one_advice() {
    let mut files: Vec<_> = fs::read_dir(root().join("tests/policies")).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(files.len() >= 50, "{}", files.len());
    let soon = firstclick::clock::now() + std::time::Duration::from_hours(10 * 24);
    let soon_day = soon.strftime("%Y-%m-%d").to_string();
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap().replace("{soon-day}", &soon_day);
        let folder = installed(|text| text);
        let allow = folder.path().join("allow.d");
        for shipped in fs::read_dir(&allow).unwrap().flatten() {
            fs::remove_file(shipped.path()).unwrap();
        }
        let place = allow.join(file.file_name().unwrap());
        fs::write(&place, &text).unwrap();
        if file.to_str().unwrap().contains("shadowed") {
            fs::write(allow.join("00-first.toml"), &text).unwrap();
        }
        let (kind, expected) = text.lines().next().unwrap().strip_prefix("# ").unwrap().split_once(": ").unwrap();
        let expected = expected
            .replace("{file}", place.to_str().unwrap())
            .replace("{folder}", allow.to_str().unwrap())
            .replace("{stem}", file.file_stem().unwrap().to_str().unwrap())
            .replace("{soon}", &soon_day);
        let (said, complained, code) = firstclick(&["--config", folder.path().join("firstclick.toml").to_str().unwrap(), "check"]);
        let right = match kind {
            "advice" => complained.is_empty() && code == Some(0) && said.lines().count() == 1 && said.starts_with(&expected),
            _ => said.is_empty() && code == Some(2) && complained.contains(&expected) && complained.contains("1 mistake\n"),
        };
        if !right {
            wrong.push(format!("{}: expected {expected:?}, got {said:?} and {complained:?}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `[[test]]` mails: `check` tries them, and says what came out otherwise.
#[test]
fn test_mails_are_tried_by_check() {
    let mail = |link: &str| {
        format!(
            "From: a@vendor.example\nTo: bob@corp.example\nSubject: Reset your password\nMIME-Version: 1.0\nContent-Type: text/plain\n\nReset your password: {link}\n"
        )
    };
    let folder = installed(|text| text);
    fs::create_dir(folder.path().join("allow.d/samples")).unwrap();
    let token = "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";
    fs::write(folder.path().join("allow.d/samples/good.eml"), mail(&format!("https://login.vendor.example/reset/{token}"))).unwrap();
    fs::write(folder.path().join("allow.d/samples/moved.eml"), mail(&format!("https://login.vendor.example/v2/reset/{token}"))).unwrap();
    let entry = |good: &str, moved: &str| {
        let test = |mail: &str, expect: &str| format!("[[test]]\nmail = \"samples/{mail}.eml\"\nexpect = \"{expect}\"\n");
        format!(
            "from = [\"vendor.example\"]\nowner = \"it@corp.example\"\nexpires = 2099-12-31\naction = \"tag\"\n[links]\npassword_reset = [\"login.vendor.example/reset/{{token}}\"]\n{}{}",
            test("good", good),
            test("moved", moved)
        )
    };
    let check = |text: String| {
        fs::write(folder.path().join("allow.d/vendor.toml"), text).unwrap();
        firstclick(&["--config", folder.path().join("firstclick.toml").to_str().unwrap(), "check"])
    };
    assert_eq!(check(entry("tag", "near_miss")), (String::new(), String::new(), Some(0)));
    let (_, said, code) = check(entry("pass", "tag"));
    assert_eq!(code, Some(2));
    for words in [
        "vendor.toml:7:8: test.expect: samples/good.eml gives \"tag\", expected \"pass\"",
        "vendor.toml:10:8: test.expect: samples/moved.eml gives \"near_miss\", expected \"tag\"; one_time_link: https://login.vendor.example/v2/reset/{40} is not among the entry's links; \"login.vendor.example/v2/reset/*\" would be",
        "2 mistakes",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let (_, said, _) = check(entry("tag", "near-miss"));
    assert!(said.contains("did you mean \"near_miss\"?"), "{said}");
}

/// Each service of the catalogue with a mail of its own making: its link is exempted by its entry, a stranger's is not.
#[test]
fn every_service_of_the_catalogue_takes_its_own_mail_and_no_other() {
    let services = firstclick::settings::catalogue::all(&mut firstclick::settings::Problems::default());
    assert!(services.len() >= 60, "{}", services.len());
    let folder = installed(|text| text);
    let samples = folder.path().join("allow.d/samples");
    fs::create_dir(&samples).unwrap();
    for service in services {
        for link in &service.links {
            let token = "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";
            let (host, path) = link.split_once('/').unwrap_or((link, ""));
            let address = format!("https://{}/{}", host.replace('*', "acme"), path.replace('*', token));
            let address =
                if path.contains('*') { address } else { format!("{address}{}t={token}", if address.contains('?') { "&" } else { "?" }) };
            let from = service.from[0].replace('*', "mail");
            let mail = |address: &str| {
                format!(
                    "From: {} <noreply@{from}>\nTo: bob@corp.example\nSubject: Reset your password\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nYou asked to reset your password. Reset your password: {address}\n",
                    service.name
                )
            };
            fs::write(samples.join("own.eml"), mail(&address)).unwrap();
            fs::write(samples.join("foreign.eml"), mail(&format!("https://stranger.example/reset/{token}"))).unwrap();
            let test = |mail: &str, expect: &str| format!("[[test]]\nmail = \"samples/{mail}.eml\"\nexpect = \"{expect}\"\n");
            let entry = format!(
                "name = \"this\"\nsender = \"{}\"\nmails = [\"password_reset\", \"invite\", \"email_verify\", \"magic_link\"]\nowner = \"it@corp.example\"\nexpires = 2099-12-31\n{}{}",
                service.name,
                test("own", "tag"),
                test("foreign", "near_miss")
            );
            fs::write(folder.path().join("allow.d/this.toml"), entry).unwrap();
            let (_, said, code) = firstclick(&["--config", folder.path().join("firstclick.toml").to_str().unwrap(), "check"]);
            assert_eq!(code, Some(0), "{}, {link}: {said}", service.name);
        }
    }
}
