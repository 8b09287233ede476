//! Look-ups: history, summaries, tombstones and lists of finished runs, over all generations.

use std::sync::Arc;

use bytes::Bytes;

use super::index::{FactsPlace, Index, Place, RunPlaces};
use super::sealed::{EndKey, Sealed};
use super::shared::Shared;
use super::store::Store;
use crate::id::RunId;
use crate::journal::record::Record;
use crate::journal::{Change, Ended, Error, FinishedFilter, SummaryIndex, Tombstone};
use crate::time::Timestamp;

/// The most runs that one list gives, so that a request cannot read the whole journal.
const LIST_MAX: usize = 10_000;

/// Where a run's records are, with the store they are in.
type Found = (Arc<Store>, RunPlaces);

impl Shared {
    /// Finds the tombstone of a finished run.
    pub fn tombstone(&self, run: RunId) -> Result<Option<Tombstone>, Error> {
        let view = self.view();
        let previous = view.previous.as_ref().and_then(|previous| previous.index.tombstones.get(&run));
        if let Some(tombstone) = view.live.index.tombstones.get(&run).or(previous) {
            return Ok(Some(*tombstone));
        }
        let keys = view.keys.clone();
        drop(view);
        keys.find(run)
    }

    /// Returns a finished run's summary.
    pub fn summary(&self, run: RunId) -> Result<Option<Bytes>, Error> {
        for (store, places) in self.places(run)? {
            if let Some(place) = places.ended {
                return Ok(Some(read_ended(&store, place)?.summary));
            }
        }
        Ok(None)
    }

    /// Returns all facts of a run.
    pub fn history(&self, run: RunId) -> Result<Vec<(Timestamp, Bytes)>, Error> {
        let found = self.places(run)?;
        let places = found.iter().flat_map(|(store, places)| places.facts.iter().map(|place| (&**store, *place)));
        read_facts(run, places.collect())
    }

    /// Finds a run's records: together in one generation, or in two while one of them is being carried.
    fn places(&self, run: RunId) -> Result<Vec<Found>, Error> {
        let copy = |index: &Index| {
            let RunPlaces { facts, ended } = index.runs.get(&run)?;
            Some(RunPlaces { facts: facts.clone(), ended: *ended })
        };
        let view = self.view();
        let mut found: Vec<Found> = Vec::new();
        found.extend(copy(&view.live.index).map(|places| (view.live.store.clone(), places)));
        if let Some(previous) = &view.previous {
            found.extend(copy(&previous.index).map(|places| (previous.store.clone(), places)));
        }
        let sealed = if found.is_empty() { view.sealed.clone() } else { Vec::new() };
        drop(view);
        for sealed in sealed.iter().rev() {
            if let Some(places) = self.unless_removed(sealed, sealed.run(run))?.flatten() {
                return Ok(self.sealed_store(sealed)?.map(|store| (store, places)).into_iter().collect());
            }
        }
        Ok(found)
    }

    /// Opens a sealed store; none when its retention passed a moment ago.
    fn sealed_store(&self, sealed: &Sealed) -> Result<Option<Arc<Store>>, Error> {
        self.unless_removed(sealed, self.stores.get(sealed))
    }

