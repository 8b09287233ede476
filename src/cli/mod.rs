//! The command line.

pub mod client;
pub mod exit;
pub mod participant;
mod server_events;

pub use server_events::ServerEvent;
