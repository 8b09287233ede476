//! Expressions as a file's author meets them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::*;

/// A scope of documents by variable.
#[derive(Default)]
struct World(BTreeMap<String, Payload>);

impl World {
    fn of(rows: &[(&str, &str)]) -> Self {
        Self(rows.iter().map(|(name, json)| ((*name).to_owned(), Payload::parse(*json).unwrap())).collect())
    }
}

impl Scope for World {
    fn get(&self, variable: Variable<'_>) -> Bound<'_> {
        let name = match variable {
            Variable::Input => "input".to_owned(),
            Variable::Event => "event".to_owned(),
            Variable::Result => "result".to_owned(),
            Variable::StepKey => return Bound::Text(Cow::Borrowed("key-1")),
            Variable::StepOutput(id) => format!("{id}.output"),
            Variable::StepStatus(id) => format!("{id}.status"),
            Variable::StepKeyOf(id) => format!("{id}.key"),
            Variable::StepError(id) => format!("{id}.error"),
            Variable::ForwardInput => "forward.input".to_owned(),
            Variable::ForwardOutput => "forward.output".to_owned(),
            Variable::ForwardStatus => "forward.status".to_owned(),
            Variable::ForwardKey => "forward.key".to_owned(),
            Variable::Error => "error".to_owned(),
            Variable::Parked => "parked".to_owned(),
            Variable::Saga => "saga".to_owned(),
            Variable::Item(level) => format!("item{level}"),
            Variable::Index(level) => format!("index{level}"),
        };
        self.0.get(&name).map_or(Bound::Null, Bound::Json)
    }
}

fn world() -> World {
    World::of(&[
        (
            "input",
            r#"{"orderId":"A-1","amount":250,"lines":[{"sku":"x","qty":2,"price":100},{"sku":"y","qty":1,"price":50}],
                "big":12345678901234567890123,"max":9223372036854775807,"u64":18446744073709551615,"note":null,
                "half":0.50,"tags":["a","b"],"flag":true,"text":"é \"q\""}"#,
        ),
        ("reserve.output", r#"{"status":201,"body":{"id":"r-9"}}"#),
        ("reserve.status", r#""done""#),
        ("result", r#"{"status":404,"headers":{},"body":[]}"#),
        ("forward.input", r#"{"a":1}"#),
        ("saga", r#"{"id":"run-1","version":2}"#),
    ])
}

fn eval(source: &str) -> Result<String, String> {
    let expression = Expression::compile(source, Root::ALL).map_err(|errors| format!("load: {}", errors[0].message))?;
    expression.eval(&world()).map(|payload| payload.text().to_owned()).map_err(|error| error.message)
}

#[test]
fn what_authors_write() {
    let rows: &[(&str, &str, &str)] = &[
        ("a path", "$input.orderId", r#""A-1""#),
        ("a path of a step", "$steps.reserve.output.body.id", r#""r-9""#),
        ("a status", "$steps.reserve.status == \"done\"", "true"),
        ("a step that never ran", "$steps.ship.output", "null"),
        ("an element", "$input.lines[1].sku", r#""y""#),
        ("from the end", "$input.lines[-1].qty", "1"),
        ("LANGUAGE's own sum", "$input.lines | map(.qty * .price) | add", "250"),
        ("LANGUAGE's own map", "$input.lines | map({sku, qty})", r#"[{"sku":"x","qty":2},{"sku":"y","qty":1}]"#),
        ("length of nothing", "($result.body | length) > 0", "false"),
        ("comparison", "$result.status == 404", "true"),
        ("alternative", "$input.note // \"none\"", r#""none""#),
        ("object", "{id: $input.orderId, n: ($input.amount + 1)}", r#"{"id":"A-1","n":251}"#),
        ("shorthand", "{$input} | .input.amount", "250"),
        ("interpolation", r#""for \($input.orderId): \($input.amount)""#, r#""for A-1: 250""#),
        ("digits kept", "$input.big", "12345678901234567890123"),
        ("digits kept by jq", "[$input.big] | .[]", "12345678901234567890123"),
        ("largest i64", "$input.max", "9223372036854775807"),
        ("past i64, by jq", "$input.max + 1", "9223372036854775808"),
        ("u64", "$input.u64 - 1", "18446744073709551614"),
        ("a fraction as written", "$input.half", "0.50"),
        ("if", "if $input.flag then 1 else 2 end", "1"),
        ("and or not", "($input.flag and true) or ($input.flag | not)", "true"),
        ("select is jq's", "[$input.lines[] | select(.qty > 1) | .sku]", r#"["x"]"#),
        ("join is jq's", "$input.tags | join(\"-\")", r#""a-b""#),
        ("reduce is jq's", "reduce $input.lines[] as $l (0; . + $l.qty)", "3"),
        ("as is jq's", "$input.amount as $a | [$a, $a]", "[250,250]"),
        ("the step's key", "$step.key", r#""key-1""#),
        ("forward", "$forward.input.a", "1"),
        ("saga", "$saga.version", "2"),
        ("dot is null", ".", "null"),
        ("tonumber", "\"12\" | tonumber + 1", "13"),
        ("to_entries", "{a: 1} | to_entries", r#"[{"key":"a","value":1}]"#),
        ("update", "{a: 1} | .a |= . + 1", r#"{"a":2}"#),
        ("delete", "{a: 1, b: 2} | del(.a)", r#"{"b":2}"#),
        ("sort", "[3, 1, 2] | sort_by(-.)", "[3,2,1]"),
        ("unicode", "$input.text", r#""é \"q\"""#),
        ("try", "(try error(\"x\") catch .)", r#""x""#),
        ("optional", "[$input.amount.x?]", "[]"),
        ("date", "0 | todate", r#""1970-01-01T00:00:00Z""#),
        ("uri", r#"@uri "a/\("b c")""#, r#""a/b%20c""#),
    ];
    for (why, source, expected) in rows {
        assert_eq!(eval(source).as_deref(), Ok(*expected), "{why}: {source}");
    }
}

#[test]
fn errors_say_what_happened() {
    let rows: &[(&str, &str, &str)] = &[
        ("no value", "empty", "no value"),
        ("several values", "1, 2", "more than one value"),
        ("wrong type", "$input.orderId.x", "cannot index"),
        ("not a number", "$input.orderId * {}", "cannot calculate"),
        ("division by zero", "1 % 0", "cannot calculate"),
        ("not JSON", "1 / 0", "JSON cannot hold"),
        ("own error", "error(\"stop\")", "stop"),
        ("string bomb", "\"x\" * 1000000000", "too large"),
        (
            "array bomb",
            "[0] | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.) | map(.,.)",
            "too",
        ),
        (
            "shared bomb",
            "[0] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.]",
            "too",
        ),
        (
            "bare choice",
            "1 | (.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|select(. == 2)",
            "too much work",
        ),
        ("uncatchable", "try (\"x\" * 1000000000) catch 1", "too large"),
        (
            "number bomb",
            "reduce (\"0123456789012345678901234567890123456789\" | explode[]) as $x (3; . * .)",
            "too large an integer",
        ),
    ];
    for (why, source, expected) in rows {
        let message = eval(source).expect_err(why);
        assert!(message.contains(expected), "{why}: {message}");
    }
}

#[test]
fn the_fence() {
    let deep_minus = "-".repeat(600) + "1";
    let rows: &[(&str, &str, &str, &str)] = &[
        ("recursion", "def f: 1 + f; f", "X005", "`def`"),
        ("endless", "[range(1000000000000)]", "X005", "range"),
        ("endless", "repeat(1)", "X005", "repeat"),
        ("all values", "[..]", "X005", "`..`"),
        ("environment", "env", "X005", "env"),
        ("environment", "$ENV", "X003", "$ENV"),
        ("clock", "now", "X005", "now"),
        ("end of process", "halt", "X005", "halt"),
        ("input", "input", "X005", "input"),
        ("label", "label $x | 1", "X005", "label"),
        ("regular expression", "test(\"a\")", "X005", "test"),
        ("module", "a::b", "X005", "a::b"),
        ("unknown variable", "$inptu.a", "X003", "$inptu"),
        ("for's variable", "$item", "X003", "`for`"),
        ("bare steps", "$steps", "X006", "not a value"),
        ("wrong field", "$steps.a.outptu", "X006", "outptu"),
        ("wrong field of error", "$error.titel", "X006", "titel"),
        ("bound anew", "1 as $input | $input", "X004", "bound anew"),
        ("our own names", "1 as $__0 | $__0", "X004", "bound anew"),
        ("arity", "map(1; 2)", "X005", "takes 1"),
        ("syntax", "1 +", "X001", "expected"),
        ("empty", " ", "X001", "empty"),
        ("tokens", &deep_minus, "X002", "tokens"),
        ("bytes", &"1".repeat(5000), "X002", "bytes"),
        ("reduce", "reduce 1 as $x (1)", "X001", "parts"),
    ];
    for (why, source, code, text) in rows {
        let errors = Expression::compile(source, Root::ALL).err().unwrap_or_else(|| panic!("{why}: compiled"));
        let error = &errors[0];
        assert_eq!(error.code, *code, "{why}: {error:?}");
        assert!(error.message.contains(text), "{why}: {error:?}");
        assert!(error.span.end <= source.len() && error.span.start <= error.span.end, "{why}: {error:?}");
    }
    let only = Expression::compile("$event.data", &[Root::Input]).unwrap_err();
    assert_eq!((only[0].code, only[0].span.clone()), ("X004", 0..6));
}

#[test]
fn every_function_on_the_list_exists() {
    for (name, args) in functions::FUNCTIONS {
        let call = match args {
            0 => (*name).to_owned(),
            count => format!("{name}({})", vec!["."; *count].join("; ")),
        };
        // Behind a branch that is not taken: here only compiling counts.
        let source = format!("if true then 1 else (. as $x | {call}) end");
        assert_eq!(eval(&source).as_deref(), Ok("1"), "{call}");
    }
}

#[test]
fn booleans_are_booleans() {
    let bool = |source: &str| Expression::compile(source, Root::ALL).unwrap().eval_bool(&world());
    assert_eq!(bool("$result.status == 404"), Ok(true));
    for source in ["$input.note", "1", "\"true\""] {
        let message = bool(source).unwrap_err().to_string();
        assert!(message.contains("true or false") && message.contains(source), "{message}");
    }
}

#[test]
fn texts_are_encoded_for_their_place() {
    let world =
        World::of(&[("input", r#"{"a":"x/y ?&é","n":7,"null":null,"o":{},"empty":"","up":"..","crlf":"a\r\nb"}"#)]);
    let text = |text: &str, place| {
        TextTemplate::compile(text, Root::ALL).unwrap().eval(&world, place).map_err(|error| error.to_string())
    };
    let some = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(text("order/${ $input.a }", Place::Plain), some("order/x/y ?&é"));
    assert_eq!(text("/a/${ $input.a }/b", Place::Path), some("/a/x%2Fy%20%3F%26%C3%A9/b"));
    assert_eq!(text("/a?r=${ $input.a }&n=${ $input.n }", Place::Path), some("/a?r=x%2Fy%20%3F%26%C3%A9&n=7"));
    assert_eq!(text("${ $input.a }", Place::Query), some("x%2Fy%20%3F%26%C3%A9"));
    assert_eq!(text("v${ $input.n }", Place::Header), some("v7"));
    assert_eq!(text("${ $input.null // null }", Place::Plain), Ok(None));
    for (why, template, place, expected) in [
        ("null", "${ $input.null }", Place::Plain, "is null"),
        ("null in text", "a${ $input.null // null }", Place::Plain, "is null"),
        ("object", "${ $input.o }", Place::Plain, "an object"),
        ("empty segment", "/a/${ $input.empty }", Place::Path, "empty"),
        ("parent", "/a/${ $input.up }/b", Place::Path, "`..`"),
        ("header injection", "${ $input.crlf }", Place::Header, "\\r"),
        ("header beyond ASCII", "${ $input.a }", Place::Header, "\\u{e9}"),
    ] {
        let message = text(template, place).expect_err(why);
        assert!(message.contains(expected), "{why}: {message}");
    }
}

#[test]
fn templates_keep_types() {
    let value = serde_json::json!({"n": "${ $input.amount }", "t": "n=${ $input.amount }", "l": [1, "${ $input.flag }", "$${x}"]});
    let template = Template::from_json(&value, Root::ALL).unwrap();
    assert_eq!(
        template.eval(&world()).unwrap().to_value(),
        serde_json::json!({"n": 250, "t": "n=250", "l": [1, true, "${x}"]})
    );
}

#[test]
fn a_field_that_fails_takes_no_other_with_it() {
    let value = serde_json::json!({"a": "${ $input.orderId }", "b": "${ $input.orderId.x }", "c": 1});
    let (payload, failed) = Template::from_json(&value, Root::ALL).unwrap().eval_fields(&world());
    assert_eq!(payload.text(), r#"{"a":"A-1","c":1}"#);
    assert_eq!(failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
}
