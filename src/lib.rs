//! firstclick: the first click on a one-time link belongs to the person it was sent to.
//!
//! The map of the house. A mail comes in by a door, walks through the hall and its rooms, and leaves by the same door:
//!
//! - [`smtp`], the door: bytes into a mail, an outcome into replies;
//! - [`pipeline`], the hall: one mail, one walk;
//! - the rooms: [`message`] reads it, [`identity`] asks who sent it, [`allowlist`] judges it, [`recognition`] says what it is, [`edit`] changes it,
//!   [`audit`] remembers it;
//! - beside them [`settings`], what the admin wrote, [`limits`], every bound with its reason, and [`clock`], the only
//!   reader of time, [`tls`], [`metrics`], every counter once, and the macro behind the closed vocabularies;
//! - above them [`commands`], which know all of this, and [`cli`], what can be typed; [`stage`] is what the demo and the
//!   tests play on.
//!
//! The library exists so that tests own listeners, DNS and shutdown. `tests/house.rs` holds who may know whom.

pub mod allowlist;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod edit;
pub mod http;
pub mod identity;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod milter;
pub mod pipeline;
pub mod recognition;
pub mod settings;
pub mod smtp;
pub mod stage;
pub mod tls;
mod vocabulary;
