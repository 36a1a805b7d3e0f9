//! Handing mails on: a session's `relay` has a connection to one of the next hops that [`route`] chose, and speaks with it
//! through [`next_hop`].

pub(super) mod connection;
pub mod next_hop;
pub mod outgoing;
pub(super) mod relay;
pub mod route;
