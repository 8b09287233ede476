//! The HTTP API: publish events, start and follow runs, operate on them. Everything goes through
//! [`Handle`] and [`Events`]; nothing here knows the journal or the bus. `docs/api.md` is its reference.

mod body;
mod cloud_event;
mod dead_letters;
mod events;
mod guard;
mod health;
mod journal;
mod migrations;
mod openapi;
mod problem;
mod registry;
mod replays;
mod rollouts;
mod routes;
mod runs;
mod sagas;
mod schemas;
mod server;
mod span;
mod stream;
mod tail;
mod webhooks;
pub mod wire;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::guard::Guard;
pub use self::openapi::described_routes;
pub(crate) use self::registry::type_view;
pub use self::registry::{Loading, Mistake, Reloaded, TypeView, VersionView};
use self::routes::Api;
pub use self::webhooks::Webhooks;
use crate::coordinator::{Handle, SystemClock};
use crate::events::Events;
use crate::resilience::RatePolicy;
use crate::secret::Secret;

/// How the API is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Needed to listen beyond loopback; whoever makes the listener checks that.
    pub token: Option<Secret<String>>,
    pub body_bytes_max: usize,
    /// Requests of all clients together; health is not counted.
    pub rate: RatePolicy,
    pub connections_max: usize,
}

/// Serves the API until `stop` is cancelled and the requests in flight have ended.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    events: Events,
    loading: Loading,
    webhooks: Arc<Webhooks>,
    options: Options,
    stop: CancellationToken,
) {
    let clock = Arc::new(SystemClock);
    let guard = Guard::new(options.token, options.rate, clock.clone());
    let api = Api {
        handle,
        events,
        loading: Arc::new(loading),
        webhooks,
        body_bytes_max: options.body_bytes_max,
        stopping: stop.clone(),
        clock,
    };
    server::serve(listener, routes::router(api, Arc::new(guard)), options.connections_max, stop).await;
}
