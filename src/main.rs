//! Arguments, one command, exit code: 0 done, 1 the answer is no, 2 bad input or configuration, 75 (`EX_TEMPFAIL`) the service
//! has ended because a listener failed, and another start may help.

use std::process::ExitCode;

use clap::Parser as _;
use firstclick::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
