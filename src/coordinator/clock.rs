//! The system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::{Clock, Timestamp};

/// Wall-clock time. It may jump; timers are compared with it again at least once a second.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
