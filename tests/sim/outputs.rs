//! Outputs that are held against a schema, answers against `expect`: what does not fit is done, then failed, and undone
//! with what came.

use std::sync::Arc;

use backstitch::definition;
use backstitch::id::EventType;
use backstitch::payload::Payload;
use backstitch::request::Direction;
use backstitch::saga::{Fact, Outcome};

use super::table::Driver;

/// A file with one step that is answered with `{"applied": false}`; the others need nobody.
fn file(output: &str, more: &str) -> String {
    format!(
        "saga: sim\nversion: 1\nservices: {{ svc: {{ url: \"http://127.0.0.1:1\" }} }}\n\
         defaults: {{ retry: {{ attempts: 1 }} }}\nsteps:\n  - id: pay\n    call: svc\n    \
         with: {{ method: POST, path: /pay }}\n    output: {output}\n{more}    \
         compensate: {{ with: {{ method: POST, path: \"/refund/${{ $forward.output.was // 0 }}\" }} }}\n  \
         - {{ id: last, set: \"${{ $steps.pay.output.was // 7 }}\" }}\n"
    )
}

const FITS: &str = "{ as: { was: \"${ $result.body.applied }\" }, \
                    schema: { type: object, required: [was], properties: { was: { type: boolean } } } }";
const MISFIT: &str = "{ as: { was: \"${ $result.body.applied | tojson }\" }, \
                      schema: { type: object, properties: { was: { type: boolean } } } }";

fn begun(yaml: &str) -> Driver {
    let definition =
        definition::reload("sim.yaml", yaml).unwrap_or_else(|found| panic!("{}\n{yaml}", found[0].message));
    Driver::of(Arc::new(definition))
}

#[test]
fn what_fits_goes_on_and_what_does_not_is_undone_with_what_came() {
    /// Why, the output, more keys of the step, its status and failure, how the run ends.
    type Row<'a> = (&'a str, &'a str, &'a str, (&'a str, Option<&'a str>), &'a str);
    let whole = "{ schema: { properties: { status: { const: 200 }, body: { required: [applied] } } } }";
    let wrong_whole = "{ schema: { properties: { body: { required: [id] } } } }";
    let value = "    fallback: { value: { was: 1 } }\n";
    let rows: &[Row<'_>] = &[
        ("it fits", FITS, "", ("done", None), "completed"),
        ("the answer as it is", whole, "", ("done", None), "completed"),
        ("it does not fit", MISFIT, "", ("undoing", Some("invalid_output")), "compensating"),
        ("nor does the answer as it is", wrong_whole, "", ("undoing", Some("invalid_output")), "compensating"),
        ("its failure is optional", MISFIT, "    optional: true\n", ("done", Some("invalid_output")), "completed"),
        ("a value stands in", MISFIT, value, ("done", Some("invalid_output")), "completed"),
    ];
    for (why, output, more, (status, failure), end) in rows {
        let mut yaml = file(output, more);
        if output.contains("schema: { properties") {
            yaml = yaml.replace("$forward.output.was // 0", "0").replace("$steps.pay.output.was // 7", "7");
        }
        let driver = begun(&yaml).answered();
        let pay = driver.state.step(0);
        let error = pay.error.as_deref();
        assert_eq!((pay.status_word(), error.map(|error| &*error.kind)), (*status, *failure), "{why}");
        assert_eq!(driver.state.state().as_str(), *end, "{why}");
        if let Some(error) = error {
            let detail = error.detail.as_deref().unwrap();
            assert!(detail.starts_with("/was: ") || detail == "/body/id: is missing", "{why}: {detail}");
            assert_eq!((error.step.as_deref(), error.status), (Some("pay"), Some(200)), "{why}");
        }
        if *output == MISFIT && *status == "undoing" {
            let target = &pay.undo.request.as_ref().unwrap().target;
            assert_eq!(target, "/refund/false", "{why}: the undo reads what came");
        }
    }
}

