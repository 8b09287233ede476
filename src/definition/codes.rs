//! Every code that a diagnostic can carry, with what it means. `docs/diagnostics.md` is this list; a test
//! keeps both equal, and asks for a file in `tests/diagnostics` that shows each.

/// Code, meaning, and what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    (
        "S001",
        "The text is not YAML.",
        "Look at the line shown: a bracket, quote or indentation is off there or just before it.",
    ),
    (
        "S002",
        "The text is YAML, but not of the kind that saga files use: a tag, a merge key, a second document, a key that is no text.",
        "Write the value out plainly.",
    ),
    (
        "S003",
        "A limit: 1 MiB of text, 200,000 values in 64 levels, 5,000 steps, 12 lists inside each other, 4 `for` inside each other, 64 branches.",
        "Split the saga, or let a participant do more of the work.",
    ),
    ("S004", "A key stands twice in one mapping.", "Keep one of them. YAML readers differ in which one they take."),
    (
        "S005",
        "A number that readers of YAML understand differently, such as `012`, `1_000` or `0x1F`.",
        "Quote it for text, or write the number as JSON does.",
    ),
    (
        "S006",
        "A value of the wrong shape: a list where text belongs, text where a number belongs.",
        "The message says what belongs there.",
    ),
    ("S007", "A key that the language does not have.", "Usually a typing mistake; the help names the nearest key."),
    (
        "S008",
        "A key of a service in a saga file that only services of the configuration have: limits, credentials, documents.",
        "Put the service under `services:` in backstitch.yaml; in a saga file it has `url`, `timeout` and `protocol`.",
    ),
    ("S009", "Something required is missing.", "Add the key that the message names."),
    (
        "S010",
        "A name with characters that names do not have.",
        "Saga names: `a-z 0-9 -`; step ids: `a-z 0-9 _`, as `-` is a subtraction in an expression; event types end in their version.",
    ),
    (
        "S011",
        "A duration that cannot be read.",
        "Write `200ms`, `3s`, `2m`, `24h`, `7d`, or ISO 8601 such as `PT1H30M`.",
    ),
    (
        "S012",
        "An expression where only a literal may stand, or a literal where an expression belongs.",
        "Retries, durations, services, methods, event types and keys are literal; `if`, `when`, `ok`, `happened` and the like are one `${ … }`.",
    ),
    (
        "S013",
        "A value outside its range, or a word that is not among those allowed.",
        "The message names the range or the words.",
    ),
    (
        "S014",
        "A step without a kind, or with two.",
        "A step has exactly one of `call`, `emit`, `set`, `wait`, `wait_until`, `switch`, `fail`, `await`, `ask`, `parallel`, `for`, `try`, `poll`, `run`.",
    ),
    ("S015", "A step id that is used twice.", "Ids are unique in the whole file, also across branches."),
    ("S016", "A key that has no meaning where it stands.", "Move it to the step it belongs to."),
    (
        "S017",
        "A webhook that the configuration does not have.",
        "Correct the name, or add the webhook under `webhooks:` in backstitch.yaml.",
    ),
    (
        "S020",
        "A service that is neither in the configuration nor in the file.",
        "Correct the name, or add the service under `services:`.",
    ),
    ("S021", "An event type without a schema.", "Correct the type, or add `schemas/NAME/vN.json`."),
    (
        "S022",
        "A service that is defined in the configuration and in the file.",
        "Rename one: a name means one service.",
    ),
    (
        "S023",
        "A service's address that cannot be used.",
        "Write an absolute address (`http`, `https`, `grpc`, `grpcs`, `nats`, `tls`) without user, password, query and fragment.",
    ),
    (
        "S024",
        "An inline schema of `input`, of an `output` or of a `form` that is no JSON Schema.",
        "Correct the place shown; draft 2020-12 is read, and draft 7 where `$schema` says so.",
    ),
    (
        "S025",
        "A calendar that cannot be read, a day that never comes, or an unknown time zone.",
        "`cron` has five fields: minute, hour, day of the month, month, day of the week; `timezone` is an IANA name.",
    ),
    (
        "S026",
        "A call that the service's OpenAPI document does not have (a warning).",
        "Correct the method or the path, or give the service its present document: `openapi` in backstitch.yaml.",
    ),
    (
        "S027",
        "A `with`, or a key beside it, of another protocol than the service's.",
        "Write the `with` of the service's protocol, or correct `protocol` at the service.",
    ),
    (
        "S028",
        "A GraphQL document that cannot be read, an operation that it does not have, or variables that do not fit it.",
        "Correct the place shown; values go into `variables`.",
    ),
    (
        "S029",
        "An operation, a parameter or a method that the service's OpenAPI document or descriptor does not have, or one that is missing.",
        "Correct it, or give the service its present document: `openapi` or `descriptor` in backstitch.yaml.",
    ),
    ("S030", "An expression names a step that does not exist.", "Correct the id."),
    (
        "S031",
        "An expression reads a step that does not come before it on its path.",
        "Read only earlier steps, and in a branch only that branch's.",
    ),
    (
        "S032",
        "An expression reads the result of a step that may have been skipped, without providing for it.",
        "Write `// …` behind it, or ask `$steps.ID.status` in the same expression, in the step's `if` or in the branch's `when`.",
    ),
    (
        "S033",
        "A `compensate` reads its step's output, which is null when the outcome is unknown.",
        "Undo by a reference of your own: `$input…` or `$forward.key`. Or write `// …`, or give `compensate` an `if`.",
    ),
    ("S034", "`// null` inside a longer text.", "Null is allowed only where the expression is the whole value."),
    (
        "S035",
        "An expression reads the output of a step that has none: a `wait`, a `switch`, a `fail`.",
        "Read a step that has one, or its `.status`.",
    ),
    (
        "S036",
        "An expression outside a `for` reads a step inside it, of which there is one for each item.",
        "Read the output of the `for` step: a list of the items' last outputs.",
    ),
    (
        "S040",
        "A call that does not say how it is undone.",
        "Add `compensate: { with: … }`, `compensate: none`, or `pivot: true`. The last call on its path may leave it open.",
    ),
    (
        "S041",
        "An event that is emitted or taken while the run may still be undone.",
        "Emit it last or after the pivot; or say how it is taken back with `compensate: { emit: … }`; or `compensate: none`.",
    ),
    (
        "S042",
        "A `where` that no event can meet: the path leads nowhere, or the values are never equal.",
        "Paths are those of the whole CloudEvent: `data.orderId`. The help names what is nearest.",
    ),
    (
        "S043",
        "A step that cannot be the pivot.",
        "A pivot always runs and takes effect: no `if`, no `optional`, no `switch`, `wait` or `fail`; and not inside a `parallel`, `for` or `try`.",
    ),
    ("S044", "A second pivot on one path.", "There is one point of no return."),
    (
        "S045",
        "A `switch` with a pivot in one branch leaves another path without one.",
        "Give it an `else`, and every branch a pivot or a `fail` at its end.",
    ),
    (
        "S046",
        "`compensate`, `fail`, a race, a timeout that fails or a `catch` without `keep` after the pivot.",
        "After the pivot the run only goes forward; remove it.",
    ),
    ("S047", "A step behind a `fail`, or a `catch` behind one that takes every failure.", "It is never reached."),
    ("S048", "A pivot with a `compensate`.", "Remove one of them."),
    (
        "S049",
        "A `cache` on a call that may have an effect.",
        "Use it with GET and HEAD, or where `compensate: none` says that there is no effect.",
    ),
    (
        "S050",
        "A path, query parameter or subject that cannot be sent, or a path in `where` that no event has.",
        "A path begins with a literal `/`; the host is the service's. An expression is written `${ … }` and fills one segment or query value.",
    ),
    ("S051", "A header that cannot be sent, or is the engine's own.", "Rename or remove it."),
    (
        "S052",
        "A method that is not known, or a body where there is none.",
        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, in capitals.",
    ),
    ("S060", "An empty list of steps or branches, or an `else` that is not last.", "Fill or reorder the list."),
    (
        "S070",
        "Warning: `yes`, `no`, `on` or `off` as data is text in YAML 1.2.",
        "Quote it to say so, or write `true` or `false`.",
    ),
    (
        "S071",
        "Warning: a type in `on` that is nearly one of ours.",
        "Ours are refused, unknown, timeout, cancelled, invalid_output, expression; a service's own may be anything.",
    ),
    (
        "S080",
        "Data that can never fit the schema that it is for: a member that is required is not there, one that is there is not allowed, or a value is of another kind.",
        "The message names the member. Data of an event is held against the event's schema, a trigger's `input` against the saga's, the `as` of an `output` against its own.",
    ),
    ("X001", "An expression that jq cannot parse.", "The caret is where the parser stopped."),
    (
        "X002",
        "An expression beyond a limit: 4 KiB, 512 tokens, 64 brackets, 100 terms deep.",
        "Name an intermediate value with a `set` step.",
    ),
    ("X003", "A variable that does not exist.", "The help names the nearest."),
    ("X004", "A variable that cannot be read at this place, or bound anew.", "The help lists what can be read there."),
    (
        "X005",
        "A function or construct that expressions do not have.",
        "See the list of functions in `docs/language.md`.",
    ),
    ("X006", "A field that a variable does not have.", "The help names the nearest."),
    (
        "X010",
        "A property that the schema does not have. A warning where the schema is open and the expression provides for null.",
        "The help names the nearest. In an open schema only a name that is nearly a declared one is reported.",
    ),
    (
        "X011",
        "A member of what has none: of text, a number, a list.",
        "Go through a list with `map(…)` or `.[]`, or take one item: `.[0]`.",
    ),
    (
        "X012",
        "Arithmetic between kinds that do not go together, such as text times a number.",
        "`tonumber` makes a number of text, `tostring` text of a number.",
    ),
    (
        "X013",
        "An expression that can never yield what its place needs: a condition that is no boolean, a list that is none.",
        "Compare with something (`== …`, `> …`, `!= null`): null and numbers are no booleans here.",
    ),
    (
        "X014",
        "A function over a value that it does not take, such as `map` over text.",
        "The message says what it takes.",
    ),
    (
        "X015",
        "Warning: a comparison that always has the same answer: of different kinds, or with a word that the value never is.",
        "The help names the nearest word.",
    ),
    ("X016", "A list or an object inside text.", "Take a member of it, or write it as JSON: `| tojson`."),
];

