//! The simulated participants: an idempotency store, and the barrier, (run, step) being one effect in
//! both directions: a late action after its undo is refused.

use std::collections::BTreeMap;

/// What a service does with one arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Does it and says so.
    Ok,
    /// Says no; nothing happens. 409.
    Refuse,
    /// The request is lost on the way.
    LoseRequest,
    /// Does it, and the answer is lost.
    LoseReply,
    /// Nothing happens, come again: 503 with Retry-After.
    Busy,
    /// The answer never comes in time, and the request lands this much later (ms).
    Late(u64),
    /// Answers 500 without having done it.
    Error,
}

#[derive(Debug, Default, Clone)]
pub struct Effect {
    pub applied: bool,
    /// The barrier: an undo was here.
    pub undone: bool,
    /// Keys that have been answered with success.
    pub keys: Vec<String>,
    /// How often that was said, repeats and lost answers included.
    pub answers: u32,
    /// Times that something really changed forward; above one is a duplicate.
    pub times: u32,
}

/// Every participant in one: effects by step.
#[derive(Debug, Default)]
pub struct Services {
    pub effects: BTreeMap<String, Effect>,
    /// A control: keys are ignored.
    pub ignore_keys: bool,
    /// A control: the barrier is not kept.
    pub no_barrier: bool,
}

/// What arriving changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Applied,
    Undone,
    Nothing,
    /// The barrier or the store said no.
    Refused,
}

impl Services {
    pub fn forward(&mut self, path: &str, key: &str) -> Change {
        let (ignore, no_barrier) = (self.ignore_keys, self.no_barrier);
        let effect = self.effects.entry(path.to_owned()).or_default();
        if effect.undone && !no_barrier {
            return Change::Refused;
        }
        if effect.keys.iter().any(|known| known == key) && !ignore {
            return Change::Nothing;
        }
        effect.keys.push(key.to_owned());
        effect.applied = true;
        effect.times += 1;
        Change::Applied
    }

    pub fn undo(&mut self, path: &str) -> Change {
        let effect = self.effects.entry(path.to_owned()).or_default();
        effect.undone = true;
        effect.applied = false;
        Change::Undone
    }

    /// The service promises that this will never happen: a proof, or a conclusive check.
    pub fn rule_out(&mut self, path: &str) {
        self.effects.entry(path.to_owned()).or_default().undone = true;
    }

    pub fn applied(&self, path: &str) -> bool {
        self.effects.get(path).is_some_and(|effect| effect.applied)
    }
}
