//! Child runs over a kill: many parents and children come back together, each once, and a cancel of a parent
//! reaches its child.

use rustix::process::Signal;
use serde_json::Value;

use crate::api_process::{Dev, Workspace};
use crate::connector_peer::{Peer, Play, answer};

const PARENTS: usize = 150;

async fn open_runs(dev: &Dev, saga: &str) -> Vec<Value> {
    let (_, page) = dev.json("GET", &format!("/api/v1/runs?saga={saga}&limit=1000"), None).await;
    page["runs"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_and_children_come_back_together() {
    let workspace = Workspace::new();
    workspace.write("sagas/kid.yaml", "saga: kid\nsteps:\n  - { id: nap, wait: 1h }\n");
    workspace.write(
        "sagas/parent.yaml",
        "saga: parent\nsteps:\n  - { id: kid, run: kid, input: {}, compensate: none }\n  - { id: last, set: 1 }\n",
    );
    let mut dev = Dev::start(&workspace, &[]);
    let mut parents = Vec::new();
    for number in 0..PARENTS {
        let body = format!(r#"{{"key": "P-{number}"}}"#);
        let (status, run) = dev.json("POST", "/api/v1/sagas/parent/runs", Some(&body)).await;
        assert_eq!(status, 201, "{run}");
        parents.push(run["id"].as_str().unwrap().to_owned());
    }
    let deadline = std::time::Instant::now() + crate::api_process::WAIT;
    while open_runs(&dev, "kid").await.len() < PARENTS {
        assert!(std::time::Instant::now() < deadline, "{}", dev.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for life in 0..4 {
        dev.signal(Signal::KILL);
        dev.ended();
        dev = Dev::start(&workspace, &[]);
        for saga in ["kid", "parent"] {
            let runs = open_runs(&dev, saga).await;
            let open = runs.iter().filter(|run| run["state"] == "waiting" || run["state"] == "running").count();
            assert_eq!((runs.len(), open), (PARENTS, PARENTS), "life {life}, {saga}: {}", dev.log());
        }
    }
    let cancelled = &parents[7];
    assert_eq!(dev.json("POST", &format!("/api/v1/runs/{cancelled}/cancel"), None).await.0, 200);
    dev.until(cancelled, "compensated").await;
    let kids = open_runs(&dev, "kid").await;
    assert_eq!(kids.iter().filter(|run| run["state"] == "compensated").count(), 1, "its child, and no other");
    assert!(dev.stop().success());
}

/// A step that runs a saga with a pivot is a pivot, though it does not say so; and stays one for the runs that began
/// so, whatever the child's file says by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_with_a_pivot_makes_its_step_one() {
    let peer = Peer::start([Play::Say(answer("200 OK", &[], "{}"))]).await;
    let workspace = Workspace::new();
    let child = "saga: inner\nversion: 1\nsteps:\n  - id: point\n    call: svc\n    with: { method: POST, path: /point }\n    pivot: true\n";
    let parent = "saga: outer\nversion: 1\nsteps:\n  - { id: before, call: svc, with: { method: POST, path: /before }, compensate: { with: { method: DELETE, path: /before } } }\n  \
                  - { id: inner, run: inner }\n  - { id: behind, call: svc, with: { method: POST, path: /behind } }\n  - { id: nap, wait: 1h }\n";
    workspace.write("sagas/inner.yaml", child);
    workspace.write("sagas/outer.yaml", parent);
    workspace.write(
        "backstitch.yaml",
        &format!("telemetry: {{ otlp: off }}\nservices:\n  svc: {{ url: \"http://{}\" }}\n", peer.address),
    );
    let (code, said, problems) = workspace.told(&["validate"]);
    assert_eq!(code, 0, "what is behind it needs no undo: {said}{problems}");
    let mut dev = Dev::start(&workspace, &["--data", "data"]);
    let start = async |dev: &Dev| {
        let (_, run) = dev.json("POST", "/api/v1/sagas/outer/runs", Some("{}")).await;
        let run = run["id"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned();
        dev.until(&run, "waiting").await;
        run
    };
    let cancel =
        async |dev: &Dev, run: &str| dev.json("POST", &format!("/api/v1/runs/{run}/cancel"), Some("{}")).await.0;
    let run = start(&dev).await;
    assert_eq!(cancel(&dev, &run).await, 409);
    assert!(dev.stop().success());

    workspace.write("sagas/inner.yaml", &child.replace("    pivot: true\n", "    compensate: none\n"));
    workspace.write("sagas/outer.yaml", &parent.replace("path: /behind } }", "path: /behind }, compensate: none }"));
    dev = Dev::start(&workspace, &["--data", "data"]);
    dev.until(&run, "waiting").await;
    assert_eq!(cancel(&dev, &run).await, 409, "it goes on as it began");
    let other = start(&dev).await;
    assert_eq!(cancel(&dev, &other).await, 200);
    dev.until(&other, "compensated").await;
    assert!(dev.stop().success());
}
