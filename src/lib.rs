//! firstclick: the first click on a one-time link belongs to the person it was sent to.
//!
//! The map. A mail comes in by [`smtp::server`] or [`milter`], is decided by [`pipeline`], and leaves by [`smtp::client`] or as
//! the milter's answer:
//!
//! - [`mail`]: plain data, the ground floor: transaction, outcome, record, the closed vocabularies;
//! - [`smtp`] and [`milter`]: octets into a transaction, an outcome into replies;
//! - [`pipeline`]: one transaction in, one record out;
//! - what it uses: [`message`] reads the mail, [`identity`] looks up its sender, [`recognition`] finds what it is about,
//!   [`allowlist`] judges it, [`edit`] changes it, [`audit`] records it;
//! - [`service`]: what servers share: listeners, permits, the budget of memory, and how they stop;
//! - [`http`]: the guard page and the admin page; [`link_store`]: the folder of short guard links;
//! - beside them [`settings`], what the admin wrote, [`regular`], how files are opened that may be no files, [`limits`], every bound with its reason, [`clock`], the only reader of
//!   the time of day, [`typed_time`], [`log`], [`printable`], [`tls`], [`metrics`], what fails and who mends it ([`failures`],
//!   [`readiness`], [`remedy`]), and the macro behind the closed vocabularies;
//! - [`setup`]: the recipes that scanners are told by;
//! - [`digest`]: what owners of entries and the operator are told by mail;
//! - above them [`commands`] and [`cli`], what can be typed; [`testbed`] is what the demo and the tests run on.
//!
//! The library exists so that tests own listeners, DNS and shutdown. `tests/suite/architecture.rs` holds which module may use which.

pub mod allowlist;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod digest;
pub mod edit;
pub mod failures;
pub mod http;
pub mod identity;
pub mod limits;
pub mod link_store;
pub mod log;
pub mod mail;
pub mod message;
pub mod metrics;
pub mod milter;
pub mod pipeline;
pub mod printable;
pub mod readiness;
pub mod recognition;
pub mod regular;
pub mod remedy;
pub mod service;
pub mod settings;
pub mod setup;
pub mod smtp;
pub mod testbed;
pub mod tls;
pub mod typed_time;
pub mod vocabulary;
