//! What holds the audit's end, over the real program: the head file, checkpoints, and what other programs do to its files.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

use firstclick::audit::files;

use crate::{
    hop::{
        Client, Sink, VENDOR,
        page::ask,
        poll,
        process::{Folder, Process},
        read_records,
    },
    service::{BELIEVING, MAIL, tagged},
};

/// A folder whose head file is not where the records are.
fn kept(sink: &Sink, audit: &str) -> Folder {
    let rest = format!("state = \"state\"\n{audit}\n{BELIEVING}\n[admin]\nlisten = \"127.0.0.1:0\"");
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), &rest);
    fs::write(folder.path("allow.d/vendor.toml"), format!("limit = \"unlimited\"\n{VENDOR}")).unwrap();
    folder
}

fn verify(folder: &Folder, arguments: &[&str]) -> (String, Option<i32>) {
    let (out, err, code) = folder.command(&[&["audit", "verify"], arguments].concat());
    (format!("{out}{err}"), code)
}

async fn send(process: &Process, mails: usize) {
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    for _ in 0..mails {
        assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    }
}

async fn metrics(process: &Process) -> String {
    let address = process.says("the admin page is there").await.split("address=").nth(1).unwrap().trim().to_owned();
    ask("GET", &format!("http://{address}/metrics"), &[], "").await.body
}

