//! The command line.

pub mod bench;
pub mod client;
pub mod demo;
pub mod exit;
pub mod participant;
mod server_events;

pub use server_events::ServerEvent;
