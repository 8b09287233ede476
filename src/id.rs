//! Identities as types that parse: a value that exists is a value that is well formed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} `{text}` has {bytes} bytes; at most {max} are allowed")]
    TooLong { what: &'static str, text: String, bytes: usize, max: usize },
    #[error("{what} `{text}` is refused at byte {at}; {rule}")]
    Refused { what: &'static str, text: String, at: usize, rule: &'static str },
}

/// Names appear in subjects, file names, span names and URLs; 63 bytes fit all of them.
pub const NAME_BYTES_MAX: usize = 63;
/// An event type is a NATS subject suffix and a folder name; 200 bytes leave room for the prefix.
pub const EVENT_TYPE_BYTES_MAX: usize = 200;

fn check(
    what: &'static str,
    text: &str,
    max: usize,
    rule: &'static str,
    allowed: impl Fn(usize, u8) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > max {
        return Err(NameError::TooLong { what, text: text.chars().take(max).collect(), bytes: text.len(), max });
    }
    match text.bytes().enumerate().find(|(at, byte)| !allowed(*at, *byte)) {
        Some((at, _)) => Err(NameError::Refused { what, text: text.to_owned(), at, rule }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses text into a name.
            ///
            /// # Errors
            /// [`NameError`] says which byte, counted from 0, was refused and what is allowed.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check($what, text, NAME_BYTES_MAX, $rule, $allowed)?;
                Ok(Self(text.into()))
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        text_traits!($name);
    };
}

macro_rules! text_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }
    };
}

name!(
    /// A saga's name: 1 to 63 bytes of `a-z`, `0-9` and `-`, starting with a letter.
    SagaName,
    "saga name",
    "allowed are a-z, 0-9 and `-`, starting with a letter",
    |at, byte| byte.is_ascii_lowercase() || (at > 0 && (byte.is_ascii_digit() || byte == b'-'))
);
name!(
    /// A step's id: `[a-z][a-z0-9_]*`, at most 63 bytes. No `-`, which jq would read as a subtraction.
    StepId,
    "step id",
    "allowed are a-z, 0-9 and `_`, starting with a letter",
    |at, byte| byte.is_ascii_lowercase() || (at > 0 && (byte.is_ascii_digit() || byte == b'_'))
);
name!(
    /// A service's name in the configuration: `[a-z][a-z0-9_-]*`, at most 63 bytes.
    ServiceName,
    "service name",
    "allowed are a-z, 0-9, `_` and `-`, starting with a letter",
    |at, byte| byte.is_ascii_lowercase() || (at > 0 && (byte.is_ascii_digit() || byte == b'_' || byte == b'-'))
);

/// An event type with its version, `order.placed.v2`: the CloudEvents `type`, the subject suffix
/// behind `events.`, and the schema file `schemas/order.placed/v2.json`.
///
/// Tokens of `a-z A-Z 0-9 _ -` joined by `.`, the last one `v` and a version from 1. Every such
/// type is a valid NATS subject suffix without a wildcard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType {
    text: Arc<str>,
    version: u32,
}

impl EventType {
    /// Parses `NAME.vN`.
    ///
    /// # Errors
    /// [`NameError`] says which byte was refused and what is allowed.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const RULE: &str = "an event type is tokens of a-z, A-Z, 0-9, `_`, `-` joined by `.`, ending in its version, for example order.placed.v2";
        let what = "event type";
        check(what, text, EVENT_TYPE_BYTES_MAX, RULE, |_, byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
        })?;
        let refused = |at| NameError::Refused { what, text: text.to_owned(), at, rule: RULE };
        if let Some(at) = text.find("..") {
            return Err(refused(at));
        }
        if text.starts_with('.') {
            return Err(refused(0));
        }
        let (name, version) = text.rsplit_once('.').ok_or_else(|| refused(text.len() - 1))?;
        let at = name.len() + 1;
        let digits = version.strip_prefix('v').ok_or_else(|| refused(at))?;
        if digits.starts_with('0') || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused(at));
        }
        let version = digits.parse().map_err(|_| refused(at))?;
        Ok(Self { text: text.into(), version })
    }

    /// Returns the whole type, `order.placed.v2`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the type without its version, `order.placed`: the schema folder's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.rsplit_once('.').map_or(&self.text, |(name, _)| name)
    }

    /// Returns the version, from 1.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }
}

