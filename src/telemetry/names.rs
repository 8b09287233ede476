//! Names of attributes: ours, and those of the OpenTelemetry semantic conventions
//! (<https://opentelemetry.io/docs/specs/semconv/>). Whoever writes a span takes them from here.

pub const SAGA_NAME: &str = "saga.name";
pub const SAGA_VERSION: &str = "saga.version";
pub const SAGA_RUN: &str = "saga.run";
/// The step's path.
pub const SAGA_STEP: &str = "saga.step";
/// From 1.
pub const SAGA_ATTEMPT: &str = "saga.attempt";
/// `forward`, `compensate` or `check`.
pub const SAGA_DIRECTION: &str = "saga.direction";
/// Of a step `done`, `refused` or `unknown`; of a run its state at the end.
pub const SAGA_OUTCOME: &str = "saga.outcome";
pub const SAGA_KEY: &str = "saga.key";
/// Why a run is undone: `failed`, `cancelled` or `late`.
pub const SAGA_CAUSE: &str = "saga.cause";
/// What an operator gave as the reason.
pub const SAGA_REASON: &str = "saga.reason";
/// When a wait ends.
pub const SAGA_DUE: &str = "saga.due";
pub const CORRELATION_ID: &str = "correlation.id";

pub const ERROR_TYPE: &str = "error.type";
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// How often this request was sent before; absent on the first.
pub const HTTP_REQUEST_RESEND_COUNT: &str = "http.request.resend_count";
pub const HTTP_ROUTE: &str = "http.route";
pub const SERVER_ADDRESS: &str = "server.address";
pub const SERVER_PORT: &str = "server.port";
pub const URL_FULL: &str = "url.full";
/// The service's name in the configuration.
pub const PEER_SERVICE: &str = "peer.service";

/// `grpc`
pub const RPC_SYSTEM: &str = "rpc.system";
/// With its package.
pub const RPC_SERVICE: &str = "rpc.service";
pub const RPC_METHOD: &str = "rpc.method";
/// 0 to 16.
pub const RPC_GRPC_STATUS_CODE: &str = "rpc.grpc.status_code";

/// `nats`
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// The subject.
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
/// `send`, `process`
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
/// The event's id.
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
pub const MESSAGING_MESSAGE_CONVERSATION_ID: &str = "messaging.message.conversation_id";
pub const MESSAGING_CONSUMER_GROUP_NAME: &str = "messaging.consumer.group.name";
pub const CLOUDEVENTS_EVENT_ID: &str = "cloudevents.event_id";
pub const CLOUDEVENTS_EVENT_SOURCE: &str = "cloudevents.event_source";
pub const CLOUDEVENTS_EVENT_TYPE: &str = "cloudevents.event_type";
