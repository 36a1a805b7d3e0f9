//! Files of the allowlist only add: one that is broken is left out whole, at the start and while the service runs, and all else goes
//! on.

use std::{fs, time::Duration};

use crate::{
    hop::{
        Client, Sink, VENDOR, hop, is_tagged,
        page::ask,
        poll,
        process::{Folder, Process},
    },
    service::{BELIEVING, arc_signed, tagged},
};

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"";

async fn page(process: &Process) -> String {
    let line = process.says("the admin page is there").await;
    format!("http://{}", line.split("address=").nth(1).unwrap().trim())
}

/// The page, once it says this.
async fn says(page: &str, path: &str, words: &str) -> String {
    for _ in 0..400 {
        let answer = ask("GET", &format!("{page}/{path}"), &[], "").await;
        if answer.body.contains(words) {
            assert_eq!(answer.status, 200, "{}", answer.body);
            return answer.body;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} never says {words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_left_out_at_the_start_and_the_others_count() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), &format!("{BELIEVING}\n{ADMIN}"));
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    fs::write(folder.path("allow.d/broken.toml"), "from = [\"other.test\"\n").unwrap();
    fs::write(folder.path("allow.d/guarded.toml"), VENDOR.replace("\"tag\"", "\"guard\"").replace("vendor.test", "g.test")).unwrap();
    let (_, said, code) = folder.command(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    for words in ["broken.toml:", "broken.toml is left out: until it is mended", "guarded.toml: guard: action = \"guard\" needs [guard]"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let process = folder.run().await;
    let page = page(&process).await;
    let line = process.says("a file of the allowlist is left out").await;
    assert!(line.contains("ERROR") && line.contains("broken.toml"), "{line}");
    assert!(says(&page, "readyz", "allow_files: 2 left out").await.starts_with("ready\n"));
    says(&page, "metrics", "firstclick_allow_files_broken 2").await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(tagged(&mut client, &sink).await);
    // Mended, it counts.
    fs::remove_file(folder.path("allow.d/broken.toml")).unwrap();
    fs::remove_file(folder.path("allow.d/guarded.toml")).unwrap();
    says(&page, "metrics", "firstclick_allow_files_broken 0").await;
    assert_eq!(says(&page, "readyz", "ready").await, "ready\n");
}

/// The old text may be wider than what was meant.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_takes_its_exemptions_along() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), &format!("{BELIEVING}\n{ADMIN}"));
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    let process = folder.run().await;
    let page = page(&process).await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(tagged(&mut client, &sink).await);
    fs::write(folder.path("allow.d/vendor.toml"), format!("recipients = [\"nobody\"]\n{VENDOR}")).unwrap();
    process.says("a file of the allowlist is left out").await;
    process.says("no entry is in force: all mails pass untouched").await;
    let said = says(&page, "readyz", "allow_files: 1 left out").await;
    assert!(said.contains("entries: none is in force"), "{said}");
    says(&page, "metrics", "firstclick_allowlist_entries 0").await;
    assert!(!tagged(&mut client, &sink).await);
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    says(&page, "metrics", "firstclick_allow_files_broken 0").await;
    assert!(tagged(&mut client, &sink).await);
    // A folder that goes, as a share does, and comes.
    fs::rename(folder.path("allow.d"), folder.path("away")).unwrap();
    says(&page, "metrics", "firstclick_allowlist_entries 0").await;
    assert!(!tagged(&mut client, &sink).await);
    fs::rename(folder.path("away"), folder.path("allow.d")).unwrap();
    says(&page, "metrics", "firstclick_allowlist_entries 1").await;
    assert!(tagged(&mut client, &sink).await);
}

/// An editor that saves in pieces: what is half there is not judged while it still changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_being_saved_is_not_judged() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), BELIEVING);
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    let start = std::time::Instant::now();
    let mut pieces = 0;
    // Longer than one look, and a new piece between any two looks.
    while start.elapsed() < Duration::from_secs(5) {
        fs::write(folder.path("allow.d/vendor.toml"), format!("{VENDOR}\n# {pieces}\nlimit = \"20/ho")).unwrap();
        pieces += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(!process.log().contains("is left out"), "{}", process.log());
    assert!(tagged(&mut client, &sink).await, "the one from before is in force");
    fs::write(folder.path("allow.d/vendor.toml"), format!("mode = \"observe\"\n{VENDOR}")).unwrap();
    process.says("reloaded entries=1").await;
    assert!(!process.log().contains("is left out"), "{}", process.log());
    poll("the new one", || process.log().contains("reloaded").then_some(())).await;
    assert!(!tagged(&mut client, &sink).await);
}

#[test]
fn never_stands_in_firstclick_toml() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), format!("never = [\"no address\"]\n{text}")).unwrap();
    let (_, said, code) = folder.command(&["run"]);
    assert!(code == Some(2) && said.contains("firstclick.toml:1:10: never: found \"no address\""), "{said}");
    fs::write(folder.path("firstclick.toml"), format!("never = [\"shares@vendor.test\"]\n{text}")).unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), format!("never = [\"shares@vendor.test\"]\n{VENDOR}")).unwrap();
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("never: stands in firstclick.toml, above all sections"), "{said}");
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    assert_eq!(folder.command(&["check"]).2, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_overrides_never() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), BELIEVING);
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    fs::write(folder.path("firstclick.toml"), format!("never = [\"support@vendor.test\"]\n{text}")).unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(!tagged(&mut client, &sink).await);
    fs::write(folder.path("firstclick.toml"), text).unwrap();
    process.says("reloaded").await;
    assert!(tagged(&mut client, &sink).await);
}

/// Any entry grants: one that only observes, or whose quota is used up, hides no other.
#[tokio::test(flavor = "multi_thread")]
async fn one_entry_takes_nothing_from_another() {
    let sink = Sink::start().await;
    let narrow = VENDOR.replace("vendor.test\"]\nother", "support@vendor.test\"]\nother");
    let hop = hop()
        .allow("a", &format!("mode = \"observe\"\n{narrow}"))
        .allow("b", &format!("limit = \"1/hour\"\n{VENDOR}"))
        .allow("c", &format!("limit = \"1/hour\"\nattachments = true\n{VENDOR}"))
        .next_hop(&sink)
        .trusting_upstream("mx.corp.example")
        .start()
        .await;
    let mut by = Vec::new();
    for mail in 1..=3 {
        assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], &arc_signed()).await.starts_with("250"));
        let record = hop.record(mail).await;
        let tagged = is_tagged(&sink.mail(mail).await.data);
        assert_eq!(tagged, record["decision"] == "act" && record["observed"] == false, "{record}");
        by.push(record["entry"].as_str().unwrap().to_owned());
    }
    // The third is over both quotas; the entry that observes is what is left.
    assert_eq!(by, ["b", "c", "a"]);
}
