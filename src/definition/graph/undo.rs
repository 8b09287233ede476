//! What is undone, and in which order, when a run fails at a step: the reverse of the way there, branches side
//! by side, a `for` item by item. What a scope inside undoes by itself (a caught `try`, a lost branch) comes
//! before it and is not shown.

use super::super::model::{
    Action, BlockIndex, Compensate, Fallback, Part, SagaDefinition, StepIndex, UndoOrder, UnknownElse,
};
use super::{Form, Graph, doing, undoing};

/// An undo plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// One step, and what its undo is.
    Step { id: String, what: String, needed: bool },
    /// One after the other.
    Then(Vec<Plan>),
    /// Side by side.
    Beside(Vec<Plan>),
    /// Whichever of these has run.
    Either(Vec<(String, Plan)>),
    /// Once for each item that was started.
    Each(String, Box<Plan>),
}

/// Returns what is undone when the run fails at a step, or is cancelled there. `Err` says why nothing is.
///
/// # Errors
/// One sentence where the step lies behind the pivot.
pub fn plan(saga: &SagaDefinition, from: StepIndex) -> Result<Plan, String> {
    let step = saga.step(from);
    if step.after_pivot {
        return Err(format!(
            "`{}` lies behind the pivot: nothing is undone, the run parks until the step is done",
            step.id
        ));
    }
    if step.pivot {
        let what = "the pivot: while its outcome is unknown nothing is undone, refused it has no effect".to_owned();
        let own = Plan::Step { id: step.id.to_string(), what, needed: false };
        return Ok(ordered(saga, flat(vec![own, before(saga, from)])));
    }
    let mut plans = vec![last(saga, from)];
    plans.push(before(saga, from));
    Ok(ordered(saga, flat(plans)))
}

fn ordered(saga: &SagaDefinition, plan: Plan) -> Plan {
    match (saga.undo_order, plan) {
        (UndoOrder::Parallel, Plan::Then(plans)) => Plan::Beside(plans),
        (_, plan) => plan,
    }
}

fn flat(plans: Vec<Plan>) -> Plan {
    let mut out = Vec::new();
    for plan in plans {
        match plan {
            Plan::Then(inner) => out.extend(inner),
            other => out.push(other),
        }
    }
    if out.len() == 1 { out.remove(0) } else { Plan::Then(out) }
}

/// The step that failed: it is undone only where it may have had an effect.
fn last(saga: &SagaDefinition, index: StepIndex) -> Plan {
    let step = saga.step(index);
    if step.action.is_composite() {
        return whole(saga, index);
    }
    let plan = whole(saga, index);
    match plan {
        Plan::Step { id, what, needed } if needed => {
            let park = step.on_unknown.otherwise == UnknownElse::Park;
            let what = if park {
                "parks while its outcome is unknown".to_owned()
            } else {
                format!("{what}, if it may have happened")
            };
            Plan::Step { id, what, needed }
        }
        other => other,
    }
}

/// What lies before a step on its path, outwards.
fn before(saga: &SagaDefinition, index: StepIndex) -> Plan {
    let step = saga.step(index);
    let block = saga.block(step.block);
    let earlier = &block.steps[..step.position as usize];
    let mut plans: Vec<Plan> = earlier.iter().rev().map(|step| whole(saga, *step)).collect();
    let Some(owner) = block.owner else { return flat(plans) };
    match block.part {
        Part::Branch(own) => {
            let mut beside = vec![flat(std::mem::take(&mut plans))];
            if let Action::Parallel(parallel) = &saga.step(owner).action {
                let others = parallel.branches.iter().enumerate().filter(|(at, _)| *at != own as usize);
                beside.extend(others.map(|(_, (_, other))| reverse(saga, *other)));
            }
            plans.push(Plan::Beside(beside));
        }
        Part::Item => {
            let id = saga.step(owner).id.to_string();
            plans =
                vec![flat(plans), Plan::Each(format!("{id}, the other items"), Box::new(reverse(saga, step.block)))];
        }
        Part::Handler(_) | Part::Fallback | Part::OnTimeout => plans.push(own(saga, owner)),
        Part::Root | Part::Arm(_) | Part::Body => {}
    }
    plans.push(before(saga, owner));
    flat(plans)
}

fn reverse(saga: &SagaDefinition, block: BlockIndex) -> Plan {
    flat(saga.block(block).steps.iter().rev().map(|step| whole(saga, *step)).collect())
}

/// A step's own undo.
fn own(saga: &SagaDefinition, index: StepIndex) -> Plan {
    let step = saga.step(index);
    let id = step.id.to_string();
    match (&step.compensate, undoing(step)) {
        (_, Some(what)) => Plan::Step { id, what, needed: true },
        (Compensate::Unstated, None) if matches!(step.action, Action::Run(_)) => {
            Plan::Step { id, what: format!("undo of {}", doing(step)), needed: true }
        }
        (Compensate::Unstated, None) => {
            Plan::Step { id, what: "states no undo: parks while its outcome is unknown".to_owned(), needed: true }
        }
        (_, None) => Plan::Step { id, what: "nothing to undo".to_owned(), needed: false },
    }
}