#[test]
fn what_was_not_expected_is_undone_with_what_came() {
    let refused = "    expect: ${ $result.body.applied }\n";
    let broken = "    expect: ${ $result.body.applied + 1 }\n";
    let unread = "{ as: { was: \"${ $result.body.applied.deep.er }\" } }";
    let as_it_is = "{ as: { was: \"${ $result.body.applied | tojson }\" } }";
    let rows = [
        ("not expected", as_it_is, refused, "invalid_output", "`expect` is false", "/refund/false"),
        ("`expect` fails", as_it_is, broken, "expression", "`$result.body.applied + 1`", "/refund/false"),
        (
            "nor does it fit: the first failure counts",
            MISFIT,
            refused,
            "invalid_output",
            "`expect` is false",
            "/refund/false",
        ),
        ("nor can the output be made", unread, refused, "invalid_output", "`expect` is false", "/refund/0"),
        ("the output alone cannot be made", unread, "", "expression", "`$result.body.applied.deep.er`", "/refund/0"),
    ];
    for (why, output, expect, kind, detail, refund) in rows {
        let driver = begun(&file(output, expect)).answered();
        let pay = driver.state.step(0);
        assert_eq!(pay.status_word(), "undoing", "{why}");
        let error = pay.error.as_deref().unwrap();
        let told = error.detail.as_deref().unwrap();
        assert_eq!((&*error.kind, error.step.as_deref(), error.status), (kind, Some("pay"), Some(200)), "{why}");
        assert!(told.starts_with(detail), "{why}: {told}");
        assert_eq!(pay.undo.request.as_ref().unwrap().target, refund, "{why}");
    }
}

#[test]
fn a_catch_takes_it_and_a_check_is_held_against_its_own() {
    let wrapped = "saga: sim\nversion: 1\nservices: { svc: { url: \"http://127.0.0.1:1\" } }\nsteps:\n  - id: guarded\n    try:\n      \
                   - { id: pay, call: svc, with: { method: POST, path: /pay }, compensate: none, \
                   output: { schema: { type: string } } }\n    \
                   catch: [{ on: [invalid_output], do: [{ id: caught, set: 1 }] }]\n";
    let driver = begun(wrapped).answered();
    assert_eq!(driver.state.state().as_str(), "completed");
    assert_eq!(driver.state.step(driver.definition.find("caught").unwrap()).status_word(), "done");

    for (schema, end) in [("{ type: boolean }", "completed"), ("{ type: string }", "compensating")] {
        let checked = format!(
            "saga: sim\nversion: 1\nservices: {{ svc: {{ url: \"http://127.0.0.1:1\" }} }}\n\
             defaults: {{ retry: {{ attempts: 1 }} }}\nsteps:\n  - id: pay\n    call: svc\n    \
             with: {{ method: POST, path: /pay }}\n    compensate: {{ with: {{ method: POST, path: /refund }} }}\n    \
             on_unknown:\n      check:\n        with: {{ method: GET, path: /pay }}\n        \
             happened: ${{ $result.status == 200 }}\n        \
             output: {{ as: \"${{ $result.body.applied }}\", schema: {schema} }}\n  - {{ id: last, set: 1 }}\n"
        );
        let driver = begun(&checked).answer(Direction::Forward, "maybe").answer(Direction::Check, "done");
        assert_eq!(driver.state.state().as_str(), end, "{schema}");
        let output = driver.state.step(0).output.as_ref().map(Payload::text);
        assert_eq!(output, Some("false"), "{schema}: done either way");
    }
}

#[test]
fn the_schema_of_an_event_type_is_asked_for_when_the_output_is_there() {
    let yaml = file("{ as: { was: 3 }, schema: thing.paid.v1 }", "");
    for (answer, failure) in [(Ok(()), None), (Err("/was: is 3".to_owned()), Some("/was: is 3"))] {
        let driver = begun(&yaml);
        let asked = |event: &EventType, data: &Payload| {
            assert_eq!((event.as_str(), data.text()), ("thing.paid.v1", r#"{"was":3}"#));
            answer.clone()
        };
        let facts = driver.answered_by(&asked);
        let Some(Fact::StepEnded { outcome, failure: failed, .. }) =
            facts.iter().find(|fact| matches!(fact, Fact::StepEnded { .. }))
        else {
            panic!("{facts:?}")
        };
        assert_eq!(*outcome, Outcome::Done);
        assert_eq!(failed.as_ref().and_then(|failed| failed.detail.as_deref()), failure);
    }
}
