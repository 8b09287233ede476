//! Deterministic simulation: the real core against a simulated world in virtual time.
//!
//! `SIM_SEED=… cargo test --test sim random` repeats one run and tells its story.

mod cells;
#[path = "../it/counted.rs"]
mod counted;
mod frozen;
mod fuzz;
mod gallery;
mod generate;
mod invariants;
mod journal;
mod many;
mod nested;
mod observe;
#[cfg(feature = "planted")]
mod planted;
mod random;
mod rng;
mod scenarios;
mod services;
mod shell;
mod spec;
mod table;
mod world;
