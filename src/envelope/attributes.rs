//! CloudEvents 1.0 attributes as text → an [`Event`], with every mistake found at once. Shared by the
//! binary and the structured mode, by NATS and HTTP; knows no wire.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Event;
use crate::id::EventType;
use crate::payload::Payload;
use crate::trace_context::TraceContext;

/// Ids, sources and extensions become headers and journal keys; 1 KiB is far above any in use.
pub const ATTRIBUTE_BYTES_MAX: usize = 1_024;
/// Extension attributes beyond ours that an event may carry.
pub const EXTENSIONS_MAX: usize = 64;
/// The attributes that have a meaning of their own.
const KNOWN: [&str; 13] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "subject",
    "dataschema",
    "datacontenttype",
    "correlationid",
    "causationid",
    "partitionkey",
    "traceparent",
    "tracestate",
];
/// Data nested deeper is refused: serde_json reads 128 levels into a tree, and the event is one of them.
pub const DATA_DEPTH_MAX: usize = 100;

/// Attributes of one event as they are collected. Names are in lower case.
#[derive(Debug, Default)]
pub struct Attributes {
    /// In the order in which they came: a handful, and looked through faster than a tree is built.
    values: Vec<(Cow<'static, str>, String)>,
    /// Beyond what an event may have; they are counted and forgotten.
    beyond: usize,
    mistakes: Vec<String>,
    /// Names whose value was refused: present, so not missing as well.
    spoiled: BTreeSet<String>,
}

impl Attributes {
    /// Takes one attribute. A name given twice is a mistake: nobody can say which one was meant.
    pub fn set(&mut self, name: &str, value: String) {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            let shown: String = name.chars().take(40).collect();
            self.mistake(format!("attribute name `{shown}` is refused; allowed are a-z and 0-9"));
        } else if name == "data" {
            self.mistake("`data` is no attribute name".to_owned());
        } else if value.len() > ATTRIBUTE_BYTES_MAX {
            let bytes = value.len();
            self.spoiled(name, format!("`{name}` has {bytes} bytes; at most {ATTRIBUTE_BYTES_MAX} are allowed"));
        } else if value.chars().any(char::is_control) {
            // CloudEvents 1.0.2, type system: String excludes U+0000–U+001F and U+007F–U+009F.
            self.spoiled(name, format!("`{name}` holds a control character, such as a line break"));
        } else if self.values.iter().any(|(known, _)| known == name) {
            self.mistake(format!("`{name}` is given more than once"));
        } else if let Some(known) = KNOWN.into_iter().find(|known| *known == name) {
            self.values.push((Cow::Borrowed(known), value));
        } else if self.values.len() < EXTENSIONS_MAX + KNOWN.len() {
            self.values.push((Cow::Owned(name.to_owned()), value));
        } else {
            self.beyond += 1;
        }
    }

    /// Notes a mistake found by the mode's own reader.
    pub fn mistake(&mut self, what: String) {
        self.mistakes.push(what);
    }

    /// Notes an attribute whose value cannot be read.
    pub fn spoiled(&mut self, name: &str, what: String) {
        self.spoiled.insert(name.to_owned());
        self.mistake(what);
    }

