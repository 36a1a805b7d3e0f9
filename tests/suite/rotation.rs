//! Rotations walked from end to end with the real program and a scanner: no mail ever carries a token that its rule does not know.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use firstclick::testbed::{Delivered, Rule, Scanner, Signer, Zone, post};
use tokio::task::JoinHandle;

use crate::{
    hop::{
        VENDOR, poll,
        process::{Folder, Process},
    },
    reload::reloaded_after,
};

/// Mails that come all the time, through the hop and the scanner.
struct Flow {
    delivered: Arc<Mutex<Vec<Delivered>>>,
    stop: Arc<AtomicBool>,
    sending: JoinHandle<usize>,
}

impl Flow {
    fn start(hop: String, signer: Signer, scanner: Scanner) -> Self {
        let (delivered, stop): (Arc<Mutex<Vec<Delivered>>>, Arc<AtomicBool>) = Default::default();
        let mailbox = Arc::clone(&delivered);
        thread::spawn(move || {
            while let Ok(mail) = scanner.next(Duration::from_mins(1)) {
                mailbox.lock().unwrap().push(mail);
            }
        });
        let stopped = Arc::clone(&stop);
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mail = signer.sign(&mail("a@vendor.test", sent)).unwrap();
                assert!(post(&hop, "a@vendor.test", &["bob@corp.example"], &mail).await.unwrap().is_accepted());
                sent += 1;
            }
            sent
        });
        Self { delivered, stop, sending }
    }

    /// Waits for five more mails, of which the last carries this token.
    async fn carries(&self, token: &str) {
        let before = self.delivered.lock().unwrap().len();
        let line = format!("X-Firstclick: {token}\r\n");
        poll("a mail with the token", || {
            let mails = self.delivered.lock().unwrap();
            let holds = |mail: &Delivered| String::from_utf8_lossy(&mail.raw).contains(&line);
            (mails.len() >= before + 5 && mails.last().is_some_and(holds)).then_some(())
        })
        .await;
    }

    /// All that came, once the last one has.
    async fn end(self) -> Vec<Delivered> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sending.await.unwrap();
        poll("the last mail", || (self.delivered.lock().unwrap().len() == sent).then_some(())).await;
        std::mem::take(&mut self.delivered.lock().unwrap())
    }
}

fn mail(from: &str, number: usize) -> String {
    let link = format!("https://login.vendor.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c{number:04}");
    format!(
        "From: {from}\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nMessage-ID: <{number}@vendor.test>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain\r\n\r\nReset your password: {link}\r\n"
    )
}

/// The tokens that `setup` tells the rule.
fn printed(folder: &Folder) -> Vec<String> {
    let (said, _, code) = folder.command(&["setup", "defender", "--hop", "192.0.2.25"]);
    assert_eq!(code, Some(0), "{said}");
    let words: Vec<&str> =
        said.lines().filter_map(|line| line.split_once("-HeaderContainsWords ")).map(|(_, words)| words.trim_end_matches(" `")).collect();
    assert!(words.iter().all(|other| Some(other) == words.first()), "one list: {said}");
    words[0].split(", ").map(|word| word.trim_matches('\'').to_owned()).collect()
}

fn learn(rule: &Rule, tokens: &[String]) {
    rule.learn(&tokens.iter().map(String::as_str).collect::<Vec<_>>());
}

