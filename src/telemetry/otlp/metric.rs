//! A figure as bytes: field 2 of `ScopeMetrics`. Source of the numbers:
//! opentelemetry/proto/metrics/v1/metrics.proto.

use super::span::attribute;
use super::wire::{Kind, fixed64_field, message_field, tag, text_field, varint, varint_field};
use crate::time::LATENCY_BUCKETS_US;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: since the process began.
const CUMULATIVE: u64 = 2;

/// What a series is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    Sum(u64),
    Gauge(i64),
    /// Milliseconds, sent as seconds.
    SumMs(u64),
    GaugeMs(u64),
    /// Counts by [`LATENCY_BUCKETS_US`], and one for what is longer.
    Histogram {
        counts: Vec<u64>,
        sum_us: u64,
    },
}

type Labelled = (Vec<(&'static str, String)>, Point);

/// Writes one name with all its series; none without a series.
pub fn encode(name: &str, help: &str, series: &[Labelled], began_ns: u64, now_ns: u64) -> Option<Vec<u8>> {
    let (_, first) = series.first()?;
    let (field, unit) = match first {
        Point::Gauge(_) => (5, ""),
        Point::GaugeMs(_) => (5, "s"),
        Point::Sum(_) => (7, ""),
        Point::SumMs(_) => (7, "s"),
        Point::Histogram { .. } => (9, "s"),
    };
    let mut bytes = Vec::with_capacity(128 * series.len());
    message_field(&mut bytes, 2, |to| {
        text_field(to, 1, name);
        text_field(to, 2, help.trim());
        text_field(to, 3, unit);
        message_field(to, field, |to| {
            for (labels, point) in series {
                message_field(to, 1, |to| data_point(to, labels, point, began_ns, now_ns));
            }
            match first {
                Point::Gauge(_) | Point::GaugeMs(_) => {}
                Point::Sum(_) | Point::SumMs(_) => {
                    varint_field(to, 2, CUMULATIVE);
                    varint_field(to, 3, 1); // it only grows
                }
                Point::Histogram { .. } => varint_field(to, 2, CUMULATIVE),
            }
        });
    });
    Some(bytes)
}

fn data_point(to: &mut Vec<u8>, labels: &[(&'static str, String)], point: &Point, began_ns: u64, now_ns: u64) {
    let labels_field = if matches!(point, Point::Histogram { .. }) { 9 } else { 7 };
    for (name, value) in labels {
        attribute(to, labels_field, name, &value.clone().into());
    }
    fixed64_field(to, 2, began_ns);
    fixed64_field(to, 3, now_ns);
    match point {
        Point::Sum(value) => fixed64_field(to, 6, *value),
        Point::Gauge(value) => fixed64_field(to, 6, value.cast_unsigned()),
        Point::SumMs(ms) | Point::GaugeMs(ms) => fixed64_field(to, 4, (*ms as f64 / 1e3).to_bits()),
        Point::Histogram { counts, sum_us } => {
            fixed64_field(to, 4, counts.iter().sum());
            fixed64_field(to, 5, (*sum_us as f64 / 1e6).to_bits());
            packed(to, 6, counts.iter().copied());
            packed(to, 7, LATENCY_BUCKETS_US.iter().map(|end| (*end as f64 / 1e6).to_bits()));
        }
    }
}

/// A list of numbers of eight bytes each.
fn packed(to: &mut Vec<u8>, field: u8, values: impl ExactSizeIterator<Item = u64>) {
    tag(to, field, Kind::Bytes);
    varint(to, 8 * values.len() as u64);
    values.for_each(|value| to.extend_from_slice(&value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_say() {
        assert_eq!(encode("a", "b", &[], 1, 2), None);
    }

    #[test]
    fn a_gauge_goes_below_zero() {
        let bytes = encode("a", "b", &[(vec![("x", "1".to_owned())], Point::Gauge(-1))], 1, 2).unwrap();
        assert!(bytes.windows(8).any(|window| window == (-1_i64).to_le_bytes()), "{bytes:?}");
    }
}
