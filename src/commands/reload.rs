//! Reads the configuration again while mails are being relayed. Mistakes in the new one are logged, and the old one stays in
//! force.
//!
//! All that can fail is done first; then mail path, guard page and audit change, one after another and none without the others.
//! What a reload cannot change is named, key by key, by the table in `settings::keys`.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Config, authenticator, digest::Plan, pipeline_config};
use crate::{
    http,
    link_store::LinkStore,
    milter,
    pipeline::Pipeline,
    readiness::{Readiness, Topic},
    settings::{Ended, Files, Identity, Settings, WrittenKeys, keys::Key},
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

/// The configuration in force, as far as a reload compares with it.
#[derive(Clone)]
pub(super) struct InForce {
    /// How identities are looked up; where it is unchanged, the resolver and its cache stay.
    identity: Identity,
    /// What was written when the configuration was read last.
    written: WrittenKeys,
    files: Files,
}

impl InForce {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { identity: settings.identity.clone(), written: settings.written.clone(), files: settings.files.clone() }
    }
}

/// Says what of a configuration stands in the way of the service.
pub(super) fn say_what_stands(readiness: &Readiness, settings: &Settings) {
    let unset = settings.smtp.as_ref().is_some_and(|smtp| smtp.next_hops.is_empty());
    let says = "none is set, so no mail can be taken; write smtp.next_hop, as in next_hop = \"scanner.corp.example:25\"";
    readiness.set(Topic::NextHopUnset, unset.then(|| says.to_owned()));
    if unset {
        tracing::warn!("no next hop is set: upstreams get 421 until smtp.next_hop is written");
    }
}

/// Reads the configuration again.
pub(super) struct Reload {
    servers: Servers,
    config: Config,
    in_force: InForce,
    /// What was written at the start, which still holds for keys that need a restart.
    started: WrittenKeys,
    /// What digests are made by.
    digests: Arc<ArcSwap<Plan>>,
}

/// A configuration that was read, with all made that can fail.
struct Prepared {
    smtp: Option<Snapshot>,
    guard: Option<http::Prepared>,
    pipeline: Arc<Pipeline>,
    digests: Plan,
    settings: Settings,
}

impl Reload {
    pub(super) fn new(servers: Servers, config: Config, in_force: InForce, digests: Arc<ArcSwap<Plan>>) -> Self {
        let started = in_force.written.clone();
        Self { servers, config, in_force, started, digests }
    }

    /// What stands in the way of the service.
    pub(super) fn readiness(&self) -> &Readiness {
        &self.servers.pipeline.shared.readiness
    }

    /// Whether a file of the configuration has changed since it was read or looked at.
    pub(super) fn has_changed(&mut self) -> bool {
        self.in_force.files.have_changed()
    }

    /// Reads everything again and puts it in force, or logs why not.
    pub(super) fn reload(&mut self) {
        let mut files = Files::default();
        let prepared = self.config.load_noting(&mut files).and_then(|settings| self.prepare(settings));
        let ended = if prepared.is_ok() { Ended::Well } else { Ended::Early };
        self.in_force.files.replace(files, ended);
        match prepared {
            Ok(prepared) => self.replace(prepared),
            Err(error) => {
                self.servers.pipeline.shared.metrics.reload(None);
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                let causes = causes.join(": ");
                self.servers.pipeline.shared.readiness.say(Topic::Reload, format!("the configuration from before is in force: {causes}"));
                tracing::error!(error = causes, "not reloaded: the configuration from before stays in force");
            }
        }
    }

