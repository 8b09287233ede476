//! Tests of the tree, and of the whole with real servers: one binary, one module per subject.

mod arrows;
mod readme;
mod server;
mod skip;
mod tidy;
