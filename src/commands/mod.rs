//! The commands, a file each. They alone know settings, and they alone print.

mod as_running;
mod ask;
mod audit;
mod audit_verify;
mod check;
mod demo;
mod digest;
mod draft;
mod explain;
mod explained;
mod health;
mod keygen;
mod listening;
mod mails;
mod manual;
mod migrate;
mod policy;
mod reload;
mod run;
mod senders;
mod setup;
mod start;
mod unwrap;

use std::{
    env, fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use crate::{
    allowlist::Mode,
    audit::{Audit, AuditConfig, head, pseudonym::Pseudonyms},
    cli::{Cli, Command, DEFAULT_CONFIG},
    edit::tag::Tagger,
    identity::Authenticator,
    limits,
    pipeline::{Pipeline, PipelineConfig, Shared, fault::FaultPoint},
    printable::printable,
    recognition::Recogniser,
    remedy::Remedy,
    settings::{AuditKeeping, Files, Identity, LeftOut, Problems, Settings, Verify},
};

/// The answer of a command, which is its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Done, or yes: 0.
    Yes,
    /// No: 1.
    No,
    /// What was written must be mended: 2.
    Mistaken,
}

/// Runs a command and returns its exit code; an error is printed with its causes.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let config = Config(cli.config);
    let runs = matches!(cli.command, Command::Run { .. });
    let outcome = match cli.command {
        Command::Run { of: Some(pid), .. } => as_running::dry_run(pid),
        Command::Run { dry_run: true, .. } => run::dry_run(&config),
        Command::Run { make_keys, .. } => make_keys.map_or(Ok(()), |folder| keygen::make_missing(&folder)).and_then(|()| run::run(&config)),
        Command::Health => health::health(&config),
        Command::Migrate => migrate::migrate(&config),
        Command::Check(how) => check::check(&config, &how),
        Command::Explain(arguments) => explain::explain(&config, &arguments),
        Command::Ask(arguments) => ask::ask(&config, &arguments),
        Command::Draft(arguments) => draft::draft(&config, &arguments),
        Command::Audit(what) => audit::audit(&config, what),
        Command::Digest(arguments) => digest::dry_run(&config, &arguments),
        Command::Senders { what } => senders::senders(what.as_ref()),
        Command::Setup(arguments) => setup::setup(&config, &arguments),
        Command::Unwrap(arguments) => unwrap::run(&arguments),
        Command::Keygen(arguments) => keygen::keygen(&arguments),
        Command::Manual { folder } => manual::manual(&folder),
        Command::Demo { keep } => demo::demo(if keep { demo::After::Stay } else { demo::After::Leave }),
    };
    match outcome {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Mistaken) => ExitCode::from(2),
        // The reader of our output has closed it, which is no error.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // A list of mistakes has its own lines, and each escapes what it repeats.
            let is_list = error.is::<Listed>() || error.is::<Incomplete>();
            let mut causes = error.chain().map(|cause| if is_list { cause.to_string() } else { printable(&cause.to_string()) });
            let mut err = io::stderr().lock();
            let _ = writeln!(err, "firstclick: {}", causes.next().unwrap_or_default());
            for cause in causes {
                let _ = writeln!(err, "  {cause}");
            }
            ExitCode::from(if runs { run::exit_code(&error) } else { Remedy::Mend.exit_code() })
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_system = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let kind = of_system.or_else(|| cause.downcast_ref::<serde_json::Error>()?.io_error_kind());
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

/// The configuration that was named, if one was.
#[derive(Clone, Debug)]
struct Config(Option<PathBuf>);

impl Config {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }

    /// Whether one was named, or is installed.
    fn is_there(&self) -> bool {
        self.0.is_some() || !fs::symlink_metadata(self.path()).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// The configuration; it must be there.
    fn load(&self) -> anyhow::Result<Settings> {
        Ok(Settings::load(self.path()).map_err(Listed)?)
    }

    /// The same, and the files that it was read from, also where it has mistakes.
    fn load_noting(&self, files: &mut Files) -> anyhow::Result<Settings> {
        Ok(Settings::load_noting(self.path(), files).map_err(Listed)?)
    }

    /// The configuration, or an empty one where none was named and none is installed. One that may not be read is an error: judged by
    /// an empty one, every mail would seem to pass.
    fn load_or_empty(&self) -> anyhow::Result<Settings> {
        if !self.is_there() {
            let _ = writeln!(io::stderr().lock(), "note: there is no {}; going on without a configuration", self.path().display());
            return Ok(Settings::empty());
        }
        let settings = self.load()?;
        // Or an entry that is not there would seem to be no answer.
        for left_out in &settings.left_out {
            let _ = writeln!(io::stderr().lock(), "firstclick: {left_out}\n{}", left_out.problems);
        }
        Ok(settings)
    }
}

/// All mistakes of a configuration, as they are printed.
#[derive(Debug, thiserror::Error)]
#[error("{headline}\n{0}", headline = .0.headline())]
struct Listed(Problems);

