//! Scanners that run here, with what `setup` prints: the link of the mail that the hop tagged is left to its reader, and that of every
//! other is asked for.

use std::{fs, net::SocketAddr, process::Command};

use firstclick::testbed::{Signer, Site, Zone, post};
use serde_json::Value;
use tempfile::TempDir;

use crate::hop::{
    Sink, TOKEN, hop, is_tagged, needs,
    process::Folder,
    programs::Program,
    reset_mail,
    scanners::{fed, spamassassin},
};

/// The hop's address, as the scanner sees it.
const HOP: &str = "192.0.2.25";
const OTHER: &str = "198.51.100.7";
/// A host below a top-level domain that rspamd knows.
const HOST: &str = "go.example.com";

/// The one-time tokens of the links: of the mail that is proven, and of the others.
const PROVEN: &str = "6d0f6b2f9c1e4a7f8b3d5e2a1c0f9b8e7d6c5b4a";
const FORGED: &str = "7e1a7c3a0d2f5b8a9c4e6f3b2d1a0c9f8e7d6c5b";
const WRONG: &str = "8f2b8d4b1e3a6c9b0d5f7a4c3e2b1d0a9f8e7d6c";
const ASIDE: &str = "9a3c9e5c2f4b7d0c1e6a8b5d4f3c2e1b0a9f8e7d";

/// The files of a recipe, out of what the program prints.
fn recipe(scanner: &str) -> Vec<(String, String)> {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"", "");
    let (said, complained, _) = folder.command(&["setup", scanner, "--hop", HOP, "--format", "json"]);
    let recipe: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{complained}"));
    let chapters = recipe["chapters"].as_array().unwrap().iter().filter(|chapter| chapter["part"] == "do");
    let steps = chapters.flat_map(|chapter| chapter["steps"].as_array().unwrap());
    let files = steps.filter_map(|step| Some((step["code"]["file"].as_str()?.to_owned(), step["code"]["text"].as_str()?.to_owned())));
    files.map(|(file, text)| (file.rsplit('/').next().unwrap().to_owned(), format!("{text}\n"))).collect()
}

fn mail(port: &str, token: &str) -> String {
    let (header, _) = reset_mail().split_once("\r\n\r\n").map(|(header, body)| (header.to_owned(), body.to_owned())).unwrap();
    let kept: Vec<&str> = header.split("\r\n").filter(|line| !line.to_lowercase().starts_with("content-")).collect();
    format!("{}\r\nContent-Type: text/plain\r\n\r\nReset your password here:\r\nhttp://{HOST}{port}/reset/{token}\r\n", kept.join("\r\n"))
}

