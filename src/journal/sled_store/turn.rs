//! The turn of a generation: a new store is begun, what is still needed of the old one is carried into
//! it in slices between commits, then the old one is sealed. Whatever moment the process dies at, the
//! next start goes on from there: until `CarryDone` is in the new store the old one is read too.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::index::FactsPlace;
use super::open::create_generation;
use super::pack;
use super::read::read_facts;
use super::shared::Generation;
use super::store::Store;
use super::writer::Writer;
use crate::failpoint;
use crate::id::{Fingerprint, RunId};
use crate::journal::record::{self, CarriedFacts, Record};
use crate::journal::{Change, Error, OutboxEntry};
use crate::planted;

/// Bytes of one slice: well under a millisecond to read and to write, so commits do not wait for it.
const SLICE_BYTES: usize = 256 << 10;
/// The next turn waits until the new generation holds so many times what was carried into it, or a
/// journal with many open runs would do nothing but carry.
const CARRIED_SHARE: u64 = 4;

/// What has yet to be carried.
#[derive(Default)]
pub struct Carry {
    runs: VecDeque<OpenAtTurn>,
    outbox: VecDeque<(RunId, u64)>,
    /// Ready to be written.
    records: VecDeque<Record>,
}

struct OpenAtTurn {
    run: RunId,
    epoch: u64,
    definitions: SmallVec<[Fingerprint; 1]>,
}

impl Writer {
    /// Begins a new generation when the present one is large enough.
    pub fn turn_if_due(&mut self) -> Result<(), Error> {
        let limit = self.shared.options.generation_bytes.max(CARRIED_SHARE.saturating_mul(self.carried_bytes));
        if self.live_bytes < limit || self.carry.is_some() || self.has_previous() || !self.shared.accepts() {
            return Ok(());
        }
        failpoint::hit("turn.begun");
        let mut first = Vec::new();
        let mut carry = Carry::default();
        let view = self.shared.view();
        for record in view.inbox.carried() {
            match record {
                // Many, and in any order: with the slices. Positions and marks change with every commit,
                // so they go into the first one.
                _ if planted::is("turn_forgets_the_inbox") => {}
                Record::CarriedEvents(_) => carry.records.push_back(record),
                other => first.push(other),
            }
        }
        drop(view);
        let mut used = BTreeSet::new();
        for (run, open) in &self.ledger.open {
            if !planted::is("turn_forgets_runs") {
                used.extend(open.definitions.iter().copied());
                let definitions = open.definitions.clone();
                carry.runs.push_back(OpenAtTurn { run: *run, epoch: open.epoch, definitions });
            }
        }
        carry.runs.make_contiguous().sort_by_key(|open| open.run);
        if !planted::is("turn_forgets_the_outbox") {
            carry.outbox = self.ledger.outbox.keys().copied().collect();
        }
        first.extend(used.iter().filter(|_| !planted::is("turn_forgets_definitions")).filter_map(|fingerprint| {
            let source = self.ledger.definitions.get(fingerprint)?.clone();
            Some(Record::Change(Change::Definition { fingerprint: *fingerprint, source }))
        }));

        first.extend(self.ledger.settings.iter().filter(|_| !planted::is("turn_forgets_settings")).map(
            |(name, value)| Record::Change(Change::Setting { name: Arc::clone(name), value: Some(Arc::clone(value)) }),
        ));

        let mut state = self.state;
        state.generation += 1;
        let options = &self.shared.options;
        let store = create_generation(&options.path, &state, options.sync, self.clock.now(), first)?;
        failpoint::hit("turn.store_made");
        state.commit += 1;
        // From here on the old generation alone is not the journal any more: never fall back to it.
        self.head.write_both(&state)?;
        failpoint::hit("turn.head_written");
        self.state = state;
        self.ledger.written = used;
        self.store = Arc::new(store);
        self.live_bytes = 0;
        self.carried_bytes = 0;
        self.carry = Some(carry);
        let at = self.clock.now();
        let live = Generation { number: state.generation, store: self.store.clone(), index: Default::default(), at };
        let mut view = self.shared.view_mut();
        let mut old = std::mem::replace(&mut view.live, live);
        old.at = at;
        view.previous = Some(Arc::new(old));
        self.shared.set_head(state);
        drop(view);
        let mut stats = self.shared.stats();
        stats.generation = state.generation;
        stats.commits += 1;
        stats.syncs += 1;
        Ok(())
    }

    /// Takes up the carrying that an earlier process did not finish.
    pub fn resume_carry(&mut self) {
        let view = self.shared.view();
        let Some(previous) = view.previous.clone().filter(|_| !planted::is("unfinished_turn_is_forgotten")) else {
            return;
        };
        let mut carry = Carry::default();
        // Whole runs, also those that were carried already: a fact that lies there twice counts once. Those
        // that ended since are carried for their history, and need no definition for that.
        for run in previous.index.runs.iter().filter(|(_, places)| places.ended.is_none()).map(|(run, _)| *run) {
            let open = self.ledger.open.get(&run).cloned().unwrap_or_default();
            carry.runs.push_back(OpenAtTurn { run, epoch: open.epoch, definitions: open.definitions });
        }
        // Positions and marks are in the first commit, and marks have moved on since.
        let events = |record: &Record| matches!(record, Record::CarriedEvents(_));
        carry.records = view.inbox.carried().into_iter().filter(events).collect();
        drop(view);
        carry.runs.make_contiguous().sort_by_key(|open| open.run);
        let old = |(_, (generation, _)): &(&(RunId, u64), &(u64, _))| *generation == previous.number;
        carry.outbox = self.ledger.outbox.iter().filter(old).map(|(key, _)| *key).collect();
        for (fingerprint, source) in &self.ledger.definitions {
            if self.ledger.written.insert(*fingerprint) {
                let definition = Change::Definition { fingerprint: *fingerprint, source: source.clone() };
                carry.records.push_back(Record::Change(definition));
            }
        }
        self.carry = Some(carry);
    }

