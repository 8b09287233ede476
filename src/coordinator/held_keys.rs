//! Partition keys whose later events wait, because an earlier one was put aside: for consumers that declare
//! so. What waits lies in DEAD_LETTERS behind it and blocks nobody else. Rebuilt from there at start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

/// What becomes of later events with the partition key of one that was put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LaterEvents {
    /// They go on: the order within the key has a hole.
    #[default]
    Pass,
    /// They are put aside too, and come when it is through.
    Wait,
}

/// The reason of a dead letter that only waits.
pub const WAITS: &str = "waits_for_key";

/// The keys of one consumer. Bounded by the dead letters, of which each has one.
#[derive(Debug)]
pub struct HeldKeys {
    later: LaterEvents,
    inner: Mutex<Inner>,
    loaded: watch::Sender<bool>,
    freed: mpsc::UnboundedSender<String>,
}

#[derive(Debug, Default)]
struct Inner {
    keys: BTreeMap<String, Key>,
    generation: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Key {
    /// Letters of it that are on their way into DEAD_LETTERS.
    pending: u32,
    /// Grows with every letter.
    generation: u64,
}

/// A letter of a key on its way into DEAD_LETTERS; ends when it is there, or will come again.
pub struct Holding {
    held: Arc<HeldKeys>,
    key: Option<String>,
}

impl HeldKeys {
    /// Makes an empty set; `freed` is told each key of which a redriven event is through.
    #[must_use]
    pub fn new(later: LaterEvents) -> (Arc<Self>, mpsc::UnboundedReceiver<String>) {
        let (freed, told) = mpsc::unbounded_channel();
        let loaded = watch::Sender::new(later == LaterEvents::Pass);
        (Arc::new(Self { later, inner: Mutex::default(), loaded, freed }), told)
    }

    /// Returns what the consumer declares.
    #[must_use]
    pub fn later(&self) -> LaterEvents {
        self.later
    }

    /// True once the keys of earlier letters are known: before, no event may be taken.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Puts the keys of letters in that lie in DEAD_LETTERS at the start.
    pub fn load(&self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            self.lock().keys.entry(key).or_default();
        }
        self.loaded.send_replace(true);
    }

    /// True when an event of the key must wait.
    #[must_use]
    pub fn holds(&self, key: Option<&str>) -> bool {
        match (self.later, key) {
            (LaterEvents::Wait, Some(key)) => self.lock().keys.contains_key(key),
            (LaterEvents::Wait, None) | (LaterEvents::Pass, _) => false,
        }
    }

    /// Notes that an event of the key is being put aside.
    #[must_use]
    pub fn hold(self: &Arc<Self>, key: Option<&str>) -> Holding {
        let key = key.filter(|_| self.later == LaterEvents::Wait).map(str::to_owned);
        if let Some(key) = &key {
            let mut inner = self.lock();
            inner.generation += 1;
            let generation = inner.generation;
            let held = inner.keys.entry(key.clone()).or_default();
            *held = Key { pending: held.pending + 1, generation };
        }
        Holding { held: Arc::clone(self), key }
    }

    /// Returns a mark of what is known of a key: to be taken before DEAD_LETTERS is looked at.
    #[must_use]
    pub fn mark(&self, key: &str) -> u64 {
        self.lock().keys.get(key).map_or(0, |held| held.generation)
    }

    /// Lets the key go when nothing of it lies in DEAD_LETTERS; false when something came since the mark.
    #[must_use]
    pub fn release(&self, key: &str, mark: u64) -> bool {
        let mut inner = self.lock();
        let changed = inner.keys.get(key).is_some_and(|held| held.pending > 0 || held.generation != mark);
        if !changed {
            inner.keys.remove(key);
        }
        !changed
    }

    /// Tells that a redriven event of the key is through: the next one may come.
    pub fn through(&self, key: Option<&str>) {
        if let (LaterEvents::Wait, Some(key)) = (self.later, key) {
            let _ = self.freed.send(key.to_owned()); // nobody listens while the process ends
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(key) = &self.key
            && let Some(held) = self.held.lock().keys.get_mut(key)
        {
            held.pending = held.pending.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_wait_where_the_consumer_says_so() {
        let (passing, _) = HeldKeys::new(LaterEvents::Pass);
        drop(passing.hold(Some("a")));
        assert!(passing.is_loaded() && !passing.holds(Some("a")));
        let (waiting, mut told) = HeldKeys::new(LaterEvents::Wait);
        assert!(!waiting.is_loaded(), "what lies there is not known yet");
        waiting.load(["old".to_owned()]);
        drop(waiting.hold(Some("a")));
        drop(waiting.hold(None));
        let rows = [Some("a"), Some("old"), Some("b"), None];
        assert_eq!(rows.map(|key| waiting.holds(key)), [true, true, false, false]);
        waiting.through(Some("a"));
        assert_eq!(told.try_recv().unwrap(), "a");
        assert!(waiting.holds(Some("a")), "until nothing of it is left");
    }

    #[test]
    fn a_key_is_not_let_go_while_a_letter_is_on_its_way() {
        let (waiting, _told) = HeldKeys::new(LaterEvents::Wait);
        drop(waiting.hold(Some("a")));
        let mark = waiting.mark("a");
        let on_its_way = waiting.hold(Some("a"));
        assert!(!waiting.release("a", mark), "one came since");
        let mark = waiting.mark("a");
        assert!(!waiting.release("a", mark), "it is not there yet");
        drop(on_its_way);
        assert!(waiting.release("a", mark) && !waiting.holds(Some("a")));
    }
}
