//! `--config`: before any command, and among the options of those that read a configuration.

use std::path::PathBuf;

use clap::{
    ArgMatches, Command, CommandFactory, Error, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, Typed};

/// The option's name.
const CONFIG: &str = "config";

/// Commands that read no configuration.
const WITHOUT: [&str; 5] = ["demo", "keygen", "manual", "senders", "unwrap"];

/// The option for each command that reads a configuration, and the commands below it.
fn offered(whole: Command) -> Command {
    let Some(config) = whole.get_arguments().find(|option| option.get_id() == CONFIG).cloned() else { return whole };
    let config = config.global(true);
    whole.mut_subcommands(|command| if WITHOUT.contains(&command.get_name()) { command } else { command.arg(config.clone()) })
}

impl CommandFactory for Cli {
    fn command() -> Command {
        offered(Typed::command())
    }

    fn command_for_update() -> Command {
        offered(Typed::command_for_update())
    }
}

impl FromArgMatches for Cli {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let Typed { config, command } = Typed::from_arg_matches(matches)?;
        let (name, below) = matches.subcommand().unzip();
        if config.is_some() && name.is_some_and(|name| WITHOUT.contains(&name)) {
            let mut error = Error::new(ErrorKind::UnknownArgument);
            error.insert(ContextKind::InvalidArg, ContextValue::String(format!("--{CONFIG}")));
            return Err(error);
        }
        let nearer = below.and_then(|below| below.try_get_one::<PathBuf>(CONFIG).ok().flatten());
        Ok(Self { config: nearer.cloned().or(config), command })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Parser for Cli {}