    /// True when something is to be carried and there is room: what is left of a nearly full disk is for
    /// runs that are under way.
    pub fn can_carry(&self) -> bool {
        self.carry.is_some() && self.shared.accepts()
    }

    /// Carries one slice, if anything is to be carried.
    pub fn carry_slice(&mut self) -> Result<(), Error> {
        if !self.can_carry() {
            return Ok(());
        }
        let Some(mut carry) = self.carry.take() else { return Ok(()) };
        let Some(previous) = self.shared.view().previous.clone() else { return Ok(()) };
        let mut stream = std::mem::take(&mut self.stream);
        pack::begin(&mut stream);
        let mut written = Vec::new();
        let mut records = 0;
        while stream.len() < SLICE_BYTES {
            let record = match carry.records.pop_front() {
                Some(record) => record,
                None => match self.next_of(&mut carry, &previous)? {
                    Some(record) => record,
                    None => break,
                },
            };
            written.push((stream.len(), record));
            if let Some((_, record)) = written.last() {
                record::put_record(&mut stream, record);
            }
            records += 1;
        }
        let done = carry.records.is_empty() && carry.runs.is_empty() && carry.outbox.is_empty();
        if done {
            record::put_record(&mut stream, &Record::CarryDone);
            records += 1;
        }
        self.append(&mut stream, records, self.clock.now())?;
        failpoint::hit(if done { "carry.done" } else { "carry.slice" });
        self.carried_bytes += stream.len() as u64;
        let commit = self.state.commit;
        let mut view = self.shared.view_mut();
        for (offset, record) in &written {
            let place = super::index::Place { commit, offset: u32::try_from(*offset).unwrap_or(u32::MAX) };
            view.live.index.apply(record, place);
            if let Record::CarriedOutbox(entry) = record
                && let Some(entry) = self.ledger.outbox.get_mut(&(entry.run, entry.number))
            {
                *entry = (self.state.generation, place);
            }
        }
        self.shared.set_head(self.state);
        drop(view);
        self.stream = stream;
        if !done {
            self.carry = Some(carry);
        }
        Ok(())
    }

    /// Reads the next thing to carry from the old generation.
    fn next_of(&self, carry: &mut Carry, previous: &Generation) -> Result<Option<Record>, Error> {
        while let Some((run, number)) = carry.outbox.pop_front() {
            // Published meanwhile: nothing to carry.
            if let Some((generation, place)) = self.ledger.outbox.get(&(run, number))
                && *generation == previous.number
            {
                let event = outbox_entry(&previous.store, *place, run, number)?;
                return Ok(Some(Record::CarriedOutbox(event)));
            }
        }
        while let Some(open) = carry.runs.pop_front() {
            let places: Vec<FactsPlace> =
                previous.index.runs.get(&open.run).map(|places| places.facts.to_vec()).unwrap_or_default();
            let facts = read_facts(open.run, places.iter().map(|place| (&*previous.store, *place)).collect())?;
            carry.records.extend(slices(&open, facts));
            if let Some(record) = carry.records.pop_front() {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// Cuts a run's facts into records that a slice can hold; a single large fact is a record of its own.
fn slices(open: &OpenAtTurn, facts: Vec<(crate::time::Timestamp, bytes::Bytes)>) -> Vec<Record> {
    let definition = open.definitions.first().copied().unwrap_or(Fingerprint([0; 32]));
    let record = |definition, sequence| {
        let OpenAtTurn { run, epoch, .. } = *open;
        CarriedFacts { run, epoch, definition, sequence, facts: Vec::new() }
    };
    let mut records: Vec<CarriedFacts> = Vec::new();
    let mut bytes = 0;
    for (sequence, (at, fact)) in (0..).zip(facts) {
        bytes += fact.len();
        if records.is_empty() || bytes > SLICE_BYTES {
            bytes = fact.len();
            records.push(record(definition, sequence));
        }
        if let Some(last) = records.last_mut() {
            last.facts.push((at, fact));
        }
    }
    // The definitions that it moved to: no facts of their own, but they are in use.
    let moved_to = open.definitions.iter().skip(1).filter(|_| !planted::is("turn_forgets_later_definitions"));
    records.extend(moved_to.map(|definition| record(*definition, 0)));
    records.into_iter().map(Record::CarriedFacts).collect()
}

fn outbox_entry(store: &Store, place: super::index::Place, run: RunId, number: u64) -> Result<OutboxEntry, Error> {
    let found = match store.read(place.commit, place.offset)? {
        Record::Change(Change::Run(transition)) => {
            transition.outbox.into_iter().find(|entry| entry.run == run && entry.number == number)
        }
        Record::CarriedOutbox(entry) => Some(entry),
        _ => None,
    };
    found.ok_or_else(|| Error::damaged(store.dir(), format!("event {number} of run {run} is missing")))
}
