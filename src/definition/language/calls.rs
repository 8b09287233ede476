//! What belongs to a call: `with`, retries, outcome, undo.

use super::steps::STEPS;
use super::top::CALL;
use super::{Key, Mapping, Value, key, must};

/// `retry: {…}` or `retry: forever`.
pub(super) const RETRY_OR_FOREVER: Value = Value::OneOf(&[Value::Words(&["forever"]), Value::Mapping(&RETRY)]);
/// `timeout: 3s` or `timeout: {attempt, total}`.
pub(super) const TIMEOUT: Value = Value::OneOf(&[Value::Duration, Value::Mapping(&TIMEOUTS)]);
/// `output: VALUE` or `output: {as, schema}`.
pub(super) const OUTPUT: Value = Value::OneOf(&[Value::Mapping(&OUTPUT_AS), Value::Any]);
/// `compensate: none` or what undoes.
pub(super) const COMPENSATE: Value = Value::OneOf(&[Value::Words(&["none"]), Value::Mapping(&UNDO)]);

pub(super) static RETRY: Mapping = Mapping {
    name: "retry",
    about: "When a failed attempt is tried again. What is left out comes from `defaults`.",
    keys: &[
        key(
            "attempts",
            Value::OneOf(&[Value::Integer(1, 1_000_000), Value::Words(&["forever"])]),
            "How many in all; `forever` never gives up. Default 5, after the pivot `forever`.",
        ),
        key("delay", Value::Duration, "Before the second attempt. Default 200 ms."),
        key("factor", Value::Number(1, 100), "By which the delay grows each time. Default 2."),
        key("max_delay", Value::Duration, "Up to which it grows, `Retry-After` included. Default 10 s."),
        key(
            "jitter",
            Value::Words(&["none", "full"]),
            "`full` (the default) spreads the delay, so that many runs do not come back together.",
        ),
        key("within", Value::Duration, "No attempt begins later than this after the first."),
    ],
    one_of: &[],
};

static TIMEOUTS: Mapping = Mapping {
    name: "timeouts",
    about: "Of one attempt and of all.",
    keys: &[
        key("attempt", Value::Duration, "One attempt."),
        key("total", Value::Duration, "From the first attempt to the end of trying."),
    ],
    one_of: &[],
};

static OUTPUT_AS: Mapping = Mapping {
    name: "output_as",
    about: "An output with its schema.",
    keys: &[
        key("as", Value::Any, "What later steps and the undo read, made from `$result`. Default: the result as it is."),
        key(
            "schema",
            Value::OneOf(&[Value::EventType, Value::Schema]),
            "What it has to be: what does not fit is done, then failed.",
        ),
    ],
    one_of: &[],
};

