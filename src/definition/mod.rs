//! Saga files: text with spans → diagnostics, all at once → a validated model with a fingerprint.
//! Knows nothing of runs.

pub mod model;

pub use model::*;