    /// Returns an attribute that was set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Makes the event. `data` is what the mode read, or why it could not.
    ///
    /// # Errors
    /// All mistakes, one line each.
    pub fn finish(mut self, data: Result<Payload, String>) -> Result<Event, Vec<String>> {
        match self.take("specversion") {
            Some(version) if version == "1.0" => {}
            Some(version) => self.mistake(format!("`specversion` is `{version}`; only 1.0 is read")),
            None => self.mistake("`specversion` is missing".to_owned()),
        }
        let id = self.required("id");
        let source = self.required("source");
        let event_type = self.required("type").and_then(|text| match EventType::parse(&text) {
            Ok(event_type) => Some(event_type),
            Err(error) => {
                self.mistake(format!("`type`: {error}"));
                None
            }
        });
        let time = self.optional("time");
        if let Some(text) = &time
            && !is_rfc_3339(text)
        {
            self.mistake(format!("`time` is `{text}`, which is no RFC 3339 time such as 2026-01-31T12:00:00Z"));
        }
        let subject = self.optional("subject");
        let dataschema = self.optional("dataschema");
        for (name, uri) in [("source", &source), ("dataschema", &dataschema)] {
            if uri.as_ref().is_some_and(|uri| uri.chars().any(|c| c.is_whitespace() || c.is_control())) {
                self.mistake(format!("`{name}` holds white space, which no URI does"));
            }
        }
        // What the data is, the mode has read already; an event of ours always holds JSON.
        if let Some(kind) = self.optional("datacontenttype")
            && media_type(&kind).is_none()
        {
            self.mistake(format!("`datacontenttype` is `{kind}`, which is no media type such as application/json"));
        }
        let correlation_id = self.optional("correlationid");
        let causation_id = self.optional("causationid");
        let partition_key = self.optional("partitionkey");
        // A wrong traceparent starts a new trace, it is no error (W3C trace context, section 4.3).
        let (parent, state) = (self.take("traceparent"), self.take("tracestate"));
        let trace = parent.and_then(|parent| TraceContext::parse(&parent, state.as_deref()));
        let count = self.values.len() + self.beyond;
        if count > EXTENSIONS_MAX {
            self.mistake(format!("{count} extension attributes; at most {EXTENSIONS_MAX} are allowed"));
        }
        let data = match data {
            Ok(data) if depth(data.text()) > DATA_DEPTH_MAX => {
                self.mistake(format!("the data is nested deeper than {DATA_DEPTH_MAX} levels"));
                None
            }
            Ok(data) => Some(data),
            Err(why) => {
                self.mistake(why);
                None
            }
        };
        match (id, source, event_type, data) {
            (Some(id), Some(source), Some(event_type), Some(data)) if self.mistakes.is_empty() => Ok(Event {
                id,
                source,
                event_type,
                time,
                subject,
                dataschema,
                correlation_id,
                causation_id,
                partition_key,
                trace,
                extensions: self.values.into_iter().map(|(name, value)| (name.into_owned(), value)).collect(),
                data,
            }),
            _ => Err(self.mistakes),
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.values.iter().position(|(known, _)| known == name)?;
        Some(self.values.swap_remove(at).1)
    }

    fn required(&mut self, name: &str) -> Option<String> {
        if self.get(name).is_none() && !self.spoiled.contains(name) {
            self.mistake(format!("`{name}` is missing"));
        }
        self.optional(name)
    }

    fn optional(&mut self, name: &str) -> Option<String> {
        let value = self.take(name)?;
        if value.is_empty() {
            self.mistake(format!("`{name}` is empty"));
            return None;
        }
        Some(value)
    }
}

/// What kind of data a content type announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Json,
    /// Text, XML among it: read as one JSON string.
    Text,
    /// Neither; not read.
    Other,
}

/// Reads a content type (RFC 2046); none for text that is no media type.
#[must_use]
pub fn media_type(text: &str) -> Option<Media> {
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (main, sub) = essence.split_once('/')?;
    let token =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    if !token(main) || !token(sub) {
        return None;
    }
    Some(match (main, sub) {
        (_, "json") => Media::Json,
        (_, sub) if sub.ends_with("+json") => Media::Json,
        ("text", _) => Media::Text,
        (_, "xml") => Media::Text,
        (_, sub) if sub.ends_with("+xml") => Media::Text,
        _ => Media::Other,
    })
}

