//! Every policy in force is a record, and each mail names the one that decided about it.

use std::{fs, time::Instant};

use serde_json::Value;

use crate::{
    hop::{Client, PATIENCE, Sink, TOKEN, VENDOR, poll, process::Folder, read_records},
    service::{BELIEVING, MAIL},
};

fn policies(folder: &Folder) -> Vec<Value> {
    let is_policy = |record: &Value| record["type"].as_str().is_some_and(|kind| kind.starts_with("policy"));
    read_records(&folder.audit()).into_iter().filter(is_policy).collect()
}

async fn nth(folder: &Folder, count: usize) -> Value {
    poll("a record of the policy", || policies(folder).into_iter().nth(count)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_policy_in_force_is_a_record() {
    let sink = Sink::start().await;
    let smtp = format!("next_hop = \"{}\"", sink.address);
    let folder = Folder::new(&smtp, BELIEVING);
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR).unwrap();
    fs::write(folder.path("allow.d/other.toml"), VENDOR.replace("vendor", "other")).unwrap();
    let process = folder.run().await;
    let first = nth(&folder, 0).await;
    assert_eq!((first["type"].as_str(), first["by"].as_str(), first["mode"].as_str()), (Some("policy"), Some("start"), Some("enforce")));
    assert_eq!(first["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(first["added"], serde_json::json!(["other", "vendor"]));
    let hash = |record: &Value| record["hash"].as_str().unwrap().to_owned();
    assert_eq!(hash(&first).len(), 64);

    let mut client = Client::connect(process.address).await;
    client.greet().await;
    let mut sent = 0;
    let mut names_policy = async || {
        assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
        sent += 1;
        let nth = || read_records(&folder.audit()).into_iter().filter(|record| record["type"] == "mail").nth(sent - 1);
        poll("a mail's record", nth).await["policy"].as_str().unwrap().to_owned()
    };
    let by_first = names_policy().await;
    assert_eq!(by_first, hash(&first)[..16]);
    fs::remove_file(folder.path("allow.d/other.toml")).unwrap();
    fs::write(folder.path("allow.d/vendor.toml"), VENDOR.replace("www.", "help.")).unwrap();
    fs::write(folder.path("allow.d/new.toml"), VENDOR.replace("vendor", "new")).unwrap();
    process.signal("HUP");
    // A look in the middle of these edits may have seen some of them.
    let is_last = |policy: &Value| policy["entries"]["new"].is_string() && policy["entries"]["other"].is_null();
    poll("the policy with all edits", || policies(&folder).into_iter().find(is_last)).await;
    // The record comes before the policy is in force, and each mail names the policy that decided about it.
    let last = hash(policies(&folder).last().unwrap())[..16].to_owned();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let named = names_policy().await;
        if named == last {
            break;
        }
        assert!(policies(&folder).iter().any(|policy| hash(policy)[..16] == named), "{named}");
        assert!(Instant::now() < deadline, "no mail names the policy in force");
    }
    let all = policies(&folder);
    let names = |key: &str| -> Vec<String> {
        all.iter()
            .skip(1)
            .flat_map(|policy| policy[key].as_array().cloned().unwrap_or_default())
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!((names("added"), names("changed"), names("gone")), (vec!["new".to_owned()], vec!["vendor".into()], vec!["other".into()]));

    // A mistake.
    let count = all.len();
    fs::write(folder.path("firstclick.toml"), "mode = \"enfroce\"\n").unwrap();
    process.signal("HUP");
    let refused = nth(&folder, count).await;
    assert_eq!(refused["type"].as_str(), Some("policy_refused"));
    assert_eq!(refused["policy"].as_str(), Some(&last[..]));
    assert!(refused["mistake"].as_str().unwrap().contains("found \"enfroce\""), "{refused}");

    // For people; nothing of it is a secret.
    let (said, _, _) = tail(&folder);
    for words in [
        format!("policy {by_first} in force since the start: enforce, 2 entries"),
        "added new".to_owned(),
        "changed vendor".to_owned(),
        "gone other".to_owned(),
        format!("a changed configuration was refused, policy {last} stays in force"),
    ] {
        assert!(said.contains(&words), "{words}\n{said}");
    }
    let text: String = policies(&folder).iter().map(Value::to_string).collect();
    assert!(!text.contains(TOKEN) && !text.contains("BwcHBwcH"), "{text}");
    // The configuration cannot be read now, so the folder is named.
    let find =
        |arguments: &[&str]| folder.command(&[&["audit", "find", "--directory", folder.audit().to_str().unwrap()], arguments].concat());
    let (said, complained, code) = find(&[]);
    assert!(said.contains("in force by a reload") && said.ends_with("2 mails\n") && code == Some(0), "{said}{complained}");
    let (said, _, _) = find(&["--json"]);
    assert!(said.contains(&format!("\"policy\":\"{by_first}\"")), "{said}");
}

fn tail(folder: &Folder) -> (String, String, Option<i32>) {
    folder.command(&["audit", "tail", "-n", "100", "--directory", folder.audit().to_str().unwrap()])
}

/// A restart with the same configuration is the same policy, and other words in the environment are another.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_configuration_is_the_same_policy() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), BELIEVING);
    for (count, words) in ["", "", "export FIRSTCLICK_MODE=observe"].into_iter().enumerate() {
        let process = folder.run_after(words).await;
        nth(&folder, count).await;
        drop(process);
    }
    let all = policies(&folder);
    assert_eq!(all[0]["hash"], all[1]["hash"]);
    assert_ne!(all[1]["hash"], all[2]["hash"]);
    assert_eq!(all[2]["mode"].as_str(), Some("observe"));
    let (said, _, _) = folder.command(&["audit", "find"]);
    assert_eq!(said.matches("in force since the start").count(), 2, "a start with the same policy is no change: {said}");
}
