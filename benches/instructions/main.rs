//! What the pure parts cost, in instructions: `cargo bench --ignore-rust-version --bench instructions [-- PART OF A NAME]`. Instructions
//! hardly change from run to run, so that a change of the code shows its cost on any machine, however busy.
//!
//! The program runs itself under valgrind's callgrind, which counts what happens inside of [`measured`] and writes a count each time
//! that it is left. Counts are kept in `benches/instructions.toml`; `--update` writes them anew.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a program that prints figures")]

mod cases;
mod mails;

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::{Command, ExitCode},
};

use serde::{Deserialize, Serialize};

/// Instructions by case.
#[derive(Default, Serialize, Deserialize)]
struct Counts {
    instructions: BTreeMap<String, u64>,
}

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
const HEAD: &str = "# What each case of benches/instructions costs in instructions, written by
# cargo bench --ignore-rust-version --bench instructions -- --update\n";
/// A change by more percent than this is said.
const TOLD: f64 = 5.0;
/// Set in the run that is counted.
const INSIDE: &str = "FIRSTCLICK_COUNTED";

/// What is counted; the name by which callgrind is told.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

/// Runs the cases whose names are asked for.
pub(crate) struct Bench {
    wanted: Option<String>,
}

impl Bench {
    /// One case. What `make` returns is run twice before it is counted, so that what is made once is not, and memory has settled.
    pub(crate) fn case<W: FnMut()>(&self, name: &str, make: impl FnOnce() -> W) {
        if self.wanted.as_deref().is_none_or(|wanted| name.contains(wanted)) {
            let mut work = make();
            work();
            work();
            measured(&mut work);
            println!("{name}");
        }
    }

    /// The same work in several sizes, to see how its cost grows.
    pub(crate) fn growth<W: FnMut()>(&self, name: &str, sizes: &[usize], make: impl Fn(usize) -> W) {
        for size in sizes {
            self.case(&format!("{name}: {size}"), || make(*size));
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let wanted = arguments.iter().find(|argument| !argument.starts_with("--")).cloned();
    if env::var_os(INSIDE).is_some() {
        cases::run(&Bench { wanted });
        return ExitCode::SUCCESS;
    }
    let Some(counts) = counted(&arguments) else {
        println!("skipped: needs valgrind");
        return ExitCode::SUCCESS;
    };
    let mut kept: Counts = fs::read_to_string(KEPT).map(|text| toml::from_str(&text).unwrap()).unwrap_or_default();
    let mut before: Option<(&str, f64, u64)> = None;
    for (name, count) in &counts {
        let (what, size) = name.split_once(": ").map_or((name.as_str(), None), |(what, size)| (what, size.parse::<f64>().ok()));
        let growth = before.zip(size).filter(|((known, ..), _)| *known == what).map_or_else(String::new, |((_, smaller, less), size)| {
            format!("  x {:.2} a doubling", (*count as f64 / less as f64).powf((size / smaller).log2().recip()))
        });
        println!("{name:44} {count:>13}{}{growth}", change(*count, kept.instructions.get(name).copied()));
        before = size.map(|size| (what, size, *count));
    }
    if arguments.iter().any(|argument| argument == "--update") {
        if wanted.is_none() {
            kept.instructions.clear();
        }
        kept.instructions.extend(counts);
        fs::write(KEPT, format!("{HEAD}{}", toml::to_string(&kept).unwrap())).unwrap();
    }
    ExitCode::SUCCESS
}

/// How a count differs from the one that is kept.
fn change(count: u64, kept: Option<u64>) -> String {
    let Some(kept) = kept else { return "      new".to_owned() };
    let percent = (count as f64 / kept as f64 - 1.0) * 100.0;
    let says = if percent > TOLD {
        "  COSTS MORE"
    } else if percent < -TOLD {
        "  costs less"
    } else {
        ""
    };
    format!(" {percent:>+7.1}%{says}")
}

/// Runs this program under callgrind: the cases that it ran, in order, with their instructions. None where there is no valgrind.
fn counted(arguments: &[String]) -> Option<Vec<(String, u64)>> {
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=instructions::measured"])
        .arg("--dump-after=instructions::measured")
        .arg(format!("--callgrind-out-file={}", folder.path().join("out").display()))
        .arg(env::current_exe().unwrap())
        .args(arguments)
        .env(INSIDE, "1")
        .output()
        .ok()?;
    assert!(run.status.success(), "{}", run.stderr.escape_ascii());
    let names = String::from_utf8(run.stdout).unwrap();
    let count = |at: usize| total(&folder.path().join(format!("out.{}", at + 1)));
    Some(names.lines().enumerate().map(|(at, name)| (name.to_owned(), count(at))).collect())
}

/// The instructions in one of callgrind's files.
fn total(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap().trim().parse().unwrap()
}
