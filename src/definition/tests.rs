//! Whole files in, definitions or diagnostics out.

use std::path::Path;

use super::*;
use crate::time::Span;

/// The example that the README shows.
pub(super) const ORDER: &str = include_str!("../../sagas/order-fulfilment.yaml");

pub(super) struct World {
    services: BTreeMap<ServiceName, ServiceInfo>,
    schemas: crate::schema::Registry,
    webhooks: BTreeSet<ServiceName>,
}

impl World {
    pub(super) fn new() -> Self {
        let service = |(name, timeout): (&str, Option<u64>)| {
            let info = ServiceInfo { timeout: timeout.map(Span::from_secs), ..ServiceInfo::default() };
            (ServiceName::parse(name).unwrap(), info)
        };
        let schemas = [
            ("order.placed/v2.json", include_str!("../../schemas/order.placed/v2.json")),
            ("order.shipped/v1.json", include_str!("../../schemas/order.shipped/v1.json")),
            ("order.fulfilled/v1.json", include_str!("../../schemas/order.fulfilled/v1.json")),
            ("order.rejected/v1.json", include_str!("../../schemas/order.rejected/v1.json")),
            ("ops.saga_parked/v1.json", include_str!("../../schemas/ops.saga_parked/v1.json")),
        ];
        let schemas = schemas.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let mut services: BTreeMap<_, _> =
            [("inventory", Some(2)), ("payments", None), ("shipping", None)].map(service).into();
        let described = crate::openapi::OpenApi::parse(include_str!("../../tests/diagnostics/ledger.openapi.json"));
        let ledger = ServiceInfo { openapi: Some(std::sync::Arc::new(described.unwrap())), ..ServiceInfo::default() };
        services.insert(ServiceName::parse("ledger").unwrap(), ledger);
        let tracking = ServiceInfo {
            protocol: Protocol::Grpc,
            descriptor: Some(std::sync::Arc::new(crate::protobuf::tests::tracking())),
            ..ServiceInfo::default()
        };
        services.insert(ServiceName::parse("tracking").unwrap(), tracking);
        for (name, protocol) in [("crm", Protocol::Graphql), ("insurer", Protocol::Soap), ("stock", Protocol::Nats)] {
            services.insert(ServiceName::parse(name).unwrap(), ServiceInfo { protocol, ..ServiceInfo::default() });
        }
        let webhooks = ["shop", "repository"].map(|name| ServiceName::parse(name).unwrap()).into();
        Self { services, schemas: crate::schema::Registry::load(schemas).unwrap(), webhooks }
    }

    pub(super) fn environment(&self) -> Environment<'_> {
        Environment { services: &self.services, schemas: &self.schemas, webhooks: &self.webhooks }
    }
}

fn load(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    super::load("test.yaml", text, &World::new().environment())
}

fn good(text: &str) -> SagaDefinition {
    load(text).unwrap_or_else(|found| panic!("{text}\n{}", render_all(&found, text, Style::Plain))).definition
}

/// Wraps steps into a file.
fn saga(steps: &str) -> String {
    format!("saga: test\nsteps:\n{steps}")
}

fn codes(text: &str) -> Vec<&'static str> {
    load(text).err().unwrap_or_default().iter().map(|found| found.code).collect()
}

#[test]
fn the_whole_file() {
    let loaded = load(ORDER).unwrap_or_else(|found| panic!("{}", render_all(&found, ORDER, Style::Plain)));
    assert_eq!(loaded.warnings, []);
    let saga = loaded.definition;
    assert_eq!((saga.name.as_str(), saga.version, saga.block(ROOT).steps.len()), ("order-fulfilment", 2, 4));
    assert_eq!(saga.timeout, Some(Span::from_secs(24 * 3_600)));
    let step = |id: &str| saga.step(saga.find(id).unwrap());
    assert_eq!(step("reserve").attempt_timeout, Span::from_secs(2), "the service's beats defaults");
    assert_eq!(step("charge").attempt_timeout, Span::from_secs(3), "defaults");
    assert_eq!(step("charge").retry, RetryPolicy::FORWARD);
    assert!(step("charge").on_unknown.check.is_some());
    assert!(matches!(&step("charge").compensate, Compensate::Call(undo)
        if undo.ok.is_some() && undo.retry == RetryPolicy::UNDO && undo.call.service.as_str() == "payments"));
    assert!(step("ship").pivot && !step("ship").after_pivot && step("announce").after_pivot);
    assert!(matches!(step("ship").compensate, Compensate::Unstated));
    assert!(matches!(step("announce").compensate, Compensate::None));
    assert!(saga.finally.completed.is_some() && saga.finally.parked.is_some());
}

