//! What an admin tries before it is in force: `explain` of mails as they were saved, `ask` without a mail, and `draft` of an entry.

use std::{fs, path::Path, process::Command};

use firstclick::testbed::{Signer, Zone};
use serde_json::Value;

use crate::hop::{VENDOR, corpus, process::Folder};

const TOKEN: &str = "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";

fn folder() -> Folder {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    folder
}

/// A mail of the vendor's with a footer of these links.
fn mail(links: &[&str]) -> String {
    let footer: String = links.iter().map(|link| format!("<a href=\"{link}\">more</a>\r\n")).collect();
    format!(
        "From: Vendor <a@vendor.test>\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <1@vendor.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<p>Reset your password:</p>\r\n\
         <a href=\"https://login.vendor.test/reset/{TOKEN}\">Choose a new password</a>\r\n{footer}"
    )
}

/// `explain` of these inputs: what it said, what it complained about, its exit code.
fn explain(folder: &Folder, options: &[&str], inputs: &[&str]) -> (String, String, Option<i32>) {
    let inputs: Vec<String> = inputs.iter().map(|name| folder.path(name).to_str().unwrap().to_owned()).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    folder.command(&[&["explain", "--rcpt", "bob@corp.example"], options, &inputs].concat())
}

fn view(folder: &Folder, options: &[&str], input: &str) -> Value {
    let (said, complained, code) = explain(folder, &[&["--json"], options].concat(), &[input]);
    assert_eq!(code, Some(0), "{said}{complained}");
    serde_json::from_str(said.lines().next().unwrap()).unwrap()
}

/// What `explain` offers to paste.
fn pasted(said: &str) -> String {
    let lines = said.lines().skip_while(|line| !line.starts_with("  to paste")).skip(1);
    lines.take_while(|line| line.starts_with("    ")).map(|line| format!("{}\n", line.trim_start())).collect()
}

/// One mail with a footer, one edit: what is pasted makes the mail act, and `check` finds nothing dangerous in it.
#[test]
fn all_that_is_missing_is_told_at_once_and_pasting_it_is_enough() {
    let folder = folder();
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR.replace("other_links = [\"www.vendor.test\"]\n", "")).unwrap();
    let preferences = format!("https://www.vendor.test/preferences?u={TOKEN}");
    let links = [
        "https://www.vendor.test/",
        "https://twitter.com/vendor",
        "https://www.linkedin.com/company/vendor",
        "https://help.vendor.test/articles/12345?utm_source=mail",
        &preferences,
        "https://www.vendor.test/go?to=https%3A%2F%2Fhelp.vendor.test%2Farticles%2F7",
    ];
    fs::write(folder.path("m.eml"), mail(&links)).unwrap();
    let (said, _, _) = explain(&folder, &["--as-proven"], &["m.eml"]);
    assert!(said.lines().next().unwrap().contains(": near_miss, if the sender had proven itself"), "{said}");
    let paste = pasted(&said);
    let entry = VENDOR.replace("other_links = [\"www.vendor.test\"]\n", "").replace("[links]\n", "");
    let (keys, shapes) = paste.split_once("[links]\n").unwrap_or_else(|| panic!("{said}"));
    let (before, own) = entry.split_once("password_reset").unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), format!("{before}{keys}[links]\npassword_reset{own}{shapes}")).unwrap();
    let (said, complained, code) = folder.command(&["check"]);
    assert_eq!((code, said.contains("danger:")), (Some(0), false), "{said}{complained}");
    let (said, _, _) = explain(&folder, &["--as-proven"], &["m.eml"]);
    assert!(said.lines().next().unwrap().contains(": act, if the sender had proven itself"), "{said}");
}