    /// Takes an error for nothing when the generation's retention passed a moment ago.
    fn unless_removed<T>(&self, sealed: &Sealed, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if !self.view().sealed.iter().any(|kept| kept.number == sealed.number) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists finished runs, newest end first.
    pub fn finished(&self, filter: &FinishedFilter) -> Result<Vec<(SummaryIndex, Bytes)>, Error> {
        let limit = filter.limit.min(LIST_MAX);
        let view = self.view();
        let mut candidates = Vec::new();
        let mut stores = vec![view.live.store.clone()];
        candidates.extend(newest(&view.live.index, filter, limit).map(|(key, place)| (key, place, Source::Open(0))));
        if let Some(previous) = &view.previous {
            stores.push(previous.store.clone());
            let newest = newest(&previous.index, filter, limit);
            candidates.extend(newest.map(|(key, place)| (key, place, Source::Open(1))));
        }
        let sealed = view.sealed.clone();
        drop(view);

        for (at, generation) in sealed.iter().enumerate().rev() {
            candidates.sort_unstable_by_key(|(key, ..)| std::cmp::Reverse(*key));
            candidates.truncate(limit);
            let newest_left = sealed[..=at].iter().map(|sealed| sealed.last_end).max().unwrap_or_default();
            let enough = candidates.len() == limit && candidates.last().is_some_and(|(key, ..)| key.0 > newest_left);
            if enough || filter.since.is_some_and(|since| newest_left < since) {
                break;
            }
            let found = self.unless_removed(generation, generation.finished(filter, limit))?.unwrap_or_default();
            candidates.extend(found.into_iter().map(|(key, place)| (key, place, Source::Sealed(generation.clone()))));
        }
        candidates.sort_unstable_by_key(|(key, ..)| std::cmp::Reverse(*key));

        let mut found = Vec::new();
        for (_, place, source) in candidates.into_iter().take(limit) {
            let store = match source {
                Source::Open(at) => Some(stores[at].clone()),
                Source::Sealed(sealed) => self.sealed_store(&sealed)?,
            };
            let Some(store) = store else { continue };
            let ended = read_ended(&store, place)?;
            if filter.matches(&ended.index) {
                found.push((ended.index, ended.summary));
            }
        }
        Ok(found)
    }

    /// Returns the bytes that the journal takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        let view = self.view();
        let previous = view.previous.as_ref().map_or(0, |previous| previous.store.disk_bytes());
        view.live.store.disk_bytes() + previous + view.sealed.iter().map(|sealed| sealed.disk_bytes).sum::<u64>()
    }
}

enum Source {
    /// Number in the list of open stores.
    Open(usize),
    Sealed(Arc<Sealed>),
}

/// Returns the newest ends of an index in memory that may match.
fn newest<'a>(
    index: &'a Index,
    filter: &'a FinishedFilter,
    limit: usize,
) -> impl Iterator<Item = (EndKey, Place)> + 'a {
    let until = filter.after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
    let behind_cursor = index.ended.range((std::ops::Bound::Unbounded, until)).rev();
    behind_cursor
        .take_while(|((ended_at, _), _)| filter.since.is_none_or(|since| *ended_at >= since))
        .filter(|(_, ended)| ended.marks.may_match(filter))
        .take(limit)
        .map(|(key, ended)| (*key, ended.place))
}

fn read_ended(store: &Store, place: Place) -> Result<Ended, Error> {
    if let Record::Change(Change::Run(transition)) = store.read(place.commit, place.offset)?
        && let Some(ended) = transition.ended
    {
        return Ok(ended);
    }
    Err(Error::damaged(store.dir(), format!("commit {}: no end of a run lies at {}", place.commit, place.offset)))
}

/// Reads the facts at these places, in order and each once.
pub fn read_facts(run: RunId, mut places: Vec<(&Store, FactsPlace)>) -> Result<Vec<(Timestamp, Bytes)>, Error> {
    places.sort_by_key(|(_, place)| *place);
    let mut facts: Vec<(Timestamp, Bytes)> = Vec::new();
    for (store, FactsPlace { sequence, place }) in places {
        let known = facts.len() as u64;
        let damaged = |reason: String| Error::damaged(store.dir(), format!("run {run}: {reason}"));
        if sequence > known {
            return Err(damaged(format!("fact {known} is missing")));
        }
        let skip = usize::try_from(known - sequence).unwrap_or(usize::MAX);
        match store.read(place.commit, place.offset)? {
            Record::Change(Change::Run(transition)) if transition.run == run => {
                facts.extend(transition.facts.into_iter().skip(skip).map(|fact| (transition.at, fact)));
            }
            Record::CarriedFacts(carried) if carried.run == run => facts.extend(carried.facts.into_iter().skip(skip)),
            _ => return Err(damaged(format!("no facts of it lie at commit {}", place.commit))),
        }
    }
    Ok(facts)
}
