//! The hops that are measured: `HAProxy`, which only moves octets, Postfix as a before-queue proxy, and firstclick.

use std::{
    collections::HashSet,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::load::reachable;

/// Milliseconds of a tick of /proc: `USER_HZ` is 100 on every Linux that matters here.
const TICK: u64 = 10;

/// A program between the upstreams and the next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    HaProxy,
    Postfix,
    Firstclick { name: String, program: PathBuf },
}

/// One that runs; it ends when this is dropped.
pub(crate) struct Running {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Peer {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::HaProxy => "HAProxy",
            Self::Postfix => "Postfix, before-queue proxy",
            Self::Firstclick { name, .. } => name,
        }
    }

    /// Whether it can run here.
    pub(crate) fn is_here(&self) -> bool {
        match self {
            Self::HaProxy => Command::new("haproxy").arg("-v").output().is_ok(),
            Self::Postfix => Command::new("postconf").arg("-d").output().is_ok() && rustix::process::getuid().is_root(),
            Self::Firstclick { .. } => true,
        }
    }

    /// Starts it in front of a next hop; `settings` are lines of firstclick's `[smtp]`.
    pub(crate) async fn start(&self, sink: SocketAddr, settings: &str) -> Running {
        let folder = TempDir::new().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = match self {
            Self::HaProxy => haproxy(folder.path(), address, sink),
            Self::Postfix => postfix(folder.path(), address, sink),
            Self::Firstclick { program, .. } => firstclick(folder.path(), program, (address, sink), settings),
        };
        // The log is on, as it is in service, and read by nobody.
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).process_group(0).spawn().unwrap();
        reachable(address).await;
        Running { child, address, folder }
    }
}

impl Running {
    /// Processor time of the program and of all that it started, those that have ended included.
    pub(crate) fn cpu(&self) -> Duration {
        let mut ticks = 0;
        for process in self.processes() {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
            ticks += fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
        Duration::from_millis(ticks * TICK)
    }

    /// Memory of the program now and at its highest, in kB.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        (kilobytes("VmRSS:"), kilobytes("VmHWM:"))
    }

    fn processes(&self) -> HashSet<u32> {
        let mut found = HashSet::from([self.child.id()]);
        let mut pending = vec![self.child.id()];
        while let Some(process) = pending.pop() {
            for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                let children = children.split_whitespace().filter_map(|child| child.parse().ok());
                pending.extend(children.filter(|child| found.insert(*child)));
            }
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        let ended = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            self.child.try_wait().ok().flatten().is_some()
        });
        if !ended {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = self.child.wait();
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        for line in log.lines().filter(|line| line.contains("ERROR")).take(3) {
            eprintln!("{line}");
        }
    }
}

fn write(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).unwrap();
    path
}

fn haproxy(folder: &Path, address: SocketAddr, sink: SocketAddr) -> Command {
    let text = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         frontend f\n bind {address}\n maxconn 4000\n default_backend b\nbackend b\n server s {sink}\n"
    );
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(write(folder.join("haproxy.cfg"), &text));
    command
}

fn postfix(folder: &Path, address: SocketAddr, sink: SocketAddr) -> Command {
    let shown = folder.display();
    for name in ["etc", "queue", "data"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    for (path, mode) in [(folder.to_owned(), 0o755), (folder.join("etc"), 0o755)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    Command::new("chown").arg("postfix").arg(folder.join("data")).status().unwrap();
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {shown}/queue\ndata_directory = {shown}/data\nmyhostname = hop.test\n\
         inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmydestination =\nlocal_recipient_maps =\nrelayhost = [127.0.0.1]:{port}\n\
         mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\nmaillog_file = {shown}/log.postfix\n\
         maillog_file_prefixes = /\ndefault_process_limit = 200\ndisable_dns_lookups = yes\nsmtpd_peername_lookup = no\n\
         smtpd_client_event_limit_exceptions = static:all\nsmtpd_tls_security_level = none\nmessage_size_limit = 104857600\nalias_maps =\n",
        port = sink.port()
    );
    write(folder.join("etc/main.cf"), &main);
    let master = format!(
        "{address} inet n - n - 200 smtpd\n  -o smtpd_proxy_filter={sink}\n  -o smtpd_proxy_timeout=60\n\
         cleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\nproxymap unix - - n - - proxymap\nanvil unix - - n - 1 anvil\npostlog unix-dgram n - n - 1 postlogd\n"
    );
    write(folder.join("etc/master.cf"), &master);
    let _ = Command::new("postfix").arg("-c").arg(folder.join("etc")).arg("check").stderr(Stdio::null()).status();
    let mut command = Command::new("postfix");
    command.arg("-c").arg(folder.join("etc")).arg("start-fg");
    command
}

fn firstclick(folder: &Path, program: &Path, (address, sink): (SocketAddr, SocketAddr), settings: &str) -> Command {
    fs::create_dir(folder.join("allow.d")).unwrap();
    fs::create_dir(folder.join("audit")).unwrap();
    write(folder.join("tag.token"), "bench-token");
    write(folder.join("tag.key"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    write(
        folder.join("allow.d/reset.toml"),
        "from = [\"noreply@salesforce.com\"]\nowner = \"bench@corp.example\"\nreason = \"benchmark\"\nexpires = 2099-12-31\nlimit = \"unlimited\"\naction = \"tag\"\n\
         [links]\npassword_reset = [\"login.salesforce.com/secur/forgotpassword.jsp?c={token}&lang={word}\"]\n",
    );
    let text = format!(
        "mode = \"enforce\"\nallow = \"allow.d\"\n[smtp]\nlisten = [\"{address}\"]\nnext_hop = \"{sink}\"\nhostname = \"hop.test\"\n{settings}\
         [smtp.bounds]\nconnections = 4000\nconnections_per_address = 4000\n\
         [identity]\nverify = \"upstream\"\nauthserv_ids = [\"mx.corp.example\"]\ntrusted_upstreams = [\"127.0.0.0/8\"]\n\
         [tag]\nheader = \"X-Firstclick\"\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n[audit]\ndirectory = \"audit\"\n"
    );
    let mut command = Command::new(program);
    command.arg("--config").arg(write(folder.join("firstclick.toml"), &text)).arg("run");
    command
}
