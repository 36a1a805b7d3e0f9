//! Guard links that are stored: short enough for programs that wrap text, and they open as the long ones do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on panics"
)]

mod hop;

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use firstclick::{
    clock,
    edit::guard_link::{GuardLink, GuardLinkKeys, StoredLink},
    link_store::LinkStore,
    testbed::{Signer, Zone},
};
use tempfile::TempDir;

use self::hop::{
    SECRET, Sink, VENDOR, hop, mta,
    page::{BROWSER, LINK, Page, URL, ask, guard_links, nonce, seal_key},
    poll,
    process::{Folder, Process},
    reset_mail,
};

fn guarding() -> String {
    VENDOR.replace("action = \"tag\"", "limit = \"unlimited\"\naction = \"guard\"")
}

/// The names in a mail's short links, in their order.
fn names(text: &str, url: &str) -> Vec<String> {
    text.split(&format!("{url}/s/")).skip(1).map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
}

/// The files of a store.
fn files(folder: &Path) -> Vec<PathBuf> {
    let inside = |folder: &Path| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    inside(folder).into_iter().flat_map(|day| if day.is_dir() { inside(&day) } else { vec![day] }).collect()
}

/// Where a press of the page's button leads.
async fn pressed(url: &str) -> String {
    let shown = ask("GET", url, BROWSER, "").await;
    assert_eq!(shown.status, 200, "{url}: {}", shown.body);
    let answer = ask("POST", url, BROWSER, &format!("nonce={}", nonce(&shown))).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.headers["location"].clone()
}

/// By both doors: each one-time link gets a short one of its own, nothing else in the mail changes, and a press leads to
/// exactly what stood there, clicks on record as ever.
#[tokio::test(flavor = "multi_thread")]
async fn short_links_lead_to_their_originals() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let (sink, folder) = (Sink::start().await, TempDir::new().unwrap());
    let hop = hop()
        .allow("vendor", &guarding())
        .asking(&zone)
        .with_guard(guard_links(URL))
        .storing_links(folder.path())
        .next_hop(&sink)
        .start()
        .await;
    let page = Page::open(|config| config.links = Some(Arc::new(LinkStore::new(folder.path().to_owned())))).await;
    let first = format!("https://login.vendor.test/reset/{SECRET}");
    let second = "https://login.vendor.test/reset/0b1c2d3e4f5a69788796a5b4c3d2e1f00f1e2d3c";
    let mail = reset_mail().replace(&first, &format!("{first}\r\n\r\nOr, to keep the old one:\r\n\r\n{second}"));
    let mail = vendor.sign(&mail).unwrap();

    assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    let by_smtp = String::from_utf8(sink.mail(1).await.data).unwrap();
    let mut mta = mta::Mta::connect(hop.milter().await).await;
    mta.greet("127.0.0.1").await;
    let way = mta::Way { client: "127.0.0.1", from: "<bounce@vendor.test>", to: &["<eve@corp.example>"], piece: 65_535 };
    let mail_of_eve = vendor.sign(&reset_mail().replace("bob@", "eve@").replace(&first, &format!("{first}\r\n\r\n{second}"))).unwrap();
    let by_milter = String::from_utf8(mta.mail(way, mail_of_eve.as_bytes()).await.mail).unwrap();

    let mut all = Vec::new();
    for (text, came) in [(by_smtp, mail), (by_milter, mail_of_eve)] {
        let names = names(&text, URL);
        assert!(names.len() == 2 && !text.contains(SECRET) && !text.contains("/c/"), "{text}: {}", hop.record(1).await);
        let mut back = text.clone();
        for (name, original) in names.iter().zip([first.as_str(), second]) {
            let line = format!("\r\n{URL}/s/{name}\r\n");
            assert!(text.contains(&line) && line.trim().len() == 48, "a line of its own, as the original had: {text}");
            let open = format!("http://{}/s/{name}", page.address);
            assert_eq!(pressed(&open).await, original);
            // As somebody types it who reads it from another screen.
            assert_eq!(pressed(&open.replace(name, &name.to_uppercase().replace('0', "O"))).await, original);
            back = back.replace(&format!("{URL}/s/{name}"), original);
        }
        assert!(back.ends_with(came.split("\r\n\r\n").skip(1).collect::<Vec<_>>().join("\r\n\r\n").as_str()), "nothing else has changed");
        all.extend(names);
    }
    let stored = files(folder.path());
    assert_eq!(stored.len(), 4);
    for file in &stored {
        let text = fs::read_to_string(file).unwrap();
        assert!(all.iter().any(|name| file.ends_with(name)) && !text.contains(SECRET) && !text.contains("vendor"), "{text}");
    }
    let clicks = page.clicks(16).await;
    assert_eq!(clicks.iter().filter(|click| click["what"] == "press" && click["to"] == "bob@corp.example").count(), 4, "{clicks:?}");
}

