//! The kinds of figures: counters, gauges, histograms, and families of them by label values.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::telemetry::otlp::metric::Point;
use crate::time::LATENCY_BUCKETS_US;

/// Series of one name. Beyond it everything is counted under `other`: an installation with more sagas,
/// services or event types than that is still told the sums.
pub const SERIES_MAX: usize = 500;
/// The same for histograms: 50 series are 70 KB of the page.
pub const HISTOGRAM_SERIES_MAX: usize = 50;
const OTHER: &str = "other";

/// Goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes over a figure that is counted elsewhere; never goes down.
    pub fn at_least(&self, count: u64) {
        self.0.fetch_max(count, Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Adds; negative takes away.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    /// Returns the value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Time that goes up; counted in milliseconds, shown in seconds.
#[derive(Debug, Default)]
pub struct SecondsCounter(Counter);

impl SecondsCounter {
    /// Takes over a figure that is counted elsewhere, in milliseconds; never goes down.
    pub fn at_least_ms(&self, count: u64) {
        self.0.at_least(count);
    }
}

/// Time that goes up and down; kept in milliseconds, shown in seconds.
#[derive(Debug, Default)]
pub struct SecondsGauge(Gauge);

impl SecondsGauge {
    /// Sets, in milliseconds.
    pub fn set_ms(&self, value: u64) {
        self.0.set(value);
    }
}

/// Counts durations by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last is for all that is longer.
    buckets: [AtomicU64; LATENCY_BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BUCKETS_US.partition_point(|end| *end < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Takes over what is counted elsewhere in the same buckets.
    pub fn set(&self, counts: &[u64; LATENCY_BUCKETS_US.len() + 1], sum_us: u64) {
        for (bucket, count) in self.buckets.iter().zip(counts) {
            bucket.store(*count, Ordering::Relaxed);
        }
        self.sum_us.store(sum_us, Ordering::Relaxed);
    }
}

/// One kind of figure that can be written.
pub trait Series: Default {
    const KIND: &'static str;
    /// Series of one family. A histogram has 15 lines for each, so that there are fewer of them.
    const SERIES_MAX: usize = SERIES_MAX;
    /// `labels` is empty or `a="1",b="2"`.
    fn write(&self, text: &mut String, name: &str, labels: &str);
    /// Returns what OTLP has of it.
    fn point(&self) -> Point;
}

impl Series for Counter {
    const KIND: &'static str = "counter";
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        line(text, name, labels, &self.get().to_string());
    }
    fn point(&self) -> Point {
        Point::Sum(self.get())
    }
}

impl Series for Gauge {
    const KIND: &'static str = "gauge";
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        line(text, name, labels, &self.get().to_string());
    }
    fn point(&self) -> Point {
        Point::Gauge(self.get())
    }
}

impl Series for SecondsCounter {
    const KIND: &'static str = "counter";
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        line(text, name, labels, &seconds(self.0.get().saturating_mul(1_000)));
    }
    fn point(&self) -> Point {
        Point::SumMs(self.0.get())
    }
}

impl Series for SecondsGauge {
    const KIND: &'static str = "gauge";
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        line(text, name, labels, &seconds(self.0.get().unsigned_abs().saturating_mul(1_000)));
    }
    fn point(&self) -> Point {
        Point::GaugeMs(self.0.get().unsigned_abs())
    }
}

impl Series for Histogram {
    const KIND: &'static str = "histogram";
    const SERIES_MAX: usize = HISTOGRAM_SERIES_MAX;
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let end = LATENCY_BUCKETS_US.get(at).map_or("+Inf".to_owned(), |end| seconds(*end));
            line(text, &format!("{name}_bucket"), &format!("{labels}{comma}le=\"{end}\""), &count.to_string());
        }
        line(text, &format!("{name}_sum"), labels, &seconds(self.sum_us.load(Ordering::Relaxed)));
        line(text, &format!("{name}_count"), labels, &count.to_string());
    }
    fn point(&self) -> Point {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        Point::Histogram { counts, sum_us: self.sum_us.load(Ordering::Relaxed) }
    }
}

/// Writes microseconds as seconds: whole numbers, no rounding.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn line(text: &mut String, name: &str, labels: &str, value: &str) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// Figures of one name, by label values.
#[derive(Debug)]
pub struct Family<T> {
    pub(super) labels: &'static [&'static str],
    /// By the values with [`BETWEEN`] between them.
    series: RwLock<BTreeMap<Box<str>, Arc<T>>>,
}

/// Stands between label values in a key: a control character that no name holds.
const BETWEEN: char = '\u{1f}';

thread_local! {
    /// Keys are put together here: looking up a figure, several times for each transition, allocates nothing.
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

impl<T: Series> Family<T> {
    pub(super) fn new(labels: &'static [&'static str]) -> Self {
        Self { labels, series: RwLock::default() }
    }

    /// Returns the figure of these label values, in the labels' order.
    pub fn with(&self, values: &[&str]) -> Arc<T> {
        debug_assert_eq!(values.len(), self.labels.len(), "one value per label");
        KEY.with_borrow_mut(|key| {
            key.clear();
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    key.push(BETWEEN);
                }
                key.push_str(value);
            }
            if let Some(found) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(key.as_str()) {
                return Arc::clone(found);
            }
            self.begun(key)
        })
    }

    fn begun(&self, key: &str) -> Arc<T> {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if series.len() < T::SERIES_MAX || series.contains_key(key) {
            return Arc::clone(series.entry(key.into()).or_default());
        }
        let other = vec![OTHER; self.labels.len()].join(BETWEEN.encode_utf8(&mut [0; 4]));
        Arc::clone(series.entry(other.into()).or_default())
    }

    /// Removes all series of the family, before they are set anew.
    pub fn clear(&self) {
        self.series.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Writes the family's part of the page.
    pub(super) fn render(&self, text: &mut String, name: &str, help: &str) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() && !self.labels.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", help.trim(), T::KIND);
        if series.is_empty() {
            // A figure without labels is there from the start, at zero.
            return T::default().write(text, name, "");
        }
        for (key, one) in series.iter() {
            let values = self.labels.iter().zip(key.split(BETWEEN));
            let labels: Vec<String> = values.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            one.write(text, name, &labels.join(","));
        }
    }

    /// Returns every series with its labels, for OTLP.
    pub(super) fn points(&self) -> Vec<(Vec<(&'static str, String)>, Point)> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let labels = |key: &str| self.labels.iter().copied().zip(key.split(BETWEEN).map(str::to_owned)).collect();
        series.iter().map(|(key, one)| (labels(key), one.point())).collect()
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
