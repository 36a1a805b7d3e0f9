//! The testbed of the demo and of the tests: a DNS zone, a sender that signs, a site with one-time links, a scanner.
//!
//! All of it lives in this process and on loopback. Nothing here runs in the service.

mod scanner;
mod sender;
mod site;
mod zone;

pub use self::{
    scanner::{Delivered, Rule, Scanner},
    sender::{Signer, post},
    site::Site,
    zone::Zone,
};