pub(super) static WITH: Mapping = Mapping {
    name: "with",
    about: "What is sent. Which keys there are depends on the service's protocol.",
    keys: &[
        key(
            "method",
            Value::OneOf(&[
                Value::Words(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
                Value::Literal,
            ]),
            "http. GET and HEAD need no undo. grpc: the method's full name, `tracking.v1.Tracking/Announce`.",
        ),
        key(
            "path",
            Value::Text,
            "http: begins with `/` and is appended to the service's url. An expression fills one segment, behind `?` one query value.",
        ),
        key(
            "query",
            Value::OneOf(&[Value::Named(&Value::Text), Value::Literal]),
            "http: appended to the path, encoded. graphql: the document.",
        ),
        key("headers", Value::Named(&Value::Text), "http: request headers."),
        key("body", Value::Any, "http, openapi: JSON. soap: the body."),
        key("operation", Value::Literal, "openapi: the operation's id. graphql: the operation's name."),
        key("parameters", Value::Named(&Value::Any), "openapi: path, query and header parameters by name."),
        key("message", Value::Any, "grpc: the request message as JSON."),
        key("metadata", Value::Named(&Value::Text), "grpc: metadata."),
        key("variables", Value::Any, "graphql: the variables."),
        key("action", Value::Text, "soap: the SOAPAction."),
        key("subject", Value::Text, "nats: the subject that is asked."),
        key("data", Value::Any, "nats: the request."),
    ],
    one_of: &[],
};

pub(super) static CLASSIFY: Mapping = Mapping {
    name: "classify",
    about: "Conditions on `$result`, tried in the order proof, unknown, refused, retry, done; none true: the protocol's defaults.",
    keys: &[
        key("proof", Value::Condition, "This refusal proves that no earlier attempt had an effect."),
        key("unknown", Value::Condition, "It may have happened."),
        key("refused", Value::Condition, "It has not happened and never will."),
        key("retry", Value::Condition, "It has not happened; try again."),
        key("done", Value::Condition, "It has happened."),
    ],
    one_of: &[],
};

pub(super) static ON_UNKNOWN: Mapping = Mapping {
    name: "on_unknown",
    about: "What to do when nobody knows whether the call took effect.",
    keys: &[
        key("check", Value::Mapping(&CHECK), "Asks, instead of guessing."),
        key(
            "else",
            Value::Words(&["compensate", "park"]),
            "Once the trying has ended in doubt: undo it with the others (`compensate`, the default), or wait for an operator.",
        ),
    ],
    one_of: &[],
};

static CHECK: Mapping = Mapping {
    name: "check",
    about: "A call that finds out whether a doubtful attempt happened.",
    keys: &[
        key("call", CALL, "Default: the step's own service."),
        must("with", Value::Mapping(&WITH), "What is asked."),
        must("happened", Value::Condition, "True if the effect took place. Reads `$result`."),
        key("output", OUTPUT, "Becomes the step's output where it happened. Reads `$result`."),
        key(
            "conclusive",
            Value::Boolean,
            "The service guarantees that *not happened* is final. Default false: the first request may still be under way.",
        ),
        key("retry", RETRY_OR_FOREVER, "Of the check itself."),
        key("timeout", Value::Duration, "One attempt of the check."),
    ],
    one_of: &[],
};

pub(super) static IDEMPOTENCY: Mapping = Mapping {
    name: "idempotency",
    about: "Where the idempotency key goes. Default: the header `Idempotency-Key` with `$step.key`.",
    keys: &[
        key("header", Value::Literal, "Into this header."),
        key("query", Value::Literal, "Into this query parameter."),
        key("body", Value::Literal, "Into this top-level member of the body."),
        key("value", Value::Text, "A key of your own. That it is unique is up to you then."),
    ],
    one_of: &[],
};

pub(super) static PAGINATE: Mapping = Mapping {
    name: "paginate",
    about: "Fetches page after page; the output is the list of all items.",
    keys: &[
        must(
            "next",
            Value::Expression,
            "The next page: a path, a query or a link of the service's own origin; null ends it. Reads `$result`.",
        ),
        must("items", Value::Expression, "The items of one page. Reads `$result`."),
        key("max", Value::Integer(1, 1_000_000), "Pages at most."),
    ],
    one_of: &[],
};

pub(super) static CACHE: Mapping = Mapping {
    name: "cache",
    about: "Answers from memory. For GET, HEAD and steps with `compensate: none` only.",
    keys: &[must("key", Value::Text, "Equal keys have equal answers."), must("ttl", Value::Duration, "For how long.")],
    one_of: &[],
};

pub(super) static FALLBACK: Mapping = Mapping {
    name: "fallback",
    about: "What stands in for a step that failed.",
    keys: &[key("value", Value::Any, "This is its output then."), key("do", STEPS, "These steps run then.")],
    one_of: &["value", "do"],
};

pub(super) static REPLY: Mapping = Mapping {
    name: "reply",
    about: "Makes a call over events of an emit: the first matching event decides, none in time is unknown.",
    keys: &[
        must("done", TYPES, "The types that say that it is done."),
        key("refused", TYPES, "The types that say that it was refused."),
        key("where", WHERE, "Which event counts. Default: its `causationid` is the command's id."),
        key("timeout", Value::Duration, "How long a reply is waited for."),
    ],
    one_of: &[],
};

/// One word or a list of them.
pub(super) const WORDS: Value = Value::OneOf(&[Value::Literal, Value::List(&Value::Literal)]);
/// One type or a list of them.
const TYPES: Value = Value::OneOf(&[Value::EventType, Value::List(&Value::EventType)]);
/// `where: {path: value}`
pub(super) const WHERE: Value = Value::Named(&Value::Any);

static UNDO: Mapping = Mapping {
    name: "compensate",
    about: "How a step is undone: by a call (to its own service unless `call` names another), an event, or a saga.",
    keys: UNDO_KEYS,
    one_of: &[],
};

const UNDO_KEYS: &[Key] = &[
    key("call", CALL, "Default: the step's own service."),
    key("with", Value::Mapping(&WITH), "What is sent. Reads `$forward` too."),
    key("emit", Value::EventType, "Takes back by an event."),
    key("data", Value::Any, "The event's data."),
    key("key", Value::Text, "The event's partition key."),
    key("reply", Value::Mapping(&REPLY), "Makes a call over events of the emit."),
    key("run", Value::Name("^[a-z][a-z0-9-]{0,62}$"), "Undoes by a saga."),
    key("version", Value::Integer(1, 1_000_000), "Of that saga. Default: the newest."),
    key("input", Value::Any, "That saga's input."),
    key("if", Value::Condition, "False: there is nothing to undo."),
    key("retry", RETRY_OR_FOREVER, "Default: 10 attempts, 1 s, doubling up to 5 m, full jitter."),
    key("timeout", Value::Duration, "One attempt."),
    key("ok", Value::Condition, "This answer counts as undone. Reads `$result`. For DELETE 404 and 410 do by default."),
    key(
        "on_exhausted",
        Value::Words(&["park", "skip", "forever"]),
        "When its attempts are used up: wait for an operator (`park`, the default), go on without (`skip`), or never give up.",
    ),
    key("on_refused", Value::Boolean, "Undo this step also when it was refused."),
];
