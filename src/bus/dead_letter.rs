//! Dead letters as messages: what is written into DEAD_LETTERS, how it is read back, and what is published
//! when one is given to its consumer once more.

use sha2::Digest;

use super::archive::Stored;
use super::wire::{DEAD_LETTERS, MSG_ID};
use super::{DeadLetter, RawMessage};
use crate::envelope::binary;
use crate::time::Timestamp;

/// A detail longer than this is cut: percent-encoding makes at most three bytes of one.
const DETAIL_BYTES_MAX: usize = 8 * 1_024;
/// JSON pointers longer than this in all are cut after the last whole one.
const POINTERS_BYTES_MAX: usize = 4 * 1_024;
/// Original headers that the server would act upon stand behind this.
const ORIGINAL: &str = "Backstitch-Original-";
/// Original headers that nobody could read, as Base64.
pub const ORIGINAL_HEADERS: &str = "Backstitch-Original-Headers";
/// The sequence of the dead letter that a message was made of again.
const REDRIVE: &str = "Backstitch-Redrive";
/// The consumer that it is meant for.
const REDRIVE_TO: &str = "Backstitch-Redrive-To";
const ATTEMPTS: &str = "Backstitch-Attempts";
const FIRST_TIME: &str = "Backstitch-First-Time";
const POSITION: &str = "Backstitch-Position";

/// What a redriven message says of its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// The dead letter's sequence.
    pub of: u64,
    /// The consumer that gets it; others leave it.
    pub consumer: String,
    pub attempts: u64,
    pub first_at: Timestamp,
    /// The sequence that it had in EVENTS at first: its place among the events of its key.
    pub position: u64,
}

/// A dead letter as it lies in the stream.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its own place in DEAD_LETTERS.
    pub sequence: u64,
    pub put_aside_at: Timestamp,
    /// The original message. Headers that could not be read are not among its headers.
    pub raw: RawMessage,
    pub reason: String,
    pub detail: String,
    pub pointers: Vec<String>,
    pub consumer: String,
    /// Where the original was.
    pub stream: String,
    pub stream_sequence: u64,
    /// Its first place in EVENTS, whatever was redriven since.
    pub position: u64,
    pub attempts: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// The partition key.
    pub key: Option<String>,
    /// False where the original headers could not be read: it cannot be given to anybody again.
    pub readable: bool,
}

/// Reads what a redriven message says; none for any other.
#[must_use]
pub fn redrive(raw: &RawMessage) -> Option<Redrive> {
    let number = |name: &str| header(raw, name)?.parse::<u64>().ok();
    Some(Redrive {
        of: number(REDRIVE)?,
        consumer: binary::decode(header(raw, REDRIVE_TO)?)?,
        attempts: number(ATTEMPTS).unwrap_or(0),
        first_at: header(raw, FIRST_TIME).and_then(moment).unwrap_or_default(),
        position: number(POSITION).unwrap_or(0),
    })
}

/// Writes a dead letter: the original bytes and headers, and what went wrong.
///
/// Original headers that the server would act upon (`Nats-…`) are kept under `Backstitch-Original-…`.
#[must_use]
pub fn encode(letter: &DeadLetter, put_aside_at: Timestamp) -> RawMessage {
    let past = redrive(&letter.raw);
    let mut headers: Vec<(String, String)> = Vec::with_capacity(letter.raw.headers.len() + 13);
    for (name, value) in &letter.raw.headers {
        if starts(name, "nats-") {
            headers.push((format!("{ORIGINAL}{name}"), value.clone()));
        } else if !starts(name, "backstitch-") || name == ORIGINAL_HEADERS {
            headers.push((name.clone(), value.clone()));
        }
    }
    let (attempts, first_at, position) = match &past {
        Some(past) => (past.attempts + letter.attempts, past.first_at.min(letter.first_at), past.position),
        None => (letter.attempts, letter.first_at, letter.sequence),
    };
    for (name, value) in [
        ("Backstitch-Reason", binary::encode(&letter.reason)),
        ("Backstitch-Detail", binary::encode(cut(&letter.detail, DETAIL_BYTES_MAX))),
        ("Backstitch-Pointers", pointers(&letter.pointers)),
        ("Backstitch-Subject", binary::encode(&letter.raw.subject)),
        ("Backstitch-Stream", binary::encode(&letter.stream)),
        ("Backstitch-Sequence", letter.sequence.to_string()),
        (POSITION, position.to_string()),
        ("Backstitch-Consumer", binary::encode(&letter.consumer)),
        (ATTEMPTS, attempts.to_string()),
        (FIRST_TIME, first_at.to_string()),
        ("Backstitch-Last-Time", letter.last_at.to_string()),
        ("Backstitch-Time", put_aside_at.to_string()),
        (MSG_ID, message_id(letter)),
    ] {
        headers.push((name.to_owned(), value));
    }
    let subject = format!("{DEAD_LETTERS}.{}", token(&letter.consumer));
    RawMessage { subject, headers, payload: letter.raw.payload.clone() }
}

