//! The compatibility checker against published pairs of schemas, against sampled documents, and in time.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use backstitch::schema::compat::{Direction, Profile, Report, Verdict, check};
use serde_json::{Map, Value, json};

fn vectors() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/json-schema-compat/karapace.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all.as_object().unwrap().values().next().unwrap().as_array().unwrap().clone()
}

fn valid(schema: &Value, document: &Value) -> bool {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap().is_valid(document)
}

/// Pairs of the published set that are judged otherwise here, each with a document that the old schema takes
/// and the new one refuses.
fn differences() -> Vec<(&'static str, Value)> {
    vec![("reader FALSE_SCHEMA / writer TRUE_SCHEMA", json!({"any": "thing"}))]
}

#[test]
fn published_pairs_are_judged_alike() {
    let listed = differences();
    assert!(listed.len() <= 5);
    let (mut agreed, mut found, mut other) = (0, BTreeSet::new(), Vec::new());
    for pair in vectors() {
        let (old, new) = (&pair["original"], &pair["update"]);
        let report = check(old, new, Direction::Backward, Profile::Strict);
        let expected = if pair["backward_strict"] == true { Verdict::Compatible } else { Verdict::Incompatible };
        let id = pair["id"].as_str().unwrap();
        if report.verdict == expected {
            agreed += 1;
        } else if let Some((id, document)) = listed.iter().find(|(listed, _)| *listed == id) {
            assert!(valid(old, document) && !valid(new, document), "{id}: the document proves nothing");
            found.insert(*id);
        } else {
            other.push(format!("{id}: {:?}, published as {expected:?}: {:?}", report.verdict, report.differences));
        }
    }
    println!("{agreed} pairs judged alike, {} listed differences, each with its document", found.len());
    assert!(other.is_empty(), "{}", other.join("\n"));
    assert_eq!(found.len(), listed.len(), "a listed difference is none any more");
    assert_eq!(agreed + found.len(), 231);
}

/// Numbers that are the same next year (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

const NAMES: [&str; 5] = ["a", "b", "kind", "aa", "x-1"];
const PATTERNS: [&str; 5] = ["^a", "b$", "^x-", "^[a-c]+$", "a*"];

/// Returns a small scalar.
fn scalar(dice: &mut Dice) -> Value {
    dice.pick(&[
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(5),
        json!(-1),
        json!(1.5),
        json!(4.0),
        json!(""),
        json!("a"),
        json!("b"),
        json!("ab"),
        json!("abcd"),
        json!("x-y"),
        json!("2030-01-31"),
    ])
}

fn schema(dice: &mut Dice, depth: usize) -> Value {
    if dice.one_in(12) {
        return dice.pick(&[json!(true), json!({}), json!(false)]);
    }
    let mut out = Map::new();
    let keywords = 1 + dice.below(3);
    for _ in 0..keywords {
        keyword(dice, depth, &mut out);
    }
    Value::Object(out)
}

fn schemas(dice: &mut Dice, depth: usize) -> Value {
    let many = 1 + dice.below(3);
    (0..many).map(|_| schema(dice, depth)).collect()
}