/// What is no name of a stored link opens nothing and reaches nothing; what has expired says so.
#[tokio::test(flavor = "multi_thread")]
async fn only_names_of_stored_links_open() {
    let folder = TempDir::new().unwrap();
    let (root, outside) = (folder.path().join("links"), folder.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::write(&outside, "a secret of another program").unwrap();
    let store = Arc::new(LinkStore::new(root.clone()));
    let page = Page::open(|config| config.links = Some(Arc::clone(&store))).await;
    let stored = |keys: &GuardLinkKeys, ago: Duration| {
        let at = clock::now() - ago;
        let sealed = GuardLink {
            link: LINK.into(),
            mail: "mail-1".into(),
            entry: "vendor".into(),
            author: "vendor.test".into(),
            recipient: "bob@corp.example".into(),
            at,
            until: at + keys.lifetime,
        };
        keys.shorten(&sealed).unwrap().stored
    };
    let foreign = GuardLinkKeys { url: URL.into(), keys: vec![seal_key(9)], lifetime: Duration::from_hours(24) };
    let (fresh, expired) = (stored(&page.guard_links, Duration::ZERO), stored(&page.guard_links, Duration::from_hours(25)));
    let (foreign, never) = (stored(&foreign, Duration::ZERO), stored(&page.guard_links, Duration::from_secs(7)));
    let moved = StoredLink { id: stored(&page.guard_links, Duration::from_secs(9)).id, value: fresh.value.clone() };
    store.store(vec![fresh.clone(), expired.clone(), foreign.clone(), moved.clone()]).await.unwrap();
    let base = format!("http://{}/s", page.address);
    assert_eq!(pressed(&format!("{base}/{}", fresh.id)).await, LINK);
    let name = fresh.id.to_string();
    for (path, status) in [
        (never.id.to_string(), 404),
        (foreign.id.to_string(), 404),
        (moved.id.to_string(), 404),
        (expired.id.to_string(), 410),
        (name[1..].to_owned(), 404),
        (format!("{name}0"), 404),
        (format!("{name}/"), 404),
        (format!("{name}."), 404),
        (format!("{}/{name}", fresh.id.day()), 404),
        ("../outside".into(), 404),
        ("..%2f..%2foutside".into(), 404),
        ("..%2foutside%00aaaaaaa".into(), 404),
        ("%2e%2e%2f%2e%2e%2foutside".into(), 404),
        (String::new(), 404),
        ("x".repeat(10_000), 404),
    ] {
        for method in ["GET", "POST"] {
            let answer = ask(method, &format!("{base}/{path}"), BROWSER, if method == "POST" { "nonce=1.x" } else { "" }).await;
            assert_eq!(answer.status, status, "{method} {path}");
            let says = |word: &str| answer.body.contains(word);
            assert!(!says("vendor") && !says("another program") && !answer.headers.contains_key("location"), "{}", answer.body);
        }
    }
    // A long link of before opens still.
    assert_eq!(pressed(&page.seal(LINK)).await, LINK);
    // Where the folder is gone nobody says that the link is none.
    fs::rename(&root, folder.path().join("away")).unwrap();
    let answer = ask("GET", &format!("{base}/{name}"), BROWSER, "").await;
    assert!(answer.status == 503 && !answer.body.contains("outside") && !answer.body.contains("links"), "{}", answer.body);
}

/// No stored link, no exemption: the mail goes on as it came, and the audit says why.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_link_cannot_be_stored_the_mail_passes_untouched() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let (sink, folder) = (Sink::start().await, TempDir::new().unwrap());
    let root = folder.path().join("links");
    let entry = guarding().replace("action = \"guard\"", "action = [\"tag\", \"guard\"]");
    let hop = hop().allow("vendor", &entry).asking(&zone).with_guard(guard_links(URL)).storing_links(&root).next_hop(&sink).start().await;
    // The day on which the links stop opening; the one behind it, should midnight come in between.
    let days = [24, 48].map(|hours| root.join(&clock::rfc3339(clock::now() + Duration::from_hours(hours))[..10]));
    for (count, spoil) in ["missing", "a file", "a day that is a file", "a day that nobody may write"].into_iter().enumerate() {
        match spoil {
            "a file" => fs::write(&root, "").unwrap(),
            "a day that is a file" => {
                fs::remove_file(&root).unwrap();
                fs::create_dir(&root).unwrap();
                for day in &days {
                    fs::write(day, "").unwrap();
                }
            }
            "a day that nobody may write" => {
                for day in &days {
                    fs::remove_file(day).unwrap();
                    // The tests may run as root, who may write everywhere but here.
                    std::os::unix::fs::symlink("/proc/self", day).unwrap();
                }
            }
            _ => {}
        }
        let mail = vendor.sign(&reset_mail()).unwrap();
        assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
        assert!(sink.mail(count + 1).await.data == mail.as_bytes(), "{spoil}: the mail was changed");
        let record = hop.record(count + 1).await;
        assert_ne!(record["decision"], "act", "{spoil}: {record}");
        let stopped = record["reasons"].as_array().unwrap().iter().find(|reason| reason["ok"] == false).unwrap().clone();
        assert!(stopped["check"] == "edit" && stopped["detail"].as_str().unwrap().contains("guard links"), "{spoil}: {stopped}");
    }
    // Once the folder is there again, so is the exemption.
    for day in &days {
        fs::remove_file(day).unwrap();
    }
    let mail = vendor.sign(&reset_mail()).unwrap();
    assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    assert_eq!(names(&String::from_utf8(sink.mail(5).await.data).unwrap(), URL).len(), 1);
}

