//! What can be typed. Help, man pages and completions come from here.

mod config;
mod help;

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The first click on a one-time link belongs to the person it was sent to.
///
/// firstclick is an SMTP hop in front of a link scanner. It recognises mails with one-time links from allowlisted,
/// proven senders and tags them, so that the scanner leaves the link to its reader.
#[derive(Debug, Parser)]
#[command(name = "firstclick", version, propagate_version = true, after_help = help::FIRSTCLICK)]
struct Typed {
    /// The configuration file; without it, /etc/firstclick/firstclick.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    command: Command,
}

/// What was typed. Before and behind the commands that read a configuration it may be named; others take none.
#[derive(Debug)]
pub struct Cli {
    /// The configuration file, where one was named.
    pub config: Option<PathBuf>,
    /// What to do.
    pub command: Command,
}

/// The configuration file where none is named.
pub const DEFAULT_CONFIG: &str = "/etc/firstclick/firstclick.toml";

/// The day of this version, as CHANGELOG.md has it.
pub const RELEASED: &str = "2026-11-26";

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service that the configuration describes
    #[command(after_help = help::RUN)]
    Run {
        /// First make tag.token and tag.key in this folder, where they are not there: for a container, which has no shell
        #[arg(long, value_name = "DIR")]
        make_keys: Option<PathBuf>,
        /// Say only whether it would start: read all that a start reads, open and change nothing; exit 0 or 2
        #[arg(long)]
        dry_run: bool,
        /// Say it of a start in the place of this process: with its arguments, environment, folder, user and groups
        #[arg(long, value_name = "PID", requires = "dry_run")]
        of: Option<u32>,
    },
    /// Ask the running service whether it takes mails: exit 0, or 1 and why not
    ///
    /// For health checks and monitoring. Where the configuration has an admin page its /readyz is asked, else whether all listeners answer;
    /// `smtp.proxies` must not name this machine then.
    #[command(after_help = help::HEALTH)]
    Health,
    /// Validate the configuration and every allowlist file, and say what each entry lets through
    ///
    /// Exit 0: it can run; there may be advice. 1: --strict, and there are dangers or warnings. 2: mistakes. Root is told too what the
    /// user firstclick, as which the service runs, cannot read or write.
    Check(Check),
    /// Say what would happen to a mail, and why; nothing is sent, stored or counted
    ///
    /// The same code as the hop's decides. What only the hop checks (limit, replay, audit) is left out. Guard links hold the mail's
    /// id and the time, so that those shown here differ from those of a mail that is relayed; they open where the configuration has
    /// no `store`, and short ones are dead, because nothing is stored.
    Explain(Explain),
    /// Say what the allowlist makes of a sender and a link, without a mail
    Ask(Ask),
    /// Write an entry for a mail's sender, ready to paste into a file of the allowlist
    ///
    /// Where an entry names the sender already it says which, and what that one lacks for the mail.
    Draft(Draft),
    /// Look into the audit
    #[command(subcommand, after_help = help::AUDIT)]
    Audit(Audit),
    /// Show the built-in catalogue of services that send one-time links
    #[command(after_help = help::SENDERS)]
    Senders {
        /// List, or show one; without it, list
        #[command(subcommand)]
        what: Option<Senders>,
    },
    /// Print the exact steps for the scanner's side, filled in from the configuration
    Setup(Setup),
    /// Say what a scanner's link hides; exit 1 where it cannot be told
    Unwrap(Unwrap),
    /// Show the digests that would be sent by mail now, and to whom
    ///
    /// `run` sends them, by the section mail of the configuration. What only the running service knows is not among them: a reload that was
    /// refused, an audit that cannot be written.
    Digest(Digest),
    /// Write a key, or a token, as the configuration wants it
    Keygen(Keygen),
    /// Write man pages and completions, as DIR/share/man and as bash, zsh and fish look for them below DIR/share
    #[command(after_help = help::MANUAL)]
    Manual {
        /// The folder, as in /usr or ~/.local; folders in it are made
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Convert files of an earlier version: a copy beside each, and what is different; nothing is changed in place
    ///
    /// It reads the configuration and its folder of entries, and writes FILE.converted where FILE has something to convert. Exit 0: all is
    /// converted, or nothing was to be; 1: something is left to a person, which it names.
    #[command(after_help = help::MIGRATE)]
    Migrate,
    /// Show the product at work, all on this machine
    #[command(after_help = help::DEMO)]
    Demo {
        /// Stay up afterwards and say how to send a mail by hand
        #[arg(long)]
        keep: bool,
    },
}