/// What `check` calls dangerous is never advised, wherever it stands; what else can be done is said instead.
#[test]
fn nothing_dangerous_is_advised() {
    let folder = folder();
    let counters = format!("https://u1234567.ct.sendgrid.net/ls/click?upn={TOKEN}");
    let signed_in = format!("https://tinyurl.com/{}", &TOKEN[..9]);
    let dangerous = [
        "https://u1234567.ct.sendgrid.net/ls/click",
        "https://bit.ly/help",
        "https://docs.google.com/",
        "https://sites.google.com/view/help",
        "https://www.google.com/url/help",
        "https://github.io/",
        "https://vendor.github.io/help",
        "https://192.0.2.1/help",
        &counters,
        &signed_in,
    ];
    for link in dangerous {
        fs::write(folder.path("m.eml"), mail(&[link])).unwrap();
        let view = view(&folder, &["--as-proven"], "m.eml");
        let missing = &view["missing"];
        let lists =
            |key: &str| missing[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let shapes = missing["links"].as_object().unwrap().values().flat_map(|list| list.as_array().unwrap()).filter_map(Value::as_str);
        let shapes: Vec<String> = shapes.map(str::to_owned).collect();
        assert!(!lists("unlistable").is_empty() || !lists("other_links").is_empty() || !shapes.is_empty(), "{link}: {view}");
        // Whatever is advised, `check` must not call it dangerous.
        let quoted = |list: &[String]| list.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
        let entry = VENDOR.replace("other_links = [\"www.vendor.test\"]", &format!("other_links = [{}]", quoted(&lists("other_links"))))
            + &(if shapes.is_empty() { String::new() } else { format!("action = [{}]\n", quoted(&shapes)) });
        fs::write(folder.path("allow.d/vendor.toml"), entry).unwrap();
        let (said, complained, code) = folder.command(&["check"]);
        assert_eq!((code, said.contains("danger:")), (Some(0), false), "{link}: {said}{complained}");
        fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    }
    fs::write(folder.path("m.eml"), mail(&["https://u1234567.ct.sendgrid.net/ls/click"])).unwrap();
    let (said, _, _) = explain(&folder, &["--as-proven"], &["m.eml"]);
    assert!(said.contains("not to list") && said.contains("Ask the sender") && !said.contains("ls/click\" lists it"), "{said}");
}

/// A mail that was saved is judged as if it came then, and an assumption is said wherever its result is.
#[test]
fn a_saved_mail_is_judged_as_of_its_time_and_as_proven() {
    let folder = folder();
    fs::write(folder.path("allow.d/vendor.toml"), format!("expires = 2026-01-31\n{VENDOR}")).unwrap();
    fs::write(folder.path("m.eml"), mail(&[])).unwrap();
    let then = view(&folder, &["--as-proven", "--at", "2026-01-15 10:00"], "m.eml");
    assert_eq!((&then["decision"], &then["assumed_proven"], &then["identity"]["source"]), (&"act".into(), &true.into(), &"assumed".into()));
    let later = view(&folder, &["--as-proven", "--at", "2026-02-15"], "m.eml");
    assert!(later["decision"] != "act" && later.to_string().contains("expired"), "{later}");
    // Without the assumption nothing of it is proven, and nothing says otherwise.
    let seen = view(&folder, &["--at", "2026-01-15 10:00", "--client-ip", "127.0.0.1"], "m.eml");
    assert_eq!((&seen["decision"], &seen["assumed_proven"]), (&"pass".into(), &false.into()));
    let (_, complained, code) = explain(&folder, &["--at", "someday"], &["m.eml"]);
    assert_eq!((code, complained.contains("2h ago")), (Some(2), true), "{complained}");
    // Behind the scanner the links hide the originals.
    let wrapped = mail(&[]).replace(
        &format!("https://login.vendor.test/reset/{TOKEN}"),
        &format!("https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Flogin.vendor.test%2Freset%2F{TOKEN}&amp;data=05&amp;reserved=0"),
    );
    fs::write(folder.path("wrapped.eml"), wrapped).unwrap();
    assert_eq!(view(&folder, &["--as-proven", "--at", "2026-01-15 10:00"], "wrapped.eml")["decision"], "act");
}

/// Signatures count by the time that is asked about, and a failure is called by its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_forgery_and_a_changed_body_are_called_so() {
    let zone = Zone::serve().await.unwrap();
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    let folder = folder();
    folder.configure("next_hop = \"127.0.0.1:1\"", &format!("[identity]\ndns = [\"{}\"]", zone.address()));
    let signed = signer.sign(&mail(&[])).unwrap();
    fs::write(folder.path("signed.eml"), &signed).unwrap();
    fs::write(folder.path("changed.eml"), signed.replace("Choose a new password", "Choose another one")).unwrap();
    fs::write(folder.path("forged.eml"), mail(&[])).unwrap();
    let options = ["--client-ip", "192.0.2.77", "--mail-from", "a@vendor.test"];
    let of = |name: &str, more: &[&str]| view(&folder, &[&options[..], more].concat(), name);
    assert_eq!(of("signed.eml", &[])["decision"], "act");
    assert_ne!(of("signed.eml", &["--at", "2031-01-01"])["decision"], "act", "a signature of years ago");
    let forged = of("forged.eml", &[]);
    assert_eq!((&forged["identity"]["dmarc"], &forged["identity"]["spf"]), (&"fail".into(), &"fail".into()), "{forged}");
    let changed = of("changed.eml", &[]).to_string();
    assert!(changed.contains("the body hash does not verify"), "{changed}");
}