/// A program that wraps at 76 columns as mail programs do.
const WRAPS: &str = r#"
import sys, textwrap
text, width = sys.stdin.read().replace("\r\n", "\n"), 76

def cut(words):
    """Fills lines, and cuts words that are longer than a line."""
    lines, line = [], ""
    for word in words:
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = ""
        line = line + " " + word if line else word
        while len(line) > width:
            lines.append(line[:width])
            line = line[width:]
    return lines + [line]

def textwrap_(text):
    return "\n".join("\n".join(textwrap.wrap(line, width)) for line in text.split("\n"))

def par(text):
    """Paragraphs are joined, then filled."""
    return "\n\n".join("\n".join(cut(paragraph.split())) for paragraph in text.split("\n\n"))

def flowed(text):
    """RFC 3676 section 4: lines that end in a space go on, signature lines do not."""
    out, paragraph = [], ""
    for line in text.split("\n"):
        paragraph += line[1:] if line.startswith(" ") else line
        if not line.endswith(" ") or line == "-- ":
            out += cut(paragraph.split())
            paragraph = ""
    return "\n".join(out)

def quoted(text):
    """A reply, wrapped behind its mark."""
    return "\n".join("> " + piece for line in text.split("\n") for piece in (textwrap.wrap(line, width - 2) or [""]))

sys.stdout.write({"textwrap": textwrap_, "par": par, "flowed": flowed, "quoted": quoted}[sys.argv[1]](text))
"#;

