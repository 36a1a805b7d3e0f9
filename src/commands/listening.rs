//! Where the service listens, as it says itself: `health` asks there, whatever was written into the configuration since.

use std::{
    env, fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::start::Sockets;
use crate::{
    milter::{self, Address},
    settings::Settings,
    smtp::server::Start,
};

/// The file's name, in the runtime directory that systemd gives, or else in its state directory, which a container has, too.
const NAME: &str = "listening.json";

/// The addresses of a service.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Listening {
    /// The configuration that it runs by.
    config: PathBuf,
    pub(super) admin: Option<SocketAddr>,
    pub(super) smtp: Vec<SocketAddr>,
    pub(super) smtp_tls: Vec<SocketAddr>,
    pub(super) milter: Vec<SocketAddr>,
    /// Sockets in the file system.
    pub(super) milter_sockets: Vec<PathBuf>,
    pub(super) guard: Option<SocketAddr>,
}

impl Listening {
    /// By a configuration.
    pub(super) fn by(settings: &Settings) -> Self {
        let mut listening = Self { admin: settings.admin, guard: settings.guard.as_ref().map(|guard| guard.listen), ..Self::default() };
        if let Some(smtp) = &settings.smtp {
            (listening.smtp, listening.smtp_tls) = (smtp.listen.clone(), smtp.listen_tls.clone());
        }
        for address in settings.milter.iter().flat_map(|milter| &milter.listen) {
            match address {
                Address::Inet(address) => listening.milter.push(*address),
                Address::Unix(path) => listening.milter_sockets.push(path.clone()),
            }
        }
        listening
    }

    /// Of the sockets that were bound; those of systemd may be others than the configuration's.
    pub(super) fn on(sockets: &Sockets, settings: &Settings) -> io::Result<Self> {
        let of = |socket: &Option<tokio::net::TcpListener>| socket.as_ref().map(tokio::net::TcpListener::local_addr).transpose();
        let mut listening = Self { admin: of(&sockets.admin)?, guard: of(&sockets.mails.guard)?, ..Self::default() };
        for listener in &sockets.mails.smtp {
            let list = if listener.start == Start::Tls { &mut listening.smtp_tls } else { &mut listening.smtp };
            list.push(listener.socket.local_addr()?);
        }
        for listener in &sockets.mails.milter {
            if let milter::Listener::Inet(socket) = listener {
                listening.milter.push(socket.local_addr()?);
            }
        }
        listening.milter_sockets = Self::by(settings).milter_sockets;
        Ok(listening)
    }

    /// Writes it where there is a place for it. Anybody may read it: a monitor is no member of the service's group.
    pub(super) fn keep(mut self, config: &Path) -> io::Result<()> {
        let Some(folder) = given("RUNTIME_DIRECTORY").or_else(|| given("STATE_DIRECTORY")) else { return Ok(()) };
        self.config = whole(config);
        let (file, next) = (folder.join(NAME), folder.join(format!("{NAME}.next")));
        fs::write(&next, serde_json::to_string(&self)?)?;
        fs::set_permissions(&next, fs::Permissions::from_mode(0o644))?;
        fs::rename(next, file)
    }

    /// What the service that was started by this configuration has written, if it has.
    pub(super) fn kept(config: &Path) -> Option<Self> {
        let usual = ["/run/firstclick", "/var/lib/firstclick"].map(PathBuf::from);
        let folders = [given("RUNTIME_DIRECTORY"), given("STATE_DIRECTORY")].into_iter().flatten().chain(usual);
        let read = |folder: PathBuf| serde_json::from_str::<Self>(&fs::read_to_string(folder.join(NAME)).ok()?).ok();
        folders.filter_map(read).find(|listening| listening.config == whole(config))
    }
}

/// The first of the folders that systemd names in a variable.
fn given(variable: &str) -> Option<PathBuf> {
    let folders = env::var_os(variable)?;
    env::split_paths(&folders).next().filter(|folder| !folder.as_os_str().is_empty())
}

fn whole(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
