//! A mail's plain data, from its transaction to its record; every other module builds on it.
//!
//! A [`Transaction`] comes in: a [`Client`], an [`Envelope`] and data. It ends in an [`Outcome`], and a [`Record`] holds all of
//! it, written and read by the same type. The closed vocabularies of a record are here, too.

mod auth_result;
mod counted;
mod flaw;
mod kind;
mod network;
mod outcome;
mod reason;
pub mod record;
mod transaction;

pub use self::{
    auth_result::AuthResult,
    counted::{counted, lasting},
    flaw::{Flaw, Flaws},
    kind::Kind,
    network::Network,
    outcome::{Delivery, Outcome},
    reason::{Action, Reason, VerdictKind},
    record::Record,
    transaction::{Client, Envelope, Held, LineRepair, Peer, Protocol, Transaction, address},
};
