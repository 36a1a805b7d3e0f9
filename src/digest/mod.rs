//! The digest: what owners of entries, and the operator, are told by mail before users notice.
//!
//! Facts come in, and for each address a [`Digest`] comes out, where there is something new ([`facts`], [`near_misses`]). It
//! becomes a mail ([`letter`]) and is sent ([`post`]). What was sent is remembered over restarts ([`memory`]), so that nobody gets
//! two in a day ([`schedule`]). What to say, to whom and when is pure; the loop that does it is in `commands::digest`.

pub mod facts;
pub mod letter;
pub mod memory;
pub mod near_misses;
pub mod post;
pub mod schedule;
pub mod text;

use std::path::PathBuf;

use jiff::civil::Time;
pub use lettre::Address;

pub use self::facts::{Digest, Facts};
use self::post::Server;

/// `[mail]`: who sends digests, to whom, when, and by which server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The server that takes them.
    pub server: Server,
    /// The address in From.
    pub from: Address,
    /// The operator's addresses, who hears of everything that has no owner.
    pub to: Vec<Address>,
    /// The time of day from which on they are sent, by the machine's time zone.
    pub at: Time,
    /// The folder in which what was sent is remembered.
    pub state: PathBuf,
}

/// An address as a key: two that differ in case alone are one reader's.
#[must_use]
pub fn key(address: &Address) -> String {
    address.to_string().to_lowercase()
}
