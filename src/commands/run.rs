//! `run`: the service, from its start to its end.
//!
//! The configuration is read, the servers are bound, systemd is notified, and then the hop serves until SIGTERM or SIGINT, or
//! until a listener fails. SIGHUP, or a changed file, reads the configuration again.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use anyhow::bail;
use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Answer, Config, Listed, audit_config, authenticator,
    digest::{self, Plan},
    listening::Listening,
    pipeline_config, policy,
    reload::{Cause, InForce, Reload, Servers, say_what_stands},
    runtime, shared,
    start::{MailSockets, NotStarted, Patience, Sockets},
};
use crate::{
    audit::Audit,
    clock::{self, Stopwatch},
    http::{self, admin::Admin},
    identity::Authenticator,
    limits,
    link_store::LinkStore,
    mail::{Protocol, record::PolicyBy},
    milter,
    pipeline::{Pipeline, Shared},
    readiness::{Means, Readiness, Topic},
    remedy::Remedy,
    service::{Shutdown, listener::ListenerFailed, memory::MemoryBudget},
    settings::{Policy, Settings},
    smtp::server::{self, Server, Snapshot},
};

/// The exit code of a start that failed, or of a service that ended: by who mends it.
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    let of_cause = |cause: &(dyn std::error::Error + 'static)| {
        let started = cause.downcast_ref::<NotStarted>().map(|error| error.remedy);
        let listed = started.or_else(|| cause.downcast_ref::<Listed>().map(|listed| listed.0.remedy()));
        let failed = listed.or_else(|| cause.downcast_ref::<ListenerFailed>().map(|_| Remedy::Wait));
        failed.or_else(|| cause.downcast_ref::<io::Error>().map(Remedy::of))
    };
    error.chain().find_map(of_cause).unwrap_or(Remedy::Mend).exit_code()
}

/// Whether a start would get as far as its sockets; a file of entries that would be left out is said.
pub(super) fn dry_run(config: &Config) -> anyhow::Result<Answer> {
    let settings = to_run(config)?;
    let mut out = io::stdout().lock();
    // A start waits for a folder that is not there, and not for this.
    if let Some(folder) = settings.audit.as_ref().filter(|folder| folder.is_file()) {
        bail!("audit.directory: {} is a file", folder.display());
    }
    for left_out in &settings.left_out {
        writeln!(out, "{left_out}\n{}", left_out.problems)?;
    }
    for warning in &settings.warnings {
        writeln!(out, "{warning}")?;
    }
    Ok(Answer::Yes)
}

/// The configuration, if there is something to run by it.
fn to_run(config: &Config) -> anyhow::Result<Settings> {
    let settings = config.load()?;
    match settings.nothing_to_run() {
        Some(what) => bail!("{}: {what}", config.path().display()),
        None => Ok(settings),
    }
}

pub(super) fn run(config: &Config) -> anyhow::Result<Answer> {
    let settings = to_run(config)?;
    let hostname = settings.hostname().unwrap_or_default().to_owned();
    // Dropped last, and before an error is printed.
    let _log = settings.log.start();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    raise_file_limit(&settings);
    let runtime = runtime()?;
    let answer = runtime.block_on(service(config, settings, hostname));
    // A file that is still being read, perhaps on a share that hangs, does not keep the program.
    runtime.shutdown_timeout(limits::CUT);
    answer
}

