//! SMTP, both ways: [`server`] takes mails from upstreams, [`client`] sends them to the next hop, [`codec`] is the syntax of
//! both, and [`config`] their settings.

pub mod client;
pub mod codec;
pub mod config;
pub mod server;
