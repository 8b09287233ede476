//! What is known of events that came in, in memory: which (source, id) were committed within the window,
//! which stream sequences of each consumer, and the marks whose targets have not all moved. Rebuilt
//! from the log when the journal is opened. Nothing here reads a clock: a commit's time is given.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::record::{ConsumerKey, Record};
use super::{EventKey, InboxMark, InboxState, StreamPosition};
use crate::id::RunId;
use crate::planted;
use crate::time::{Span, Timestamp};

/// First 16 bytes of a SHA-256: nobody can make two events meet by choosing their ids.
type EventHash = [u8; 16];

/// A stream's life with one consumer is a few hundred bytes; streams made anew leave their old entry,
/// of which only the newest are of use.
const CONSUMERS_MAX: usize = 64;
/// Gaps of foreign subjects split the committed sequences into ranges: 16 bytes each, 1.6 MB in all.
/// Beyond it the oldest are forgotten, never a gap closed: a sequence that is not known is looked up by
/// (source, id), but one wrongly taken for committed would lose an event.
const RANGES_MAX: usize = 100_000;
/// Events per record when the window is carried along: 64 KiB.
const CARRY_EVENTS: usize = 2_700;

/// The state of the inbox.
#[derive(Debug)]
pub struct Inbox {
    window: Span,
    events_max: usize,
    marks: HashMap<EventHash, OpenMark>,
    consumers: Vec<(ConsumerKey, Ranges)>,
    events: HashMap<EventHash, Timestamp>,
    /// `events` in the order of their commits.
    order: VecDeque<(EventHash, Timestamp)>,
}

#[derive(Debug)]
struct OpenMark {
    mark: InboxMark,
    left: Vec<RunId>,
}

