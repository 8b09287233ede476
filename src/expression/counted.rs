//! jaq's values under a budget. Every operation on a [`Counted`] is paid for; whoever spends more than
//! there is, or builds something too large or too deep, is stopped by unwinding to [`within`]. No
//! `try` of an author can catch that, and it needs no clock.

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
pub(super) fn shortened(val: &Val) -> Val {
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

impl Clone for Counted {
    fn clone(&self) -> Self {
        charge(1);
        Self { val: self.val.clone(), weight: self.weight.clone() }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // jaq shows values in its messages; large ones are named by their kind.
        match &self.val {
            Val::Arr(_) | Val::Obj(_) => f.write_str(kind(&self.val)),
            val => {
                let text = val.to_string();
                if text.len() > 200 { f.write_str(kind(val)) } else { f.write_str(&text) }
            }
        }
    }
}

impl From<bool> for Counted {
    fn from(bool: bool) -> Self {
        Self::new(Val::from(bool))
    }
}
impl From<isize> for Counted {
    fn from(number: isize) -> Self {
        Self::new(Val::from(number))
    }
}
impl From<usize> for Counted {
    fn from(number: usize) -> Self {
        Self::new(Val::from(number))
    }
}
impl From<f64> for Counted {
    fn from(number: f64) -> Self {
        Self::new(Val::from(number))
    }
}
impl From<String> for Counted {
    fn from(text: String) -> Self {
        charge(text.len() as u64 / 64);
        Self::new(Val::from(text))
    }
}
impl From<Range<Counted>> for Counted {
    fn from(range: Range<Counted>) -> Self {
        Self::new(Val::from(range.start.map(Counted::into_val)..range.end.map(Counted::into_val)))
    }
}

impl FromIterator<Counted> for Counted {
    fn from_iter<I: IntoIterator<Item = Counted>>(iter: I) -> Self {
        let (mut nodes, mut depth) = (1_u32, 1_u16);
        let mut items = Vec::new();
        for item in iter {
            charge(1);
            let weight = item.weight();
            nodes = nodes.saturating_add(weight.nodes);
            depth = depth.max(weight.depth.saturating_add(1));
            if nodes > NODES_MAX {
                exhausted("the expression builds too large a value");
            }
            items.push(item.val);
        }
        Self::built(Val::Arr(Rc::new(items)), Weight { nodes, depth })
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        charge_comparison(self, other);
        self.val == other.val
    }
}
impl Eq for Counted {}
impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        charge_comparison(self, other);
        self.val.cmp(&other.val)
    }
}

fn charge_comparison(left: &Counted, right: &Counted) {
    charge(1 + u64::from(left.weight().nodes.min(right.weight().nodes)) / 4);
}

impl std::ops::Add for Counted {
    type Output = ValR<Self>;
    fn add(self, other: Self) -> ValR<Self> {
        if let (Val::Num(_), Val::Num(_)) = (&self.val, &other.val) {
            charge(1);
            return (self.val + other.val).map(Self::number).map_err(error);
        }
        let (left, right) = (self.weight(), other.weight());
        // Where jaq has to copy a shared left side, that costs its length.
        let copied = match &self.val {
            Val::Arr(items) => items.len() / 4,
            Val::Obj(members) => members.len(),
            Val::BStr(text) | Val::TStr(text) => text.len() / 1024,
            Val::Null | Val::Bool(_) | Val::Num(_) => 0,
        };
        charge(1 + copied as u64 + u64::from(right.nodes) / 4);
        (self.val + other.val).map(|val| Self::within_parts(val, left, right)).map_err(error)
    }
}

impl std::ops::Sub for Counted {
    type Output = ValR<Self>;
    fn sub(self, other: Self) -> ValR<Self> {
        if let (Val::Arr(_), Val::Arr(_)) = (&self.val, &other.val) {
            let (left, right) = (self.weight(), other.weight());
            // Each element is looked up in a sorted set: some twenty comparisons.
            charge(1 + 4 * (u64::from(left.nodes) + u64::from(right.nodes)));
            return (self.val - other.val).map(|val| Self::within_parts(val, left, right)).map_err(error);
        }
        charge(1);
        (self.val - other.val).map(Self::number).map_err(error)
    }
}

impl std::ops::Mul for Counted {
    type Output = ValR<Self>;
    fn mul(self, other: Self) -> ValR<Self> {
        charge(1);
        match (&self.val, &other.val) {
            (Val::BStr(text) | Val::TStr(text), Val::Num(times))
            | (Val::Num(times), Val::BStr(text) | Val::TStr(text)) => {
                let times = times.as_isize().map_or(usize::MAX, |times| usize::try_from(times).unwrap_or(0));
                let bytes = text.len().saturating_mul(times);
                if bytes / 64 > NODES_MAX as usize {
                    exhausted("the expression builds too large a value");
                }
                charge(bytes as u64 / 64);
                wrap(self.val * other.val)
            }
            (Val::Obj(_), Val::Obj(_)) => {
                let (left, right) = (self.weight(), other.weight());
                charge(u64::from(left.nodes) + u64::from(right.nodes));
                (self.val * other.val).map(|val| Self::within_parts(val, left, right)).map_err(error)
            }
            _ => (self.val * other.val).map(Self::number).map_err(error),
        }
    }
}

