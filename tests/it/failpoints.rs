//! SIGKILL at each named place (`src/failpoint.rs`), one life after the other, with orders under way in all of
//! them. Whatever the place, everything acknowledged comes to its end and nothing is done twice.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use backstitch::failpoint::{ALL, VARIABLE};
use rustix::process::{Pid, Signal, kill_process};

use crate::checker;
use crate::counted::count;
use crate::load::Load;
use crate::rig::{Rig, alone};

/// Orders in one life; their data fill a generation of the journal (1 MiB) about once.
const ORDERS: usize = 8;
const ORDER_BYTES: usize = 60_000;
/// Lives that a place may take until it is passed: most take one, a turn or a removal some more orders.
const WAVES_MAX: usize = 30;

/// Which passing of a place is the last: where work passes it all the time, one in the thick of it.
fn turn_of(place: &str) -> u32 {
    match place.split_once('.').unwrap_or_default().0 {
        "journal" | "transition" | "commit" | "attempt" => 7,
        "intake" if place != "intake.dead_letter" => 2,
        _ => 1,
    }
}

/// Waits until the process has ended by itself.
async fn died(rig: &mut Rig, wait: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + wait;
    while Instant::now() < deadline {
        if rig.orchestrator.has_ended() {
            return rig.orchestrator.ended().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_every_named_place_loses_nothing() {
    let _alone = alone().await;
    let config = "journal: { generation_bytes: 1048576, retention_bytes: 25165824, free_bytes_min: 1048576 }\n";
    let mut rig = Rig::prepare("failpoints", &["--delay-ms", "30"], "data", config).await;
    // Streams are declared by a first life, so that orders can come in while no process runs.
    rig.orchestrator.start().await.unwrap();
    rig.orchestrator.kill().await;
    let mut load = Load::default();
    for place in ALL {
        let armed = format!("{place}@{}", turn_of(place));
        rig.orchestrator.set_environment(&[(VARIABLE, &armed)]);
        rig.orchestrator.spawn().unwrap();
        let mut status = None;
        for wave in 0..WAVES_MAX {
            load.send(&rig, "F", ORDERS, ORDER_BYTES).await;
            if wave == 1 && place.starts_with("drain.") {
                let pid = rig.orchestrator.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
                kill_process(pid, Signal::TERM).unwrap();
            }
            status = died(&mut rig, Duration::from_millis(if place.starts_with("drain.") { 3_000 } else { 400 })).await;
            if status.is_some() {
                break;
            }
        }
        let status = status.unwrap_or_else(|| panic!("{place} was not passed:\n{}", rig.orchestrator.log_end()));
        assert_eq!(status.signal(), Some(9), "{place}: {status}:\n{}", rig.orchestrator.log_end());
        let log = rig.orchestrator.log();
        // Other threads may log something in the moment before the signal.
        let last = log.lines().rev().find_map(|line| line.strip_prefix("failpoint "));
        assert_eq!(last, Some(*place), "{place}:\n{}", rig.orchestrator.log_end());
    }
    rig.orchestrator.set_environment(&[]);
    rig.orchestrator.start().await.unwrap();
    // Nobody refuses here. The first runs' retention has passed by now; services and stream tell of them.
    let ends = load.all_completed().await;
    assert_eq!(checker::wrong(&rig, &ends).await, Vec::<String>::new());
    let aside = checker::dead_letters(&rig).await;
    assert!(aside >= load.poison, "{aside} of {} messages that are no events were put aside", load.poison);
    count(&format!("{} failpoints, each passed and killed at; {} orders, all completed", ALL.len(), ends.len()));
    assert!(ALL.len() >= 20);
    rig.stop().await;
}
