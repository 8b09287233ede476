//! The records' bytes are frozen, whatever is written is read back, and whatever is damaged is seen.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::record::{CarriedFacts, ConsumerKey, GenerationStart, Record, put_record, read};
use super::{Change, Ended, EventKey, InboxMark, OutboxEntry, StreamPosition, SummaryIndex, Tombstone, Transition};
use crate::id::{Fingerprint, RunId};
use crate::time::Timestamp;

fn run(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

fn mark() -> InboxMark {
    let position =
        StreamPosition { stream: "EVENTS".into(), created: 0x1122, consumer: "sagas".into(), sequence: 0x33 };
    let event = EventKey { source: "/shop".into(), id: "e-1".into() };
    InboxMark { position: Some(position), event, targets: vec![run(0xa1), run(0xa2)] }
}

/// A transition with everything that one can have.
fn transition() -> Transition {
    let index = SummaryIndex {
        run: run(0xa1),
        saga: "order".into(),
        version: 2,
        state: "completed".into(),
        key: Some("A-1".into()),
        correlation_id: "c-1".into(),
        started_at: Timestamp(0x44),
        ended_at: Timestamp(0x55),
    };
    let tombstone = Tombstone { run: run(0xa1), input_hash: [0x66; 16], ended_at: Timestamp(0x55) };
    Transition {
        run: run(0xa1),
        sequence: 7,
        epoch: 3,
        at: Timestamp(0x77),
        facts: vec![Bytes::from_static(b"one"), Bytes::from_static(b"")],
        definition: Some(Fingerprint([0x88; 32])),
        outbox: vec![OutboxEntry { run: run(0xa1), number: 4, event: Bytes::from_static(b"event") }],
        inbox: Some(mark()),
        ended: Some(Ended { index, summary: Bytes::from_static(b"summary"), tombstone: Some(tombstone) }),
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_record(&mut bytes, record);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One of every kind, with the bytes of version 1. They lie in journals: add a version, never edit one.
fn frozen() -> Vec<(&'static str, Record, &'static str)> {
    let consumer = ConsumerKey { stream: "EVENTS".into(), created: 0x1122, consumer: "sagas".into() };
    let start = GenerationStart { journal: Uuid::from_u128(0x99), generation: 5, made_by: "backstitch 0.1.0".into() };
    let carried = CarriedFacts {
        run: run(0xa1),
        epoch: 3,
        definition: Fingerprint([0x88; 32]),
        sequence: 7,
        facts: vec![(Timestamp(0x77), Bytes::from_static(b"one"))],
    };
    let entry = OutboxEntry { run: run(0xa1), number: 4, event: Bytes::from_static(b"event") };
    let definition = Change::Definition { fingerprint: Fingerprint([0x88; 32]), source: Arc::from("saga: order") };
    let setting = Change::Setting { name: "rollout/order".into(), value: Some("{}".into()) };
    vec![
        ("transition", Record::Change(Change::Run(transition())), TRANSITION),
        ("inbox", Record::Change(Change::Inbox(mark())), INBOX),
        ("published", Record::Change(Change::Published { run: run(0xa1), number: 4 }), PUBLISHED),
        ("definition", Record::Change(definition), DEFINITION),
        ("generation", Record::Generation(start), GENERATION),
        ("carried facts", Record::CarriedFacts(carried), CARRIED_FACTS),
        ("carried outbox", Record::CarriedOutbox(entry), CARRIED_OUTBOX),
        ("carried positions", Record::CarriedPositions { consumer, ranges: vec![(1, 9), (11, 12)] }, CARRIED_POSITIONS),
        ("carried mark", Record::CarriedMark { mark: mark(), left: vec![run(0xa2)] }, CARRIED_MARK),
        ("carried events", Record::CarriedEvents(vec![([0xbb; 16], Timestamp(0xcc))]), CARRIED_EVENTS),
        ("carry done", Record::CarryDone, CARRY_DONE),
        ("setting", Record::Change(setting), SETTING),
    ]
}

const TRANSITION: &str = concat!(
    "2d01000001010000000000000000000000000000000000a10700000000000000030000000000000077000000000000000f88",
    "8888888888888888888888888888888888888888888888888888888888888802000000030000006f6e650000000001000000",
    "0400000000000000050000006576656e7401060000004556454e545322110000000000000500000073616761733300000000",
    "000000050000002f73686f7003000000652d3102000000000000000000000000000000000000a10000000000000000000000",
    "00000000a2050000006f726465720200000009000000636f6d706c657465640103000000412d3103000000632d3144000000",
    "0000000055000000000000000700000073756d6d617279666666666666666666666666666666665500000000000000b3f472",
    "a4",
);
const INBOX: &str = concat!(
    "8400000001020000000000000000000000000000000000000000000000000000000000000000000001060000004556454e54",
    "5322110000000000000500000073616761733300000000000000050000002f73686f7003000000652d310200000000000000",
    "0000000000000000000000a1000000000000000000000000000000a2a6fa8183",
);
const PUBLISHED: &str = "2c00000001030000000000000000000000000000000000a104000000000000000000000000000000766abaa8";
const DEFINITION: &str = concat!(
    "5b00000001040000000000000000000000000000000000000000000000000000000000000000000088888888888888888888",
    "888888888888888888888888888888888888888888880b000000736167613a206f72646572adda5919",
);
const GENERATION: &str = concat!(
    "5000000001050000000000000000000000000000000000000500000000000000000000000000000000000000000000000000",
    "000000000099100000006261636b73746974636820302e312e305171ff75",
);
const CARRIED_FACTS: &str = concat!(
    "5f00000001060000000000000000000000000000000000a10700000000000000030000000000000088888888888888888888",
    "88888888888888888888888888888888888888888888010000007700000000000000030000006f6e652bedfd0b",
);
const CARRIED_OUTBOX: &str = concat!(
    "3500000001070000000000000000000000000000000000a104000000000000000000000000000000050000006576656e74e2",
    "566afc",
);
const CARRIED_POSITIONS: &str = concat!(
    "6b000000010800000000000000000000000000000000000000000000000000000000000000000000060000004556454e5453",
    "221100000000000005000000736167617302000000010000000000000009000000000000000b000000000000000c00000000",
    "000000451c7de5",
);
const CARRIED_MARK: &str = concat!(
    "9800000001090000000000000000000000000000000000000000000000000000000000000000000001060000004556454e54",
    "5322110000000000000500000073616761733300000000000000050000002f73686f7003000000652d310200000000000000",
    "0000000000000000000000a1000000000000000000000000000000a201000000000000000000000000000000000000a26e97",
    "4995",
);
const CARRIED_EVENTS: &str = concat!(
    "48000000010a0000000000000000000000000000000000000000000000000000000000000000000001000000bbbbbbbbbbbb",
    "bbbbbbbbbbbbbbbbbbbbcc000000000000004e5383d9",
);
const SETTING: &str = concat!(
    "44000000010c000000000000000000000000000000000000000000000000000000000000000000000d000000726f6c6c6f75",
    "742f6f7264657201020000007b7dd3147042",
);
const CARRY_DONE: &str = "2c000000010b00000000000000000000000000000000000000000000000000000000000000000000a5b547a5";

#[test]
fn record_v1_bytes_never_change() {
    for (why, record, stored) in frozen() {
        let bytes = encoded(&record);
        assert_eq!(hex(&bytes), stored, "{why}");
        let (again, length) = read(&bytes).unwrap();
        assert_eq!(length, bytes.len(), "{why}");
        assert_eq!(encoded(&again), bytes, "{why}: what is read is what was written");
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_seen() {
    for (why, record, _) in frozen() {
        let bytes = encoded(&record);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged).is_err(), "{why}: bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{why}: cut to {length}");
        }
    }
}

#[test]
fn a_later_version_is_refused_by_name() {
    let mut bytes = encoded(&Record::CarryDone);
    bytes[4] = 2;
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read(&bytes).unwrap_err().to_string(), "a record of a later version cannot be read");
}

fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn any_run() -> impl Strategy<Value = RunId> {
    any::<u128>().prop_map(run)
}

prop_compose! {
    fn any_mark()(
        position in proptest::option::of((".{0,9}", any::<u64>(), ".{0,9}", any::<u64>())),
        source in ".{0,20}",
        id in ".{0,20}",
        targets in proptest::collection::vec(any_run(), 0..4),
    ) -> InboxMark {
        let position = position.map(|(stream, created, consumer, sequence)| StreamPosition {
            stream: stream.into(), created, consumer: consumer.into(), sequence,
        });
        InboxMark { position, event: EventKey { source, id }, targets }
    }
}

prop_compose! {
    fn any_ended(run: RunId)(
        texts in (".{0,9}", ".{0,9}", proptest::option::of(".{0,9}"), ".{0,9}"),
        numbers in (any::<u32>(), any::<u64>(), any::<u64>()),
        summary in any_bytes(100),
        hash in proptest::option::of(any::<[u8; 16]>()),
    ) -> Ended {
        let (saga, state, key, correlation_id) = texts;
        let (version, started_at, ended_at) = (numbers.0, Timestamp(numbers.1), Timestamp(numbers.2));
        let index = SummaryIndex { run, saga, version, state, key, correlation_id, started_at, ended_at };
        let tombstone = hash.map(|input_hash| Tombstone { run, input_hash, ended_at });
        Ended { index, summary, tombstone }
    }
}

fn any_transition() -> impl Strategy<Value = Transition> {
    any_run().prop_flat_map(|run| {
        let facts = proptest::collection::vec(any_bytes(9_000), 0..4);
        let outbox = proptest::collection::vec((any::<u64>(), any_bytes(300)), 0..3);
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
        let definition = proptest::option::of(any::<[u8; 32]>());
        let (mark, ended) = (proptest::option::of(any_mark()), proptest::option::of(any_ended(run)));
        (facts, outbox, numbers, definition, mark, ended).prop_map(
            move |(facts, outbox, (sequence, epoch, at), definition, inbox, ended)| Transition {
                run,
                sequence,
                epoch,
                at: Timestamp(at),
                facts,
                definition: definition.map(Fingerprint),
                outbox: outbox.into_iter().map(|(number, event)| OutboxEntry { run, number, event }).collect(),
                inbox,
                ended,
            },
        )
    })
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(transitions in proptest::collection::vec(any_transition(), 1..4)) {
        let mut stream = Vec::new();
        for transition in &transitions {
            put_record(&mut stream, &Record::Change(Change::Run(transition.clone())));
        }
        let mut offset = 0;
        for transition in &transitions {
            let (record, length) = read(&stream[offset..]).unwrap();
            // Debug shows every field of every part.
            let expected = Record::Change(Change::Run(transition.clone()));
            prop_assert_eq!(format!("{record:?}"), format!("{expected:?}"));
            offset += length;
        }
        prop_assert_eq!(offset, stream.len());
    }

    #[test]
    fn foreign_bytes_are_an_error_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
    }
}
