//! W3C trace context: parsed strictly, continued faithfully, and ids derived for spans that must be
//! the same after a crash. Source: <https://www.w3.org/TR/trace-context/>.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A W3C `tracestate` longer than this may be dropped (section 3.3.1.5); we keep up to it.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);
/// 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

macro_rules! hex_id {
    ($name:ident, $bytes:literal) => {
        impl $name {
            /// Parses lower-case hexadecimal; all zero is refused, as W3C says.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                if text.len() != 2 * $bytes || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                    return None;
                }
                let mut bytes = [0; $bytes];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
                }
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hex_id!(TraceId, 16);
hex_id!(SpanId, 8);

impl SpanId {
    /// Derives a span id from identities, so that a span exported again after a crash is the same span.
    #[must_use]
    pub fn derived(parts: &[&[u8]]) -> Self {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.finalize()[..8]);
        if bytes == [0; 8] {
            bytes[7] = 1; // all zero is no span id
        }
        Self(bytes)
    }
}

/// Where one is in a trace: what `traceparent` and `tracestate` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub sampled: bool,
    pub tracestate: Option<Arc<str>>,
}

impl TraceContext {
    /// Parses a `traceparent` of version 00, or of a higher version with the fields of 00 in front
    /// (section 4.3). Anything else is none: a wrong header starts a new trace, it is no error.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim_matches([' ', '\t']);
        let bytes = text.as_bytes();
        if bytes.len() < 55 || !text.is_ascii() {
            return None;
        }
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if bytes[2] != b'-'
            || bytes[35] != b'-'
            || bytes[52] != b'-'
            || ![0, 1, 53, 54].iter().all(|at| hex(bytes[*at]))
        {
            return None;
        }
        let version = &text[..2];
        match version {
            "ff" => return None,
            "00" if bytes.len() != 55 => return None,
            _ if bytes.len() > 55 && bytes[55] != b'-' => return None,
            _ => {}
        }
        let flags = u8::from_str_radix(&text[53..55], 16).ok()?;
        let tracestate =
            tracestate.map(str::trim).filter(|state| !state.is_empty() && state.len() <= TRACESTATE_BYTES_MAX);
        Some(Self {
            trace_id: TraceId::parse(&text[3..35])?,
            span_id: SpanId::parse(&text[36..52])?,
            sampled: flags & 1 == 1,
            tracestate: tracestate.map(Arc::from),
        })
    }

    /// Returns the same trace seen from another span.
    #[must_use]
    pub fn with_span(&self, span_id: SpanId) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// Returns the `traceparent` header's value.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// As stored: `{"parent": "00-…", "state": "…"}`.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    parent: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<std::borrow::Cow<'a, str>>,
}

impl Serialize for TraceContext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored { parent: self.traceparent().into(), state: self.tracestate.as_deref().map(Into::into) }
            .serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        Self::parse(&stored.parent, stored.state.as_deref())
            .ok_or_else(|| serde::de::Error::custom("not a traceparent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        let rows: &[(&str, String, bool)] = &[
            ("sampled", format!("00-{id}-01"), true),
            ("unknown flags", format!("00-{id}-ff"), true),
            ("future version with more", format!("cc-{id}-01-what-the-future"), true),
            ("future version, no dash", format!("cc-{id}-01.what"), false),
            ("version ff", format!("ff-{id}-01"), false),
            ("version 00 with more", format!("00-{id}-01-more"), false),
            ("upper case", format!("00-{}-01", id.to_uppercase()), false),
            ("zero trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01".into(), false),
            ("zero span", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".into(), false),
            ("short", "00-4bf9".into(), false),
        ];
        for (why, text, valid) in rows {
            assert_eq!(TraceContext::parse(text, None).is_some(), *valid, "{why}");
        }
        let context = TraceContext::parse(&rows[0].1, Some("a=1")).unwrap();
        assert_eq!(context.traceparent(), rows[0].1);
        let stored = serde_json::to_string(&context).unwrap();
        assert_eq!(serde_json::from_str::<TraceContext>(&stored).unwrap(), context);
    }
}
