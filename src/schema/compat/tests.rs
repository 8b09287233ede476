//! What the checker says of pairs of schemas, with the reason for each row.

use serde_json::{Value, json};

use super::{Direction, Profile, Verdict, check};

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

#[test]
fn pairs() {
    use Direction::{Backward, Forward};
    use Profile::{Lenient, Strict};
    use Verdict::{Compatible, Incompatible};
    let text = || object(json!({ "a": { "type": "string" } }), &["a"]);
    let with_b = |required: &[&str]| object(json!({ "a": { "type": "string" }, "b": { "type": "string" } }), required);
    let rows: &[(&str, Value, Value, Direction, Profile, Verdict)] = &[
        ("the same", text(), text(), Backward, Strict, Compatible),
        ("a new optional property", text(), with_b(&["a"]), Backward, Lenient, Compatible),
        ("the same, strictly: others may have written b", text(), with_b(&["a"]), Backward, Strict, Incompatible),
        ("a new required property", text(), with_b(&["a", "b"]), Backward, Lenient, Incompatible),
        ("which old readers do not mind", text(), with_b(&["a", "b"]), Forward, Lenient, Compatible),
        ("a required one becomes optional", with_b(&["a", "b"]), with_b(&["a"]), Backward, Lenient, Compatible),
        ("of which old readers have need", with_b(&["a", "b"]), with_b(&["a"]), Forward, Lenient, Incompatible),
        ("a wider type", json!({ "type": "integer" }), json!({ "type": "number" }), Backward, Strict, Compatible),
        ("a narrower type", json!({ "type": "number" }), json!({ "type": "integer" }), Backward, Lenient, Incompatible),
        ("one more word", json!({ "enum": ["a"] }), json!({ "enum": ["a", "b"] }), Backward, Strict, Compatible),
        ("one word less", json!({ "enum": ["a", "b"] }), json!({ "enum": ["a"] }), Backward, Lenient, Incompatible),
        ("a const of the words", json!({ "const": "a" }), json!({ "enum": ["a", "b"] }), Backward, Strict, Compatible),
        (
            "a lower bound goes down",
            json!({ "type": "integer", "minimum": 5 }),
            json!({ "type": "integer", "minimum": 1 }),
            Backward,
            Strict,
            Compatible,
        ),
        (
            "an upper bound of a length comes down",
            json!({ "type": "string", "maxLength": 9 }),
            json!({ "type": "string", "maxLength": 8 }),
            Backward,
            Lenient,
            Incompatible,
        ),
        (
            "another kind of item",
            json!({ "type": "array", "items": { "type": "string" } }),
            json!({ "type": "array", "items": { "type": "integer" } }),
            Backward,
            Lenient,
            Incompatible,
        ),
        (
            "one way more",
            json!({ "type": "string" }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
            Backward,
            Strict,
            Compatible,
        ),
        (
            "behind a reference",
            json!({ "$ref": "#/$defs/id", "$defs": { "id": { "type": "string" } } }),
            json!({ "type": "string" }),
            Backward,
            Strict,
            Compatible,
        ),
    ];
    for (why, old, new, direction, profile, expected) in rows {
        let report = check(old, new, *direction, *profile);
        assert_eq!(report.verdict, *expected, "{why}: {report:?}");
        assert_eq!(report.differences.is_empty(), *expected == Verdict::Compatible, "{why}: {report:?}");
    }
}

#[test]
fn schemas_that_name_each_other_come_to_an_end() {
    let tree = |leaf: &str| {
        json!({
            "$ref": "#/$defs/node",
            "$defs": {
                "node": { "type": "object", "properties": { "next": { "$ref": "#/$defs/other" }, "leaf": { "type": leaf } } },
                "other": { "type": "object", "properties": { "back": { "$ref": "#/$defs/node" } } },
            },
        })
    };
    let same = check(&tree("string"), &tree("string"), Direction::Backward, Profile::Lenient);
    assert_eq!(same.verdict, Verdict::Compatible, "{same:?}");
    let other = check(&tree("string"), &tree("integer"), Direction::Backward, Profile::Lenient);
    assert_eq!(other.verdict, Verdict::Incompatible, "{other:?}");
}
