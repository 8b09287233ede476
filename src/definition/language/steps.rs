//! Steps: the kinds and their keys.

use super::calls::{
    CACHE, CLASSIFY, COMPENSATE, FALLBACK, IDEMPOTENCY, ON_UNKNOWN, OUTPUT, PAGINATE, REPLY, RETRY_OR_FOREVER, TIMEOUT,
    WHERE, WITH, WORDS,
};
use super::top::CALL;
use super::{Key, Mapping, Value, key, must};

/// A list of steps.
pub(super) const STEPS: Value = Value::Steps;

/// The keys that say what a step does.
pub const KINDS: &[&str] = &[
    "call",
    "emit",
    "await",
    "ask",
    "wait",
    "wait_until",
    "set",
    "switch",
    "parallel",
    "for",
    "try",
    "poll",
    "run",
    "fail",
];

/// Kinds that are keys of another kind as well.
pub const KINDS_BESIDE: &[(&str, &str)] = &[("call", "poll"), ("wait", "run")];

/// A step.
pub static STEP: Mapping = Mapping {
    name: "step",
    about: "A step: an `id` and exactly one kind. One with an effect says how it is undone (`compensate`), that there is nothing to undo (`compensate: none`), or that it is the point of no return (`pivot: true`).",
    keys: STEP_KEYS,
    one_of: KINDS,
};

const STEP_KEYS: &[Key] = &[
    must("id", Value::Name("^[a-z][a-z0-9_]{0,62}$"), "Unique in the file. Expressions read it as `$steps.ID`."),
    // What it does.
    key(
        "call",
        CALL,
        "Calls a service of the configuration. Output: http `{status, headers, body}`; grpc, nats the message; graphql `data`.",
    ),
    key("emit", Value::EventType, "Publishes an event. Output: its `{id}`; with `reply` the reply event."),
    key(
        "await",
        AWAITED,
        "Waits for an event: of one type, `any` of several, or `all` of them. Output: the whole event.",
    ),
    key("ask", ASKED, "Asks a person: the title alone, or a mapping. Output: the answer, and `by`."),
    key(
        "wait",
        Value::OneOf(&[Value::Duration, Value::Boolean]),
        "Waits for a time. Beside `run`: false does not wait for the saga's end.",
    ),
    key("wait_until", Value::Expression, "Waits for a moment: RFC 3339 text, or milliseconds since 1970."),
    key(
        "set",
        Value::Any,
        "Names a value. With a `compensate` that names its `call`: something to undo with nothing to do.",
    ),
    key("switch", BRANCHES, "Runs the first branch whose `when` holds. None and no `else`: the step is skipped."),
    key("parallel", Value::Mapping(&PARALLEL), "Runs branches side by side. Output: their outputs by name."),
    key("for", Value::Mapping(&FOR), "Runs `do` once for each item. Output: the list of the items' last outputs."),
    key("try", STEPS, "Runs steps whose failure `catch` handles. A caught failure first undoes what they did."),
    key("poll", Value::Mapping(&POLL), "Repeats the step's `call` until its answer will do. Output: the last answer."),
    key("run", Value::Name("^[a-z][a-z0-9-]{0,62}$"), "Runs another saga. Output: its output."),
    key("fail", Value::Mapping(&FAIL), "Ends the way forward."),
    // Any step.
    key("if", Value::Condition, "False: the step is skipped."),
    key(
        "timeout",
        TIMEOUT,
        "One attempt, or `{attempt, total}`. Beats the service's, which beats `defaults`; else 30 s. Of a wait for events or people: how long.",
    ),
    key("retry", RETRY_OR_FOREVER, "When a failed attempt is tried again; `forever` never gives up."),
    key("classify", Value::Mapping(&CLASSIFY), "What an answer means, where the protocol's defaults are wrong."),
    key(
        "on_unknown",
        Value::Mapping(&ON_UNKNOWN),
        "What to do when nobody knows whether it happened, as after a timeout.",
    ),
    key("paginate", Value::Mapping(&PAGINATE), "Fetches page after page."),
    key("idempotency", Value::Mapping(&IDEMPOTENCY), "Where the idempotency key goes."),
    key("compensate", COMPENSATE, "How the step is undone; `none`: nothing need be."),
    key(
        "pivot",
        Value::Boolean,
        "The point of no return. Before it the run is undone backwards, after it it only goes forward.",
    ),
    key("optional", Value::Boolean, "Its failure does not fail the run."),
    key("fallback", Value::Mapping(&FALLBACK), "What stands in for it when it fails."),
    key("cache", Value::Mapping(&CACHE), "Answers from memory."),
    key("output", OUTPUT, "What later steps and the undo read, made from `$result`."),
    key("expect", Value::Condition, "A precondition on `$result`: false means done, then failed."),
    key("tags", WORDS, "Words for people and tools."),
    // Of some kinds.
    key("with", Value::Mapping(&WITH), "Of `call` and `poll`: what is sent."),
    key("data", Value::Any, "Of `emit`: the event's data."),
    key("key", Value::Text, "Of `emit`: the partition key. Events of one key stay in order."),
    key("reply", Value::Mapping(&REPLY), "Of `emit`: makes a call over events of it."),
    key(
        "where",
        WHERE,
        "Of `await`: which event counts: values at paths of the whole CloudEvent, such as `data.orderId`.",
    ),
    key("title", Value::Text, "Of `ask`: what is asked, in one line."),
    key("show", Value::Any, "Of `ask`: what the person needs to see."),
    key("form", Value::Schema, "Of `ask`: what an answer looks like."),
    key("who", WORDS, "Of `ask`: who may answer. Default: whoever may operate runs."),
    key(
        "since",
        Value::Words(&["start", "step"]),
        "Of `await`: events count from the run's start (the default), or from when the step began.",
    ),
    key("on_timeout", ON_TIMEOUT, "Of `await` and `ask`: `fail` (the default), or steps."),
    key("catch", CATCHES, "Of `try`: the first that matches handles the failure."),
    key("do", STEPS, "Of `for`: the steps for each item, which they read as `$item` and `$index`."),
    key(
        "version",
        Value::Integer(1, 1_000_000),
        "Of `run`: the saga's version. Default: the newest when this file was loaded.",
    ),
    key("input", Value::Any, "Of `run`: the saga's input."),
];

