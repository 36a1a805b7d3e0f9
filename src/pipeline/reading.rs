//! The reading pool: bodies are read off the threads that move mail, a few at a time, each within a share of processor time.
//!
//! Only proven mails are read. A mail made to be costly to read, from a sender that was broken into, takes one permit and not the
//! service.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    allowlist::{Finding, Reason},
    limits,
};

/// The permits for reading.
#[derive(Debug)]
pub(super) struct ReadingPool {
    permits: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for ReadingPool {
    /// Half of the processors read, the other half moves mail.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self { permits: Arc::new(Semaphore::new((processors / 2).max(1))), waiting: Semaphore::new(limits::READINGS_WAITING) }
    }
}

impl ReadingPool {
    /// Mails that wait for a permit now.
    pub(super) fn waiting(&self) -> usize {
        limits::READINGS_WAITING.saturating_sub(self.waiting.available_permits())
    }

    /// Waits for a permit. The caller takes memory for the work only afterwards, so that waiting costs none. Cancel-safe.
    ///
    /// # Errors
    /// The finding `busy`: no permit in time.
    pub(super) async fn permit(&self) -> Result<Permit, Finding> {
        let busy = || Finding::fails(Reason::Busy, "too many mails are being read at once");
        let waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let permit = timeout(limits::READING_WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        drop(waiting);
        permit.ok().and_then(Result::ok).map(|permit| Permit { _permit: permit }).ok_or_else(busy)
    }
}

/// A permit to read one mail, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Permit {
    /// Runs a piece of work on a blocking thread, [`limits::READING`] at most.
    ///
    /// # Errors
    /// The check that failed: too long (`budget`), a panic (`fault`). Work that takes too long goes on to its end and holds its
    /// permit until then; its result is dropped. So it is where this future is dropped.
    pub(super) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Finding> {
        let job = tokio::task::spawn_blocking(move || {
            let done = catch_unwind(AssertUnwindSafe(work));
            drop(self);
            done
        });
        match timeout(limits::READING, job).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(_) => Err(Finding::fails(Reason::Fault, "reading the mail failed; please report it with the mail")),
            Err(_) => Err(Finding::fails(Reason::Budget, format!("reading it takes more than {} ms", limits::READING.as_millis()))),
        }
    }
}
