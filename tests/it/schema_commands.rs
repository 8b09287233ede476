//! `backstitch schema` as people and CI run it: in a folder, without a process.

use std::process::Command;

use serde_json::{Value, json};

use crate::api_process::{Dev, Workspace};

const V1: &str = r#"{ "type": "object", "required": ["id"], "properties": { "id": { "type": "string" } } }"#;

fn workspace(v2: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("schemas/box.packed/v1.json", V1);
    workspace.write("schemas/box.packed/v2.json", v2);
    workspace.write("schemas/box.packed/examples/v1.json", r#"{"id": "A"}"#);
    workspace
}

#[test]
fn versions_are_held_against_each_other() {
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], i32, &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        // why, version 2, more files, exit code, what is told
        (
            "a new optional property",
            r#"{ "type": "object", "required": ["id"], "properties": { "id": { "type": "string" }, "note": { "type": "string" } } }"#,
            &[],
            0,
            &["box.packed v1 to v2, backward: compatible", "no mistakes: 2 event types in 3 versions get along"],
        ),
        (
            "strictly it is none",
            r#"{ "type": "object", "required": ["id"], "properties": { "id": { "type": "string" }, "note": { "type": "string" } } }"#,
            &[("schemas/box.packed/policy.yaml", "profile: strict")],
            2,
            &["error[property_added_to_open_content]", "schemas/box.packed/v2.json", "note"],
        ),
        (
            "a new required property",
            r#"{ "type": "object", "required": ["id", "size"], "properties": { "id": { "type": "string" }, "size": { "type": "integer" } } }"#,
            &[],
            2,
            &["error[property_required]", "/size", "upcaster", "a document that shows it: {\"id\":"],
        ),
        (
            "bridged",
            r#"{ "type": "object", "required": ["id", "size"], "properties": { "id": { "type": "string" }, "size": { "type": "integer" } } }"#,
            &[("schemas/box.packed/v2.from-v1.jq", ". + {size: 1}")],
            0,
            &["box.packed v1 to v2, backward: bridged by schemas/box.packed/v2.from-v1.jq"],
        ),
        (
            "an upcaster that its example shows to be wrong",
            r#"{ "type": "object", "required": ["id", "size"], "properties": { "id": { "type": "string" }, "size": { "type": "integer" } } }"#,
            &[("schemas/box.packed/v2.from-v1.jq", ". + {size: \"1\"}")],
            2,
            &["v2.from-v1.jq", "at /size", "examples/v1.json"],
        ),
        (
            "an upcaster without an example",
            V1,
            &[("schemas/thing.happened/v2.json", "{}"), ("schemas/thing.happened/v2.from-v1.jq", ".")],
            2,
            &["thing.happened/v2.from-v1.jq", "add examples/v1.json"],
        ),
        (
            "an upcaster that is no jq, and one that leaves a version out",
            V1,
            &[("schemas/box.packed/v2.from-v1.jq", "{id\n  ."), ("schemas/box.packed/v4.from-v2.jq", ".")],
            2,
            &["v2.from-v1.jq", "line 2", "v4.from-v2.jq", "leaves versions out"],
        ),
        (
            "forward asks the other way round",
            r#"{ "type": "object", "properties": { "id": { "type": "string" } } }"#,
            &[("schemas/box.packed/policy.yaml", "compatibility: forward")],
            2,
            &["is not forward compatible with v1", "property_required", "downcaster"],
        ),
        (
            "a policy with a mistake",
            V1,
            &[("schemas/box.packed/policy.yaml", "compatibility: sideways")],
            2,
            &["policy.yaml", "line 1", "sideways"],
        ),
        ("a schema file with a mistake", r#"{ "type": "strin" }"#, &[], 2, &["v2.json", "at /type"]),
        (
            "a version that is none",
            V1,
            &[("schemas/box.packed/two.json", "{}")],
            2,
            &["two.json", "name the file vN.json"],
        ),
    ];
    for (why, v2, more, expected, parts) in rows {
        let workspace = workspace(v2);
        for (file, text) in *more {
            workspace.write(file, text);
        }
        let (code, out, error) = workspace.told(&["schema", "check"]);
        assert_eq!(code, *expected, "{why}:\n{out}{error}");
        for part in *parts {
            assert!(out.contains(part), "{why}: `{part}` is not told:\n{out}{error}");
        }
        let (code, out, _) = workspace.told(&["schema", "check", "--output", "json"]);
        assert_eq!(code, *expected, "{why}, as JSON");
        let view: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(view["compatible"], *expected == 0, "{why}: {view}");
    }
}