/// Reads a message of DEAD_LETTERS back. What is no letter of ours is shown as far as it can be.
#[must_use]
pub fn decode(stored: &Stored) -> Letter {
    let message = &stored.raw;
    let text = |name: &str| header(message, name).and_then(binary::decode).unwrap_or_default();
    let number = |name: &str| header(message, name).and_then(|value| value.parse::<u64>().ok());
    let time = |name: &str| header(message, name).and_then(moment);
    let mut headers = Vec::with_capacity(message.headers.len());
    for (name, value) in &message.headers {
        if name == ORIGINAL_HEADERS {
        } else if let Some(original) = name.strip_prefix(ORIGINAL) {
            headers.push((original.to_owned(), value.clone()));
        } else if !starts(name, "backstitch-") && !starts(name, "nats-") {
            headers.push((name.clone(), value.clone()));
        }
    }
    let put_aside_at = time("Backstitch-Time").unwrap_or(stored.stored_at);
    let key = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("ce-partitionkey"));
    Letter {
        sequence: stored.sequence,
        put_aside_at,
        reason: text("Backstitch-Reason"),
        detail: text("Backstitch-Detail"),
        pointers: text("Backstitch-Pointers").split('\n').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
        consumer: text("Backstitch-Consumer"),
        stream: text("Backstitch-Stream"),
        stream_sequence: number("Backstitch-Sequence").unwrap_or(0),
        position: number(POSITION).or_else(|| number("Backstitch-Sequence")).unwrap_or(0),
        attempts: number(ATTEMPTS).unwrap_or(1),
        first_at: time(FIRST_TIME).unwrap_or(put_aside_at),
        last_at: time("Backstitch-Last-Time").unwrap_or(put_aside_at),
        key: key.and_then(|(_, value)| binary::decode(value)),
        readable: header(message, ORIGINAL_HEADERS).is_none(),
        raw: RawMessage { subject: text("Backstitch-Subject"), headers, payload: message.payload.clone() },
    }
}

impl Letter {
    /// Returns the message that gives it to its consumer once more, with other data where that is given.
    /// Headers that the server acts upon are not among its own: they were meant for the first time.
    #[must_use]
    pub fn again(&self, data: Option<bytes::Bytes>) -> RawMessage {
        let mut headers: Vec<(String, String)> =
            self.raw.headers.iter().filter(|(name, _)| !starts(name, "nats-")).cloned().collect();
        let mut payload = self.raw.payload.clone();
        if let Some(data) = data {
            payload = data;
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("ce-datacontenttype"));
            headers.push(("ce-datacontenttype".to_owned(), "application/json".to_owned()));
        }
        let id = format!("redrive/{}/{}/{}", token(&self.consumer), self.sequence, self.put_aside_at.0);
        for (name, value) in [
            (REDRIVE, self.sequence.to_string()),
            (REDRIVE_TO, binary::encode(&self.consumer)),
            (ATTEMPTS, self.attempts.to_string()),
            (FIRST_TIME, self.first_at.to_string()),
            (POSITION, self.position.to_string()),
            (MSG_ID, id),
        ] {
            headers.push((name.to_owned(), value));
        }
        RawMessage { subject: self.raw.subject.clone(), headers, payload }
    }
}

/// The same message put aside twice for the same reason is one dead letter. The hash tells a stream made
/// anew apart, where sequences begin again.
fn message_id(letter: &DeadLetter) -> String {
    let mut hash = sha2::Sha256::new();
    let of = |name: &str| header(&letter.raw, name).unwrap_or_default().as_bytes();
    let raw = &letter.raw;
    for part in [raw.subject.as_bytes(), &raw.payload, letter.reason.as_bytes(), of("ce-id"), of("saga-run")] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let short: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{}/{}/{short}", binary::encode(&letter.consumer), letter.stream, letter.sequence)
}

