//! Several versions of a saga side by side: which of them starts take, over restarts and reloads.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api_process::{Dev, WAIT, Workspace};

/// Version 2 is started by another event as well.
const OTHER: &str = "  - { event: other.happened.v1, key: \"other-${ $event.data.id }\" }\n";

/// Version `n` of a saga that notes which one it is.
fn noting(version: u32) -> String {
    let other = if version == 2 { OTHER } else { "" };
    format!(
        "saga: noting\nversion: {version}\non:\n  - event: thing.happened.v1\n    key: ${{ $event.data.id }}\n    \
         input: ${{ $event.data }}\n{other}steps:\n  - {{ id: noted, set: {version} }}\noutput: ${{ $steps.noted.output }}\n"
    )
}

async fn start(dev: &Dev, body: Value) -> Value {
    let (status, run) = dev.json("POST", "/api/v1/sagas/noting/runs?wait=30s", Some(&body.to_string())).await;
    assert!(status == 201 || status == 200, "{status} {run}");
    run["version"].clone()
}

/// Starts runs with the keys `FIRST0` … `FIRST199` by hand; returns how many took each version.
async fn spread(dev: &Dev, first: &str) -> BTreeMap<u64, usize> {
    let mut versions = BTreeMap::new();
    for number in 0..200 {
        let version = start(dev, json!({ "key": format!("{first}{number}") })).await;
        *versions.entry(version.as_u64().unwrap()).or_default() += 1;
    }
    versions
}

