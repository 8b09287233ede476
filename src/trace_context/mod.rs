//! W3C trace context (level 2): parsed strictly, continued faithfully, and ids derived for spans that must
//! be the same after a crash. Source: <https://www.w3.org/TR/trace-context-2/>.

pub mod baggage;
pub mod state;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);
/// 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

macro_rules! hex_id {
    ($name:ident, $bytes:literal) => {
        impl $name {
            /// Derives an id from identities, so that what is made again after a crash is the same.
            #[must_use]
            pub fn derived(parts: &[&[u8]]) -> Self {
                let mut bytes = [0; $bytes];
                bytes.copy_from_slice(&hash(parts)[..$bytes]);
                // All zero is no id.
                bytes[$bytes - 1] |= u8::from(bytes == [0; $bytes]);
                Self(bytes)
            }

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

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The flags of `traceparent` that are defined.
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

/// Where one is in a trace: what `traceparent`, `tracestate` and `baggage` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub sampled: bool,
    /// Whoever began the trace says that the last 7 bytes of its id are random (section 3.2.2.5.2).
    pub random: bool,
    pub tracestate: Option<Arc<str>>,
    /// As it came; what may go on is chosen by [`baggage::allowed`].
    pub baggage: Option<Arc<str>>,
}

impl TraceContext {
    /// Returns a context without anybody else's additions.
    #[must_use]
    pub const fn new(trace_id: TraceId, span_id: SpanId, sampled: bool) -> Self {
        Self { trace_id, span_id, sampled, random: false, tracestate: None, baggage: None }
    }

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
        Some(Self {
            trace_id: TraceId::parse(&text[3..35])?,
            span_id: SpanId::parse(&text[36..52])?,
            sampled: flags & SAMPLED != 0,
            // Version 01 and later may mean something else by it, and we write version 00.
            random: flags & RANDOM != 0 && version == "00",
            tracestate: state::parse(tracestate),
            baggage: None,
        })
    }

    /// Parses the values of the `traceparent` and `tracestate` headers of one message. Several
    /// `traceparent` are none (section 3.2), several `tracestate` are one list.
    #[must_use]
    pub fn of_headers<'a>(
        parents: impl IntoIterator<Item = &'a str>,
        states: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let mut parents = parents.into_iter();
        let (parent, None) = (parents.next()?, parents.next()) else { return None };
        Some(Self { tracestate: state::parse(states), ..Self::parse(parent, None)? })
    }

    /// Returns the same trace seen from another span.
    #[must_use]
    pub fn with_span(&self, span_id: SpanId) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// Returns the same trace before it has a span: whoever goes on from it begins it.
    #[must_use]
    pub fn without_span(&self) -> Self {
        self.with_span(SpanId([0; 8]))
    }

    /// False for a trace that has no span yet.
    #[must_use]
    pub fn has_span(&self) -> bool {
        self.span_id.0 != [0; 8]
    }

    /// Returns the `traceparent` header's value.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let flags = if self.sampled { SAMPLED } else { 0 } | if self.random { RANDOM } else { 0 };
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// As stored: `{"parent": "00-…", "state": "…", "baggage": "…"}`.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    parent: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baggage: Option<std::borrow::Cow<'a, str>>,
}

impl Serialize for TraceContext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (state, baggage) = (self.tracestate.as_deref(), self.baggage.as_deref());
        Stored { parent: self.traceparent().into(), state: state.map(Into::into), baggage: baggage.map(Into::into) }
            .serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let context = Self::parse(&stored.parent, stored.state.as_deref())
            .ok_or_else(|| serde::de::Error::custom("not a traceparent"))?;
        Ok(Self { baggage: stored.baggage.as_deref().map(Arc::from), ..context })
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
            ("white space around it", format!("\t 00-{id}-01 "), true),
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
        let context = TraceContext { baggage: Some("b=2".into()), ..context };
        let stored = serde_json::to_string(&context).unwrap();
        assert_eq!(serde_json::from_str::<TraceContext>(&stored).unwrap(), context);
    }

    #[test]
    fn flags() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        let rows: &[(&str, &str, &str)] = &[
            // why, in, out
            ("sampled", "01", "01"),
            ("random goes on", "02", "02"),
            ("both", "03", "03"),
            ("what is not defined is not passed on", "fc", "00"),
        ];
        for (why, from, to) in rows {
            let context = TraceContext::parse(&format!("00-{id}-{from}"), None).unwrap();
            assert_eq!(context.traceparent(), format!("00-{id}-{to}"), "{why}");
        }
        let future = TraceContext::parse(&format!("01-{id}-03"), None).unwrap();
        assert_eq!(future.traceparent(), format!("00-{id}-01"), "a later version's flags are its own");
    }
}
