//! Look-ups: history, summaries, tombstones and lists of finished runs.

use bytes::Bytes;

use super::index::{EndedPlace, FactsPlace};
use super::shared::Shared;
use super::store::Store;
use crate::id::RunId;
use crate::journal::record::Record;
use crate::journal::{Change, Ended, Error, FinishedFilter, SummaryIndex, Tombstone};
use crate::time::Timestamp;

impl Shared {
    /// Finds the tombstone of a finished run.
    pub fn tombstone(&self, run: RunId) -> Result<Option<Tombstone>, Error> {
        Ok(self.view().live.index.tombstones.get(&run).copied())
    }

    /// Returns a finished run's summary.
    pub fn summary(&self, run: RunId) -> Result<Option<Bytes>, Error> {
        let view = self.view();
        let place = view.live.index.runs.get(&run).and_then(|places| places.ended);
        let store = view.live.store.clone();
        drop(view);
        match place {
            Some(place) => Ok(Some(read_ended(&store, place.commit, place.offset)?.summary)),
            None => Ok(None),
        }
    }

    /// Returns all facts of a run.
    pub fn history(&self, run: RunId) -> Result<Vec<(Timestamp, Bytes)>, Error> {
        let view = self.view();
        let places = view.live.index.runs.get(&run).map(|places| places.facts.to_vec()).unwrap_or_default();
        let store = view.live.store.clone();
        drop(view);
        read_facts(run, places.iter().map(|place| (&*store, *place)).collect())
    }

    /// Lists finished runs, newest end first.
    pub fn finished(&self, filter: &FinishedFilter) -> Result<Vec<(SummaryIndex, Bytes)>, Error> {
        let view = self.view();
        let store = view.live.store.clone();
        let until = filter.after;
        let candidates: Vec<EndedPlace> = view
            .live
            .index
            .ended
            .iter()
            .rev()
            .skip_while(|(key, _)| until.is_some_and(|until| **key >= until))
            .take_while(|((ended_at, _), _)| filter.since.is_none_or(|since| *ended_at >= since))
            .filter(|(_, ended)| ended.marks.may_match(filter))
            .map(|(_, ended)| *ended)
            .collect();
        drop(view);
        let mut found = Vec::new();
        for candidate in candidates {
            if found.len() >= filter.limit {
                break;
            }
            let ended = read_ended(&store, candidate.place.commit, candidate.place.offset)?;
            if filter.matches(&ended.index) {
                found.push((ended.index, ended.summary));
            }
        }
        Ok(found)
    }

    /// Returns the bytes that the journal takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.view().live.store.disk_bytes()
    }
}

fn read_ended(store: &Store, commit: u64, offset: u32) -> Result<Ended, Error> {
    match store.read(commit, offset)? {
        Record::Change(Change::Run(transition)) if transition.ended.is_some() => {
            transition.ended.ok_or_else(|| Error::damaged(store.dir(), "no end of a run"))
        }
        _ => Err(Error::damaged(store.dir(), format!("commit {commit}: no end of a run lies at {offset}"))),
    }
}

/// Reads the facts at these places, in order and each once.
pub fn read_facts(run: RunId, mut places: Vec<(&Store, FactsPlace)>) -> Result<Vec<(Timestamp, Bytes)>, Error> {
    places.sort_by_key(|(_, place)| *place);
    let mut facts: Vec<(Timestamp, Bytes)> = Vec::new();
    for (store, FactsPlace { sequence, place }) in places {
        let known = facts.len() as u64;
        if sequence > known {
            return Err(Error::damaged(store.dir(), format!("run {run}: fact {known} is missing")));
        }
        let skip = usize::try_from(known - sequence).unwrap_or(usize::MAX);
        match store.read(place.commit, place.offset)? {
            Record::Change(Change::Run(transition)) if transition.run == run => {
                facts.extend(transition.facts.into_iter().skip(skip).map(|fact| (transition.at, fact)));
            }
            Record::CarriedFacts(carried) if carried.run == run => facts.extend(carried.facts.into_iter().skip(skip)),
            _ => {
                return Err(Error::damaged(
                    store.dir(),
                    format!("run {run}: no facts of it lie at commit {}", place.commit),
                ));
            }
        }
    }
    Ok(facts)
}