#[test]
fn a_deep_file_and_transitive_versions() {
    let deep = format!("{}{}{}", r#"{"not": "#.repeat(200), "{}", "}".repeat(200));
    let deep_workspace = workspace(&deep);
    let (code, out, _) = deep_workspace.told(&["schema", "check"]);
    assert_eq!(code, 2);
    assert!(out.contains("v2.json") && out.contains("deeper"), "{out}");

    // v3 gets along with v2, not with v1.
    let three = workspace(r#"{ "type": "object", "properties": { "id": { "type": ["string", "integer"] } } }"#);
    three.write(
        "schemas/box.packed/v1.json",
        r#"{ "type": "object", "properties": { "id": { "type": "string" }, "old": { "type": "string" } } }"#,
    );
    three.write("schemas/box.packed/v3.json", r#"{ "type": "object", "properties": { "id": { "type": ["string", "integer"] }, "old": { "type": "integer" } } }"#);
    assert_eq!(three.told(&["schema", "check"]).0, 0);
    three.write("schemas/box.packed/policy.yaml", "compatibility: backward_transitive\n");
    let (code, out, _) = three.told(&["schema", "check"]);
    assert_eq!(code, 2);
    assert!(out.contains("box.packed v3 is not backward compatible with v1") && out.contains("/old"), "{out}");
}

fn git(workspace: &Workspace, arguments: &[&str]) {
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
    let ran = Command::new("git").args(identity).args(arguments).current_dir(workspace.path()).output().unwrap();
    assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn against_what_was_published() {
    let workspace = workspace(V1);
    for arguments in [&["init", "-q"][..], &["add", "-A"], &["commit", "-qm", "one"]] {
        git(&workspace, arguments);
    }
    let (code, out, error) = workspace.told(&["schema", "check", "--against", "git:HEAD"]);
    assert_eq!(code, 0, "{out}{error}");

    // A published version changes, and another one goes.
    workspace.write(
        "schemas/box.packed/v1.json",
        r#"{ "type": "object", "required": ["id"], "properties": { "id": { "type": "string", "maxLength": 3 } } }"#,
    );
    std::fs::remove_file(workspace.path().join("schemas/box.packed/v2.json")).unwrap();
    let (code, out, _) = workspace.told(&["schema", "check", "--against", "git:HEAD"]);
    assert_eq!(code, 2);
    for part in [
        "box.packed v1 was published and has changed",
        "max_length_lowered",
        "/id",
        "version_removed",
        "box.packed.v2 is in git:HEAD",
    ] {
        assert!(out.contains(part), "`{part}` is not told:\n{out}");
    }
    let (code, _, error) = workspace.told(&["schema", "check", "--against", "git:nowhere"]);
    assert_eq!(code, 2);
    assert!(error.contains("nowhere"), "{error}");
    let (code, out, _) = workspace.told(&["schema", "check", "--against", "schemas"]);
    assert_eq!(code, 0, "against itself, as a folder: {out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn against_what_a_running_one_has_loaded() {
    let workspace = workspace(V1);
    std::fs::remove_dir_all(workspace.path().join("sagas")).unwrap();
    let dev = Dev::start(&workspace, &[]);
    let check = |url: &str| workspace.told(&["schema", "check", "--against", url]);
    let (code, out, error) = check(&dev.url());
    assert_eq!(code, 0, "{out}{error}");
    workspace.write(
        "schemas/box.packed/v1.json",
        r#"{ "type": "object", "required": ["id"], "properties": { "id": { "type": "string", "maxLength": 3 } } }"#,
    );
    let (code, out, _) = check(&dev.url());
    assert!(code == 2 && out.contains("box.packed v1 was published and has changed"), "{out}");
    assert!(out.contains("max_length_lowered"), "{out}");
    let url = dev.url();
    assert!(dev.stop().success());
    let (code, _, error) = check(&url);
    assert!(code != 0 && error.contains(url.trim_start_matches("http://")), "nobody is there: {error}");
}

#[test]
fn which_sagas_a_change_would_break() {
    let workspace = Workspace::new();
    git(&workspace, &["init", "-q"]);
    git(&workspace, &["add", "-A"]);
    git(&workspace, &["commit", "-qm", "one"]);
    // `id` is what the saga `quick` reads in its key.
    workspace.write("schemas/thing.happened/v1.json", r#"{ "type": "object", "required": ["number"], "additionalProperties": false, "properties": { "number": { "type": "integer" } } }"#);
    let (code, out, error) = workspace.told(&["schema", "check", "--used-by", "--against", "git:HEAD"]);
    assert_eq!(code, 2, "{out}{error}");
    for part in ["sagas/quick.yaml:5", "$event.data.id"] {
        assert!(out.contains(part), "`{part}` is not told:\n{out}{error}");
    }
}

#[test]
fn two_schemas_side_by_side() {
    let workspace = workspace(
        r#"{ "type": "object", "required": ["id"], "properties": { "id": { "type": ["string", "integer"] } } }"#,
    );
    let (code, out, error) = workspace.told(&["schema", "diff", "box.packed.v1", "box.packed.v2"]);
    assert_eq!(code, 0, "{out}{error}");
    for part in
        ["backward  compatible", "forward   incompatible", "[type_narrowed] /id", "a document that shows it: {\"id\":"]
    {
        assert!(out.contains(part), "`{part}` is not told:\n{out}");
    }
    let (code, out, _) = workspace.told(&[
        "schema",
        "diff",
        "schemas/box.packed/v1.json",
        "schemas/box.packed/v2.json",
        "--compatibility",
        "full",
        "--output",
        "json",
    ]);
    assert_eq!(code, 1);
    let view: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&view["verdict"], &view["backward"]["verdict"]), (&json!("incompatible"), &json!("compatible")));
    let (code, _, error) = workspace.told(&["schema", "diff", "box.packed.v1", "box.packed.v7"]);
    assert_eq!(code, 2);
    assert!(error.contains("no schema for box.packed.v7"), "{error}");
    let (code, out, _) = workspace.told(&["schema", "list"]);
    assert_eq!(code, 0);
    assert!(out.contains("box.packed") && out.contains("v1 v2"), "{out}");
}

#[test]
fn events_are_written_down() {
    let workspace = workspace(V1);
    let (code, out, error) = workspace.told(&["schema", "docs", "--out", "docs"]);
    assert_eq!(code, 0, "{out}{error}");
    let document: Value =
        serde_json::from_str(&std::fs::read_to_string(workspace.path().join("docs/asyncapi.json")).unwrap()).unwrap();
    assert_eq!(document["asyncapi"], "3.0.0");
    assert_eq!(document["channels"]["box.packed.v2"]["address"], "events.box.packed.v2");
    let operation = &document["operations"]["quick-v1-receive-thing.happened.v1"];
    assert_eq!(operation["channel"]["$ref"], "#/channels/thing.happened.v1");
    assert_eq!(document["components"]["messages"]["box.packed.v1"]["examples"][0]["payload"], json!({"id": "A"}));
    // Every reference leads somewhere.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
    let catalogue = std::fs::read_to_string(workspace.path().join("docs/events.md")).unwrap();
    for part in ["| [box.packed](#boxpacked) | v1 v2 |", "quick v1", "### box.packed.v1", "| `id` | string | yes |"] {
        assert!(catalogue.contains(part), "`{part}` is missing:\n{catalogue}");
    }
}
