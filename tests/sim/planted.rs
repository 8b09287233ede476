//! Every planted mistake is found, and told by which promise: `make planted`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use backstitch::planted::{ALL, LIMITS, NESTED, plant};

use super::{limits, nested, random};

/// Seeds in which a mistake may stay hidden: about ten seconds, counted in seeds because machines differ.
const SEEDS: u64 = 4_000;

/// The promise that each mistake about steps inside steps breaks; `M`: the reference model finds it.
const PROMISES: &[(&str, &str)] = &[
    ("loser_is_not_undone", "M"),
    ("every_branch_that_ends_wins", "M"),
    ("failed_branch_is_not_undone", "M"),
    ("first_branch_ends_it_all", "M"),
    ("branch_is_undone_forwards", "7"),
    ("parts_are_undone_together", "7"),
    ("what_is_inside_is_not_undone", "4a"),
    ("last_item_is_not_undone", "4a"),
    ("one_item_more_beside", "7"),
    ("one_failure_more_is_tolerated", "M"),
    ("tolerated_unknown_is_left", "M"),
    ("catch_without_undo", "M"),
    ("keep_keeps_nothing", "M"),
    ("inner_undo_beside_an_attempt", "7"),
    ("repeats_share_a_place", "13"),
    ("child_is_not_cancelled", "25"),
    ("undo_takes_another_item", "26"),
    ("settling_scope_goes_on", "7"),
    ("poll_asks_at_once", "27"),
    ("last_page_is_left_out", "27"),
];

/// Held while mistakes are planted: those of the journal are planted for every thread.
pub static PLANTING: Mutex<()> = Mutex::new(());

/// Plants one mistake and looks for it: the seed, and what was found.
fn find(name: &'static str, seeds: u64, found_by: fn(u64) -> Vec<String>, promise: &str) -> Option<(u64, String)> {
    plant(Some(name));
    let finder = (0..=seeds).find_map(|seed| {
        match catch_unwind(AssertUnwindSafe(|| found_by(seed))) {
            Ok(violations) => violations
                .iter()
                .find(|one| promise.is_empty() || one.split_whitespace().next() == Some(promise))
                .map(|one| (seed, one.clone())),
            // An assertion of the core itself has met it: that is found, unless a promise is asked for.
            Err(_) => promise.is_empty().then(|| (seed, "an assertion".to_owned())),
        }
    });
    plant(None);
    finder
}

