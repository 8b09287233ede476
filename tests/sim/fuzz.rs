//! Bytes and texts that nobody would send: nothing panics, what is refused is refused in words, and what is
//! taken comes back the same. `FUZZ_CASES=…` for more of them; `make fuzz` has them all.

use std::collections::BTreeMap;

use backstitch::bus::{RawMessage, wire};
use backstitch::envelope::Event;
use backstitch::id::{EventType, SagaName};
use backstitch::payload::Payload;
use backstitch::schema::{Registry, Schema};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::Config;

fn config(cases: u32) -> Config {
    let cases = std::env::var("FUZZ_CASES").map_or(cases, |cases| cases.parse().expect("FUZZ_CASES is a number"));
    Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() }
}

/// Words that mean something to a reader of events, and pieces that should not.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "ce-id",
            "ce-source",
            "ce-type",
            "ce-specversion",
            "ce-time",
            "ce-partitionkey",
            "Content-Type",
            "1.0",
            "application/json",
            "application/cloudevents+json",
            "order.placed.v1",
            "Nats-Msg-Id",
            "%",
            "%2",
            "%00",
            "%E4",
            "%C3%A9",
            "\r\n",
            "\n",
            "\u{0}",
            ">",
            "*",
            "$JS.API",
            "..",
            "é",
            "\u{2028}",
            " ",
            "",
        ])
        .prop_map(str::to_owned),
        ".{0,12}",
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(word(), inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Something like a JSON Schema: its keywords with values that may or may not fit.
fn schema() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let keyword = prop::sample::select(vec![
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "minimum",
        "maximum",
        "pattern",
        "format",
        "enum",
        "const",
        "$ref",
        "$defs",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "additionalProperties",
        "minItems",
        "uniqueItems",
        "$schema",
        "$id",
        "description",
        "default",
    ])
    .prop_map(str::to_owned);
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "object",
            "string",
            "integer",
            "#/$defs/a",
            "#",
            "^[a-z]+$",
            "(",
            "date-time",
            "http://x/"
        ])
        .prop_map(Value::from),
        (-3_i64..10).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keyword.clone(), inner.clone(), 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn event()(
        texts in prop::collection::vec(word(), 6),
        kind in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}\\.v[1-9]",
        some in any::<u8>(),
        extensions in prop::collection::btree_map("[a-z0-9]{1,12}", word(), 0..3),
        data in json(),
    ) -> Event {
        let text = |at: usize| (some >> at & 1 == 1).then(|| texts[at].clone()).filter(|text| !text.is_empty());
        let reserved = ["id", "source", "type", "specversion", "time", "subject", "dataschema", "datacontenttype",
            "correlationid", "causationid", "partitionkey", "traceparent", "tracestate", "data"];
        Event {
            id: texts[0].clone(),
            source: texts[1].clone(),
            event_type: EventType::parse(&kind).unwrap(),
            time: None,
            subject: text(2),
            dataschema: None,
            correlation_id: text(3),
            causation_id: text(4),
            partition_key: text(5),
            trace: None,
            extensions: extensions.into_iter().filter(|(name, value)| !reserved.contains(&name.as_str()) && !value.is_empty()).collect::<BTreeMap<_, _>>(),
            data: Payload::of(&data),
        }
    }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn any_message_is_an_event_or_refused_in_words(
        subject in prop_oneof![word(), Just("events.order.placed.v1".to_owned())],
        headers in prop::collection::vec((word(), word()), 0..8),
        payload in prop_oneof![prop::collection::vec(any::<u8>(), 0..60), json().prop_map(|value| value.to_string().into_bytes())],
    ) {
        let raw = RawMessage { subject, headers, payload: Bytes::from(payload) };
        match wire::decode(&raw) {
            Ok(event) => {
                let again = wire::decode(&wire::encode(&event)).expect("what was read can be written and read");
                prop_assert_eq!(again, event);
            }
            Err(why) => prop_assert!(!why.is_empty()),
        }
    }

    #[test]
    fn any_headers_are_read_or_refused_in_words(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        prop::collection::vec(word(), 0..12).prop_map(|words| format!("NATS/1.0\r\n{}", words.join(":")).into_bytes()),
    ]) {
        if let Err(why) = wire::read_headers("events.a.v1", &bytes) {
            prop_assert!(!why.is_empty() && !why.contains('\n'), "{:?}", why);
        }
    }

    #[test]
    fn an_event_that_is_taken_leaves_no_line_and_no_wildcard(event in event()) {
        if wire::check(&event).is_ok() {
            let raw = wire::encode(&event);
            prop_assert!(raw.subject.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>$".contains(&byte)), "{}", raw.subject);
            for (name, value) in &raw.headers {
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'), "{name}");
                prop_assert!(value.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{name}: {value:?}");
            }
            prop_assert_eq!(wire::decode(&raw).expect("what is taken is read"), event);
        }
    }

    #[test]
    fn names_that_parse_are_tokens_of_a_subject(text in word()) {
        if let Ok(kind) = EventType::parse(&text) {
            prop_assert!(kind.as_str().split('.').all(|token| !token.is_empty()
                && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))), "{text}");
        }
        if let Ok(saga) = SagaName::parse(&text) {
            prop_assert!(saga.as_str().bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
        }
    }

    #[test]
    fn any_schema_compiles_or_is_refused_in_words(source in schema(), data in json()) {
        match Schema::compile(&Payload::of(&source)) {
            Ok(schema) => drop(schema.validate(&Payload::of(&data))),
            Err(found) => {
                prop_assert!(!found.is_empty());
                prop_assert!(found.iter().all(|finding| !finding.message.is_empty()));
            }
        }
        let files = [("schemas/a.b/v1.json".to_owned(), source.to_string()), ("schemas/a.b/v2.json".to_owned(), data.to_string())];
        drop(Registry::load(files));
    }
}
