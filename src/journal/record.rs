//! The records of the log as stored, version 1. The bytes are frozen (the test at the end holds them):
//! a change is a new version or a new kind, never an edit.
//!
//! ```text
//!  0 u32 length of the whole record      8 run (16 bytes; zero where there is none)
//!  4 u8  version                        24 u64 sequence
//!  5 u8  kind                           32 u64 epoch
//!  6 u16 zero                           40 body …            last 4 bytes: CRC-32 of all before
//! ```
//! Numbers are little-endian. Texts and byte strings are a u32 length and the bytes.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::bytes::{Put, Take, Unreadable};
use super::{Change, Ended, EventKey, InboxMark, OutboxEntry, StreamPosition, SummaryIndex, Tombstone, Transition};
use crate::id::{Fingerprint, RunId};
use crate::time::Timestamp;

const VERSION: u8 = 1;
/// Bytes in front of a record's body.
pub const HEADER_BYTES: usize = 40;
/// Bytes that a record has beside its body.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 4;

mod kind {
    pub const TRANSITION: u8 = 1;
    pub const INBOX: u8 = 2;
    pub const PUBLISHED: u8 = 3;
    pub const DEFINITION: u8 = 4;
    pub const GENERATION: u8 = 5;
    pub const CARRIED_FACTS: u8 = 6;
    pub const CARRIED_OUTBOX: u8 = 7;
    pub const CARRIED_POSITIONS: u8 = 8;
    pub const CARRIED_MARK: u8 = 9;
    pub const CARRIED_EVENTS: u8 = 10;
    pub const CARRY_DONE: u8 = 11;
    pub const SETTING: u8 = 12;
}

/// What one record says.
#[expect(clippy::large_enum_variant, reason = "nearly every record is a change; a box would cost each an allocation")]
#[derive(Debug, Clone)]
pub enum Record {
    Change(Change),
    /// First record of a generation.
    Generation(GenerationStart),
    /// Facts of an open run, written again so that the generation before is not needed.
    CarriedFacts(CarriedFacts),
    CarriedOutbox(OutboxEntry),
    /// Committed sequences of one consumer, as inclusive ranges in ascending order.
    CarriedPositions {
        consumer: ConsumerKey,
        ranges: Vec<(u64, u64)>,
    },
    /// A mark of which these targets have not moved.
    CarriedMark {
        mark: InboxMark,
        left: Vec<RunId>,
    },
    /// Hashes of the events of the (source, id) window with the time of their commit.
    CarriedEvents(Vec<([u8; 16], Timestamp)>),
    /// The generation before is not needed any more to open the journal.
    CarryDone,
}

/// Says where a generation belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationStart {
    pub journal: Uuid,
    pub generation: u64,
    /// Product version that made it, for people.
    pub made_by: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedFacts {
    pub run: RunId,
    pub epoch: u64,
    pub definition: Fingerprint,
    /// Number of the first of `facts`.
    pub sequence: u64,
    pub facts: Vec<(Timestamp, Bytes)>,
}

/// A consumer of one stream's life.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey {
    pub stream: Arc<str>,
    pub created: u64,
    pub consumer: Arc<str>,
}

impl ConsumerKey {
    pub fn of(position: &StreamPosition) -> Self {
        Self { stream: position.stream.clone(), created: position.created, consumer: position.consumer.clone() }
    }
}

const NO_RUN: RunId = RunId(Uuid::nil());

/// Appends one record; `body` writes what is behind its header.
fn put(out: &mut Vec<u8>, kind: u8, run: RunId, sequence: u64, epoch: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16(0);
    out.put_raw(run.0.as_bytes());
    out.put_u64(sequence);
    out.put_u64(epoch);
    body(out);
    let length = u32::try_from(out.len() + 4 - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&out[start..]);
    out.put_u32(crc);
}

