//! The packages: from a bare Debian to mails, an upgrade and nothing left behind; the image; what they are built from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    hop::{missing, needs, process::program},
    systemd::booted,
};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program without debug symbols, as packages hold it.
fn stripped(folder: &Path) -> PathBuf {
    let stripped = folder.join("firstclick");
    run(Command::new("objcopy").arg("--strip-all").arg(program()).arg(&stripped));
    stripped
}

/// The package of this kind in a folder.
fn built(folder: &Path, kind: &str) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.find(|path| path.extension().is_some_and(|end| end == kind)).unwrap()
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> String {
    let output = command.env("COMPRESSION", "gzip").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn from_a_bare_debian_to_mails_an_upgrade_and_nothing_left_behind() {
    let bare = project().join("target/bare");
    if !bare.join("usr/bin/dpkg").exists() {
        return missing("target/bare, which `sudo .ci/bare` lays out");
    }
    let Some(said) = booted(&bare, "package", |out| {
        let build = |version: &str, folder: &str| {
            let build = project().join("deploy/debian/build");
            run(Command::new(build).arg(stripped(out)).arg(out.join(folder)).arg(version));
        };
        build("0.1.0-1", "packages");
        build("0.1.1-1", "packages/next");
    }) else {
        return;
    };
    for words in [
        // It asks nothing, and says what it waits for.
        "readme 1: 0",
        "installed: active enabled, takes no mails: next_hop: none is set",
        "owners: /etc/firstclick root:firstclick:750 /etc/firstclick/allow.d root:firstclick:750 \
         /etc/firstclick/firstclick.toml root:firstclick:640 /etc/firstclick/tag.key root:firstclick:640 \
         /etc/firstclick/tag.token root:firstclick:640 /var/log/firstclick firstclick:firstclick:750",
        "hostname: hostname = \"mx.corp.example\"",
        "service may write: .",
        "verify: .",
        "security: firstclick below 2.0",
        "security: firstclick-keys below 2.0",
        // The README's way to the first line of the audit.
        "readme 2: 0",
        "readme 3: 0",
        "readme 4: 0",
        "check: 0",
        "status: takes mails",
        "health: listens: smtp.listen 127.0.0.1:2525",
        "mail: 1 pass entry=salesforce",
        // Twice is as once; an upgrade leaves alone what is the admin's.
        "again: 0",
        "upgrade: 0 active 0.1.1-1",
        "restarted: yes unchanged",
        "mail: 1",
        "with a wrong entry and an environment: 0 active restarted /etc/firstclick root:firstclick:751 \
         /etc/firstclick/allow.d root:firstclick:2770 /root/etc/firstclick.toml",
        "stopped: 0 enabled inactive",
        // What the other version cannot read does not stop this one.
        "downgrade: 0 active the one before 1 warning",
        "mended: active holds",
        "disabled: disabled inactive",
        // The configuration survives a removal, and the audit everything.
        "routed: 1 : > /etc/postfix/firstclick && postfix reload && postqueue -f",
        "removed: 0 inactive 0 4",
        "the socket: active listens: smtp.listen 127.0.0.1:2525",
        "and back: active unchanged",
        "taken out of Postfix: 0",
        "purged: 0 inactive 0",
        "kept: 1 1 /var/lib/firstclick /var/log/firstclick",
        "without an audit: 0 0",
    ] {
        assert!(said.lines().any(|line| line.starts_with(words)), "{words}:\n{said}");
    }
}

/// A machine's name goes into the configuration that the package makes, where it is one that the program takes and others may know.
#[test]
fn the_configuration_is_made_with_a_name_that_is_one() {
    let read = |name: &str| fs::read_to_string(project().join("deploy/files").join(name)).unwrap();
    for (name, taken) in [
        ("mx.corp.example", true),
        ("MX-1.corp.example", true),
        ("a.b.c.xn--p1ai", true),
        ("", false),
        ("vm", false),
        ("localhost", false),
        ("localhost.localdomain", false),
        ("1", false),
        ("192.0.2.1", false),
        ("::1", false),
        ("mx_1.corp.example", false),
        ("-mx.corp.example", false),
        ("mx.corp.example.", false),
        ("mx..example", false),
        ("m\u{fc}x.corp.example", false),
        ("a/b&c.example", false),
        (&format!("{}.example", "a".repeat(64)), false),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let etc = folder.path().join("firstclick");
        let files = project().join("deploy/files");
        let script = read("prepare.sh")
            .replace("/etc/firstclick", &etc.display().to_string())
            .replace("/usr/share/firstclick", &files.display().to_string())
            .replace("-o root -g firstclick", "")
            .replace("systemd-sysusers firstclick.conf", "");
        let script = format!("set -e\nhostname() {{ printf '%s' \"$NAME\"; }}\n{script}");
        for _ in 0..2 {
            run(Command::new("sh").args(["-c", &script]).env("NAME", name));
        }
        let file = etc.join("firstclick.toml");
        let made = fs::read_to_string(&file).unwrap();
        let expected = if taken { name } else { "firstclick.localdomain" };
        assert_eq!(made, read("firstclick.toml").replace("firstclick.localdomain", expected), "{name:?}");
        assert_eq!(fs::read_dir(&etc).unwrap().count(), 2);
        // The rest of the configuration is for a machine with keys.
        let told = format!("[smtp]\n{}\n", made.lines().find(|line| line.starts_with("hostname")).unwrap());
        fs::write(&file, told).unwrap();
        let said = Command::new(program()).arg("--config").arg(&file).arg("check").output().unwrap();
        assert!(!String::from_utf8_lossy(&said.stderr).contains("hostname"), "{name:?}: {said:?}");
    }
}

/// Purge takes by name what the package made: an audit stays wherever it is, with what proves it, and so does whatever is the admin's.
#[test]
fn purge_touches_no_audit_and_nothing_of_the_admins() {
    let made = [
        "etc/firstclick/firstclick.toml",
        "etc/firstclick/tag.token",
        "etc/firstclick/allow.d/vendor.toml",
        "var/lib/firstclick/links/2026/1",
    ];
    for stays in [
        &[][..],
        &["var/log/firstclick/audit-20261126.jsonl", "var/lib/firstclick/audit.head"],
        &["var/lib/firstclick/audit/audit-20261126.jsonl.gz", "var/lib/firstclick/audit.head"],
        // An audit elsewhere.
        &["var/lib/firstclick/audit.head", "etc/firstclick/chain.key"],
        &["etc/firstclick/certificate.pem", "etc/firstclick/allow.d/README", "etc/firstclick/firstclick.toml.mine"],
    ] {
        let (root, said) = purged(&[&made[..], stays].concat(), &[]);
        let at = |name: &str| root.path().join(name);
        assert!(!made.iter().any(|name| at(name).exists()), "{said}");
        assert!(stays.iter().all(|name| at(name).exists()), "{stays:?}: {said}");
        for folder in ["etc/firstclick", "var/lib/firstclick", "var/log/firstclick"] {
            let kept = stays.iter().any(|name| name.starts_with(folder));
            assert_eq!((at(folder).exists(), said.contains(&format!("{folder} is kept"))), (kept, kept), "{stays:?}: {said}");
        }
        assert_eq!(said.contains("the audit is kept"), stays.iter().any(|name| name.contains("audit")), "{said}");
    }
    // What is behind a link is somebody's own.
    let rules = ["srv/rules/acme.toml", "srv/conf/firstclick.toml", "etc/firstclick/tag.key"];
    let (root, said) = purged(&rules, &[("srv/rules", "etc/firstclick/allow.d")]);
    assert!(root.path().join(rules[0]).exists() && !root.path().join(rules[2]).exists(), "{said}");
    let (root, said) = purged(&rules[..2], &[("srv/conf", "etc/firstclick"), ("srv/rules", "var/log/firstclick")]);
    assert!(rules[..2].iter().all(|name| root.path().join(name).exists()), "{said}");
}

/// A root with these files and links after a purge, twice, and what that said at first.
fn purged(files: &[&str], links: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let root = tempfile::TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    for name in files {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "").unwrap();
    }
    for (to, link) in links {
        fs::create_dir_all(at(link).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(at(to), at(link)).unwrap();
    }
    let place = root.path().display();
    let script = fs::read_to_string(project().join("deploy/debian/postrm")).unwrap();
    let script = ["/etc/", "/var/", "/run/"].into_iter().fold(script, |script, folder| script.replace(folder, &format!("{place}{folder}")));
    let purge = || run(Command::new("sh").args(["-c", &script, "postrm", "purge"]));
    let said = purge();
    purge();
    (root, said)
}

#[test]
fn the_debian_package_is_one_that_lintian_takes() {
    if needs("lintian").is_none() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    run(Command::new(project().join("deploy/debian/build")).arg(stripped(folder.path())).arg(folder.path()));
    let package = built(folder.path(), "deb");
    let said = Command::new("lintian").args(["--fail-on", "error,warning"]).arg(package).output().unwrap();
    let said_text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{said_text}{}", String::from_utf8_lossy(&said.stderr));
}

/// Unpacks an image as a container runtime does, into `ROOM/root`; returns what it says of itself.
fn unpacked(room: &Path) -> serde_json::Value {
    let (image, layout, root) = (room.join("image"), room.join("layout"), room.join("root"));
    run(Command::new(project().join("deploy/container/build")).arg(stripped(room)).arg(&image).env("LEVEL", "-1"));
    let archive = fs::read_dir(&image).unwrap().next().unwrap().unwrap().path();
    fs::create_dir(&layout).unwrap();
    fs::create_dir(&root).unwrap();
    run(Command::new("tar").arg("-C").arg(&layout).arg("-xf").arg(archive));
    let blob = |digest: &serde_json::Value| layout.join("blobs").join(digest["digest"].as_str().unwrap().replace(':', "/"));
    let read = |path: PathBuf| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let manifest = read(blob(&read(layout.join("index.json"))["manifests"][0]));
    for layer in manifest["layers"].as_array().unwrap() {
        let sum = run(Command::new("sha256sum").arg(blob(layer)));
        assert!(layer["digest"].as_str().unwrap().ends_with(&sum[..64]) && layer["size"] == fs::metadata(blob(layer)).unwrap().len());
        run(Command::new("tar").arg("-C").arg(&root).args(["--numeric-owner", "-xpzf"]).arg(blob(layer)));
    }
    let config = read(blob(&manifest["config"]));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), manifest["layers"].as_array().unwrap().len());
    config["config"].clone()
}