/// Returns how deep arrays and objects of a well-formed JSON text are nested.
#[must_use]
pub fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// True for an RFC 3339 date-time (section 5.6), leap seconds included.
fn is_rfc_3339(text: &str) -> bool {
    let b = text.as_bytes();
    let number = |from: usize, digits: usize| -> Option<u32> {
        let part = b.get(from..from + digits)?;
        part.iter().all(u8::is_ascii_digit).then(|| part.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
    };
    let at = |index: usize, allowed: &[u8]| b.get(index).is_some_and(|byte| allowed.contains(byte));
    let date = || {
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return None,
        };
        ((1..=days).contains(&day) && at(4, b"-") && at(7, b"-")).then_some(())
    };
    let time = || {
        let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
        (hour < 24 && minute < 60 && second <= 60 && at(10, b"Tt") && at(13, b":") && at(16, b":")).then_some(())
    };
    if date().is_none() || time().is_none() {
        return false;
    }
    let mut rest = 19;
    if at(rest, b".") {
        let digits = b[rest + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        rest += 1 + digits;
    }
    match b.get(rest) {
        Some(b'Z' | b'z') => b.len() == rest + 1,
        Some(b'+' | b'-') => {
            b.len() == rest + 6
                && at(rest + 3, b":")
                && number(rest + 1, 2).is_some_and(|hour| hour < 24)
                && number(rest + 4, 2).is_some_and(|minute| minute < 60)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let rows: &[(&str, &str, bool)] = &[
            ("UTC", "2018-04-05T17:31:00Z", true),
            ("nanoseconds and offset", "2018-04-05T17:31:00.000000001-01:00", true),
            ("leap second", "2016-12-31T23:59:60Z", true),
            ("leap day", "2024-02-29T00:00:00z", true),
            ("no leap day", "2023-02-29T00:00:00Z", false),
            ("minutes only", "2018-04-05T18:31Z", false),
            ("no zone", "2018-04-05T18:31:00", false),
            ("zone out of range", "2018-04-05T18:31:00+25:00", false),
            ("hour-only zone", "2018-04-05T18:31:00+05", false),
            ("white space", "2018-04-05 18:31:00Z", false),
            ("empty fraction", "2018-04-05T18:31:00.Z", false),
            ("month 13", "2018-13-05T18:31:00Z", false),
            ("words", "lunchtime", false),
            ("more behind it", "2018-04-05T17:31:00Zulu", false),
            ("not ASCII", "2018-04-0\u{665}T17:31:00Z", false),
        ];
        for (why, text, valid) in rows {
            assert_eq!(is_rfc_3339(text), *valid, "{why}: {text}");
        }
    }

    #[test]
    fn media_types() {
        let rows = [
            ("application/json", Some(Media::Json)),
            ("Application/JSON; charset=utf-8", Some(Media::Json)),
            ("application/vnd.order+json", Some(Media::Json)),
            ("text/plain", Some(Media::Text)),
            ("application/xml", Some(Media::Text)),
            ("application/soap+xml", Some(Media::Text)),
            ("image/png", Some(Media::Other)),
            ("xyz", None),
            ("", None),
            ("a b/c", None),
        ];
        for (text, expected) in rows {
            assert_eq!(media_type(text), expected, "{text}");
        }
    }

    #[test]
    fn all_mistakes_at_once() {
        let mut attributes = Attributes::default();
        for (name, value) in [("id", ""), ("source", "a b"), ("type", "order"), ("time", "noon"), ("My", "x")] {
            attributes.set(name, value.to_owned());
        }
        let mistakes = attributes.finish(Err("the data is no JSON".to_owned())).unwrap_err();
        let expected = ["`My`", "`specversion` is missing", "`id` is empty", "`type`", "`time`", "`source`", "no JSON"];
        for (mistake, part) in mistakes.iter().zip(expected) {
            assert!(mistake.contains(part), "{mistake}: {part}");
        }
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
    }

    #[test]
    fn more_than_an_event_may_have_is_counted_and_not_kept() {
        let filled = |extensions: usize| {
            let mut attributes = Attributes::default();
            for (name, value) in [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "a.v1")] {
                attributes.set(name, value.to_owned());
            }
            (0..extensions).for_each(|number| attributes.set(&format!("x{number}"), number.to_string()));
            attributes
        };
        assert_eq!(filled(EXTENSIONS_MAX).finish(Ok(Payload::null())).unwrap().extensions.len(), EXTENSIONS_MAX);
        for many in [EXTENSIONS_MAX + 1, 100_000] {
            let attributes = filled(many);
            assert!(attributes.values.len() < 100, "a hostile event costs no memory and no time");
            let mistakes = attributes.finish(Ok(Payload::null())).unwrap_err();
            assert_eq!(mistakes, [format!("{many} extension attributes; at most {EXTENSIONS_MAX} are allowed")]);
        }
        let mut twice = filled(2);
        twice.set("x1", "again".to_owned());
        assert_eq!(twice.finish(Ok(Payload::null())).unwrap_err(), ["`x1` is given more than once"]);
    }

    #[test]
    fn depths() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let rows = [("1", 0), ("[[]]", 2), (r#"{"a":"[[[\"["}"#, 1), ("[[],[]]", 2), (deep.as_str(), 100_000)];
        for (text, expected) in rows {
            assert_eq!(depth(text), expected);
        }
    }
}
