//! The files in `schemas/`: what people copy is what is tested.

use std::path::Path;

use backstitch::id::EventType;
use backstitch::payload::Payload;
use backstitch::schema::Registry;

/// Reads every file below a folder as (path, text), by path.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn registry() -> Registry {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    Registry::load(files(&folder)).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

#[test]
fn every_type_is_described_and_has_an_example() {
    let registry = registry();
    let types: Vec<&str> = registry.types().map(EventType::as_str).collect();
    let expected = [
        "customer.applied.v1",
        "customer.onboarded.v1",
        "customer.rejected.v1",
        "ops.dead_letter.v1",
        "ops.run_compensated.v1",
        "ops.run_parked.v1",
        "ops.saga_parked.v1",
        "order.fulfilled.v1",
        "order.placed.v1",
        "order.placed.v2",
        "order.rejected.v1",
        "order.shipped.v1",
        "payment.settled.v1",
        "stock.refused.v1",
        "stock.released.v1",
        "stock.requested.v1",
        "stock.reserved.v1",
    ];
    assert_eq!(types, expected);
    for event_type in registry.types() {
        let entry = registry.get(event_type).unwrap();
        let schema = entry.source.to_value();
        assert!(!entry.examples.is_empty(), "{event_type} has no example");
        for key in ["title", "description"] {
            assert!(schema[key].as_str().is_some_and(|text| !text.is_empty()), "{event_type} has no {key}");
        }
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{event_type}: `{name}` has no description");
        }
    }
}

#[test]
fn an_order_is_held_against_its_schema() {
    let registry = registry();
    let rows: &[(&str, &str, &[&str])] = &[
        ("the example of the language", r#"{"orderId": "A-1", "lines": [{"sku": "a", "qty": 1, "price": 100}]}"#, &[]),
        (
            "more than is asked for",
            r#"{"orderId": "A-1", "note": "hi", "lines": [{"sku": "a", "qty": 1, "price": 1}]}"#,
            &[],
        ),
        ("an empty basket", r#"{"orderId": "A-1", "lines": []}"#, &["/lines"]),
        (
            "several mistakes",
            r#"{"orderId": 7, "lines": [{"sku": "", "qty": 0}]}"#,
            &["/lines/0/price", "/lines/0/qty", "/lines/0/sku", "/orderId"],
        ),
        ("no object", "null", &[""]),
    ];
    for (why, data, pointers) in rows {
        let event_type = EventType::parse("order.placed.v2").unwrap();
        let violations = registry.validate(&event_type, &Payload::parse(*data).unwrap()).err().unwrap_or_default();
        let found: Vec<&str> = violations.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(found, *pointers, "{why}: {violations:?}");
    }
}