/// Adds a keyword, or changes it if it is there.
fn keyword(dice: &mut Dice, depth: usize, out: &mut Map<String, Value>) {
    let small = |dice: &mut Dice| json!(dice.below(4));
    let leaf = depth == 0;
    let (name, value) = match dice.below(if leaf { 14 } else { 32 }) {
        0..=2 => {
            let types = ["null", "boolean", "integer", "number", "string", "array", "object"];
            let value = if dice.one_in(4) {
                let (a, b) = (dice.pick(&types), dice.pick(&types));
                if a == b { json!([a]) } else { json!([a, b]) }
            } else {
                json!(dice.pick(&types))
            };
            ("type", value)
        }
        3 => {
            let mut values: Vec<Value> = Vec::new();
            for _ in 0..=dice.below(3) {
                let value = scalar(dice);
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            ("enum", Value::Array(values))
        }
        4 => ("const", scalar(dice)),
        5 => ("minimum", small(dice)),
        6 => ("maximum", small(dice)),
        7 => ("exclusiveMinimum", small(dice)),
        8 => ("multipleOf", dice.pick(&[json!(1), json!(2), json!(0.5), json!(4)])),
        9 => ("minLength", small(dice)),
        10 => ("maxLength", small(dice)),
        11 => ("pattern", json!(dice.pick(&PATTERNS))),
        12 => ("format", json!(dice.pick(&["date", "ipv4", "no-such-format"]))),
        13 => ("exclusiveMaximum", small(dice)),
        14..=17 => {
            let mut named = Map::new();
            for _ in 0..=dice.below(3) {
                named.insert(dice.pick(&NAMES).to_owned(), schema(dice, depth - 1));
            }
            ("properties", Value::Object(named))
        }
        18 => {
            let mut names: Vec<&str> = vec![dice.pick(&NAMES), dice.pick(&NAMES)];
            names.sort_unstable();
            names.dedup();
            ("required", json!(names))
        }
        19 => ("additionalProperties", if dice.one_in(2) { json!(false) } else { schema(dice, depth - 1) }),
        20 => ("patternProperties", json!({ dice.pick(&PATTERNS): schema(dice, depth - 1) })),
        21 => ("propertyNames", json!({ "pattern": dice.pick(&PATTERNS) })),
        22 => ("dependentRequired", json!({ dice.pick(&NAMES): [dice.pick(&NAMES)] })),
        23 => ("items", schema(dice, depth - 1)),
        24 => ("prefixItems", schemas(dice, depth - 1)),
        25 => ("contains", schema(dice, depth - 1)),
        26 => (dice.pick(&["minItems", "maxItems", "minProperties", "maxProperties"]), small(dice)),
        27 => ("oneOf", schemas(dice, depth - 1)),
        28 => ("anyOf", schemas(dice, depth - 1)),
        29 => ("allOf", schemas(dice, depth - 1)),
        30 => ("not", schema(dice, depth - 1)),
        _ => {
            out.insert("if".to_owned(), schema(dice, depth - 1));
            (dice.pick(&["then", "else"]), schema(dice, depth - 1))
        }
    };
    if dice.one_in(6) && out.len() > 1 {
        out.remove(name);
    } else {
        out.insert(name.to_owned(), value);
    }
}

/// Changes a schema in one place.
fn changed(dice: &mut Dice, old: &Value, depth: usize) -> Value {
    let Value::Object(members) = old else { return schema(dice, depth) };
    let mut out = members.clone();
    let inner: Vec<String> = members
        .iter()
        .filter(|(_, value)| value.is_object() || value.is_array())
        .map(|(name, _)| name.clone())
        .collect();
    if inner.is_empty() || depth == 0 || dice.one_in(3) {
        if dice.one_in(5) && !out.is_empty() {
            let names: Vec<String> = out.keys().cloned().collect();
            out.remove(&dice.pick(&names));
        } else {
            keyword(dice, depth, &mut out);
        }
        return Value::Object(out);
    }
    let name = dice.pick(&inner);
    let value = match (name.as_str(), &members[&name]) {
        ("properties" | "patternProperties", Value::Object(named)) if !named.is_empty() => {
            let mut named = named.clone();
            let names: Vec<String> = named.keys().cloned().collect();
            let one = dice.pick(&names);
            let value = changed(dice, &named[&one], depth - 1);
            named.insert(one, value);
            Value::Object(named)
        }
        ("oneOf" | "anyOf" | "allOf" | "prefixItems", Value::Array(list)) => {
            let mut list = list.clone();
            let at = dice.below(list.len());
            match dice.below(4) {
                0 => list.push(schema(dice, depth - 1)),
                1 if list.len() > 1 => drop(list.remove(at)),
                _ => list[at] = changed(dice, &list[at], depth - 1),
            }
            Value::Array(list)
        }
        ("items" | "contains" | "not" | "if" | "then" | "else" | "additionalProperties", inner) => {
            changed(dice, inner, depth - 1)
        }
        (_, other) => other.clone(),
    };
    out.insert(name, value);
    Value::Object(out)
}

/// Rolls a document that has much in common with a schema, and fits it by chance.
fn document(dice: &mut Dice, schema: &Value, depth: usize) -> Value {
    let Value::Object(members) = schema else { return anything(dice, depth) };
    if dice.one_in(5) {
        return anything(dice, depth);
    }
    for keyword in ["oneOf", "anyOf", "allOf"] {
        if let Some(Value::Array(list)) = members.get(keyword)
            && dice.one_in(2)
        {
            let at = dice.below(list.len());
            return document(dice, &list[at], depth);
        }
    }
    if let Some(value) = members.get("const") {
        return value.clone();
    }
    if let Some(Value::Array(values)) = members.get("enum") {
        return dice.pick(values);
    }
    let has = |names: &[&str]| names.iter().any(|name| members.contains_key(*name));
    let named: Vec<String> = match members.get("type") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        _ if has(&["properties", "required", "additionalProperties", "patternProperties", "minProperties"]) => {
            vec!["object".to_owned()]
        }
        _ if has(&["items", "prefixItems", "contains", "minItems"]) => vec!["array".to_owned()],
        _ => return anything(dice, depth),
    };
    match dice.pick(&named).as_str() {
        "object" => {
            let mut out = Map::new();
            let properties = members.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flatten() {
                if !dice.one_in(3) {
                    out.insert(name.clone(), document(dice, property, depth.saturating_sub(1)));
                }
            }
            for name in members.get("required").and_then(Value::as_array).into_iter().flatten() {
                let name = name.as_str().unwrap();
                if !out.contains_key(name) {
                    out.insert(name.to_owned(), anything(dice, depth.saturating_sub(1)));
                }
            }
            if dice.one_in(3) {
                out.insert(dice.pick(&NAMES).to_owned(), scalar(dice));
            }
            Value::Object(out)
        }
        "array" => {
            let rest = members.get("items").cloned().unwrap_or(json!(true));
            let first = members.get("prefixItems").and_then(Value::as_array).cloned().unwrap_or_default();
            let length = dice.below(4);
            (0..length).map(|at| document(dice, first.get(at).unwrap_or(&rest), depth.saturating_sub(1))).collect()
        }
        "string" => dice.pick(&[
            json!(""),
            json!("a"),
            json!("b"),
            json!("ab"),
            json!("abcd"),
            json!("x-y"),
            json!("2030-01-31"),
        ]),
        "integer" => json!(dice.below(7)),
        "number" => dice.pick(&[json!(0), json!(0.5), json!(1), json!(1.5), json!(2), json!(3.5), json!(-1), json!(6)]),
        "boolean" => json!(dice.one_in(2)),
        _ => Value::Null,
    }
}

