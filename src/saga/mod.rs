//! The pure core: what a run has been through (facts), where that leaves it (state), what an input
//! means to it (`decide`), what the outside must do next (commands).
//!
//! The driver's contract: call [`decide`] with one input, [`evolve`] every fact, then go on with
//! [`Input::Continue`] until it gives no fact; commit all facts together; only then carry out the
//! commands. After a restart rebuild the state with [`evolve`], give [`Input::Restarted`], and start
//! from [`outstanding`].

mod active;
mod agenda;
mod at;
mod backoff;
mod command;
mod decide;
mod emit;
mod evolve;
mod fact;
mod input;
mod migrate;
mod nesting;
mod plan;
mod request_builder;
mod scope;
mod state;
mod trace_part;
mod undo_walk;

pub use active::Active;
pub use at::{BlockAt, Items, StepAt};
pub use command::{Command, Timer, outstanding};
pub use decide::{decide, start};
pub use emit::emitted_span;
pub use evolve::{begin, begin_undo, evolve};
pub use fact::{
    ChildRun, DecodeError, Emission, Fact, Fate, Outcome, ParentRun, RunStarted, ScopeAt, SettleCause, SkipReason,
    UndoEnd, Wanted, decode, encode,
};
pub use input::{ChildEnd, Input, Operation, Rejected, Rules, Start};
pub use migrate::{Migration, obstacles};
pub use plan::remedies;
pub use state::{
    Activity, Asked, CheckState, Final, LockState, Parked, Phase, RunState, SagaState, StepState, StepStatus,
    UndoState, UndoStatus,
};
pub use trace_part::{TracePart, part as trace_part};
