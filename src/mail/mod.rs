//! A mail's plain data, from its arrival to its record; everything else stands on this.
//!
//! A [`Transaction`] comes in: a [`Client`], an [`Envelope`] and data. What became of it is an [`Outcome`], and a [`Record`]
//! says all of it, written and read by the same type. The closed vocabularies that a record carries are here too.

mod auth_result;
mod flaw;
mod kind;
mod network;
mod outcome;
mod reason;
pub mod record;
mod transaction;

pub use self::{
    auth_result::AuthResult,
    flaw::{Flaw, Flaws},
    kind::Kind,
    network::Network,
    outcome::{Delivery, Outcome},
    reason::{Action, Reason, VerdictKind},
    record::Record,
    transaction::{Client, Envelope, LineRepair, Peer, Protocol, Transaction, address},
};
