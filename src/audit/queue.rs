//! Records on their way to the writer: they are serialised by whoever has them, into one buffer, and taken all at once.
//!
//! Ordinary records gather for [`GATHER`], so that under load one waking of the thread, and one write, serves many mails. A record
//! that somebody waits for is taken at once, unless another such is on its way ([`Queue::announce`]): those gather for [`COMMIT`] at
//! most, so that they share what the disk costs.

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot};

use super::AuditError;
use crate::{limits, mail::Record};

/// Octets of the queue's bound for one permit.
pub(super) const STEP: usize = 1024;

/// The permits for a record; one that is larger than the queue takes all of them.
pub(super) fn steps(weight: usize) -> u32 {
    u32::try_from(weight.div_ceil(STEP).clamp(1, limits::AUDIT_QUEUE / STEP)).unwrap_or(u32::MAX)
}

/// Where it is told what becomes of a record that somebody waits for.
#[derive(Debug)]
pub(super) struct Answer {
    told: oneshot::Sender<Result<(), AuditError>>,
    is_withdrawn: Arc<AtomicBool>,
}

/// What becomes of it is told here. Dropped, the record is written all the same.
#[derive(Debug)]
pub(super) struct Waiter {
    told: oneshot::Receiver<Result<(), AuditError>>,
    is_withdrawn: Arc<AtomicBool>,
}

/// Both ends.
pub(super) fn answer() -> (Answer, Waiter) {
    let ((told, waiting), is_withdrawn) = (oneshot::channel(), Arc::<AtomicBool>::default());
    (Answer { told, is_withdrawn: Arc::clone(&is_withdrawn) }, Waiter { told: waiting, is_withdrawn })
}

impl Waiter {
    /// Waits so long. Then the record is withdrawn: it is not written, unless the writer has it in hand.
    pub(super) async fn wait(self, patience: Duration) -> Result<(), AuditError> {
        tokio::time::timeout(patience, self.told).await.map_or_else(
            |_| {
                self.is_withdrawn.store(true, Relaxed);
                Err(AuditError::Busy)
            },
            |told| told.map_err(|_| AuditError::Busy)?,
        )
    }

    /// Waits on a thread of its own, as long as it takes.
    pub(super) fn block(self) -> Result<(), AuditError> {
        self.told.blocking_recv().map_err(|_| AuditError::Busy)?
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something has come, or the queue was closed.
    come: Condvar,
    /// The bound: a permit for each [`STEP`] octets.
    pub(super) room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    /// Records that will be waited for, and are not in the batch yet.
    announced: usize,
    /// Whether the last handle is gone.
    is_closed: bool,
    /// Whether the writer's thread is gone.
    is_ended: bool,
}

/// What is taken from the queue at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The records as JSON, one behind the other.
    octets: Vec<u8>,
    jobs: Vec<Job>,
    /// How many of them somebody waits for.
    pub(super) awaited: usize,
}