fn find_all(
    what: &str,
    names: &[&'static str],
    found_by: fn(u64) -> Vec<String>,
    promise: impl Fn(&str) -> &'static str,
) {
    let _planting = PLANTING.lock().unwrap_or_else(PoisonError::into_inner);
    // The control: without a mistake nothing is found. Other tests look at more seeds.
    for seed in 1..1_000 {
        assert_eq!(found_by(seed), Vec::<String>::new(), "seed {seed} without a mistake");
    }
    let mut hidden = Vec::new();
    // A mistake may be met by an assertion, which is no news.
    std::panic::set_hook(Box::new(|_| {}));
    for name in names {
        let begun = Instant::now();
        match find(name, SEEDS, found_by, promise(name)) {
            Some((seed, finder)) => {
                let first: String = finder.lines().next().unwrap_or_default().chars().take(110).collect();
                println!("{name:36} seed {seed:5}, {:5} ms: {first}", begun.elapsed().as_millis());
            }
            None => hidden.push(*name),
        }
    }
    let _ = std::panic::take_hook();
    println!("{what}: {} planted, {} found", names.len(), names.len() - hidden.len());
    assert!(hidden.is_empty(), "not found in {SEEDS} seeds each: {hidden:?}");
}

#[test]
fn every_planted_mistake_is_found() {
    find_all("core", ALL, random::found_by, |_| "");
}

#[test]
fn every_planted_mistake_about_steps_inside_steps_is_found() {
    find_all("nested", NESTED, nested::found_by, |name| {
        PROMISES.iter().find(|(known, _)| *known == name).map(|(_, promise)| *promise).expect("each has its promise")
    });
}

#[test]
fn every_planted_mistake_of_the_limits_is_found() {
    find_all("limits", LIMITS, limits::found_by, |_| "19");
}

/// The control: a mistake that nothing can find is told as hidden, so one that no seed finds fails the build.
#[test]
fn a_planted_mistake_that_changes_nothing_stays_hidden() {
    assert_eq!(find("nothing_asks_for_this_one", 300, random::found_by, ""), None);
    assert_eq!(find("nothing_asks_for_this_one", 300, nested::found_by, ""), None);
}

/// A planted mistake makes a large story, and what is told of it is small: few steps, few faults.
#[test]
fn what_breaks_a_promise_is_made_small() {
    plant(Some("catch_without_undo"));
    let told = nested::small_story("M", SEEDS);
    plant(None);
    let (steps, things, before) = told.expect("the mistake is found");
    println!("{before} steps shrunk to {steps} steps and {things} things that go wrong");
    assert!(steps * 4 <= before && things <= 2, "{before} steps became {steps}, and {things} things");

    plant(Some("undo_stops_half_way"));
    let told = random::small_story("4a", SEEDS);
    plant(None);
    let (steps, things, before) = told.expect("the mistake is found");
    println!("{before} steps in a line shrunk to {steps} steps and {things} things that go wrong");
    assert!(steps * 3 <= before && things <= 2, "{before} steps became {steps}, and {things} things");
}

/// For each promise a mistake, and seeds in which it is met: whatever is told in them is told by that promise
/// alone, so without it the mistake would stay. `M` is the reference model.
const ALONE: &[(&str, &str, u64)] = &[
    ("1", "retry_is_not_timed", 100),
    ("2", "final_is_not_final", 400),
    ("3", "undo_what_was_refused", 400),
    ("4a", "undo_stops_half_way", 400),
    ("4b", "handled_unknown_is_left", 1_000),
    ("5", "restart_forgets_doubt", SEEDS),
    ("6", "forward_in_undo", SEEDS),
    ("7", "undo_in_forward_order", 400),
    ("8", "new_key_for_each_attempt", 100),
    ("9", "one_record_for_two_checks", 100),
    ("10", "replay_forgets_attempts", 100),
    ("11", "one_attempt_more", 400),
    ("12", "timer_early", 400),
    ("13", "event_twice", 100),
    ("19", "circuit_opens_one_failure_late", 400),
    ("22", "pause_holds_nothing", 1_000),
    ("24", "deadline_behind_the_pivot_undoes", 1_000),
    ("25", "child_is_not_cancelled", 1_600),
    ("26", "undo_takes_another_item", 100),
    ("27", "last_page_is_left_out", 400),
    ("M", "loser_is_not_undone", 200),
];

#[test]
fn each_promise_has_a_planted_mistake_that_only_it_finds() {
    let _planting = PLANTING.lock().unwrap_or_else(PoisonError::into_inner);
    for (promise, name, seeds) in ALONE {
        let found_by = match () {
            () if NESTED.contains(name) => nested::found_by,
            () if LIMITS.contains(name) => limits::found_by,
            () => random::found_by,
        };
        plant(Some(name));
        let told: Vec<String> = (1..=*seeds).flat_map(found_by).collect();
        plant(None);
        let others: Vec<_> = told.iter().filter(|one| one.split_whitespace().next() != Some(promise)).collect();
        assert!(!told.is_empty(), "{name} is met in {seeds} seeds");
        assert_eq!(others, Vec::<&String>::new(), "{name} is found by {promise} alone");
        println!("promise {promise:3} alone finds {name}, {} times in {seeds} seeds", told.len());
    }
    println!("promises: {} that alone find a planted mistake", ALONE.len());
}

#[test]
fn the_page_names_the_planted_mistake_of_each_promise() {
    let page = include_str!("../../docs/reliability.md");
    let coordinators = super::shell::planted::ALONE.iter().map(|(promise, name)| (promise, name));
    let of_process = backstitch::planted::PROCESS.iter().map(|name| (&"21", name));
    for (promise, name) in ALONE.iter().map(|(promise, name, _)| (promise, name)).chain(coordinators).chain(of_process)
    {
        let row = page.lines().find(|line| line.starts_with(&format!("| {promise} |")));
        assert!(row.is_some_and(|row| row.contains(&format!("`{name}`"))), "{promise} {name}: {row:?}");
    }
}