/// The service, from its sockets to its last record.
async fn service(config: &Config, settings: Settings, hostname: String) -> anyhow::Result<Answer> {
    let mut stop = StopSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let hangup = signal(SignalKind::hangup())?;
    let preparing = async {
        let mut patience = Patience::begin();
        let sockets = Sockets::bind(&settings, &mut patience).await?;
        let audit = patience.wait_for(async || audit(&settings)).await?;
        let authenticator = patience.wait_for(async || resolving(&settings, &hostname)).await?;
        anyhow::Ok((sockets, audit, authenticator))
    };
    let (sockets, audit, authenticator) = tokio::select! {
        biased;
        () = stop.received() => {
            tracing::info!("stopped before the start");
            return Ok(Answer::Yes);
        }
        prepared = preparing => prepared?,
    };
    sockets.log(&settings)?;
    if let Err(error) = Listening::on(&sockets, &settings).and_then(|listening| listening.keep(config.path())) {
        tracing::warn!(%error, "where the service listens is not written down");
    }
    let in_force = InForce::of(&settings);
    let digests = Arc::new(ArcSwap::from_pointee(Plan::of(&settings)));
    let (policy, mode) = (settings.policy.clone(), settings.mode);
    let servers = servers(settings, hostname, audit, authenticator)?;
    policy::in_force(&servers.pipeline, &policy, &Policy::default(), mode, PolicyBy::Start);
    let shared = Arc::clone(&servers.pipeline.shared);
    let (mails, page) = (Shutdown::default(), Shutdown::default());
    let page_ended = sockets.admin.map(|socket| {
        let admin = Arc::new(Admin::new(Arc::clone(&shared.metrics), Arc::clone(&shared.readiness), mails.clone()));
        tokio::spawn(http::admin::run(socket, admin, page.clone()))
    });
    let mut running = serve(sockets.mails, &servers, &mails);
    // Ends with this function.
    let mut keeping = JoinSet::new();
    keeping.spawn(summarise_refusals(Arc::clone(&shared)));
    keeping.spawn(reload_on_change(hangup, Reload::new(servers, config.clone(), in_force, Arc::clone(&digests))));
    keeping.spawn(watch_certificates(Arc::clone(&digests), Arc::clone(&shared)));
    keeping.spawn(digest::keep(digests, Arc::clone(&shared)));
    keeping.spawn(notify_watchdog());
    tell_ready(&shared.readiness);
    keeping.spawn(keep_status(Arc::clone(&shared)));

    let failure = tokio::select! {
        () = stop.received() => None,
        () = mails.drain.cancelled() => None,
        Some(ended) = running.join_next() => failure(ended),
    };
    notify(&[NotifyState::Stopping]);
    let failure = drain(running, &mails).await.or(failure);
    shared.summarise_refusals(clock::now());
    if let Some(audit) = &shared.audit {
        // The last records are on disk, and the log has a last checkpoint.
        if let Err(error) = audit.settle().await {
            tracing::error!(%error, "the last audit records may not be on disk");
        }
    }
    page.drain.cancel();
    if let Some(ended) = page_ended {
        let _ = ended.await;
    }
    tracing::info!("stopped");
    failure.map_or(Ok(Answer::Yes), |died| Err(died.into()))
}

fn audit(settings: &Settings) -> Result<Option<Audit>, NotStarted> {
    let audit = audit_config(settings).map(|config| Audit::open_with(&config)).transpose();
    audit.map_err(|error| NotStarted::new(&error, error.remedy()))
}

/// The authenticator. The system's list of resolvers may be on its way, as the network is.
fn resolving(settings: &Settings, hostname: &str) -> Result<Authenticator, NotStarted> {
    authenticator(&settings.identity, hostname).map_err(|error| NotStarted::new(error, Remedy::Wait))
}

