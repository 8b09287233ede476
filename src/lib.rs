//! Backstitch: an event bus and saga orchestrator. See `docs/` for the guarantees and `README.md` for
//! the map of these modules. Arrows point down only: shell → adapters → pure core.

// Pure: no runtime, files, sockets, clock or randomness.
pub mod definition;
pub mod envelope;
pub mod expression;
pub mod id;
pub mod notify;
pub mod openapi;
pub mod payload;
pub mod planted;
pub mod problem;
pub mod protobuf;
pub mod request;
pub mod resilience;
pub mod saga;
pub mod schema;
pub mod secret;
pub mod service;
pub mod signature;
pub mod small_map;
pub mod time;
pub mod trace_context;
pub mod trust;
pub mod webhook;
pub mod xml;

// Adapters: each knows one outside thing and no other adapter.
pub mod bus;
pub mod config;
pub mod connector;
pub mod journal;
pub mod postgres;
pub mod telemetry;

// Shell: where core and adapters meet.
pub mod api;
pub mod app;
pub mod cli;
pub mod coordinator;
pub mod events;
pub mod failpoint;
