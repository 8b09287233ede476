//! Where finished spans are put: a bounded queue that never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc;

use super::span::EngineSpan;
use crate::trace_context::{SpanId, TraceContext, TraceId};

/// Spans waiting for the exporter: eight seconds of 8,000 spans a second.
pub const QUEUE_LEN: usize = 65_536;

/// A finished span, of the engine or of a `tracing` span of the shell: the exporter makes no difference.
pub(super) type Item = Box<SpanData>;

/// Figures since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken by the collector.
    pub exported: u64,
    /// The queue was full, or the collector was away.
    pub dropped: u64,
    /// Waiting, or on their way and not answered for.
    pub queue_len: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) exported: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// On their way to the collector.
    pub(super) in_hand: AtomicU64,
}

/// Takes finished spans. Cheap to clone; never blocks, never fails.
#[derive(Clone)]
pub struct SpanSink {
    /// None: spans are not exported.
    queue: Option<mpsc::Sender<Item>>,
    counters: Arc<Counters>,
    /// A trace is sampled when the last 63 bits of its id are below this.
    sampled_below: u64,
}

impl SpanSink {
    pub(super) fn new(queue: Option<mpsc::Sender<Item>>, counters: Arc<Counters>, sampling: f64) -> Self {
        // The rule of OpenTelemetry's TraceIdRatioBased, so that all who use it decide alike.
        let sampled_below = (sampling.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self { queue, counters, sampled_below }
    }

    /// Makes a sink that takes nothing, for tests and commands without traces.
    #[must_use]
    pub fn off() -> Self {
        Self::new(None, Arc::default(), 0.0)
    }

    /// True when recording leads anywhere; saves building spans for nobody.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Puts a finished span into the queue, if its trace is sampled. A full queue drops it and counts.
    pub fn record(&self, span: &EngineSpan<'_>) {
        if span.context.sampled {
            self.put(|| Box::new(span.to_data()));
        }
    }

    /// A full queue costs no copy.
    fn put(&self, item: impl FnOnce() -> Item) {
        let Some(queue) = &self.queue else { return };
        match queue.try_reserve() {
            Ok(place) => place.send(item()),
            Err(_) => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Begins a trace for what came without one: random ids, the sampling of the configuration.
    #[must_use]
    pub fn new_trace(&self) -> TraceContext {
        // The hash spreads what is random in it over all bits, which sampling looks at.
        let seed = uuid::Uuid::now_v7();
        let (trace_id, span_id) = (TraceId::derived(&[seed.as_bytes()]), SpanId::derived(&[seed.as_bytes(), b"span"]));
        TraceContext { random: true, ..TraceContext::new(trace_id, span_id, self.samples(trace_id.0)) }
    }

    fn samples(&self, trace_id: [u8; 16]) -> bool {
        let low = trace_id[8..].iter().fold(0_u64, |low, byte| low << 8 | u64::from(*byte));
        low >> 1 < self.sampled_below
    }

    /// Returns the figures.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            exported: self.counters.exported.load(Ordering::Relaxed),
            dropped: self.counters.dropped.load(Ordering::Relaxed),
            queue_len: self.queue.as_ref().map_or(0, |queue| (QUEUE_LEN - queue.capacity()) as u64)
                + self.counters.in_hand.load(Ordering::Relaxed),
        }
    }
}

/// Hands the spans of the `tracing` layer to the same queue.
pub(super) struct Forward(pub(super) SpanSink);

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forward")
    }
}

impl SpanProcessor for Forward {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.0.put(|| Box::new(span));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }

    fn set_resource(&mut self, _resource: &Resource) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_the_share_it_says() {
        for (sampling, least, most) in [(0.0, 0, 0), (0.25, 2_200, 2_800), (1.0, 10_000, 10_000)] {
            let sink = SpanSink::new(None, Arc::default(), sampling);
            let sampled = (0..10_000).filter(|_| sink.new_trace().sampled).count();
            assert!((least..=most).contains(&sampled), "{sampling}: {sampled} of 10,000");
        }
        let all = SpanSink::new(None, Arc::default(), 1.0);
        assert!(all.samples([0xff; 16]), "the highest id is sampled too");
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let (queue, mut waiting) = mpsc::channel(2);
        let sink = SpanSink::new(Some(queue), Arc::default(), 1.0);
        let span = |sampled| EngineSpan {
            context: TraceContext { sampled, ..sink.new_trace() },
            parent: None,
            parent_is_remote: false,
            name: "test".into(),
            kind: super::super::SpanKind::Internal,
            start_us: 0,
            end_us: 0,
            attributes: Vec::new(),
            status: super::super::SpanStatus::Unset,
            links: Vec::new(),
        };
        sink.record(&span(false));
        for _ in 0..5 {
            sink.record(&span(true));
        }
        assert_eq!(sink.counts().dropped, 3);
        waiting.recv().await.unwrap();
        sink.record(&span(true));
        assert_eq!(sink.counts().dropped, 3, "room again");
    }
}