    /// Makes all that can fail of a new configuration.
    fn prepare(&self, mut settings: Settings) -> anyhow::Result<Prepared> {
        let Servers { pipeline: before, hostname: known, .. } = &self.servers;
        for (section, was, is) in self.sections(&settings) {
            if was && !is {
                anyhow::bail!("[{section}] is gone; to stop serving it, restart the service");
            }
        }
        let had_one = self.servers.smtp.as_ref().is_some_and(|smtp| !smtp.snapshot().config.next_hops.is_empty());
        if had_one && settings.smtp.as_ref().is_some_and(|smtp| smtp.next_hops.is_empty()) {
            anyhow::bail!("smtp.next_hop is gone; to take no more mails, stop the service");
        }
        let hostname = settings.hostname().unwrap_or(known).to_owned();
        let same = settings.identity == self.in_force.identity && hostname == *known;
        let asked = if same {
            Arc::clone(&before.config.authenticator)
        } else {
            Arc::new(authenticator(&settings.identity, &hostname)?.reporting(Arc::clone(&before.shared.needs.dns)))
        };
        // The count of stored links, and the task that sweeps the store, stay.
        if let Some(links) = settings.guard.as_mut().and_then(|guard| guard.links.as_mut())
            && let Some(same) = before.config.link_store.as_ref().filter(|old| old.folder() == links.folder())
        {
            *links = Arc::clone(same);
        }
        let digests = Plan::of(&settings);
        let mut config = pipeline_config(&mut settings, asked, &hostname);
        config.inspect_limit = settings.inspect_limit().unwrap_or(before.config.inspect_limit);
        let pipeline = Arc::new(Pipeline::build(config, Arc::clone(&before.shared)));
        let smtp = settings.smtp.clone().filter(|_| self.servers.smtp.is_some());
        let smtp = smtp.map(|config| Snapshot::new(config, Arc::clone(&pipeline))).transpose()?;
        let guard = settings.guard.clone().filter(|_| self.servers.guard.is_some()).map(http::Server::prepare).transpose()?;
        Ok(Prepared { smtp, guard, pipeline, digests, settings })
    }

    /// Puts a prepared configuration in force; nothing here can fail.
    fn replace(&mut self, prepared: Prepared) {
        let Prepared { smtp, guard, pipeline, digests, settings } = prepared;
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        self.name_what_needs_a_restart(&settings);
        let entries = pipeline.config.allowlist.entries().len();
        say_what_stands(&pipeline.shared.readiness, &settings);
        // The page first: a link that is sealed by a new key is opened from its first moment on.
        if let Some((server, prepared)) = self.servers.guard.as_ref().zip(guard) {
            server.replace(prepared);
        }
        if let Some((server, snapshot)) = self.servers.smtp.as_ref().zip(smtp) {
            server.replace(snapshot);
        }
        if let Some(server) = &self.servers.milter {
            server.replace(Arc::clone(&pipeline));
        }
        if let Some(audit) = &pipeline.shared.audit {
            audit.key_by(settings.audit_keys.keys.first().cloned());
        }
        let swept = self.servers.pipeline.config.link_store.as_ref();
        if let Some(links) = pipeline.config.link_store.as_ref().filter(|links| !swept.is_some_and(|old| Arc::ptr_eq(old, links))) {
            tokio::spawn(LinkStore::keep_swept(Arc::downgrade(links)));
        }
        self.servers.pipeline = pipeline;
        self.digests.store(Arc::new(digests));
        if let Some(hostname) = settings.hostname() {
            hostname.clone_into(&mut self.servers.hostname);
        }
        super::show_policy(&self.servers.pipeline, settings.mode);
        self.servers.pipeline.shared.metrics.reload(Some(entries));
        self.servers.pipeline.shared.readiness.clear(Topic::Reload);
        tracing::info!(entries, mode = ?settings.mode, "reloaded");
        self.in_force.identity = settings.identity;
        self.in_force.written = settings.written;
    }

    /// Each server's section, whether it is served, and whether it stands in the configuration.
    fn sections(&self, settings: &Settings) -> [(&'static str, bool, bool); 3] {
        [
            ("smtp", self.servers.smtp.is_some(), settings.smtp.is_some()),
            ("milter", self.servers.milter.is_some(), settings.milter.is_some()),
            ("guard", self.servers.guard.is_some(), settings.guard.is_some()),
        ]
    }

    /// Names what has changed since the last reading and stays as it was at the start, each once.
    fn name_what_needs_a_restart(&self, settings: &Settings) {
        let sections = self.sections(settings);
        let is_new = |key: &Key| sections.iter().any(|(section, was, is)| *is && !was && key.section() == *section);
        let (last, now) = (&self.in_force.written, &settings.written);
        for (section, _, _) in sections.iter().filter(|(_, was, is)| *is && !was) {
            if last.has_section(section) {
                continue;
            }
            tracing::warn!(key = section, "this section is new and takes effect at the next start");
        }
        for key in last.needing_restart(now).filter(|key| !is_new(key)) {
            if self.started.says_the_same(key, now) {
                tracing::info!(key = key.path, "this key is again what it was at the start");
            } else {
                tracing::warn!(key = key.path, "this key has changed and takes effect at the next start");
            }
        }
    }
}
