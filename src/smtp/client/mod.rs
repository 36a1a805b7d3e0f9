//! The SMTP client. A session's `relay` takes a connection to one of the next hops from [`route`], the only place where one is
//! made, and speaks with it through [`next_hop`]; a mail's data goes by [`sending`]. Between mails a connection waits in [`pool`].

pub mod connection;
pub mod next_hop;
pub mod pool;
pub(super) mod relay;
pub mod route;
pub mod sending;