#[test]
fn the_image_listens_outside_as_any_user_on_a_read_only_root_and_drains() {
    if needs("pgrep").is_none() || needs("ip").is_none() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return missing("root, to run an image as a container runtime does");
    }
    let room = tempfile::TempDir::new().unwrap();
    let config = unpacked(room.path());
    let lines = |keys: &[&str]| {
        keys.iter().flat_map(|key| config[key].as_array().unwrap()).fold(String::new(), |mut all, word| {
            writeln!(all, "{}", word.as_str().unwrap()).unwrap();
            all
        })
    };
    fs::write(room.path().join("environment"), lines(&["Env"])).unwrap();
    fs::write(room.path().join("command"), lines(&["Entrypoint", "Cmd"])).unwrap();
    let steps = project().join("tests/tools/image-steps.sh");
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "120", "unshare", "--mount-proc", "--net", "--pid", "--fork", "--kill-child", "bash"]);
    let status = command.arg(steps).arg(room.path()).status().unwrap();
    let read = |name: &str| fs::read_to_string(room.path().join(name)).unwrap_or_default();
    let (said, log) = (read("said"), read("log"));
    assert!(status.success() && said.ends_with("end\n"), "{status}: {said}{log}");
    for words in [
        "health before: exit 1",
        "health: ready",
        "keys: volume-lib/tag.key 4711:0:640 volume-lib/tag.token 4711:0:640",
        "read-only: 1",
        "session: 220 250 250 250 354",
        "in the middle of a stop: 250",
        "exit: 0",
        "audit: 1",
    ] {
        assert!(said.lines().any(|line| line.starts_with(words)), "{words}:\n{said}{log}");
    }
}

