//! Who sent a mail.

pub mod proof;
