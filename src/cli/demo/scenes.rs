//! The five things that the demonstration does to an order, and what must have become of it. The checks
//! are the same that the end-to-end test relies on.

use std::collections::BTreeMap;

use super::report::OrderLedger;
use crate::cli::participant::{Fault, Rule, Service};
use crate::coordinator::view::RunView;
use crate::request::Direction;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Nothing,
    /// Shipping says no.
    Refused,
    /// Payments does it and the answer is lost.
    ReplyLost,
    /// Inventory refuses connections until some attempts have failed.
    Down {
        failed_attempts: usize,
    },
    /// The orchestrator gets SIGKILL while payments holds its answer.
    Killed,
}

/// One order and its announced end.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub order: &'static str,
    pub title: &'static str,
    /// What will happen, said before it does.
    pub announced: &'static str,
    pub trouble: Trouble,
}

pub const SCENES: &[Scene] = &[
    Scene {
        order: "A-1001",
        title: "an order goes through",
        announced: "reserve, charge, ship, announce; ends completed",
        trouble: Trouble::Nothing,
    },
    Scene {
        order: "A-1002",
        title: "shipping refuses",
        announced: "the charge is refunded, then the reservation is released: reverse order; ends compensated",
        trouble: Trouble::Refused,
    },
    Scene {
        order: "A-1003",
        title: "payments charges, but its answer is lost",
        announced: "did it happen? payments is asked, and says yes; charged once; ends completed",
        trouble: Trouble::ReplyLost,
    },
    Scene {
        order: "A-1004",
        title: "inventory is down for a while",
        announced: "the connection is refused, tried again until it is back; ends completed",
        trouble: Trouble::Down { failed_attempts: 2 },
    },
    Scene {
        order: "A-1005",
        title: "the orchestrator is killed in the middle of `charge`",
        announced: "SIGKILL between the intent of `charge` and its answer; started again, it asks, goes on; ends completed",
        trouble: Trouble::Killed,
    },
];

/// How long payments holds its answer when the orchestrator is to be killed: longer than it takes to do it.
const HOLD_MS: u64 = 60_000;

impl Scene {
    /// Returns what the services are told before the order is published.
    #[must_use]
    pub fn fault(&self) -> Option<Rule> {
        let rule = |service, fault, times| Rule {
            service: Some(service),
            order: Some(self.order.to_owned()),
            run: None,
            step: None,
            direction: Some(Direction::Forward),
            times,
            fault,
        };
        match self.trouble {
            Trouble::Refused => Some(rule(
                Service::Shipping,
                Fault::Refuse {
                    status: 422,
                    problem: "no_carrier".to_owned(),
                    title: "no carrier goes there".to_owned(),
                },
                None,
            )),
            Trouble::ReplyLost => Some(rule(Service::Payments, Fault::LoseReply, Some(1))),
            Trouble::Killed => Some(rule(Service::Payments, Fault::Hold { ms: HOLD_MS }, Some(1))),
            Trouble::Nothing | Trouble::Down { .. } => None,
        }
    }