#[test]
fn the_rpm_says_what_it_does() {
    if needs("rpmbuild").is_none() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let build = project().join("deploy/rpm/build");
    run(Command::new(build).arg(stripped(folder.path())).arg(folder.path()).env("PAYLOAD", "w1.gzdio"));
    let package = built(folder.path(), "rpm");
    let said = run(Command::new("rpm").args(["-qlp", "--scripts", "--requires"]).arg(package));
    for words in [
        "/usr/bin/firstclick",
        "/usr/lib/systemd/system/firstclick-keys.service",
        "/usr/share/firstclick/firstclick.toml",
        "systemd-sysusers firstclick.conf",
        "systemctl try-restart firstclick.service",
        "libc.so.6(GLIBC_2.34)(64bit)",
    ] {
        assert!(said.lines().any(|line| line.starts_with(words)), "{words}:\n{said}");
    }
    assert!(!said.contains('@') && !said.lines().any(|line| line.starts_with("/etc")), "nothing of the admin's is the package's: {said}");
}

/// Or all dependencies are built once more for them.
#[test]
fn the_fuzz_targets_are_built_with_the_same_versions() {
    let versions = |file: &str| {
        let lock: toml::Table = fs::read_to_string(project().join(file)).unwrap().parse().unwrap();
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for package in lock["package"].as_array().unwrap() {
            let text = |key: &str| package[key].as_str().unwrap().to_owned();
            found.entry(text("name")).or_default().insert(text("version"));
        }
        found
    };
    let (ours, theirs) = (versions("Cargo.lock"), versions("fuzz/Cargo.lock"));
    let differ: Vec<String> = theirs
        .iter()
        .filter_map(|(name, versions)| {
            let own = ours.get(name)?;
            let help =
                || format!("cargo update --manifest-path fuzz/Cargo.toml -p {name} --precise {}", Vec::from_iter(own.clone()).join(" "));
            (!versions.is_subset(own)).then(help)
        })
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
