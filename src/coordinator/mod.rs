//! Drives runs: decide → commit → act. The only place where the core and the adapters meet; everything
//! above reaches runs through [`Handle`].

mod handle;
pub mod view;

pub use handle::{Handle, OperateError, Operation, PublishError, StartError, StartRequest, Started};
