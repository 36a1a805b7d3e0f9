//! Reads the configuration again while mails are being relayed. Mistakes in the new one are logged, and the old one stays in
//! force.
//!
//! All that can fail is done first; then mail path, guard page and audit change, one after another and none without the others.
//! What a reload cannot change is named, key by key, by the table in `settings::keys`.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Config, Listed, authenticator, digest::Plan, pipeline_config, policy};
use crate::{
    http, limits,
    link_store::LinkStore,
    mail::record::PolicyBy,
    milter,
    pipeline::{Pipeline, Shared},
    readiness::{Readiness, Topic},
    settings::{Ended, Files, Identity, LeftOut, Policy, Settings, WrittenKeys, keys::Key},
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
    policy: Policy,
    /// What was written when the configuration was read last.
    written: WrittenKeys,
    files: Files,
    /// The files of the allowlist that are left out.
    left_out: Vec<LeftOut>,
}

impl InForce {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            identity: settings.identity.clone(),
            policy: settings.policy.clone(),
            written: settings.written.clone(),
            files: settings.files.clone(),
            left_out: settings.left_out.clone(),
        }
    }
}

/// Says what of a configuration stands in the way of the service: in the log, in the metrics and by `/readyz`. Files of `before`
/// that are left out for the same mistakes were logged then.
pub(super) fn say_what_stands(shared: &Shared, settings: &Settings, entries: usize, before: &[LeftOut]) {
    let (readiness, left_out) = (&shared.readiness, &settings.left_out);
    let unset = settings.smtp.as_ref().is_some_and(|smtp| smtp.next_hops.is_empty());
    let says = "none is set, so no mail can be taken; write smtp.next_hop, as in next_hop = \"scanner.corp.example:25\"";
    readiness.set(Topic::NextHopUnset, unset.then(|| says.to_owned()));
    if unset {
        tracing::warn!("no next hop is set: upstreams get 421 until smtp.next_hop is written");
    }
    shared.metrics.files_left_out(left_out.len());
    for one in left_out.iter().filter(|one| !before.contains(one)) {
        let mistakes = one.problems.to_string().replace('\n', "; ");
        tracing::error!(file = %one.file.display(), mistakes, "a file of the allowlist is left out");
    }
    let shown = left_out.iter().take(SHOWN).map(|one| one.problems.to_string().lines().next().unwrap_or_default().to_owned());
    let shown: Vec<String> = shown.collect();
    let sentence = format!("{} left out, `firstclick check` says why; {}", left_out.len(), shown.join("; "));
    readiness.set(Topic::AllowFiles, (!left_out.is_empty()).then_some(sentence));
    let takes_mails = settings.smtp.is_some() || settings.milter.is_some();
    let nothing = takes_mails && entries == 0;
    readiness.set(Topic::NoEntries, nothing.then(|| "none is in force, so all mails pass untouched".to_owned()));
    if nothing {
        tracing::warn!("no entry is in force: all mails pass untouched");
    }
}

/// Files that `/readyz` names.
const SHOWN: usize = 5;

/// Why the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody asked for it, who has saved what there is to save.
    Asked,
    /// A file has changed, and may be half saved.
    Changed,
    /// A file with a mistake has been left alone since the last look, or has changed for too long.
    Settled,
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
    /// Looks since a file of the allowlist was found with a mistake that may be half of a change.
    unsettled: u32,
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
        Self { servers, config, in_force, started, digests, unsettled: 0 }
    }

    /// What stands in the way of the service.
    pub(super) fn readiness(&self) -> &Readiness {
        &self.servers.pipeline.shared.readiness
    }

    /// Why it is to be read now, if it is, without anybody's asking.
    pub(super) fn look(&mut self) -> Option<Cause> {
        match (self.in_force.files.have_changed(), self.unsettled) {
            (false, 0) => None,
            (true, looks) if looks < limits::UNSETTLED_LOOKS => Some(Cause::Changed),
            (true | false, _) => Some(Cause::Settled),
        }
    }

    /// Reads everything again and puts it in force, or logs why not. A file of the allowlist with a mistake is left out, once it is
    /// not about to be saved whole.
    pub(super) fn reload(&mut self, cause: Cause) {
        let mut files = Files::default();
        let prepared = self.config.load_noting(&mut files).and_then(|settings| self.prepare(settings));
        let ended = if prepared.is_ok() { Ended::Well } else { Ended::Early };
        self.in_force.files.replace(files, ended);
        let is_half = |prepared: &Prepared| prepared.settings.left_out.iter().any(|one| !self.in_force.left_out.contains(one));
        if cause == Cause::Changed && prepared.as_ref().is_ok_and(is_half) {
            self.unsettled += 1;
            return;
        }
        self.unsettled = 0;
        match prepared {
            Ok(prepared) => self.replace(prepared),
            Err(error) => {
                let shared = &self.servers.pipeline.shared;
                shared.metrics.reload(None);
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                let pipeline = &self.servers.pipeline;
                // A mistake in the file of aliases is shown with its line.
                let causes = pipeline.config.pseudonyms.text(&causes.join(": "));
                policy::refused(pipeline, &self.in_force.policy, &first_mistake(&error));
                shared.readiness.say(Topic::Reload, format!("the configuration from before is in force: {causes}"));
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
        let page_moves = self.started.needing_restart(&settings.written).any(|key| key.path == "guard.listen");
        if self.servers.guard.is_none() || page_moves {
            // No mail leads to a page that is not there, or not at its place, before the next start.
            (config.guard_links, config.link_store) = (None, None);
        }
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
        say_what_stands(&pipeline.shared, &settings, entries, &self.in_force.left_out);
        policy::in_force(&pipeline, &settings.policy, &self.in_force.policy, settings.mode, PolicyBy::Reload);
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
            audit.key_by(settings.audit_keys.keys.clone());
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
        tracing::info!(entries, mode = settings.mode.code(), "reloaded");
        self.in_force.identity = settings.identity;
        self.in_force.policy = settings.policy;
        self.in_force.written = settings.written;
        self.in_force.left_out = settings.left_out;
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
        let new = sections.iter().filter(|(_, was, is)| *is && !was).map(|(section, ..)| format!("[{section}]"));
        let changed = self.started.needing_restart(now).filter(|key| !is_new(key)).map(|key| key.path.to_owned());
        let waiting: Vec<String> = new.chain(changed).collect();
        let sentence = format!("the next start puts in force: {}", waiting.join(", "));
        self.readiness().set(Topic::Restart, (!waiting.is_empty()).then_some(sentence));
    }
}

/// The first mistake of a configuration, or what else stands in its way.
fn first_mistake(error: &anyhow::Error) -> String {
    let first = error.downcast_ref::<Listed>().and_then(|Listed(problems)| problems.0.first());
    first.map_or_else(|| error.to_string(), ToString::to_string)
}
