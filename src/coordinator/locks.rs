//! Semantic locks: one namespace for all sagas, first come first served. Held in memory and worked out
//! again from open runs at a restart; only sagas with a `lock` come here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::id::RunId;

/// Who holds which lock, and who waits.
#[derive(Default)]
pub struct Locks {
    queues: Mutex<HashMap<String, VecDeque<RunId>>>,
}

impl Locks {
    /// Queues a run for a lock. True when it holds it. Asking again changes nothing.
    pub fn acquire(&self, name: &str, run: RunId) -> bool {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(name.to_owned()).or_default();
        if !queue.contains(&run) {
            queue.push_back(run);
        }
        queue.front() == Some(&run)
    }

    /// Takes a run out of a lock's queue. Returns the run that holds it from then on, when that is
    /// another one than before.
    pub fn release(&self, name: &str, run: RunId) -> Option<RunId> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get_mut(name)?;
        let held = queue.front() == Some(&run);
        queue.retain(|waiting| *waiting != run);
        let next = queue.front().copied();
        if next.is_none() {
            queues.remove(name);
        }
        if held { next } else { None }
    }

    /// Returns every lock by name: the run that holds it, then those that wait, in order.
    pub fn all(&self) -> Vec<(String, Vec<RunId>)> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> =
            queues.iter().map(|(name, queue)| (name.clone(), queue.iter().copied().collect())).collect();
        all.sort();
        all
    }

    /// Returns the run that holds a lock.
    pub fn holder(&self, name: &str) -> Option<RunId> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(name).and_then(|queue| queue.front().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served() {
        let locks = Locks::default();
        let [a, b, c] = [1, 2, 3].map(|n| RunId(uuid::Uuid::from_u128(n)));
        assert!(locks.acquire("order/1", a));
        assert!(!locks.acquire("order/1", b) && !locks.acquire("order/1", c));
        assert!(locks.acquire("order/1", a), "asking again keeps it");
        assert_eq!(locks.release("order/1", b), None, "a waiting run that gives up frees nothing");
        assert_eq!(locks.release("order/1", a), Some(c));
        assert_eq!(locks.holder("order/1"), Some(c));
        assert_eq!(locks.release("order/1", c), None);
        assert_eq!(locks.holder("order/1"), None);
    }
}
