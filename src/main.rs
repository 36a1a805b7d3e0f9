//! Arguments, one command, exit code: 0 done, 1 the answer is no, 2 bad input or configuration, 75 (`EX_TEMPFAIL`) the service
//! has ended because a listener failed, and another start may help.

use std::{env, ffi::OsString, process::ExitCode};

use clap::Parser as _;
use firstclick::{cli::Cli, commands};

fn main() -> ExitCode {
    let mut typed: Vec<OsString> = env::args_os().collect();
    // clap's own `help` takes no options, and help is what is asked for.
    if typed.get(1).is_some_and(|word| word == "help") {
        typed.retain(|word| word != "--help" && word != "-h");
    }
    commands::run(Cli::parse_from(typed))
}