const ASKED: Value = Value::OneOf(&[Value::Mapping(&ASK), Value::Text]);
const AWAITED: Value = Value::OneOf(&[Value::EventType, Value::Mapping(&AWAIT)]);
const BRANCHES: Value = Value::List(&Value::Mapping(&BRANCH));
const CATCHES: Value = Value::List(&Value::Mapping(&CATCH));
const ON_TIMEOUT: Value = Value::OneOf(&[Value::Words(&["fail"]), STEPS]);

static AWAIT: Mapping = Mapping {
    name: "await",
    about: "Several types.",
    keys: &[
        key("any", Value::List(&Value::EventType), "The first event of any of these types."),
        key("all", Value::List(&Value::EventType), "One event of each of these types."),
    ],
    one_of: &["any", "all"],
};

static ASK: Mapping = Mapping {
    name: "ask",
    about: "A task for a person.",
    keys: &[
        key("title", Value::Text, "What is asked, in one line. Here or beside `ask`."),
        key("show", Value::Any, "What the person needs to see."),
        key("form", Value::Schema, "What an answer looks like."),
        key("who", WORDS, "Who may answer. Default: whoever may operate runs."),
        key("timeout", Value::Duration, "How long an answer is waited for."),
        key("on_timeout", ON_TIMEOUT, "`fail` (the default), or steps."),
    ],
    one_of: &[],
};

static BRANCH: Mapping = Mapping {
    name: "branch",
    about: "`{ when, do }`, or as the last `{ else }`.",
    keys: &[
        key("when", Value::Condition, "Taken where this is the first that holds."),
        key("do", STEPS, "Its steps."),
        key("else", STEPS, "Its steps where no other branch was taken."),
    ],
    one_of: &["when", "else"],
};

static PARALLEL: Mapping = Mapping {
    name: "parallel",
    about: "Branches side by side.",
    keys: &[
        must("branches", Value::Named(&STEPS), "Lists of steps by name."),
        key(
            "join",
            JOIN,
            "How many branches have to succeed: `all` (the default), `any` one, or `{at_least: n}`. The others are undone.",
        ),
        key(
            "on_failure",
            Value::Words(&["settle", "cancel"]),
            "When a branch fails: the others' attempts go on to their end (`settle`, the default), or the one in flight is the last.",
        ),
    ],
    one_of: &[],
};

const JOIN: Value = Value::OneOf(&[Value::Words(&["all", "any"]), Value::Mapping(&AT_LEAST)]);

static AT_LEAST: Mapping = Mapping {
    name: "at_least",
    about: "So many branches.",
    keys: &[must("at_least", Value::Integer(1, 500), "So many branches have to succeed.")],
    one_of: &[],
};

static FOR: Mapping = Mapping {
    name: "for",
    about: "What is gone through, and how.",
    keys: &[
        must("in", Value::Expression, "The list."),
        key("each", Value::Name("^[a-z][a-z0-9_]{0,62}$"), "The item's variable, instead of `item`."),
        key("concurrency", Value::Integer(1, 10_000), "Items side by side. Default 1."),
        key("batch", Value::Integer(1, 100_000), "Items per slice; the slice is passed as a list."),
        key(
            "tolerate",
            Value::OneOf(&[Value::Integer(0, 1_000_000), Value::Name("^[0-9]{1,3}%$")]),
            "How many items may fail: a count, or a share such as \"10%\". Default 0. A tolerated item gives null.",
        ),
    ],
    one_of: &[],
};

static CATCH: Mapping = Mapping {
    name: "catch",
    about: "Handles a failure of a `try`.",
    keys: &[
        key("on", WORDS, "Failure types, such as `refused`, `timeout`, or what a `fail` says. Default: any."),
        key("when", Value::Condition, "Only where this holds. Reads `$error`."),
        key("as", Value::Name("^[a-z][a-z0-9_]{0,62}$"), "A variable for the failure, beside `$error`."),
        key("keep", Value::Boolean, "What the `try` did stays, and is undone only with the run."),
        key("do", STEPS, "What is done about it."),
    ],
    one_of: &[],
};

static POLL: Mapping = Mapping {
    name: "poll",
    about: "When the call is repeated, and until when.",
    keys: &[
        must("every", Value::Duration, "Between two calls."),
        must("until", Value::Condition, "True ends it. Reads `$result`."),
        key("timeout", Value::Duration, "How long it is tried."),
    ],
    one_of: &[],
};

static FAIL: Mapping = Mapping {
    name: "fail",
    about: "A problem as in RFC 9457.",
    keys: &[
        must("type", Value::Text, "A short word for programs, such as `out_of_stock`."),
        must("title", Value::Text, "One line for people."),
        key("detail", Value::Text, "More about it."),
    ],
    one_of: &[],
};
