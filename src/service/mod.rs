//! What all servers of the hop share: connections come in by [`listener`], are bounded by [`permits`] and [`memory`], may say
//! by [`proxy`] whom they are from, and end by [`Shutdown`].

pub mod listener;
pub mod memory;
pub mod permits;
pub mod proxy;

use tokio_util::sync::CancellationToken;

/// How servers and their sessions are told to stop, in two steps.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Nothing new is taken, and a session ends once its mail or request is done.
    pub drain: CancellationToken,
    /// A session's future is dropped where it stands. What it holds says so on record when it is dropped.
    pub cut: CancellationToken,
}

impl Shutdown {
    /// The same, with a step of its own: who gets this may cut its own sessions and nobody else's.
    #[must_use]
    pub fn cut_apart(self) -> Self {
        Self { cut: self.cut.child_token(), drain: self.drain }
    }
}
