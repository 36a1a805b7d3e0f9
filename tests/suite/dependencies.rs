//! What we depend on is what deny.toml allows, and the bill of materials names all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::hop::needs;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The packages of the lock file that are compiled on Linux, those of tests too.
fn packages() -> Vec<Value> {
    let target = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let said = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(target)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice::<Value>(&said.stdout).unwrap()["packages"].as_array().unwrap().clone()
}

fn text<'v>(package: &'v Value, key: &str) -> &'v str {
    package[key].as_str().unwrap_or_default()
}

fn list<'t>(deny: &'t toml::Table, section: &str, key: &str) -> Vec<&'t toml::Value> {
    deny[section][key].as_array().unwrap().iter().collect()
}

/// Whether a licence as SPDX writes it is allowed: one side of an OR is enough, both of an AND are needed. Crates of old have a slash for OR.
fn is_allowed(licence: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = licence.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    either(&words, &mut at, allowed)
}

fn either(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut holds = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        holds |= both(words, at, allowed);
    }
    holds
}

fn both(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut holds = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        holds &= one(words, at, allowed);
    }
    holds
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let word = words[*at];
    *at += 1;
    if word == "(" {
        let holds = either(words, at, allowed);
        *at += 1;
        return holds;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
        return false;
    }
    allowed.contains(word)
}

#[test]
fn dependencies_are_what_deny_toml_allows() {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let allowed: BTreeSet<&str> = list(&deny, "licenses", "allow").into_iter().map(|licence| licence.as_str().unwrap()).collect();
    let registries: Vec<String> =
        list(&deny, "sources", "allow-registry").into_iter().map(|source| format!("registry+{}", source.as_str().unwrap())).collect();
    let skipped: BTreeSet<&str> = list(&deny, "bans", "skip").into_iter().map(|skip| skip["crate"].as_str().unwrap()).collect();
    let (mut versions, mut wrong) = (BTreeMap::<String, Vec<String>>::new(), Vec::new());
    let packages = packages();
    assert!(packages.len() > 200);
    for package in packages.iter().filter(|package| text(package, "name") != "firstclick") {
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        if !is_allowed(text(package, "license"), &allowed) {
            wrong.push(format!("{name}: licence {:?}", text(package, "license")));
        }
        if !registries.iter().any(|registry| text(package, "source") == registry) {
            wrong.push(format!("{name}: source {:?}", text(package, "source")));
        }
        versions.entry(text(package, "name").to_owned()).or_default().push(text(package, "version").to_owned());
    }
    let mut unused = skipped.clone();
    for (name, found) in versions.iter().filter(|(_, found)| found.len() > 1) {
        let skip = |version: &str| {
            let fits = |skip: &&&str| {
                skip.strip_prefix(&format!("{name}@")).is_some_and(|start| format!("{version}.").starts_with(&format!("{start}.")))
            };
            skipped.iter().find(fits).copied()
        };
        unused.retain(|unused| !found.iter().any(|version| skip(version) == Some(unused)));
        let left: Vec<&String> = found.iter().filter(|version| skip(version).is_none()).collect();
        if left.len() > 1 {
            wrong.push(format!("{name}: several versions, {left:?}"));
        }
    }
    assert!(wrong.is_empty(), "not what deny.toml allows:\n{}", wrong.join("\n"));
    assert_eq!(unused, BTreeSet::new(), "deny.toml skips what is not there twice");
}

#[test]
fn licences_are_read_as_spdx_writes_them() {
    let allowed = BTreeSet::from(["MIT", "ISC"]);
    for (licence, holds) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT/Apache-2.0", true),
        ("Apache-2.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("ISC AND (Apache-2.0 OR MIT)", true),
        ("(GPL-3.0 OR MIT) AND OpenSSL", false),
        ("GPL-3.0 WITH Classpath-exception-2.0 OR MIT", true),
        ("", false),
    ] {
        assert_eq!(!licence.is_empty() && is_allowed(licence, &allowed), holds, "{licence}");
    }
}

/// deploy/third-party: all that is in the program, each with its licence and the hash of its sources; the same each time.
#[test]
fn the_bill_of_materials_names_what_is_in_the_program() {
    if needs("python3").is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    for out in ["one", "two"] {
        let status = Command::new("deploy/third-party").arg(folder.path().join(out)).current_dir(root()).status().unwrap();
        assert!(status.success());
    }
    let read = |out: &str, name: &str| fs::read_to_string(folder.path().join(out).join(name)).unwrap();
    for name in ["firstclick.cdx.json", "THIRD-PARTY.txt"] {
        assert_eq!(read("one", name), read("two", name));
    }
    let bill: Value = serde_json::from_str(&read("one", "firstclick.cdx.json")).unwrap();
    let notices = read("one", "THIRD-PARTY.txt");
    assert_eq!((bill["bomFormat"].as_str(), bill["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    assert_eq!(bill["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    let components = bill["components"].as_array().unwrap();
    let names: BTreeSet<&str> = components.iter().map(|component| text(component, "name")).collect();
    for component in components {
        let line = format!("\n{} {}: ", text(component, "name"), text(component, "version"));
        assert!(notices.contains(&line), "{line}");
        assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{component}");
    }
    // Every crate that Cargo.toml names for the program is there, and none that only tests use.
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let named = |section: &str| manifest[section].as_table().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert!(named("dependencies").iter().all(|name| names.contains(name.as_str())));
    assert!(!["proptest", "rcgen", "ring"].iter().any(|name| names.contains(name)));
}
