//! The syntax of SMTP, both ways: octets in, values out, with no connection and no clock (RFC 5321 sections 2.3.7, 2.3.8, 4.1,
//! 4.2 and 4.5.2).
//!
//! | what | read | written |
//! |---|---|---|
//! | command lines | [`mod@line`] | with the command |
//! | commands, their paths and parameters | [`command`] | [`command`] |
//! | XCLIENT and XFORWARD attributes, xtext | [`attributes`] | [`attributes`] |
//! | replies | [`reply`] | [`reply`] |
//! | EHLO keywords | [`extensions`] | [`extensions`] |
//! | a mail's data | [`data`] | [`stuffing`] |
//! | the same, passed on | [`passage`] | [`passage`] |

pub mod attributes;
pub mod command;
pub mod data;
pub mod extensions;
pub mod line;
pub mod passage;
pub mod reply;
pub mod stuffing;
