//! The SMTP client. A session's `relay` takes a connection to one of the next hops from [`route`], the only place where one is
//! made, and speaks with it through [`next_hop`]; [`outgoing`] writes a mail's data.

mod connection;
pub mod next_hop;
pub mod outgoing;
pub(super) mod relay;
pub mod route;
