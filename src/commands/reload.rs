//! Reading the configuration again while mails flow. What is wrong with the new one is said, and the old one stays.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{Config, authenticator, tagger};
use crate::{
    settings::{Identity, Settings},
    smtp::{Current, Front},
};

/// What a reload needs to know.
pub(super) struct Reload {
    pub(super) front: Arc<Front>,
    pub(super) config: Config,
    /// As it is asked now; where it stays, the resolver and its cache stay.
    pub(super) identity: Identity,
    pub(super) watched: Watched,
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
        files.extend(settings.tag.iter().flat_map(|tag| tag.files.clone()));
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
            Ok((current, settings)) => {
                for warning in &settings.warnings {
                    tracing::warn!("{warning}");
                }
                let entries = current.hall.policy.senders().len();
                self.front.replace(current);
                self.watched = Watched::of(self.config.path(), &settings);
                tracing::info!(entries, mode = ?settings.mode, "reloaded");
                self.identity = settings.identity;
            }
            Err(error) => {
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                tracing::error!(error = causes.join(": "), "not reloaded: the configuration from before stays in force");
            }
        }
    }

    fn compile(&self) -> anyhow::Result<(Current, Settings)> {
        let mut settings = self.config.load()?;
        let before = self.front.current();
        let Some(setup) = settings.smtp.clone() else { anyhow::bail!("[smtp] is gone; to stop the hop, stop the service") };
        for (key, changed) in [
            ("smtp.listen", setup.listen != before.setup.listen),
            ("smtp.listen_tls", setup.listen_tls != before.setup.listen_tls),
            ("smtp.bounds.memory", setup.bounds.memory != before.setup.bounds.memory),
            ("audit.directory", settings.audit.as_deref() != before.hall.audit.as_ref().map(crate::audit::Audit::folder)),
        ] {
            if changed {
                tracing::warn!(key, "this key has changed and takes effect at the next start");
            }
        }
        let same = settings.identity == self.identity && setup.hostname == before.setup.hostname;
        let asked =
            if same { Arc::clone(&before.hall.authenticator) } else { Arc::new(authenticator(&settings.identity, &setup.hostname)?) };
        let tagger = tagger(&settings, &setup.hostname);
        let policy = std::mem::take(&mut settings.policy);
        let hall = before.hall.refurnished(policy, asked, tagger, setup.inspect_limit);
        Ok((Current::new(setup, Arc::new(hall))?, settings))
    }
}
