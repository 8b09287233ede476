//! Tests of the whole with real servers: one binary, one module per subject.

mod server;
