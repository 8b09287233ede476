//! JSON as shared raw text: parsed when somebody looks, never cloned, digits kept as they came.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

/// serde_json reads a tree no deeper than this; what is deeper could be stored but never looked at.
pub const DEPTH_MAX: usize = 127;

/// One well-formed JSON document, cheap to clone, nested at most [`DEPTH_MAX`] levels.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// Takes JSON text; refuses what is not one JSON document, or is nested deeper than [`DEPTH_MAX`].
    ///
    /// # Errors
    /// serde_json's own error with line and column.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).and_then(Self::bounded)
    }

    /// Reading raw JSON does not look at depth, so we do.
    fn bounded<E: de::Error>(raw: Box<RawValue>) -> Result<Self, E> {
        if is_deeper_than(raw.get(), DEPTH_MAX) {
            return Err(E::custom(format_args!("JSON is nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self(raw.into()))
    }

    /// Writes a value as JSON.
    ///
    /// # Panics
    /// For a type whose serialisation can fail, such as a map with keys that are not strings; ours have none.
    #[must_use]
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self(serde_json::value::to_raw_value(value).expect("our types serialise to JSON").into())
    }

    /// Returns `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// True for `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// Reads the document into a type.
    ///
    /// # Errors
    /// serde_json's own error.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.text())
    }

    /// Reads the document into a tree.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        self.read().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::bounded(Box::<RawValue>::deserialize(deserializer)?)
    }
}

/// True when the brackets of well-formed JSON nest deeper than `max`.
fn is_deeper_than(json: &str, max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') if depth == max => return true,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

impl PartialEq for Payload {
    /// Equal as text; see [`canonical`] for equal as JSON.
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
impl Eq for Payload {}
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
impl Default for Payload {
    fn default() -> Self {
        Self::null()
    }
}

/// Returns the document with object keys sorted and no white space: equal JSON gives equal text.
/// Numbers keep their spelling, so `1` and `1.0` differ.
#[must_use]
pub fn canonical(payload: &Payload) -> String {
    // serde_json's map is a BTreeMap here (no `preserve_order`), which sorts by key.
    payload.to_value().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let in_text = format!("\"\\\"{}\\\\\"", "[".repeat(500));
        for (why, text, accepted) in [
            ("as deep as can be read", deep(DEPTH_MAX), true),
            ("one more", deep(DEPTH_MAX + 1), false),
            ("enough to overflow a stack", deep(200_000), false),
            ("wide", format!("[{}[]]", "[],".repeat(500)), true),
            ("brackets in a text", in_text, true),
        ] {
            let parsed = Payload::parse(text.clone());
            assert_eq!(parsed.is_ok(), accepted, "{why}");
            assert_eq!(serde_json::from_str::<Payload>(&text).is_ok(), accepted, "{why}, as a part");
            if let Ok(payload) = parsed {
                payload.read::<serde_json::Value>().expect(why);
            }
        }
    }

    #[test]
    fn canonical_ignores_order_and_space() {
        let a = Payload::parse(r#"{"b": 1, "a": [1, 2]}"#).unwrap();
        let b = Payload::parse(r#"{"a":[1,2],"b":1}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
        assert_ne!(a, b);
    }
}
