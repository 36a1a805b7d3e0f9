//! What goes over the wire in either direction: commands and replies (RFC 5321 section 4).

pub mod command;
pub mod reply;
