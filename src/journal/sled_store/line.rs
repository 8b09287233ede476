//! The lines of an export: one record each as a JSON object, and back again. Both directions go through one
//! type, so that nothing is written that cannot be read.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::pack::CommitHeader;
use crate::id::{Fingerprint, RunId};
use crate::journal::record::{CarriedFacts, ConsumerKey, GenerationStart, Record};
use crate::journal::{Change, Ended, InboxMark, OutboxEntry, SummaryIndex, Tombstone, Transition};
use crate::time::Timestamp;

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Transition,
    Inbox,
    Published,
    Definition,
    Setting,
    Generation,
    /// Facts of an open run, written again at a turn.
    Carried,
    /// An event not yet published, written again at a turn.
    CarriedOutbox,
    CarriedPositions,
    CarriedMark,
    CarriedEvents,
    CarryDone,
    /// The key of a finished run. It belongs to no commit: its generation and commit are 0.
    Key,
    /// The last line, with number and checksum of those before it. An export without it was cut off.
    #[default]
    End,
}

/// One line. Which of the optional ones are there goes by `record`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub generation: u64,
    pub commit: u64,
    /// When the commit was written, in milliseconds since 1970.
    pub written_at: Timestamp,
    pub record: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<Fingerprint>,
    /// Of a transition: each. Carried: each with its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox: Option<Vec<(u64, Content)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbox: Option<InboxMark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<SummaryIndex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tombstone: Option<Tombstone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<InboxMark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Vec<RunId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Of a setting; not there when it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranges: Option<Vec<(u64, u64)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<(Hash, Timestamp)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    /// Of the bytes of all lines before the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc32: Option<u32>,
}

/// Bytes that others chose: as they are where they are one line of JSON, else `{"hex": "…"}`.
#[derive(Debug)]
struct Content(Bytes);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

/// 16 bytes, in hexadecimal digits.
#[derive(Debug, Clone, Copy)]
struct Hash([u8; 16]);

impl Line {
    /// Writes a record of a commit.
    ///
    /// # Errors
    /// None that the types allow; serde's, passed on.
    pub fn of(header: &CommitHeader, record: &Record) -> serde_json::Result<Self> {
        let line = Self::of_record(record)?;
        Ok(Self { generation: header.generation, commit: header.commit, written_at: header.at, ..line })
    }

    /// Writes the last line, behind so many with that checksum.
    pub fn end(lines: u64, crc32: u32) -> Self {
        Self { record: Kind::End, lines: Some(lines), crc32: Some(crc32), ..Self::default() }
    }

    fn of_record(record: &Record) -> serde_json::Result<Self> {
        Ok(match record {
            Record::Change(change) => Self::of_change(change)?,
            Record::Generation(start) => Self {
                record: Kind::Generation,
                journal: Some(start.journal),
                number: Some(start.generation),
                made_by: Some(start.made_by.clone()),
                ..Self::default()
            },
            Record::CarriedFacts(carried) => {
                let facts: Vec<_> = carried.facts.iter().map(|(at, fact)| (*at, Content(fact.clone()))).collect();
                Self {
                    record: Kind::Carried,
                    run: Some(carried.run),
                    sequence: Some(carried.sequence),
                    epoch: Some(carried.epoch),
                    definition: Some(carried.definition),
                    facts: Some(to_raw_value(&facts)?),
                    ..Self::default()
                }
            }
            Record::CarriedOutbox(entry) => Self {
                record: Kind::CarriedOutbox,
                run: Some(entry.run),
                number: Some(entry.number),
                event: Some(Content(entry.event.clone())),
                ..Self::default()
            },
            Record::CarriedPositions { consumer, ranges } => Self {
                record: Kind::CarriedPositions,
                stream: Some(consumer.stream.to_string()),
                created: Some(consumer.created),
                consumer: Some(consumer.consumer.to_string()),
                ranges: Some(ranges.clone()),
                ..Self::default()
            },
            Record::CarriedMark { mark, left } => Self {
                record: Kind::CarriedMark,
                mark: Some(mark.clone()),
                left: Some(left.clone()),
                ..Self::default()
            },
            Record::CarriedEvents(events) => Self {
                record: Kind::CarriedEvents,
                events: Some(events.iter().map(|(hash, at)| (Hash(*hash), *at)).collect()),
                ..Self::default()
            },
            Record::CarryDone => Self { record: Kind::CarryDone, ..Self::default() },
        })
    }