/// The servers that the configuration asks for, on one pipeline and one budget of memory.
fn servers(mut settings: Settings, hostname: String, audit: Option<Audit>, authenticator: Authenticator) -> anyhow::Result<Servers> {
    let (smtp, milter, guard) = (settings.smtp.clone(), settings.milter.clone(), settings.guard.clone());
    let served = [(Protocol::Smtp, smtp.is_some()), (Protocol::Milter, milter.is_some())];
    let protocols: Vec<Protocol> = served.into_iter().filter(|(_, served)| *served).map(|(protocol, _)| protocol).collect();
    let memory = MemoryBudget::new(smtp.as_ref().map_or(limits::MEMORY, |config| config.bounds.memory), &protocols);
    let (mode, entries) = (settings.mode, settings.allowlist.entries().len());
    let shared = Arc::new(shared(audit)?);
    let authenticator = Arc::new(authenticator.reporting(Arc::clone(&shared.needs.dns)));
    say_what_stands(&shared, &settings, entries, &[]);
    let pipeline = Arc::new(Pipeline::build(pipeline_config(&mut settings, authenticator, &hostname), shared));
    let metrics = &pipeline.shared.metrics;
    super::show_policy(&pipeline, mode);
    show_queues(&pipeline.shared, &memory, protocols);
    if let Some(links) = &pipeline.config.link_store {
        tokio::spawn(LinkStore::keep_swept(Arc::downgrade(links)));
    }
    let smtp = smtp
        .map(|config| Snapshot::new(config, Arc::clone(&pipeline)).map(|snapshot| Arc::new(Server::new(snapshot, memory.clone()))))
        .transpose()?;
    let milter = milter.map(|config| Arc::new(milter::Server::new(Arc::clone(&pipeline), &config, memory)));
    let guard = guard.map(|config| http::Server::new(config, pipeline.shared.audit.clone())).transpose()?;
    let guard = guard.map(|server| Arc::new(server.with_metrics(Arc::clone(metrics))));
    Ok(Servers { smtp, milter, guard, pipeline, hostname })
}

/// Shows in the metrics what waits: mails in memory, mails to be read, records to be written.
fn show_queues(shared: &Arc<Shared>, memory: &MemoryBudget, protocols: Vec<Protocol>) {
    let (memory, of_pool) = (memory.clone(), Arc::downgrade(shared));
    let held = move || protocols.iter().map(|protocol| memory.held(*protocol)).sum();
    shared.metrics.reads("memory_bytes", "Memory that mails hold, of smtp.bounds.memory", held);
    let waiting = move || of_pool.upgrade().map_or(0, |shared| shared.waiting_to_be_read());
    shared.metrics.reads("readings_waiting", "Mails of proven senders that wait to be read", waiting);
    if let Some(audit) = shared.audit.clone() {
        shared.metrics.reads("audit_queue_bytes", "Records that wait for the audit's disk", move || audit.waiting());
    }
}

/// Starts each server on its sockets.
fn serve(sockets: MailSockets, servers: &Servers, shutdown: &Shutdown) -> JoinSet<Result<(), ListenerFailed>> {
    let mut running = JoinSet::new();
    if let Some(server) = &servers.smtp {
        running.spawn(server::run(sockets.smtp, Arc::clone(server), shutdown.clone()));
    }
    if let Some(server) = &servers.milter {
        running.spawn(milter::run(sockets.milter, Arc::clone(server), shutdown.clone()));
    }
    if let Some((server, socket)) = servers.guard.as_ref().zip(sockets.guard) {
        running.spawn(http::run(socket, Arc::clone(server), shutdown.clone()));
    }
    running
}

/// Lets every server drain; returns the first listener that had failed, if one had.
async fn drain(mut running: JoinSet<Result<(), ListenerFailed>>, shutdown: &Shutdown) -> Option<ListenerFailed> {
    shutdown.drain.cancel();
    let mut first = None;
    while let Some(ended) = running.join_next().await {
        first = first.or_else(|| failure(ended));
    }
    first
}

/// The listener that failed, where a server ended before the drain.
fn failure(ended: Result<Result<(), ListenerFailed>, JoinError>) -> Option<ListenerFailed> {
    ended.unwrap_or_else(|error| Err(ListenerFailed { name: "of a server".to_owned(), error: error.into() })).err()
}

/// The signals that end the service.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reads the configuration again on SIGHUP, and where a file of it has changed.
async fn reload_on_change(mut hangup: Signal, mut reload: Reload) {
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => Some(Cause::Asked),
            () = sleep(limits::RELOAD_LOOK) => None,
        };
        // It reads files, perhaps on a share that hangs: on a thread that serves no mails.
        let mut reading = tokio::task::spawn_blocking(move || {
            if let Some(cause) = asked.or_else(|| reload.look()) {
                notify(&[NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading), NotifyState::Reloading]);
                reload.reload(cause);
                tell_ready(reload.readiness());
            }
            reload
        });
        let read = if let Ok(read) = timeout(limits::RELOAD, &mut reading).await {
            read
        } else {
            tracing::error!("the configuration cannot be read: a file system does not answer; the one before stays in force until it does");
            reading.await
        };
        match read {
            Ok(back) => reload = back,
            Err(error) => {
                tracing::error!(%error, "reading the configuration failed; restart the service to read it again, and report this");
                return;
            }
        }
    }
}

