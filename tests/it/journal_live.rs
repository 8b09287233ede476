//! The journal's tools on a process that works, and the drill: a backup taken under load, the data lost,
//! the backup put back.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use crate::checker;
use crate::counted::count;
use crate::load::Load;
use crate::rig::{Rig, alone, program, until};

fn tool(rig: &Rig, arguments: &[&str]) -> Output {
    Command::new(program())
        .args(["journal"])
        .args(arguments)
        .args(["--data", "data", "--url", rig.orchestrator.client.url()])
        .current_dir(rig.workspace.path())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { bytes_below(&path) } else { std::fs::metadata(&path).unwrap().len() })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_put_back_after_the_data_are_lost() {
    let _alone = alone().await;
    let config = "journal: { generation_bytes: 1048576 }\n";
    let mut rig = Rig::prepare("drill", &["--delay-ms", "20"], "data", config).await;
    rig.orchestrator.start().await.unwrap();
    let mut load = Load::default();
    load.send(&rig, "B", 60, 20_000).await;
    let before = load.ended(&rig).await.clone();

    // Under load, while commits go on.
    load.send(&rig, "C", 60, 20_000).await;
    let begun = Instant::now();
    let backup = tool(&rig, &["backup", "saved"]);
    let taken = begun.elapsed();
    assert!(backup.status.success(), "{}", said(&backup));
    assert!(said(&backup).contains("whole; every record passes its checksum"), "{}", said(&backup));
    let again = tool(&rig, &["backup", "saved"]);
    assert_eq!(again.status.code(), Some(2), "a backup is never written over: {}", said(&again));
    let verify = tool(&rig, &["verify"]);
    assert!(verify.status.success() && said(&verify).contains("whole"), "{}", said(&verify));
    let export = tool(&rig, &["export"]);
    let lines = String::from_utf8(export.stdout.clone()).unwrap();
    assert!(export.status.success(), "{}", said(&export));
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    assert!(lines.lines().count() > before.len(), "{} lines", lines.lines().count());
    let restore = tool(&rig, &["restore", "saved"]);
    assert_eq!(restore.status.code(), Some(4), "a journal in use is not replaced: {}", said(&restore));
    let ends = load.ended(&rig).await.clone();
    assert_eq!(checker::wrong(&rig, &ends).await, Vec::<String>::new());

    // The drill: process and data are gone.
    rig.orchestrator.kill().await;
    let data = rig.workspace.path().join("data");
    let bytes = bytes_below(&data);
    std::fs::remove_dir_all(&data).unwrap();
    let begun = Instant::now();
    let restore = tool(&rig, &["restore", "saved"]);
    assert!(restore.status.success(), "{}", said(&restore));
    let restored = begun.elapsed();
    rig.orchestrator.start().await.unwrap();
    let ready = begun.elapsed();
    for (order, (run, end)) in &before {
        let view = rig.orchestrator.client.run(*run).await.unwrap_or_else(|error| panic!("{order}: {error}"));
        assert_eq!(view.state, *end, "{order} had ended before the backup");
    }
    // What was done since the backup is done again under the same keys: nothing happens twice.
    until("every order has ended once more", async || {
        for (run, _) in ends.values() {
            let view = rig.orchestrator.client.run(*run).await;
            if view.is_ok_and(|view| !matches!(view.state.as_str(), "completed" | "compensated")) {
                return None;
            }
        }
        Some(())
    })
    .await;
    let ledger = rig.participants.ledger().await.unwrap();
    assert_eq!(backstitch::cli::demo::report::duplicates(&ledger), Vec::<String>::new());
    count(&format!(
        "backup under load {:.2} s; {} KiB lost, restored in {:.2} s, ready after {:.2} s",
        taken.as_secs_f64(),
        bytes >> 10,
        restored.as_secs_f64(),
        ready.as_secs_f64()
    ));
    rig.stop().await;
}
