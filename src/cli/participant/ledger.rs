//! What the three services remember: every arrival, counted before anything is recognised as a repeat;
//! the answer given to each idempotency key; and the effects, one for each (`Saga-Run`, `Saga-Step`).
//! Opens nothing and asks nobody the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::request::Direction;

/// Arrivals kept in full: 1,000 orders with every call repeated ten times fit five times over. Beyond it
/// they are counted only.
const ARRIVALS_MAX: usize = 500_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    Inventory,
    Payments,
    Shipping,
}

impl Service {
    pub const ALL: [Self; 3] = [Self::Inventory, Self::Payments, Self::Shipping];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Payments => "payments",
            Self::Shipping => "shipping",
        }
    }
}

/// Whether repeats are recognised. `Ignored` is the control: with it a check for duplicates must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    Honoured,
    Ignored,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub service: Service,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub body: Value,
    pub key: Option<String>,
    pub run: String,
    pub step: String,
    pub direction: Direction,
    pub forward_key: Option<String>,
    pub correlation_id: Option<String>,
    pub traceparent: Option<String>,
}

impl Call {
    /// Returns the order that the request itself names.
    pub fn order(&self) -> Option<&str> {
        let in_body = ["orderId", "reference"].iter().find_map(|name| self.body.get(name)?.as_str());
        in_body.or_else(|| {
            let (_, query) = self.target.split_once('?')?;
            query.split('&').find_map(|pair| pair.strip_prefix("reference=").or_else(|| pair.strip_prefix("orderId=")))
        })
    }
}

/// An answer to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string() }
    }

    pub fn problem(status: u16, kind: &str, title: &str) -> Self {
        Self::json(status, &json!({"type": kind, "title": title, "status": status}))
    }
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalOutcome {
    /// Not answered yet, or its connection went away first.
    Open,
    Applied,
    Undone,
    /// Known by its key: the first answer again, no new effect.
    Replayed,
    Refused,
    /// An action that came after its own undo.
    Barred,
    /// An undo with nothing to undo; a later action is barred.
    NothingToUndo,
    Looked,
    /// Answered 503, nothing done.
    Unavailable,
    /// Never answered, nothing done.
    Hung,
    /// Done, and the answer thrown away.
    ReplyLost,
}

/// One line of the ledger, written before anything else is done with the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Arrival {
    /// Milliseconds since the services started.
    pub at_ms: u64,
    pub service: Service,
    pub method: String,
    pub target: String,
    pub key: Option<String>,
    pub run: String,
    pub step: String,
    pub direction: Direction,
    pub order: Option<String>,
    pub forward_key: Option<String>,
    pub correlation_id: Option<String>,
    pub traceparent: Option<String>,
    pub outcome: ArrivalOutcome,
}

/// One effect on the world: what (`Saga-Run`, `Saga-Step`) did here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Effect {
    pub service: Service,
    pub run: String,
    pub step: String,
    pub order: Option<String>,
    /// Times that it was done. More than one is a duplicate.
    pub done: u32,
    /// Times that it was undone.
    pub undone: u32,
    /// An undo has come: what comes later is refused.
    pub closed: bool,
}

/// The whole ledger as the control address shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub arrivals: Vec<Arrival>,
    /// Counted beyond what is kept.
    pub arrivals_dropped: u64,
    pub effects: Vec<Effect>,
}

/// What a ledger of any length amounts to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    pub effects: u64,
    /// Done once and not undone.
    pub standing: u64,
    /// The first that was done twice, in words.
    pub duplicates: Vec<String>,
}

/// Duplicates that a summary names.
const DUPLICATES_NAMED: usize = 20;

/// Names everything that was done twice: a step of a run, or more standing effects than the one that an
/// order may have with each service.
pub fn duplicates_among<'a>(effects: impl Iterator<Item = &'a Effect>) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut standing: BTreeMap<(&str, Service), u32> = BTreeMap::new();
    for effect in effects {
        if effect.done > 1 {
            found.insert(format!(
                "{}: run {} step {} was done {} times",
                effect.service.as_str(),
                effect.run,
                effect.step,
                effect.done
            ));
        }
        if let Some(order) = &effect.order {
            *standing.entry((order, effect.service)).or_default() += effect.done.saturating_sub(effect.undone);
        }
    }
    for ((order, service), count) in standing {
        if count > 1 {
            found.insert(format!("{}: order {order} stands {count} times", service.as_str()));
        }
    }
    found.into_iter().collect()
}