#[test]
fn switches_nest() {
    let saga = good(&saga(
        "  - id: route
    switch:
      - when: ${ $input.express }
        do:
          - { id: fly, call: shipping, with: { method: POST, path: /air }, compensate: none }
      - else:
          - id: inner
            switch:
              - when: true
                do:
                  - { id: sail, call: shipping, with: { method: POST, path: /sea }, compensate: none }
  - { id: done, set: { by: \"${ $steps.fly.output.body.id // $steps.sail.output.body.id // null }\" } }
",
    ));
    let paths: Vec<&str> = saga.steps.iter().map(|step| &*step.path).collect();
    assert_eq!(paths, ["route", "route/fly", "route/inner", "route/inner/sail", "done"]);
    assert_eq!(saga.block(ROOT).steps, [0, 4]);
    let inner = saga.block(saga.step(3).block);
    assert_eq!((inner.owner, inner.part, inner.steps.as_slice()), (Some(2), Part::Arm(0), &[3][..]));
    let Action::Switch(arms) = &saga.step(0).action else { panic!() };
    assert!(arms[0].when.is_some() && arms[1].when.is_none());
}

#[test]
fn after_the_pivot_attempts_never_end() {
    let saga = good(
        "saga: test
defaults: { retry: { attempts: 3, delay: 1s }, compensate: { attempts: 7 } }
steps:
  - { id: a, call: payments, with: { method: POST, path: /a }, compensate: { with: { method: DELETE, path: /a }, retry: forever } }
  - { id: b, call: payments, with: { method: POST, path: /b }, pivot: true }
  - { id: c, call: payments, with: { method: POST, path: /c } }
  - { id: d, call: payments, with: { method: POST, path: /d }, retry: { attempts: 2 } }
",
    );
    let attempts: Vec<Attempts> = saga.steps.iter().map(|step| step.retry.attempts).collect();
    assert_eq!(attempts, [Attempts::Count(3), Attempts::Count(3), Attempts::Forever, Attempts::Count(2)]);
    assert!(saga.steps.iter().all(|step| step.retry.delay == Span::from_secs(1)));
    let Compensate::Call(undo) = &saga.step(0).compensate else { panic!() };
    assert_eq!(undo.retry.attempts, Attempts::Forever);
    assert_eq!(undo.retry.delay, Span::from_secs(1), "an undo's own default, not `defaults.retry`");
}

#[test]
fn what_needs_no_statement() {
    let rows: &[(&str, &str)] = &[
        ("the last call", "  - { id: a, call: payments, with: { method: POST, path: /a } }\n"),
        ("a GET", "  - { id: a, call: payments, with: { method: GET, path: /a } }\n  - { id: b, wait: 1s }\n"),
        ("an emit at the end", "  - { id: a, emit: order.fulfilled.v1, data: { orderId: A-1 } }\n"),
        (
            "the last of a branch at the end",
            "  - id: s\n    switch:\n      - when: true\n        do:\n          - { id: a, call: payments, with: { method: POST, path: /a } }\n",
        ),
        (
            "a set that has something to undo",
            "  - { id: a, set: 1, compensate: { call: payments, with: { method: POST, path: /a } } }\n  - { id: b, wait: 1s }\n",
        ),
        (
            "a status asked in `if`",
            "  - { id: a, if: true, set: 1 }\n  - { id: b, if: \"${ $steps.a.status == \\\"done\\\" }\", set: \"${ $steps.a.output }\" }\n",
        ),
    ];
    for (why, steps) in rows {
        let text = saga(steps);
        assert_eq!(codes(&text), [""; 0], "{why}");
    }
}

#[test]
fn a_run_in_flight_keeps_what_is_gone() {
    let text = saga(
        "  - { id: a, call: gone, with: { method: POST, path: /a }, compensate: { emit: gone.v9 } }\n  - { id: b, emit: gone.v9 }\n",
    );
    assert_eq!(codes(&text), ["S020", "S021", "S021"]);
    let saga = super::reload("test.yaml", &text).unwrap();
    assert!(matches!(&saga.step(0).action, Action::Call(call) if call.service.as_str() == "gone"));
}

#[test]
fn five_mistakes_give_five_diagnostics() {
    let text = "saga: five
stesp: []
steps:
  - id: a
    call: paymnets
    with: { method: POST, path: charges }
    timeout: 3
  - id: a
    set: ${ $inptu.x }
";
    let found = load(text).unwrap_err();
    let seen: Vec<_> = found.iter().map(|found| (found.code, found.line, found.column)).collect();
    assert_eq!(
        seen,
        [("S007", 2, 1), ("S020", 5, 11), ("S050", 6, 33), ("S011", 7, 14), ("S015", 8, 9), ("X003", 9, 13)]
    );
}

/// Compares every file of `tests/diagnostics` with its golden page; `UPDATE_GOLDEN=1` rewrites them.
#[test]
fn the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 150, "the corpus has only {} files", files.len());
    let world = World::new();
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let found = match super::load(name, &text, &world.environment()) {
            Ok(loaded) => loaded.warnings,
            Err(found) => found,
        };
        assert!(!found.is_empty(), "{name} is fine; the corpus holds mistakes");
        let code = name.split('_').next().unwrap();
        let named = CODES.iter().any(|(known, ..)| *known == code);
        assert!(!named || found.iter().any(|found| found.code == code), "{name} does not show {code}");
        let page = render_all(&found, &text, Style::Plain) + "\n";
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &page).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != page {
            wrong.push(format!("{name} now gives:\n{page}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 rewrites the pages; read the diff", wrong.join("\n"));
}

/// Compares a page that is made from the code with the one in `docs`.
fn check_page(path: &str, page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == page, "{path} is not what the code says; UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn every_code_is_explained_and_shown() {
    check_page("docs/diagnostics.md", &codes::page());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |folder: &str, extension: &str| {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
        files.map(|path| std::fs::read_to_string(path).unwrap()).collect::<String>()
    };
    let pages = read("tests/diagnostics", "txt");
    let sources = read("src/definition", "rs") + &read("src/expression", "rs");
    assert!(CODES.len() >= 40);
    let pages_of = |code: &str| {
        let shown = format!("[{code}]");
        let files = std::fs::read_dir(root.join("tests/diagnostics")).unwrap().map(|entry| entry.unwrap().path());
        let texts = files.filter(|path| path.extension().is_some_and(|found| found == "txt"));
        texts.filter(|path| std::fs::read_to_string(path).unwrap().contains(&shown)).count()
    };
    for (code, ..) in CODES {
        assert!(pages.contains(&format!("[{code}]")), "no file in tests/diagnostics shows {code}");
        // Many files about one code are one test written many times.
        assert!(pages_of(code) <= 8, "{} files in tests/diagnostics show {code}", pages_of(code));
    }
    // Every code in quotes in the sources is one of the list.
    for (at, _) in sources.match_indices('"') {
        let word = sources[at + 1..].split('"').next().unwrap_or_default();
        let is_code =
            word.len() == 4 && word.starts_with(['S', 'X']) && word[1..].bytes().all(|byte| byte.is_ascii_digit());
        assert!(!is_code || CODES.iter().any(|(code, ..)| *code == word), "{word} is not in CODES");
    }
}

#[test]
fn the_reference_names_everything() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/language.md");
    let page = std::fs::read_to_string(path).unwrap();
    let words: BTreeSet<&str> = page.split(|c: char| !(c.is_ascii_alphanumeric() || "_@$".contains(c))).collect();
    let functions = crate::expression::functions().collect::<Vec<_>>();
    let variables = crate::expression::Root::ALL.iter().map(|root| root.name());
    for word in functions.into_iter().chain(variables).chain(step::words()).chain(file::words()) {
        assert!(words.contains(word), "docs/language.md does not mention `{word}`");
    }
}