/// Appends a change.
pub fn put_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Run(transition) => {
            put(out, kind::TRANSITION, transition.run, transition.sequence, transition.epoch, |out| {
                put_transition(out, transition);
            });
        }
        Change::Inbox(mark) => put(out, kind::INBOX, NO_RUN, 0, 0, |out| put_mark(out, mark)),
        Change::Published { run, number } => put(out, kind::PUBLISHED, *run, *number, 0, |_| {}),
        Change::Definition { fingerprint, source } => put(out, kind::DEFINITION, NO_RUN, 0, 0, |out| {
            out.put_raw(&fingerprint.0);
            out.put_str(source);
        }),
        Change::Setting { name, value } => put(out, kind::SETTING, NO_RUN, 0, 0, |out| {
            out.put_str(name);
            out.put_optional(value.as_deref());
        }),
    }
}

/// Appends a record of any kind.
pub fn put_record(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Change(change) => put_change(out, change),
        Record::Generation(start) => put(out, kind::GENERATION, NO_RUN, start.generation, 0, |out| {
            out.put_raw(start.journal.as_bytes());
            out.put_str(&start.made_by);
        }),
        Record::CarriedFacts(carried) => {
            put(out, kind::CARRIED_FACTS, carried.run, carried.sequence, carried.epoch, |out| {
                out.put_raw(&carried.definition.0);
                out.put_u32(u32::try_from(carried.facts.len()).unwrap_or(u32::MAX));
                for (at, fact) in &carried.facts {
                    out.put_u64(at.0);
                    out.put_bytes(fact);
                }
            });
        }
        Record::CarriedOutbox(entry) => {
            put(out, kind::CARRIED_OUTBOX, entry.run, entry.number, 0, |out| out.put_bytes(&entry.event));
        }
        Record::CarriedPositions { consumer, ranges } => put(out, kind::CARRIED_POSITIONS, NO_RUN, 0, 0, |out| {
            out.put_str(&consumer.stream);
            out.put_u64(consumer.created);
            out.put_str(&consumer.consumer);
            out.put_u32(u32::try_from(ranges.len()).unwrap_or(u32::MAX));
            for (first, last) in ranges {
                out.put_u64(*first);
                out.put_u64(*last);
            }
        }),
        Record::CarriedMark { mark, left } => put(out, kind::CARRIED_MARK, NO_RUN, 0, 0, |out| {
            put_mark(out, mark);
            put_runs(out, left);
        }),
        Record::CarriedEvents(events) => put(out, kind::CARRIED_EVENTS, NO_RUN, 0, 0, |out| {
            out.put_u32(u32::try_from(events.len()).unwrap_or(u32::MAX));
            for (hash, at) in events {
                out.put_raw(hash);
                out.put_u64(at.0);
            }
        }),
        Record::CarryDone => put(out, kind::CARRY_DONE, NO_RUN, 0, 0, |_| {}),
    }
}

const HAS_DEFINITION: u8 = 1;
const HAS_INBOX: u8 = 2;
const HAS_ENDED: u8 = 4;
const HAS_TOMBSTONE: u8 = 8;

fn put_transition(out: &mut Vec<u8>, transition: &Transition) {
    let ended = transition.ended.as_ref();
    let tombstone = ended.and_then(|ended| ended.tombstone.as_ref());
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.put_u64(transition.at.0);
    out.put_u8(
        flag(transition.definition.is_some(), HAS_DEFINITION)
            | flag(transition.inbox.is_some(), HAS_INBOX)
            | flag(ended.is_some(), HAS_ENDED)
            | flag(tombstone.is_some(), HAS_TOMBSTONE),
    );
    if let Some(definition) = &transition.definition {
        out.put_raw(&definition.0);
    }
    out.put_u32(u32::try_from(transition.facts.len()).unwrap_or(u32::MAX));
    for fact in &transition.facts {
        out.put_bytes(fact);
    }
    out.put_u32(u32::try_from(transition.outbox.len()).unwrap_or(u32::MAX));
    for entry in &transition.outbox {
        out.put_u64(entry.number);
        out.put_bytes(&entry.event);
    }
    if let Some(mark) = &transition.inbox {
        put_mark(out, mark);
    }
    if let Some(Ended { index, summary, .. }) = ended {
        out.put_str(&index.saga);
        out.put_u32(index.version);
        out.put_str(&index.state);
        out.put_optional(index.key.as_deref());
        out.put_str(&index.correlation_id);
        out.put_u64(index.started_at.0);
        out.put_u64(index.ended_at.0);
        out.put_bytes(summary);
    }
    if let Some(tombstone) = tombstone {
        out.put_raw(&tombstone.input_hash);
        out.put_u64(tombstone.ended_at.0);
    }
}

