//! Other mail servers, run from private folders on free ports. `.ci/interop` lays them out.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{certificate::Authority, missing, needs, poll};

/// A running mail server; it ends with the test.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.name == "postfix" {
            let _ = Command::new("postfix").arg("-c").arg(self.folder.path().join("etc")).arg("stop").stderr(Stdio::null()).status();
        }
        // The programs end their own helpers when they are told to end; a child that was told so is waited for.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Nobody listens here now.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(super) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        missing("root, to start other mail servers");
    }
    root
}

/// Something that `.ci/interop` lays out.
fn laid_out(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop").join(path);
    if !path.exists() {
        missing(&format!("{}; `.ci/interop` lays it out", path.display()));
        return None;
    }
    Some(path)
}

impl Program {
    pub(super) async fn start(name: &'static str, port: u16, folder: TempDir, command: &mut Command) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let program = Self { name, address, child, folder };
        poll(&format!("{name} listens; its log: {}", program.folder.path().join("log").display()), || {
            // A connection that met itself is nobody's.
            TcpStream::connect(address).ok().filter(|stream| stream.local_addr().is_ok_and(|local| local != address))
        })
        .await;
        program
    }

    pub(crate) fn log(&self) -> String {
        ["log", "maillog", "mainlog"].iter().filter_map(|name| fs::read_to_string(self.folder.path().join(name)).ok()).collect()
    }