/// `keygen` with these arguments for a file of the folder: what it said.
fn keygen(folder: &Folder, arguments: &[&str], file: &str) -> String {
    let path = folder.path(file);
    let (said, complained, code) = folder.command(&[&["keygen"], arguments, &["--out", path.to_str().unwrap()]].concat());
    assert_eq!(code, Some(0), "{complained}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_rotated_under_mail_flow_and_no_mail_carries_one_that_the_rule_does_not_know() {
    let zone = Zone::serve().await.unwrap();
    let (signer, attacker) = (Signer::publish(&zone, "vendor.test").unwrap(), Signer::publish(&zone, "attack.test").unwrap());
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    fs::write(folder.path("allow.d/vendor.toml"), format!("limit = \"unlimited\"\n{VENDOR}")).unwrap();
    fs::remove_file(folder.path("tag.token")).unwrap();
    keygen(&folder, &["--token"], "tag.token");
    let identity = format!("[identity]\ndns = [\"{}\"]", zone.address());
    folder.configure("next_hop = \"127.0.0.1:1\"", &identity);
    let first = printed(&folder);
    let scanner = Scanner::serve("X-Firstclick", &first[0]).unwrap();
    let rule = scanner.rule();
    folder.configure(&format!("next_hop = \"{}\"", scanner.address()), &identity);
    let process = folder.run().await;
    let flow = Flow::start(process.address.to_string(), signer, scanner);
    flow.carries(&first[0]).await;

    // Nobody can put a new token on top by mistake.
    let before = fs::read_to_string(folder.path("tag.token")).unwrap();
    let (_, complained, code) = folder.command(&["keygen", "--token", "--out", folder.path("tag.token").to_str().unwrap()]);
    assert_eq!((code, complained.contains("--stage")), (Some(2), true), "{complained}");
    assert_eq!(fs::read_to_string(folder.path("tag.token")).unwrap(), before);

    reloaded_after(&process, || assert!(keygen(&folder, &["--token", "--stage"], "tag.token").contains("no mail carries it yet"))).await;
    let both = printed(&folder);
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    flow.carries(&first[0]).await;
    learn(&rule, &both);
    // The next token is a secret like the first: from outside it is a forgery, and the scanner never sees it.
    let forged = format!("X-Firstclick: {}\r\n{}", both[1], attacker.sign(&mail("a@attack.test", 9000)).unwrap());
    forged_is_opened(&process, &forged, &flow).await;

    reloaded_after(&process, || assert!(keygen(&folder, &["--token", "--activate"], "tag.token").contains("written now"))).await;
    flow.carries(&both[1]).await;
    assert_eq!(printed(&folder), [both[1].clone(), both[0].clone()]);
    // Who rotates sees that it was taken, in the log and on record, by the file's name alone.
    process.says("files=[\"tag.token\"]").await;
    let (said, _, _) = folder.command(&["audit", "tail", "-n", "1000"]);
    assert!(said.contains("; read anew tag.token\n") && !said.contains(&both[1]) && !process.log().contains(&both[1]), "{said}");

    // Keys beside it: a new one signs, and the older one goes.
    reloaded_after(&process, || assert!(keygen(&folder, &[], "tag.key").contains("on top of the older one"))).await;
    let keys = fs::read_to_string(folder.path("tag.key")).unwrap();
    reloaded_after(&process, || fs::write(folder.path("tag.key"), keys.lines().next().unwrap()).unwrap()).await;

    reloaded_after(&process, || assert!(keygen(&folder, &["--token", "--retire"], "tag.token").contains("1 older token taken out"))).await;
    let last = printed(&folder);
    assert_eq!(last, [both[1].clone()]);
    learn(&rule, &last);
    flow.carries(&both[1]).await;
    let mails = flow.end().await;
    let tagged = |mail: &&Delivered| String::from_utf8_lossy(&mail.raw).contains("X-Firstclick: ");
    assert!(mails.len() > 20 && mails.iter().filter(tagged).count() == mails.len(), "{} mails", mails.len());
    assert!(mails.iter().all(|mail| mail.skipped && mail.opened.is_empty()), "a token that the rule does not know");
}

/// A mail from outside with a token arrives without it, and its link is opened.
async fn forged_is_opened(process: &Process, forged: &str, flow: &Flow) {
    assert!(post(&process.address.to_string(), "a@attack.test", &["bob@corp.example"], forged).await.unwrap().is_accepted());
    let is_it = |mail: &Delivered| String::from_utf8_lossy(&mail.raw).contains("<9000@vendor.test>");
    let arrived = poll("the forged mail", || {
        let mut mails = flow.delivered.lock().unwrap();
        mails.iter().position(is_it).map(|at| mails.remove(at))
    })
    .await;
    assert!(!String::from_utf8_lossy(&arrived.raw).contains("X-Firstclick") && !arrived.skipped && arrived.opened.len() == 1);
}

/// The audit's key and its reload: records go on under the new key, and the chain holds under both.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_audit_key_is_taken_without_a_signal() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    keygen(&folder, &[], "audit.key");
    let config = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), config.replace("directory = \"audit\"", "directory = \"audit\"\nkey_file = \"audit.key\""))
        .unwrap();
    let process = folder.run().await;
    reloaded_after(&process, || assert!(keygen(&folder, &[], "audit.key").contains("on top"))).await;
    let (said, complained, _) = folder.command(&["audit", "verify"]);
    assert!(!said.contains("broken") && complained.is_empty(), "{said}{complained}");
}

