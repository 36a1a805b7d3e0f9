//! Reading the configuration again while mails flow. What is wrong with the new one is said, and the old one stays.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{Config, authenticator, tagger};
use crate::{
    http, milter,
    pipeline::Hall,
    settings::{Identity, Settings},
    smtp::{Current, Front},
};

/// The doors that are open, and the hall behind them.
pub(super) struct Doors {
    pub(super) front: Option<Arc<Front>>,
    pub(super) milter: Option<Arc<milter::Door>>,
    pub(super) guard: Option<Arc<http::Door>>,
    pub(super) hall: Arc<Hall>,
    pub(super) hostname: String,
}

/// What a reload needs to know.
pub(super) struct Reload {
    pub(super) doors: Doors,
    pub(super) config: Config,
    /// As it is asked now; where it stays, the resolver and its cache stay.
    pub(super) identity: Identity,
    pub(super) watched: Watched,
    /// Where the admin page is.
    pub(super) admin: Option<SocketAddr>,
}

/// The files of a configuration, and what they looked like. Looking every few seconds works on every file system and
/// with every way in which editors, package managers and Kubernetes replace files.
#[derive(Debug)]
pub(super) struct Watched {
    files: Vec<PathBuf>,
    folder: Option<PathBuf>,
    seen: Vec<Look>,
}

/// A file as it looks from outside: which, when changed, how large.
type Look = (PathBuf, Option<(SystemTime, u64)>);

impl Watched {
    pub(super) fn of(config: &Path, settings: &Settings) -> Self {
        let mut files = vec![config.to_owned()];
        if let Some(setup) = &settings.smtp {
            files.extend(setup.certificate.iter().flat_map(|files| [files.certificate.clone(), files.key.clone()]));
            files.extend(setup.authorities.clone());
        }
        if let Some(guard) = &settings.guard {
            files.extend(guard.certificate.iter().flat_map(|files| [files.certificate.clone(), files.key.clone()]));
        }
        files.extend(settings.tag.iter().flat_map(|tag| tag.files.clone()));
        files.extend(settings.audit_keys.file.clone());
        files.extend(settings.aliases.clone());
        let mut watched = Self { files, folder: settings.allow.clone(), seen: Vec::new() };
        watched.seen = watched.look();
        watched
    }

    fn look(&self) -> Vec<Look> {
        let mut paths = self.files.clone();
        if let Some(folder) = &self.folder {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            paths.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "toml")));
        }
        paths.sort();
        let about = |path: &PathBuf| fs::metadata(path).ok().and_then(|about| Some((about.modified().ok()?, about.len())));
        paths.into_iter().map(|path| (path.clone(), about(&path))).collect()
    }
}

impl Reload {
    /// Whether a file of the configuration has changed since the last look.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = self.watched.look();
        let changed = now != self.watched.seen;
        self.watched.seen = now;
        changed
    }

    /// Reads everything again and puts it in place of the old, or says why not.
    pub(super) fn reload(&mut self) {
        match self.compile() {
            Ok((current, hall, settings)) => {
                for warning in &settings.warnings {
                    tracing::warn!("{warning}");
                }
                let entries = hall.allowlist.entries().len();
                if let Some((front, current)) = self.doors.front.as_ref().zip(current) {
                    front.replace(current);
                }
                if let Some(door) = &self.doors.milter {
                    door.replace(Arc::clone(&hall));
                }
                if let Some((door, setup)) = self.doors.guard.as_ref().zip(settings.guard.clone())
                    && let Err(error) = door.replace(setup)
                {
                    tracing::error!(%error, "the guard page keeps its old setup");
                }
                if let Some(audit) = &hall.audit {
                    audit.key_by(settings.audit_keys.keys.first().cloned());
                }
                self.doors.hall = hall;
                if let Some(hostname) = settings.hostname() {
                    hostname.clone_into(&mut self.doors.hostname);
                }
                self.watched = Watched::of(self.config.path(), &settings);
                self.doors.hall.metrics.reload(Some(entries));
                tracing::info!(entries, mode = ?settings.mode, "reloaded");
                self.identity = settings.identity;
            }
            Err(error) => {
                self.doors.hall.metrics.reload(None);
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                tracing::error!(error = causes.join(": "), "not reloaded: the configuration from before stays in force");
            }
        }
    }

    fn compile(&self) -> anyhow::Result<(Option<Current>, Arc<Hall>, Settings)> {
        let mut settings = self.config.load()?;
        let Doors { front, milter, guard, hall: before, hostname: known } = &self.doors;
        for (door, was, is) in [
            ("smtp", front.is_some(), settings.smtp.is_some()),
            ("milter", milter.is_some(), settings.milter.is_some()),
            ("guard", guard.is_some(), settings.guard.is_some()),
        ] {
            if was && !is {
                anyhow::bail!("[{door}] is gone; to close a door, restart the service");
            }
            if is && !was {
                tracing::warn!(key = door, "this section is new and takes effect at the next start");
            }
        }
        let current = front.as_ref().map(|front| front.current());
        let smtp = current.as_ref().map(|current| &current.setup).zip(settings.smtp.as_ref());
        for (key, changed) in [
            ("smtp.listen", smtp.is_some_and(|(old, new)| old.listen != new.listen)),
            ("smtp.listen_tls", smtp.is_some_and(|(old, new)| old.listen_tls != new.listen_tls)),
            ("smtp.bounds.memory", smtp.is_some_and(|(old, new)| old.bounds.memory != new.bounds.memory)),
            ("admin.listen", settings.admin != self.admin),
            ("audit.directory", settings.audit.as_deref() != before.audit.as_ref().map(crate::audit::Audit::folder)),
        ] {
            if changed {
                tracing::warn!(key, "this key has changed and takes effect at the next start");
            }
        }
        let hostname = settings.hostname().unwrap_or(known).to_owned();
        let same = settings.identity == self.identity && hostname == *known;
        let asked = if same { Arc::clone(&before.authenticator) } else { Arc::new(authenticator(&settings.identity, &hostname)?) };
        let tagger = tagger(&settings, &hostname);
        let allowlist = std::mem::take(&mut settings.allowlist);
        let sealer = settings.guard.as_ref().map(|guard| Arc::clone(&guard.sealer));
        let hall = before.refurnished(allowlist, asked, tagger, settings.inspect_limit().unwrap_or(before.inspect_limit));
        let hall = Arc::new(hall.guarded_by(sealer).sealing(settings.arc.clone()));
        let current = match settings.smtp.clone().filter(|_| front.is_some()) {
            Some(setup) => Some(Current::new(setup, Arc::clone(&hall))?),
            None => None,
        };
        Ok((current, hall, settings))
    }
}
