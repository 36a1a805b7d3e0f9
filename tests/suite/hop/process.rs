//! The real program, with a configuration in a folder of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use tempfile::TempDir;

use super::poll;

/// The program: the one that was built with the tests or, as CI tries the release, the one that the environment names.
pub(crate) fn program() -> String {
    std::env::var("FIRSTCLICK_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_firstclick").to_owned())
}

/// A folder with a configuration.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    /// `smtp` is what stands in `[smtp]` besides listen and hostname; `rest` are further sections.
    pub(crate) fn new(smtp: &str, rest: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("allow.d")).unwrap();
        fs::write(folder.path().join("tag.token"), super::TOKEN).unwrap();
        fs::write(folder.path().join("tag.key"), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").unwrap();
        let made = Self { folder };
        made.configure(smtp, rest);
        made
    }

    pub(crate) fn configure(&self, smtp: &str, rest: &str) {
        let text = format!(
            "mode = \"enforce\"\nallow = \"allow.d\"\n[smtp]\nlisten = [\"127.0.0.1:0\"]\nhostname = \"hop.test\"\n{smtp}\n\
             [tag]\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n[audit]\ndirectory = \"audit\"\n{rest}\n"
        );
        fs::write(self.path("firstclick.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.path("audit")
    }

    pub(crate) async fn run(&self) -> Process {
        self.run_after("").await
    }

    /// The same, for one that does not listen for mails.
    pub(crate) async fn run_until(&self, words: &str) -> Process {
        let mut command = Command::new(program());
        command.arg("--config").arg(self.path("firstclick.toml")).arg("run").stdin(Stdio::null());
        Process::start_until(&mut command, words).await
    }

    /// Runs it from a shell that does this before.
    pub(crate) async fn run_after(&self, words: &str) -> Process {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", &format!("{words}\nexec \"$@\""), "bash", &program(), "--config"]).arg(self.path("firstclick.toml")).arg("run");
        Process::start(command.stdin(Stdio::null())).await
    }

    /// The command that runs it on a socket which is handed over, as systemd does.
    pub(crate) fn run_on(&self, socket: TcpListener) -> Command {
        let mut command = Command::new("/bin/bash");
        command
            .args(["-c", "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"", "bash"])
            .args([env!("CARGO_BIN_EXE_firstclick"), "--config"])
            .arg(self.path("firstclick.toml"))
            .arg("run")
            .stdin(Stdio::from(OwnedFd::from(socket)));
        command
    }

    /// The program with other arguments: what it printed, what it complained about, and its exit code.
    pub(crate) fn command(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        let mut command = Command::new(program());
        if !arguments.first().is_some_and(|name| ["demo", "keygen", "manual", "senders", "unwrap"].contains(name)) {
            command.arg("--config").arg(self.path("firstclick.toml"));
        }
        let output = command.args(arguments).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap(), output.status.code())
    }
}

/// A running firstclick. It is ended with the test.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub address: SocketAddr,
}

impl Process {
    pub(crate) async fn start(command: &mut Command) -> Self {
        Self::start_until(command, "listening").await
    }

    pub(crate) async fn start_until(command: &mut Command, words: &str) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut process = Self { child, log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let line = process.says(words).await;
        // A socket in the file system has no such address.
        process.address = line.split("address=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(process.address);
        process
    }

    /// The first line of the log that holds this.
    pub(crate) async fn says(&self, words: &str) -> String {
        poll(words, || self.log.lock().unwrap().iter().find(|line| line.contains(words)).cloned()).await
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit code, once it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let status = poll("the program's end", || self.child.try_wait().unwrap()).await;
        status.code()
    }

    /// Kilobytes of resident memory now, and at most so far.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().split(' ').next().unwrap().parse().unwrap()
        };
        (of("VmRSS:"), of("VmHWM:"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