fn put_mark(out: &mut Vec<u8>, mark: &InboxMark) {
    match &mark.position {
        None => out.put_u8(0),
        Some(position) => {
            out.put_u8(1);
            out.put_str(&position.stream);
            out.put_u64(position.created);
            out.put_str(&position.consumer);
            out.put_u64(position.sequence);
        }
    }
    out.put_str(&mark.event.source);
    out.put_str(&mark.event.id);
    put_runs(out, &mark.targets);
}

fn put_runs(out: &mut Vec<u8>, runs: &[RunId]) {
    out.put_u32(u32::try_from(runs.len()).unwrap_or(u32::MAX));
    for run in runs {
        out.put_raw(run.0.as_bytes());
    }
}

/// Returns the length that the record at the front of `bytes` claims; 0 where that is not there.
pub fn length(bytes: &[u8]) -> usize {
    Take::new(bytes, "a record's length").u32().unwrap_or_default() as usize
}

/// Reads the record at the front of `stream`; returns it with its length.
///
/// # Errors
/// [`Unreadable`] for a wrong checksum, a version or kind of a later release, and cut-off bytes.
pub fn read(stream: &[u8]) -> Result<(Record, usize), Unreadable> {
    let length = Take::new(stream, "a record's length").u32()? as usize;
    if length < OVERHEAD_BYTES || length > stream.len() {
        return Err(Unreadable("a record's length"));
    }
    let (checked, crc) = stream[..length].split_at(length - 4);
    if crc32fast::hash(checked).to_le_bytes() != crc {
        return Err(Unreadable("a record's checksum"));
    }
    let mut header = Take::new(&checked[4..HEADER_BYTES], "a record's header");
    let version = header.u8()?;
    let kind = header.u8()?;
    header.u16()?;
    let run = RunId(Uuid::from_bytes(header.array()?));
    let sequence = header.u64()?;
    let epoch = header.u64()?;
    if version != VERSION {
        return Err(Unreadable("a record of a later version"));
    }
    let record = body(kind, run, sequence, epoch, Take::new(&checked[HEADER_BYTES..], "a record's body"))?;
    Ok((record, length))
}

