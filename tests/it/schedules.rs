//! Sagas that the clock starts, through the real program: each moment once, whatever is killed; what was missed is
//! made up for where the file says so.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;

use crate::api_process::{Dev, WAIT, Workspace};

/// Returns the moments that runs of a saga were started for, as soon as there are so many: second by second.
async fn moments(dev: &Dev, saga: &str, count: usize) -> Vec<u64> {
    let deadline = Instant::now() + WAIT;
    loop {
        let (_, page) = dev.json("GET", &format!("/api/v1/runs?saga={saga}&limit=1000"), None).await;
        let runs: Vec<&Value> = page["runs"].as_array().unwrap().iter().collect();
        if runs.len() >= count && runs.iter().all(|run| run["state"] == "completed") {
            let mut found = Vec::new();
            for run in runs {
                let (_, view) = dev.json("GET", &format!("/api/v1/runs/{}", run["id"].as_str().unwrap()), None).await;
                let moment: jiff::Timestamp = view["output"].as_str().unwrap().parse().unwrap();
                assert_eq!(moment.as_millisecond() % 1_000, 0, "a moment of the schedule: {view}");
                found.push(moment.as_second().unsigned_abs());
            }
            found.sort_unstable();
            return found;
        }
        assert!(Instant::now() < deadline, "{count} runs of {saga} were expected: {page}\n{}", dev.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn tick(name: &str, catch_up: &str) -> String {
    format!(
        "saga: {name}\non:\n  - {{ every: 1s, catch_up: {catch_up} }}\nsteps:\n  - {{ id: noted, set: \"${{ $input.time }}\" }}\n\
         output: ${{ $steps.noted.output }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_moment_starts_one_run_and_missed_ones_are_made_up_for() {
    let workspace = Workspace::new();
    for (name, catch_up) in [("tick", "none"), ("last", "one"), ("every", "all")] {
        workspace.write(&format!("sagas/{name}.yaml"), &tick(name, catch_up));
    }
    workspace.write(
        "sagas/night.yaml",
        "saga: night\non: [{ cron: \"0 3 * * *\", timezone: Europe/Berlin }]\nsteps:\n  - { id: nap, wait: 1s }\n",
    );
    let mut dev = Dev::start(&workspace, &["--data", "data"]);
    let (_, saga) = dev.json("GET", "/api/v1/sagas/night", None).await;
    assert_eq!(saga["schedules"][0]["rhythm"], "cron 0 3 * * * (Europe/Berlin)", "{saga}");
    let next: jiff::Timestamp = saga["schedules"][0]["next"].as_str().unwrap().parse().unwrap();
    assert!(next > jiff::Timestamp::now(), "{saga}");
    let before = moments(&dev, "every", 2).await;
    moments(&dev, "last", 1).await;
    dev.signal(rustix::process::Signal::KILL);
    dev.ended();
    // Away for some moments.
    let killed = jiff::Timestamp::now().as_second().unsigned_abs();
    while jiff::Timestamp::now().as_second().unsigned_abs() < killed + 4 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let dev = Dev::start(&workspace, &["--data", "data"]);
    let back = jiff::Timestamp::now().as_second().unsigned_abs();
    let every = moments(&dev, "every", before.len() + 6).await;
    let unique: BTreeSet<&u64> = every.iter().collect();
    assert_eq!(unique.len(), every.len(), "no moment twice: {every:?}");
    assert!(every.windows(2).all(|two| two[1] == two[0] + 1), "`all` leaves none out: {every:?}");
    let last = moments(&dev, "last", 3).await;
    let made_up = last.iter().filter(|at| **at > killed && **at < back - 1).count();
    assert!(made_up <= 1, "`one` makes up for the last one only: {last:?}, away from {killed} to {back}");
    let tick = moments(&dev, "tick", 2).await;
    let missed = tick.iter().filter(|at| **at > killed && **at + 1 < back).count();
    assert_eq!(missed, 0, "`none` makes up for none: {tick:?}, away from {killed} to {back}");
    let all: BTreeSet<&u64> = tick.iter().collect();
    assert_eq!(all.len(), tick.len());
}
