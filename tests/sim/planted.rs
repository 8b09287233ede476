//! Every planted mistake is found, and told by which promise: `make planted`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use backstitch::planted::{ALL, plant};

use super::random::found_by;

/// Seeds in which a mistake may stay hidden: about ten seconds, counted in seeds because machines differ.
const SEEDS: u64 = 4_000;

/// Held while mistakes are planted: those of the journal are planted for every thread.
pub static PLANTING: Mutex<()> = Mutex::new(());

#[test]
fn every_planted_mistake_is_found() {
    let _planting = PLANTING.lock().unwrap_or_else(PoisonError::into_inner);
    // The control: without a mistake nothing is found. `random` looks at more seeds.
    for seed in 1..2_000 {
        assert_eq!(found_by(seed), Vec::<String>::new(), "seed {seed} without a mistake");
    }
    let mut hidden = Vec::new();
    // A mistake may be met by an assertion of the core itself: that is found, and no news.
    std::panic::set_hook(Box::new(|_| {}));
    for name in ALL {
        plant(Some(name));
        let begun = Instant::now();
        let mut seed = 0;
        let finder = loop {
            seed += 1;
            let found = catch_unwind(AssertUnwindSafe(|| found_by(seed)));
            match found {
                Ok(violations) if violations.is_empty() => {}
                Ok(violations) => break Some(violations.join(" | ")),
                Err(_) => break Some("an assertion".to_owned()),
            }
            if seed == SEEDS {
                break None;
            }
        };
        plant(None);
        match finder {
            Some(finder) => {
                let first: String = finder.lines().next().unwrap_or_default().chars().take(110).collect();
                println!("{name:36} seed {seed:5}, {:5} ms: {first}", begun.elapsed().as_millis());
            }
            None => hidden.push(*name),
        }
    }
    let _ = std::panic::take_hook();
    println!("core: {} planted, {} found", ALL.len(), ALL.len() - hidden.len());
    assert!(hidden.is_empty(), "not found in {SEEDS} seeds each: {hidden:?}");
}
