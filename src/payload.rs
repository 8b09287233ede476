//! JSON as shared raw text: parsed when somebody looks, never cloned, digits kept as they came.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One well-formed JSON document, cheap to clone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// Takes JSON text; refuses what is not one JSON document (depth at most 128, as serde_json has it).
    ///
    /// # Errors
    /// serde_json's own error with line and column.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).map(|raw| Self(raw.into()))
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
    fn canonical_ignores_order_and_space() {
        let a = Payload::parse(r#"{"b": 1, "a": [1, 2]}"#).unwrap();
        let b = Payload::parse(r#"{"a":[1,2],"b":1}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
        assert_ne!(a, b);
    }
}
