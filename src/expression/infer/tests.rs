//! Expressions against a schema.

use super::*;
use crate::payload::Payload;
use crate::schema::shape::Document;

const ORDER: &str = r##"{
    "type": "object", "required": ["orderId", "lines"],
    "properties": {
        "orderId": {"type": "string"},
        "note": {"type": "string"},
        "total": {"type": "integer"},
        "paid": {"type": "boolean"},
        "kind": {"enum": ["express", "normal"]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "strict": {"type": "object", "properties": {"a": {"type": "number"}}, "additionalProperties": false},
        "either": {"type": ["string", "number"]},
        "map": {"type": "object", "additionalProperties": {"type": "number"}},
        "free": {}
    },
    "$defs": {"line": {"type": "object", "required": ["sku"], "properties": {
        "sku": {"type": "string"}, "qty": {"type": "integer"}, "price": {"type": "integer"}}}}
}"##;

struct World(Shape);

impl Known for World {
    fn shape(&self, name: &Name) -> Shape {
        match name {
            Name::Input => self.0.clone(),
            Name::StepStatus(_) => Shape::words(["done", "refused"]),
            _ => Shape::any(),
        }
    }
}

fn infer(source: &str) -> (Shape, Vec<Mistake>) {
    let world = World(Document::new(&Payload::parse(ORDER).unwrap()).shape());
    Expression::compile(source, Root::ALL).unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
    super::infer(source, &world)
}

/// Shows each mistake as `code "what it points at" message; help`.
fn mistakes(source: &str) -> Vec<String> {
    let show = |mistake: Mistake| {
        let help = mistake.help.map(|help| format!("; {help}")).unwrap_or_default();
        let warning = if mistake.warning { "warning " } else { "" };
        format!("{warning}{} \"{}\" {}{help}", mistake.code, &source[mistake.span], mistake.message)
    };
    infer(source).1.into_iter().map(show).collect()
}