fn anything(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 4 } else { 7 }) {
        0..=3 => scalar(dice),
        4 => {
            let length = dice.below(4);
            (0..length).map(|_| anything(dice, depth - 1)).collect()
        }
        _ => {
            let length = dice.below(3);
            (0..length).map(|_| (dice.pick(&NAMES).to_owned(), anything(dice, depth - 1))).collect::<Map<_, _>>().into()
        }
    }
}

/// Collects the names under every `properties`.
fn declared(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (keyword, value) in members {
                if let ("properties", Value::Object(named)) = (keyword.as_str(), value) {
                    names.extend(named.keys().cloned());
                }
                declared(value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| declared(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// True if a document has a member of one of the names, at any depth.
fn mentions(document: &Value, names: &BTreeSet<String>) -> bool {
    match document {
        Value::Object(members) => members.iter().any(|(name, value)| names.contains(name) || mentions(value, names)),
        Value::Array(items) => items.iter().any(|item| mentions(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Pairs of schemas; about 2 ms each without optimisation.
const PAIRS: u64 = 1_000;
const DOCUMENTS: usize = 60;

#[test]
fn no_sampled_document_contradicts() {
    let one = std::env::var("COMPAT_SEED").ok().map(|seed| seed.parse::<u64>().expect("COMPAT_SEED is a number"));
    let pairs = std::env::var("COMPAT_PAIRS").ok().map_or(PAIRS, |pairs| pairs.parse().unwrap());
    let (mut counts, mut contradicted) = ([0_usize; 3], 0);
    let mut told_apart = 0; // pairs whose documents show them to be incompatible
    let mut untold = 0; // of these, those that the checker could not tell
    for seed in one.map_or(0..pairs, |seed| seed..seed + 1) {
        let mut dice = Dice(seed.wrapping_mul(0x1234_5678_9abc_def1));
        let old = schema(&mut dice, 2);
        let new = if dice.one_in(4) { schema(&mut dice, 2) } else { changed(&mut dice, &old, 2) };
        let profile = if dice.one_in(2) { Profile::Strict } else { Profile::Lenient };
        let Ok(old_validator) = jsonschema::options().should_validate_formats(true).build(&old) else { continue };
        let Ok(new_validator) = jsonschema::options().should_validate_formats(true).build(&new) else { continue };
        let Report { verdict, example, differences, .. } = check(&old, &new, Direction::Backward, profile);
        counts[verdict as usize] += 1;
        let again = format!(
            "COMPAT_SEED={seed} cargo test --test it no_sampled; {profile:?}\nold {old}\nnew {new}\n{differences:?}"
        );
        if let Some(example) = &example {
            assert!(old_validator.is_valid(example), "{example} does not fit the old one: {again}");
            assert!(!new_validator.is_valid(example), "{example} fits the new one: {again}");
        }
        // In the lenient profile nobody writes a name that the old schema does not declare and the new one does.
        let mut unwritten = BTreeSet::new();
        if profile == Profile::Lenient {
            let mut known = BTreeSet::new();
            declared(&new, &mut unwritten);
            declared(&old, &mut known);
            // Declared somewhere is not declared everywhere: leave out what one place may not know.
            if unwritten != known || !unwritten.is_empty() {
                unwritten.extend(known);
            }
        }
        let mut seen = false;
        for _ in 0..DOCUMENTS {
            let from = if dice.one_in(4) { &new } else { &old };
            let document = document(&mut dice, from, 3);
            if !old_validator.is_valid(&document) || new_validator.is_valid(&document) {
                continue;
            }
            if profile == Profile::Lenient && mentions(&document, &unwritten) {
                continue;
            }
            seen = true;
            if verdict == Verdict::Compatible {
                contradicted += 1;
                println!("{document} contradicts: {again}");
            }
        }
        told_apart += usize::from(seen);
        untold += usize::from(seen && verdict == Verdict::CannotTell);
    }
    println!(
        "{} compatible, {} cannot tell, {} incompatible; {told_apart} shown incompatible by documents, {untold} of them not told",
        counts[0], counts[1], counts[2]
    );
    assert_eq!(contradicted, 0, "a sampled document contradicts `compatible`");
    if one.is_none() {
        assert!(counts.iter().all(|count| *count > 0), "all three answers are given: {counts:?}");
        assert!(untold * 20 < told_apart, "what documents show is mostly told: {untold} of {told_apart}");
    }
}

/// A schema of 20 levels with so many properties each, one of which is the next level.
fn wide_and_deep(per_level: usize, leaf: &str, length: u64) -> Value {
    let mut inner = json!({ "type": leaf });
    for _ in 0..20 {
        let mut named = Map::new();
        for at in 1..per_level {
            let property = match at % 3 {
                1 => json!({ "type": "string", "minLength": 1, "maxLength": length }),
                2 => json!({ "type": "integer", "minimum": 0 }),
                _ => json!({ "type": "array", "items": { "type": "number" } }),
            };
            named.insert(format!("property{at}"), property);
        }
        named.insert("next".to_owned(), inner);
        inner = json!({ "type": "object", "required": ["property1", "next"], "properties": named });
    }
    inner
}

#[test]
fn a_hundred_properties_and_twenty_levels_in_time() {
    for (per_level, limit_ms) in [(5, 50), (100, 1_000)] {
        let old = wide_and_deep(per_level, "integer", 200);
        for (why, new, expected) in [
            ("unchanged", old.clone(), Verdict::Compatible),
            ("changed on every level", wide_and_deep(per_level, "integer", 300), Verdict::Compatible),
            ("changed at the bottom", wide_and_deep(per_level, "string", 200), Verdict::Incompatible),
        ] {
            let begin = Instant::now();
            let report = check(&old, &new, Direction::Backward, Profile::Lenient);
            let took = begin.elapsed();
            println!("{} properties in 20 levels, {why}: {:.1} ms", 20 * per_level, took.as_secs_f64() * 1e3);
            assert_eq!(report.verdict, expected, "{why}");
            // Without optimisation and beside other tests it is ten times as long.
            let limit = Duration::from_millis(if cfg!(debug_assertions) { 20 * limit_ms } else { limit_ms });
            assert!(took < limit, "{why}: {took:?}");
        }
    }
}

#[test]
fn mutual_recursion_ends() {
    let tree = |leaf: &str| {
        json!({
            "$ref": "#/$defs/a",
            "$defs": {
                "a": { "type": "object", "properties": { "b": { "$ref": "#/$defs/b" }, "leaf": { "type": leaf } } },
                "b": { "type": "array", "items": { "anyOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/c" }] } },
                "c": { "type": ["object", "null"], "required": ["a"], "properties": { "a": { "$ref": "#/$defs/a" }, "c": { "$ref": "#/$defs/c" } } }
            }
        })
    };
    // The same in other words: a step of the circle is written out.
    let mut unrolled = tree("number");
    unrolled["$defs"]["a"]["properties"]["b"] = json!({
        "type": "array", "items": { "anyOf": [{ "$ref": "#/$defs/c" }, { "$ref": "#/$defs/a" }] }
    });
    let rows = [
        ("itself", tree("integer"), tree("integer"), Verdict::Compatible),
        ("wider below", tree("integer"), tree("number"), Verdict::Compatible),
        ("narrower below", tree("number"), tree("integer"), Verdict::Incompatible),
        ("unrolled", tree("integer"), unrolled, Verdict::Compatible),
        (
            "a circle that never enters the data",
            json!({"$ref": "#"}),
            json!({"$ref": "#", "title": "x"}),
            Verdict::Compatible,
        ),
        (
            "two circles",
            json!({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#"}}}),
            json!({"type": "string"}),
            Verdict::CannotTell,
        ),
    ];
    for (why, old, new, expected) in rows {
        let begin = Instant::now();
        let report = check(&old, &new, Direction::Backward, Profile::Lenient);
        assert_eq!(report.verdict, expected, "{why}: {:?}", report.differences);
        assert!(begin.elapsed() < Duration::from_secs(5), "{why}");
    }
}
