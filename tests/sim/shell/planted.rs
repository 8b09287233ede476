//! Every mistake that can be planted into the coordinator is found by a random story: `make planted`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::time::Instant;

use backstitch::planted::{COORDINATOR, plant};

use super::story::tell;
use crate::planted::PLANTING;

/// Stories in which a mistake may stay hidden: about ten seconds.
const SEEDS: u64 = 400;

#[test]
fn every_planted_mistake_of_the_coordinator_is_found() {
    let _planting = PLANTING.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in 1..40 {
        assert_eq!(tell(seed).0, Vec::<String>::new(), "seed {seed} without a mistake");
    }
    let mut hidden = Vec::new();
    let only = std::env::var("PLANTED").ok();
    for name in COORDINATOR.iter().filter(|name| only.as_deref().is_none_or(|only| only == **name)) {
        plant(Some(name));
        let begun = Instant::now();
        let found = (1..=SEEDS).find_map(|seed| match catch_unwind(AssertUnwindSafe(|| tell(seed).0)) {
            Ok(violations) => violations.first().map(|first| (seed, first.clone())),
            Err(_) => Some((seed, "an assertion".to_owned())),
        });
        plant(None);
        match found {
            Some((seed, why)) => {
                let why: String = why.lines().next().unwrap_or_default().chars().take(110).collect();
                println!("{name:36} seed {seed:5}, {:5} ms: {why}", begun.elapsed().as_millis());
            }
            None => {
                println!("{name:36} hidden");
                hidden.push(*name);
            }
        }
    }
    println!("coordinator: {} planted, {} found", COORDINATOR.len(), COORDINATOR.len() - hidden.len());
    assert!(hidden.is_empty(), "not found in {SEEDS} stories each: {hidden:?}");
}

/// For each promise of the coordinator a mistake with a story in which it alone tells of it.
pub const ALONE: &[(&str, &str)] = &[
    ("1", "restart_forgets_timers"),
    ("9", "event_leaves_before_commit"),
    ("13", "outbox_out_of_order"),
    ("14", "redelivered_event_starts_another"),
    ("15", "ack_after_the_first_target"),
    ("16", "poison_is_dropped"),
    ("17", "restart_takes_the_newest_definition"),
    ("18", "epoch_stands_still"),
    ("20", "repeat_has_its_own_correlation_id"),
    ("23", "mark_of_a_repeat_stays_open"),
    ("the lock", "lock_goes_to_everybody"),
];

#[test]
fn each_promise_of_the_coordinator_alone_finds_a_planted_mistake() {
    let _planting = PLANTING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hidden = Vec::new();
    for (promise, name) in ALONE {
        plant(Some(name));
        let alone = (1..=60).find(|seed| {
            let told = tell(*seed).0;
            !told.is_empty() && told.iter().all(|one| one.split(':').next() == Some(promise))
        });
        plant(None);
        match alone {
            Some(seed) => println!("promise {promise:8} alone finds {name} in story {seed}"),
            None => hidden.push((promise, name)),
        }
    }
    println!("coordinator: {} promises that alone find a planted mistake", ALONE.len() - hidden.len());
    assert!(hidden.is_empty(), "found by others too: {hidden:?}");
}