/// The mails with their clients, as the scanner gets them: what came through the real hop, and what went round it.
async fn mails(zone: &Zone, port: &str) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let vendor = Signer::publish(zone, "vendor.test").unwrap();
    let sink = Sink::start().await;
    let entry = format!(
        "from = [\"vendor.test\"]\nrecipients = [\"*@corp.example\"]\nowner = \"it@corp.example\"\naction = \"tag\"\n\
         [links]\npassword_reset = [\"http://{HOST}{port}/reset/{{token}}\"]\n"
    );
    let hop = hop().allow("vendor", &entry).asking(zone).next_hop(&sink).start().await;
    let proven = vendor.sign(&mail(port, PROVEN)).unwrap();
    let forged = format!("X-Firstclick: {TOKEN}\r\n{}", mail(port, FORGED));
    for mail in [&proven, &forged] {
        assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    }
    sink.mail(2).await;
    let arrived: Vec<Vec<u8>> = sink.mails().into_iter().map(|mail| mail.data).collect();
    assert!(is_tagged(&arrived[0]) && !is_tagged(&arrived[1]), "the hop tags what is proven, and removes what is forged");
    let wrong = format!("X-Firstclick: {}x\r\n{}", TOKEN, mail(port, WRONG));
    let aside = format!("X-Firstclick: {TOKEN}\r\n{}", mail(port, ASIDE));
    vec![
        (PROVEN, HOP, arrived[0].clone()),
        (FORGED, HOP, arrived[1].clone()),
        (WRONG, HOP, wrong.into_bytes()),
        (ASIDE, OTHER, aside.into_bytes()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn rspamd_asks_for_every_link_but_that_of_the_tagged_mail() {
    let (Some(_), Some(rspamc)) = (needs("rspamd"), needs("rspamc")) else { return };
    let Some(redis) = Program::redis().await else { return };
    let (zone, site) = (Zone::serve().await.unwrap(), Site::serve().await.unwrap());
    zone.publish_addresses(HOST, &["127.0.0.1"]);
    let redirector = format!("redirector_hosts_map = [\"{HOST}\"];\n");
    let files = recipe("rspamd");
    let mut local: Vec<(&str, &str)> = vec![("url_redirector.conf", &redirector)];
    local.extend(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    assert_eq!(files.len(), 1, "settings.conf alone, where nothing is sealed");
    let Some(rspamd) = Program::rspamd_asking(zone.address(), redis.address, &local).await else { return };
    for (token, client, mail) in mails(&zone, &format!(":{}", site.port())).await {
        let mut command = Command::new(&rspamc);
        command.args(["-h", &rspamd.address.to_string(), "--ip", client, "symbols"]);
        let said = tokio::task::spawn_blocking(move || fed(&mut command, &mail)).await.unwrap();
        assert!(said.contains("Action: ") && said.contains(HOST), "it was scanned: {said}{}", rspamd.log());
        assert_eq!(site.visits(token), usize::from(token != PROVEN), "{token}: {said}");
    }
}

/// A folder of configuration with a recipe, and with the plugin that opens links.
fn rules(scanner: &str, zone: &Zone) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir("/etc/spamassassin").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "pre") {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for (name, text) in recipe(scanner) {
        write(&name, &text);
    }
    write("user_prefs", "");
    write("short.pre", "loadplugin Mail::SpamAssassin::Plugin::DecodeShortURLs\n");
    let dns = zone.address().port();
    write("local.cf", &format!("dns_server [127.0.0.1]:{dns}\nuse_bayes 0\nurl_shortener {HOST}\nbody HAS_SHORT_URL eval:short_url()\n"));
    folder
}

/// A mail as the MTA behind the hop has it.
fn traced(client: &str, mail: &[u8]) -> Vec<u8> {
    let trace = format!(
        "Received: from hop.test (hop.test [{client}]) by mx.corp.example (Postfix) with ESMTP id 4X1;\r\n Thu, 26 Nov 2026 07:00:00 +0000 (UTC)\r\n"
    );
    [trace.as_bytes(), mail].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn spamassassin_asks_for_every_link_but_that_of_the_tagged_mail() {
    if needs("spamassassin").is_none() {
        return;
    }
    let (zone, site) = (Zone::serve().await.unwrap(), Site::serve().await.unwrap());
    let folder = rules("spamassassin", &zone);
    let proxy = SocketAddr::from(([127, 0, 0, 1], site.port()));
    for (token, client, mail) in mails(&zone, "").await {
        let (path, mail) = (folder.path().to_owned(), traced(client, &mail));
        let said = tokio::task::spawn_blocking(move || spamassassin(&path, proxy, &mail)).await.unwrap().unwrap();
        assert!(said.contains("X-Spam-Status:"), "{said}");
        assert_eq!(said.contains("FIRSTCLICK_TAG"), token == PROVEN, "{said}");
        assert_eq!(site.visits(token), usize::from(token != PROVEN), "{token}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn amavis_asks_for_every_link_but_that_of_the_tagged_mail() {
    if needs("amavisd").is_none() {
        return;
    }
    let (zone, site, sink) = (Zone::serve().await.unwrap(), Site::serve().await.unwrap(), Sink::start().await);
    let folder = rules("amavis", &zone);
    let proxy = SocketAddr::from(([127, 0, 0, 1], site.port()));
    let Some(amavis) = Program::amavis(folder.path(), sink.address, proxy).await else { return };
    for (at, (token, client, mail)) in mails(&zone, "").await.into_iter().enumerate() {
        let mail = String::from_utf8(traced(client, &mail)).unwrap();
        post(&amavis.address.to_string(), "bounce@vendor.test", &["bob@corp.example"], &mail).await.unwrap();
        let arrived = String::from_utf8(sink.mail(at + 1).await.data).unwrap();
        assert!(arrived.contains("X-Spam-Status:"), "{arrived}");
        assert_eq!(arrived.contains("FIRSTCLICK_TAG="), token == PROVEN, "{arrived}");
        assert_eq!(site.visits(token), usize::from(token != PROVEN), "{token}: {arrived}");
    }
}