    /// Says what is not as announced.
    #[must_use]
    pub fn check(&self, run: &RunView, facts: &[String], ledger: &OrderLedger) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                wrong.push(format!("order {}: {what}", self.order));
            }
        };
        let refused = self.trouble == Trouble::Refused;
        let state = if refused { "compensated" } else { "completed" };
        expect(run.state == state, format!("ended {}, announced was {state}", run.state));
        expect(!run.incomplete, "an undo was skipped".to_owned());

        let effects: BTreeMap<Service, (u32, u32)> = if refused {
            BTreeMap::from([(Service::Inventory, (1, 1)), (Service::Payments, (1, 1))])
        } else {
            Service::ALL.iter().map(|service| (*service, (1, 0))).collect()
        };
        expect(
            ledger.effects == effects,
            format!("the services remember {:?} (done, undone), announced was {effects:?}", ledger.effects),
        );
        expect(ledger.duplicates == 0, format!("{} duplicate effects", ledger.duplicates));

        let count = |fact: &str| facts.iter().filter(|name| *name == fact).count();
        match self.trouble {
            Trouble::Nothing => {
                expect(ledger.arrivals == 3, format!("{} requests, announced were 3", ledger.arrivals));
            }
            Trouble::Refused => expect(
                ledger.undone_in_order == [Service::Payments, Service::Inventory],
                format!("undone in the order {:?}, announced was the reverse of doing", ledger.undone_in_order),
            ),
            Trouble::ReplyLost => expect(ledger.checks >= 1, "payments was not asked".to_owned()),
            Trouble::Down { failed_attempts } => {
                let ended = count("attempt_ended");
                expect(ended > failed_attempts + 2, format!("{ended} attempts, announced were more"));
            }
            Trouble::Killed => {
                let interrupted = count("attempt_interrupted");
                expect(interrupted == 1, format!("{interrupted} attempts were cut off, announced was 1"));
                expect(ledger.checks >= 1, "payments was not asked".to_owned());
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::payload::Payload;

    fn run(state: &str) -> RunView {
        RunView {
            id: RunId(uuid::Uuid::nil()),
            saga: "order-fulfilment".into(),
            version: 1,
            state: state.into(),
            phase: "done".into(),
            key: None,
            correlation_id: String::new(),
            trace_id: String::new(),
            linked_traces: Vec::new(),
            input: Payload::null(),
            output: None,
            error: None,
            others: vec![],
            incomplete: false,
            parked: None,
            undone_by: None,
            parent: None,
            waiting_for: None,
            steps: vec![],
            notes: vec![],
            started_at: String::new(),
            ended_at: None,
        }
    }

    fn ledger(undone: bool) -> OrderLedger {
        let effects = if undone {
            BTreeMap::from([(Service::Inventory, (1, 1)), (Service::Payments, (1, 1))])
        } else {
            Service::ALL.iter().map(|service| (*service, (1, 0))).collect()
        };
        let undone_in_order = if undone { vec![Service::Payments, Service::Inventory] } else { vec![] };
        OrderLedger { effects, arrivals: 3, undone_in_order, checks: 1, ..OrderLedger::default() }
    }

    #[test]
    fn what_is_not_as_announced_is_said() {
        let facts = |name: &str, count: usize| vec![name.to_owned(); count];
        for scene in SCENES {
            let refused = scene.trouble == Trouble::Refused;
            let (state, other) = if refused { ("compensated", "completed") } else { ("completed", "compensated") };
            let mut facts_of_scene = facts("attempt_ended", 5);
            facts_of_scene.extend(facts("attempt_interrupted", 1));
            assert_eq!(scene.check(&run(state), &facts_of_scene, &ledger(refused)), Vec::<String>::new());
            assert!(!scene.check(&run(other), &facts_of_scene, &ledger(refused)).is_empty(), "{}", scene.title);
            assert!(!scene.check(&run(state), &facts_of_scene, &ledger(!refused)).is_empty(), "{}", scene.title);
            let mut twice = ledger(refused);
            twice.duplicates = 1;
            assert!(!scene.check(&run(state), &facts_of_scene, &twice).is_empty(), "{}", scene.title);
        }
    }

    #[test]
    fn each_trouble_must_leave_its_mark() {
        let mut quiet = ledger(false);
        quiet.checks = 0;
        for scene in SCENES.iter().filter(|scene| !matches!(scene.trouble, Trouble::Nothing | Trouble::Refused)) {
            assert!(!scene.check(&run("completed"), &[], &quiet).is_empty(), "{}", scene.title);
        }
        let mut wrong_order = ledger(true);
        wrong_order.undone_in_order.reverse();
        assert!(!SCENES[1].check(&run("compensated"), &[], &wrong_order).is_empty());
    }
}
