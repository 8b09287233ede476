//! What the writer must know of the present: open runs, entries of the outbox not yet published, and
//! saga definitions. Everything in it is carried into the next generation.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::index::Place;
use crate::id::{Fingerprint, RunId};
use crate::journal::record::Record;
use crate::journal::{Change, Error, Transition, check_next};
use crate::planted;

/// The present state of the log.
#[derive(Debug, Default)]
pub struct Ledger {
    pub open: HashMap<RunId, OpenState>,
    /// Generation and place of the record that holds the entry.
    pub outbox: BTreeMap<(RunId, u64), (u64, Place)>,
    /// All that were stored since the process began, and those that open runs use.
    pub definitions: BTreeMap<Fingerprint, Arc<str>>,
    /// What was kept under a name.
    pub settings: BTreeMap<Arc<str>, Arc<str>>,
    /// Definitions that lie in the generation being written.
    pub written: BTreeSet<Fingerprint>,
}

/// An open run.
#[derive(Debug, Clone, Default)]
pub struct OpenState {
    /// Number of its next fact.
    pub next: u64,
    pub epoch: u64,
    /// The one that it began with, and those that it moved to.
    pub definitions: SmallVec<[Fingerprint; 1]>,
}

impl OpenState {
    fn uses(&mut self, definition: Fingerprint) {
        if !self.definitions.contains(&definition) {
            self.definitions.push(definition);
        }
    }
}

impl Ledger {
    /// Checks that a transition is the next one of its run. `ended` tells of runs that are not open.
    ///
    /// # Errors
    /// [`Error::Sequence`], [`Error::Epoch`] and [`Error::Ended`].
    pub fn check(&self, transition: &Transition, ended: impl Fn(RunId) -> bool) -> Result<(), Error> {
        let known = self.open.get(&transition.run).map(|open| (open.next, open.epoch));
        check_next(known, known.is_none() && ended(transition.run), transition)
    }

    /// Notes a change.
    pub fn change(&mut self, change: &Change, generation: u64, place: Place) {
        match change {
            Change::Run(transition) => {
                for entry in &transition.outbox {
                    self.outbox.insert((entry.run, entry.number), (generation, place));
                }
                if transition.ended.is_some() {
                    self.open.remove(&transition.run);
                    return;
                }
                let open = self.open.entry(transition.run).or_default();
                open.next = open.next.max(transition.sequence + transition.facts.len() as u64);
                open.epoch = open.epoch.max(transition.epoch);
                transition.definition.into_iter().for_each(|definition| open.uses(definition));
            }
            Change::Published { .. } if planted::is("published_is_forgotten") => {}
            Change::Published { run, number } => {
                self.outbox.remove(&(*run, *number));
            }
            Change::Definition { fingerprint, source } => {
                self.definitions.insert(*fingerprint, source.clone());
                self.written.insert(*fingerprint);
            }
            Change::Setting { name, value: Some(value) } => {
                self.settings.insert(Arc::clone(name), Arc::clone(value));
            }
            Change::Setting { name, value: None } => {
                self.settings.remove(name);
            }
            Change::Inbox(_) => {}
        }
    }

    /// Notes a record read back. `has_ended` tells of runs that ended in the records before it.
    pub fn restore(&mut self, record: &Record, generation: u64, place: Place, has_ended: impl Fn(RunId) -> bool) {
        match record {
            Record::Change(change) => self.change(change, generation, place),
            Record::CarriedFacts(carried) if !has_ended(carried.run) => {
                let open = self.open.entry(carried.run).or_default();
                open.next = open.next.max(carried.sequence + carried.facts.len() as u64);
                open.epoch = open.epoch.max(carried.epoch);
                open.uses(carried.definition);
            }
            Record::CarriedOutbox(entry) => {
                self.outbox.insert((entry.run, entry.number), (generation, place));
            }
            Record::CarriedFacts(_)
            | Record::Generation(_)
            | Record::CarriedPositions { .. }
            | Record::CarriedMark { .. }
            | Record::CarriedEvents(_)
            | Record::CarryDone => {}
        }
    }
}
