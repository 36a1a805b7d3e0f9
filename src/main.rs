//! Arguments, one command, exit code: 0 done, 1 the answer is no, 2 bad input or configuration.

use std::process::ExitCode;

use clap::Parser as _;
use firstclick::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
