//! Scanners that run here, each with a configuration folder of its own, on loopback.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
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
    pub(crate) async fn rspamd_asking(dns: SocketAddr, redis: SocketAddr, local: &[(&str, &str)]) -> Option<Self> {
        let binary = needs("rspamd").filter(|_| is_root())?;
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let root = folder.path();
        for name in ["local.d", "override.d", "db", "logs", "run"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        write("local.d/options.inc", &format!("dns {{ nameserver = [\"127.0.0.1:{}:1\"]; timeout = 1s; }}\n", dns.port()));
        // Its own list of top-level domains takes half a minute to compile, where that was never done.
        write("tld.dat", "com\n");
        write("override.d/options.inc", &format!("url_tld = \"{}\";\n", root.join("tld.dat").display()));
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

impl Program {
    /// Debian's amavis, that checks for spam with this folder of configuration and sends on.
    pub(crate) async fn amavis(rules: &Path, onward: SocketAddr, proxy: SocketAddr) -> Option<Self> {
        let binary = needs("amavisd").filter(|_| is_root())?;
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        // It runs as a user of its own, who must not be able to write its configuration.
        let user = fs::metadata("/var/lib/amavis").unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        chown(&state, Some(user.uid()), Some(user.gid())).unwrap();
        for path in [folder.path(), rules] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let config = folder.path().join("amavis.conf");
        let (here, rules) = (state.display(), rules.display());
        fs::write(
            &config,
            format!(
                "use strict;\n$max_servers = 1;\n$daemon_user = 'amavis';\n$daemon_group = 'amavis';\n$myhostname = 'mx.corp.example';\n\
                 $MYHOME = '{here}';\n$TEMPBASE = '{here}';\n$helpers_home = '{here}';\n$db_home = '{here}';\n$QUARANTINEDIR = undef;\n\
                 $pid_file = '{here}/pid';\n$lock_file = '{here}/lock';\n$enable_db = 0;\n$enable_zmq = 0;\n$do_syslog = 0;\n$LOGFILE = '{here}/log';\n\
                 $inet_socket_bind = '127.0.0.1';\n$inet_socket_port = [{port}];\n$forward_method = 'smtp:[127.0.0.1]:{}';\n\
                 @bypass_spam_checks_maps = (0);\n@bypass_virus_checks_maps = (1);\n@av_scanners = ();\n@decoders = ();\n\
                 $sa_tag_level_deflt = undef;\n$sa_kill_level_deflt = 99;\n@local_domains_maps = (['.corp.example', 'corp.example']);\n\
                 $sa_siteconfigpath = '{rules}';\n1;\n",
                onward.port()
            ),
        )
        .unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(config).arg("foreground").env("http_proxy", format!("http://{proxy}"));
        Some(Self::start("amavis", port, folder, &mut command).await)
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
