//! The commands, a file each. They alone know settings, and they alone print.

mod audit;
mod check;
mod demo;
mod explain;
mod keygen;
mod reload;
mod run;
mod senders;
mod setup;
mod unwrap;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    cli::{Cli, Command, DEFAULT_CONFIG},
    edit::tag::Tagger,
    identity::Authenticator,
    pipeline::Pipeline,
    recognition::Recogniser,
    settings::{Identity, Settings, Verify},
};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Done, or yes.
    Yes,
    /// The answer is no.
    No,
}

/// Runs a command; what goes wrong is printed cause by cause.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let config = Config(cli.config);
    let outcome = match cli.command {
        Command::Run => run::run(&config),
        Command::Check => check::check(&config),
        Command::Explain(arguments) => explain::explain(&config, &arguments),
        Command::Audit(what) => audit::audit(&config, what),
        Command::Senders { what } => senders::senders(what.as_ref()),
        Command::Setup(arguments) => setup::setup(&config, &arguments),
        Command::Unwrap(arguments) => unwrap::run(&arguments),
        Command::Keygen(arguments) => keygen::keygen(&arguments),
        Command::Demo { keep } => demo::demo(if keep { demo::After::Stay } else { demo::After::Leave }),
    };
    match outcome {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        // Whoever read our output went away: nothing to complain about.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let mut causes = error.chain();
            let first = causes.next().map(ToString::to_string).unwrap_or_default();
            let mut err = io::stderr().lock();
            let _ = writeln!(err, "firstclick: {first}");
            for cause in causes {
                let _ = writeln!(err, "  {cause}");
            }
            ExitCode::from(2)
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe))
}

/// The configuration that was named, if one was.
#[derive(Clone, Debug)]
struct Config(Option<PathBuf>);

impl Config {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }

    /// The configuration; it must be there.
    fn load(&self) -> anyhow::Result<Settings> {
        Ok(Settings::load(self.path()).map_err(Listed)?)
    }

    /// The configuration, or an empty one where none was named and none is installed.
    fn load_or_empty(&self) -> anyhow::Result<Settings> {
        if self.0.is_none() && !self.path().exists() {
            return Ok(Settings::empty());
        }
        self.load()
    }
}

/// All mistakes of a configuration, as people read them.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has mistakes\n{0}")]
struct Listed(crate::settings::Problems);

/// The pipeline that a configuration asks for.
fn build(settings: Settings, hostname: &str) -> anyhow::Result<Pipeline> {
    let authenticator = authenticator(&settings.identity, hostname)?;
    let tagger = tagger(&settings, hostname);
    let inspect_limit = settings.inspect_limit().unwrap_or(usize::MAX);
    let key = settings.audit_keys.keys.first().cloned();
    let audit = settings.audit.as_deref().map(|folder| crate::audit::Audit::open_keyed(folder, key)).transpose()?;
    let guard_links = settings.guard.as_ref().map(|guard| std::sync::Arc::clone(&guard.guard_links));
    let links = settings.guard.as_ref().and_then(|guard| guard.links.clone());
    Ok(Pipeline::new(settings.allowlist, Recogniser::built_in()?, authenticator, tagger, audit, inspect_limit)
        .with_guard(guard_links)
        .storing_links(links)
        .with_arc(settings.arc))
}

/// Who finds out who sent a mail.
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

/// Who tags, and removes forged tags; the latter is done without a configuration too.
fn tagger(settings: &Settings, hostname: &str) -> Tagger {
    settings.tag.as_ref().map_or_else(
        || Tagger { header: "X-Firstclick".into(), tokens: Vec::new(), keys: Vec::new(), authserv_id: hostname.to_owned() },
        |tag| tag.tagger(hostname),
    )
}

/// A runtime for commands that need one.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Text from outside as a terminal may show it: control characters and direction marks are escaped.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let hidden =
                letter.is_control() || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if hidden { letter.escape_unicode().collect::<Vec<_>>() } else { vec![letter] }
        })
        .collect()
}