/// Returns `docs/diagnostics.md`.
#[cfg(test)]
pub(super) fn page() -> String {
    let mut out = String::from(
        "# Diagnostics\n\nWhat `backstitch validate` and a start say about a saga file: every mistake at once, each with its place\nand a help line. `S` codes are about the file, `X` codes about expressions. The folder\n`tests/diagnostics` shows each with a file and the page it gives.\n\n| code | what it means | what to do |\n|---|---|---|\n",
    );
    for (code, meaning, remedy) in CODES {
        out.push_str(&format!("| `{code}` | {} | {} |\n", meaning.replace('|', "\\|"), remedy.replace('|', "\\|")));
    }
    out.push_str(FILES);
    out
}

/// What is found between files (`app::finding`, `app::children`).
#[cfg(test)]
const FILES: &str = "
`F` codes are about files as a whole and what they mean to each other:

| code | what it means | what to do |
|---|---|---|
| `F001` | A file or folder that cannot be read. | Name one that is there. |
| `F002` | Two files define the same version of the same saga. | Give one of them another version. |
| `F003` | A schema or an example that is wrong. | The message names the place. |
| `F004` | Two files give the same service name to different addresses. | Rename one, or put it into the configuration. |
| `F005` | A `run` of a saga, or of a version, that is not there. | The help names the nearest. |
| `F006` | Sagas that run each other for ever, or more than 16 deep. | Let one of them end without the other. |
| `F007` | A `run` of a saga with a pivot, in a step that says `pivot: false`. | Leave it out; a path has one pivot. |
";
