//! The top level of a file: triggers, input, services, defaults, the end.

use super::calls::RETRY_OR_FOREVER;
use super::steps::STEPS;
use super::{Key, Mapping, SERVICE, Value, key, must};

/// The whole file.
pub static FILE: Mapping =
    Mapping { name: "saga", about: "A saga: steps that each say how they are undone.", keys: FILE_KEYS, one_of: &[] };

const FILE_KEYS: &[Key] = &[
    must("saga", Value::Name("^[a-z][a-z0-9-]{0,62}$"), "The saga's name. One file is one version of one saga."),
    key(
        "version",
        Value::Integer(1, 1_000_000),
        "Counts up with each change. Runs in flight stay on the version that they began with.",
    ),
    key("summary", Value::Literal, "One line for lists: what the saga does."),
    key("on", TRIGGERS, "What starts a run. A run can always be started through the API and the command line too."),
    key("input", Value::Mapping(&INPUT), "What a run is started with."),
    key(
        "services",
        SERVICES,
        "Services of this file alone, with literal addresses: for examples that stand by themselves. A name must not be in the configuration as well.",
    ),
    key("defaults", Value::Mapping(&DEFAULTS), "What steps get that do not say otherwise."),
    key(
        "timeout",
        Value::Duration,
        "From the start, waiting included. Past it the run is undone; after the pivot it only raises an alarm.",
    ),
    key(
        "lock",
        Value::Text,
        "A semantic lock, one namespace for all sagas: a second run with the same text waits its turn. Reads `$input` and `$event`.",
    ),
    key(
        "undo_order",
        Value::Words(&["reverse", "parallel"]),
        "`reverse` (the default): one after the other, last first. `parallel`: side by side.",
    ),
    must("steps", STEPS, "The steps, in order."),
    key("output", Value::Any, "The run's output. Reads `$input`, `$event`, `$steps`, `$saga`."),
    key("finally", Value::Mapping(&FINALLY), "Events at the end of a run."),
    key("tags", super::calls::WORDS, "Words for people and tools."),
];

const TRIGGERS: Value = Value::List(&Value::Mapping(&TRIGGER));
const SERVICES: Value = Value::Named(&Value::Mapping(&INLINE_SERVICE));

static TRIGGER: Mapping = Mapping {
    name: "trigger",
    about: "What starts a run: an event, a webhook, an interval or a calendar.",
    keys: &[
        key("event", Value::EventType, "Each event of this type starts a run. An older version is upcast first."),
        key(
            "webhook",
            Value::Name("^[a-z][a-z0-9_-]{0,62}$"),
            "A webhook of the configuration: each delivery starts a run. `$event` has `id`, `source`, `headers` and `data`.",
        ),
        key("every", Value::Duration, "Starts a run at this interval."),
        key(
            "cron",
            Value::Literal,
            "Starts a run by the calendar: minute, hour, day of the month, month, day of the week. `0 3 * * *` is every night at three.",
        ),
        key("when", Value::Condition, "Only where this holds. Reads `$event`."),
        key(
            "key",
            Value::Text,
            "One run per key: the same order never starts twice. Reads `$event`. Default: the event's source and id.",
        ),
        key("input", Value::Any, "The run's input, made from `$event`. Default: the event's data."),
        key(
            "on_replay",
            Value::Words(&["skip", "run"]),
            "What a replayed event does: nothing (`skip`, the default), or start a run.",
        ),
        key("timezone", Value::Literal, "Of `cron`, such as `Europe/Berlin`. Default: UTC."),
        key(
            "catch_up",
            Value::Words(&["none", "one", "all"]),
            "What happens about times that were missed while the process was away. Default: none.",
        ),
    ],
    one_of: &["event", "webhook", "every", "cron"],
};

static INPUT: Mapping = Mapping {
    name: "input",
    about: "What a run is started with.",
    keys: &[must(
        "schema",
        Value::OneOf(&[Value::EventType, Value::Schema]),
        "An event type, whose schema it is, or a JSON Schema written out. What does not fit does not start a run.",
    )],
    one_of: &[],
};

static INLINE_SERVICE: Mapping = Mapping {
    name: "service",
    about: "A service of this file alone.",
    keys: &[
        must("url", Value::Literal, "Its address; a step's `path` is appended."),
        key("timeout", Value::Duration, "One attempt, unless the step says otherwise."),
        key(
            "protocol",
            Value::Words(&["http", "grpc", "graphql", "soap", "nats"]),
            "Which `with` its calls have. Default: http, or what the address says.",
        ),
    ],
    one_of: &[],
};

static DEFAULTS: Mapping = Mapping {
    name: "defaults",
    about: "What steps get that do not say otherwise.",
    keys: &[
        key("timeout", Value::Duration, "One attempt. A service's own timeout beats it, a step's beats both."),
        key("retry", RETRY_OR_FOREVER, "Of forward steps."),
        key("compensate", UNDOS, "Of undos: `{ retry, timeout }`, or a retry policy alone."),
    ],
    one_of: &[],
};

const UNDOS: Value = Value::OneOf(&[Value::Mapping(&DEFAULTS_COMPENSATE), RETRY_OR_FOREVER]);

static DEFAULTS_COMPENSATE: Mapping = Mapping {
    name: "defaults_compensate",
    about: "Of undos.",
    keys: &[
        key("retry", RETRY_OR_FOREVER, "Default: 10 attempts, 1 s, doubling up to 5 m, full jitter."),
        key("timeout", Value::Duration, "One attempt."),
    ],
    one_of: &[],
};

static FINALLY: Mapping = Mapping {
    name: "finally",
    about: "Events at the end of a run, in the same trace.",
    keys: &[
        key("completed", Value::Mapping(&FINALLY_EMIT), "Once, when the run has completed."),
        key("compensated", Value::Mapping(&FINALLY_EMIT), "Once, when everything has been undone. Reads `$error`."),
        key("parked", Value::Mapping(&FINALLY_EMIT), "Each time that the run parks. Reads `$error` and `$parked`."),
    ],
    one_of: &[],
};

static FINALLY_EMIT: Mapping = Mapping {
    name: "finally_emit",
    about: "An event. A field that fails at run time is left out and noted in the run.",
    keys: &[
        must("emit", Value::EventType, "Its type."),
        key("data", Value::Any, "Its data. May read any step."),
        key("key", Value::Text, "Its partition key."),
    ],
    one_of: &[],
};

/// `call:` names a service.
pub(super) const CALL: Value = SERVICE;
