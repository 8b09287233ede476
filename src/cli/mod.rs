//! The command line.

pub mod client;
pub mod exit;
mod server_events;

pub use server_events::ServerEvent;
