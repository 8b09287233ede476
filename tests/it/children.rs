//! Child runs over a kill: many parents and children come back together, each once, and a cancel of a parent
//! reaches its child.

use rustix::process::Signal;
use serde_json::Value;

use crate::api_process::{Dev, Workspace};

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