fn live(folder: &Folder) -> PathBuf {
    files::list(&folder.audit()).unwrap().pop().unwrap().path().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_cut_off_shows_by_the_head_file_and_by_checkpoints() {
    let sink = Sink::start().await;
    let folder = kept(&sink, "key_file = \"audit.key\"");
    assert_eq!(folder.command(&["keygen", "--out", folder.path("audit.key").to_str().unwrap()]).2, Some(0));
    let mut process = folder.run().await;
    let page = metrics(&process).await;
    assert!(page.contains("firstclick_audit_records ") && page.contains("firstclick_audit_checkpoint{hash=\""), "{page}");
    send(&process, 5).await;
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let log = folder.path("log");
    fs::write(&log, process.log()).unwrap();
    let log = log.to_str().unwrap();
    assert_eq!(process.log().matches("audit checkpoint").count(), 2, "{}", process.log());

    let text = fs::read_to_string(live(&folder)).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (all, left) = (lines.len(), lines.len() - 3);
    let (said, code) = verify(&folder, &[]);
    assert!(said.contains(&format!("the end is proven by the head file: record {all} is the newest")) && code == Some(0), "{said}");
    assert!(said.contains(&format!("the head file is {}\n", folder.path("state/audit.head").display())), "{said}");
    let (said, code) = verify(&folder, &["--head", "/nonexistent/head"]);
    assert!(said.contains("--head: there is no /nonexistent/head") && code == Some(2), "{said}");
    let directory = folder.audit().display().to_string();
    let (said, code) = verify(&folder, &["--directory", &directory]);
    assert!(said.contains(&format!("the end is not proven: {all} is the newest record here")) && code == Some(0), "{said}");
    // With an older checkpoint alone, as kept elsewhere: what is usual does not frighten.
    let first = process.log().split("checkpoint=").nth(1).map(|rest| rest.split_whitespace().next().unwrap().to_owned()).unwrap();
    let first = first.trim_matches('"');
    let (said, code) = verify(&folder, &["--directory", &directory, "--at", first]);
    assert!(said.contains("by checkpoints. This is the usual state: what came since, up to ") && code == Some(0), "{first}: {said}");
    let (said, code) = verify(&folder, &["--directory", &directory, "--at-log", log]);
    let proven = format!("proven by checkpoints: record {all}");
    assert!(said.contains("checkpoints that stand in the chain: 2 of 2") && said.contains(&proven) && code == Some(0), "{said}");

    // And changes a line behind the first one ever.
    let changed = lines.iter().enumerate().map(|(at, line)| if at == 1 { line.replace("\"v\":1", "\"v\":2") } else { (*line).to_owned() });
    fs::write(live(&folder), changed.collect::<String>()).unwrap();
    let (said, code) = verify(&folder, &[]);
    assert!(said.starts_with("1 line in 1 file, from the first line ever\nthe chain is broken: ") && code == Some(1), "{said}");
    // Cuts the end off.
    fs::write(live(&folder), lines[..left].concat()).unwrap();
    let (said, code) = verify(&folder, &[]);
    assert!(said.contains(&format!("the end is cut off: the newest record here is {left}, and ")) && code == Some(1), "{said}");
    let (said, code) = verify(&folder, &["--directory", &directory, "--at-log", log, "--json"]);
    assert!(said.contains("\"found\":\"missing\"") && said.contains("\"holds\":false") && code == Some(1), "{said}");
    // The next start says so, in log, metrics and records; mails and exemptions go on.
    let process = folder.run().await;
    let said = process.says("records are missing").await;
    assert!(said.contains("ERROR") && said.contains(&format!("{} to {all}", left + 1)), "{said}");
    assert!(metrics(&process).await.contains("firstclick_audit_faults_total{what=\"cut\"} 1\n"));
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    assert!(tagged(&mut client, &sink).await);
    let record = read_records(&folder.audit()).into_iter().find(|record| record["type"] == "file").unwrap();
    assert_eq!((record["n"].as_u64(), &record["missing"]), (Some(all as u64 + 1), &serde_json::json!({ "first": left + 1, "last": all })));
    let (said, code) = verify(&folder, &[]);
    assert!(said.contains(&format!("records {} to {all}, which come before this one, are missing", left + 1)) && code == Some(1), "{said}");
    drop(process);
    // What was cut off is put back.
    fs::write(folder.audit().join(format!("{}.1", live(&folder).file_name().unwrap().to_str().unwrap())), lines[left..].concat()).unwrap();
    let (said, code) = verify(&folder, &["--at-log", log]);
    assert!(said.contains("checkpoints that stand in the chain: 2 of 2") && code == Some(0), "{said}");
    // The folder emptied.
    fs::remove_dir_all(folder.audit()).unwrap();
    fs::create_dir(folder.audit()).unwrap();
    let (said, code) = verify(&folder, &[]);
    assert!(said.contains("there is no record in ") && said.contains("says that there were ") && code == Some(1), "{said}");
}

/// logrotate's ways, and rm: each is noticed before the next exemption, and the chain goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_that_others_touch_is_noticed_and_begun_anew() {
    let sink = Sink::start().await;
    let folder = kept(&sink, "");
    let process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    let aside = |number: u8| PathBuf::from(format!("{}.{number}", live(&folder).display()));
    for (what, touch) in [("vanished", 0), ("changed", 1), ("vanished", 2)] {
        assert!(tagged(&mut client, &sink).await);
        let file = live(&folder);
        match touch {
            // `create`: the file is renamed.
            0 => fs::rename(&file, aside(1)).unwrap(),
            // `copytruncate`.
            1 => {
                fs::copy(&file, aside(2)).unwrap();
                File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
            }
            _ => fs::remove_file(&file).unwrap(),
        }
        assert!(tagged(&mut client, &sink).await);
        let text = fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("{\"type\":\"file\"") && first.contains(what) && text.contains("\"decision\":\"act\""), "{text}");
        // What was put aside in the folder is read as a part of the chain; what was removed is missed.
        let (said, code) = verify(&folder, &[]);
        assert_eq!(code, Some(i32::from(touch == 2)), "{said}");
    }
    let page = metrics(&process).await;
    assert!(page.contains("firstclick_audit_faults_total{what=\"vanished\"} 2\n"), "{page}");
    assert!(page.contains("firstclick_audit_faults_total{what=\"changed\"} 1\n"), "{page}");
    // Without a mail, too.
    let (file, asides) = (live(&folder), [aside(1), aside(2)]);
    fs::remove_file(&file).unwrap();
    let text = poll("a new file", || fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'))).await;
    // All that was before it is gone: which records that were.
    for aside in asides {
        fs::remove_file(aside).unwrap();
    }
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let (said, code) = verify(&folder, &[]);
    let wanted = format!("records 1 to {}, which come before this one, are missing: somebody else took", first["n"].as_u64().unwrap() - 1);
    assert!(said.contains(&wanted) && code == Some(1), "{said}");
}