/// Writes the summary records of refusals, once a minute.
async fn summarise_refusals(shared: Arc<Shared>) {
    let mut minutes = interval(limits::REFUSALS_SUMMARY);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        minutes.tick().await;
        shared.summarise_refusals(clock::now());
    }
}

/// Shows in the metrics when certificates end and, from thirty days before, in `/readyz` and once a day in the log.
async fn watch_certificates(plan: Arc<ArcSwap<Plan>>, shared: Arc<Shared>) {
    let mut looks = interval(limits::CERTIFICATES_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: Option<(String, Stopwatch)> = None;
    loop {
        looks.tick().await;
        let plan = plan.load_full();
        // Files, perhaps on a share that hangs.
        let Ok(ends) = tokio::task::spawn_blocking(move || plan.certificates()).await else { return };
        shared.metrics.certificates_expire(ends.iter().copied());
        let now = clock::now();
        let soon = ends.iter().filter(|(_, end)| end.duration_since(now) < limits::CERTIFICATES_SOON);
        let said: Vec<String> = soon
            .map(|(key, end)| format!("{key} {} {}", if *end <= now { "has ended," } else { "ends" }, end.strftime("%Y-%m-%d")))
            .collect();
        shared.readiness.set(Topic::Certificates, (!said.is_empty()).then(|| said.join("; ")));
        let is_news = told.as_ref().is_none_or(|(before, when)| *before != said.join("; ") || when.elapsed() >= limits::CERTIFICATES_TOLD);
        if !said.is_empty() && is_news {
            tracing::warn!(certificates = said.join("; "), "certificates end; put new ones in their place");
            told = Some((said.join("; "), Stopwatch::start()));
        }
    }
}

/// Notifies systemd's watchdog, where there is one, while the runtime runs.
async fn notify_watchdog() {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    loop {
        notify(&[NotifyState::Watchdog]);
        sleep(patience / 2).await;
    }
}

/// Notifies systemd that the service is ready, and of what stands in its way: `systemctl status` shows it.
fn tell_ready(readiness: &Readiness) {
    notify(&[NotifyState::Ready, NotifyState::Status(&status(readiness))]);
}

/// Keeps systemd told of what stands in the way, as it comes and goes; a reload tells it, too.
async fn keep_status(shared: Arc<Shared>) {
    loop {
        sleep(limits::STATUS).await;
        notify(&[NotifyState::Status(&status(&shared.readiness))]);
    }
}

/// Whether mails are taken, and what there is to say, in one line.
fn status(readiness: &Readiness) -> String {
    let (means, lines) = readiness.look();
    let lines = lines.trim_end().replace('\n', "; ");
    match means {
        Means::NoMails => format!("takes no mails: {lines}"),
        Means::Detail if lines.is_empty() => "takes mails".to_owned(),
        Means::Detail => format!("takes mails; {lines}"),
    }
}

/// Notifies systemd; does nothing where there is none.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// Raises the limit of file descriptors: an SMTP session takes two, a milter session one. Logs a
/// warning where the system gives fewer.
fn raise_file_limit(settings: &Settings) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let smtp = settings.smtp.as_ref().map_or(0, |config| config.bounds.connections * 2 + limits::PARKED);
    let files = smtp + settings.milter.as_ref().map_or(0, |config| config.connections);
    let wanted = files as u64 + 100;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let possible = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: limit.maximum });
    if possible < wanted {
        tracing::warn!(
            possible,
            wanted,
            "the system allows too few open files for smtp.bounds.connections and milter.connections; raise LimitNOFILE"
        );
    }
}
