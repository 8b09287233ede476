//! A saga as a picture: steps and what follows what, or what undoes what. Drawn as Mermaid, DOT or SVG.

mod draw;
mod flow;
mod svg;
mod undo;

pub use draw::{dot, mermaid};
pub use flow::flow;
pub use svg::svg;
pub use undo::{Plan, plan};

use super::model::{Action, CallTemplate, Child, Compensate, Step, WaitFor};
use crate::expression::TextTemplate;

/// Boxes and arrows.
#[derive(Debug, Default)]
pub struct Graph {
    pub title: String,
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

#[derive(Debug)]
pub struct Node {
    pub form: Form,
    /// The first is the name.
    pub lines: Vec<String>,
    pub pivot: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Where it begins and ends.
    End,
    Work,
    Choice,
    /// Where branches part or meet.
    Fork,
    /// It does nothing until something comes.
    Wait,
    Fail,
}

#[derive(Debug)]
pub struct Edge {
    /// Indexes of nodes.
    pub from: usize,
    pub to: usize,
    pub label: Option<String>,
    /// Taken only when something went wrong.
    pub failure: bool,
}

impl Graph {
    fn node(&mut self, form: Form, lines: Vec<String>, pivot: bool) -> usize {
        self.nodes.push(Node { form, lines, pivot });
        self.nodes.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, label: Option<String>, failure: bool) {
        self.edges.push(Edge { from, to, label, failure });
    }
}

/// Returns a text with its expressions as dots: enough to recognise it.
fn shown(template: &TextTemplate) -> String {
    let mut parts: Vec<(usize, String)> =
        template.literals().into_iter().map(|(at, text)| (at, text.to_owned())).collect();
    parts.extend(template.expressions().map(|(at, _)| (at, "{…}".to_owned())));
    parts.sort();
    parts.into_iter().map(|(_, text)| text).collect()
}

fn call(call: &CallTemplate) -> String {
    format!("{} {} {}", call.service, call.method, shown(&call.path))
}

fn child(child: &Child) -> String {
    let version = child.version.map_or_else(String::new, |version| format!(" v{version}"));
    format!("run {}{version}", child.saga)
}

/// Returns what a step does, in a few words.
fn doing(step: &Step) -> String {
    let types = |types: &[crate::id::EventType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match &step.action {
        Action::Call(template) => call(template),
        Action::Poll(poll) => format!("poll {} every {}", call(&poll.call), poll.every),
        Action::Emit(emit) if emit.reply.is_some() => format!("ask by {}", emit.event),
        Action::Emit(emit) => format!("emit {}", emit.event),
        Action::Set(_) => "set".to_owned(),
        Action::Wait(WaitFor::Span(span)) => format!("wait {span}"),
        Action::Wait(WaitFor::Until(until)) => format!("wait until {}", until.source()),
        Action::Switch(_) => "switch".to_owned(),
        Action::Fail(fail) => format!("fail {}", shown(&fail.kind)),
        Action::Await(rule) => format!("await {}", types(&rule.types)),
        Action::Ask(ask) => format!("ask: {}", shown(&ask.title)),
        Action::Parallel(_) => "parallel".to_owned(),
        Action::For(rule) => format!("for {}", rule.list.source()),
        Action::Try(_) => "try".to_owned(),
        Action::Run(rule) => child(rule),
    }
}

/// Returns how a step is undone; none where nothing need be.
fn undoing(step: &Step) -> Option<String> {
    match &step.compensate {
        Compensate::Unstated | Compensate::None => None,
        Compensate::Call(undo) => Some(call(&undo.call)),
        Compensate::Emit(undo) => Some(format!("emit {}", undo.emit.event)),
        Compensate::Run(undo) => Some(child(&undo.child)),
    }
}

#[cfg(test)]
mod tests;