/// The clock stepped back over midnight, and by years: the newest file is gone on with. What is old is compressed.
#[tokio::test(flavor = "multi_thread")]
async fn names_never_go_back_and_closed_files_are_compressed() {
    let sink = Sink::start().await;
    let folder = kept(&sink, "compress = true\nkeep = \"400d\"");
    drop(folder.run().await);
    fs::rename(live(&folder), folder.audit().join("audit-20200101.jsonl")).unwrap();
    drop(folder.run().await);
    fs::rename(live(&folder), folder.audit().join("audit-29990101.jsonl")).unwrap();
    let mut process = folder.run().await;
    process.says("the clock is behind the newest audit file").await;
    send(&process, 1).await;
    // It is retired by this run or was by the one before, whichever came to it.
    let names = || -> Vec<String> { files::list(&folder.audit()).unwrap().iter().map(ToString::to_string).collect() };
    poll("one file", || (names() == ["audit-29990101.jsonl"]).then_some(())).await;
    let (said, code) = verify(&folder, &[]);
    assert!(said.contains("from record ") && said.contains(" on, and those before were retired") && code == Some(0), "{said}");
    // Cut off with the record of the retirement.
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let text = fs::read_to_string(live(&folder)).unwrap();
    let cut = text.find("{\"type\":\"retired\"").unwrap();
    fs::write(live(&folder), text.get(..cut).unwrap()).unwrap();
    let (said, code) = verify(&folder, &[]);
    assert!(said.contains("the end is cut off: the newest record here is ") && !said.contains("retired") && code == Some(1), "{said}");
}

/// Outside of systemd, writer and `verify` find the service's head file, and never another audit's: in a namespace with a folder for it.
#[test]
fn the_head_file_of_the_service_is_found_outside_of_systemd() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let other = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let script = folder.path("script");
    let text = format!(
        r#"mount -t tmpfs none /var/lib || exit 99
start() {{
    : >"$log"; "$@" run 2>"$log" & id=$!
    until grep -q listening "$log"; do kill -0 $id || exit 98; sleep 0.05; done
    kill -TERM $id; wait $id
}}
unset STATE_DIRECTORY
log={log}
one="{program} --config {one}" other="{program} --config {other}"
mkdir /var/lib/firstclick
STATE_DIRECTORY=/var/lib/firstclick start $one
$one audit verify
cp /var/lib/firstclick/audit.head {log}.head
echo "-- by hand, the same audit"
start $one
cmp -s /var/lib/firstclick/audit.head {log}.head && echo "the service's head lags behind"
test -e {audit}/audit.head && echo "two heads"
for file in {audit}/audit-*.jsonl; do sed -i '$d' $file; done
$one audit verify
echo "-- another audit"
start $other
$other audit verify
test -e {other_audit}/audit.head || echo "no head of its own"
echo "-- a copy"
$one audit verify --directory {audit}
echo "-- damaged"
echo x >/var/lib/firstclick/audit.head
$one audit verify 2>&1
echo "-- gone"
rm /var/lib/firstclick/audit.head
$one audit verify
exit 0
"#,
        log = folder.path("log").display(),
        program = crate::hop::process::program(),
        one = folder.path("firstclick.toml").display(),
        other = other.path("firstclick.toml").display(),
        audit = folder.audit().display(),
        other_audit = other.audit().display(),
    );
    fs::write(&script, text).unwrap();
    let output = std::process::Command::new("unshare").args(["--mount", "bash"]).arg(&script).output().unwrap();
    if matches!(output.status.code(), Some(1 | 99) | None) {
        return crate::hop::missing("a mount namespace");
    }
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let parts: Vec<&str> = said.split("-- ").collect();
    let [first, same, other, copy, damaged, gone] = parts[..] else { panic!("{said}") };
    let of_service = "the head file is /var/lib/firstclick/audit.head\n";
    assert!(first.contains(of_service) && first.contains("the end is proven by the head file"), "{said}");
    assert!(same.contains("the end is cut off: ") && same.contains(", and /var/lib/firstclick/audit.head names "), "{said}");
    assert!(same.contains(of_service) && !same.contains("lags") && !same.contains("two heads"), "{said}");
    assert!(other.contains("the end is proven by the head file") && !other.contains("/var/lib") && !other.contains("no head"), "{said}");
    assert!(copy.contains("the end is not proven") && !copy.contains("the head file"), "{said}");
    assert!(damaged.contains("the head file \"/var/lib/firstclick/audit.head\" is damaged"), "{said}");
    assert!(gone.contains("audit/audit.head is not there\nthe end is not proven"), "{said}");
}

