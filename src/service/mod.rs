//! What all servers of the hop share: connections come in by [`listener`], are bounded by [`permits`] and [`memory`], may have a
//! client named by [`proxy`], and end by [`Shutdown`].

pub mod listener;
pub mod memory;
pub mod permits;
pub mod proxy;

use tokio_util::sync::CancellationToken;

/// The two signals that stop servers and their sessions.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Drain: no new connection is taken, and a session ends once its mail or request is done.
    pub drain: CancellationToken,
    /// Cut: a session's future is dropped where it stands. An open mail then writes its record.
    pub cut: CancellationToken,
}

impl Shutdown {
    /// The same signals, with a cut of its own: the holder may cut its own sessions and no others.
    #[must_use]
    pub fn cut_apart(self) -> Self {
        Self { cut: self.cut.child_token(), drain: self.drain }
    }
}
