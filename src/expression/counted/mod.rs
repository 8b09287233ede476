//! jaq's values under a budget. Every operation on a [`Counted`] is paid for; whoever spends more than
//! there is, or builds something too large or too deep, is stopped by unwinding to [`within`]. No
//! `try` of an author can catch that, and it needs no clock.

pub(super) mod functions;
mod operators;
mod value;

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use jaq_core::box_iter::{BoxIter, box_once};
use jaq_core::path::Opt;
use jaq_core::val::Range;
use jaq_core::{Error, Exn, ValR, ValT, ValX};
use jaq_json::{Map, Num, Rc, Val};

/// Operations of one evaluation. About 50 ms of a slow core, and a thousand times what a usual
/// expression takes.
const WORK_MAX: u64 = 1_000_000;
/// Nodes of one value, each 64 bytes of text counted as one more, shared parts counted as often as
/// they appear: what a document of some 16 MiB has.
const NODES_MAX: u32 = 500_000;
/// serde_json's own limit for documents, which the result has to pass.
const DEPTH_MAX: u16 = 120;
/// Bits of an integer: enough for any money, far from where arithmetic becomes slow.
const INTEGER_BITS_MAX: u64 = 4_096;

const _: () =
    assert!(cfg!(panic = "unwind"), "the budget of expressions unwinds; `panic = \"abort\"` would end the process");

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

/// The panic's payload when the budget is used up.
struct Exhausted(&'static str);

fn exhausted(why: &'static str) -> ! {
    // Not `panic!`: this is control flow, no hook may print it.
    panic::resume_unwind(Box::new(Exhausted(why)))
}

fn charge(work: u64) {
    let enough = LEFT.with(|left| match left.get().checked_sub(work) {
        Some(rest) => {
            left.set(rest);
            true
        }
        None => false,
    });
    // While another unwinding drops values there is nobody left to stop.
    if !enough && !std::thread::panicking() {
        exhausted("the expression takes too much work")
    }
}

/// Runs jaq under a fresh budget.
///
/// # Errors
/// A sentence for people, where the budget did not suffice.
pub(super) fn within<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    LEFT.with(|left| left.set(WORK_MAX));
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|payload| match payload.downcast::<Exhausted>() {
        Ok(why) => why.0.to_owned(),
        Err(_) => "the expression hit a defect of the evaluator; please report it with the expression".to_owned(),
    })
}

#[derive(Clone, Copy)]
struct Weight {
    nodes: u32,
    depth: u16,
}

/// A value of jaq that is paid for.
pub(super) struct Counted {
    val: Val,
    /// Worked out when somebody builds with the value.
    weight: Cell<Option<Weight>>,
}

fn weigh(val: &Val) -> Weight {
    charge(1);
    let text = |bytes: usize| Weight { nodes: 1 + u32::try_from(bytes / 64).unwrap_or(u32::MAX / 2), depth: 0 };
    let container = |total: Weight, part: Weight| Weight {
        nodes: total.nodes.saturating_add(part.nodes),
        depth: total.depth.max(part.depth.saturating_add(1)),
    };
    match val {
        Val::Null | Val::Bool(_) => text(0),
        Val::Num(Num::BigInt(number)) => text(usize::try_from(number.bits() / 8).unwrap_or(usize::MAX)),
        Val::Num(_) => text(0),
        Val::BStr(bytes) | Val::TStr(bytes) => text(bytes.len()),
        Val::Arr(items) => items.iter().map(weigh).fold(Weight { nodes: 1, depth: 1 }, container),
        Val::Obj(members) => {
            let parts = members.iter().flat_map(|(key, value)| [weigh(key), weigh(value)]);
            parts.fold(Weight { nodes: 1, depth: 1 }, container)
        }
    }
}

impl Counted {
    pub(super) fn new(val: Val) -> Self {
        Self { val, weight: Cell::new(None) }
    }

    pub(super) fn into_val(self) -> Val {
        self.val
    }

    fn weight(&self) -> Weight {
        self.weight.get().unwrap_or_else(|| {
            let weight = weigh(&self.val);
            self.weight.set(Some(weight));
            weight
        })
    }

    /// Admits a value that was just built.
    fn built(val: Val, weight: Weight) -> Self {
        if weight.nodes > NODES_MAX {
            exhausted("the expression builds too large a value");
        }
        if weight.depth > DEPTH_MAX {
            exhausted("the expression nests values too deeply");
        }
        Self { val, weight: Cell::new(Some(weight)) }
    }

    /// Admits a result whose size is at most the parts' together.
    fn within_parts(val: Val, left: Weight, right: Weight) -> Self {
        let weight = Weight { nodes: left.nodes.saturating_add(right.nodes), depth: left.depth.max(right.depth) };
        Self::built(val, weight)
    }

    fn number(val: Val) -> Self {
        if let Val::Num(Num::BigInt(number)) = &val
            && number.bits() > INTEGER_BITS_MAX
        {
            exhausted("the expression calculates too large an integer");
        }
        Self::new(val)
    }
}

fn error(error: jaq_json::Error) -> Error<Counted> {
    // The message is made here: it must not print a large value at length.
    Error::new(Counted::new(shortened(&error.into_val())))
}

/// Returns a value as it may stand in a message.
pub(in crate::expression) fn shortened(val: &Val) -> Val {
    match val {
        Val::TStr(text) if text.len() > 200 => {
            let text = String::from_utf8_lossy(&text[..200]).into_owned();
            Val::from(format!("{}…", text.trim_end_matches('\u{fffd}')))
        }
        other => other.clone(),
    }
}

fn wrap(result: Result<Val, jaq_json::Error>) -> ValR<Counted> {
    result.map(Counted::new).map_err(error)
}

fn type_error(val: &Val, wanted: &'static str) -> Error<Counted> {
    Error::str(format_args!("cannot use {} as {wanted}", kind(val)))
}

fn kind(val: &Val) -> &'static str {
    match val {
        Val::Null => "null",
        Val::Bool(_) => "a boolean",
        Val::Num(_) => "a number",
        Val::BStr(_) | Val::TStr(_) => "a string",
        Val::Arr(_) => "an array",
        Val::Obj(_) => "an object",
    }
}
