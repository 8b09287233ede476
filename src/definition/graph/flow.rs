//! The way forward: what follows what.

use super::super::model::{Action, BlockIndex, Fallback, ROOT, SagaDefinition, StepIndex};
use super::{Form, Graph, doing, undoing};

/// Where the next step comes from.
struct Exit {
    node: usize,
    label: Option<String>,
    failure: bool,
}

impl Exit {
    fn of(node: usize) -> Self {
        Self { node, label: None, failure: false }
    }

    fn named(node: usize, label: impl Into<String>) -> Self {
        Self { node, label: Some(label.into()), failure: false }
    }

    fn failed(node: usize, label: impl Into<String>) -> Self {
        Self { node, label: Some(label.into()), failure: true }
    }
}

/// Draws a saga from its start to its end.
#[must_use]
pub fn flow(saga: &SagaDefinition) -> Graph {
    let title = format!("{} v{}", saga.name, saga.version);
    let mut flow = Flow { saga, graph: Graph { title: title.clone(), ..Graph::default() } };
    let start = flow.graph.node(Form::End, vec![title], false);
    let exits = flow.block(ROOT, vec![Exit::of(start)]);
    let end = flow.graph.node(Form::End, vec!["completed".to_owned()], false);
    flow.connect(exits, end);
    flow.graph
}

struct Flow<'d> {
    saga: &'d SagaDefinition,
    graph: Graph,
}

impl Flow<'_> {
    fn connect(&mut self, exits: Vec<Exit>, to: usize) {
        for exit in exits {
            self.graph.edge(exit.node, to, exit.label, exit.failure);
        }
    }

    fn block(&mut self, block: BlockIndex, entries: Vec<Exit>) -> Vec<Exit> {
        let saga = self.saga;
        saga.block(block).steps.iter().fold(entries, |entries, step| self.step(*step, entries))
    }

    fn step(&mut self, index: StepIndex, entries: Vec<Exit>) -> Vec<Exit> {
        let saga = self.saga;
        let step = saga.step(index);
        let form = match &step.action {
            Action::Switch(_) | Action::Try(_) => Form::Choice,
            Action::Parallel(_) | Action::For(_) => Form::Fork,
            Action::Wait(_) | Action::Await(_) | Action::Ask(_) => Form::Wait,
            Action::Fail(_) => Form::Fail,
            Action::Call(_) | Action::Emit(_) | Action::Set(_) | Action::Poll(_) | Action::Run(_) => Form::Work,
        };
        let mut lines = vec![step.id.to_string(), doing(step)];
        lines.extend(step.condition.as_ref().map(|condition| format!("if {}", condition.source())));
        lines.extend(undoing(step).map(|undo| format!("undo: {undo}")));
        if step.pivot {
            lines.push("pivot".to_owned());
        }
        let node = self.graph.node(form, lines, step.pivot);
        self.connect(entries, node);
        let mut exits = match &step.action {
            Action::Switch(arms) => {
                let mut exits = Vec::new();
                for arm in arms {
                    let label = arm.when.as_ref().map_or("else", |when| when.source());
                    exits.extend(self.block(arm.block, vec![Exit::named(node, label)]));
                }
                if arms.iter().all(|arm| arm.when.is_some()) {
                    exits.push(Exit::named(node, "none"));
                }
                exits
            }
            Action::Parallel(parallel) => {
                let mut ends = Vec::new();
                for (name, block) in &parallel.branches {
                    ends.extend(self.block(*block, vec![Exit::named(node, name)]));
                }
                let of = parallel.branches.len();
                let rule = if parallel.is_race() { format!("{} of {of}", parallel.need) } else { "all".to_owned() };
                let join = self.graph.node(Form::Fork, vec![rule], false);
                self.connect(ends, join);
                vec![Exit::of(join)]
            }
            Action::For(rule) => {
                let ends = self.block(rule.block, vec![Exit::named(node, "each item")]);
                self.connect(ends, node);
                vec![Exit::named(node, "all items")]
            }
            Action::Try(rule) => {
                let mut exits = self.block(rule.body, vec![Exit::of(node)]);
                for catch in &rule.catches {
                    let on = if catch.on.is_empty() { "failed".to_owned() } else { catch.on.join(", ") };
                    exits.extend(self.block(catch.block, vec![Exit::failed(node, on)]));
                }
                exits
            }
            Action::Fail(_) => Vec::new(),
            Action::Await(rule) => self.timed_out(node, rule.on_timeout),
            Action::Ask(rule) => self.timed_out(node, rule.on_timeout),
            Action::Call(_) | Action::Emit(_) | Action::Set(_) | Action::Wait(_) | Action::Poll(_) | Action::Run(_) => {
                vec![Exit::of(node)]
            }
        };
        if let Some(Fallback::Do(block)) = step.fallback {
            exits.extend(self.block(block, vec![Exit::failed(node, "failed")]));
        }
        exits
    }

    fn timed_out(&mut self, node: usize, block: Option<BlockIndex>) -> Vec<Exit> {
        let mut exits = vec![Exit::of(node)];
        if let Some(block) = block {
            exits.extend(self.block(block, vec![Exit::failed(node, "timeout")]));
        }
        exits
    }
}