text_traits!(EventType);

/// A run's id: UUID v7, or with a key UUID v5 of saga and key, so that every way of starting the
/// same key meets the same run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

/// Namespace of ids derived by us (UUID v5), chosen once; changing it would start every keyed run anew.
const NAMESPACE: Uuid = Uuid::from_u128(0x6261_636b_7374_4974_8368_0000_7361_6761);

impl RunId {
    /// Derives the id of a keyed run from saga and key, whatever the saga's version.
    #[must_use]
    pub fn keyed(saga: &SagaName, key: &str) -> Self {
        let mut name = Vec::with_capacity(saga.as_str().len() + 1 + key.len());
        name.extend_from_slice(saga.as_str().as_bytes());
        name.push(0); // no saga name holds a zero byte, so (saga, key) is unambiguous
        name.extend_from_slice(key.as_bytes());
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }

    /// Derives the idempotency key of one effect: equal over attempts, restarts and versions,
    /// distinct between steps, directions and key numbers.
    #[must_use]
    pub fn effect_key(self, path: &str, direction: &str, number: u32) -> Uuid {
        let path = if crate::planted::is("same_key_for_all_steps") { "" } else { path };
        Uuid::new_v5(&self.0, format!("{path}|{direction}|{number}").as_bytes())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for RunId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// SHA-256 of a saga file's text: what a run keeps to stay on the definition it began with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(text.as_bytes()).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(de::Error::custom("a fingerprint is 64 hexadecimal digits"));
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(de::Error::custom)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let rows: &[(&str, &str, Option<usize>)] = &[
            ("plain", "charge_card", None),
            ("starts with a digit", "1st", Some(0)),
            ("a jq subtraction", "charge-card", Some(6)),
            ("NATS wildcard", "pay*", Some(3)),
            ("not ASCII", "zahl\u{fc}", Some(4)),
        ];
        for (why, text, refused) in rows {
            let at = match StepId::parse(text) {
                Ok(_) => None,
                Err(NameError::Refused { at, .. }) => Some(at),
                Err(other) => panic!("{why}: {other}"),
            };
            assert_eq!(at, *refused, "{why}");
        }
        assert!(matches!(StepId::parse(&"a".repeat(64)), Err(NameError::TooLong { .. })));
        assert!(matches!(StepId::parse(""), Err(NameError::Empty { .. })));
    }

    #[test]
    fn event_types() {
        let good = EventType::parse("order.placed.v12").unwrap();
        assert_eq!((good.name(), good.version()), ("order.placed", 12));
        for (why, text) in [
            ("no version", "order.placed"),
            ("version zero", "order.placed.v0"),
            ("leading zero", "order.placed.v02"),
            ("only a version", "v2"),
            ("empty token", "order..v2"),
            ("leading dot", ".v2"),
            ("wildcard", "order.*.v2"),
            ("system subject", "$JS.API.v2"),
            ("space", "order placed.v2"),
        ] {
            assert!(EventType::parse(text).is_err(), "{why}: {text}");
        }
    }

    #[test]
    fn keys_never_change() {
        // These bytes are in journals and in participants' databases: they are frozen.
        let run = RunId::keyed(&SagaName::parse("order").unwrap(), "A-1");
        assert_eq!(run.to_string(), "62e7b8b3-17f5-5744-8f71-b8115137432f");
        let other = RunId::keyed(&SagaName::parse("order").unwrap(), "A-2");
        assert_ne!(run, other);
        assert_ne!(run.effect_key("reserve", "forward", 0), run.effect_key("reserve", "compensate", 0));
    }
}