/// `check`.
#[derive(Debug, Args)]
#[command(after_help = help::CHECK)]
pub struct Check {
    /// Exit 1 where there are dangers or warnings; notes are left to you
    #[arg(long)]
    pub strict: bool,
    /// One JSON object: mistakes, advice, entries
    #[arg(long)]
    pub json: bool,
    /// Look as this user, with all of the user's groups: what the service, running as it, could read and write. Only root can
    #[arg(long = "as", value_name = "USER")]
    pub as_user: Option<String>,
}

/// `explain`.
#[derive(Debug, Args)]
#[command(after_help = help::EXPLAIN)]
pub struct Explain {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// The address of the host that sent the mail; without it, the mail was saved behind a trusted upstream
    #[arg(long, value_name = "IP")]
    pub client_ip: Option<IpAddr>,
    /// The reverse-path; without it, the one in Return-Path
    #[arg(long, value_name = "ADDRESS")]
    pub mail_from: Option<String>,
    /// A recipient; may be given several times
    #[arg(long = "rcpt", value_name = "ADDRESS")]
    pub recipients: Vec<String>,
    /// When and how it is judged
    #[command(flatten)]
    pub terms: Terms,
    /// What of the edits is shown
    #[command(flatten)]
    pub shown: Shown,
    /// Write the mail as it would leave, links and tag included
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Mails, mboxes, maildirs, folders of mails, or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|MBOX|MAILDIR|-")]
    pub inputs: Vec<PathBuf>,
}

/// When and how a mail is judged that was saved.
#[derive(Debug, Args)]
pub struct Terms {
    /// Judge as if the mail came at this time, as in "2026-11-24 10:00" or "3 days ago": ages of signatures, ends of entries
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Judge as if the sender had proven itself, and as if no scanner had wrapped the links: for a mail whose signature no longer verifies
    #[arg(long)]
    pub as_proven: bool,
}

/// What `explain` shows of a mail.
#[derive(Debug, Args)]
pub struct Shown {
    /// Show the edits; those of the text, and the tag, only with --show-links
    #[arg(long)]
    pub diff: bool,
    /// Show one-time links and tokens in full: whoever has them can use them
    #[arg(long)]
    pub show_links: bool,
}

/// `ask`.
#[derive(Debug, Args)]
#[command(after_help = help::ASK)]
pub struct Ask {
    /// The address in From
    #[arg(long, value_name = "ADDRESS")]
    pub from: String,
    /// A link of the mail, in full
    #[arg(long, value_name = "URL")]
    pub link: String,
    /// The reader
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `draft`.
#[derive(Debug, Args)]
#[command(after_help = help::DRAFT)]
pub struct Draft {
    /// The mail, or - for standard input
    #[arg(value_name = "MAIL")]
    pub mail: PathBuf,
    /// The entry's name; without it, acme-hr for an address at mail.acme-hr.example, or the catalogue's name of the service
    #[arg(long)]
    pub name: Option<String>,
}

/// `audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Print the records that match
    Find(Find),
    /// Check that no record was changed or removed; exit 1 where one was, and where there is none
    Verify(Verify),
    /// Print the newest records
    Tail(Tail),
    /// Count decisions for each entry, and tell of near misses
    ///
    /// `act` counts mails that were exempted, `observed` those that would have been, had their entry been in force.
    Report(Report),
}

/// Of what time, for `find` and `report`.
#[derive(Debug, Args)]
pub struct Times {
    /// From this time on
    ///
    /// As in 2026-11-24, "2026-11-24 10:00", 2026-11-24T10:00:00Z, 14:54 (today), today, yesterday, "2h ago", "30m ago" or
    /// "3 days ago". Times without an offset are local; see --utc.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Up to this time, which is not in it; a day is in it as a whole
    ///
    /// Written as --since is: `--since 2026-11-24 --until 2026-11-24` is that day.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Read and print times in UTC, not in the zone of this machine
    #[arg(long)]
    pub utc: bool,
}

/// `audit tail`.
#[derive(Debug, Args)]
#[command(after_help = help::TAIL)]
pub struct Tail {
    /// The audit folder; without it, the configuration's
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 10)]
    pub lines: usize,
    /// Go on with new ones as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Print times in UTC, not in the zone of this machine
    #[arg(long)]
    pub utc: bool,
    /// As they stand in the file
    #[arg(long)]
    pub json: bool,
}

/// `audit report`.
#[derive(Debug, Args)]
#[command(after_help = help::REPORT)]
pub struct Report {
    /// The audit folder; without it, the configuration's
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Of what time
    #[command(flatten)]
    pub times: Times,
    /// One JSON object
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// A line for each entry, with commas between the columns
    #[arg(long)]
    pub csv: bool,
}

