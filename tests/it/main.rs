//! Tests of the tree, and of the whole with real servers: one binary, one module per subject.

mod api;
mod api_process;
mod arrows;
mod bus;
mod cli;
mod compose;
mod connector;
mod connector_peer;
mod coordinator;
mod demo;
mod foreign;
mod journal_damage;
mod journal_generations;
mod journal_store;
mod journal_support;
mod kill;
mod otlp;
mod outages;
mod power_cut_journal;
mod readme;
mod rig;
mod schema_files;
mod server;
mod skip;
mod telemetry;
mod tidy;