    /// What stands in a file of its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs what an admin types to change this Postfix; `postfix` and `postconf` are its own then.
    pub(crate) fn postfix_admin(&self, shell: &str) -> String {
        let output = Command::new("sh")
            .args(["-ec", shell])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("MAIL_CONFIG", self.folder.path().join("etc"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{shell}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Postfix that sends everything on to `onward`; `no@d.test` it refuses.
    pub(crate) async fn postfix(onward: SocketAddr, more: &str) -> Option<Self> {
        Self::postfix_with(onward, more, "").await
    }

    /// The same with further services in master.cf.
    pub(crate) async fn postfix_with(onward: SocketAddr, more: &str, services_too: &str) -> Option<Self> {
        needs("postfix")?;
        if !is_root() {
            return None;
        }
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let root = folder.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["etc", "queue", "data"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        assert!(Command::new("chown").arg("postfix").arg(root.join("data")).status().unwrap().success());
        let here = root.display();
        fs::write(
            root.join("etc/main.cf"),
            format!(
                "compatibility_level = 3.7\nqueue_directory = {here}/queue\ndata_directory = {here}/data\nmail_owner = postfix\nsetgid_group = postdrop\n\
                 myhostname = postfix.test\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmydestination =\nlocal_recipient_maps =\n\
                 relayhost = [127.0.0.1]:{}\nmynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\n\
                 smtpd_recipient_restrictions = check_recipient_access inline:{{{{no@d.test = 550 5.1.1 no such user}}}}\n\
                 maillog_file = {here}/maillog\nmaillog_file_prefixes = /\ndisable_dns_lookups = yes\nsmtpd_peername_lookup = no\n\
                 smtpd_client_event_limit_exceptions = static:all\nsmtp_connection_cache_on_demand = yes\nsmtp_tls_security_level = none\n\
                 smtpd_tls_security_level = none\nalias_maps =\nsmtputf8_enable = yes\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\n{more}\n",
                onward.port()
            ),
        )
        .unwrap();
        let services = "pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\ntlsmgr unix - - n 1000? 1 tlsmgr\n\
                        rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\n\
                        verify unix - - n - 1 verify\nproxymap unix - - n - - proxymap\nsmtp unix - - n - 50 smtp\nrelay unix - - n - 50 smtp\n\
                        error unix - - n - - error\nretry unix - - n - - error\ndiscard unix - - n - - discard\nanvil unix - - n - 1 anvil\n\
                        scache unix - - n - 1 scache\npostlog unix-dgram n - n - 1 postlogd\n";
        fs::write(root.join("etc/master.cf"), format!("127.0.0.1:{port} inet n - n - 100 smtpd\n{services}{services_too}")).unwrap();
        let etc = root.join("etc");
        Some(Self::start("postfix", port, folder, Command::new("postfix").arg("-c").arg(etc).arg("start-fg")).await)
    }

    /// The settings by which Postfix offers STARTTLS.
    pub(crate) fn postfix_with_tls(authority: &Authority) -> String {
        let files = authority.issue("localhost");
        format!(
            "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}",
            files.certificate.display(),
            files.key.display()
        )
    }

    pub(crate) async fn exim(onward: SocketAddr) -> Option<Self> {
        let onward = format!(
            "onward:\n  driver = smtp\n  user = nobody\n  port = {}\n  allow_localhost = true\n  hosts_try_fastopen =\n",
            onward.port()
        );
        Self::exim_with("onward:\n  driver = manualroute\n  route_list = * 127.0.0.1\n  transport = onward\n  self = send\n", &onward).await
    }

    /// The same with these routers and transports.
    pub(crate) async fn exim_with(routers: &str, transports: &str) -> Option<Self> {
        let binary = laid_out("exim4-daemon-light/usr/sbin/exim4")?;
        if !is_root() {
            return None;
        }
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let config = folder.path().join("exim.conf");
        let here = folder.path().display();
        fs::write(
            &config,
            format!(
                "primary_hostname = exim.test\nexim_path = {}\nlocal_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\nspool_directory = {here}/spool\n\
                 log_file_path = {here}/%slog\nexim_user = root\nexim_group = root\nnever_users =\ntls_advertise_hosts =\nsmtputf8_advertise_hosts = *\n\
                 dsn_advertise_hosts = *\nacl_smtp_rcpt = rcpt\nacl_smtp_data = all\nacl_smtp_mail = all\n\
                 begin acl\nrcpt:\n  deny local_parts = no\n       message = no such user\n  require verify = recipient\n  accept\nall:\n  accept\n\
                 begin routers\n{routers}begin transports\n{transports}begin retry\n* * F,1h,1s\n",
                binary.display(),
            ),
        )
        .unwrap();
        fs::create_dir(folder.path().join("spool")).unwrap();
        Some(Self::start("exim", port, folder, Command::new(binary).arg("-C").arg(config).args(["-bdf", "-q1s"])).await)
    }

    pub(crate) async fn opensmtpd(onward: SocketAddr) -> Option<Self> {
        let binary = laid_out("opensmtpd/usr/sbin/smtpd")?;
        if !is_root() {
            return None;
        }
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let config = folder.path().join("smtpd.conf");
        let onward = onward.port();
        fs::write(
            &config,
            format!(
                "listen on 127.0.0.1 port {port} hostname opensmtpd.test\naction \"onward\" relay host smtp://127.0.0.1:{onward}\n\
                 match from any for rcpt-to \"no@d.test\" reject\nmatch from any for any action \"onward\"\n"
            ),
        )
        .unwrap();
        // It has its spool's place built in: in a mount namespace of its own, the folder that stands there is this test's, so
        // that no mail of an earlier run is in the queue.
        let spool = folder.path().join("spool");
        fs::create_dir(&spool).unwrap();
        fs::set_permissions(&spool, fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", r#"mount --bind "$1" /var/spool/smtpd && exec "$2" -d -f "$3""#, "sh"]);
        Some(Self::start("opensmtpd", port, folder, command.arg(spool).arg(binary).arg(config)).await)
    }

    /// Sendmail that asks a milter, and then sends everything on.
    pub(crate) async fn sendmail(onward: SocketAddr, milter: SocketAddr) -> Option<Self> {
        let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sendmail/firstclick.mc")).unwrap();
        Self::sendmail_with(onward, &shipped.replace("inet:8891@127.0.0.1", &format!("inet:{}@127.0.0.1", milter.port()))).await
    }

    /// Sendmail with these lines in sendmail.mc that sends on all that they say nothing about.
    pub(crate) async fn sendmail_with(onward: SocketAddr, more: &str) -> Option<Self> {
        let binary = laid_out("sendmail-bin/usr/libexec/sendmail/sendmail")?;
        let macros = laid_out("sendmail-cf/usr/share/sendmail/cf")?;
        needs("m4")?;
        if !is_root() {
            return None;
        }
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let here = folder.path().display();
        let source = format!(
            "divert(0)dnl\nOSTYPE(`linux')dnl\ndefine(`confDOMAIN_NAME', `sendmail.test')dnl\ndefine(`QUEUE_DIR', `{here}/queue')dnl\n\
             define(`confPID_FILE', `{here}/pid')dnl\ndefine(`confRUN_AS_USER', `root')dnl\ndefine(`confDELIVERY_MODE', `background')dnl\n\
             define(`ALIAS_FILE', `')dnl\nFEATURE(`nocanonify')dnl\nFEATURE(`promiscuous_relay')dnl\nFEATURE(`accept_unqualified_senders')dnl\n\
             FEATURE(`accept_unresolvable_domains')dnl\nFEATURE(`no_default_msa')dnl\ndefine(`SMART_HOST', `relay:[127.0.0.1]')dnl\n\
             define(`RELAY_MAILER_ARGS', `TCP $h {}')dnl\nDAEMON_OPTIONS(`Family=inet, Name=MTA, Addr=127.0.0.1, Port={port}')dnl\n\
             {more}MAILER(`smtp')dnl\n",
            onward.port()
        );
        fs::create_dir(folder.path().join("queue")).unwrap();
        fs::write(folder.path().join("sendmail.mc"), source).unwrap();
        let compiled = Command::new("m4")
            .arg(format!("-D_CF_DIR_={}/", macros.display()))
            .arg(macros.join("m4/cf.m4"))
            .arg(folder.path().join("sendmail.mc"))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let config = folder.path().join("sendmail.cf");
        fs::write(&config, compiled.stdout).unwrap();
        // It sleeps for a minute where this machine's name has no dot: it gets a name of its own.
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-c", r#"hostname sendmail.test && exec "$1" -bD -C "$2""#, "sh"]);
        Some(Self::start("sendmail", port, folder, command.arg(binary).arg(config)).await)
    }

    /// Debian's rspamd, as a milter that adds its results, with further files in local.d.
    pub(crate) async fn rspamd(local: &[(&str, &str)]) -> Option<Self> {
        needs("rspamd")?;
        if !is_root() {
            return None;
        }
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let here = folder.path().display();
        fs::create_dir(folder.path().join("local.d")).unwrap();
        let own = [
            (
                "worker-proxy.inc",
                format!("bind_socket = \"127.0.0.1:{port}\";\nupstream \"local\" {{ default = yes; self_scan = yes; }}\n"),
            ),
            ("worker-normal.inc", "enabled = false;\n".into()),
            ("worker-controller.inc", "enabled = false;\n".into()),
            ("worker-fuzzy.inc", "enabled = false;\n".into()),
            // Nobody is asked outside of this machine.
            ("rbl.conf", "enabled = false;\n".into()),
            ("fuzzy_check.conf", "enabled = false;\n".into()),
            (
                "options.inc",
                format!(
                    "dns {{ nameserver = [\"127.0.0.1:1\"]; timeout = 0.1s; retransmits = 1; }}\ncontrol_socket = \"{here}/control mode=0600\";\nurl_tld = \"{here}/suffixes\";\n"
                ),
            ),
            ("logging.inc", "type = \"console\";\nlevel = \"info\";\n".into()),
            ("milter_headers.conf", "use = [\"x-spamd-bar\"];\nskip_local = false;\n".into()),
        ];
        fs::write(folder.path().join("suffixes"), "test\nexample\n").unwrap();
        for (name, text) in own.iter().map(|(name, text)| (*name, text.as_str())).chain(local.iter().copied()) {
            fs::write(folder.path().join("local.d").join(name), text).unwrap();
        }
        let mut command = Command::new("rspamd");
        command.args(["-f", "-i", "-c", "/etc/rspamd/rspamd.conf"]);
        for place in ["LOCAL_CONFDIR", "DBDIR", "RUNDIR", "LOGDIR"] {
            command.arg(format!("--var={place}={here}"));
        }
        Some(Self::start("rspamd", port, folder, &mut command).await)
    }

    pub(crate) async fn haraka(onward: SocketAddr) -> Option<Self> {
        let binary = laid_out("haraka/node_modules/.bin/haraka")?;
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let root = folder.path().join("haraka");
        assert!(Command::new(&binary).arg("-i").arg(&root).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        let write = |name: &str, text: String| fs::write(root.join(name), text).unwrap();
        fs::create_dir_all(root.join("plugins")).unwrap();
        write("config/smtp.ini", format!("listen=127.0.0.1:{port}\nnodes=0\n"));
        write("config/plugins", "rcpt_all\nqueue/smtp_forward\n".into());
        write("config/smtp_forward.ini", format!("host=127.0.0.1\nport={}\nenable_outbound=false\n", onward.port()));
        write("config/me", "haraka.test\n".into());
        write("config/loglevel", "WARN\n".into());
        write("config/databytes", "52428800\n".into());
        write(
            "plugins/rcpt_all.js",
            "exports.hook_rcpt = function (next, c, params) { params[0].user === 'no' ? next(DENY, 'no such user') : next(OK) }\n".into(),
        );
        Some(Self::start("haraka", port, folder, Command::new(binary).arg("-c").arg(root)).await)
    }
}
