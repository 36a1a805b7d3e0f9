//! Mistakes that people make, and the answer to each: one that leads to the mending in one round, and no second that only follows.

use std::fs;

use tempfile::TempDir;

use super::{Problems, Settings, layers::Environment};

const SMTP: &str = "[smtp]\nlisten = [\"127.0.0.1:2525\"]\nnext_hop = \"127.0.0.1:2526\"\nhostname = \"hop.test\"\n";
const ENTRY: &str = "from = [\"vendor.test\"]\naction = \"tag\"\n[links]\npassword_reset = [\"login.vendor.test/reset/{token}\"]\n";

fn said(config: &str, entry: Option<&[u8]>) -> String {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("allow.d")).unwrap();
    if let Some(entry) = entry {
        fs::write(folder.path().join("allow.d/e.toml"), entry).unwrap();
    }
    let mut problems = Problems::default();
    let settings = Settings::compile(&folder.path().join("firstclick.toml"), config, Environment::default(), &mut problems);
    problems.0.extend(settings.left_out.into_iter().flat_map(|left_out| left_out.problems.0));
    problems.to_string().replace(&format!("{}/", folder.path().display()), "")
}

/// That each of these is one mistake, told so.
fn one_mistake(told: &[(String, String, &str)]) {
    let wrong: Vec<String> = told
        .iter()
        .filter(|(_, said, words)| !(said.contains(words) && said.ends_with("\n1 mistake")))
        .map(|(written, said, words)| format!("{written}\nexpected {words:?}\ngot {said}\n"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is written in the place of a part of `[smtp]`, and what is said.
#[test]
fn of_firstclick_toml() {
    let rows: &[(&str, &str, &str)] = &[
        ("\"hop.test\"", "hop.test", ":4:12: found hop.test; write hostname = \"hop.test\""),
        ("\"hop.test\"", "\"hop.test", ":4:21: the text has no end: write \" behind it"),
        ("\"hop.test\"", "\"hop.test\",", "found , behind the value; take it out"),
        ("\"hop.test\"", "\"hop.test\" hop", "found hop behind the value; take it out"),
        ("\"hop.test\"", "“hop.test”", "typographic quotes; write straight ones"),
        ("\"hop.test\"", "", "no value stands behind `=`; write hostname = \"...\""),
        ("\"hop.test\"", "5", "smtp.hostname: found the number 5, expected a string in quotes"),
        ("\"hop.test\"", "\"hop\\qtest\"", "a backslash in \"...\" must be written twice"),
        ("\"hop.test\"", "\"hop\u{1}\"", "a control character (U+0001) stands in the line"),
        ("\"hop.test\"", "\"hop.test\"\nhostname = \"x.test\"", ":5:1: smtp.hostname: the key is there twice; it stands in line 4 already"),
        ("hostname = ", "hostname: ", "`=` is missing: write hostname = \"hop.test\""),
        ("hostname = ", "hostname ", "`=` is missing: write hostname = \"hop.test\""),
        ("hostname = ", "host_name = ", "did you mean `hostname`?"),
        ("hostname = ", "HostName = ", "did you mean `hostname`?"),
        ("[smtp]", "[smtp", ":1:6: the section's name has no end: write [smtp]"),
        ("[smtp]", "smtp]", "a section's name stands in brackets: write [smtp]"),
        ("[smtp]", "smtp:", "a section's name stands in brackets: write [smtp]"),
        ("[smtp]", "[[smtp]]", "expected a table: [smtp], in single brackets"),
        ("[smtp]", "[Smtp]", "did you mean `smtp`?"),
        ("[smtp]", "; a comment\n[smtp]", ":1:1: a comment starts with #"),
        ("[smtp]", "// a comment\n[smtp]", ":1:1: a comment starts with #"),
        ("[smtp]", "mode = enforce\n[smtp]", ":1:8: found enforce; write mode = \"enforce\""),
        ("[smtp]", "mode = \"enforced\"\n[smtp]", "did you mean \"enforce\"?"),
        ("[smtp]", "mode = \"on\"\n[smtp]", "found \"on\", expected \"observe\" or \"enforce\""),
        ("[smtp]", "listen = [\"127.0.0.1:1\"]\n[smtp]", "listen: unknown key"),
        ("[smtp]", "next_hop = \"127.0.0.1:1\"\n[smtp]", "`next_hop` belongs to [smtp]: put it there"),
        ("\"127.0.0.1:2526\"", "127.0.0.1:2526", "found 127.0.0.1:2526; write next_hop = \"127.0.0.1:2526\""),
        ("\"127.0.0.1:2526\"", "2526", "smtp.next_hop: found the number 2526, expected a string in quotes or a list of them"),
        ("\"127.0.0.1:2526\"", "[2526]", "smtp.next_hop: found the number 2526, expected a string in quotes"),
        ("127.0.0.1:2526", "[scanner.test]:25", "write \"scanner.test:25\""),
        ("127.0.0.1:2526", "[scanner]:25", "write \"scanner:25\""),
        ("127.0.0.1:2526", "[192.0.2.1]:25", "write \"192.0.2.1:25\""),
        ("127.0.0.1:2526", "smtp:[scanner.test]:10025", "write \"scanner.test:10025\""),
        ("127.0.0.1:2526", "smtp:scanner.test", "write \"scanner.test:25\""),
        ("127.0.0.1:2526", "smtp://scanner.test:25/", "write \"scanner.test:25\""),
        ("127.0.0.1:2526", "123.45.67.89", "write \"123.45.67.89:25\""),
        ("127.0.0.1:2526", "scanner.test", "write \"scanner.test:25\""),
        ("127.0.0.1:2526", "scanner.test 25", "write \"scanner.test:25\""),
        ("127.0.0.1:2526", " scanner.test:25", "write \"scanner.test:25\""),
        ("127.0.0.1:2526", "scanner.test:smtp", "write \"scanner.test:25\""),
        ("127.0.0.1:2526", "scanner.test:99999", "a port is a number from 1 to 65535"),
        ("127.0.0.1:2526", "scanner.test:0", "a port is a number from 1 to 65535"),
        ("127.0.0.1:2526", "scanner_1.test:25", "a host name has no underscore"),
        ("127.0.0.1:2526", "::1", "write \"[::1]:25\""),
        ("127.0.0.1:2526", "2001:db8::1:2525", "write \"[2001:db8::1]:2525\""),
        ("127.0.0.1:2526", ":25", "the host is missing: \"HOST:25\""),
        ("127.0.0.1:2526", "25", "the host is missing: \"HOST:25\""),
        ("[\"127.0.0.1:2525\"]", "[127.0.0.1:2525]", "write listen = [\"127.0.0.1:2525\"]"),
        ("[\"127.0.0.1:2525\"]", "\"127.0.0.1:2525\"", "write [\"127.0.0.1:2525\"]"),
        ("[\"127.0.0.1:2525\"]", "[\"127.0.0.1:2525\"", ":2:10: the list has no end: write ] behind its last value"),
        ("[\"127.0.0.1:2525\"]", "[\"127.0.0.1:2525]", ":2:10: the text has no end: write \" behind it"),
        ("[\"127.0.0.1:2525\"]", "[\"127.0.0.1:2525\" \"127.0.0.1:2527\"]", "write a comma between the values"),
        ("[\"127.0.0.1:2525\"]", "[2525]", "smtp.listen: found the number 2525, expected a string in quotes"),
        ("127.0.0.1:2525", "localhost:2525", "write \"127.0.0.1:2525\""),
        ("127.0.0.1:2525", "2525", "write \"127.0.0.1:2525\""),
        ("127.0.0.1:2525", ":2525", "write \"127.0.0.1:2525\""),
        ("127.0.0.1:2525", "*:2525", "write \"0.0.0.0:2525\""),
        ("127.0.0.1:2525", "127.0.0.1", "write \"127.0.0.1:2525\""),
        ("127.0.0.1:2525", "::1:2525", "write \"[::1]:2525\""),
        ("127.0.0.1:2525", "inet:127.0.0.1:2525", "write \"127.0.0.1:2525\""),
        ("127.0.0.1:2525", "0.0.0.0:70000", "a port is a number from 1 to 65535"),
        ("127.0.0.1:2525", "hop.test:2525", "an address, no name"),
        ("127.0.0.1:2525", "127.0.0.1:2525 ", "write \"127.0.0.1:2525\""),
    ];
    let told = rows.iter().map(|(part, written, words)| {
        let text = SMTP.replacen(part, written, 1);
        (text.clone(), said(&text, None), *words)
    });
    one_mistake(&told.collect::<Vec<_>>());
}

/// Lines behind `[smtp]`.
#[test]
fn of_further_keys() {
    let rows: &[(&str, &str)] = &[
        ("trace = True", "found True; write trace = true"),
        ("trace = yes", "found yes; write trace = true"),
        ("trace = \"yes\"", "write true without quotes"),
        ("trace = \"false\"", "write false without quotes"),
        ("trace = 1", "found the number 1, expected true or false"),
        ("size_limit = 50", "found the number 50, expected a size with its unit, as in \"1MiB\"; write \"50MiB\""),
        ("size_limit = 1048576", "write \"1048576\""),
        ("size_limit = 50MiB", "found 50MiB; write size_limit = \"50MiB\""),
        ("size_limit = 50MB", "write size_limit = \"50MiB\""),
        ("size_limit = \"50MB\"", "write \"50MiB\""),
        ("size_limit = \"50 M\"", "write \"50MiB\""),
        ("size_limit = \"0\"", "expected a size with its unit"),
        ("accept_from = \"10.0.0.0/8\"", "write [\"10.0.0.0/8\"]"),
        ("accept_from = [\"10.0.0.0/33\"]", "behind the / stands a number from 0 to 32"),
        ("accept_from = [\"10.0.0.0-10.0.0.255\"]", "a range is written as networks"),
        ("accept_from = [\"10.*\"]", "write \"10.0.0.0/8\""),
        ("accept_from = [\"10.1.2\"]", "write \"10.1.2.0/24\""),
        ("accept_from = [\"localhost\"]", "write \"127.0.0.0/8\""),
        ("accept_from = [\"10.0.0.1/255.255.255.0\"]", "write \"10.0.0.1/24\""),
        ("accept_from = [\"[::1]\"]", "write \"::1\""),
        ("accept_from = [\"mx.test\"]", "names are not looked up: write the host's address"),
        ("mode = \"enforce\"", "`mode` belongs to no section: put it above the first one"),
        ("next_hop_tls = \"require\"", "did you mean \"required\"?"),
        ("next_hop_tls = true", "found true, expected \"off\" or \"opportunistic\""),
        ("token_file = \"tag.token\"", "`token_file` belongs to [tag]: put it there"),
        ("sizelimit = \"1MiB\"", "did you mean `size_limit`?"),
        ("[smtp.deadlines]\nconnect = 30", "found the number 30, expected a time with its unit, from \"100ms\" to \"24h\"; write \"30s\""),
        ("[smtp.deadlines]\nconnect = 30s", "found 30s; write connect = \"30s\""),
        ("[smtp.deadlines]\nconnect = \"30\"", "write \"30s\""),
        ("[smtp.deadlines]\nconnect = \"30 seconds\"", "write \"30s\""),
        ("[smtp.deadlines]\nconnect = \"5min\"", "write \"5m\""),
        ("[smtp.deadlines]\nconnect = \"48h\"", "from \"100ms\" to \"24h\""),
        ("[smtp.deadline]\nconnect = \"5m\"", "did you mean `deadlines`?"),
        ("[smtp.bounds]\nconnections = 0100", "found 0100; write connections = 100"),
        ("[smtp.bounds]\nconnections = 1,000", "found 1,000; write connections = 1000"),
        ("[smtp.bounds]\nconnections = \"100\"", "write 100 without quotes"),
        ("[smtp.bounds]\nconnections = -1", "found -1, expected a number from 1"),
        ("[audit]\nkeep = 400", "found the number 400, expected a time with its unit, from \"24h\" to \"36500d\"; write \"400d\""),
        ("[audit]\nkeep = \"400\"", "; write \"400d\""),
        ("[audit]\nkeep: 400", "`=` is missing: write keep = \"400d\""),
        ("[audit]\nkeep = 400 days", "found 400 days; write keep = \"400d\""),
        ("[audit]\nkeep = \"400 minutes\"", "expected a time with its unit, from \"24h\" to \"36500d\"\n"),
        ("[audit]\nkeep = forever", "found forever; to have none, take the line out"),
        ("[audit]\nkeep = \"never\"", "; to have none, take the line out"),
        ("[audit]\nkeep = = \"400d\"", "`=` stands there twice; write keep = \"400d\""),
        ("x = = 1", "`=` stands there twice; write x = 1"),
        ("trace = perhaps", "found perhaps, expected true or false\n"),
        ("size_limit = \"0MB\"", "expected a size with its unit, as in \"1MiB\"\n"),
        ("accept_from = 10.0.0.0/8", "write accept_from = [\"10.0.0.0/8\"]"),
        ("accept_from = 10.0.0.0/8, 192.0.2.1", "write accept_from = [\"10.0.0.0/8\", \"192.0.2.1\"]"),
        ("next_hop_tls = require", "write next_hop_tls = \"required\""),
        ("[smtp.bounds]\nconnections = \"9999999\"", "expected a number from 1 to 1000000\n"),
        ("[admin]\nlisten = \"9925\"", "write \"127.0.0.1:9925\""),
        ("[admin]\nlisten = \"127.0.0.1:2525\"", "127.0.0.1:2525 is taken by smtp.listen = 127.0.0.1:2525 already"),
        ("[milter]\nlisten = [\"/run/firstclick/milter.sock\"]", "write \"unix:/run/firstclick/milter.sock\""),
        ("[milter]\nlisten = [\"inet:8891@127.0.0.1\"]", "write \"inet:127.0.0.1:8891\""),
        ("[milter]\nlisten = [\"inet:[::1]:8891\"]", "write \"inet6:[::1]:8891\""),
        ("[milter]\nlisten = [\"127.0.0.1:8891\"]", "write \"inet:127.0.0.1:8891\""),
        ("[milter]\nlisten = [\"inet:0.0.0.0:2525\"]", "0.0.0.0:2525 is taken by smtp.listen = 127.0.0.1:2525 already"),
        ("[identity]\ndns = [\"127.0.0.1\"]", "write \"127.0.0.1:53\""),
        ("[identity]\nverify = \"heer\"", "did you mean \"here\"?"),
        ("[tags]\nheader = \"X-A\"", "did you mean `tag`?"),
    ];
    let told = rows.iter().map(|(lines, words)| {
        let text = format!("{SMTP}{lines}\n");
        (text.clone(), said(&text, None), *words)
    });
    one_mistake(&told.collect::<Vec<_>>());
    // A wrong type is not missing too.
    let three = said(&format!("{SMTP}[tag]\nheader = 5\ntoken_file = 5\nkey_file = 5\n"), None);
    assert!(three.ends_with("\n3 mistakes") && !three.contains("missing"), "{three}");
    // A section of the README that is pasted a second time is one mistake, however many keys it has.
    let twice = said(&format!("{SMTP}[admin]\nlisten = \"127.0.0.1:9925\"\n{SMTP}[admin]\nlisten = \"127.0.0.1:9925\"\n"), None);
    for words in [
        "7:2: smtp: the section is there twice; it stands in line 1",
        "11:2: admin: the section is there twice; it stands in line 5",
        "2 mistakes",
    ] {
        assert!(twice.contains(words), "{twice}");
    }
}

/// Lines above an entry, or a change in it.
#[test]
fn of_entries() {
    let above = |lines: &str| format!("{lines}\n{ENTRY}");
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(ENTRY.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let latin = [b"# one\n# Gr\xfc\xdfe\n".as_slice(), ENTRY.as_bytes()].concat();
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (above("expires = 31.01.2027").into(), "found 31.01.2027; write expires = 2027-01-31"),
        (above("expires = 2027/01/31").into(), "write expires = 2027-01-31"),
        (above("expires = 2027-1-5").into(), "write expires = 2027-01-05"),
        (above("expires = \"31.01.2027\"").into(), "write 2027-01-31"),
        (above("expires = \"1/31/2027\"").into(), "write 2027-01-31"),
        (above("expires = 2027-13-45").into(), "found 2027-13-45, which is no day of the calendar"),
        (above("expires = 2027-02-30").into(), "found 2027-02-30, which is no day of the calendar"),
        (above("expires = \"2027-02-30\"").into(), "found \"2027-02-30\", expected a date"),
        (above("expires = 2027").into(), "found the number 2027, expected a date, as in 2027-06-30"),
        (above("expires = \"never\"").into(), "found \"never\", expected a date, as in 2027-06-30; to have none, take the line out"),
        (above("expires = never").into(), ":1:11: found never; to have none, take the line out"),
        (above("expires = \"\"").into(), "to have none, take the line out"),
        (above("expires = false").into(), "found false, expected a date, as in 2027-06-30; to have none, take the line out"),
        (above("expires = = 2027-06-30").into(), "`=` stands there twice; write expires = 2027-06-30"),
        (above("expires: 31.01.2027").into(), "`=` is missing: write expires = 2027-01-31"),
        (above("other_links = www.vendor.test").into(), "write other_links = [\"www.vendor.test\"]"),
        (above("max_age = 24 hours").into(), "write max_age = \"24h\""),
        (above("limit = 20/h").into(), "write limit = \"20/hour\""),
        (above("lists = Yes").into(), "write lists = true"),
        ("sender = \"exampleinc\"\n".into(), "\"exampleinc\" is not in the catalogue; `firstclick senders` lists what there is"),
        ("sender = \"dropbx\"\n".into(), "did you mean \"dropbox\"?"),
        ("sender = [\"dropbox\"]\n".into(), "sender: found a list, expected a string in quotes"),
        (ENTRY.replace("password_reset", "password_resets").into(), "did you mean `password_reset`?"),
        (ENTRY.replace("password_reset", "reset").into(), "did you mean `password_reset`?"),
        (ENTRY.replace("[links]", "[link]").into(), "did you mean `links`?"),
        (
            ENTRY.replace("[\"login.vendor.test/reset/{token}\"]", "\"login.vendor.test/reset/{token}\"").into(),
            "write [\"login.vendor.test/reset/{token}\"]",
        ),
        (ENTRY.replace("[\"vendor.test\"]", "\"vendor.test\"").into(), "write [\"vendor.test\"]"),
        (ENTRY.replace("[\"vendor.test\"]", "3").into(), "from: found the number 3, expected a list of strings"),
        (ENTRY.replace("[\"vendor.test\"]", "vendor.test").into(), "write from = [\"vendor.test\"]"),
        (ENTRY.replace("\"tag\"", "3").into(), "action: found the number 3, expected \"tag\", \"guard\" or \"unwrap\""),
        (ENTRY.replace("\"tag\"", "[\"tag\", 3]").into(), "action: found the number 3, expected"),
        (ENTRY.replace("\"tag\"", "\"gaurd\"").into(), "did you mean \"guard\"?"),
        (format!("{ENTRY}owner = \"it@corp.example\"\n").into(), "5:1: links.owner: `owner` belongs to no section: put it above [links]"),
        (
            ENTRY.replace("action = \"tag\"\n", "").into_bytes().into_iter().chain(*b"action = \"tag\"\n").collect(),
            "`action` belongs to no section: put it above [links]",
        ),
        ("sender = \"zendesk\"\ntenant = [\"corp.zendesk.com\"]\n".into(), "which is a whole name; `{tenant}` is the part in"),
        ("sender = \"zendesk\"\ntenant = [\"corp.zendesk.com\"]\n".into(), "alone: write \"corp\""),
        ("sender = \"zendesk\"\ntenant = \"corp\"\n".into(), "write [\"corp\"]"),
        (
            "sender = \"zendesk\"\ntenant = [\"https://corp.zendesk.com/\"]\n".into(),
            "tenant: found \"https://corp.zendesk.com/\", expected your name at the service",
        ),
        (above("require = \"spf\"").into(), "require: found \"spf\", expected \"dmarc\", \"dkim\" or"),
        (above("require = \"DMARC\"").into(), "did you mean \"dmarc\"?"),
        (above("require = 3").into(), "require: found the number 3"),
        (above("require = { ip = [\"10.*\"] }").into(), "write \"10.0.0.0/8\""),
        (above("require = { ips = [\"10.0.0.0/8\"] }").into(), "did you mean `ip`?"),
        (above("max_age = 24").into(), "found the number 24, expected a time with its unit, as in \"24h\"; write \"24h\""),
        (above("max_age = \"24\"").into(), "write \"24h\""),
        (above("max_age = \"2 days\"").into(), "write \"2d\""),
        (above("limit = 20").into(), "write \"20/hour\""),
        (above("limit = \"20 per hour\"").into(), "write \"20/hour\""),
        (above("limit = \"none\"").into(), "expected \"unlimited\""),
        (above("attachments = \"yes\"").into(), "attachments: found \"yes\", expected true or false"),
        (above("several-readers = true").into(), "did you mean `several_readers`?"),
        (above("recipient = [\"*@corp.example\"]").into(), "did you mean `recipients`?"),
        (utf16, "it is UTF-16"),
        (latin, "line 2 is not UTF-8 (octet 0xfc); save it as UTF-8"),
        (ENTRY.replace('\n', "\r").into(), "its lines end with a carriage return alone"),
    ];
    let config = format!("allow = \"allow.d\"\n{SMTP}");
    let told: Vec<_> = rows.iter().map(|(entry, words)| (entry.escape_ascii().to_string(), said(&config, Some(entry)), *words)).collect();
    one_mistake(&told);
    // An end that no calendar has a day after is no mistake, and neither are the marks of other systems.
    for entry in [above("expires = 9999-12-31"), format!("\u{feff}{ENTRY}"), ENTRY.replace('\n', "\r\n")] {
        assert_eq!(said(&config, Some(entry.as_bytes())), "0 mistakes", "{entry}");
    }
}
