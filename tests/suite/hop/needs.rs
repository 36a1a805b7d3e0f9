//! What a test needs that may not be on a machine: other programs, and the data that the project shares.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The program of a test that needs one; where it is missing, the test says so and is over. In CI nothing may be
/// missing.
pub(crate) fn needs(program: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|paths| {
        std::env::split_paths(&paths)
            .chain(["/usr/sbin".into(), "/usr/bin".into()])
            .map(|folder| folder.join(program))
            .find(|path| path.is_file())
    });
    if found.is_none() {
        missing(program);
    }
    found
}

/// Says that something is missing, and puts it on the list that `tests/summary.rs` prints last. In CI nothing may be missing.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI nothing may be missing: {what}");
    let mut list = fs::OpenOptions::new().create(true).append(true).open(SKIPPED).unwrap();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    io::Write::write_all(&mut list, format!("skipped: needs {what} ({test})\n").as_bytes()).unwrap();
}

/// What was skipped, line by line.
const SKIPPED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/skipped.txt");

/// Runs a script for dkimpy, another implementation; none where it is missing.
fn dkimpy(script: &str, arguments: &[&str], mail: &[u8]) -> Option<Vec<u8>> {
    let python = "/usr/bin/python3";
    let there = Command::new(python).args(["-c", "import dkim"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !there {
        missing("python3-dkim");
        return None;
    }
    let mut child = Command::new(python).args(["-c", script]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    io::Write::write_all(child.stdin.as_mut().unwrap(), mail).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

/// Whether dkimpy verifies a mail's signature with this key.
pub(crate) fn dkimpy_verifies(mail: &[u8], public_key: &str) -> Option<bool> {
    let script = r"
import sys, dkim
key = sys.argv[1].encode()
def txt(name, timeout=5):
    return b'v=DKIM1; k=rsa; p=' + key
print(dkim.verify(sys.stdin.buffer.read(), dnsfunc=txt))
";
    dkimpy(script, &[public_key], mail).map(|said| said.trim_ascii() == b"True")
}

/// Signs a mail of bank.test by dkimpy.
pub(crate) fn dkimpy_signs(mail: &str, private_key: &str, algorithm: &str) -> Option<Vec<u8>> {
    let script = r"
import sys, dkim
mail = sys.stdin.buffer.read()
fields = [b'from', b'to', b'subject', b'date', b'message-id', b'mime-version', b'content-type']
signature = dkim.sign(mail, b's1', b'bank.test', sys.argv[1].encode(), include_headers=fields, signature_algorithm=sys.argv[2].encode())
sys.stdout.buffer.write(signature + mail)
";
    dkimpy(script, &[private_key, algorithm], mail.as_bytes())
}

/// A file or folder of the shared data, which stands beside the project or where `FIRSTCLICK_SHARED` says; none, said, where it
/// is not at hand.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FIRSTCLICK_SHARED").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let found = Some(root.join(path)).filter(|path| path.exists());
    if found.is_none() {
        missing(&format!("../shared/{path}"));
    }
    found
}

/// The files of the shared corpus; none where it is not at hand.
pub(crate) fn corpus(folders: &[&str]) -> Option<Vec<PathBuf>> {
    let root = shared("corpus")?;
    let mut files = Vec::new();
    for folder in folders {
        files.extend(
            fs::read_dir(root.join(folder))
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|end| end == "eml")),
        );
    }
    files.sort();
    Some(files)
}