fn wrapped(how: &str, text: &str) -> Option<String> {
    let (program, arguments) = match how {
        "fold -s" => ("fold", vec!["-s", "-w", "76"]),
        "fold" => ("fold", vec!["-w", "76"]),
        "fmt" => ("fmt", vec!["-w", "76"]),
        how => ("python3", vec!["-c", WRAPS, how]),
    };
    hop::needs(program)?;
    let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Some(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
}

/// The text of a mail after a program that wraps it at 76 columns: a short link is whole on its line, with a host of 40
/// characters too; a long one is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_link_survives_programs_that_wrap_at_76_columns() {
    let url = "https://first-click.mail-security.corp.example.t";
    assert_eq!(url.len(), 48, "a host of 40 characters");
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let (sink, folder) = (Sink::start().await, TempDir::new().unwrap());
    let build = || hop().allow("vendor", &guarding()).asking(&zone).with_guard(guard_links(url)).next_hop(&sink);
    let (short, long) = (build().storing_links(folder.path()).start().await, build().start().await);
    let flowed = reset_mail()
        .replace("charset=utf-8", "charset=utf-8; format=flowed")
        .replace("You asked to reset your password. Open", "You asked to reset your password, \r\nor somebody else did it for you. Open");
    let mut count = 0;
    for mail in [reset_mail(), flowed] {
        let mail = vendor.sign(&mail).unwrap();
        for (hop, kind) in [(&short, "short"), (&long, "long")] {
            count += 1;
            assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
            let text = String::from_utf8(sink.mail(count).await.data).unwrap();
            let body = text.split_once("\r\n\r\n").unwrap().1;
            let link = body.split_whitespace().find(|word| word.starts_with(url)).unwrap_or_else(|| panic!("{text}"));
            let line = body.lines().find(|line| line.contains(link)).unwrap();
            assert_eq!(line, link, "nothing stands before or behind it");
            if kind == "short" {
                assert_eq!(link.len(), 70, "{link}");
            }
            for how in ["textwrap", "par", "flowed", "quoted", "fold -s", "fold", "fmt"] {
                let Some(after) = wrapped(how, body) else { continue };
                let whole = after.lines().any(|line| line.trim_start_matches("> ").trim_end() == link);
                // GNU fmt alone leaves long words whole.
                assert_eq!(whole, kind == "short" || how == "fmt", "{how}: {after}");
                assert!(how == "fmt" || after.lines().all(|line| line.len() <= 76), "{how}: {after}");
            }
        }
    }
}

/// The program on a configuration that stores links.
struct Installed {
    folder: Folder,
    sink: Sink,
    zone: Zone,
}

impl Installed {
    async fn new() -> Self {
        let (zone, sink) = (Zone::serve().await.unwrap(), Sink::start().await);
        let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
        let entry = VENDOR
            .replace("action = \"tag\"", "require = { ip = [\"127.0.0.0/8\"], spf = false }\nlimit = \"unlimited\"\naction = \"guard\"");
        fs::write(folder.path("allow.d/vendor.toml"), entry).unwrap();
        assert_eq!(folder.command(&["keygen", "--out", folder.path("guard.key").to_str().unwrap()]).2, Some(0));
        let installed = Self { folder, sink, zone };
        installed.configure("store = \"links\"");
        installed
    }

    fn configure(&self, guard: &str) {
        self.configure_at(URL, guard);
    }

    fn configure_at(&self, url: &str, guard: &str) {
        let rest = format!(
            "[identity]\ndns = [\"{}\"]\n[guard]\nurl = \"{url}\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\n{guard}\n",
            self.zone.address()
        );
        self.folder.configure(&format!("next_hop = \"{}\"", self.sink.address), &rest);
    }

