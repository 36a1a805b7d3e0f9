//! `migrate`, as an admin types it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::hop::process::Folder;

/// What it does not convert and what this version does not take is named, and nothing else is left out because of it.
#[test]
fn what_is_left_is_named_and_the_rest_is_converted() {
    let folder = Folder::new("next_hop = \"127.0.0.1:1\"\ntemporary_directory = \"/var/tmp\"", "no_such = 1");
    let old = "name = \"acme-hr\"\nowner = \"hr@corp.example\"\nfrom = [\"hr@acme-hr.example\"]\nmails = [\"password_reset\"]\n\
               links = [\"login.acme-hr.example/reset/*\"]\nother_links = []\naction = \"tag\"\n";
    fs::write(folder.path("allow.d/acme-hr.toml"), old).unwrap();
    fs::write(folder.path("allow.d/latin.toml"), b"name = \"caf\xe9\"\n").unwrap();
    fs::set_permissions(folder.path("allow.d/acme-hr.toml"), fs::Permissions::from_mode(0o604)).unwrap();
    let (out, err, code) = folder.command(&["migrate"]);
    assert_eq!(fs::metadata(folder.path("allow.d/acme-hr.toml.converted")).unwrap().permissions().mode() & 0o777, 0o604);
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let left: Vec<&str> = out.lines().filter(|line| line.starts_with("left to you: ")).collect();
    assert!(left.len() == 2 && left[0].contains("no_such") && left[1].contains("latin.toml"), "{out}");
    assert!(fs::read_to_string(folder.path("firstclick.toml.converted")).unwrap().contains("no_such"));
    assert!(fs::read_to_string(folder.path("allow.d/acme-hr.toml.converted")).unwrap().contains("[links]\npassword_reset"));
    assert!(!folder.path("allow.d/latin.toml.converted").exists());

    // An inline table keeps what stands beside the key, which a person takes out.
    let text = fs::read_to_string(folder.path("firstclick.toml")).unwrap();
    let line = format!(
        "smtp = {{ listen = [\"127.0.0.1:0\"], hostname = \"hop.test\", temporary_directory = \"/var/tmp\" }}\n{}",
        text.replace("[smtp]", "[smpt]")
    );
    fs::write(folder.path("firstclick.toml"), line).unwrap();
    fs::remove_file(folder.path("firstclick.toml.converted")).unwrap();
    let (out, _, code) = folder.command(&["migrate"]);
    assert!(code == Some(1) && out.contains("smtp.temporary_directory: "), "{out}");
    assert!(!folder.path("firstclick.toml.converted").exists(), "{out}");
}