#[test]
fn what_is_wrong_whatever_the_data() {
    let rows: &[(&str, &str, &str)] = &[
        // why, expression, the one mistake
        (
            "a typing mistake",
            "$input.ordrId",
            r#"X010 "ordrId" there is no such property: `ordrId`; did you mean `orderId`?"#,
        ),
        (
            "in another case",
            "$input.order_id",
            r#"X010 "order_id" there is no such property: `order_id`; did you mean `orderId`?"#,
        ),
        (
            "inside a list",
            "$input.lines | map(.quantity * .prise)",
            r#"X010 "prise" there is no such property: `prise`; did you mean `price`?"#,
        ),
        (
            "through an index",
            "$input.lines[0].skue",
            r#"X010 "skue" there is no such property: `skue`; did you mean `sku`?"#,
        ),
        (
            "in an iteration",
            "[$input.lines[] | .skuu]",
            r#"X010 "skuu" there is no such property: `skuu`; did you mean `sku`?"#,
        ),
        (
            "as a short member",
            "$input.lines | map({sku, qyt})",
            r#"X010 "qyt" there is no such property: `qyt`; did you mean `qty`?"#,
        ),
        (
            "bound by `as`",
            "$input.lines[0] as $l | $l.prcie",
            r#"X010 "prcie" there is no such property: `prcie`; did you mean `price`?"#,
        ),
        (
            "guarded, the schema is open",
            "$input.ordrId // \"none\"",
            r#"warning X010 "ordrId" there is no such property: `ordrId`; did you mean `orderId`?"#,
        ),
        (
            "a closed schema, nothing near",
            "$input.strict.zzz // 1",
            r#"X010 "zzz" there is no such property: `zzz`; it has a"#,
        ),
        ("a member of text", "$input.orderId.id", r#"X011 "id" this is text and has no member `id`"#),
        (
            "a member of a list",
            "$input.lines.sku",
            r#"X011 "sku" this is a list and has no member `sku`; go through its items: `.[]`, `map(…)`, or take one: `.[0]`"#,
        ),
        (
            "an item of an object",
            "$input.strict[0]",
            r#"X011 "0" this is an object and has no numbered items; only a list has items by number"#,
        ),
        (
            "going through text",
            "[$input.orderId[]]",
            r#"X011 "[]" `[]` goes through a list or an object; this is text"#,
        ),
        (
            "text times a number",
            "$input.orderId * 2",
            r#"X012 "$input.orderId * 2" cannot multiply text by a number; `tonumber` makes a number of text"#,
        ),
        (
            "text and number",
            "$input.total + $input.orderId",
            r#"X012 "$input.total + $input.orderId" cannot add text to a number; write a number into text with "… \( … )", or make text a number with `tonumber`"#,
        ),
        (
            "wrong even where it is there",
            "$input.note - 1",
            r#"X012 "$input.note - 1" cannot subtract a number from text; `tonumber` makes a number of text"#,
        ),
        ("minus text", "-$input.orderId", r#"X012 "$input.orderId" `-` takes a number; this is text"#),
        (
            "map over text",
            "$input.orderId | map(. + 1)",
            r#"X014 "map" `map` takes a list or an object; this is text; `split` makes a list of text"#,
        ),
        (
            "length of a boolean",
            "$input.paid | length",
            r#"X014 "length" `length` takes null or a number or text or a list or an object; this is a boolean"#,
        ),
        (
            "a word that it never is",
            "$input.kind == \"expres\"",
            r#"warning X015 "$input.kind == \"expres" these can never be equal: the other side is never "expres"; did you mean "express"?"#,
        ),
        (
            "a status that there is not",
            "$steps.a.status == \"failed\"",
            r#"warning X015 "$steps.a.status == \"failed" these can never be equal: the other side is never "failed"; it is one of done, refused"#,
        ),
        (
            "text and number compared",
            "$input.orderId == 1",
            r#"warning X015 "$input.orderId == 1" these can never be equal: text and a number"#,
        ),
        (
            "text and number ordered",
            "$input.total > \"5\"",
            r#"warning X015 "$input.total > \"5" different kinds are compared: a number and text"#,
        ),
    ];
    for (why, source, expected) in rows {
        let shown = mistakes(source);
        assert_eq!(shown, [expected.replace("\\\"", "\"")], "{why}: {source}");
    }
}

#[test]
fn what_may_be_right_is_left_alone() {
    for (why, source) in [
        ("an open schema has more", "$input.somethingElse"),
        ("nothing is known", "$input.free.a.b[0].c * 2"),
        ("one of its kinds fits", "$input.either * 2"),
        ("a map's members", "$input.map.whatever + 1"),
        ("absent, then null", "$input.note + \"x\""),
        ("null and something", "null + 1"),
        ("an alternative", "($input.total // 0) + 1"),
        ("asked for null", "$input.note == null"),
        ("tried", "try ($input.orderId | tonumber + \"\") catch 0"),
        ("meant by `?`", "$input.orderId.id? // 1"),
        ("assigned to", "$input.strict | .zzz = 1"),
        ("deleted", "$input.strict | del(.a)"),
        ("repeated on purpose", "\"=\" * 3"),
        ("divided text", "$input.orderId / \"-\""),
        (
            "an if on the type",
            "if ($input.either | type) == \"string\" then ($input.either | tonumber) else $input.either end",
        ),
        ("reduced", "reduce $input.lines[] as $l (0; . + $l.qty * $l.price)"),
        ("words in common", "$input.kind == \"express\" or $input.kind != \"normal\""),
        ("of a built object", "{a: 1} | .a + 1"),
        ("entries", "$input.map | to_entries | map(.key + \"=\" + (.value | tostring)) | join(\"&\")"),
        ("sums", "$input.lines | map(.qty * .price) | add"),
        ("objects merged", "$input.strict * {b: 1}"),
        ("lists joined", "$input.lines + [1]"),
    ] {
        assert_eq!(mistakes(source), [""; 0], "{why}: {source}");
    }
}

#[test]
fn what_is_yielded() {
    let rows: &[(&str, &str)] = &[
        ("$input.orderId", "text"),
        ("$input.note", "null or text"),
        ("$input.lines", "a list"),
        ("$input.lines | map(.qty) | add", "null or a number"),
        ("$input.lines | length > 0", "a boolean"),
        ("{a: 1}", "an object"),
        ("$input.note // 3", "a number or text"),
        ("if $input.paid then 1 else \"x\" end", "a number or text"),
        ("\"a\\(1)\"", "text"),
        ("$input.orderId | ascii_downcase", "text"),
        ("$input.kind == \"express\"", "a boolean"),
    ];
    for (source, expected) in rows {
        assert_eq!(infer(source).0.kinds.to_string(), *expected, "{source}");
    }
}
