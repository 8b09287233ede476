//! Drives runs: decide → commit → act. The only place where the core and the adapters meet; everything
//! above reaches runs through [`Handle`].

mod answers;
mod catalogue;
mod children;
mod clock;
mod correlator;
mod describe;
mod execute;
mod handle;
mod held_keys;
mod inbox;
mod journal_tools;
mod late_spans;
mod locks;
mod log;
mod metrics;
mod migration;
mod news;
mod notices;
mod outbox;
mod recovery;
mod render;
mod rollout;
mod run;
mod scheduler;
mod shard;
mod spans;
mod start;
mod timers;
pub mod view;
mod webhooks;

pub use catalogue::{Catalogue, Entry, EventSchemas, InputCheck, Refusal, Violations};
pub use clock::SystemClock;
pub use handle::{Handle, OperateError, PublishError, StartError, StartRequest, Started};
pub use held_keys::{HeldKeys, LaterEvents, WAITS};
pub use journal_tools::ToolError;
pub use migration::MigrateRequest;
pub use notices::{NoticeKind, NoticePolicy};
pub use rollout::RolloutError;
pub use spans::{Server, TracePolicy, anchor_span, published_span};
pub use start::{Links, Options, Parts, StartupError};
pub use webhooks::{Delivered, WebhookError};

pub use crate::saga::Operation;