/// Killed while records stood behind the one that the head file names, and the live file moved away: the numbers of those records
/// are given to no other, so that the file fits again when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_that_went_with_a_kill_fits_again_when_it_is_put_back() {
    let sink = Sink::start().await;
    let folder = kept(&sink, "");
    let process = folder.run().await;
    send(&process, 30).await;
    let written = || fs::read_to_string(live(&folder)).unwrap().lines().count();
    poll("all records", || (written() >= 32).then_some(())).await;
    let head = fs::read_to_string(folder.path("state/audit.head")).unwrap();
    assert!(!head.contains(&format!("\"n\":{},", written())), "the head lags behind");
    process.signal("KILL");
    drop(process);
    let (file, away) = (live(&folder), folder.path("away"));
    fs::rename(&file, &away).unwrap();
    let mut process = folder.run().await;
    process.says("records are missing").await;
    send(&process, 3).await;
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let (said, code) = verify(&folder, &[]);
    assert!(said.contains("which comes before this one, is missing") && code == Some(1), "{said}");
    fs::rename(&away, format!("{}.1", file.display())).unwrap();
    let (said, code) = verify(&folder, &[]);
    assert!(
        said.contains("the hop was killed and records were missing once") && said.contains("is the newest") && code == Some(0),
        "{said}"
    );
    let (found, _, code) = folder.command(&["audit", "report"]);
    assert!(found.contains("33 mails") && code == Some(0), "{found}");
}

/// Killed at any moment, the hop leaves a chain that holds, and its next start alarms nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_is_no_alarm() {
    let sink = Sink::start().await;
    let folder = kept(&sink, "");
    for round in 0..8 {
        let process = folder.run().await;
        let address = process.address;
        let mails = tokio::spawn(async move {
            let Some(mut client) = Client::try_connect(address).await else { return };
            client.greet().await;
            loop {
                client.send("<bounce@vendor.test>", &["<bob@corp.example>"], &crate::service::arc_signed()).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(20 + 37 * round)).await;
        process.signal("KILL");
        mails.abort();
        drop(process);
        let (said, code) = verify(&folder, &[]);
        assert_eq!(code, Some(0), "{said}");
    }
    let faults = read_records(&folder.audit()).into_iter().filter(|record| record["type"] == "file").count();
    assert_eq!(faults, 0);
}

/// Fifty exemptions at once share what the disk costs; and whatever the next hop has of them is on record, should the hop be killed
/// at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn exemptions_at_once_share_a_commit_and_each_is_on_record_before_it_leaves() {
    let sink = Sink::start().await;
    let folder = kept(&sink, "");
    let process = folder.run().await;
    let address = process.address;
    let all_at_once = || {
        (0..50).map(|_| {
            tokio::spawn(async move {
                let Some(mut client) = Client::try_connect(address).await else { return };
                client.greet().await;
                client.send("<bounce@vendor.test>", &["<bob@corp.example>"], &crate::service::arc_signed()).await;
            })
        })
    };
    for sent in all_at_once().collect::<Vec<_>>() {
        sent.await.unwrap();
    }
    assert_eq!(sink.mails().iter().filter(|mail| crate::hop::is_tagged(&mail.data)).count(), 50);
    let page = metrics(&process).await;
    let commits = page.lines().find_map(|line| line.strip_prefix("firstclick_audit_commits_total ")).unwrap();
    assert!(commits.parse::<u32>().unwrap() < 50, "{commits} commits");
    println!("{commits} commits for 50 exemptions");
    let sending: Vec<_> = all_at_once().collect();
    poll("ten more mails", || (sink.mails().len() >= 60).then_some(())).await;
    process.signal("KILL");
    for sent in sending {
        sent.abort();
    }
    drop(process);
    let records = read_records(&folder.audit());
    let ids: Vec<&str> = records.iter().filter(|record| record["decision"] == "act").map(|record| record["id"].as_str().unwrap()).collect();
    for mail in sink.mails() {
        let text = String::from_utf8_lossy(&mail.data);
        assert!(ids.iter().any(|id| text.contains(id)), "no record of {text}");
    }
    let (said, code) = verify(&folder, &[]);
    assert_eq!(code, Some(0), "{said}");
}
