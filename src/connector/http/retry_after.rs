//! `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

use crate::time::Span;

/// A service that asks for more than a day means "go away"; the retry policy bounds it further.
const RETRY_AFTER_MAX: Span = Span::from_secs(24 * 3_600);

/// Reads the header; none when it is not there or not readable. A date is measured against the
/// answer's own `Date`, so that clocks that differ do no harm, else against `now`.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Span> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are more than a day.
        let seconds = text.parse::<u64>().unwrap_or(u64::MAX).min(RETRY_AFTER_MAX.0 / 1_000);
        return Some(Span::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let base =
        headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(|date| httpdate::parse_http_date(date).ok());
    let wait = date.duration_since(base.unwrap_or(now)).unwrap_or(Duration::ZERO);
    Some(Span::from_secs(wait.as_secs()).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        let rows: &[(&str, &str, Option<&str>, Option<u64>)] = &[
            ("seconds", "7", None, Some(7)),
            ("zero", "0", None, Some(0)),
            ("padded", " 7 ", None, Some(7)),
            ("a week is clamped", "604800", None, Some(86_400)),
            ("overflow is clamped", "99999999999999999999999", None, Some(86_400)),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT", None, Some(7)),
            ("date in RFC 850", "Sunday, 06-Nov-94 08:49:37 GMT", None, Some(7)),
            ("date in asctime", "Sun Nov  6 08:49:37 1994", None, Some(7)),
            ("date in the past", "Sun, 06 Nov 1994 08:49:00 GMT", None, Some(0)),
            (
                "the server's clock counts",
                "Sun, 06 Nov 1994 10:00:05 GMT",
                Some("Sun, 06 Nov 1994 10:00:00 GMT"),
                Some(5),
            ),
            ("negative", "-3", None, None),
            ("fraction", "1.5", None, None),
            ("words", "soon", None, None),
            ("empty", "", None, None),
        ];
        for (why, value, date, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            assert_eq!(retry_after(&headers, now), expected.map(Span::from_secs), "{why}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