/// What a file holds decides, and nothing is put on a file that is for something else.
#[test]
fn keygen_leaves_a_file_alone_that_is_for_something_else() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    fs::remove_file(folder.path("tag.token")).unwrap();
    keygen(&folder, &["--token"], "tag.token");
    fs::write(folder.path("arc.pem"), "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n").unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    fs::write(folder.path("picture"), [0xFF, 0xD8, 0, 1]).unwrap();
    fs::write(folder.path("hostname"), "mailserver01\n").unwrap();
    fs::create_dir(folder.path("folder")).unwrap();
    let others = ["arc.pem", "allow.d/vendor.toml", "firstclick.toml", "picture", "hostname", "folder"];
    let tokens: &[&[&str]] =
        &[&["--token"], &["--token", "--stage"], &["--token", "--activate"], &["--token", "--retire"], &["--token", "--now"]];
    let refused = |arguments: &[&str], file: &str| {
        let path = folder.path(file);
        let before = fs::read(&path).ok();
        let (_, complained, code) = folder.command(&[&["keygen"], arguments, &["--out", path.to_str().unwrap()]].concat());
        assert_eq!((code, complained.contains("left as it is")), (Some(2), true), "{arguments:?} {file}: {complained}");
        assert_eq!(fs::read(&path).ok(), before, "{arguments:?} {file}");
    };
    for file in others.into_iter().chain(["tag.key"]) {
        for arguments in tokens {
            refused(arguments, file);
        }
    }
    for file in others.into_iter().chain(["tag.token"]) {
        refused(&[], file);
    }
    // And a key in the place of a token is a mistake, as every mail would carry it.
    fs::copy(folder.path("tag.key"), folder.path("tag.token")).unwrap();
    let (said, complained, code) = folder.command(&["check"]);
    assert_eq!((code, complained.contains("tag.token:1") && complained.contains("this is a key")), (Some(2), true), "{said}{complained}");
    assert!(!complained.contains("BwcH"), "{complained}");
}

/// A rotation keeps who may read the file, and a link to it stays a link.
#[test]
fn a_rotation_keeps_permissions_and_links() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let (real, link) = (folder.path("real.token"), folder.path("link.token"));
    keygen(&folder, &["--token"], "real.token");
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("real.token", &link).unwrap();
    for step in ["--stage", "--activate", "--retire", "--now"] {
        keygen(&folder, &["--token", step], "link.token");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600, "{step}");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{step}");
    }
    assert_eq!(fs::read_to_string(&real).unwrap().lines().count(), 2);
    let left: Vec<_> = fs::read_dir(folder.path(".")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".firstclick-")), "{left:?}");
}

/// A token that Exchange takes as several words is warned of, by its place and never by itself.
#[test]
fn check_warns_of_tokens_that_are_not_one_word() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    fs::write(folder.path("tag.token"), "fcgood22\nfc-Old_token\nnext alsogood7\n").unwrap();
    let (said, _, _) = folder.command(&["check"]);
    let warned: Vec<&str> = said.lines().filter(|line| line.contains("whole words")).collect();
    assert_eq!(warned.len(), 1, "{said}");
    assert!(warned[0].contains("tag.token:2") && !warned[0].contains("Old_token"), "{warned:?}");
    assert_eq!(printed(&folder), ["fcgood22", "fc-Old_token", "alsogood7"]);
}