    async fn page(process: &Process) -> SocketAddr {
        let line = process.says("the guard page is there").await;
        line.split("page=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    /// Sends the mail; what arrives.
    async fn sent(&self, process: &Process, count: usize) -> String {
        let mut client = hop::Client::connect(process.address).await;
        client.greet().await;
        assert!(client.send("<a@vendor.test>", &["<bob@corp.example>"], reset_mail().as_bytes()).await.starts_with("250"));
        String::from_utf8(self.sink.mail(count).await.data).unwrap()
    }
}

/// As an admin sets it up: `check` tells of a folder that is missing, a link opens after a restart, what has long expired
/// is removed at the start, and the key is put in and taken out by a reload.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_stores_links() {
    let installed = Installed::new().await;
    let folder = &installed.folder;
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("guard.store: ") && said.contains("create it and give it to the user"), "{said}");
    fs::write(folder.path("links"), "").unwrap();
    assert_eq!(folder.command(&["check"]).2, Some(2), "a file is no folder");
    fs::remove_file(folder.path("links")).unwrap();
    for day in ["2020-02-29", "2020-03-01", "keep me"] {
        fs::create_dir_all(folder.path("links").join(day)).unwrap();
        fs::write(folder.path("links").join(day).join("a"), "x").unwrap();
    }
    let (said, _, code) = folder.command(&["check"]);
    assert!(code == Some(0) && !said.contains("guard.url"), "{said}");
    let mut process = folder.run().await;
    process.says("stored guard links").await;
    poll("the sweep", || (!folder.path("links/2020-02-29").exists() && !folder.path("links/2020-03-01").exists()).then_some(())).await;
    assert!(folder.path("links/keep me/a").exists());
    let first = names(&installed.sent(&process, 1).await, URL).remove(0);
    let original = format!("https://login.vendor.test/reset/{SECRET}");
    assert_eq!(pressed(&format!("http://{}/s/{first}", Installed::page(&process).await)).await, original);
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));

    let process = folder.run().await;
    let page = Installed::page(&process).await;
    assert_eq!(pressed(&format!("http://{page}/s/{first}")).await, original);
    // Without the key links are long, and the stored ones are unknown; with it again they open.
    for (reloads, guard, status) in [(1, "", 404), (2, "store = \"links\"", 200)] {
        installed.configure(guard);
        poll("a reload", || (process.log().matches("reloaded").count() >= reloads).then_some(())).await;
        assert_eq!(ask("GET", &format!("http://{page}/s/{first}"), BROWSER, "").await.status, status);
        let text = installed.sent(&process, 1 + reloads).await;
        assert_eq!((text.contains("/c/"), text.contains("/s/")), (guard.is_empty(), !guard.is_empty()), "{text}");
        if let Some(value) = text.split("/c/").nth(1) {
            let value = value.split_whitespace().next().unwrap();
            assert_eq!(pressed(&format!("http://{page}/c/{value}")).await, original);
        }
    }
    // A name for which links are too long for a line is spoken of.
    let host = "first-click.mail-security.department.corp.example.test";
    installed.configure_at(&format!("https://{host}"), "store = \"links\"");
    let (said, _, _) = folder.command(&["check"]);
    assert!(said.contains("guard.url: guard links have 84 characters and 76 fit a line"), "{said}");
    // A folder that is not there leaves the configuration of before in force.
    installed.configure("store = \"elsewhere\"");
    process.says("not reloaded").await;
    assert_eq!(ask("GET", &format!("http://{page}/s/{first}"), BROWSER, "").await.status, 200);
    installed.configure("store = \"links\"");
    let (said, _, _) = folder.command(&["audit", "find", "--to", "bob@corp.example"]);
    assert!(said.contains("pressed the button"), "{said}");
}

/// `explain` shows the octets that leave the hop, but for the link's name, which depends on the mail's id; it stores nothing.
#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_short_links_and_stores_none() {
    let installed = Installed::new().await;
    let folder = &installed.folder;
    fs::create_dir(folder.path("links")).unwrap();
    fs::write(folder.path("mail.eml"), reset_mail()).unwrap();
    let (mail, out) = (folder.path("mail.eml"), folder.path("out.eml"));
    let arguments = ["explain", "--client-ip", "127.0.0.1", "--rcpt", "bob@corp.example", "--mail-from", "a@vendor.test", "--out"];
    let (said, complained, code) = folder.command(&[&arguments[..], &[out.to_str().unwrap(), mail.to_str().unwrap()]].concat());
    assert_eq!(code, Some(0), "{said}{complained}");
    let shown = fs::read_to_string(out).unwrap();
    assert_eq!((names(&shown, URL).len(), files(&folder.path("links")).len()), (1, 0), "{said}{shown}");
    let process = folder.run().await;
    let left = installed.sent(&process, 1).await;
    assert_eq!(files(&folder.path("links")).len(), 1);
    let plain = |text: &str| {
        let body = &text[text.find("From: ").unwrap()..];
        body.replace(&names(text, URL)[0], "NAME").lines().filter(|line| !line.starts_with("Date:")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(plain(&shown), plain(&left));
}

/// An entry that only observes stores nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_observes_stores_nothing() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let (sink, folder) = (Sink::start().await, TempDir::new().unwrap());
    let build = hop().allow("vendor", &guarding()).observing().asking(&zone).with_guard(guard_links(URL)).storing_links(folder.path());
    let hop = build.next_hop(&sink).start().await;
    let mail = vendor.sign(&reset_mail()).unwrap();
    assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    assert!(sink.mail(1).await.data == mail.as_bytes());
    assert_eq!((hop.record(1).await["decision"].as_str(), files(folder.path()).len()), (Some("act"), 0));
}
