//! `check`: the configuration, before it runs, as an admin sees it and as the user that the service runs as.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use rustix::{
    fs::{Gid, Uid},
    process::geteuid,
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use serde::{Deserialize, Serialize};

use super::{Answer, Config, Incomplete, Listed, audit_head, printable};
use crate::{
    audit::files,
    cli::Check,
    clock,
    settings::{
        Advice, LeftOut, Problem, Problems, Settings, Severity, SourceSpan, sentences,
        users::{self, User},
    },
};

/// The user that the unit names (deploy/systemd/firstclick.service).
const SERVICE_USER: &str = "firstclick";

pub(super) fn check(config: &Config, how: &Check) -> anyhow::Result<Answer> {
    if let Some(name) = &how.as_user {
        become_user(name)?;
    }
    let mut looked = Looked::at(config, how)?;
    if how.as_user.is_none() && geteuid().is_root() && looked.mistakes.0.is_empty() && User::find(SERVICE_USER).is_some() {
        looked.advice.extend(of_the_service(config, &looked));
    }
    looked.advice.sort();
    looked.advice.dedup();
    let severe = |advice: &Advice| advice.severity < Severity::Note;
    let answer = match (looked.mistakes.0.is_empty(), how.strict && looked.advice.iter().any(severe)) {
        (false, _) => Answer::Mistaken,
        (true, true) => Answer::No,
        (true, false) => Answer::Yes,
    };
    if how.json {
        let report = Report::of(&looked);
        writeln!(io::stdout().lock(), "{}", serde_json::to_string(&report)?)?;
        return Ok(answer);
    }
    if answer == Answer::Mistaken {
        return Err(Incomplete(looked.mistakes, looked.left_out).into());
    }
    looked.print()?;
    Ok(answer)
}

/// All that was found.
struct Looked {
    mistakes: Problems,
    /// The files of the allowlist that are left out for mistakes among these.
    left_out: Vec<LeftOut>,
    advice: Vec<Advice>,
    /// The entries' names, and what each lets through.
    entries: Vec<(String, Vec<String>)>,
    handles_mails: bool,
}

impl Looked {
    fn at(config: &Config, how: &Check) -> anyhow::Result<Self> {
        let settings = match config.load() {
            Ok(settings) => settings,
            Err(error) => {
                let Listed(mistakes) = error.downcast()?;
                return Ok(Self { mistakes, left_out: Vec::new(), advice: Vec::new(), entries: Vec::new(), handles_mails: false });
            }
        };
        let mut advice = settings.warnings.clone();
        advice.extend(settings.advice(clock::now()));
        advice.extend(settings.outlook(config.path(), clock::now()));
        if how.as_user.is_some() {
            advice.extend(settings.rewritable(config.path()));
        }
        let mut mistakes = settings.obstacles(config.path());
        if let Some((folder, head)) = settings.audit.as_ref().zip(audit_head(&settings)) {
            let files = files::in_use(folder, &head);
            mistakes.0.extend(Settings::closed_files(config.path(), "audit.directory", &files).0);
        }
        if let Some(what) = settings.nothing_to_run() {
            mistakes.add(SourceSpan::file(config.path().display().to_string()), "", what);
        }
        mistakes.0.extend(settings.left_out.iter().flat_map(|left_out| left_out.problems.0.clone()));
        Ok(Self {
            mistakes,
            left_out: settings.left_out.clone(),
            advice,
            entries: settings.allowlist.entries().iter().map(|entry| (entry.name.clone(), sentences(entry, clock::now()))).collect(),
            handles_mails: settings.smtp.is_some() || settings.milter.is_some(),
        })
    }

    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (name, sentences) in &self.entries {
            for (at, sentence) in sentences.iter().enumerate() {
                let name = if at == 0 { format!("{name}: ") } else { "    ".to_owned() };
                writeln!(out, "{name}{}", printable(sentence))?;
            }
        }
        if self.handles_mails && self.entries.is_empty() {
            writeln!(out, "0 entries: nothing will be exempted")?;
        }
        for one in &self.advice {
            writeln!(out, "{one}")?;
        }
        Ok(())
    }
}

/// From here on, this process is a user's, with all groups: what it may read and write is what the service may.
fn become_user(name: &str) -> anyhow::Result<()> {
    let Some(user) = User::find(name) else { bail!("--as {name}: this system has no such user") };
    users::the_service_runs_as(&user);
    if user.uid == geteuid().as_raw() {
        return Ok(());
    }
    if !geteuid().is_root() {
        bail!("--as {name}: only root can look as another user; call it by sudo");
    }
    become_ids(user.uid, user.gid, &user.groups).with_context(|| format!("cannot become user {name}"))
}

/// Makes root a user with these groups. A command that does this has one thread.
pub(super) fn become_ids(user: u32, group: u32, groups: &[u32]) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// What stands in the way of the service's user and not of root: the same look, by a process of that user.
fn of_the_service(config: &Config, own: &Looked) -> Vec<Advice> {
    let place = || SourceSpan::file(config.path().display().to_string());
    let look = || -> anyhow::Result<Report> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--config").arg(config.path()).args(["check", "--json", "--as", SERVICE_USER]);
        let said = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
        Ok(serde_json::from_slice(&said.stdout)?)
    };
    let theirs = match look() {
        Ok(report) => report,
        Err(error) => {
            let what = format!("what user {SERVICE_USER} can read could not be looked at: {error}");
            return vec![Advice::new(Severity::Note, place(), "", what)];
        }
    };
    let same = |one: &Said| own.advice.iter().any(|other| other.problem.what == one.text && other.problem.key == one.key);
    let mistakes = theirs.mistakes.iter().map(|said| (Severity::Warning, said));
    let advice = theirs.advice.iter().filter(|said| !same(said)).map(|said| (said.severity().unwrap_or(Severity::Note), said));
    mistakes
        .chain(advice)
        .map(|(severity, said)| {
            let at = said.line.zip(said.column);
            let what = format!("as user {SERVICE_USER}, which the service runs as: {}", said.text);
            Advice::new(severity, SourceSpan { source: said.file.clone(), at }, &said.key, what)
        })
        .collect()
}

/// The report of `--json`.
#[derive(Serialize, Deserialize)]
struct Report {
    mistakes: Vec<Said>,
    advice: Vec<Said>,
    entries: Vec<EntrySays>,
}

/// A mistake, or advice with its severity.
#[derive(Serialize, Deserialize)]
struct Said {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    severity: Option<String>,
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    key: String,
    text: String,
}

/// An entry, and what it lets through.
#[derive(Serialize, Deserialize)]
struct EntrySays {
    name: String,
    sentences: Vec<String>,
}

impl Report {
    fn of(looked: &Looked) -> Self {
        Self {
            mistakes: looked.mistakes.0.iter().map(|problem| Said::of(problem, None)).collect(),
            advice: looked.advice.iter().map(|one| Said::of(&one.problem, Some(one.severity))).collect(),
            entries: looked.entries.iter().map(|(name, says)| EntrySays { name: name.clone(), sentences: says.clone() }).collect(),
        }
    }
}

impl Said {
    fn of(problem: &Problem, severity: Option<Severity>) -> Self {
        let (line, column) = problem.place.at.unzip();
        Self {
            severity: severity.map(|severity| severity.to_string()),
            file: problem.place.source.clone(),
            line,
            column,
            key: problem.key.clone(),
            text: problem.what.clone(),
        }
    }

    fn severity(&self) -> Option<Severity> {
        [Severity::Danger, Severity::Warning, Severity::Note].into_iter().find(|known| Some(known.to_string()) == self.severity)
    }
}
