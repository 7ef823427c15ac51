//! The only place that reads a clock: for budgets and rates of campaigns, never for a decision
//! inside an execution.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Time since a start.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[expect(clippy::disallowed_methods, reason = "the one place that may read the clock")]
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// Whether the time is up.
    pub fn exceeds(&self, budget: Option<Duration>) -> bool {
        budget.is_some_and(|budget| self.0.elapsed() >= budget)
    }
}

/// Seconds since 1970, UTC: for the record of a finding.
pub fn unix_seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

/// Time that the calling thread has had of a processor since a start: what a core does in a
/// second, whatever else the computer is doing.
#[derive(Clone, Copy, Debug)]
pub struct ProcessorTime(f64);

impl ProcessorTime {
    /// Starts.
    pub fn start() -> Self {
        ProcessorTime(Self::now())
    }

    /// Seconds of processor time of this thread since the start.
    pub fn seconds(&self) -> f64 {
        Self::now() - self.0
    }

    fn now() -> f64 {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    }
}
