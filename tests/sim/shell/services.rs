//! The participants of the shell's simulation: one effect for each (run, step), answers by key, and the
//! barrier against an action that arrives behind its own undo. They outlive every crash.

use std::collections::BTreeMap;

use backstitch::request::Direction;
use backstitch::time::Timestamp;

/// One call as it arrived at the door, before anything is done with it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub sent: Timestamp,
    pub life: u64,
    pub run: String,
    pub step: String,
    pub direction: Direction,
    /// Where it went: `/v2/charge`.
    pub target: String,
    pub key: String,
    pub trace: String,
    pub correlation: String,
    /// When its caller was told, and how long it was asked to stay away.
    pub answered: Option<(Timestamp, u64)>,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Effect {
    pub done: u32,
    pub undone: u32,
    barred: bool,
}

/// What the participants remember.
#[derive(Debug, Default)]
pub struct Services {
    pub calls: Vec<Seen>,
    pub effects: BTreeMap<(String, String), Effect>,
    replies: BTreeMap<String, bool>,
}

impl Services {
    /// Notes an arrival; returns its place and how many like it came before.
    pub fn arrive(&mut self, seen: Seen) -> (usize, usize) {
        let before = self
            .calls
            .iter()
            .filter(|call| call.run == seen.run && call.step == seen.step && call.direction == seen.direction)
            .count();
        self.calls.push(seen);
        (self.calls.len() - 1, before)
    }

    /// Does what a call asks for; false: refused, because its undo was here first.
    pub fn apply(&mut self, at: usize) -> bool {
        let Seen { run, step, direction, key, .. } = self.calls[at].clone();
        if let Some(reply) = self.replies.get(&key) {
            return *reply;
        }
        let effect = self.effects.entry((run, step)).or_default();
        let reply = match direction {
            Direction::Forward if effect.barred => false,
            Direction::Forward => {
                effect.done += 1;
                true
            }
            Direction::Compensate => {
                effect.barred = true;
                effect.undone += u32::from(effect.done > effect.undone);
                true
            }
            Direction::Check => return effect.done > effect.undone,
        };
        self.replies.insert(key, reply);
        reply
    }
}
