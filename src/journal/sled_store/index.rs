//! Where what lies in one generation, in memory: the facts of each run and the runs that ended in it. The
//! generation being written has only this; a sealed one has it as sorted pages.

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use crate::id::RunId;
use crate::journal::record::Record;
use crate::journal::{Change, Ended, FinishedFilter, SummaryIndex, Tombstone, Transition};
use crate::time::Timestamp;

/// A record's place in a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub commit: u64,
    /// In the commit's stream.
    pub offset: u32,
}

/// Where facts of a run begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FactsPlace {
    /// Number of the first fact there.
    pub sequence: u64,
    pub place: Place,
}

/// What a list filters by, as numbers: equal texts give equal numbers, so a list looks only at records
/// that may be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    pub saga: u64,
    pub state: u64,
    pub correlation_id: u64,
    pub key: u64,
}

/// A finished run in the order of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedPlace {
    pub place: Place,
    pub marks: Marks,
}

/// One generation's index.
#[derive(Debug, Default)]
pub struct Index {
    pub runs: HashMap<RunId, RunPlaces>,
    pub ended: BTreeMap<(Timestamp, RunId), EndedPlace>,
    pub tombstones: HashMap<RunId, Tombstone>,
}

/// Where a run's records are.
#[derive(Debug, Default)]
pub struct RunPlaces {
    pub facts: SmallVec<[FactsPlace; 4]>,
    /// The record with its summary.
    pub ended: Option<Place>,
}

impl Index {
    /// Notes a record.
    pub fn apply(&mut self, record: &Record, place: Place) {
        match record {
            Record::Change(change) => self.change(change, place),
            // One without facts says which definition is in use, nothing else.
            Record::CarriedFacts(carried) if carried.facts.is_empty() => {}
            Record::CarriedFacts(carried) => self.facts(carried.run, carried.sequence, place),
            Record::Generation(_)
            | Record::CarriedOutbox(_)
            | Record::CarriedPositions { .. }
            | Record::CarriedMark { .. }
            | Record::CarriedEvents(_)
            | Record::CarryDone => {}
        }
    }

    /// Notes a change.
    pub fn change(&mut self, change: &Change, place: Place) {
        match change {
            Change::Run(transition) => self.transition(transition, place),
            Change::Inbox(_) | Change::Published { .. } | Change::Definition { .. } | Change::Setting { .. } => {}
        }
    }

    fn facts(&mut self, run: RunId, sequence: u64, place: Place) {
        self.runs.entry(run).or_default().facts.push(FactsPlace { sequence, place });
    }

    fn transition(&mut self, transition: &Transition, place: Place) {
        let run = transition.run;
        if !transition.facts.is_empty() {
            self.facts(run, transition.sequence, place);
        }
        if let Some(Ended { index, tombstone, .. }) = &transition.ended {
            self.runs.entry(run).or_default().ended = Some(place);
            self.ended.insert((index.ended_at, run), EndedPlace { place, marks: Marks::of(index) });
            if let Some(tombstone) = tombstone {
                self.tombstones.insert(run, *tombstone);
            }
        }
    }

    /// True when the run ended in this generation.
    pub fn has_ended(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|places| places.ended.is_some())
    }
}

impl Marks {
    /// Returns the marks of a finished run.
    pub fn of(index: &SummaryIndex) -> Self {
        Self {
            saga: mark(&index.saga),
            state: mark(&index.state),
            correlation_id: mark(&index.correlation_id),
            key: index.key.as_deref().map_or(0, mark),
        }
    }

    /// False for a run that the filter cannot mean.
    pub fn may_match(&self, filter: &FinishedFilter) -> bool {
        let may = |wanted: &Option<String>, mine: u64| wanted.as_deref().is_none_or(|wanted| mark(wanted) == mine);
        may(&filter.saga, self.saga)
            && may(&filter.state, self.state)
            && may(&filter.correlation_id, self.correlation_id)
            && may(&filter.key, self.key)
    }
}

/// FNV-1a with 64 bits: these numbers are stored, so the function never changes.
fn mark(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
