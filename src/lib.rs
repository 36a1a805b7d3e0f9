//! firstclick: the first click on a one-time link belongs to the person it was sent to.
//!
//! The map of the house, in the order in which a mail walks it.

pub mod clock;
pub mod identity;
pub mod limits;
pub mod message;
pub mod policy;
