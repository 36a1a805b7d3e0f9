//! `run --dry-run --of PID`: whether this program would start in the place of the one that runs, as an upgrade asks it.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, anyhow};
use rustix::process::geteuid;

use super::{Answer, check};

/// Runs this program with the arguments, the environment and the folder of that process, as its user and with its groups.
pub(super) fn dry_run(pid: u32) -> anyhow::Result<Answer> {
    let process = Process::read(&Path::new("/proc").join(pid.to_string()))
        .map_err(|error| anyhow!("--of {pid}: no such process can be looked at: {error}"))?;
    let program = env::current_exe()?;
    env::set_current_dir(&process.folder).with_context(|| process.folder.display().to_string())?;
    if geteuid().is_root() {
        check::become_ids(process.user, process.group, &process.groups).with_context(|| format!("cannot become user {}", process.user))?;
    }
    let mut command = Command::new(program);
    command.args(process.arguments).arg("--dry-run").env_clear().envs(process.environment);
    let status = command.status()?;
    Ok(if status.code().is_some_and(|code| code == 0) { Answer::Yes } else { Answer::Mistaken })
}

/// What another start of a process is made of.
struct Process {
    /// Without the first word, which is the program's name and may be any.
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

impl Process {
    /// From its folder in /proc (proc(5)).
    fn read(about: &Path) -> io::Result<Self> {
        let words = |name: &str| -> io::Result<Vec<OsString>> {
            let mut octets = fs::read(about.join(name))?;
            if octets.last() == Some(&0) {
                octets.pop();
            }
            Ok(octets.split(|octet| *octet == 0).map(|word| OsString::from_vec(word.to_vec())).collect())
        };
        let pair = |word: OsString| {
            let octets = word.as_bytes();
            let at = octets.iter().position(|octet| *octet == b'=').filter(|at| *at > 0)?;
            let (name, value) = (octets.get(..at)?, octets.get(at + 1..)?);
            Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
        };
        let status = fs::read_to_string(about.join("status"))?;
        let numbers = |name: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().split_whitespace().filter_map(|number| number.parse().ok()).collect()
        };
        // Real, effective, saved and of files: a service that was started as a user has one.
        let first = |name: &str| numbers(name).first().copied().ok_or_else(|| io::Error::other(format!("status has no {name}")));
        Ok(Self {
            arguments: words("cmdline")?.into_iter().skip(1).collect(),
            environment: words("environ")?.into_iter().filter_map(pair).collect(),
            folder: fs::read_link(about.join("cwd"))?,
            user: first("Uid")?,
            group: first("Gid")?,
            groups: numbers("Groups"),
        })
    }
}
