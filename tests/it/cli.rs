//! The commands of the real program: what they print, their exit codes, and how processes begin and end.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::api_process::{Dev, Workspace};
use crate::server::NatsServer;

#[test]
fn commands_against_a_running_process() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let url = dev.url();
    let told = |arguments: &str| {
        let mut arguments: Vec<&str> = arguments.split('|').collect();
        arguments.extend(["--url", &url]);
        workspace.told(&arguments)
    };
    let good = r#"{"id":"A-1","size":3}"#;
    let rows: Vec<(&str, String, i32, &str)> = vec![
        ("publish", format!("publish|thing.happened.v1|--data|{good}|--id|E-1"), 0, "published E-1 as number 1"),
        ("again", format!("publish|thing.happened.v1|--data|{good}|--id|E-1"), 0, "which the bus had already"),
        ("wrong data", "publish|thing.happened.v1|--data|{}".into(), 2, "/size"),
        ("no JSON", "publish|thing.happened.v1|--data|{".into(), 2, "is not JSON"),
        ("start and wait", format!("start|quick|--input|{good}|--key|K|--wait"), 0, "completed"),
        ("the same key", format!("start|quick|--input|{good}|--key|K"), 0, "this key has a run already"),
        ("a key conflict", r#"start|quick|--input|{"id":"B","size":1}|--key|K"#.into(), 1, "began with other input"),
        ("not ended in time", "start|slow|--key|S|--wait|50ms".into(), 6, "is still waiting"),
        ("no such saga", "start|quik".into(), 1, "did you mean `quick`?"),
        ("list", "list|--saga|slow".into(), 0, "slow v1"),
        ("list nothing", "list|--state|parked".into(), 0, "no runs"),
        ("a bad filter", "list|--state|stuck".into(), 2, "running, waiting"),
        ("sagas", "sagas".into(), 0, "thing.happened.v1"),
        ("healthcheck", "healthcheck".into(), 0, "ok"),
        ("ready", "healthcheck|--ready".into(), 0, "nats"),
        ("no such run", "show|62e7b8b3-17f5-5744-8f71-b8115137432f".into(), 1, "no run"),
        ("no run id", "show|A-1".into(), 2, "a run's id is a UUID"),
        ("an unknown command", "frobnicate".into(), 2, "unrecognized subcommand"),
    ];
    for (why, arguments, code, part) in rows {
        let (exit, stdout, stderr) = told(&arguments);
        assert_eq!(exit, code, "{why}: {stdout}{stderr}");
        assert!(format!("{stdout}{stderr}").contains(part), "{why}: {stdout}{stderr}");
        assert!(!stdout.contains('\u{1b}'), "{why}: no colours in a pipe");
    }

    let slow = backstitch::id::RunId::keyed(&"slow".parse().unwrap(), "S").to_string();
    for (why, arguments, code, part) in [
        ("show", format!("show|{slow}"), 0, "nap"),
        ("pause", format!("pause|{slow}"), 0, "is paused"),
        ("resume", format!("resume|{slow}"), 0, "is waiting"),
        ("not now", format!("resolve|{slow}|--not-done"), 1, "does not allow this"),
        ("cancel", format!("cancel|{slow}|--reason|enough"), 0, "cancel: run"),
        ("watch to the end", format!("watch|{slow}"), 0, "compensated"),
        ("history", format!("history|{slow}"), 0, "enough"),
    ] {
        let (exit, stdout, stderr) = told(&arguments);
        assert_eq!(exit, code, "{why}: {stdout}{stderr}");
        assert!(format!("{stdout}{stderr}").contains(part), "{why}: {stdout}{stderr}");
    }
    for arguments in ["list|--output|json", "sagas|--output|json", "healthcheck|--output|json"] {
        let (exit, stdout, stderr) = told(arguments);
        assert_eq!(exit, 0, "{arguments}: {stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap_or_else(|error| panic!("{arguments}: {error}: {stdout}"));
    }
    for arguments in [format!("show|{slow}|--output|json"), format!("history|{slow}|--output|json")] {
        serde_json::from_str::<Value>(&told(&arguments).1).unwrap();
    }
    let lines = told(&format!("watch|{slow}|--output|json")).1;
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
}

#[test]
fn nobody_there_is_exit_code_3() {
    let workspace = Workspace::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for command in ["list", "sagas", "healthcheck", "watch"] {
        let (exit, _, stderr) = workspace.told(&[command, "--url", &url]);
        assert_eq!(exit, 3, "{command}: {stderr}");
        assert!(stderr.contains("cannot reach") && stderr.contains("backstitch dev"), "{stderr}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let workspace = Workspace::new();
    let mut child =
        workspace.command(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn validate_finds_all_mistakes_at_once() {
    let workspace = Workspace::new();
    let (exit, stdout, _) = workspace.told(&["validate"]);
    assert_eq!((exit, stdout.trim()), (0, "no mistakes: quick v1, slow v1; 1 event types"));

    let wrong = "\
saga: Wrong_Name
version: 0
steps:
  - id: one
    call: nobody
    with: { method: POST, path: / }
  - id: one
    wait: soon
  - id: two
    emit: thing.hapened.v1
    data: { id: \"${ $imput.id }\" }
    compensate: none
  - id: three
    set: { done: true }
";
    workspace.write("sagas/wrong.yaml", wrong);
    let (exit, stdout, stderr) = workspace.told(&["validate", "--output", "json"]);
    assert_eq!(exit, 2, "{stdout}{stderr}");
    let findings: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let errors: Vec<&Value> = findings.iter().filter(|one| one["severity"] == "error").collect();
    assert!(errors.len() >= 5, "{stdout}");
    for error in &errors {
        assert!(error["file"] == "sagas/wrong.yaml" && error["line"].as_u64() > Some(0), "{error}");
    }
    let (exit, stdout, stderr) = workspace.told(&["validate", "sagas/wrong.yaml"]);
    assert_eq!(exit, 2);
    assert!(stdout.contains("sagas/wrong.yaml:5:") && stdout.contains("^^^"), "{stdout}");
    assert!(stderr.contains("mistakes found"), "{stderr}");
    let (exit, stdout, _) = workspace.told(&["validate", "--output", "github"]);
    assert_eq!((exit, stdout.starts_with("::error file=sagas/wrong.yaml,line=")), (2, true), "{stdout}");

    let (exit, _, stderr) = workspace.told(&["dev", "--listen", "127.0.0.1:0"]);
    assert_eq!(exit, 2, "dev does not start with mistakes: {stderr}");
    workspace.write("backstitch.yaml", "api: { listne: 1 }\n");
    let (exit, stdout, _) = workspace.told(&["config", "check"]);
    assert_eq!((exit, stdout.contains("backstitch.yaml:1:")), (2, true), "{stdout}");
}

#[test]
fn beyond_loopback_a_token_is_needed() {
    let workspace = Workspace::new();
    let (exit, _, stderr) = workspace.told(&["dev", "--listen", "0.0.0.0:0"]);
    assert_eq!(exit, 2, "{stderr}");
    assert!(stderr.contains("for everybody") && stderr.contains("api.token"), "{stderr}");
}

#[test]
fn a_second_process_is_refused_with_the_holders_pid() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let pid = dev.pid().to_string();
    for arguments in [
        &["dev", "--listen", "127.0.0.1:0"][..],
        &["dev", "--listen", "127.0.0.1:0", "--fresh"],
        &["serve", "--listen", "127.0.0.1:0", "--nats", "nats://127.0.0.1:1"],
    ] {
        let (exit, _, stderr) = workspace.told(arguments);
        assert_eq!(exit, 4, "{arguments:?}: {stderr}");
        assert!(stderr.contains(&pid), "{arguments:?} names process {pid}: {stderr}");
    }
    let (exit, ..) = workspace.told(&["healthcheck", "--url", &dev.url()]);
    assert_eq!(exit, 0, "the first goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_and_runs_go_on_at_the_next_start() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let (_, started) = dev.json("POST", "/api/v1/sagas/slow/runs", Some("{}")).await;
    let run = started["id"].as_str().unwrap().to_owned();
    let nats = nats_pid(&workspace);
    assert!(is_alive(nats));
    let status = dev.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!is_alive(nats), "its nats-server has gone with it");

    let dev = Dev::start(&workspace, &[]);
    assert_eq!(dev.announcement["runs_resumed"], 1);
    dev.until(&run, "waiting").await;
    drop(dev);
    let dev = Dev::start(&workspace, &["--fresh"]);
    assert_eq!(dev.announcement["runs_resumed"], 0, "begun anew");
    assert_eq!(dev.json("GET", &format!("/api/v1/runs/{run}"), None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_no_nats_server_behind_for_long() {
    let workspace = Workspace::new();
    let mut dev = Dev::start(&workspace, &[]);
    let (_, started) = dev.json("POST", "/api/v1/sagas/slow/runs", Some(r#"{"key": "S"}"#)).await;
    let nats = nats_pid(&workspace);
    let nats_url = dev.announcement["nats_url"].clone();
    dev.signal(Signal::KILL);
    dev.ended();
    assert!(is_alive(nats), "it outlives a kill");

    let dev = Dev::start(&workspace, &[]);
    assert!(!is_alive(nats), "and is stopped at the next start");
    assert_eq!(dev.announcement["nats_url"], nats_url, "clients find the new one at the same place");
    assert!(dev.announcement["own_nats"].as_str().unwrap().contains(&nats.to_string()));
    assert_eq!(dev.announcement["runs_resumed"], 1);
    let (status, again) = dev.json("POST", "/api/v1/sagas/slow/runs", Some(r#"{"key": "S"}"#)).await;
    assert_eq!((status, &again["id"]), (200, &started["id"]), "what was acknowledged is there");

    // It also comes back when it dies alone.
    let nats = nats_pid(&workspace);
    kill_process(Pid::from_raw(nats).unwrap(), Signal::KILL).unwrap();
    let body = r#"{"id": "A-1", "size": 3}"#;
    let deadline = std::time::Instant::now() + crate::api_process::WAIT;
    loop {
        let (status, answer) = dev.json("POST", "/api/v1/events/thing.happened.v1", Some(body)).await;
        if status == 202 {
            break;
        }
        assert_eq!(status, 503, "{answer}");
        assert!(std::time::Instant::now() < deadline, "NATS does not come back: {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_ne!(nats_pid(&workspace), nats);
}

#[test]
fn a_second_signal_ends_at_once() {
    let workspace = Workspace::new();
    // A service that takes the call and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let saga = format!(
        "saga: stuck\nversion: 1\nservices: {{ silent: {{ url: \"http://{}\", timeout: 10m }} }}\nsteps:\n  - id: wait_for_it\n    call: silent\n    with: {{ method: GET, path: / }}\n",
        silent.local_addr().unwrap()
    );
    workspace.write("sagas/stuck.yaml", &saga);
    let mut dev = Dev::start(&workspace, &["--drain", "10m"]);
    let (exit, _, stderr) = workspace.told(&["start", "stuck", "--url", &dev.url()]);
    assert_eq!(exit, 0, "{stderr}");
    let (_call, _) = silent.accept().unwrap();
    dev.signal(Signal::TERM);
    while !dev.log().contains("a second signal stops at once") {
        std::thread::yield_now();
    }
    assert!(is_alive(i32::try_from(dev.pid()).unwrap()), "it drains");
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_works_without_nats_and_says_so() {
    let workspace = Workspace::new();
    let mut nats = NatsServer::start();
    nats.kill();
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--output",
        "json",
        "--nats",
        &nats.url(),
        "--nats-monitor",
        &nats.monitor_url(),
    ];
    let dev = Dev::spawn(workspace.command(&arguments), workspace.path());
    assert_eq!(dev.announcement["nats"]["ready"], false, "{}", dev.announcement);
    let answer = dev.ask("GET", "/readyz", &[], None).await;
    assert_eq!((answer.status.as_u16(), answer.headers.contains_key("retry-after")), (503, true));
    let (status, readiness) = dev.json("GET", "/readyz", None).await;
    assert_eq!((status, &readiness["parts"]["nats"]["ready"]), (503, &Value::Bool(false)), "{readiness}");
    assert_eq!(dev.json("GET", "/healthz", None).await.0, 200);
    let body = r#"{"id": "A-1", "size": 3}"#;
    let answer = dev.ask("POST", "/api/v1/events/thing.happened.v1", &[], Some(body)).await;
    assert_eq!((answer.status.as_u16(), answer.headers.contains_key("retry-after")), (503, true));
    // Starts need no NATS: the journal accepts them.
    let started = dev.json("POST", "/api/v1/sagas/quick/runs?wait=30s", Some(&format!("{{\"input\": {body}}}"))).await;
    assert_eq!((started.0, started.1["state"].as_str()), (201, Some("completed")));

    nats.start_again();
    let deadline = std::time::Instant::now() + crate::api_process::WAIT;
    while dev.json("GET", "/readyz", None).await.0 != 200 {
        assert!(std::time::Instant::now() < deadline, "it does not become ready: {}", dev.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(dev.json("POST", "/api/v1/events/thing.happened.v1", Some(body)).await.0, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_verified_backed_up_restored_and_exported() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let (_, started) = dev.json("POST", "/api/v1/sagas/slow/runs", Some(r#"{"key": "before"}"#)).await;
    let (exit, _, stderr) = workspace.told(&["journal", "verify"]);
    assert_eq!((exit, stderr.contains(&dev.pid().to_string())), (4, true), "in use: {stderr}");
    dev.stop();

    let (exit, stdout, stderr) = workspace.told(&["journal", "verify", "--output", "json"]);
    assert_eq!(exit, 0, "{stderr}");
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["findings"], serde_json::json!([]));
    let (exit, stdout, stderr) = workspace.told(&["journal", "backup", "copy"]);
    assert_eq!((exit, stdout.contains("copied")), (0, true), "{stdout}{stderr}");
    let (exit, ..) = workspace.told(&["journal", "backup", "copy"]);
    assert_eq!(exit, 2, "never over another one");
    let (exit, stdout, _) = workspace.told(&["journal", "export"]);
    assert!(exit == 0 && stdout.lines().count() > 1, "{stdout}");
    assert!(stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{stdout}");
    let (exit, stdout, stderr) = workspace.told(&["journal", "export", "--to", "records.jsonl"]);
    assert_eq!((exit, stdout.contains("records.jsonl")), (0, true), "{stdout}{stderr}");
    let (exit, stdout, stderr) = workspace.told(&["journal", "import", "records.jsonl", "--data", "imported"]);
    assert_eq!((exit, stdout.contains("imported"), stderr.as_str()), (0, true, ""), "{stdout}");
    let (exit, _, stderr) = workspace.told(&["journal", "import", "records.jsonl", "--data", "imported"]);
    assert_eq!((exit, stderr.contains("is there already")), (2, true), "{stderr}");
    let (exit, _, stderr) = workspace.told(&["journal", "import", "no-such-file"]);
    assert_eq!((exit, stderr.contains("cannot open no-such-file")), (2, true), "{stderr}");

    let dev = Dev::start(&workspace, &[]);
    assert_eq!(dev.json("POST", "/api/v1/sagas/slow/runs", Some(r#"{"key": "after"}"#)).await.0, 201);
    dev.stop();
    let (exit, stdout, stderr) = workspace.told(&["journal", "restore", "copy"]);
    assert_eq!((exit, stdout.contains("before")), (0, true), "{stdout}{stderr}");
    let dev = Dev::start(&workspace, &[]);
    assert_eq!(dev.announcement["runs_resumed"], 1, "the run before the backup, not the one after");
    dev.until(started["id"].as_str().unwrap(), "waiting").await;
    dev.stop();

    let generations = workspace.path().join(".backstitch/generations");
    let generation = std::fs::read_dir(generations).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(generation.join("db")).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    std::fs::write(generation.join("db"), bytes).unwrap();
    let (exit, stdout, stderr) = workspace.told(&["journal", "verify"]);
    assert_eq!(exit, 5, "{stdout}{stderr}");
    let (exit, _, stderr) = workspace.told(&["dev", "--listen", "127.0.0.1:0"]);
    assert_eq!((exit, stderr.contains("damaged")), (5, true), "never a silently empty start: {stderr}");
}

#[test]
fn doctor_says_what_is_missing() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let nats = dev.announcement["nats_url"].as_str().unwrap();
    workspace.write(
        "backstitch.yaml",
        &format!("nats: {{ url: \"{nats}\", monitor_url: \"\" }}\ntelemetry: {{ otlp: off }}\n"),
    );
    let (exit, stdout, stderr) = workspace.told(&["doctor", "--url", &dev.url(), "--output", "json"]);
    assert_eq!(exit, 0, "{stdout}{stderr}");
    let checks: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let state = |name: &str| {
        checks.iter().find(|check| check["name"] == name).map(|check| check["state"].as_str().unwrap().to_owned())
    };
    for name in ["configuration", "sagas", "nats-server", "data", "nats", "api"] {
        assert_eq!(state(name).as_deref(), Some("ok"), "{name}: {stdout}");
    }
    assert!(stdout.contains(&format!("used by process {}", dev.pid())), "{stdout}");
    drop(dev);
    workspace.write("sagas/wrong.yaml", "saga: x\n");
    let (exit, stdout, _) = workspace.told(&["doctor", "--url", "http://127.0.0.1:1"]);
    assert_eq!(exit, 1, "{stdout}");
    assert!(stdout.contains("backstitch validate") && stdout.contains("backstitch dev"), "{stdout}");
}

fn nats_pid(workspace: &Workspace) -> i32 {
    let file = workspace.path().join(".backstitch/nats/nats.pid");
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// True while the process runs; one that has ended and was not collected by its parent does not.
fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// The commands on files: `validate` with warnings apart, `fmt`, `graph` with the undo plan.
#[test]
fn commands_on_saga_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("sagas")).unwrap();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_backstitch"))
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    write(
        "sagas/trip.yaml",
        "saga:   trip  # two ways\nservices: {hotels: {url: 'http://127.0.0.1:1'}}\nsteps:\n- {id: note, set: {gift: no}}\n- {id: hotel, call: hotels, with: {method: POST, path: /a}, compensate: {with: {method: DELETE, path: /a}}}\n- {id: end, wait: 1s}\n",
    );
    let rows: &[(&str, &[&str], i32, &str)] = &[
        ("a warning is no mistake", &["validate"], 0, "no mistakes: trip v1"),
        ("where warnings are denied, it is", &["validate", "--deny", "warnings"], 2, "1 warning found"),
        ("for programs", &["validate", "--output", "json"], 0, "\"severity\": \"warning\""),
        ("for a workflow", &["validate", "--output", "github"], 0, "::warning file=sagas/trip.yaml,line=4"),
        ("for a scanner", &["validate", "--output", "sarif"], 0, "\"version\": \"2.1.0\""),
        ("not in normal form", &["fmt", "--check"], 1, "1 of 1 files are not in normal form"),
        ("formatted", &["fmt"], 0, "sagas/trip.yaml"),
        ("in normal form", &["fmt", "--check", "sagas/trip.yaml"], 0, ""),
        ("by name", &["graph", "trip"], 0, "flowchart TD"),
        ("by file, for Graphviz", &["graph", "sagas/trip.yaml", "--format", "dot"], 0, "digraph \"trip v1\""),
        ("drawn", &["graph", "trip", "--format", "svg"], 0, "</svg>"),
        ("what is undone", &["graph", "trip", "--undo-from", "end"], 0, "2. hotel: hotels DELETE /a"),
        ("an unknown step", &["graph", "trip", "--undo-from", "hotl"], 2, "did you mean hotel?"),
        ("an unknown saga", &["graph", "tripp"], 2, "did you mean trip?"),
    ];
    for (why, arguments, code, part) in rows {
        let (exit, stdout, stderr) = run(arguments);
        assert_eq!(exit, *code, "{why}: {stdout}{stderr}");
        assert!(format!("{stdout}{stderr}").contains(part), "{why}: {stdout}{stderr}");
    }
    let kept = std::fs::read_to_string(folder.path().join("sagas/trip.yaml")).unwrap();
    assert!(
        kept.starts_with("saga: trip    # two ways\nservices: { hotels:") && kept.contains("\n  - { id: note"),
        "{kept}"
    );
    write("sagas/trip.yaml", "saga: trip\nsteps: [\n");
    let (exit, _, stderr) = run(&["fmt"]);
    assert!(exit == 2 && stderr.contains("S001"), "{exit} {stderr}");
}