async fn refused(dev: &Dev, target: &str, body: Value, status: u16, part: &str) {
    let (got, problem) = dev.json("POST", target, Some(&body.to_string())).await;
    assert_eq!(got, status, "{problem}");
    assert!(problem.to_string().contains(part), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_gives_a_version_its_share_and_outlives_a_restart() {
    const ROLLOUT: &str = "/api/v1/sagas/noting/rollout";
    let workspace = Workspace::new();
    workspace.write("sagas/noting-1.yaml", &noting(1));
    workspace.write(
        "schemas/other.happened/v1.json",
        r#"{ "type": "object", "properties": { "id": { "type": "string" } } }"#,
    );
    let dev = Dev::start(&workspace, &[]);
    refused(&dev, ROLLOUT, json!({ "version": 1, "percent": 10 }), 409, "the only one").await;
    workspace.write("sagas/noting-2.yaml", &noting(2));
    workspace.write("sagas/noting-3.yaml", &noting(3));
    assert_eq!(dev.json("POST", "/api/v1/reload", None).await.0, 200);
    assert_eq!(spread(&dev, "before-").await, BTreeMap::from([(3, 200)]), "the newest");

    for (body, status, part) in [
        (json!({ "version": 4, "percent": 10 }), 409, "there are: 1, 2, 3"),
        (json!({ "version": 3, "percent": 101 }), 400, "0 to 100"),
    ] {
        refused(&dev, ROLLOUT, body, status, part).await;
    }
    refused(&dev, "/api/v1/sagas/notin/rollout", json!({ "version": 1, "percent": 1 }), 404, "did you mean `noting`")
        .await;
    refused(&dev, &format!("{ROLLOUT}/end"), json!({}), 409, "has no rollout").await;
    assert_eq!(dev.json("GET", ROLLOUT, None).await.0, 404);

    let url = dev.url();
    let (code, out, err) =
        workspace.told(&["rollout", "noting", "--version", "3", "--percent", "10", "--by", "ann", "--url", &url]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("noting: 10 of 100 starts take v3, the others v2 (since "), "{out}");
    let shared = spread(&dev, "shared-").await;
    assert!((5..45).contains(&shared[&3]) && shared[&2] + shared[&3] == 200, "a tenth, more or less: {shared:?}");
    assert_eq!(start(&dev, json!({ "key": "told", "version": 1 })).await, 1, "one that is told is not shared");
    let (_, out, _) = workspace.told(&["sagas", "--url", &url]);
    let shares: Vec<&str> = out.lines().filter(|line| line.contains("noting")).collect();
    assert!(shares[0].contains("10 %") && shares[1].contains("90 %") && shares[2].contains(" 0 %"), "{out}");

    // What starts only the other version starts it now.
    for number in 0..20 {
        let target = format!("/api/v1/events/other.happened.v1?id={number}&source=/other");
        assert_eq!(dev.json("POST", &target, Some(&json!({ "id": format!("{number}") }).to_string())).await.0, 202);
    }
    let deadline = std::time::Instant::now() + WAIT;
    loop {
        let (_, page) = dev.json("GET", "/api/v1/runs?saga=noting&limit=1000", None).await;
        let is_other = |run: &&Value| run["key"].as_str().is_some_and(|key| key.starts_with("other-"));
        let others: Vec<&Value> = page["runs"].as_array().unwrap().iter().filter(is_other).collect();
        if others.len() >= 10 {
            assert!(others.iter().all(|run| run["version"] == 2), "{others:?}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{} of some 18: {}", others.len(), dev.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    // It counts for events too, and a start that comes again finds its run whatever counts by then.
    assert!(dev.stop().success());
    let dev = Dev::start(&workspace, &[]);
    let (_, view) = dev.json("GET", ROLLOUT, None).await;
    assert_eq!((&view["percent"], &view["by"], &view["others"]), (&json!(10), &json!("ann"), &json!(2)), "{view}");
    assert_eq!(spread(&dev, "shared-").await, shared, "each found its run");
    for number in 0..100 {
        let body = json!({ "id": format!("event-{number}"), "size": 1 }).to_string();
        let target = format!("/api/v1/events/thing.happened.v1?id={number}&source=/test");
        assert_eq!(dev.json("POST", &target, Some(&body)).await.0, 202);
    }
    let deadline = std::time::Instant::now() + WAIT;
    let by_event = loop {
        let (_, page) = dev.json("GET", "/api/v1/runs?saga=noting&limit=1000", None).await;
        let mut versions: BTreeMap<u64, usize> = BTreeMap::new();
        for run in page["runs"].as_array().unwrap() {
            if run["key"].as_str().is_some_and(|key| key.starts_with("event-")) {
                *versions.entry(run["version"].as_u64().unwrap()).or_default() += 1;
            }
        }
        if versions.values().sum::<usize>() == 100 {
            break versions;
        }
        assert!(std::time::Instant::now() < deadline, "{versions:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!((1..30).contains(&by_event[&3]) && by_event[&2] + by_event[&3] == 100, "{by_event:?}");

    // The version that is rolled out is taken back: the newest that is there is started.
    std::fs::remove_file(workspace.path().join("sagas/noting-3.yaml")).unwrap();
    assert_eq!(dev.json("POST", "/api/v1/reload", None).await.0, 200);
    assert_eq!(spread(&dev, "back-").await, BTreeMap::from([(2, 200)]));
    assert_eq!(dev.json("GET", ROLLOUT, None).await.1["loaded"], false);
    let (code, out, err) = workspace.told(&["rollout", "noting", "--end", "--by", "ann", "--url", &dev.url()]);
    assert_eq!((code, out.trim()), (0, "noting: every start takes the newest version"), "{err}");
    let actions: Vec<_> = dev.client.audit(1).await.unwrap().entries;
    let actions: Vec<_> = actions.iter().map(|entry| (entry.action.as_str(), entry.by.as_deref())).collect();
    assert_eq!(actions, [("rollout", Some("ann")), ("end_rollout", Some("ann"))]);
    println!("rollout of v3 at 10 %: {shared:?} by hand, {by_event:?} by events");
}

/// Version `n` of a saga that waits for ann's answer in the middle.
fn asking(version: u32, undone: &str, behind: &str) -> String {
    format!(
        "saga: asking\nversion: {version}\nsteps:\n  - id: first\n    emit: thing.happened.v1\n    \
         data: {{ id: \"${{ $input.id }}\", size: 1 }}\n    \
         compensate: {{ emit: thing.happened.v1, data: {{ id: {undone}, size: 1 }} }}\n  \
         - {{ id: approve, ask: {{ title: Go on }} }}\n{behind}output: {version}\n"
    )
}

/// Starts a run of `asking` and returns its id as soon as it waits.
async fn asked(dev: &Dev, id: &str) -> String {
    let body = json!({ "key": id, "version": 1, "input": { "id": id } }).to_string();
    let (status, run) = dev.json("POST", "/api/v1/sagas/asking/runs", Some(&body)).await;
    assert_eq!(status, 201, "{run}");
    let run = run["id"].as_str().unwrap().to_owned();
    dev.until(&run, "waiting").await;
    run
}

async fn answer(dev: &Dev, run: &str) {
    let body = json!({ "step": "approve", "by": "ann", "answer": {} }).to_string();
    let (status, view) = dev.json("POST", &format!("/api/v1/runs/{run}/answer"), Some(&body)).await;
    assert_eq!(status, 200, "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_in_flight_move_to_another_version_in_one_step() {
    let workspace = Workspace::new();
    workspace.write("sagas/asking-1.yaml", &asking(1, "undone", "  - { id: note, set: 1 }\n"));
    let mut dev = Dev::start(&workspace, &[]);
    let (kept, moved, mended, over) =
        (asked(&dev, "kept").await, asked(&dev, "moved").await, asked(&dev, "mended").await, asked(&dev, "over").await);
    answer(&dev, &over).await;
    dev.until(&over, "completed").await;
    let longer = "  - { id: other, set: 2 }\n  - { id: more, set: 3 }\n";
    workspace.write("sagas/asking-2.yaml", &asking(2, "undone", longer));
    workspace.write("sagas/asking-3.yaml", &asking(3, "mended", longer));
    let narrow = "input: { schema: { type: object, required: [name] } }\n";
    workspace.write("sagas/asking-4.yaml", &format!("{}{narrow}", asking(4, "undone", longer)));
    assert_eq!(dev.json("POST", "/api/v1/reload", None).await.0, 200);
    let url = dev.url();
    let told = |arguments: &[&str]| {
        let (code, out, err) = workspace.told(&[&["migrate"], arguments, &["--url", &url]].concat());
        (code, format!("{out}{err}"))
    };
    let said = |(code, out): (i32, String), expected: i32, part: &str| {
        assert!(code == expected && out.contains(part), "{code}, not {expected} with `{part}`:\n{out}");
        out
    };

    // Who can move, and why not: nothing has happened by that.
    said(told(&[&moved, "--to", "2", "--check"]), 0, &format!("{moved} asking v1 -> v2: can move"));
    let undo = "the undo of `first`, which has begun, is another one in version 3";
    said(told(&[&moved, "--to", "3", "--check"]), 1, undo);
    said(told(&[&moved, "--to", "3", "--check", "--new-undo"]), 0, "can move");
    said(told(&[&moved, "--to", "4", "--check"]), 1, "its input does not fit version 4");
    said(told(&[&moved, "--to", "5"]), 1, "version 5 of asking is not loaded; there are: 1, 2, 3, 4");
    said(told(&[&over, "--to", "2", "--check"]), 1, "the run has ended");
    said(told(&[&moved, "--to", "3"]), 1, undo);
    let all = said(told(&["--all", "asking", "--to", "2", "--check"]), 0, "can move");
    assert_eq!(all.matches("can move").count(), 3, "each one that is open: {all}");
    assert_eq!(dev.json("GET", &format!("/api/v1/runs/{moved}"), None).await.1["version"], 1);

    said(told(&[&mended, "--to", "3", "--new-undo", "--by", "ann"]), 0, "v1 -> v3: moved");
    said(told(&["--all", "asking", "--to", "2", "--by", "bob"]), 1, "is another one in version 2");
    for run in [&kept, &moved] {
        assert_eq!(dev.json("GET", &format!("/api/v1/runs/{run}"), None).await.1["version"], 2);
    }
    // It is durable, and both definitions are found again: that of version 1 in the journal alone.
    dev.signal(rustix::process::Signal::KILL);
    dev.ended();
    std::fs::remove_file(workspace.path().join("sagas/asking-1.yaml")).unwrap();
    let dev = Dev::start(&workspace, &[]);
    answer(&dev, &moved).await;
    let view = dev.until(&moved, "completed").await;
    let steps: Vec<_> = view["steps"].as_array().unwrap().iter().map(|step| (&step["id"], &step["status"])).collect();
    assert_eq!(view["output"], 2, "{view}");
    let done = json!("done");
    assert_eq!(
        steps,
        ["first", "approve", "other", "more"].map(json_text).iter().map(|id| (id, &done)).collect::<Vec<_>>()
    );
    let (_, history) = dev.json("GET", &format!("/api/v1/runs/{moved}/history"), None).await;
    let lines: Vec<&str> = history.as_array().unwrap().iter().map(|entry| entry["text"].as_str().unwrap()).collect();
    assert!(lines.contains(&"moved to version 2, by bob"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("first")) && lines.iter().any(|line| line.starts_with("more")));
    // What had been done is undone as the version says that it moved to.
    let (status, _) = dev.json("POST", &format!("/api/v1/runs/{mended}/cancel"), None).await;
    assert_eq!(status, 200);
    dev.until(&mended, "compensated").await;
    let (_, out, _) =
        workspace.told(&["events", "tail", "thing.happened.v1", "--from", "1", "--no-follow", "--url", &dev.url()]);
    let last = out.lines().last().unwrap();
    assert!(last.contains(r#""id":"mended","size":1"#), "{out}");
}

fn json_text(text: &str) -> Value {
    Value::from(text)
}