/// All mistakes of a configuration, as they are printed, and the files of the allowlist that are left out for theirs.
#[derive(Debug, thiserror::Error)]
struct Incomplete(Problems, Vec<LeftOut>);

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headline = if self.1.is_empty() { self.0.headline() } else { "the configuration has mistakes" };
        write!(f, "{headline}\n{}", self.0)?;
        self.1.iter().try_for_each(|left_out| write!(f, "\n{left_out}"))
    }
}

/// The pipeline's part of a configuration.
fn pipeline_config(settings: &mut Settings, authenticator: Arc<Authenticator>, hostname: &str) -> PipelineConfig {
    PipelineConfig {
        allowlist: std::mem::take(&mut settings.allowlist),
        authenticator,
        tagger: tagger(settings, hostname),
        guard_links: settings.guard.as_ref().map(|guard| Arc::clone(&guard.guard_links)),
        link_store: settings.guard.as_ref().and_then(|guard| guard.links.clone()),
        arc_signer: settings.arc.clone(),
        inspect_limit: settings.inspect_limit().unwrap_or(usize::MAX),
        policy: settings.policy.short().to_owned(),
        pseudonyms: Pseudonyms::by(settings.recipients.writing()),
    }
}

/// The pipeline for a configuration, with nothing counted yet.
fn build(mut settings: Settings, hostname: &str) -> anyhow::Result<Pipeline> {
    let authenticator = authenticator(&settings.identity, hostname)?;
    let audit = audit_config(&settings).map(|config| Audit::open_with(&config)).transpose()?;
    let shared = shared(audit)?;
    let authenticator = Arc::new(authenticator.reporting(Arc::clone(&shared.needs.dns)));
    Ok(Pipeline::build(pipeline_config(&mut settings, authenticator, hostname), Arc::new(shared)))
}

/// What survives a reload, with nothing counted yet.
fn shared(audit: Option<Audit>) -> anyhow::Result<Shared> {
    let fault = env::var("FIRSTCLICK_FAULT").ok().and_then(|name| FaultPoint::parse(&name));
    Ok(Shared::new(Recogniser::built_in()?, audit).with_fault(fault))
}

/// The audit's part of a configuration; none where it names no folder.
fn audit_config(settings: &Settings) -> Option<AuditConfig> {
    let folder = settings.audit.clone()?;
    let AuditKeeping { keep, compress, .. } = settings.audit_keeping;
    let keys = settings.audit_keys.keys.clone();
    Some(AuditConfig { keys, head: audit_head(settings), keep, compress, ..AuditConfig::new(folder) })
}

/// The audit's head file, for who writes it and for who verifies by it: where `[audit] state` says, else in systemd's state directory.
/// Outside of systemd it is the one that the service keeps there, where that is of this audit; else in the audit's folder.
fn audit_head(settings: &Settings) -> Option<PathBuf> {
    let folder = settings.audit.as_ref()?;
    let of_systemd = || env::var_os("STATE_DIRECTORY").and_then(|folders| env::split_paths(&folders).next());
    let state = settings.audit_keeping.state.clone().or_else(of_systemd).filter(|state| !state.as_os_str().is_empty());
    let of_service = || Path::new(SERVICE_STATE).join(head::NAME);
    Some(match state {
        Some(state) => state.join(head::NAME),
        None if head::is_of(&of_service(), folder) => of_service(),
        None => folder.join(head::NAME),
    })
}

/// The state directory of the service, as its unit names it.
const SERVICE_STATE: &str = "/var/lib/firstclick";

/// The authenticator for a configuration.
fn authenticator(identity: &Identity, hostname: &str) -> anyhow::Result<Authenticator> {
    let trusted = identity.trusted_upstreams.clone();
    Ok(match &identity.verify {
        Verify::Here { dns, deadline, arc_sealers } => {
            Authenticator::here(dns, *deadline, trusted, hostname.to_owned())?.trusting_arc(arc_sealers.clone())
        }
        Verify::Upstream { authserv_ids, results } => {
            Authenticator::upstream(authserv_ids.clone(), trusted, hostname.to_owned()).with_results(*results)
        }
    })
}

/// Shows in the metrics what is in force: mode, entries and their ends.
fn show_policy(pipeline: &Pipeline, mode: Mode) {
    let (entries, metrics) = (pipeline.config.allowlist.entries(), &pipeline.shared.metrics);
    metrics.entries_in_force(entries.len());
    metrics.entries_expire(entries.iter().filter_map(|entry| Some((entry.name.clone(), entry.expires?))));
    match mode {
        Mode::Observe => metrics.mode_is("observe", "enforce"),
        Mode::Enforce => metrics.mode_is("enforce", "observe"),
    }
}

/// The tagger for a configuration, which also removes forged tags; the latter is done without a configuration too.
fn tagger(settings: &Settings, hostname: &str) -> Tagger {
    settings.tag.as_ref().map_or_else(
        || Tagger {
            header: "X-Firstclick".into(),
            tokens: Vec::new(),
            staged: Vec::new(),
            keys: Vec::new(),
            authserv_id: hostname.to_owned(),
        },
        |tag| tag.tagger(hostname),
    )
}

/// A runtime for commands that need one.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().thread_stack_size(limits::STACK).enable_all().build()
}
