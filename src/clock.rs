//! The clock: the only module that reads the time.
//!
//! Modules that judge take the time as an argument, so that the same mail gets the same decision
//! in a test, in `explain` and in the hop.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, Instant},
};

pub use jiff::Timestamp;
use jiff::{ZonedDateTime, tz::TimeZone};
use tokio::time::{Sleep, sleep};

/// The current time of day.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the function that the ban points to")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A point from which to measure a duration.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// A stopwatch that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the function that the ban points to")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A timer for one wait after another. One that is set anew for each wait costs more than most waits, so it stays set, and when it
/// rings too early it is moved.
#[derive(Debug)]
pub struct Alarm(Pin<Box<Sleep>>);

/// The deadline of a wait has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

impl Alarm {
    /// One that was set for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::pin(sleep(FIRST_RING)))
    }

    /// Waits until the deadline; what is there when it is looked at counts.
    ///
    /// # Errors
    /// The deadline has passed.
    pub async fn within<F: Future>(&mut self, deadline: tokio::time::Instant, wait: F) -> Result<F::Output, TimedOut> {
        let mut wait = pin!(wait);
        poll_fn(|context| {
            if let Poll::Ready(output) = wait.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if self.0.deadline() > deadline {
                self.0.as_mut().reset(deadline);
            }
            while self.0.as_mut().poll(context).is_ready() {
                if tokio::time::Instant::now() >= deadline {
                    return Poll::Ready(Err(TimedOut));
                }
                self.0.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

/// Longer than nearly every wait.
const FIRST_RING: Duration = Duration::from_secs(2);

/// A time as RFC 5322 section 3.3 writes it, in UTC.
#[must_use]
pub fn rfc5322(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A time as the audit writes it: RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// A new id: the time in milliseconds and 32 random bits, in hexadecimal, so that ids sort by time and no two replicas make the
/// same.
#[must_use]
pub fn id() -> String {
    let mut random = [0_u8; 4];
    // Without random bits the time alone still makes ids differ within one replica.
    let _ = aws_lc_rs::rand::fill(&mut random);
    format!("{:011x}{:08x}", now().as_millisecond(), u32::from_be_bytes(random))
}

/// The current time in the zone of this machine, in which people read and type times.
#[must_use]
pub fn local() -> ZonedDateTime {
    now().to_zoned_datetime(TimeZone::system())
}