/// Every example of the reference loads, without a warning, fits the JSON Schema, has a normal form, and can be drawn.
#[test]
fn the_examples_of_the_reference_are_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/language.md");
    let page = std::fs::read_to_string(path).unwrap();
    let schema = crate::schema::Schema::compile(&crate::payload::Payload::of(&language::json_schema())).unwrap();
    let (mut count, mut kinds) = (0, BTreeSet::new());
    for block in page.split("```yaml\n").skip(1) {
        let example = block.split("```").next().unwrap();
        let text = if example.starts_with("saga:") {
            example.to_owned()
        } else if example.starts_with("on:") {
            format!("saga: example\n{example}steps:\n  - {{ id: nap, wait: 1s }}\n")
        } else {
            let steps: String = example.lines().map(|line| format!("  {line}\n")).collect();
            format!("saga: example\ninput: {{ schema: order.placed.v2 }}\nsteps:\n{steps}")
        };
        let loaded = load(&text).unwrap_or_else(|found| panic!("{}", render_all(&found, &text, Style::Plain)));
        assert_eq!(loaded.warnings, [], "{text}");
        let json = reader::Reader::new(&text, Vec::new()).json(&yaml::parse(&text).0.unwrap());
        assert!(schema.validate(&json).is_ok(), "{:#?}\n{text}", schema.validate(&json));
        let formatted = format("example.yaml", &text).unwrap();
        assert_eq!(format("example.yaml", &formatted).unwrap(), formatted);
        assert!(graph::mermaid(&graph::flow(&loaded.definition)).contains("flowchart"));
        kinds.extend(loaded.definition.steps.iter().map(|step| step.action.word()));
        count += 1;
    }
    assert!(count >= 10, "only {count} examples");
    let all =
        ["ask", "await", "call", "emit", "fail", "for", "parallel", "poll", "run", "set", "switch", "try", "wait"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all, "a kind without an example");
}