impl Inbox {
    /// Makes an empty one that remembers events for `window`, at most `events_max` of them.
    pub fn new(window: Span, events_max: usize) -> Self {
        Self {
            window,
            events_max: events_max.max(1),
            marks: HashMap::new(),
            consumers: Vec::new(),
            events: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Tells what is known of an event.
    pub fn state(&self, position: Option<&StreamPosition>, event: &EventKey) -> InboxState {
        let hash = hash(event);
        if let Some(open) = self.marks.get(&hash) {
            return InboxState::Partly { targets_left: open.left.clone() };
        }
        let committed = position.is_some_and(|position| self.is_committed(position));
        if committed || self.events.contains_key(&hash) { InboxState::Complete } else { InboxState::New }
    }

    /// Makes the mark if it is not there yet and strikes out the run that moved.
    pub fn note(&mut self, mark: &InboxMark, moved: Option<RunId>, at: Timestamp) {
        let hash = hash(&mark.event);
        if !self.marks.contains_key(&hash) {
            if self.events.contains_key(&hash) {
                // Complete already: the same event at another place in the stream.
                self.commit_position(mark);
                return;
            }
            if mark.targets.is_empty() {
                // Nobody wants it: there is nothing to keep open.
                self.commit_position(mark);
                self.remember(hash, at);
                return;
            }
            self.marks.insert(hash, OpenMark { mark: mark.clone(), left: mark.targets.clone() });
        }
        if let Some(open) = self.marks.get_mut(&hash) {
            open.left.retain(|run| {
                Some(*run) != moved && !(planted::is("mark_closes_with_its_first_target") && moved.is_some())
            });
            // A mark without targets closes: they have it without a transition of their own (the run of its
            // key was there already), or it is put aside.
            if mark.targets.is_empty() {
                open.left.clear();
            }
            if open.left.is_empty() {
                let open = self.marks.remove(&hash);
                if let Some(open) = open {
                    self.commit_position(&open.mark);
                }
                self.commit_position(mark);
                self.remember(hash, at);
            }
        }
    }

    /// Puts back what [`Self::carried`] wrote.
    pub fn restore(&mut self, record: &Record) {
        match record {
            Record::CarriedPositions { consumer, ranges } => {
                let known = self.ranges(consumer);
                for (first, last) in ranges {
                    known.insert(*first, *last);
                }
            }
            Record::CarriedMark { mark, left } => {
                self.marks.insert(hash(&mark.event), OpenMark { mark: mark.clone(), left: left.clone() });
            }
            Record::CarriedEvents(events) => {
                for (hash, at) in events {
                    self.remember(*hash, *at);
                }
            }
            Record::Change(_)
            | Record::Generation(_)
            | Record::CarriedFacts(_)
            | Record::CarriedOutbox(_)
            | Record::CarryDone => {}
        }
    }

    /// Returns everything known as records for the next generation.
    pub fn carried(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (consumer, ranges) in &self.consumers {
            let ranges = ranges.0.iter().map(|(first, last)| (*first, *last)).collect();
            records.push(Record::CarriedPositions { consumer: consumer.clone(), ranges });
        }
        let mut marks: Vec<_> = self.marks.values().collect();
        marks.sort_by(|a, b| a.mark.event.cmp(&b.mark.event));
        records
            .extend(marks.iter().map(|open| Record::CarriedMark { mark: open.mark.clone(), left: open.left.clone() }));
        let events: Vec<_> = self.order.iter().copied().collect();
        records.extend(events.chunks(CARRY_EVENTS).map(|events| Record::CarriedEvents(events.to_vec())));
        records
    }

    fn is_committed(&self, position: &StreamPosition) -> bool {
        self.consumers
            .iter()
            .find(|(key, _)| {
                key.created == position.created && key.consumer == position.consumer && key.stream == position.stream
            })
            .is_some_and(|(_, ranges)| ranges.contains(position.sequence))
    }

    fn commit_position(&mut self, mark: &InboxMark) {
        if let Some(position) = &mark.position {
            self.ranges(&ConsumerKey::of(position)).insert(position.sequence, position.sequence);
        }
    }

    fn ranges(&mut self, key: &ConsumerKey) -> &mut Ranges {
        let at = match self.consumers.iter().position(|(known, _)| known == key) {
            Some(at) => at,
            None => {
                if self.consumers.len() == CONSUMERS_MAX {
                    self.consumers.remove(0);
                }
                self.consumers.push((key.clone(), Ranges::default()));
                self.consumers.len() - 1
            }
        };
        &mut self.consumers[at].1
    }

    fn remember(&mut self, hash: EventHash, at: Timestamp) {
        if planted::is("events_are_not_remembered") {
            return;
        }
        if self.events.insert(hash, at).is_none() {
            self.order.push_back((hash, at));
        }
        while let Some((oldest, since)) = self.order.front().copied() {
            if self.order.len() <= self.events_max && at.since(since) <= self.window {
                break;
            }
            self.order.pop_front();
            self.events.remove(&oldest);
        }
    }
}

fn hash(event: &EventKey) -> EventHash {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    hash.update((event.source.len() as u64).to_le_bytes());
    hash.update(event.source.as_bytes());
    hash.update(event.id.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes
}

/// A set of numbers as inclusive ranges that neither touch nor overlap: first → last.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    fn insert(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        if let Some((before, before_last)) = self.0.range(..=first).next_back().map(|(a, b)| (*a, *b))
            && before_last.saturating_add(if planted::is("gap_counts_as_committed") { 2 } else { 1 }) >= first
        {
            (first, last) = (before, last.max(before_last));
        }
        while let Some((next, next_last)) = self.0.range(first..).next().map(|(a, b)| (*a, *b)) {
            if next > last.saturating_add(1) {
                break;
            }
            last = last.max(next_last);
            self.0.remove(&next);
        }
        self.0.insert(first, last);
        if self.0.len() > RANGES_MAX {
            self.0.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn event(id: &str) -> EventKey {
        EventKey { source: "/shop".into(), id: id.into() }
    }

    fn at(sequence: u64) -> StreamPosition {
        StreamPosition { stream: "EVENTS".into(), created: 7, consumer: "sagas".into(), sequence }
    }

    fn mark(id: &str, sequence: u64, targets: &[u128]) -> InboxMark {
        InboxMark {
            position: Some(at(sequence)),
            event: event(id),
            targets: targets.iter().map(|run| run_id(*run)).collect(),
        }
    }

    fn run_id(number: u128) -> RunId {
        RunId(Uuid::from_u128(number))
    }

    #[test]
    fn a_mark_is_complete_with_its_last_target() {
        let mut inbox = Inbox::new(Span::from_secs(60), 100);
        let three = mark("a", 1, &[1, 2, 3]);
        assert_eq!(inbox.state(three.position.as_ref(), &three.event), InboxState::New);
        inbox.note(&three, Some(run_id(2)), Timestamp(1));
        let left = InboxState::Partly { targets_left: vec![run_id(1), run_id(3)] };
        assert_eq!(inbox.state(three.position.as_ref(), &three.event), left);
        inbox.note(&three, Some(run_id(1)), Timestamp(2));
        inbox.note(&three, Some(run_id(3)), Timestamp(3));
        assert_eq!(inbox.state(three.position.as_ref(), &three.event), InboxState::Complete);
        assert_eq!(inbox.state(None, &three.event), InboxState::Complete, "by source and id alone");
        assert_eq!(inbox.state(Some(&at(1)), &event("other")), InboxState::Complete, "by position alone");
        let elsewhere = StreamPosition { created: 8, ..at(1) };
        assert_eq!(inbox.state(Some(&elsewhere), &event("other")), InboxState::New, "a stream made anew");
        inbox.note(&three, None, Timestamp(4));
        assert_eq!(inbox.state(None, &three.event), InboxState::Complete, "a complete mark stays complete");
    }

    #[test]
    fn a_gap_is_never_taken_for_committed() {
        let mut inbox = Inbox::new(Span::from_secs(60), 1);
        for sequence in [1, 2, 3, 7, 9] {
            inbox.note(&mark(&sequence.to_string(), sequence, &[]), None, Timestamp(sequence));
        }
        let known = |sequence| inbox.state(Some(&at(sequence)), &event("?")) == InboxState::Complete;
        let committed: Vec<u64> = (0..12).filter(|sequence| known(*sequence)).collect();
        assert_eq!(committed, [1, 2, 3, 7, 9]);
        assert_eq!(inbox.consumers[0].1.0.len(), 3, "neighbours share a range");
    }

    #[test]
    fn the_window_is_bounded_by_time_and_number() {
        let mut inbox = Inbox::new(Span::from_millis(100), 3);
        for (id, at) in [("a", 0), ("b", 50), ("c", 101), ("d", 102), ("e", 103)] {
            let mark = InboxMark { position: None, event: event(id), targets: Vec::new() };
            inbox.note(&mark, None, Timestamp(at));
        }
        let kept: Vec<_> =
            ["a", "b", "c", "d", "e"].into_iter().filter(|id| inbox.events.contains_key(&hash(&event(id)))).collect();
        assert_eq!(kept, ["c", "d", "e"], "a is too old, b is one too many");
        assert_eq!(inbox.order.len(), inbox.events.len());
    }

    #[test]
    fn what_is_carried_is_what_was_known() {
        let mut inbox = Inbox::new(Span::from_secs(60), 10_000);
        for sequence in (0..9_000).filter(|sequence| sequence % 5 != 0) {
            inbox.note(&mark(&sequence.to_string(), sequence, &[]), None, Timestamp(sequence));
        }
        inbox.note(&mark("open", 9_001, &[1, 2]), Some(run_id(1)), Timestamp(9_001));
        let mut again = Inbox::new(Span::from_secs(60), 10_000);
        inbox.carried().iter().for_each(|record| again.restore(record));
        for sequence in 0..9_010 {
            let (position, event) = (at(sequence), event(&sequence.to_string()));
            assert_eq!(again.state(Some(&position), &event), inbox.state(Some(&position), &event), "{sequence}");
        }
        let left = InboxState::Partly { targets_left: vec![run_id(2)] };
        assert_eq!(again.state(None, &event("open")), left);
    }
}
