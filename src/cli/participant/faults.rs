//! What the services are told to do wrong: rules that are matched against a request in the order they
//! were given. The first that fits and is not used up decides.

use serde::{Deserialize, Serialize};

use super::ledger::{Call, Service};
use crate::request::Direction;

/// Rules at one time; a demonstration uses five, a test one for each order.
const RULES_MAX: usize = 10_000;

/// How a request goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Says no, with a problem of this type. Nothing is done.
    Refuse { status: u16, problem: String, title: String },
    /// Never answers. Nothing is done.
    Hang,
    /// 503, with `Retry-After` where seconds are given. Nothing is done.
    Unavailable { retry_after_s: Option<u64> },
    /// Does it, then closes the connection without an answer.
    LoseReply,
    /// Does it, and answers after this time.
    Hold { ms: u64 },
}

/// Which requests go wrong, how, and how often. What is absent fits everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rule {
    pub service: Option<Service>,
    pub order: Option<String>,
    pub run: Option<String>,
    pub step: Option<String>,
    pub direction: Option<Direction>,
    /// None: always.
    pub times: Option<u32>,
    pub fault: Fault,
}

impl Rule {
    fn fits(&self, call: &Call, order: Option<&str>) -> bool {
        self.times != Some(0)
            && self.service.is_none_or(|service| service == call.service)
            && self.order.as_deref().is_none_or(|wanted| order == Some(wanted))
            && self.run.as_deref().is_none_or(|run| run == call.run)
            && self.step.as_deref().is_none_or(|step| step == call.step)
            && self.direction.is_none_or(|direction| direction == call.direction)
    }
}

#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    /// Adds a rule; false when there are too many.
    pub fn add(&mut self, rule: Rule) -> bool {
        if self.rules.len() >= RULES_MAX {
            return false;
        }
        self.rules.push(rule);
        true
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// Takes the fault for a request, and counts it as used.
    pub fn take(&mut self, call: &Call, order: Option<&str>) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| rule.fits(call, order))?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_rule_that_fits_decides_until_it_is_used_up() {
        let call = Call {
            service: Service::Payments,
            method: "POST".into(),
            target: "/charges".into(),
            body: json!({"reference": "A-1"}),
            key: None,
            run: "r".into(),
            step: "charge".into(),
            direction: Direction::Forward,
            forward_key: None,
            correlation_id: None,
            traceparent: None,
        };
        let rule = |text: serde_json::Value| -> Rule { serde_json::from_value(text).unwrap() };
        let mut faults = Faults::default();
        faults.add(rule(json!({"order": "A-2", "fault": {"kind": "hang"}})));
        faults.add(rule(json!({"step": "charge", "direction": "compensate", "fault": {"kind": "hang"}})));
        faults.add(rule(json!({"order": "A-1", "times": 2, "fault": {"kind": "lose_reply"}})));
        faults.add(rule(json!({"service": "payments", "fault": {"kind": "hold", "ms": 5}})));
        let taken: Vec<Option<Fault>> = (0..3).map(|_| faults.take(&call, call.order())).collect();
        assert_eq!(taken, [Some(Fault::LoseReply), Some(Fault::LoseReply), Some(Fault::Hold { ms: 5 })]);
        faults.clear();
        assert_eq!(faults.take(&call, call.order()), None);
    }
}