#[derive(Debug)]
pub struct Ledger {
    keys: Keys,
    arrivals: Vec<Arrival>,
    arrivals_dropped: u64,
    answers: HashMap<String, Reply>,
    effects: BTreeMap<(String, String), Effect>,
    /// Which order a run is about; inventory's requests do not say it themselves.
    orders: HashMap<String, String>,
}

impl Ledger {
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            arrivals: Vec::new(),
            arrivals_dropped: 0,
            answers: HashMap::new(),
            effects: BTreeMap::new(),
            orders: HashMap::new(),
        }
    }

    /// Sums the ledger up.
    pub fn summary(&self) -> Summary {
        let effects = || self.effects.values();
        let standing = effects().filter(|effect| (effect.done, effect.undone) == (1, 0)).count() as u64;
        let mut duplicates = duplicates_among(effects());
        duplicates.truncate(DUPLICATES_NAMED);
        Summary { effects: effects().count() as u64, standing, duplicates }
    }

    /// Writes an arrival down and returns its line, none when the ledger is full.
    pub fn note(&mut self, call: &Call, at_ms: u64) -> Option<usize> {
        if let Some(order) = call.order() {
            self.orders.entry(call.run.clone()).or_insert_with(|| order.to_owned());
        }
        if self.arrivals.len() >= ARRIVALS_MAX {
            self.arrivals_dropped += 1;
            return None;
        }
        self.arrivals.push(Arrival {
            at_ms,
            service: call.service,
            method: call.method.clone(),
            target: call.target.clone(),
            key: call.key.clone(),
            run: call.run.clone(),
            step: call.step.clone(),
            direction: call.direction,
            order: self.order_of(call).map(str::to_owned),
            forward_key: call.forward_key.clone(),
            correlation_id: call.correlation_id.clone(),
            traceparent: call.traceparent.clone(),
            outcome: ArrivalOutcome::Open,
        });
        Some(self.arrivals.len() - 1)
    }

    /// Writes what became of an arrival.
    pub fn settle(&mut self, line: Option<usize>, outcome: ArrivalOutcome) {
        if let Some(arrival) = line.and_then(|line| self.arrivals.get_mut(line)) {
            arrival.outcome = outcome;
        }
    }

    /// Returns the order that a request is about, as far as it is known.
    pub fn order_of<'a>(&'a self, call: &'a Call) -> Option<&'a str> {
        call.order().or_else(|| self.orders.get(&call.run).map(String::as_str))
    }

    /// Does what a request asks, or gives the answer that its key had before. `refusal` is the answer of
    /// a service that says no; a request that was done before is not refused afterwards.
    pub fn apply(&mut self, call: &Call, refusal: Option<Reply>) -> (Reply, ArrivalOutcome) {
        if call.direction == Direction::Check {
            return (self.look(call), ArrivalOutcome::Looked);
        }
        if let Some(reply) = self.known_answer(call) {
            return (reply, ArrivalOutcome::Replayed);
        }
        let (reply, outcome) = match call.direction {
            Direction::Compensate => self.undo(call),
            Direction::Forward | Direction::Check => match refusal {
                Some(reply) => return (reply, ArrivalOutcome::Refused),
                None => self.act(call),
            },
        };
        if let (Keys::Honoured, Some(key)) = (self.keys, &call.key) {
            self.answers.insert(key.clone(), reply.clone());
        }
        (reply, outcome)
    }

    fn known_answer(&self, call: &Call) -> Option<Reply> {
        match self.keys {
            Keys::Honoured => self.answers.get(call.key.as_ref()?).cloned(),
            Keys::Ignored => None,
        }
    }

    fn effect(&mut self, call: &Call) -> &mut Effect {
        let order = self.order_of(call).map(str::to_owned);
        self.effects.entry((call.run.clone(), call.step.clone())).or_insert_with(|| Effect {
            service: call.service,
            run: call.run.clone(),
            step: call.step.clone(),
            order,
            done: 0,
            undone: 0,
            closed: false,
        })
    }

    fn act(&mut self, call: &Call) -> (Reply, ArrivalOutcome) {
        let keys = self.keys;
        let effect = self.effect(call);
        if effect.closed && keys == Keys::Honoured {
            let title = "this step was undone before its action arrived; nothing is done";
            return (Reply::problem(409, "undone", title), ArrivalOutcome::Barred);
        }
        if effect.done > 0 && keys == Keys::Honoured {
            // Another key for the same (run, step): one effect all the same.
            return (Self::created(call), ArrivalOutcome::Replayed);
        }
        effect.done += 1;
        (Self::created(call), ArrivalOutcome::Applied)
    }

    fn created(call: &Call) -> Reply {
        let id = call.key.clone().unwrap_or_else(|| format!("{}/{}", call.run, call.step));
        let mut body = json!({"id": id, "service": call.service});
        for name in ["orderId", "reference", "amount", "reservationId"] {
            if let Some(value) = call.body.get(name) {
                body[name] = value.clone();
            }
        }
        Reply::json(201, &body)
    }

    fn undo(&mut self, call: &Call) -> (Reply, ArrivalOutcome) {
        let keys = self.keys;
        let effect = self.effect(call);
        effect.closed = true;
        if effect.done == 0 || (effect.undone >= effect.done && keys == Keys::Honoured) {
            let title = "there is nothing to undo, and nothing will be done";
            return (Reply::problem(404, "nothing_to_undo", title), ArrivalOutcome::NothingToUndo);
        }
        effect.undone += 1;
        (Reply::json(200, &json!({"undone": true})), ArrivalOutcome::Undone)
    }

    /// Lists what stands for an order.
    fn look(&self, call: &Call) -> Reply {
        let order = self.order_of(call);
        let standing: Vec<Value> = self
            .effects
            .values()
            .filter(|effect| effect.service == call.service && effect.done > effect.undone)
            .filter(|effect| effect.order.is_some() && effect.order.as_deref() == order)
            .map(|effect| {
                json!({"id": format!("{}/{}", effect.run, effect.step), "reference": effect.order, "orderId": effect.order})
            })
            .collect();
        Reply::json(200, &Value::Array(standing))
    }

    /// Counts the arrivals that a filter accepts.
    pub fn count(&self, accepts: impl Fn(&Arrival) -> bool) -> usize {
        self.arrivals.iter().filter(|arrival| accepts(arrival)).count()
    }

    /// Returns everything; an effect's order is filled in where another request of its run named it.
    pub fn report(&self) -> Report {
        let known = |order: &Option<String>, run: &str| order.clone().or_else(|| self.orders.get(run).cloned());
        let mut arrivals = self.arrivals.clone();
        for arrival in &mut arrivals {
            arrival.order = known(&arrival.order, &arrival.run);
        }
        let mut effects: Vec<Effect> = self.effects.values().cloned().collect();
        for effect in &mut effects {
            effect.order = known(&effect.order, &effect.run);
        }
        Report { arrivals, arrivals_dropped: self.arrivals_dropped, effects }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(direction: Direction, key: &str) -> Call {
        Call {
            service: Service::Payments,
            method: "POST".into(),
            target: "/charges".into(),
            body: json!({"reference": "A-1", "amount": 12}),
            key: Some(key.into()),
            run: "run".into(),
            step: "charge".into(),
            direction,
            forward_key: None,
            correlation_id: None,
            traceparent: None,
        }
    }

    /// Sends directions with keys to one ledger; returns the outcomes, and how often it was done and undone.
    fn play(keys: Keys, calls: &[(Direction, &str)]) -> (Vec<ArrivalOutcome>, (u32, u32)) {
        let mut ledger = Ledger::new(keys);
        let mut outcomes = Vec::new();
        for (direction, key) in calls {
            let call = call(*direction, key);
            let line = ledger.note(&call, 0);
            let (_, outcome) = ledger.apply(&call, None);
            ledger.settle(line, outcome);
            outcomes.push(outcome);
        }
        let report = ledger.report();
        assert_eq!(report.arrivals.len(), calls.len(), "every arrival is counted, repeats too");
        let counts = report.effects.first().map_or((0, 0), |effect| (effect.done, effect.undone));
        (outcomes, counts)
    }

    #[test]
    fn one_effect_for_each_run_and_step() {
        use ArrivalOutcome::{Applied, Barred, Looked, NothingToUndo, Replayed, Undone};
        use Direction::{Check, Compensate, Forward};
        type Row<'a> = (&'a str, &'a [(Direction, &'a str)], &'a [ArrivalOutcome], (u32, u32));
        let rows: &[Row<'_>] = &[
            ("once", &[(Forward, "k")], &[Applied], (1, 0)),
            ("repeated", &[(Forward, "k"), (Forward, "k")], &[Applied, Replayed], (1, 0)),
            ("another key for the same step", &[(Forward, "k"), (Forward, "l")], &[Applied, Replayed], (1, 0)),
            ("undone", &[(Forward, "k"), (Compensate, "u")], &[Applied, Undone], (1, 1)),
            (
                "undone twice",
                &[(Forward, "k"), (Compensate, "u"), (Compensate, "u")],
                &[Applied, Undone, Replayed],
                (1, 1),
            ),
            (
                "undone with a new key",
                &[(Forward, "k"), (Compensate, "u"), (Compensate, "v")],
                &[Applied, Undone, NothingToUndo],
                (1, 1),
            ),
            ("late action", &[(Compensate, "u"), (Forward, "k")], &[NothingToUndo, Barred], (0, 0)),
            ("check changes nothing", &[(Check, "c"), (Forward, "k")], &[Looked, Applied], (1, 0)),
        ];
        for (why, calls, outcomes, counts) in rows {
            let (got, got_counts) = play(Keys::Honoured, calls);
            assert_eq!((got.as_slice(), got_counts), (*outcomes, *counts), "{why}");
        }
    }

    #[test]
    fn without_keys_a_repeat_is_a_duplicate() {
        use Direction::{Compensate, Forward};
        let (_, counts) = play(Keys::Ignored, &[(Forward, "k"), (Forward, "k"), (Compensate, "u")]);
        assert_eq!(counts, (2, 1));
    }

    #[test]
    fn a_refusal_leaves_nothing_and_never_takes_back_what_was_done() {
        let mut ledger = Ledger::new(Keys::Honoured);
        let no = || Some(Reply::problem(422, "no_stock", "no stock"));
        assert_eq!(ledger.apply(&call(Direction::Forward, "k"), no()).1, ArrivalOutcome::Refused);
        assert!(ledger.report().effects.is_empty());
        assert_eq!(ledger.apply(&call(Direction::Forward, "k"), None).1, ArrivalOutcome::Applied);
        assert_eq!(ledger.apply(&call(Direction::Forward, "k"), no()).1, ArrivalOutcome::Replayed);
    }

    #[test]
    fn a_check_lists_what_stands() {
        let mut ledger = Ledger::new(Keys::Honoured);
        let mut check = call(Direction::Check, "c");
        check.body = Value::Null;
        check.target = "/charges?reference=A-1".into();
        assert_eq!(ledger.apply(&check, None).0.body, "[]");
        ledger.apply(&call(Direction::Forward, "k"), None);
        let listed: Vec<Value> = serde_json::from_str(&ledger.apply(&check, None).0.body).unwrap();
        assert_eq!(listed.len(), 1);
        ledger.apply(&call(Direction::Compensate, "u"), None);
        assert_eq!(ledger.apply(&check, None).0.body, "[]");
    }

    #[test]
    fn an_order_named_later_is_known_for_the_whole_run() {
        let mut ledger = Ledger::new(Keys::Honoured);
        let mut reserve = call(Direction::Forward, "r");
        (reserve.service, reserve.step, reserve.body) = (Service::Inventory, "reserve".into(), json!({"lines": []}));
        ledger.note(&reserve, 0);
        ledger.apply(&reserve, None);
        ledger.note(&call(Direction::Forward, "k"), 1);
        let report = ledger.report();
        assert_eq!(report.effects[0].order.as_deref(), Some("A-1"));
        assert_eq!(report.arrivals[0].order.as_deref(), Some("A-1"));
    }
}
