//! The two tables at the end: what became of the runs, and what the services remember.

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, Color, Table};

use crate::cli::participant::{Report, Service, duplicates_among};
use crate::coordinator::view::RunView;
use crate::request::Direction;

/// What the services remember of one order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OrderLedger {
    /// Times done and undone, by service.
    pub effects: BTreeMap<Service, (u32, u32)>,
    /// Requests, repeats and checks too.
    pub arrivals: usize,
    /// Different keys among the requests that act.
    pub keys: usize,
    /// Requests with the key that came most often.
    pub arrivals_per_key_max: usize,
    /// The services in the order in which something was undone.
    pub undone_in_order: Vec<Service>,
    /// Questions whether something had happened.
    pub checks: usize,
    /// Effects beyond the one that each step may have.
    pub duplicates: u32,
}

/// Sorts a ledger by order.
#[must_use]
pub fn by_order(report: &Report) -> BTreeMap<String, OrderLedger> {
    let mut orders: BTreeMap<String, OrderLedger> = BTreeMap::new();
    for effect in &report.effects {
        let Some(order) = &effect.order else { continue };
        let line = orders.entry(order.clone()).or_default();
        let counts = line.effects.entry(effect.service).or_default();
        counts.0 += effect.done;
        counts.1 += effect.undone;
        line.duplicates += effect.done.saturating_sub(1);
    }
    let mut keys: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for arrival in &report.arrivals {
        let Some(order) = &arrival.order else { continue };
        let line = orders.entry(order.clone()).or_default();
        line.arrivals += 1;
        match arrival.direction {
            Direction::Check => line.checks += 1,
            Direction::Forward | Direction::Compensate => {
                if let Some(key) = &arrival.key {
                    *keys.entry(order).or_default().entry(key).or_default() += 1;
                }
            }
        }
        if arrival.outcome == crate::cli::participant::ArrivalOutcome::Undone {
            line.undone_in_order.push(arrival.service);
        }
    }
    for (order, keys) in keys {
        if let Some(line) = orders.get_mut(order) {
            line.keys = keys.len();
            line.arrivals_per_key_max = keys.values().copied().max().unwrap_or_default();
        }
    }
    orders
}

/// Returns all effects beyond the one that each step of each run may have, and beyond the one that each
/// order may have with each service.
#[must_use]
pub fn duplicates(report: &Report) -> Vec<String> {
    duplicates_among(report.effects.iter())
}

/// Returns the table of runs.
#[must_use]
pub fn runs_table(runs: &[RunView]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(["order", "run", "ended", "steps (attempts)", "took"]);
    for run in runs {
        let steps: Vec<String> = run
            .steps
            .iter()
            .filter(|step| step.status != "not_started")
            .map(|step| {
                let attempts = if step.attempts > 1 { format!(" ({})", step.attempts) } else { String::new() };
                let status = step.undo.as_ref().map_or(step.status.as_str(), |undo| undo.status.as_str());
                format!("{} {status}{attempts}", step.id)
            })
            .collect();
        let color = if run.state == "completed" { Color::Green } else { Color::Yellow };
        table.add_row([
            Cell::new(run.key.as_deref().unwrap_or("-")),
            Cell::new(run.id),
            Cell::new(&run.state).fg(color),
            Cell::new(steps.join(", ")),
            Cell::new(took(run)),
        ]);
    }
    table
}

fn took(run: &RunView) -> String {
    let at = |text: &str| text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond());
    match (at(&run.started_at), run.ended_at.as_deref().and_then(at)) {
        (Some(began), Some(ended)) => format!("{} ms", ended.saturating_sub(began)),
        _ => "-".to_owned(),
    }
}

/// Returns the table of the services' ledger.
#[must_use]
pub fn ledger_table(orders: &BTreeMap<String, OrderLedger>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header([
        "order",
        "inventory",
        "payments",
        "shipping",
        "requests",
        "keys",
        "most per key",
        "duplicates",
    ]);
    for (order, line) in orders {
        let effect = |service: Service| match line.effects.get(&service).copied().unwrap_or_default() {
            (0, 0) => "-".to_owned(),
            (done, 0) => format!("done {done}"),
            (done, undone) => format!("done {done}, undone {undone}"),
        };
        let color = if line.duplicates == 0 { Color::Green } else { Color::Red };
        table.add_row([
            Cell::new(order),
            Cell::new(effect(Service::Inventory)),
            Cell::new(effect(Service::Payments)),
            Cell::new(effect(Service::Shipping)),
            Cell::new(line.arrivals),
            Cell::new(line.keys),
            Cell::new(line.arrivals_per_key_max),
            Cell::new(line.duplicates).fg(color),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::participant::{Arrival, ArrivalOutcome, Effect};

    fn effect(order: &str, run: &str, done: u32, undone: u32) -> Effect {
        Effect {
            service: Service::Payments,
            run: run.into(),
            step: "charge".into(),
            order: Some(order.into()),
            done,
            undone,
            closed: undone > 0,
        }
    }

    fn arrival(key: &str, direction: Direction, outcome: ArrivalOutcome) -> Arrival {
        Arrival {
            at_ms: 0,
            service: Service::Payments,
            method: "POST".into(),
            target: "/charges".into(),
            key: Some(key.into()),
            run: "r".into(),
            step: "charge".into(),
            direction,
            order: Some("A".into()),
            forward_key: None,
            correlation_id: None,
            traceparent: None,
            outcome,
        }
    }

    #[test]
    fn duplicates_are_found_before_they_can_hide() {
        let rows: &[(&str, Vec<Effect>, usize)] = &[
            ("one", vec![effect("A", "r", 1, 0)], 0),
            ("undone", vec![effect("A", "r", 1, 1)], 0),
            ("done twice, one undone", vec![effect("A", "r", 2, 1)], 1),
            ("two runs for one order", vec![effect("A", "r", 1, 0), effect("A", "s", 1, 0)], 1),
            ("a second run after an undo", vec![effect("A", "r", 1, 1), effect("A", "s", 1, 0)], 0),
        ];
        for (why, effects, count) in rows {
            let report = Report { arrivals: vec![], arrivals_dropped: 0, effects: effects.clone() };
            assert_eq!(duplicates(&report).len(), *count, "{why}");
        }
    }

    #[test]
    fn one_line_for_each_order() {
        let arrivals = vec![
            arrival("k", Direction::Forward, ArrivalOutcome::ReplyLost),
            arrival("c", Direction::Check, ArrivalOutcome::Looked),
            arrival("k", Direction::Forward, ArrivalOutcome::Replayed),
            arrival("u", Direction::Compensate, ArrivalOutcome::Undone),
        ];
        let report = Report { arrivals, arrivals_dropped: 0, effects: vec![effect("A", "r", 1, 1)] };
        let orders = by_order(&report);
        let line = &orders["A"];
        assert_eq!((line.arrivals, line.keys, line.arrivals_per_key_max, line.checks), (4, 2, 2, 1));
        assert_eq!(line.undone_in_order, [Service::Payments]);
        assert_eq!(line.effects[&Service::Payments], (1, 1));
    }
}