/// Writes JSON pointers in one header: a line break stands between them, percent-encoded as all is.
fn pointers(pointers: &[String]) -> String {
    let mut text = String::new();
    for pointer in pointers {
        if text.len() + pointer.len() >= POINTERS_BYTES_MAX {
            break;
        }
        // An empty pointer is the whole document.
        text = format!("{text}{}\n", if pointer.is_empty() { "/" } else { pointer });
    }
    binary::encode(text.trim_end())
}

/// Makes one subject token of a text: what a token cannot hold becomes `_`.
#[must_use]
pub fn token(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let token: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if token.is_empty() { "_".to_owned() } else { token }
}

fn header<'a>(raw: &'a RawMessage, name: &str) -> Option<&'a str> {
    raw.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn starts(name: &str, with: &str) -> bool {
    name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

fn moment(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

/// Cuts a text at a character's boundary.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::super::wire::{ADDED_BYTES_MAX, raw, size};
    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            raw: raw(
                "events.x.v1",
                &[("nats-msg-id", "m"), ("Nats-Rollup", "all"), ("ce-id", "%E2"), ("ce-partitionkey", "K%201")],
                b"\xff\x00",
            ),
            reason: "invalid_data".to_owned(),
            detail: format!("line\r\nbreak {}", "ü".repeat(DETAIL_BYTES_MAX)),
            pointers: vec!["/lines/0/sku".to_owned(), String::new()],
            consumer: "back.stitch*".to_owned(),
            stream: "EVENTS".to_owned(),
            sequence: 7,
            attempts: 3,
            first_at: Timestamp(1_000),
            last_at: Timestamp(2_000),
        }
    }

    fn stored(raw: RawMessage) -> Stored {
        Stored { sequence: 41, stored_at: Timestamp(9_000), raw, unreadable: None }
    }

    #[test]
    fn the_original_is_kept() {
        let letter = letter();
        let written = encode(&letter, Timestamp(3_000));
        assert_eq!(written.subject, "dead_letters.back_stitch_");
        assert_eq!(written.payload.as_ref(), b"\xff\x00");
        let get = |name: &str| written.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("ce-id"), Some("%E2"));
        assert_eq!((get("Nats-Rollup"), get("Backstitch-Original-Nats-Rollup")), (None, Some("all")));
        assert_eq!(get("Backstitch-Original-nats-msg-id"), Some("m"));
        assert!(get("Backstitch-Detail").unwrap().starts_with("line%0D%0Abreak%20"));
        assert!(size(&written) - written.payload.len() < ADDED_BYTES_MAX);
        let id = |raw: &RawMessage| raw.headers.iter().find(|(n, _)| n == MSG_ID).unwrap().1.clone();
        assert_eq!(id(&encode(&letter, Timestamp(4_000))), id(&written), "the same letter");
        let other = DeadLetter { raw: raw("events.x.v1", &[], b"other"), ..letter };
        assert_ne!(id(&encode(&other, Timestamp(0))), id(&written));
    }

    #[test]
    fn it_is_read_back_and_given_again_with_its_past() {
        let first = decode(&stored(encode(&letter(), Timestamp(3_000))));
        assert_eq!(first.pointers, ["/lines/0/sku", "/"]);
        assert_eq!((first.consumer.as_str(), first.reason.as_str()), ("back.stitch*", "invalid_data"));
        assert_eq!((first.stream_sequence, first.position, first.attempts), (7, 7, 3));
        assert_eq!(
            (first.first_at, first.last_at, first.put_aside_at),
            (Timestamp(1_000), Timestamp(2_000), Timestamp(3_000))
        );
        assert_eq!(first.key.as_deref(), Some("K 1"));
        assert_eq!(first.raw.headers.len(), 4, "the original ones, with their names: {:?}", first.raw.headers);

        let again = first.again(Some(bytes::Bytes::from_static(b"{}")));
        assert_eq!((again.subject.as_str(), again.payload.as_ref()), ("events.x.v1", b"{}".as_slice()));
        assert!(!again.headers.iter().any(|(name, _)| name == "Nats-Rollup"), "not acted upon twice");
        let past = redrive(&again).unwrap();
        assert_eq!((past.of, past.consumer.as_str(), past.attempts, past.position), (41, "back.stitch*", 3, 7));

        let failed_again = DeadLetter { raw: again, sequence: 90, attempts: 2, first_at: Timestamp(8_000), ..letter() };
        let second = decode(&stored(encode(&failed_again, Timestamp(9_000))));
        assert_eq!((second.attempts, second.first_at, second.position), (5, Timestamp(1_000), 7));
        assert_eq!(second.stream_sequence, 90);
        assert_eq!(redrive(&second.raw), None, "its past is not part of the original");
    }
}
