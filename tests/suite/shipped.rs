//! What is shipped is true: the example configuration, the catalogue, and the tables in docs/.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use firstclick::{
    allowlist::{Entry, Mode, Reason},
    message::Flaw,
    recognition::Kind,
    settings::{Advice, Problems, Settings, Severity, allow, catalogue, keys},
};
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
    assert!(said.starts_with("acme-hr: Mails from no-reply@acme-hr.example"), "{said}");
    assert_eq!((said.lines().find(|line| is_advice(line)), complained.as_str(), code), (None, "", Some(0)));
    // And in enforce mode.
    let folder = installed(|text| text.replace("mode = \"observe\"", "mode = \"enforce\""));
    let config = folder.path().join("firstclick.toml");
    let (said, complained, code) = firstclick(&["--config", config.to_str().unwrap(), "check"]);
    assert_eq!((said.lines().find(|line| is_advice(line)), complained.as_str(), code), (None, "", Some(0)));
}

/// The lines that start with `#key` are the defaults: written out, they change nothing.
#[test]
fn the_commented_keys_are_the_defaults() {
    let written_out = |text: String| {
        let mut in_force = true;
        let lines = text.lines().map(|line| {
            if line.starts_with(['[', '#']) && line.trim_start_matches('#').starts_with('[') {
                in_force = line.starts_with('[');
            }
            let key = line.strip_prefix('#').and_then(|rest| rest.split(" = ").next()).unwrap_or_default();
            let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if is_key && in_force && !line.contains(" # example") { line.trim_start_matches('#') } else { line }
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

/// Without their `#`, the sections that are not in force stand as they should: only the files that they name are not there.
#[test]
fn the_commented_sections_are_right() {
    let folder = installed(|text| {
        let uncommented = text.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
        uncommented.collect::<Vec<_>>().join("\n")
    });
    let problems = Settings::load(&folder.path().join("firstclick.toml")).unwrap_err();
    let paths = keys::KEYS.iter().filter(|key| matches!(key.kind, keys::Kind::File | keys::Kind::Folder)).map(|key| key.path);
    let paths: Vec<&str> = paths.collect();
    for problem in &problems.0 {
        let needs_this_system = paths.contains(&problem.key.as_str()) || problem.key == "milter.socket_owner";
        assert!(needs_this_system || problem.what.contains("take this one out"), "{problem}");
    }
}

/// An entry for a service of the catalogue, as an admin writes one who accepts drafts.
fn entry_for(service: &catalogue::Service, more: &str) -> String {
    let tenant = if service.needs_tenant() { "tenant = [\"corp\"]\n" } else { "" };
    let draft = if service.is_draft() { "accept_draft = true\n" } else { "" };
    format!("name = \"this\"\nsender = \"{}\"\n{tenant}{draft}owner = \"it@corp.example\"\nexpires = 2099-12-31\n{more}", service.name)
}

fn compile(folder: &Path, text: &str) -> (Option<Entry>, Vec<Advice>, Problems) {
    let (mut advice, mut problems) = (Vec::new(), Problems::default());
    let entry = allow::compile(folder.join("this.toml").to_str().unwrap(), "this", text, Mode::Enforce, &mut advice, &mut problems);
    (entry, advice, problems)
}

#[test]
fn every_service_is_an_entry_and_drafts_only_where_they_are_accepted() {
    let (list, _, code) = firstclick(&["senders"]);
    assert_eq!(code, Some(0));
    let services = catalogue::all(&mut Problems::default());
    assert!(services.len() >= 60, "{}", services.len());
    let folder = TempDir::new().unwrap();
    let (mut ready, mut drafts) = (0, 0);
    for service in &services {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(&service.name)), "{}", service.name);
        if service.links().is_empty() || service.from().is_empty() {
            assert!(service.is_draft(), "{}: nothing to exempt, and no draft", service.name);
            continue;
        }
        let text = entry_for(service, "");
        let (entry, advice, problems) = compile(folder.path(), &text);
        let entry = entry.unwrap_or_else(|| panic!("{}: {problems}", service.name));
        assert!(advice.iter().all(|advice| advice.severity != Severity::Danger), "{}: {advice:?}", service.name);
        assert!(!firstclick::settings::sentences(&entry, jiff::Timestamp::now()).is_empty());
        let (refused, advice, problems) = compile(folder.path(), &text.replace("accept_draft = true\n", ""));
        assert_eq!(problems, Problems::default(), "{}: {problems}", service.name);
        assert_eq!(refused.is_none(), service.is_draft(), "{}", service.name);
        if service.is_draft() {
            drafts += 1;
            assert!(
                advice.iter().any(|advice| advice.to_string().contains("is a draft: nobody has seen its ")),
                "{}: {advice:?}",
                service.name
            );
        } else {
            ready += 1;
        }
    }
    println!("{ready} services are ready, {drafts} are drafts");
    let (shown, _, code) = firstclick(&["senders", "show", "salesforce"]);
    assert_eq!(code, Some(0));
    for words in [
        "{tenant}.my.salesforce.com/",
        "a visit uses the link up",
        "What is known, and from where:",
        "On the sender's side: ",
        "tenant = [",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

/// What `senders show` ends with is an entry that `check` takes.
#[test]
fn the_examples_of_the_catalogue_pass_check() {
    let folder = installed(|text| text);
    let names: Vec<&str> = catalogue::names().into_iter().chain(firstclick::settings::products::names()).collect();
    let mut tried = Vec::new();
    for name in names {
        let (shown, _, _) = firstclick(&["senders", "show", name]);
        let Some((_, example)) = shown.split_once("Allow it with a file in the allowlist folder:\n\n") else { continue };
        fs::write(folder.path().join(format!("allow.d/{name}.toml")), example.replace("2027-06-30", "2099-12-31")).unwrap();
        tried.push(name);
    }
    let (said, complained, code) = firstclick(&["--config", folder.path().join("firstclick.toml").to_str().unwrap(), "check"]);
    assert_eq!((complained.as_str(), code), ("", Some(0)));
    let is_there = |name: &&str| said.lines().any(|line| line.starts_with(&format!("{name}: Mails from ")));
    let left_out: Vec<&str> = tried.iter().filter(|name| !is_there(name)).copied().collect();
    assert!(tried.len() > 100 && left_out.is_empty(), "{left_out:?}: {said}");
}

#[test]
fn every_product_is_an_entry_where_it_stands() {
    let folder = TempDir::new().unwrap();
    let products = firstclick::settings::products::all(&mut Problems::default());
    assert!(products.len() >= 40, "{}", products.len());
    for product in products {
        let draft = if product.is_draft() { "accept_draft = true\n" } else { "" };
        let text = format!(
            "product = \"{}\"\nhost = \"sso.corp.example:8443/app\"\nfrom = [\"no-reply@corp.example\"]\n{draft}owner = \"it@corp.example\"\nexpires = 2099-12-31\n",
            product.name
        );
        let (entry, _, problems) = compile(folder.path(), &text);
        let entry = entry.unwrap_or_else(|| panic!("{}: {problems}", product.name));
        assert_eq!(entry.links.shapes().len(), product.links().len(), "{}", product.name);
        assert!(entry.links.shapes().iter().all(|(_, shape)| shape.to_string().contains("sso.corp.example:8443/app")), "{}", product.name);
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
    assert_eq!((printed.trim().len() < 64, printed.starts_with("fc"), code), (true, true, Some(0)));
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
        "-SenderIpRanges '192.0.2.25'",
        "-HeaderContainsMessageHeader 'X-Firstclick'",
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
            .replace("{stem}", file.file_stem().unwrap().to_str().unwrap())
            .replace("{soon}", &soon_day);
        let (said, complained, code) = firstclick(&["--config", folder.path().join("firstclick.toml").to_str().unwrap(), "check"]);
        let right = match kind {
            "advice" => {
                let advice: Vec<&str> = said.lines().filter(|line| is_advice(line)).collect();
                complained.is_empty() && code == Some(0) && matches!(advice[..], [only] if only.starts_with(expected.as_str()))
            }
            _ => said.is_empty() && code == Some(2) && complained.contains(&expected) && complained.contains("1 mistake\n"),
        };
        if !right {
            wrong.push(format!("{}: expected {expected:?}, got {said:?} and {complained:?}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A folder without an entry, and keys: what was done is said in one line.
#[test]
fn small_things_are_said() {
    let folder = installed(|text| text);
    for entry in fs::read_dir(folder.path().join("allow.d")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    let (said, complained, code) = firstclick(&["--config", folder.path().join("firstclick.toml").to_str().unwrap(), "check"]);
    assert_eq!((said.as_str(), complained.as_str(), code), ("0 entries: nothing will be exempted\n", "", Some(0)));
    let key = folder.path().join("new.key");
    for says in ["a new key", "a new key on top of the older one", "on top of 2 older ones"] {
        let (said, _, _) = firstclick(&["keygen", "--out", key.to_str().unwrap()]);
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
        assert!(!said.contains(fs::read_to_string(&key).unwrap().lines().next().unwrap()), "the key itself is not shown");
    }
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
    let (said, complained, code) = check(entry("tag", "near_miss"));
    assert_eq!((said.lines().find(|line| is_advice(line)), complained.as_str(), code), (None, "", Some(0)));
    for word in ["act", "guard", "unwrap"] {
        assert_eq!(check(entry(word, "near_miss")).2, Some(0), "an exempted mail is called {word}, too");
    }
    let (_, said, code) = check(entry("pass", "tag"));
    assert_eq!(code, Some(2));
    for words in [
        "vendor.toml:8:8: test.expect: samples/good.eml gives \"act\", expected \"pass\"",
        "vendor.toml:11:8: test.expect: samples/moved.eml gives \"near_miss\", expected \"act\"; ",
        "2 mistakes",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let (_, said, _) = check(entry("tag", "near-miss"));
    assert!(said.contains("did you mean \"near_miss\"?"), "{said}");
}

/// Whether a line of `check` is advice, and not what an entry lets through.
fn is_advice(line: &str) -> bool {
    ["danger: ", "warning: ", "note: "].iter().any(|word| line.starts_with(word))
}

/// A link of a shape, with what stands for its placeholders.
fn link_of(shape: &str) -> String {
    let (scheme, rest) = shape.split_once("://").map_or(("https", shape), |(scheme, rest)| (scheme, rest));
    let host = rest.split('/').next().unwrap().replace("{tenant}", "corp");
    let filled = rest
        .replace("{token}", "x7Kq2mZt9LbVw4RnYp3d8Hs6")
        .replace("{code}", "482913")
        .replace("{id}", "10293")
        .replace("{word}", "en-US")
        .replace("{text}", "Corp%20Ltd")
        .replace("{email}", "bob%40corp.example")
        .replace("{tenant}", "corp")
        // Itself a link of the entry: an other link, or the host's own start page.
        .replace("{url}", &format!("https%3A%2F%2F{host}%2F"));
    format!("{scheme}://{filled}")
}

/// Each service of the catalogue with a mail of its own making: its link is exempted by its entry, a stranger's is not.
#[test]
fn every_service_of_the_catalogue_takes_its_own_mail_and_no_other() {
    let folder = TempDir::new().unwrap();
    let samples = folder.path().join("samples");
    fs::create_dir(&samples).unwrap();
    let mut tried = 0;
    for service in catalogue::all(&mut Problems::default()) {
        let Some(from) =
            service.from().first().map(|from| from.replace("{tenant}", "corp").replace("*@", "no-reply@").replace("*.", "mail."))
        else {
            continue;
        };
        let from = if from.contains('@') { from } else { format!("no-reply@{from}") };
        let mail = |address: &str| {
            format!(
                "From: {} <{from}>\nTo: bob@corp.example\nSubject: Reset your password\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nYou asked to reset your password. Reset your password: {address}\n",
                service.name
            )
        };
        let test = |mail: &str, expect: &str| format!("[[test]]\nmail = \"samples/{mail}.eml\"\nexpect = \"{expect}\"\n");
        let mut tests = test("foreign", "near_miss");
        fs::write(samples.join("foreign.eml"), mail("https://stranger.example/reset/x7Kq2mZt9LbVw4RnYp3d8Hs6")).unwrap();
        // An `action` link grants nothing by itself, and where {url} leads is the entry's own matter.
        let links = service.links();
        let shapes = links.iter().filter(|(kind, shape)| *kind != Kind::Action && !shape.contains("{url}"));
        for (at, (_, shape)) in shapes.enumerate() {
            fs::write(samples.join(format!("own{at}.eml")), mail(&link_of(shape))).unwrap();
            tests.push_str(&test(&format!("own{at}"), "tag"));
            tried += 1;
        }
        let (_, _, problems) = compile(folder.path(), &entry_for(&service, &tests));
        assert!(service.links().is_empty() || problems == Problems::default(), "{}: {problems}", service.name);
    }
    assert!(tried >= 60, "{tried}");
}
