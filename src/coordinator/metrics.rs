//! What the coordinator counts.

use crate::journal::Stats;

#[derive(Default)]
pub struct Metrics {}

impl Metrics {
    pub fn run_started(&self, _saga: &str) {}
    pub fn run_ended(&self, _saga: &str, _state: &'static str, _took_ms: u64) {}
    pub fn run_parked(&self, _saga: &str) {}
    pub fn step_undone(&self, _saga: &str) {}
    pub fn attempt_ended(&self, _service: &str, _direction: &'static str, _effect: &'static str) {}
    pub fn retry(&self, _service: &str) {}
    pub fn event_consumed(&self, _event: &str) {}
    pub fn event_duplicate(&self) {}
    pub fn events_published(&self, _count: u64) {}
    pub fn dead_letter(&self, _reason: &'static str) {}
    pub fn render<'a>(
        &self,
        _open: impl Iterator<Item = (&'a str, &'static str, u64)>,
        _journal: &Stats,
        _outbox: u64,
        _spans: &super::spans::Spans,
    ) -> String {
        String::new()
    }
}