/// Mails are read as they lie: one by one, with a sum, and what is no mail is said.
#[test]
fn mails_are_read_where_they_lie() {
    let folder = folder();
    let one = mail(&[]).replace("\r\n", "\n");
    let other = mail(&["https://twitter.com/vendor"]).replace("\r\n", "\n");
    let separator = "From a@vendor.test Tue Nov 24 10:00:00 2026\n";
    fs::write(folder.path("archive.mbox"), format!("{separator}{one}\n>From here on\n\n{separator}{other}\n")).unwrap();
    for place in ["maildir/cur", "maildir/new", "maildir/tmp", "folder/inside"] {
        fs::create_dir_all(folder.path(place)).unwrap();
    }
    fs::write(folder.path("maildir/cur/1764000000.M1P1.host:2,S"), &one).unwrap();
    fs::write(folder.path("maildir/new/1764000001.M1P1.host"), &other).unwrap();
    fs::write(folder.path("maildir/tmp/1764000002.M1P1.host"), &one).unwrap();
    fs::write(folder.path("folder/inside/a.eml"), &one).unwrap();
    fs::write(folder.path("folder/notes.txt"), "call the vendor\n").unwrap();
    for (input, sum) in [
        ("archive.mbox", "2 mails: 1 act, 1 near_miss"),
        ("maildir", "2 mails: 1 act, 1 near_miss"),
        ("folder", "2 mails: 1 act, 1 no_mail"),
    ] {
        let (said, complained, code) = explain(&folder, &["--as-proven"], &[input]);
        assert_eq!((said.lines().last(), code), (Some(sum), Some(0)), "{said}{complained}");
    }
    let (said, complained, code) = explain(&folder, &["--as-proven"], &["folder/notes.txt", "folder/inside/a.eml"]);
    assert!(said.contains("no mail: it has no field") && said.contains("act") && complained.contains("notes.txt"), "{said}{complained}");
    assert_eq!(code, Some(2));
    let (said, _, code) = explain(&folder, &["--as-proven", "--out", folder.path("left.eml").to_str().unwrap()], &["archive.mbox"]);
    assert_eq!(code, Some(2), "--out takes one mail: {said}");
}

/// A one-time link is shown without its secret, and so are the edits, unless they are asked for.
#[test]
fn secrets_are_shown_only_where_they_are_asked_for() {
    let folder = folder();
    fs::write(folder.path("m.eml"), format!("X-Firstclick: {}\r\n{}", crate::hop::TOKEN, mail(&[]))).unwrap();
    for form in [&["--as-proven"][..], &["--as-proven", "--json"], &["--as-proven", "--diff"]] {
        let (said, complained, _) = explain(&folder, form, &["m.eml"]);
        assert!(said.contains(": act") || said.contains("\"act\""), "{said}{complained}");
        assert!(!said.contains(TOKEN) && !said.contains(crate::hop::TOKEN), "{form:?}: {said}");
        assert!(said.contains("login.vendor.test/reset/{40}"), "{said}");
    }
    let (said, _, _) = explain(&folder, &["--as-proven", "--diff", "--show-links"], &["m.eml"]);
    assert!(said.contains(TOKEN) && said.contains(&format!("+ X-Firstclick: {}", crate::hop::TOKEN)), "{said}");
}

