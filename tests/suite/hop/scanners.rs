//! Scanners that run here, each with a configuration folder of its own, on loopback.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    needs,
    programs::{Program, free_port, is_root},
};

impl Program {
    pub(crate) async fn redis() -> Option<Self> {
        let binary = needs("redis-server")?;
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let mut command = Command::new(binary);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        command.arg("--dir").arg(folder.path());
        Some(Self::start("redis", port, folder, &mut command).await)
    }

    /// Debian's rspamd as it is shipped, with these files in `local.d`; it asks this DNS and no other.
    pub(crate) async fn rspamd(dns: SocketAddr, redis: SocketAddr, local: &[(&str, &str)]) -> Option<Self> {
        let binary = needs("rspamd").filter(|_| is_root())?;
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let root = folder.path();
        for name in ["local.d", "override.d", "db", "logs", "run"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        write("local.d/options.inc", &format!("dns {{ nameserver = [\"127.0.0.1:{}:1\"]; timeout = 1s; }}\n", dns.port()));
        write("local.d/redis.conf", &format!("servers = \"{redis}\";\n"));
        write("override.d/worker-normal.inc", &format!("bind_socket = \"127.0.0.1:{port}\"; count = 1;\n"));
        write("override.d/worker-controller.inc", &format!("bind_socket = \"127.0.0.1:{}\";\n", free_port()));
        write("override.d/worker-proxy.inc", &format!("bind_socket = \"127.0.0.1:{}\";\n", free_port()));
        write("override.d/fuzzy_check.conf", "enabled = false;\n");
        for (name, text) in local {
            write(&format!("local.d/{name}"), text);
        }
        let mut command = Command::new(binary);
        command.args(["-f", "-i", "-u", "root", "-g", "root", "-c", "/etc/rspamd/rspamd.conf"]);
        for (name, value) in [("LOCAL_CONFDIR", ""), ("DBDIR", "db"), ("LOGDIR", "logs"), ("RUNDIR", "run")] {
            command.arg(format!("--var={name}={}", root.join(value).display().to_string().trim_end_matches('/')));
        }
        Some(Self::start("rspamd", port, folder, &mut command).await)
    }
}

/// What a command makes of a mail.
pub(crate) fn fed(command: &mut Command, mail: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(mail).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Debian's `SpamAssassin`, with a folder of configuration, that asks the web through a proxy.
pub(crate) fn spamassassin(folder: &Path, proxy: SocketAddr, mail: &[u8]) -> Option<String> {
    let mut command = Command::new(needs("spamassassin")?);
    command.arg(format!("--siteconfigpath={}", folder.display())).args(["--test-mode", "--prefspath"]).arg(folder.join("user_prefs"));
    Some(fed(command.env("http_proxy", format!("http://{proxy}")).env("HOME", folder), mail))
}
