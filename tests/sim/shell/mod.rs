//! L1: the real coordinator (intake, shards, outbox, recovery) on paused time, with journal, bus and
//! services in memory. Each life is a runtime of its own, dropped in the middle of whatever it does.
//! What leaves is compared, when it leaves, with what is durable; the rest is checked at the end.

mod checks;
#[cfg(feature = "planted")]
pub mod planted;
mod services;
mod story;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::time::Instant;

use story::tell;

/// Stories in an ordinary `cargo test`: under twenty seconds on one core without optimisation.
const SEEDS: u64 = 150;

#[test]
fn random_lives_keep_every_promise() {
    let one_seed = env::var("SHELL_SEED").ok().map(|seed| seed.parse::<u64>().expect("SHELL_SEED is a number"));
    let count = env::var("SHELL_RUNS").ok().map_or(SEEDS, |runs| runs.parse().expect("SHELL_RUNS is a number"));
    let seeds = one_seed.map_or(1..count + 1, |seed| seed..seed + 1);
    let begun = Instant::now();
    let mut sum = BTreeMap::<&str, u64>::new();
    for seed in seeds {
        if one_seed.is_none() && env::var("SHELL_LOUD").is_ok() {
            println!("seed {seed}, {:.1} s", begun.elapsed().as_secs_f64());
        }
        let (violations, figures) = tell(seed);
        assert!(
            violations.is_empty(),
            "{}\nrepeat: SHELL_SEED={seed} cargo test --test sim random_lives",
            violations.join("\n")
        );
        for (name, count) in figures {
            *sum.entry(name).or_default() += count;
        }
    }
    crate::counted::count(&format!("shell: {sum:?} in {:.1} s", begun.elapsed().as_secs_f64()));
    if one_seed.is_none() {
        let faults = ["crash with commits held", "crash", "drain", "failed journal", "outage", "conflict", "poison"];
        for name in faults.iter().chain(&["runs of the second version"]) {
            assert!(sum.get(*name).is_some_and(|count| *count > 0), "no {name} was drawn: {sum:?}");
        }
        for end in ["completed", "compensated"] {
            assert!(sum.get(end).is_some_and(|count| *count > 0), "no run ended {end}: {sum:?}");
        }
    }
}
