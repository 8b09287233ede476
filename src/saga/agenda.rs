//! What a run has to decide about next, in the order that it came up. Worked out from facts like the
//! rest of the state, so that the next move is found without looking at every step.

use std::collections::VecDeque;

use super::at::StepAt;
use super::fact::ScopeAt;

/// One thing to decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// A step comes next.
    Begin(StepAt),
    /// A step has failed and nobody has dealt with it.
    Failed(StepAt),
    /// What is inside a step has come so far that the step may end, or more of it may begin.
    Join(StepAt),
    /// An attempt was cut off, or a question put off.
    Resume(StepAt),
    /// Nothing of a scope is in flight, or its undo is through.
    Scope(ScopeAt),
    /// A step is to be undone.
    Undo(StepAt),
    /// The top level is through, forward or backward.
    Finish,
}

/// Things to decide about; each stands there once.
#[derive(Debug, Clone, Default)]
pub struct Agenda(VecDeque<Todo>);

impl Agenda {
    /// Adds one at the end, if it is not there.
    pub fn add(&mut self, todo: Todo) {
        if !self.0.contains(&todo) {
            self.0.push_back(todo);
        }
    }

    /// Removes one.
    pub fn remove(&mut self, todo: Todo) {
        if self.0.front() == Some(&todo) {
            self.0.pop_front();
        } else {
            self.0.retain(|other| *other != todo);
        }
    }

    /// Removes what does not fit and returns it.
    pub fn drop_unless(&mut self, keep: impl Fn(&Todo) -> bool) -> Vec<Todo> {
        let (kept, dropped) = self.0.drain(..).partition(keep);
        self.0 = kept;
        dropped.into()
    }

    /// Returns everything in order.
    pub fn iter(&self) -> impl Iterator<Item = &Todo> {
        self.0.iter()
    }
}
