//! What users need, at the level that they see it: one program, so that it is linked once. A test that needs a program that is
//! not there says so, and the list of all that was left out comes last (`skipped`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "a test that cannot go on panics, and a table of cases reads best in one piece"
)]

mod admin;
mod allow_folder;
mod architecture;
mod attacks;
mod audit;
mod audit_find;
mod audit_kept;
mod bounds;
mod browser;
mod browsers;
mod catalogue;
mod check;
mod chunking;
mod commands;
mod dependencies;
mod dialogues;
mod digest;
mod documents;
mod edits;
mod exempt;
mod faults;
mod guard;
mod guardpage;
mod health;
mod hop;
mod identity;
mod identity_upstream;
mod interop;
mod large_mails;
mod linkifiers;
mod listener;
mod log;
mod manual;
mod memory;
mod migrate;
mod milter;
mod mtas;
mod mutations;
mod outcomes;
mod packages;
mod policy_records;
mod pool;
mod properties;
mod pseudonyms;
mod public_reports;
mod recipients;
mod recognised_mails;
mod recognition;
mod refusals;
mod relay;
mod reload;
mod rotation;
mod said;
mod saved_mails;
mod scanners;
mod second_day;
mod senders;
mod service;
mod setup;
mod setup_check;
mod shapes;
mod shipped;
mod short_links;
mod start;
mod systemd;
mod tls;
mod upstreams;
