//! Units and packages under a systemd that was booted for them, in an overlay of a root that vanishes with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::hop::{missing, needs, process::program};

/// For all steps; they take a minute and a half.
const PATIENCE: Duration = Duration::from_mins(3);

/// Takes the control groups away that a machine leaves behind, which are empty.
fn remove_groups(folder: &Path) {
    for below in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_groups(&below.path());
    }
    let _ = fs::remove_dir(folder);
}

/// What the steps said on a machine that was booted from this root, or none where no machine can be booted here. `prepare` puts into the
/// folder that is the machine's /out what the steps need.
pub(crate) fn booted(base: &Path, steps: &str, prepare: impl FnOnce(&Path)) -> Option<String> {
    needs("systemd-nspawn")?;
    if !rustix::process::geteuid().is_root() {
        missing("root, to boot a machine by systemd-nspawn");
        return None;
    }
    let room = tempfile::TempDir::new().unwrap();
    let name = format!("firstclick-{}-{steps}", std::process::id());
    fs::create_dir(room.path().join("out")).unwrap();
    prepare(&room.path().join("out"));
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let log = fs::File::create(room.path().join("log")).unwrap();
    let mut machine = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "bash"])
        .arg(here.join("tests/tools/systemd-boot.sh"))
        .arg(base)
        .arg(fs::canonicalize(program()).unwrap())
        .arg(here)
        .arg(here.join(format!("tests/tools/{steps}-steps.sh")))
        .arg(room.path())
        .arg(&name)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let code = loop {
        if let Some(status) = machine.try_wait().unwrap() {
            break status.code();
        }
        if start.elapsed() > PATIENCE {
            // The machine's processes end with it.
            machine.kill().unwrap();
            break machine.wait().unwrap().code();
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    for tree in ["systemd", "unified", ""] {
        remove_groups(&PathBuf::from("/sys/fs/cgroup").join(tree).join(&name));
    }
    if code == Some(77) {
        missing("a machine booted by systemd-nspawn, on an overlay of /");
        return None;
    }
    let read = |name: &str| fs::read_to_string(room.path().join(name)).unwrap_or_default();
    let said = read("out/said");
    assert!(said.ends_with("end\n"), "the steps did not come to their end: {said}\n{}\n{}", read("log"), read("out/log"));
    Some(said)
}

#[test]
fn the_units_under_a_booted_systemd() {
    let Some(said) = booted(Path::new("/"), "systemd", |_| ()) else { return };
    for words in [
        // The installation from source, by the documentation's own commands.
        "source: 0 active",
        "source: check 0 root:firstclick:640",
        "source: tail 0",
        // The units are what systemd understands.
        "verify 0",
        // A package is installed before it is configured: `systemctl start` returns, and the status says what is missing.
        "no next hop: start 0 active",
        "no next hop: takes no mails: next_hop: none is set",
        "not in the group: exit 2",
        "in the group: active firstclick:mta",
        // What a person must mend stays down.
        "mistake: exit 2",
        "mistake: failed, restarts 0",
        // What passes is tried again, longer than one start waits.
        "busy: restarts 1, last exit 0, waiting",
        "free: active",
        // The socket stays, and who connects meanwhile is served once the mistake is mended.
        "socket: active, service active",
        "restarted: active, service active",
        "failed: socket active",
        "mended: socket active, greeting 220",
    ] {
        assert!(said.lines().any(|line| line.starts_with(words)), "{words}:\n{said}");
    }
}