/// `ask` says what the list makes of a sender and a link.
#[test]
fn ask_tells_without_a_mail() {
    let folder = folder();
    let link = format!("https://login.vendor.test/reset/{TOKEN}");
    let moved = format!("https://login.vendor.test/v2/reset/{TOKEN}");
    for (from, link, to, code, says) in [
        ("a@vendor.test", link.as_str(), None, 0, "yes: \"vendor\" exempts"),
        ("a@vendor.test", &link, Some("bob@corp.example"), 0, "password_reset, by the shape"),
        ("a@vendor.test", &link, Some("bob@elsewhere.example"), 1, "recipients"),
        ("a@vendor.test", &moved, None, 1, "login.vendor.test/v2/reset/{token}"),
        ("a@vendor.test", "https://www.vendor.test/help", None, 1, "no link fits"),
        ("a@attack.test", &link, None, 1, "no entry names a@attack.test"),
    ] {
        let mut arguments = vec!["ask", "--from", from, "--link", link];
        arguments.extend(to.into_iter().flat_map(|to| ["--to", to]));
        let (said, complained, exit) = folder.command(&arguments);
        assert_eq!((exit, said.contains(says)), (Some(code), true), "{arguments:?}: {said}{complained}");
        assert!(!said.contains(TOKEN), "{said}");
        let (said, _, exit) = folder.command(&[&arguments[..], &["--json"]].concat());
        let told: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((exit, &told["exempt_if_proven"]), (Some(code), &(code == 0).into()), "{said}");
    }
    for (from, link) in [("nobody", link.as_str()), ("a@vendor.test", "login"), ("a@vendor.test", "javascript:x")] {
        assert_eq!(folder.command(&["ask", "--from", from, "--link", link]).2, Some(2), "{from} {link}");
    }
}

/// What became of a draft: whether it acts on the mail that it was drafted from.
fn drafted(mail: &Path) -> Result<String, String> {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let (draft, complained, code) = folder.command(&["draft", mail.to_str().unwrap()]);
    if code != Some(0) {
        return Err(format!("{draft}{complained}"));
    }
    let filled = draft.replace("#owner", "owner").replace("#reason", "reason").replace("#accept_draft", "accept_draft");
    fs::write(folder.path("allow.d/drafted.toml"), &filled).unwrap();
    let sample = draft.split("mail = ").nth(1).unwrap().lines().next().unwrap().trim_matches('"').to_owned();
    fs::create_dir(folder.path("allow.d/samples")).unwrap();
    fs::copy(mail, folder.path("allow.d").join(sample)).unwrap();
    let (said, complained, code) = folder.command(&["check"]);
    assert_eq!((code, said.contains("danger:")), (Some(0), false), "{draft}{said}{complained}");
    let (said, complained, _) = folder.command(&["explain", "--as-proven", mail.to_str().unwrap()]);
    assert!(said.lines().next().unwrap().contains(": act"), "{draft}{said}{complained}");
    Ok(draft)
}

#[test]
fn a_draft_passes_check_and_acts_on_its_mail() {
    let folder = folder();
    let path = folder.path("m.eml");
    let token = format!("https://www.vendor.test/unsubscribe?u={TOKEN}");
    fs::write(&path, mail(&["https://www.vendor.test/help", "https://twitter.com/vendor", &token])).unwrap();
    let draft = drafted(&path).unwrap();
    for line in ["from = [\"a@vendor.test\"]", "password_reset = [\"login.vendor.test/reset/{token}\"]", "\"twitter.com/vendor\""] {
        assert!(draft.contains(line), "{draft}");
    }
    // The catalogue knows this one.
    let github = mail(&[])
        .replace("a@vendor.test", "noreply@github.com")
        .replace(&format!("https://login.vendor.test/reset/{TOKEN}"), &format!("https://github.com/password_reset/{TOKEN}"));
    fs::write(&path, github).unwrap();
    assert!(drafted(&path).unwrap().contains("sender = \"github\""));
    // A name at a service that the mail does not show is not made up: a stranger may have it.
    let salesforce = |link: &str| {
        let text = mail(&[]).replace("a@vendor.test", "noreply@salesforce.com");
        fs::write(&path, text.replace(&format!("https://login.vendor.test/reset/{TOKEN}"), link)).unwrap();
        let (draft, complained, code) = folder.command(&["draft", path.to_str().unwrap()]);
        (format!("{draft}{complained}"), code)
    };
    let query = "secur/forgotpassword.jsp?r=x7Kq2mZt9LbVw4RnQ8sDxa3K&display=page&fpot=p9Kq2mZt9LbVw4RnQ8sDxa3K";
    let (draft, code) = salesforce(&format!("https://login.salesforce.com/{query}"));
    assert!(code == Some(1) && draft.contains("\n#tenant = [") && !draft.contains("\ntenant") && !draft.contains("[[test]]"), "{draft}");
    let (draft, _) = salesforce(&format!("https://acme-hr.my.salesforce.com/{query}"));
    assert!(draft.contains("\ntenant = [\"acme-hr\"]"), "{draft}");
    // Mails of which none can be let in.
    fs::write(&path, mail(&[]).replace("a@vendor.test", "someone@gmail.com")).unwrap();
    assert!(drafted(&path).unwrap_err().contains("everybody can have an address there"));
    let counters = mail(&[&format!("https://u1234567.ct.sendgrid.net/ls/click?upn={TOKEN}")]);
    fs::write(&path, counters).unwrap();
    let refused = drafted(&path).unwrap_err();
    assert!(refused.contains("not to list") && !refused.contains("\"u1234567"), "{refused}");
}