    fn of_change(change: &Change) -> serde_json::Result<Self> {
        Ok(match change {
            Change::Run(transition) => {
                let ended = transition.ended.as_ref();
                let facts: Vec<_> = transition.facts.iter().map(|fact| Content(fact.clone())).collect();
                let outbox = transition.outbox.iter().map(|entry| (entry.number, Content(entry.event.clone())));
                Self {
                    record: Kind::Transition,
                    run: Some(transition.run),
                    sequence: Some(transition.sequence),
                    epoch: Some(transition.epoch),
                    at: Some(transition.at),
                    definition: transition.definition,
                    facts: Some(to_raw_value(&facts)?),
                    outbox: (!transition.outbox.is_empty()).then(|| outbox.collect()),
                    inbox: transition.inbox.clone(),
                    ended: ended.map(|ended| ended.index.clone()),
                    summary: ended.map(|ended| Content(ended.summary.clone())),
                    tombstone: ended.and_then(|ended| ended.tombstone),
                    ..Self::default()
                }
            }
            Change::Inbox(mark) => Self { record: Kind::Inbox, mark: Some(mark.clone()), ..Self::default() },
            Change::Published { run, number } => {
                Self { record: Kind::Published, run: Some(*run), number: Some(*number), ..Self::default() }
            }
            Change::Definition { fingerprint, source } => Self {
                record: Kind::Definition,
                fingerprint: Some(*fingerprint),
                source: Some(source.to_string()),
                ..Self::default()
            },
            Change::Setting { name, value } => Self {
                record: Kind::Setting,
                name: Some(name.to_string()),
                value: value.as_deref().map(str::to_owned),
                ..Self::default()
            },
        })
    }

    /// Writes the key of a finished run.
    pub fn of_key(tombstone: Tombstone) -> Self {
        Self { record: Kind::Key, tombstone: Some(tombstone), ..Self::default() }
    }

    /// Reads the key of a finished run.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn key(&self) -> Result<Tombstone, String> {
        self.tombstone.ok_or_else(|| missing("tombstone"))
    }

    /// Reads the record of a commit.
    ///
    /// # Errors
    /// Names what is missing or wrong.
    pub fn record(self) -> Result<Record, String> {
        Ok(match self.record {
            Kind::Transition => Record::Change(Change::Run(self.transition()?)),
            Kind::Inbox => Record::Change(Change::Inbox(need(self.mark, "mark")?)),
            Kind::Published => {
                let (run, number) = (need(self.run, "run")?, need(self.number, "number")?);
                Record::Change(Change::Published { run, number })
            }
            Kind::Definition => {
                let (fingerprint, source) = (need(self.fingerprint, "fingerprint")?, need(self.source, "source")?);
                Record::Change(Change::Definition { fingerprint, source: source.into() })
            }
            Kind::Setting => {
                let (name, value) = (need(self.name, "name")?.into(), self.value.map(Into::into));
                Record::Change(Change::Setting { name, value })
            }
            Kind::Generation => Record::Generation(GenerationStart {
                journal: need(self.journal, "journal")?,
                generation: need(self.number, "number")?,
                made_by: need(self.made_by, "made_by")?,
            }),
            Kind::Carried => {
                let facts: Vec<(Timestamp, Content)> = list(self.facts)?;
                Record::CarriedFacts(CarriedFacts {
                    run: need(self.run, "run")?,
                    epoch: need(self.epoch, "epoch")?,
                    definition: need(self.definition, "definition")?,
                    sequence: need(self.sequence, "sequence")?,
                    facts: facts.into_iter().map(|(at, fact)| (at, fact.0)).collect(),
                })
            }
            Kind::CarriedOutbox => Record::CarriedOutbox(OutboxEntry {
                run: need(self.run, "run")?,
                number: need(self.number, "number")?,
                event: need(self.event, "event")?.0,
            }),
            Kind::CarriedPositions => Record::CarriedPositions {
                consumer: ConsumerKey {
                    stream: need(self.stream, "stream")?.into(),
                    created: need(self.created, "created")?,
                    consumer: need(self.consumer, "consumer")?.into(),
                },
                ranges: need(self.ranges, "ranges")?,
            },
            Kind::CarriedMark => Record::CarriedMark { mark: need(self.mark, "mark")?, left: need(self.left, "left")? },
            Kind::CarriedEvents => {
                let events = need(self.events, "events")?;
                Record::CarriedEvents(events.into_iter().map(|(hash, at)| (hash.0, at)).collect())
            }
            Kind::CarryDone => Record::CarryDone,
            Kind::Key | Kind::End => return Err("it is no record of a commit".to_owned()),
        })
    }

    fn transition(self) -> Result<Transition, String> {
        let run = need(self.run, "run")?;
        let facts: Vec<Content> = list(self.facts)?;
        let outbox = self.outbox.unwrap_or_default();
        let ended = match self.ended {
            Some(index) => Some(Ended { index, summary: need(self.summary, "summary")?.0, tombstone: self.tombstone }),
            None => None,
        };
        Ok(Transition {
            run,
            sequence: need(self.sequence, "sequence")?,
            epoch: need(self.epoch, "epoch")?,
            at: need(self.at, "at")?,
            facts: facts.into_iter().map(|fact| fact.0).collect(),
            definition: self.definition,
            outbox: outbox.into_iter().map(|(number, event)| OutboxEntry { run, number, event: event.0 }).collect(),
            inbox: self.inbox,
            ended,
        })
    }
}