/// `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = help::VERIFY)]
pub struct Verify {
    /// The audit folder; without it, the configuration's
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// The keys of the chain; without it, the configuration's
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A checkpoint that the chain must hold, as the hop's log has them; may be given several times
    #[arg(long, value_name = "NUMBER:HASH")]
    pub at: Vec<String>,
    /// All checkpoints of this log; - for standard input
    #[arg(long, value_name = "FILE")]
    pub at_log: Option<PathBuf>,
    /// The head file; without it, the one that the service writes, where no --directory is named
    #[arg(long, value_name = "FILE")]
    pub head: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `audit find`. All that is given must match.
#[derive(Debug, Args)]
#[command(after_help = help::FIND)]
pub struct Find {
    /// The audit folder; without it, the configuration's
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// The hop's id of a mail
    #[arg(long)]
    pub id: Option<String>,
    /// A recipient, or a part of one; where records hold pseudonyms, a whole address
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// The reverse-path or the From domain, or a part of one
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// The Message-ID, or a part of it
    #[arg(long)]
    pub message_id: Option<String>,
    /// An entry of the allowlist
    #[arg(long)]
    pub entry: Option<String>,
    /// A decision
    #[arg(long)]
    pub decision: Option<Decision>,
    /// Of what time
    #[command(flatten)]
    pub times: Times,
    /// As they stand in the file
    #[arg(long)]
    pub json: bool,
}

/// `digest`.
#[derive(Debug, Args)]
#[command(after_help = help::DIGEST)]
pub struct Digest {
    /// Show them, and send nothing; they are sent by `run`
    #[arg(long, required = true)]
    pub dry_run: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// A decision, as records have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Decision {
    /// Exempted, or in observe mode would have been
    Act,
    /// Of an entry's sender, and one check failed
    #[value(name = "near_miss", alias = "near-miss")]
    NearMiss,
    /// Relayed as it came
    Pass,
}

/// `senders`.
#[derive(Debug, Subcommand)]
pub enum Senders {
    /// List all
    #[command(after_help = help::SENDERS)]
    List,
    /// Show one
    #[command(after_help = help::SENDERS)]
    Show {
        /// Its name
        name: String,
    },
}

/// `setup`.
#[derive(Debug, Args)]
#[command(after_help = help::SETUP)]
pub struct Setup {
    /// The scanner, by a word for it; without it, list those that are known
    pub scanner: Option<String>,
    /// The address from which the scanner sees the hop; may be given several times
    #[arg(long = "hop", value_name = "IP")]
    pub hops: Vec<IpAddr>,
    /// As what; a ticket (md, html) gets no tokens
    #[arg(long, value_enum, default_value_t = RecipeFormat::Text)]
    pub format: RecipeFormat,
    /// In place of the recipe, what to tell the security team
    #[arg(long)]
    pub paper: bool,
    /// In place of the recipe, what of it is in these exports, and what else there exempts mails; files, or folders of them
    #[arg(long, value_name = "EXPORT", num_args = 1.., requires = "scanner", conflicts_with = "paper")]
    pub check: Vec<PathBuf>,
}

/// What a recipe is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecipeFormat {
    /// For a terminal, with tokens
    Text,
    /// Markdown, without tokens
    Md,
    /// A page, without tokens
    Html,
    /// One JSON object, with tokens
    Json,
}

/// `unwrap`.
#[derive(Debug, Args)]
#[command(after_help = help::UNWRAP)]
pub struct Unwrap {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// The links; without any, one a line from standard input
    #[arg(value_name = "LINK")]
    pub links: Vec<String>,
}

/// `keygen`.
#[derive(Debug, Args)]
#[command(after_help = help::KEYGEN)]
pub struct Keygen {
    /// A token for the scanner's rule instead of a key
    #[arg(long)]
    pub token: bool,
    /// Put a key on top of this file, which keeps the older ones, or a first token into it; without it, print it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A step of a rotation
    #[command(flatten)]
    pub step: Rotation,
    /// Have mails carry a new token at once, which the scanner's rule does not know: for one that has leaked
    #[arg(long, requires_all = ["token", "out"], group = "step")]
    pub now: bool,
}

/// The steps of a token's rotation; one at a time.
#[derive(Debug, Default, Args)]
pub struct Rotation {
    /// Add a token that no mail carries yet, so that the scanner's rule can learn it (`setup` prints it)
    #[arg(long, requires_all = ["token", "out"], group = "step")]
    pub stage: bool,
    /// Make the staged token the one that mails carry; the older ones stay
    #[arg(long, requires_all = ["token", "out"], group = "step")]
    pub activate: bool,
    /// Take out the tokens that mails carried before
    #[arg(long, requires_all = ["token", "out"], group = "step")]
    pub retire: bool,
}
