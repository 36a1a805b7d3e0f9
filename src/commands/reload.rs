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
    http,
    link_store::LinkStore,
    milter,
    pipeline::Pipeline,
    settings::{Identity, Settings},
    smtp::server::{Server, Snapshot},
};

/// The servers that are open, and the pipeline behind them.
pub(super) struct Servers {
    pub(super) smtp: Option<Arc<Server>>,
    pub(super) milter: Option<Arc<milter::Server>>,
    pub(super) guard: Option<Arc<http::Server>>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) hostname: String,
}

/// What a reload needs to know.
pub(super) struct Reload {
    pub(super) servers: Servers,
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
        if let Some(config) = &settings.smtp {
            files.extend(config.certificate.iter().flat_map(|files| [files.certificate.clone(), files.key.clone()]));
            files.extend(config.authorities.clone());
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
            Ok((snapshot, pipeline, settings)) => {
                for warning in &settings.warnings {
                    tracing::warn!("{warning}");
                }
                let entries = pipeline.allowlist.entries().len();
                if let Some((server, snapshot)) = self.servers.smtp.as_ref().zip(snapshot) {
                    server.replace(snapshot);
                }
                if let Some(server) = &self.servers.milter {
                    server.replace(Arc::clone(&pipeline));
                }
                if let Some((server, config)) = self.servers.guard.as_ref().zip(settings.guard.clone())
                    && let Err(error) = server.replace(config)
                {
                    tracing::error!(%error, "the guard page keeps its old config");
                }
                if let Some(audit) = &pipeline.audit {
                    audit.key_by(settings.audit_keys.keys.first().cloned());
                }
                if let Some(links) =
                    pipeline.links.as_ref().filter(|links| !self.servers.pipeline.links.as_ref().is_some_and(|old| Arc::ptr_eq(old, links)))
                {
                    tokio::spawn(LinkStore::keep_swept(Arc::downgrade(links)));
                }
                self.servers.pipeline = pipeline;
                if let Some(hostname) = settings.hostname() {
                    hostname.clone_into(&mut self.servers.hostname);
                }
                self.watched = Watched::of(self.config.path(), &settings);
                self.servers.pipeline.metrics.reload(Some(entries));
                tracing::info!(entries, mode = ?settings.mode, "reloaded");
                self.identity = settings.identity;
            }
            Err(error) => {
                self.servers.pipeline.metrics.reload(None);
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                tracing::error!(error = causes.join(": "), "not reloaded: the configuration from before stays in force");
            }
        }
    }

    fn compile(&self) -> anyhow::Result<(Option<Snapshot>, Arc<Pipeline>, Settings)> {
        let mut settings = self.config.load()?;
        let Servers { smtp: server, milter, guard, pipeline: before, hostname: known } = &self.servers;
        for (server, was, is) in [
            ("smtp", server.is_some(), settings.smtp.is_some()),
            ("milter", milter.is_some(), settings.milter.is_some()),
            ("guard", guard.is_some(), settings.guard.is_some()),
        ] {
            if was && !is {
                anyhow::bail!("[{server}] is gone; to close a server, restart the service");
            }
            if is && !was {
                tracing::warn!(key = server, "this section is new and takes effect at the next start");
            }
        }
        let snapshot = server.as_ref().map(|server| server.snapshot());
        let smtp = snapshot.as_ref().map(|snapshot| &snapshot.config).zip(settings.smtp.as_ref());
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
        // What the store has counted, and who sweeps it, goes on.
        if let Some(links) = settings.guard.as_mut().and_then(|guard| guard.links.as_mut())
            && let Some(same) = before.links.as_ref().filter(|old| old.folder() == links.folder())
        {
            *links = Arc::clone(same);
        }
        let links = settings.guard.as_ref().and_then(|guard| guard.links.clone());
        let guard_links = settings.guard.as_ref().map(|guard| Arc::clone(&guard.guard_links));
        let pipeline = before.reloaded(allowlist, asked, tagger, settings.inspect_limit().unwrap_or(before.inspect_limit));
        let pipeline = Arc::new(pipeline.with_guard(guard_links).storing_links(links).with_arc(settings.arc.clone()));
        let snapshot = match settings.smtp.clone().filter(|_| server.is_some()) {
            Some(config) => Some(Snapshot::new(config, Arc::clone(&pipeline))?),
            None => None,
        };
        Ok((snapshot, pipeline, settings))
    }
}