/// Nothing that is drafted acts before somebody has read it.
#[test]
fn a_draft_watches_only_and_a_sender_that_an_entry_names_gets_none() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let path = folder.path("m.eml");
    fs::write(&path, mail(&["https://help.vendor.test/"])).unwrap();
    let draft = || folder.command(&["draft", path.to_str().unwrap()]);
    let (said, _, code) = draft();
    let first = said.lines().find(|line| !line.starts_with('#')).unwrap();
    assert!(code == Some(0) && first.starts_with("mode = \"observe\""), "{said}");

    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    let (said, _, code) = draft();
    assert!(
        said.starts_with("# No entry is drafted for a@vendor.test: the entry \"vendor\" names it already.\n") && code == Some(1),
        "{said}"
    );
    assert!(said.contains("#   other_links: https://help.vendor.test/ is not among") && !said.contains("name ="), "{said}");
    // What is offered is enough, pasted as it stands.
    let keys: String = said.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR.replace("other_links = [\"www.vendor.test\"]\n", &keys)).unwrap();
    let (said, _, code) = draft();
    assert!(code == Some(1) && said.contains("It takes this mail, if the sender proves itself"), "{said}");
    // A configuration that cannot be read hinders nobody.
    fs::write(folder.path("firstclick.toml"), "mode = ").unwrap();
    let (said, complained, code) = draft();
    assert!(code == Some(0) && said.contains("from = [") && complained.contains("is not known"), "{said}{complained}");
}

/// A mail that was saved a while ago is too old now, and the line that says so says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_old_mail_explain_names_the_option() {
    let zone = Zone::serve().await.unwrap();
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", &format!("[identity]\ndns = [\"{}\"]", zone.address()));
    fs::write(folder.path("allow.d/vendor.toml"), format!("max_age = \"1s\"\n{VENDOR}")).unwrap();
    let signed = signer.sign(&mail(&[])).unwrap();
    fs::write(folder.path("m.eml"), signed).unwrap();
    let (said, _, _) = explain(&folder, &["--at", "2099-01-01"], &["m.eml"]);
    assert!(said.contains("NO  freshness") && said.contains("--at TIME judges it as of when it came"), "{said}");
}

/// Strangers' words stay words: in the entry nothing is another key, another line or another list.
#[test]
fn words_of_strangers_do_not_become_toml() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let path = folder.path("m.eml");
    let evil = [
        "https://www.vendor.test/a\"]\nfrom=[\"x",
        "https://www.vendor.test/%22]%0Afrom%20=%20[%22evil.test",
        "https://www.vendor.test/x'''/\"\"\"/y",
        "https://attack.test/?u=\u{202e}\u{200b}&quot;]",
    ];
    for link in evil {
        let mail = mail(&[link]).replace("From: Vendor", "From: \"] never = [\"");
        fs::write(&path, mail).unwrap();
        let (draft, complained, _) = folder.command(&["draft", path.to_str().unwrap()]);
        let parsed: Result<toml::Table, _> = draft.parse();
        let table = parsed.unwrap_or_else(|error| panic!("{draft}{error}"));
        if draft.is_empty() {
            assert!(complained.contains("no entry can name its author"), "{complained}");
            continue;
        }
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        assert!(
            keys.iter().all(|key| ["mode", "name", "from", "other_links", "expires", "action", "links", "test"].contains(key)),
            "{draft}"
        );
        assert_eq!(table["from"].as_array().unwrap().len(), 1, "{draft}");
        assert!(!draft.chars().any(|letter| letter.is_control() && letter != '\n' || letter == '\u{202e}'), "{draft:?}");
    }
}

/// Mails of real products' templates: how many drafts act on their mail. Every twentieth is tried here.
#[test]
fn drafts_of_the_corpus_act() {
    let Some(mut mails) = corpus(&["dev/positive"]) else { return };
    mails.sort();
    let tried: Vec<_> = mails.iter().step_by(20).collect();
    let refused: Vec<String> =
        tried.iter().filter_map(|mail| drafted(mail).err().map(|why| format!("{}: {why}", mail.display()))).collect();
    assert!(refused.len() * 4 <= tried.len(), "{} of {} not drafted: {}", refused.len(), tried.len(), refused.join("\n"));
}

