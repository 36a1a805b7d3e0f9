//! `setup`: every scanner has a recipe that says what it needs, what is done, how that is seen and taken back; whatever the
//! configuration holds stands in it as a value, and as nothing else.

mod hostile;

use std::{fs, net::IpAddr, path::PathBuf};

use firstclick::{
    settings::{Problems, Settings},
    setup::{Facts, Recipe, Secrets, Shown, find, render, table, template},
};

use crate::hop::{dkim, process::Folder};

/// Tokens as `keygen` writes them: the current one, an older one, and one that is staged.
pub(crate) const CURRENT: &str = "fcaaaabbbbccccddddeeeeffffgggghhhh22";
pub(crate) const OLDER: &str = "fcaaaabbbbccccddddeeeeffffgggghhhh33";
pub(crate) const STAGED: &str = "fcaaaabbbbccccddddeeeeffffgggghhhh44";

const ENTRY: &str = "from = [\"no-reply@vendor.example\"]\nowner = \"it-security@corp.example\"\nreason = \"CHG-1\"\n\
                     expires = 2027-06-30\naction = \"tag\"\n[links]\npassword_reset = [\"login.vendor.example/reset/{token}\"]\n";

/// A configuration with no more than the tag.
pub(crate) fn small() -> Folder {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    fs::write(folder.path("tag.token"), format!("{CURRENT}\n")).unwrap();
    folder
}

/// A configuration with everything that a recipe can need, in the middle of a rotation.
pub(crate) fn rich() -> Folder {
    let folder = small();
    fs::write(folder.path("tag.token"), format!("{CURRENT}\n{OLDER}\nnext {STAGED}\n")).unwrap();
    fs::write(folder.path("arc.pem"), dkim::Key::make().pem()).unwrap();
    fs::write(folder.path("guard.key"), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), format!("name = \"vendor\"\n{ENTRY}")).unwrap();
    fs::write(
        folder.path("allow.d/oneill.toml"),
        format!(
            "name = \"oneill\"\n{}",
            ENTRY.replace("it-security", "o'neill").replace("vendor", "oneill").replace("2027-06-30", "2028-01-31")
        ),
    )
    .unwrap();
    folder.configure(
        "next_hop = \"127.0.0.1:1\"",
        "[guard]\nurl = \"https://links.corp.example\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\n\
         [arc]\ndomain = \"corp.example\"\nselector = \"arc1\"\nkey_file = \"arc.pem\"\n",
    );
    folder
}

fn facts(folder: &Folder, hops: &[&str], secrets: Secrets) -> Facts {
    let settings = Settings::load(&folder.path("firstclick.toml")).unwrap();
    assert_eq!(settings.left_out, [], "every entry counts");
    let hops: Vec<IpAddr> = hops.iter().map(|hop| hop.parse().unwrap()).collect();
    Facts::of(&settings, &hops, secrets, "2026-11-26T00:00:00Z".parse().unwrap())
}

fn recipe(name: &str, facts: &Facts) -> Recipe {
    Recipe::new(&find(name).unwrap(), facts, Shown::Recipe)
}

