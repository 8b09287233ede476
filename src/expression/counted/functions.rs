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
        (Val::TStr(left), Val::TStr(right)) => String::from_utf8_lossy(left).contains(&*String::from_utf8_lossy(right)),
        (Val::Arr(left), Val::Arr(right)) => right.iter().all(|right| left.iter().any(|left| contains(left, right))),
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
        (Val::Arr(items), one) => items.iter().enumerate().filter(|(_, item)| *item == one).map(|(at, _)| at).collect(),
        (value, wanted) => {
            return Err(Error::str(format_args!("cannot find {} in {}", kind(wanted), kind(value))));
        }
    };
    Ok(found.into_iter().map(Counted::from).collect())
}
