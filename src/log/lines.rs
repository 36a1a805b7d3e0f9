//! Lines on their way out: one thread writes them in batches, so that nobody who has something to say waits for whoever reads it.
//!
//! The buffer has a bound. What does not fit is counted, and told once there is room. A warning or an error is written at once, all
//! else within [`GATHER`]. An end, orderly or by a panic, waits until all is written, and from then on each line is written by whoever
//! says it.

use std::{
    io::{self, Write as _},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

use super::journal;
use crate::limits;

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// Standard error; each line has its end.
    Standard,
    /// The journal; entries as [`journal`] packs them.
    Journal,
}

/// How soon a line must be out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// With others.
    Gathered,
    /// Now: somebody may look at it next, or the clock of its reader counts.
    Now,
}

/// Lines that were dropped since the start.
pub(super) fn dropped() -> &'static Counter {
    static DROPPED: OnceLock<Counter> = OnceLock::new();
    DROPPED.get_or_init(Counter::default)
}

/// The lines that are to be written, and the thread that does it.
#[derive(Debug)]
pub(super) struct Lines {
    sink: Sink,
    waiting: Mutex<Waiting>,
    /// Something is to be written.
    come: Condvar,
    /// All is written.
    gone: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    octets: Vec<u8>,
    /// Lines that did not fit since the last that did.
    dropped: u64,
    is_urgent: bool,
    /// Whether the thread is writing what it took.
    is_writing: bool,
    /// Whether lines are no longer gathered.
    is_over: bool,
}

impl Lines {
    /// Starts the thread. Where there is none, each line is written by whoever says it.
    pub(super) fn start(sink: Sink) -> Arc<Self> {
        let lines = Arc::new(Self { sink, waiting: Mutex::default(), come: Condvar::new(), gone: Condvar::new() });
        let writer = Arc::clone(&lines);
        if thread::Builder::new().name("log".into()).spawn(move || writer.write()).is_err() {
            lines.lock().is_over = true;
        }
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or an entry, which `put` writes behind the others. It waits for nobody; where there is no room it drops the line.
    pub(super) fn add(&self, haste: Haste, put: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = self.lock();
        if waiting.is_over {
            // The thread may hang in a write. Then this would, too.
            if !waiting.is_writing {
                let mut line = Vec::new();
                put(&mut line);
                self.sink.write(&line);
            }
            return;
        }
        let before = waiting.octets.len();
        put(&mut waiting.octets);
        if waiting.octets.len() > limits::LOG_LINES {
            waiting.octets.truncate(before);
            waiting.dropped += 1;
            dropped().inc();
            return;
        }
        let is_urgent = haste == Haste::Now && !waiting.is_urgent;
        waiting.is_urgent |= is_urgent;
        drop(waiting);
        if before == 0 || is_urgent {
            self.come.notify_one();
        }
    }

    /// Returns once all is written, or this time is over.
    pub(super) fn flush(&self, patience: Duration) {
        drop(self.flushed(patience));
    }

    fn flushed(&self, patience: Duration) -> MutexGuard<'_, Waiting> {
        let mut waiting = self.lock();
        waiting.is_urgent = true;
        self.come.notify_one();
        let is_left = |waiting: &mut Waiting| waiting.is_writing || !waiting.octets.is_empty() || waiting.dropped > 0;
        self.gone.wait_timeout_while(waiting, patience, is_left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes what there is, and gathers no more.
    pub(super) fn end(&self) {
        self.flushed(limits::LOG_END).is_over = true;
        self.come.notify_one();
    }

    fn write(&self) {
        let mut taken = Vec::new();
        let mut waiting = self.lock();
        loop {
            if waiting.octets.is_empty() {
                let dropped = std::mem::take(&mut waiting.dropped);
                if dropped > 0 {
                    drop(waiting);
                    tracing::error!(lines = dropped, "log lines were dropped: they came faster than they are read");
                    waiting = self.lock();
                    continue;
                }
                if waiting.is_over {
                    return;
                }
                self.gone.notify_all();
                waiting = self.come.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let is_few = |waiting: &mut Waiting| !waiting.is_urgent && !waiting.is_over && waiting.octets.len() < limits::LOG_LINES / 2;
            (waiting, _) = self.come.wait_timeout_while(waiting, GATHER, is_few).unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut waiting.octets, &mut taken);
            (waiting.is_urgent, waiting.is_writing) = (false, true);
            drop(waiting);
            self.sink.write(&taken);
            taken.clear();
            waiting = self.lock();
            waiting.is_writing = false;
        }
    }
}

impl Sink {
    /// Writes lines, however long that takes. What cannot be written is counted as dropped.
    fn write(self, octets: &[u8]) {
        match self {
            Self::Journal => journal::send(octets),
            Self::Standard => write_all(octets),
        }
    }
}

/// Writes to standard error, also where that is a pipe that never waits.
pub(super) fn write_all(mut octets: &[u8]) {
    let mut error = io::stderr().lock();
    while !octets.is_empty() {
        match error.write(octets) {
            Ok(written) if written > 0 => octets = octets.get(written..).unwrap_or_default(),
            Err(failed) if failed.kind() == io::ErrorKind::Interrupted => {}
            Err(failed) if failed.kind() == io::ErrorKind::WouldBlock => thread::sleep(GATHER),
            _ => {
                dropped().inc_by(memchr::memchr_iter(b'\n', octets).count() as u64);
                return;
            }
        }
    }
}

/// How long a line waits for others: under load one write, and one waking of the thread, serves many mails.
const GATHER: Duration = Duration::from_millis(20);