#[test]
fn every_template_reads_and_has_what_a_recipe_needs() {
    let mut problems = Problems::default();
    let templates = template::all(&mut problems);
    let guard = template::guard(&mut problems);
    assert_eq!(problems, Problems::default(), "{problems}");
    let mut words: Vec<&str> = Vec::new();
    for template in templates.iter().chain(&guard) {
        let has = |part| template.steps.iter().any(|step| step.part == part);
        let name = &template.name;
        if matches!(template.telling(), template::Telling::Header | template::Telling::Needless) || name == "guard" {
            assert!([template::Part::Do, template::Part::Verify, template::Part::Undo].into_iter().all(has), "{name}");
        } else {
            assert!(!has(template::Part::Do), "{name}: it cannot be told by our header, and has steps for that");
        }
        assert_eq!((template.told.len(), template.does.len()), (3, 5), "{name}");
        words.push(name);
        words.extend(template.aliases.iter().map(String::as_str));
    }
    let (before, lower) =
        (words.len(), words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')));
    words.sort_unstable();
    words.dedup();
    assert!(words.len() == before && lower, "each word is one scanner's, and can be typed: {words:?}");
}

#[test]
fn a_template_with_a_mistake_is_refused_with_its_place() {
    let good = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/scanners/rspamd.toml")).unwrap();
    for (from, to, says) in [
        ("{{header}} =", "{{heeder}} =", "no blank"),
        ("ip = {{hops}}", "ip = \"{{hops}}\"", "quotes"),
        ("part = \"undo\"", "part = \"undoo\"", "did you mean \"undo\""),
        ("sure = \"documented\"", "sure = \"sure\"", "expected \"documented\""),
        ("checked = 2026", "checkd = 2026", "did you mean `checked`"),
        ("sources = [", "source = [", "did you mean `sources`"),
    ] {
        let mut problems = Problems::default();
        let _ = template::read("rspamd", &good.replacen(from, to, 1), &mut problems);
        assert!(problems.to_string().contains(says) && problems.to_string().contains("scanners/rspamd.toml"), "{to}: {problems}");
    }
}

/// `UPDATE=1 cargo suite --test suite setup::recipes` writes tests/recipes anew.
#[test]
fn recipes_are_as_they_were() {
    let (small, rich) = (small(), rich());
    let one = facts(&small, &["192.0.2.25"], Secrets::Shown);
    let many = facts(&rich, &["192.0.2.25", "192.0.2.26"], Secrets::Shown);
    let ticket = facts(&rich, &["192.0.2.25"], Secrets::Named);
    let mut wanted: Vec<(String, String)> = Vec::new();
    for template in template::all(&mut Problems::default()) {
        wanted.push((format!("small/{}.txt", template.name), render::text(&recipe(&template.name, &one))));
        wanted.push((format!("rich/{}.txt", template.name), render::text(&recipe(&template.name, &many))));
    }
    wanted.push(("rich/defender.md".into(), render::markdown(&recipe("defender", &ticket))));
    wanted.push(("rich/defender.html".into(), render::html(&recipe("defender", &ticket))));
    wanted.push(("rich/defender-paper.md".into(), render::markdown(&Recipe::new(&find("defender").unwrap(), &ticket, Shown::Paper))));
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recipes");
    let mut wrong = Vec::new();
    for (name, text) in &wanted {
        let path = root.join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        if there != *text {
            let differing = text.lines().zip(there.lines()).find(|(now, then)| now != then);
            wrong.push(format!("tests/recipes/{name} (UPDATE=1 writes it): {differing:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let files = ["small", "rich"].iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap()).count();
    assert_eq!(files, wanted.len(), "a file of tests/recipes belongs to no scanner");
}

/// `UPDATE=1 cargo suite --test suite setup::the_page` writes docs/scanners.md.
#[test]
fn the_page_of_scanners_says_what_their_files_say() {
    let text = table::markdown(&template::all(&mut Problems::default()));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/scanners.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let differing = text.lines().zip(there.lines()).find(|(wanted, found)| wanted != found);
    assert!(there == text, "docs/scanners.md is not what config/scanners says (UPDATE=1 writes it): {differing:?}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| [")).collect();
    assert!(rows.iter().all(|row| row.replace("\\|", "").matches('|').count() == 10), "{rows:?}");
}

/// Every scanner that was looked at has a file, and so is found, listed and compared.
#[test]
fn no_scanner_is_forgotten() {
    for word in [
        "defender",
        "outlook",
        "mimecast",
        "proofpoint",
        "proofpoint-essentials",
        "barracuda",
        "cisco",
        "trend-micro",
        "trend-ddei",
        "fortimail",
        "sophos",
        "check-point",
        "hornetsecurity",
        "symantec",
        "symantec-gateway",
        "trellix",
        "mcafee",
        "cloudflare",
        "censornet",
        "rspamd",
        "spamassassin",
        "amavis",
        "mailscanner",
        "proxmox",
        "zscaler",
        "abnormal",
        "ironscales",
        "darktrace",
        "avanan",
        "fireeye",
        "broadcom",
    ] {
        assert!(find(word).is_ok(), "{word}");
    }
}

/// Where a scanner cannot be told by our header there is no recipe that pretends so; guard is what is printed.
#[test]
fn who_cannot_be_told_is_answered_with_guard() {
    let folder = rich();
    let facts = facts(&folder, &["192.0.2.25"], Secrets::Shown);
    for template in template::all(&mut Problems::default()) {
        let (recipe, text) = (recipe(&template.name, &facts), render::text(&recipe(&template.name, &facts)));
        let has = |part: &str| recipe.chapters.iter().any(|chapter| chapter.part == part);
        let is_told = matches!(template.telling(), template::Telling::Header | template::Telling::Needless);
        assert_eq!((has("do"), has("guard"), recipe.is_whole()), (is_told, !is_told, true), "{}: {:?}", template.name, recipe.missing);
        assert!(is_told || text.contains("https://links.corp.example"), "{text}");
        assert!(template.telling() != template::Telling::Address || text.contains("not built yet"), "{text}");
        assert!(text.contains("checked = 2026-"), "{text}");
    }
}

/// Nothing is guessed: what is missing is named by its key, and no command has a hole in it.
#[test]
fn what_is_missing_is_said_with_the_keys_name() {
    let folder = small();
    let cases: &[(&str, &[&str], &str)] = &[
        ("defender", &[], "`--hop IP`"),
        ("defender", &["2001:db8::1"], "IPv4 addresses only"),
        ("defender", &["10.0.0.5"], "no public address"),
        ("rspamd", &[], "`--hop IP`"),
        ("mimecast", &[], "`guard.url`"),
    ];
    for (scanner, hops, says) in cases {
        let recipe = recipe(scanner, &facts(&folder, hops, Secrets::Shown));
        assert!(recipe.missing.iter().any(|missing| missing.contains(says)), "{scanner} {hops:?}: {:?}", recipe.missing);
        let text = render::text(&recipe);
        assert!(!text.contains("New-TransportRule -Name") && !text.contains("priority = high"), "{text}");
    }
    let mixed = recipe("defender", &facts(&folder, &["2001:db8::1", "192.0.2.25"], Secrets::Shown));
    let text = render::text(&mixed);
    assert!(mixed.is_whole() && text.contains("2001:db8::1 is left out") && text.contains("-SenderIpRanges '192.0.2.25' `"), "{text}");
    assert!(text.contains("arc.domain is not in the configuration"), "{text}");
    // A token that Exchange takes for several words is in no rule of Exchange's.
    fs::write(folder.path("tag.token"), "fc-uOGQ4bkD-0123456789abcdefABCDEFGHI\n").unwrap();
    let refused = recipe("defender", &facts(&folder, &["192.0.2.25"], Secrets::Shown));
    assert!(refused.missing.iter().any(|missing| missing.contains("one word") && missing.contains("--stage")), "{:?}", refused.missing);
    assert!(recipe("rspamd", &facts(&folder, &["192.0.2.25"], Secrets::Shown)).is_whole());
    // While it is being rotated away, the rule learns the new one.
    fs::write(folder.path("tag.token"), format!("fc-uOGQ4bkD-0123456789abcdefABCDEFGHI\nnext {STAGED}\n")).unwrap();
    let text = render::text(&recipe("defender", &facts(&folder, &["192.0.2.25"], Secrets::Shown)));
    assert!(text.contains(&format!(", '{STAGED}'")) && text.contains("1 of the tokens may never match"), "{text}");
    // What takes one value is not given two.
    let cisco = recipe("cisco", &facts(&folder, &["192.0.2.25", "192.0.2.26"], Secrets::Shown));
    assert!(cisco.missing.iter().any(|missing| missing.contains("one `--hop` for each")), "{:?}", cisco.missing);
    // And without a tag there is nothing that a rule could look for.
    let bare = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let text = fs::read_to_string(bare.path("firstclick.toml")).unwrap();
    let without: String = text.lines().filter(|line| !line.contains("tag")).map(|line| format!("{line}\n")).collect();
    fs::write(bare.path("firstclick.toml"), without.replace("enforce", "observe")).unwrap();
    let (said, complained, code) = bare.command(&["setup", "rspamd", "--hop", "192.0.2.25"]);
    assert_eq!(code, Some(1), "{said}{complained}");
    assert!(complained.contains("missing: `[tag]` is not in the configuration"), "{complained}");
}

/// What can be nobody's address is refused, and what a scanner cannot know the hop by is said.
#[test]
fn an_address_that_can_be_no_hops() {
    let folder = small();
    let run = |scanner: &str, hop: &str| folder.command(&["setup", scanner, "--hop", hop]);
    for hop in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.9.9.9", "240.0.0.1", "255.255.255.255", "169.254.1.1", "::", "ff02::1", "fe80::1"] {
        for hop in [hop.to_owned(), hop.parse().map_or(hop.to_owned(), |hop: std::net::Ipv4Addr| hop.to_ipv6_mapped().to_string())] {
            let (said, complained, code) = run("rspamd", &hop);
            assert!(code == Some(2) && said.is_empty() && complained.contains(": no hop has this address: "), "{hop}: {complained}");
        }
    }
    let (said, _, code) = run("defender", "::ffff:8.8.4.4");
    assert!(code == Some(0) && said.contains("-SenderIpRanges '8.8.4.4' `"), "{said}");
    for hop in ["192.0.2.25", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff:fff::1"] {
        let (said, _, code) = run("rspamd", hop);
        assert!(code == Some(0) && said.contains("is an example of documents"), "{hop}: {said}");
    }
    for hop in ["8.8.4.4", "2001:db9::1", "3fff:1000::1", "198.51.101.1", "223.255.255.255", "100.128.0.1", "169.253.0.1"] {
        let (said, complained, code) = run("rspamd", hop);
        assert!(code == Some(0) && !said.contains("Note: "), "{hop}: {said}{complained}");
    }
    // A cloud sees no private address; what stands beside the hop does.
    for hop in ["10.0.0.5", "172.31.255.1", "192.168.1.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "fd00::1", "::1"] {
        let (_, complained, code) = run("defender", hop);
        assert!(code == Some(1) && complained.contains("is no public address"), "{hop}: {complained}");
        let (said, _, code) = run("rspamd", hop);
        assert!(code == Some(0) && !said.contains("public"), "{hop}: {said}");
    }
}

#[test]
fn scanners_are_found_by_the_words_that_people_type_and_listed() {
    for (word, name) in [("safelinks", "defender"), ("Safe Links", "defender"), ("Microsoft", "defender"), ("spamd", "spamassassin")] {
        assert_eq!(find(word).unwrap().name, name);
    }
    assert!(find("defendr").unwrap_err().contains("did you mean \"defender\"?"));
    let folder = small();
    let (said, _, code) = folder.command(&["setup"]);
    assert_eq!(code, Some(0));
    for template in template::all(&mut Problems::default()) {
        assert!(
            said.lines().any(|line| line.starts_with(&format!("{} ", template.name)) && line.contains(template.telling().says())),
            "{said}"
        );
    }
}

/// No recipe says more than is known, and what is pasted as a whole does one thing.
#[test]
fn recipes_claim_and_undo_no_more_than_they_say() {
    for (name, telling) in [
        ("mimecast", template::Telling::Address),
        // What their pages say of addresses is about spam scoring, or senders.
        ("barracuda", template::Telling::Urls),
        ("symantec", template::Telling::Urls),
        ("sophos", template::Telling::Urls),
        ("trellix", template::Telling::Nothing),
    ] {
        assert_eq!(find(name).unwrap().telling(), telling, "{name}");
    }
    assert!(find("inky").unwrap_err().contains("docs/guard.md"), "a scanner that nobody described is answered, too");
    let facts = facts(&rich(), &["192.0.2.25"], Secrets::Shown);
    let steps = recipe("defender", &facts).chapters.into_iter().flat_map(|chapter| chapter.steps);
    let blocks: Vec<String> = steps.filter_map(|step| Some(step.code?.text)).collect();
    let has = |text: &String, word: &str| text.contains(word);
    assert!(blocks.iter().any(|text| has(text, "Remove-TransportRule")), "{blocks:?}");
    assert!(!blocks.iter().any(|text| has(text, "Disable-TransportRule") && has(text, "Remove-TransportRule")), "{blocks:?}");
    // The mail filter of Proxmox comes after SpamAssassin, whose plugins open links.
    let proxmox = render::text(&recipe("proxmox", &facts));
    assert!(proxmox.contains("/etc/mail/spamassassin/custom.cf") && proxmox.contains("shortcircuit FIRSTCLICK_TAG on"), "{proxmox}");
    let guard = render::text(&recipe("mimecast", &facts));
    assert!(["[guard]", "[arc]", "chgrp firstclick", "_domainkey"].iter().all(|word| guard.contains(word)), "{guard}");
}

/// What is for a ticket has no token in it; what is for the terminal, and for programs, has them.
#[test]
fn a_ticket_has_no_token() {
    let folder = rich();
    for (format, shown) in [("text", true), ("json", true), ("md", false), ("html", false)] {
        for more in [&[][..], &["--paper"]] {
            let (said, _, code) = folder.command(&[&["setup", "defender", "--hop", "192.0.2.25", "--format", format], more].concat());
            assert_eq!(code, Some(0), "{format}");
            assert!(said.contains("-HeaderContainsWords") == more.is_empty(), "{format}: {said}");
            for token in [CURRENT, OLDER, STAGED] {
                assert!(said.contains(token) == (shown && more.is_empty()), "{format} {more:?}: {said}");
            }
        }
    }
    let (_, complained, code) = folder.command(&["setup", "rspamd", "--paper"]);
    assert_eq!(code, Some(2), "{complained}");
}
