//! Deterministic simulation: the real core against a simulated world in virtual time.
//!
//! `SIM_SEED=… cargo test --test sim random` repeats one run and tells its story.

mod cells;
#[path = "../it/counted.rs"]
mod counted;
mod exhaustive;
mod frozen;
mod fuzz;
mod gallery;
mod generate;
mod invariants;
mod journal;
mod limits;
mod many;
mod migrations;
mod model;
mod nested;
mod observe;
mod outputs;
#[cfg(feature = "planted")]
mod planted;
mod promises;
mod random;
mod regressions;
mod rng;
mod scenarios;
mod services;
mod shell;
mod shrink;
mod spec;
mod table;
mod tape;
mod tree;
mod world;