impl std::ops::Div for Counted {
    type Output = ValR<Self>;
    fn div(self, other: Self) -> ValR<Self> {
        charge(1);
        if let (Val::TStr(text), Val::TStr(_)) = (&self.val, &other.val) {
            // At most one piece per byte.
            charge(text.len() as u64);
        }
        wrap(self.val / other.val)
    }
}

impl std::ops::Rem for Counted {
    type Output = ValR<Self>;
    fn rem(self, other: Self) -> ValR<Self> {
        charge(1);
        wrap(self.val % other.val)
    }
}

impl std::ops::Neg for Counted {
    type Output = ValR<Self>;
    fn neg(self) -> ValR<Self> {
        charge(1);
        wrap(-self.val)
    }
}

/// Takes an array's or object's contents, copying where they are shared; the copy is paid for.
fn taken<T: Clone>(shared: Rc<T>, len: usize) -> T {
    charge(1 + len as u64 / 4);
    Rc::try_unwrap(shared).unwrap_or_else(|shared| (*shared).clone())
}

impl ValT for Counted {
    fn from_num(text: &str) -> ValR<Self> {
        wrap(Val::from_num(text))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(iter: I) -> ValR<Self> {
        let (mut nodes, mut depth) = (1_u32, 1_u16);
        let mut members = Map::default();
        for (key, value) in iter {
            charge(1);
            for weight in [key.weight(), value.weight()] {
                nodes = nodes.saturating_add(weight.nodes);
                depth = depth.max(weight.depth.saturating_add(1));
            }
            members.insert(key.val, value.val);
        }
        Ok(Self::built(Val::obj(members), Weight { nodes, depth }))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        let pair = |(key, value): (Val, Val)| {
            charge(1);
            Ok((Counted::new(key), Counted::new(value)))
        };
        match self.val {
            Val::Arr(items) => {
                let len = items.len();
                let items = taken(items, len).into_iter().enumerate();
                Box::new(items.map(move |(at, item)| pair((Val::from(at), item))))
            }
            Val::Obj(members) => {
                let len = members.len();
                Box::new(taken(members, len).into_iter().map(pair))
            }
            val => box_once(Err(type_error(&val, "an array or object"))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        let item = |val| {
            charge(1);
            Ok(Counted::new(val))
        };
        match self.val {
            Val::Arr(items) => {
                let len = items.len();
                Box::new(taken(items, len).into_iter().map(item))
            }
            Val::Obj(members) => {
                let len = members.len();
                Box::new(taken(members, len).into_iter().map(move |(_, val)| item(val)))
            }
            val => box_once(Err(type_error(&val, "an array or object"))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        charge(1);
        match (&self.val, &index.val) {
            (Val::Arr(items), Val::Arr(_)) => charge(items.len() as u64 + u64::from(index.weight().nodes)),
            (Val::Obj(_), key @ (Val::Arr(_) | Val::Obj(_))) => charge(u64::from(weigh(key).nodes)),
            _ => {}
        }
        self.val.index(&index.val).map(Counted::new).map_err(error)
    }

    fn range(self, range: Range<&Self>) -> ValR<Self> {
        let size = match &self.val {
            Val::Arr(items) => items.len() / 4,
            Val::BStr(text) | Val::TStr(text) => text.len() / 64,
            Val::Null | Val::Bool(_) | Val::Num(_) | Val::Obj(_) => 0,
        };
        charge(1 + size as u64);
        wrap(self.val.range(range.start.map(|from| &from.val)..range.end.map(|to| &to.val)))
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match self.val {
            Val::Arr(items) => {
                let len = items.len();
                let mut out = Vec::new();
                for item in taken(items, len) {
                    charge(1);
                    for result in f(Counted::new(item)) {
                        out.push(result?);
                    }
                }
                Ok(out.into_iter().collect())
            }
            Val::Obj(members) => {
                let len = members.len();
                let mut out = Vec::new();
                for (key, value) in taken(members, len) {
                    charge(1);
                    if let Some(result) = f(Counted::new(value)).next() {
                        out.push((Counted::new(key), result?));
                    }
                }
                Ok(Self::from_map(out)?)
            }
            _ => opt.fail(self, |value| Exn::from(type_error(&value.val, "an array or object"))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let whole = self.weight();
        let deeper = |part: Option<&Counted>| {
            let part = part.map_or(Weight { nodes: 0, depth: 0 }, Counted::weight);
            Weight { nodes: part.nodes, depth: part.depth.saturating_add(1) }
        };
        match (self.val, &index.val) {
            (Val::Obj(members), key) => {
                let len = members.len();
                let mut members = taken(members, len);
                let old = members.get(key).cloned().unwrap_or_default();
                let new = f(Counted::new(old)).next().transpose()?;
                let part = deeper(new.as_ref());
                match new {
                    Some(new) => drop(members.insert(key.clone(), new.val)),
                    None => drop(members.swap_remove(key)),
                }
                Ok(Self::within_parts(Val::obj(members), whole, part))
            }
            (Val::Arr(items), Val::Num(number)) => {
                let len = items.len();
                let at = number
                    .as_isize()
                    .and_then(|at| if at < 0 { len.checked_sub(at.unsigned_abs()) } else { usize::try_from(at).ok() });
                let Some(at) = at.filter(|at| *at < len) else {
                    let array = Counted::new(Val::Arr(items));
                    return opt.fail(array, |_| Exn::from(Error::str(format_args!("index {number} out of bounds"))));
                };
                let mut items = taken(items, len);
                let new = f(Counted::new(std::mem::take(&mut items[at]))).next().transpose()?;
                let part = deeper(new.as_ref());
                match new {
                    Some(new) => items[at] = new.val,
                    None => drop(items.remove(at)),
                }
                Ok(Self::within_parts(Val::Arr(Rc::new(items)), whole, part))
            }
            (val, _) => opt.fail(Counted::new(val), |value| Exn::from(type_error(&value.val, "an array or object"))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<&Self>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let Val::Arr(items) = &self.val else {
            return opt.fail(self, |value| Exn::from(type_error(&value.val, "an array")));
        };
        let bound = |bound: Option<&Self>, otherwise: usize| match bound.map(|bound| &bound.val) {
            None | Some(Val::Null) => Some(otherwise),
            Some(Val::Num(number)) => number.as_isize().map(|at| match usize::try_from(at) {
                Ok(at) => at.min(items.len()),
                Err(_) => items.len().saturating_sub(at.unsigned_abs()),
            }),
            Some(_) => None,
        };
        let (Some(from), Some(to)) = (bound(range.start, 0), bound(range.end, items.len())) else {
            return opt.fail(self, |_| Exn::from(Error::str("a slice needs whole numbers")));
        };
        charge(1 + items.len() as u64);
        let to = to.max(from);
        let slice = Counted::new(Val::Arr(Rc::new(items[from..to].to_vec())));
        let whole = self.weight();
        let new = f(slice).next().transpose()?;
        let part = new.as_ref().map_or(Weight { nodes: 0, depth: 0 }, Counted::weight);
        let new = match new.map(Counted::into_val) {
            None => Vec::new(),
            Some(Val::Arr(new)) => new.to_vec(),
            Some(other) => return Err(Exn::from(type_error(&other, "an array"))),
        };
        let items: Vec<Val> = items[..from].iter().chain(&new).chain(&items[to..]).cloned().collect();
        Ok(Self::within_parts(Val::Arr(Rc::new(items)), whole, part))
    }

    fn as_bool(&self) -> bool {
        self.val.as_bool()
    }

    fn into_string(self) -> Self {
        charge(u64::from(self.weight().nodes));
        Self::new(self.val.into_string())
    }
}

impl jaq_std::ValT for Counted {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self.val {
            Val::Arr(items) => {
                let len = items.len();
                // What follows is a sort or the like.
                charge(8 * len as u64);
                Ok(taken(items, len).into_iter().map(Counted::new).collect())
            }
            val => Err(Counted::new(val)),
        }
    }

    fn is_int(&self) -> bool {
        jaq_std::ValT::is_int(&self.val)
    }

    fn as_isize(&self) -> Option<isize> {
        self.val.as_isize()
    }

    fn as_f64(&self) -> Option<f64> {
        // jaq parses a decimal's text with `unwrap`; ours always parses, it came from a JSON number.
        self.val.as_f64()
    }

    fn is_utf8_str(&self) -> bool {
        self.val.is_utf8_str()
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        let bytes = self.val.as_bytes();
        charge(1 + bytes.map_or(0, <[u8]>::len) as u64 / 64);
        bytes
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        Self::new(self.val.as_sub_str(sub))
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        charge(1 + bytes.as_ref().len() as u64 / 64);
        Self::new(Val::from_utf8_bytes(bytes))
    }
}

pub(super) mod functions {
    //! Functions that jaq-json has for its own value type only.

    use jaq_core::native::{Fun, bome, run, unary, v};
    use jaq_core::{DataT, RunPtr};

    use super::*;

    /// Returns the functions by name, arguments and code.
    pub(in crate::expression) fn all<D: for<'a> DataT<V<'a> = Counted>>() -> impl Iterator<Item = Fun<D>> {
        let funs: [jaq_core::native::Filter<RunPtr<D>>; 6] = [
            ("length", v(0), |cv| bome(length(cv.1))),
            ("tojson", v(0), |cv| {
                charge(u64::from(cv.1.weight().nodes));
                bome(Ok(Counted::from(cv.1.val.to_string())))
            }),
            ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
            ("has", v(1), |cv| unary(cv, |value, key| has(&value, &key))),
            ("contains", v(1), |cv| {
                unary(cv, |left, right| {
                    charge(u64::from(left.weight().nodes) * u64::from(right.weight().nodes));
                    Ok(Counted::from(contains(&left.val, &right.val)))
                })
            }),
            ("indices", v(1), |cv| unary(cv, |value, wanted| indices(&value, &wanted))),
        ];
        funs.into_iter().map(|fun| run::<D>(fun))
    }

    fn length(value: Counted) -> ValR<Counted> {
        let count = match &value.val {
            Val::Null => 0,
            Val::Bool(_) => return Err(Error::str("a boolean has no length")),
            Val::Num(Num::Int(number)) => {
                return wrap(if *number < 0 { -value.val } else { Ok(value.val) });
            }
            Val::Num(_) => {
                let negative = value.val < Val::from(0_usize);
                return wrap(if negative { -value.val } else { Ok(value.val) });
            }
            Val::TStr(text) => {
                charge(text.len() as u64 / 64);
                String::from_utf8_lossy(text).chars().count()
            }
            Val::BStr(bytes) => bytes.len(),
            Val::Arr(items) => items.len(),
            Val::Obj(members) => members.len(),
        };
        Ok(Counted::from(count))
    }

    fn from_json(value: &Counted) -> ValR<Counted> {
        let Val::TStr(text) = &value.val else { return Err(type_error(&value.val, "JSON text")) };
        charge(text.len() as u64 / 4);
        let text = String::from_utf8_lossy(text);
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&text).map_err(|error| Error::str(format_args!("cannot parse JSON: {error}")))?;
        Ok(Counted::new(super::super::jq::to_val(&super::super::json::Value::of(raw.get()))))
    }

    fn has(value: &Counted, key: &Counted) -> ValR<Counted> {
        charge(1);
        let found = match (&value.val, &key.val) {
            (Val::Null, _) => false,
            (Val::Obj(members), key @ Val::TStr(_)) => members.contains_key(key),
            (Val::Arr(items), Val::Num(number)) if number.as_isize().is_some() => {
                number.as_isize().and_then(|at| usize::try_from(at).ok()).is_some_and(|at| at < items.len())
            }
            (value, key) => return Err(Error::str(format_args!("cannot ask {} for {}", kind(value), kind(key)))),
        };
        Ok(Counted::from(found))
    }

    fn contains(left: &Val, right: &Val) -> bool {
        match (left, right) {
            (Val::TStr(left), Val::TStr(right)) => {
                String::from_utf8_lossy(left).contains(&*String::from_utf8_lossy(right))
            }
            (Val::Arr(left), Val::Arr(right)) => {
                right.iter().all(|right| left.iter().any(|left| contains(left, right)))
            }
            (Val::Obj(left), Val::Obj(right)) => {
                right.iter().all(|(key, right)| left.get(key).is_some_and(|left| contains(left, right)))
            }
            (left, right) => left == right,
        }
    }

    fn indices(value: &Counted, wanted: &Counted) -> ValR<Counted> {
        charge(u64::from(value.weight().nodes).saturating_mul(u64::from(wanted.weight().nodes)));
        let found: Vec<usize> = match (&value.val, &wanted.val) {
            (Val::TStr(text), Val::TStr(part)) => {
                let (text, part) = (String::from_utf8_lossy(text), String::from_utf8_lossy(part));
                charge(text.len() as u64);
                if part.is_empty() {
                    Vec::new()
                } else {
                    let starts = text.char_indices().enumerate();
                    starts.filter(|(_, (at, _))| text[*at..].starts_with(&*part)).map(|(index, _)| index).collect()
                }
            }
            (Val::Arr(items), Val::Arr(part)) if !part.is_empty() => {
                let windows = items.windows(part.len()).enumerate();
                windows.filter(|(_, window)| *window == part.as_slice()).map(|(at, _)| at).collect()
            }
            (Val::Arr(_), Val::Arr(_)) => Vec::new(),
            (Val::Arr(items), one) => {
                items.iter().enumerate().filter(|(_, item)| *item == one).map(|(at, _)| at).collect()
            }
            (value, wanted) => {
                return Err(Error::str(format_args!("cannot find {} in {}", kind(wanted), kind(value))));
            }
        };
        Ok(found.into_iter().map(Counted::from).collect())
    }
}