/// A step that has ended, with what is inside it.
fn whole(saga: &SagaDefinition, index: StepIndex) -> Plan {
    let step = saga.step(index);
    let id = step.id.to_string();
    let mut plans = Vec::new();
    if let Some(Fallback::Do(block)) = step.fallback {
        plans.push(Plan::Either(vec![(format!("{id} failed"), reverse(saga, block))]));
    }
    match &step.action {
        Action::Switch(arms) => {
            let arm = |arm: &super::super::model::Arm| {
                let label = arm.when.as_ref().map_or_else(|| "else".to_owned(), |when| when.source().to_owned());
                (format!("{id}: {label}"), reverse(saga, arm.block))
            };
            plans.push(Plan::Either(arms.iter().map(arm).collect()));
        }
        Action::Parallel(parallel) => {
            plans.push(Plan::Beside(parallel.branches.iter().map(|(_, block)| reverse(saga, *block)).collect()));
        }
        Action::For(rule) => plans.push(Plan::Each(id, Box::new(reverse(saga, rule.block)))),
        Action::Try(rule) => {
            let mut ways = vec![(format!("{id} went well"), reverse(saga, rule.body))];
            for catch in &rule.catches {
                let mut inner = vec![reverse(saga, catch.block)];
                if catch.keep {
                    inner.push(reverse(saga, rule.body));
                }
                let on = if catch.on.is_empty() { "failed".to_owned() } else { catch.on.join(", ") };
                ways.push((format!("{id}: {on}"), flat(inner)));
            }
            plans.push(Plan::Either(ways));
        }
        Action::Await(rule) => {
            let inner =
                rule.on_timeout.map(|block| Plan::Either(vec![(format!("{id} timed out"), reverse(saga, block))]));
            plans.extend(inner);
            plans.push(own(saga, index));
        }
        Action::Ask(rule) => {
            let inner =
                rule.on_timeout.map(|block| Plan::Either(vec![(format!("{id} timed out"), reverse(saga, block))]));
            plans.extend(inner);
            plans.push(own(saga, index));
        }
        Action::Call(_)
        | Action::Emit(_)
        | Action::Set(_)
        | Action::Wait(_)
        | Action::Fail(_)
        | Action::Poll(_)
        | Action::Run(_) => plans.push(own(saga, index)),
    }
    match plans.len() {
        1 => plans.remove(0),
        _ => Plan::Then(plans),
    }
}

impl Plan {
    /// Writes the plan as numbered lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write("", &mut out);
        out
    }

    fn write(&self, indent: &str, out: &mut String) {
        match self {
            Self::Step { id, what, .. } => out.push_str(&format!("{indent}{id}: {what}\n")),
            Self::Then(plans) => {
                for (at, plan) in plans.iter().enumerate() {
                    plan.item(indent, &format!("{}. ", at + 1), out);
                }
            }
            Self::Beside(plans) => {
                out.push_str(&format!("{indent}side by side:\n"));
                plans.iter().for_each(|plan| plan.item(&format!("{indent}  "), "- ", out));
            }
            Self::Either(ways) => {
                for (name, plan) in ways {
                    out.push_str(&format!("{indent}if {name}:\n"));
                    plan.write(&format!("{indent}  "), out);
                }
            }
            Self::Each(name, plan) => {
                out.push_str(&format!("{indent}for each item of {name}:\n"));
                plan.write(&format!("{indent}  "), out);
            }
        }
    }

    /// Writes a plan behind a number or a dash.
    fn item(&self, indent: &str, mark: &str, out: &mut String) {
        let mut inner = String::new();
        self.write("", &mut inner);
        if inner.is_empty() {
            inner.push_str("nothing to undo\n");
        }
        for (at, line) in inner.lines().enumerate() {
            let lead = if at == 0 { mark.to_owned() } else { " ".repeat(mark.len()) };
            out.push_str(&format!("{indent}{lead}{line}\n"));
        }
    }

    /// Draws the plan.
    #[must_use]
    pub fn graph(&self, from: &str) -> Graph {
        let title = format!("undo from {from}");
        let mut graph = Graph { title: title.clone(), ..Graph::default() };
        let start = graph.node(Form::End, vec![title], false);
        let exits = self.draw(&mut graph, vec![(start, None)]);
        let end = graph.node(Form::End, vec!["compensated".to_owned()], false);
        for (node, label) in exits {
            graph.edge(node, end, label, false);
        }
        graph
    }

    fn draw(&self, graph: &mut Graph, entries: Vec<(usize, Option<String>)>) -> Vec<(usize, Option<String>)> {
        match self {
            Self::Step { needed: false, .. } => entries,
            Self::Step { id, what, needed: true } => {
                let node = graph.node(Form::Work, vec![id.clone(), what.clone()], false);
                entries.into_iter().for_each(|(from, label)| graph.edge(from, node, label, false));
                vec![(node, None)]
            }
            Self::Then(plans) => plans.iter().fold(entries, |entries, plan| plan.draw(graph, entries)),
            Self::Beside(plans) => {
                let fork = graph.node(Form::Fork, vec!["side by side".to_owned()], false);
                entries.into_iter().for_each(|(from, label)| graph.edge(from, fork, label, false));
                plans.iter().flat_map(|plan| plan.draw(graph, vec![(fork, None)])).collect()
            }
            Self::Either(ways) => {
                let choice = graph.node(Form::Choice, vec!["which has run?".to_owned()], false);
                entries.into_iter().for_each(|(from, label)| graph.edge(from, choice, label, false));
                let way = |(name, plan): &(String, Plan)| plan.draw(graph, vec![(choice, Some(name.clone()))]);
                ways.iter().flat_map(way).collect()
            }
            Self::Each(name, plan) => {
                let fork = graph.node(Form::Fork, vec![format!("each item of {name}")], false);
                entries.into_iter().for_each(|(from, label)| graph.edge(from, fork, label, false));
                plan.draw(graph, vec![(fork, None)])
            }
        }
    }
}