fn missing(name: &str) -> String {
    format!("`{name}` is missing")
}

fn need<T>(value: Option<T>, name: &str) -> Result<T, String> {
    value.ok_or_else(|| missing(name))
}

fn list<T: de::DeserializeOwned>(facts: Option<Box<RawValue>>) -> Result<Vec<T>, String> {
    serde_json::from_str(need(facts, "facts")?.get()).map_err(|error| format!("`facts`: {error}"))
}

/// Returns the bytes as JSON where a line can hold them so that the very same bytes are read back.
fn as_json(bytes: &[u8]) -> Option<&RawValue> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(['\n', '\r']))?;
    let json: &RawValue = serde_json::from_str(text).ok()?;
    (json.get().len() == text.len() && serde_json::from_str::<Hex>(text).is_err()).then_some(json)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digits = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(|pair| pair.iter().all(u8::is_ascii_hexdigit).then(|| digits(pair)).flatten()).collect()
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match as_json(&self.0) {
            Some(json) => json.serialize(serializer),
            None => Hex { hex: to_hex(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let Ok(Hex { hex }) = serde_json::from_str(json.get()) else {
            return Ok(Self(Bytes::copy_from_slice(json.get().as_bytes())));
        };
        let bytes = from_hex(&hex).ok_or_else(|| de::Error::custom("`hex` is no even number of hexadecimal digits"))?;
        Ok(Self(bytes.into()))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = from_hex(&String::deserialize(deserializer)?).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("a hash is 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::put_record;
    use proptest::prelude::*;

    /// Texts and bytes that are JSON, nearly JSON, or nothing of the kind.
    fn contents() -> impl Strategy<Value = Bytes> {
        let texts = prop_oneof![
            Just(r#"{"hex":"00"}"#.to_owned()),
            Just(r#"{ "hex" : "not hex" }"#.to_owned()),
            Just(r#"{"hex":"00","more":1}"#.to_owned()),
            Just(" 1 ".to_owned()),
            Just("{\n}".to_owned()),
            Just(r#"{"a":1.50,"a":2,"big":123456789012345678901234567890}"#.to_owned()),
            "\\PC{0,8}",
        ];
        prop_oneof![texts.prop_map(Bytes::from), prop::collection::vec(any::<u8>(), 0..8).prop_map(Bytes::from)]
    }

    fn bytes_of(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_record(&mut bytes, record);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_to_the_byte(contents in prop::collection::vec(contents(), 3)) {
            let run = RunId(Uuid::from_u128(7));
            let [a, b, c] = [0, 1, 2].map(|index| contents[index].clone());
            let records = [
                Record::Change(Change::Run(Transition {
                    run,
                    sequence: 3,
                    epoch: u64::MAX,
                    at: Timestamp(5),
                    facts: vec![a.clone(), b.clone()],
                    definition: None,
                    outbox: vec![OutboxEntry { run, number: 2, event: c.clone() }],
                    inbox: None,
                    ended: None,
                })),
                Record::CarriedFacts(CarriedFacts {
                    run,
                    epoch: 1,
                    definition: Fingerprint([9; 32]),
                    sequence: 0,
                    facts: vec![(Timestamp(1), a), (Timestamp(2), b)],
                }),
                Record::CarriedOutbox(OutboxEntry { run, number: 1, event: c }),
                Record::CarriedEvents(vec![([0xab; 16], Timestamp(4))]),
                Record::Change(Change::Setting { name: "n".into(), value: None }),
            ];
            for record in records {
                let text = serde_json::to_string(&Line::of_record(&record).unwrap()).unwrap();
                prop_assert!(!text.contains('\n'), "{text}");
                let line: Line = serde_json::from_str(&text).unwrap();
                let read = line.record().map_err(TestCaseError::fail)?;
                prop_assert_eq!(bytes_of(&read), bytes_of(&record), "{}", text);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let head = r#""generation":1,"commit":1,"written_at":0"#;
        let rows = [
            ("a key that there is not", r#""record":"carry_done","rnu":1"#, "unknown field `rnu`"),
            ("no run", r#""record":"published","number":1"#, "`run` is missing"),
            ("half a byte", r#""record":"carried_outbox","event":{"hex":"0"}"#, "even number of hexadecimal digits"),
            ("no list", r#""record":"carried","facts":7"#, "`facts`: invalid type"),
        ];
        for (why, rest, said) in rows {
            let text = format!("{{{head},{rest}}}");
            let read = serde_json::from_str::<Line>(&text).map_err(|error| error.to_string()).and_then(Line::record);
            assert!(read.as_ref().is_err_and(|error| error.contains(said)), "{why}: {read:?}");
        }
    }
}