/// A record of a batch, or no record: that all before it be made sure of, with a last checkpoint.
#[derive(Debug)]
struct Job {
    length: usize,
    /// Whether the record is left out: it was withdrawn.
    is_abandoned: bool,
    /// Its share of the bound.
    steps: usize,
    answer: Option<Answer>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), come: Condvar::new(), room: Arc::new(Semaphore::new(limits::AUDIT_QUEUE / STEP)) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record in, with the permits that were taken for it and are given back with it. None asks that all before it be made
    /// sure of.
    pub(super) fn put(&self, record: Option<&Record>, steps: usize, answer: Option<Answer>) {
        let mut json = Vec::with_capacity(STEP);
        if let Some(record) = record {
            record.write(&mut json);
        }
        let mut waiting = self.lock();
        if waiting.is_ended {
            // Dropping the answer says so.
            return;
        }
        let batch = &mut waiting.batch;
        let (was_empty, is_awaited) = (batch.jobs.is_empty(), answer.is_some());
        batch.octets.extend_from_slice(&json);
        batch.jobs.push(Job { length: json.len(), is_abandoned: false, steps, answer });
        batch.awaited += usize::from(is_awaited);
        let wakes = was_empty || is_awaited && batch.awaited == 1;
        drop(waiting);
        if wakes {
            self.come.notify_one();
        }
    }

    /// A record that will be waited for is on its way.
    pub(super) fn announce(&self) {
        self.lock().announced += 1;
    }

    /// One that was announced is here, or does not come.
    pub(super) fn came(&self) {
        let mut waiting = self.lock();
        waiting.announced = waiting.announced.saturating_sub(1);
        let wakes = waiting.announced == 0 && waiting.batch.awaited > 0;
        drop(waiting);
        if wakes {
            self.come.notify_one();
        }
    }

    /// Has [`Queue::take`] end once the queue is empty.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.come.notify_one();
    }

    /// Nothing is taken any more: who waits, or will, is told at once that the audit does not answer.
    pub(super) fn end(&self) {
        let mut waiting = self.lock();
        waiting.is_ended = true;
        waiting.batch = Batch::default();
        self.room.close();
    }

    /// Takes what has come, into a batch that is empty. Nothing where nothing comes for this time. False once the queue is closed
    /// and empty.
    pub(super) fn take(&self, into: &mut Batch, patience: Duration) -> bool {
        let wait = |waiting, time, holds: &dyn Fn(&Waiting) -> bool| {
            let holds = |waiting: &mut Waiting| !waiting.is_closed && holds(waiting);
            self.come.wait_timeout_while(waiting, time, holds).unwrap_or_else(PoisonError::into_inner).0
        };
        let mut waiting = wait(self.lock(), patience, &|waiting| waiting.batch.jobs.is_empty());
        if waiting.batch.jobs.is_empty() {
            return !waiting.is_closed;
        }
        if waiting.batch.awaited == 0 {
            waiting = wait(waiting, GATHER, &|waiting| waiting.batch.awaited == 0 && waiting.batch.octets.len() < ENOUGH);
        }
        if waiting.batch.awaited > 0 {
            waiting = wait(waiting, COMMIT, &|waiting| waiting.announced > 0 && waiting.batch.octets.len() < ENOUGH);
        }
        mem::swap(&mut waiting.batch, into);
        true
    }

    /// Gives the batch's share of the bound back, and empties it.
    pub(super) fn done(&self, batch: &mut Batch) {
        let steps: usize = batch.jobs.iter().map(|job| job.steps).sum();
        self.room.add_permits(steps);
        batch.octets.clear();
        batch.jobs.clear();
        batch.awaited = 0;
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Leaves out what was withdrawn: who waited too long has passed the mail as an ordinary one, and writes that instead.
    pub(super) fn leave_out_withdrawn(&mut self) {
        for job in &mut self.jobs {
            job.is_abandoned = job.answer.as_ref().is_some_and(|answer| answer.is_withdrawn.load(Relaxed));
        }
    }

    /// The records that are to be written.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.octets.as_slice();
        self.jobs.iter().filter_map(move |job| {
            let (record, behind) = rest.split_at_checked(job.length)?;
            rest = behind;
            (!job.is_abandoned && !record.is_empty()).then_some(record)
        })
    }

    /// Whether somebody asks that all be made sure of.
    pub(super) fn asks_to_settle(&self) -> bool {
        self.jobs.iter().any(|job| job.length == 0)
    }

    /// How many records nobody waits for.
    pub(super) fn unawaited(&self) -> usize {
        self.jobs.len() - self.awaited
    }

    /// Tells everybody who waits.
    pub(super) fn answer(&mut self, outcome: &Result<(), AuditError>) {
        for answer in self.jobs.iter_mut().filter_map(|job| job.answer.take()) {
            // The receiver may have been dropped.
            let _ = answer.told.send(outcome.clone());
        }
    }
}

/// How long ordinary records gather.
const GATHER: Duration = Duration::from_millis(20);
/// How long records that are waited for gather, where others are on their way.
const COMMIT: Duration = Duration::from_millis(2);
/// Octets of records that gather no longer.
const ENOUGH: usize = limits::AUDIT_QUEUE / 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_writer_has_ended_nobody_waits() {
        let queue = Queue::new();
        let put = || {
            let (answer, waiter) = answer();
            queue.put(None, 1, Some(answer));
            waiter.told
        };
        let mut before = put();
        assert!(matches!(before.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        queue.end();
        for mut told in [before, put()] {
            assert!(matches!(told.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        }
        assert!(queue.room.try_acquire().is_err());
    }
}
