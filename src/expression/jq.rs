//! Expressions that the small evaluator leaves to jq: jaq under the budget of [`super::counted`], with
//! only the variables that the expression names.

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::{Map, Rc, Val};

use super::counted::{Counted, functions, shortened, within};
use super::json::{Kind, Value};
use super::names::Read;
use super::raw::{Items, Members};

/// An expression compiled for jaq.
pub(super) struct Program(Filter<JustLut<Counted>>);

/// Rewrites an expression for jaq: each variable of ours, with the keys that belong to it, becomes
/// `$__N`, N being its slot.
fn rewritten(source: &str, reads: &[Read]) -> String {
    let mut reads: Vec<&Read> = reads.iter().collect();
    reads.sort_by_key(|read| read.span.start);
    let (mut out, mut from) = (String::with_capacity(source.len() + 16), 0);
    for read in reads {
        out.push_str(&source[from..read.span.start]);
        if read.shorthand {
            out.push_str(source[read.span.clone()].trim_start_matches('$'));
            out.push(':');
        }
        out.push_str(&format!("$__{}", read.slot));
        from = read.span.end;
    }
    out.push_str(&source[from..]);
    out
}

impl Program {
    /// Compiles a fenced expression.
    ///
    /// # Errors
    /// jaq's message; the fence should have said it before.
    pub(super) fn compile(source: &str, reads: &[Read], slots: usize) -> Result<Self, String> {
        let code = rewritten(source, reads);
        let names: Vec<String> = (0..slots).map(|slot| format!("$__{slot}")).collect();
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(functions::all());
        let arena = Arena::default();
        let modules = Loader::new(defs)
            .load(&arena, File { code: code.as_str(), path: () })
            .map_err(|_| "jq does not understand this expression".to_owned())?;
        Compiler::default()
            .with_funs(funs)
            .with_global_vars(names.iter().map(String::as_str))
            .compile(modules)
            .map(Self)
            .map_err(|errors| {
                let names: Vec<String> = errors
                    .iter()
                    .flat_map(|(_, undefined)| undefined.iter().map(|(name, _)| format!("`{name}`")))
                    .collect();
                format!("jq does not know {}", names.join(", "))
            })
    }

    /// Runs it; yields exactly one value as JSON text.
    ///
    /// # Errors
    /// One sentence: jq's own error, no value, several values, or the budget.
    pub(super) fn run(&self, variables: &[Value<'_>]) -> Result<String, String> {
        within(|| {
            let variables = variables.iter().map(|value| Counted::new(to_val(value)));
            let ctx = Ctx::<JustLut<Counted>>::new(&self.0.lut, Vars::new(variables));
            let mut results = self.0.id.run((ctx, Counted::new(Val::Null)));
            let Some(first) = results.next() else { return Err("it yields no value".to_owned()) };
            let value = first.map_err(|exception| match exception.get_err() {
                Ok(error) => match shortened(&error.into_val().into_val()) {
                    Val::TStr(text) => String::from_utf8_lossy(&text).into_owned(),
                    other => format!("error {other}"),
                },
                Err(_) => "it was stopped".to_owned(),
            })?;
            if results.next().is_some() {
                return Err("it yields more than one value; collect them with [ … ]".to_owned());
            }
            let mut out = String::new();
            write(&value.into_val(), &mut out)?;
            Ok(out)
        })
        .and_then(|result| result)
    }
}

/// Turns a value into jaq's.
pub(super) fn to_val(value: &Value<'_>) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(bool) => Val::Bool(*bool),
        Value::Int(number) => isize::try_from(*number).map_or(Val::Null, Val::from),
        Value::Text(text) => Val::from(text.clone().into_owned()),
        Value::Raw(text) => match Value::Raw(text).kind() {
            Kind::Array => Val::Arr(Rc::new(Items::new(text).map(|item| to_val(&Value::of(item))).collect())),
            Kind::Object => {
                let mut members = Map::default();
                for (key, value) in Members::new(text) {
                    if let Value::Text(key) = Value::of(key) {
                        members.insert(Val::from(key.into_owned()), to_val(&Value::of(value)));
                    }
                }
                Val::obj(members)
            }
            Kind::Number => <Val as jaq_core::ValT>::from_num(text).unwrap_or_default(),
            Kind::Null | Kind::Bool | Kind::Text => Val::Null,
        },
        Value::Array(items) => Val::Arr(Rc::new(items.iter().map(to_val).collect())),
        Value::Object(members) => {
            Val::obj(members.iter().map(|(key, value)| (Val::from(key.clone().into_owned()), to_val(value))).collect())
        }
    }
}

/// Writes jaq's value as JSON.
fn write(val: &Val, out: &mut String) -> Result<(), String> {
    if out.len() > super::OUTPUT_BYTES_MAX {
        return Err(super::too_large());
    }
    match val {
        Val::Null => out.push_str("null"),
        Val::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Val::Num(number) => {
            let text = number.to_string();
            if !text.ends_with(|c: char| c.is_ascii_digit()) {
                return Err(format!("it yields {text}, which JSON cannot hold"));
            }
            out.push_str(&text);
        }
        Val::TStr(text) => super::json::write_text(&String::from_utf8_lossy(text), out),
        Val::BStr(_) => return Err("it yields bytes, which JSON cannot hold".to_owned()),
        Val::Arr(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Val::Obj(members) => {
            out.push('{');
            for (at, (key, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                let Val::TStr(key) = key else {
                    return Err("it yields an object with a key that is no string".to_owned());
                };
                super::json::write_text(&String::from_utf8_lossy(key), out);
                out.push(':');
                write(value, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("jq")
    }
}