fn body(kind: u8, run: RunId, sequence: u64, epoch: u64, mut take: Take<'_>) -> Result<Record, Unreadable> {
    let record = match kind {
        kind::TRANSITION => Record::Change(Change::Run(transition(run, sequence, epoch, &mut take)?)),
        kind::INBOX => Record::Change(Change::Inbox(mark(&mut take)?)),
        kind::PUBLISHED => Record::Change(Change::Published { run, number: sequence }),
        kind::DEFINITION => {
            Record::Change(Change::Definition { fingerprint: Fingerprint(take.array()?), source: take.text()?.into() })
        }
        kind::SETTING => {
            let (name, value) = (take.text()?.into(), take.optional()?.map(Arc::from));
            Record::Change(Change::Setting { name, value })
        }
        kind::GENERATION => Record::Generation(GenerationStart {
            journal: Uuid::from_bytes(take.array()?),
            generation: sequence,
            made_by: take.text()?.to_owned(),
        }),
        kind::CARRIED_FACTS => {
            let definition = Fingerprint(take.array()?);
            let count = take.count(12)?;
            let facts = (0..count).map(|_| Ok((Timestamp(take.u64()?), take.owned()?))).collect::<Result<_, _>>()?;
            Record::CarriedFacts(CarriedFacts { run, epoch, definition, sequence, facts })
        }
        kind::CARRIED_OUTBOX => Record::CarriedOutbox(OutboxEntry { run, number: sequence, event: take.owned()? }),
        kind::CARRIED_POSITIONS => {
            let consumer =
                ConsumerKey { stream: take.text()?.into(), created: take.u64()?, consumer: take.text()?.into() };
            let count = take.count(16)?;
            let ranges = (0..count).map(|_| Ok((take.u64()?, take.u64()?))).collect::<Result<_, _>>()?;
            Record::CarriedPositions { consumer, ranges }
        }
        kind::CARRIED_MARK => Record::CarriedMark { mark: mark(&mut take)?, left: runs(&mut take)? },
        kind::CARRIED_EVENTS => {
            let count = take.count(24)?;
            let events = (0..count).map(|_| Ok((take.array()?, Timestamp(take.u64()?)))).collect::<Result<_, _>>()?;
            Record::CarriedEvents(events)
        }
        kind::CARRY_DONE => Record::CarryDone,
        _ => return Err(Unreadable("a record of an unknown kind")),
    };
    take.end()?;
    Ok(record)
}

fn transition(run: RunId, sequence: u64, epoch: u64, take: &mut Take<'_>) -> Result<Transition, Unreadable> {
    let at = Timestamp(take.u64()?);
    let flags = take.u8()?;
    let has = |flag: u8| flags & flag != 0;
    let definition = if has(HAS_DEFINITION) { Some(Fingerprint(take.array()?)) } else { None };
    let count = take.count(4)?;
    let facts = (0..count).map(|_| take.owned()).collect::<Result<_, _>>()?;
    let count = take.count(12)?;
    let outbox = (0..count)
        .map(|_| Ok(OutboxEntry { run, number: take.u64()?, event: take.owned()? }))
        .collect::<Result<_, Unreadable>>()?;
    let inbox = if has(HAS_INBOX) { Some(mark(take)?) } else { None };
    let mut ended = None;
    if has(HAS_ENDED) {
        let index = SummaryIndex {
            run,
            saga: take.text()?.to_owned(),
            version: take.u32()?,
            state: take.text()?.to_owned(),
            key: take.optional()?.map(str::to_owned),
            correlation_id: take.text()?.to_owned(),
            started_at: Timestamp(take.u64()?),
            ended_at: Timestamp(take.u64()?),
        };
        let summary = take.owned()?;
        let tombstone = if has(HAS_TOMBSTONE) {
            Some(Tombstone { run, input_hash: take.array()?, ended_at: Timestamp(take.u64()?) })
        } else {
            None
        };
        ended = Some(Ended { index, summary, tombstone });
    }
    Ok(Transition { run, sequence, epoch, at, facts, definition, outbox, inbox, ended })
}

fn mark(take: &mut Take<'_>) -> Result<InboxMark, Unreadable> {
    let position = match take.u8()? {
        0 => None,
        1 => Some(StreamPosition {
            stream: take.text()?.into(),
            created: take.u64()?,
            consumer: take.text()?.into(),
            sequence: take.u64()?,
        }),
        _ => return Err(Unreadable("an inbox mark")),
    };
    let event = EventKey { source: take.text()?.to_owned(), id: take.text()?.to_owned() };
    Ok(InboxMark { position, event, targets: runs(take)? })
}

fn runs(take: &mut Take<'_>) -> Result<Vec<RunId>, Unreadable> {
    let count = take.count(16)?;
    (0..count).map(|_| Ok(RunId(Uuid::from_bytes(take.array()?)))).collect()
}