/// The help of what is new shows how it is used.
#[test]
fn help_has_examples() {
    for command in ["explain", "ask", "draft", "keygen"] {
        let output = Command::new(env!("CARGO_BIN_EXE_firstclick")).args([command, "--help"]).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("Example"), "{command}");
    }
}

/// What would let links like those of a shape leave bare is not offered, and a literal `*` is no wildcard.
#[test]
fn what_check_warns_of_is_not_offered() {
    let folder = folder();
    for (link, offered) in [
        ("https://login.vendor.test/12345", Some("login.vendor.test/{id}")),
        ("https://login.vendor.test/reset/12345", None),
        ("https://login.vendor.test/*", None),
        ("https://shop.vendor.test/*", None),
        ("https://shop.vendor.test/12345", Some("shop.vendor.test/*")),
    ] {
        fs::write(folder.path("m.eml"), mail(&[link])).unwrap();
        let (said, _, _) = explain(&folder, &["--as-proven"], &["m.eml"]);
        let paste = pasted(&said);
        match offered {
            Some(pattern) => assert!(paste.contains(&format!("{pattern:?}")), "{link}: {said}"),
            None => assert!(paste.is_empty() && said.contains("not to list"), "{link}: {said}"),
        }
        let keys = if paste.is_empty() { "other_links = [\"www.vendor.test\"]\n".to_owned() } else { paste };
        fs::write(folder.path("allow.d/vendor.toml"), VENDOR.replace("other_links = [\"www.vendor.test\"]\n", &keys)).unwrap();
        let (checked, complained, code) = folder.command(&["check"]);
        assert!(code == Some(0) && !checked.contains("covers links like"), "{link}: {checked}{complained}");
        fs::remove_file(folder.path("allow.d/vendor.toml")).unwrap();
        let (draft, _, _) = folder.command(&["draft", folder.path("m.eml").to_str().unwrap()]);
        fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
        let has_wildcard = draft.lines().any(|line| !line.starts_with('#') && line.contains("/*\""));
        assert_eq!(has_wildcard, link.contains("shop.vendor.test/1"), "{link}: {draft}");
    }
}

/// A link that leads back to a folder is not followed again; what is too deep is said.
#[test]
fn a_folder_is_walked_once() {
    let folder = folder();
    let mails = folder.path("mails");
    let deep = (0..40).fold(mails.join("a"), |path, _| path.join("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(mails.join("a/m.eml"), mail(&[])).unwrap();
    fs::write(deep.join("m.eml"), mail(&[])).unwrap();
    for name in ["x", "y", "a/up", "a/here"] {
        std::os::unix::fs::symlink(&mails, mails.join(name)).unwrap();
    }
    let (said, complained, code) = explain(&folder, &[], &["mails"]);
    assert_eq!((code, said.matches("words say").count()), (Some(0), 1), "{said}{complained}");
    assert!(said.contains("below 32 others, and is not looked into"), "{said}");
}

/// What sessions refuse for its line ends or its size is no `pass`.
#[test]
fn what_the_hop_refuses_is_said() {
    for (setting, wanted) in [("", "the hop would refuse it: 550 5.5.2"), ("bare_line_endings = \"normalize\"", "m.eml: ")] {
        let folder = Folder::new(&format!("next_hop = \"127.0.0.1:1\"\n{setting}"), "");
        let vendor = mail(&[]).replace("From: Vendor <a@vendor.test>", "From: Other <a@other.test>");
        for bad in [vendor.replace("password:</p>", "pass\rword:</p>"), vendor.replace("password:</p>\r\n", "password:</p>\n")] {
            fs::write(folder.path("m.eml"), bad).unwrap();
            let (said, _, _) = explain(&folder, &[], &["m.eml"]);
            assert!(said.contains(wanted) && said.contains(": pass") != setting.is_empty(), "{said}");
        }
        fs::write(folder.path("m.eml"), vendor.replace("password:</p>", "password:</p>\r\n\0.\r\n")).unwrap();
        let (said, _, _) = explain(&folder, &[], &["m.eml"]);
        assert!(said.contains("the hop would refuse it: 550 5.5.2 the mail holds a line"), "{said}");
    }
}
