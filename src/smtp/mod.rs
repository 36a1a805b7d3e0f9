//! SMTP, both ways: [`server`] takes mails from upstreams, [`client`] hands them to the next hop, [`codec`] is what both
//! speak, and [`config`] is what the admin decides about them.

pub mod client;
pub mod codec;
pub mod config;
pub mod server;
