//! Timers of one shard: a heap by due time. Nothing is cancelled; a timer that nobody waits for is
//! rejected by the core.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::id::RunId;
use crate::saga::Timer;
use crate::time::Timestamp;

/// The clock may jump, so no sleep is longer than this before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, RunId, Timer)>>,
}

impl Timers {
    pub fn set(&mut self, due: Timestamp, run: RunId, timer: Timer) {
        self.heap.push(Reverse((due, run, timer)));
    }

    /// Takes one timer that is due.
    pub fn take_due(&mut self, now: Timestamp) -> Option<(RunId, Timer)> {
        let Reverse((due, ..)) = self.heap.peek()?;
        if *due > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, run, timer))| (run, timer))
    }

    /// Returns how many timers there are, and how many of them are due.
    pub fn count(&self, now: Timestamp) -> (usize, usize) {
        let due = match self.sleep(now) {
            Some(Duration::ZERO) => self.heap.iter().filter(|Reverse((due, ..))| *due <= now).count(),
            _ => 0,
        };
        (self.heap.len(), due)
    }

    /// Returns how long to sleep until the next one may be due; none when there is none.
    pub fn sleep(&self, now: Timestamp) -> Option<Duration> {
        let Reverse((due, ..)) = self.heap.peek()?;
        Some(due.since(now).to_std().min(LOOK_AGAIN))
    }
}
