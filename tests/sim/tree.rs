//! A saga of steps inside steps in the test's own words, its YAML, and where each call of it stands. The
//! checkers read this and never the product's model.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::spec::{Call, Check, Undo};

/// From the answer of one round of a poll to the next round.
pub const POLL_EVERY_MS: u64 = 300;

/// Items that a `for` goes through: those of the simulated input.
pub const ITEMS: usize = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    pub steps: Vec<Node>,
    /// Milliseconds.
    pub timeout: Option<u64>,
    pub lock: bool,
    /// Attempts of a call, in all.
    pub attempts: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub id: String,
    pub kind: Kind,
    pub handled: Handled,
}

/// How a step's failure is handled where it happens.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Handled {
    #[default]
    No,
    Optional,
    Value,
    Do(Vec<Node>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Call(Call),
    /// Asked so often before what it waits for is there.
    Poll(u32),
    /// A list that comes in so many pages.
    Pages(u32),
    Emit,
    /// An emit whose outcome is another event.
    Reply,
    Set,
    /// Milliseconds.
    Wait(u64),
    /// Skipped by its `if`.
    Skipped,
    Fail,
    Await {
        on_timeout: Option<Vec<Node>>,
    },
    Ask,
    Run,
    Switch(Vec<Node>),
    /// `wanted`: branches that must end well; all of them when it is their number.
    Parallel {
        branches: Vec<Vec<Node>>,
        wanted: usize,
        cancel: bool,
    },
    For {
        concurrency: u64,
        tolerate: usize,
        body: Vec<Node>,
    },
    /// `never`: the catch is for a type that does not occur.
    Try {
        body: Vec<Node>,
        keep: bool,
        never: bool,
        handler: Vec<Node>,
    },
}

impl Kind {
    /// The lists of steps inside, the handler of a failure apart.
    pub fn lists(&self) -> Vec<&Vec<Node>> {
        match self {
            Self::Switch(list) | Self::For { body: list, .. } | Self::Await { on_timeout: Some(list) } => vec![list],
            Self::Parallel { branches, .. } => branches.iter().collect(),
            Self::Try { body, handler, .. } => vec![body, handler],
            Self::Await { on_timeout: None }
            | Self::Call(_)
            | Self::Poll(_)
            | Self::Pages(_)
            | Self::Emit
            | Self::Reply
            | Self::Set
            | Self::Wait(_)
            | Self::Skipped
            | Self::Fail
            | Self::Ask
            | Self::Run => Vec::new(),
        }
    }

    pub fn lists_mut(&mut self) -> Vec<&mut Vec<Node>> {
        match self {
            Self::Switch(list) | Self::For { body: list, .. } | Self::Await { on_timeout: Some(list) } => vec![list],
            Self::Parallel { branches, .. } => branches.iter_mut().collect(),
            Self::Try { body, handler, .. } => vec![body, handler],
            _ => Vec::new(),
        }
    }

    /// How often a poll or a list in pages is asked for; 0 for everything else.
    pub fn rounds(&self) -> u32 {
        match self {
            Self::Poll(rounds) | Self::Pages(rounds) => *rounds,
            _ => 0,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Call(call) if call.pivot => "pivot",
            Self::Call(_) => "call",
            Self::Poll(_) => "poll",
            Self::Pages(_) => "pages",
            Self::Emit => "emit",
            Self::Reply => "reply",
            Self::Set => "set",
            Self::Wait(_) => "wait",
            Self::Skipped => "if",
            Self::Fail => "fail",
            Self::Await { .. } => "await",
            Self::Ask => "ask",
            Self::Run => "run",
            Self::Switch(_) => "switch",
            Self::Parallel { branches, wanted, .. } if *wanted < branches.len() => "race",
            Self::Parallel { .. } => "parallel",
            Self::For { .. } => "for",
            Self::Try { .. } => "try",
        }
    }
}

/// Where a step stands: one part for each list, branch and item around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The n-th thing of things one after the other.
    After(usize),
    /// One of several side by side.
    Beside(usize),
}

/// True when the one must be through before the other begins.
pub fn before(one: &[Part], other: &[Part]) -> bool {
    for (a, b) in one.iter().zip(other) {
        match (a, b) {
            (Part::After(a), Part::After(b)) if a != b => return a < b,
            (Part::Beside(a), Part::Beside(b)) if a != b => return false,
            (Part::After(_), Part::After(_)) | (Part::Beside(_), Part::Beside(_)) => {}
            _ => return false,
        }
    }
    false
}

/// A call, and where it stands.
#[derive(Clone)]
pub struct Placed {
    pub parts: Vec<Part>,
    pub call: Call,
}

impl Tree {
    pub fn of(steps: Vec<Node>) -> Self {
        Self { steps, timeout: None, lock: false, attempts: 3 }
    }

    /// Every call by path, once for each item that is gone through.
    pub fn calls(&self) -> BTreeMap<String, Placed> {
        let mut out = BTreeMap::new();
        place(&self.steps, "", &[], &mut out);
        out
    }

    /// Every poll and every list in pages by path, with its rounds, once for each item that is gone through.
    pub fn rounds(&self) -> BTreeMap<String, &Node> {
        fn walk<'a>(steps: &'a [Node], prefix: &str, out: &mut BTreeMap<String, &'a Node>) {
            for node in steps {
                let path = format!("{prefix}{}", node.id);
                match &node.kind {
                    Kind::Poll(_) | Kind::Pages(_) => drop(out.insert(path.clone(), node)),
                    Kind::For { body, .. } => (0..ITEMS).for_each(|at| walk(body, &format!("{path}[{at}]/"), out)),
                    kind => kind.lists().into_iter().for_each(|list| walk(list, &format!("{path}/"), out)),
                }
                if let Handled::Do(list) = &node.handled {
                    walk(list, &format!("{path}/"), out);
                }
            }
        }
        let mut out = BTreeMap::new();
        walk(&self.steps, "", &mut out);
        out
    }

    /// Every step, nested ones too, with how many steps are around it.
    pub fn flat(&self) -> Vec<(usize, &Node)> {
        fn walk<'a>(depth: usize, steps: &'a [Node], out: &mut Vec<(usize, &'a Node)>) {
            for node in steps {
                out.push((depth, node));
                node.kind.lists().into_iter().for_each(|list| walk(depth + 1, list, out));
                if let Handled::Do(list) = &node.handled {
                    walk(depth + 1, list, out);
                }
            }
        }
        let mut out = Vec::new();
        walk(0, &self.steps, &mut out);
        out
    }

    pub fn yaml(&self) -> String {
        let attempts = self.attempts;
        let mut text = format!(
            "saga: sim\nversion: 1\nservices:\n  svc: {{ url: \"http://127.0.0.1:1\" }}\n\
             defaults:\n  timeout: 1s\n  retry: {{ attempts: {attempts}, delay: 100ms, factor: 2, max_delay: 1s, jitter: none }}\n  \
             compensate: {{ retry: {{ attempts: 4, delay: 100ms, factor: 2, max_delay: 1s, jitter: none }} }}\n"
        );
        if let Some(timeout) = self.timeout {
            let _ = writeln!(text, "timeout: {timeout}ms");
        }
        if self.lock {
            text.push_str("lock: order/${ $input.order }\n");
        }
        text.push_str("steps:\n");
        write_list(&mut text, &self.steps, 2, false);
        text
    }
}

fn place(steps: &[Node], prefix: &str, parts: &[Part], out: &mut BTreeMap<String, Placed>) {
    let with = |parts: &[Part], part| [parts, &[part]].concat();
    for (position, node) in steps.iter().enumerate() {
        let parts = with(parts, Part::After(position));
        let path = format!("{prefix}{}", node.id);
        let inside = format!("{path}/");
        match &node.kind {
            Kind::Call(call) => {
                out.insert(path.clone(), Placed { parts: parts.clone(), call: call.clone() });
            }
            Kind::For { concurrency, body, .. } => {
                for item in 0..ITEMS {
                    let part = if *concurrency == 1 { Part::After(item) } else { Part::Beside(item) };
                    place(body, &format!("{path}[{item}]/"), &with(&parts, part), out);
                }
            }
            Kind::Parallel { branches, .. } => {
                for (at, branch) in branches.iter().enumerate() {
                    place(branch, &inside, &with(&parts, Part::Beside(at)), out);
                }
            }
            other => {
                for (at, list) in other.lists().into_iter().enumerate() {
                    place(list, &inside, &with(&parts, Part::After(at)), out);
                }
            }
        }
        if let Handled::Do(list) = &node.handled {
            place(list, &inside, &with(&parts, Part::After(9)), out);
        }
    }
}

/// `looped`: inside a `for`, where each call tells its item.
fn write_list(text: &mut String, steps: &[Node], indent: usize, looped: bool) {
    steps.iter().for_each(|node| write_node(text, node, indent, looped));
}

fn write_node(text: &mut String, node: &Node, indent: usize, looped: bool) {
    let id = &node.id;
    let _ = writeln!(text, "{}- id: {id}", " ".repeat(indent));
    let inner = indent + 2;
    let mut line = |more: usize, words: &str| {
        let _ = writeln!(text, "{}{words}", " ".repeat(inner + more));
    };
    match &node.kind {
        Kind::Call(call) => call_lines(id, call, looped).iter().for_each(|words| line(0, words)),
        Kind::Poll(rounds) => {
            let until = format!("${{ $result.body.times >= {rounds} }}");
            line(0, &format!("poll: {{ every: {POLL_EVERY_MS}ms, until: \"{until}\" }}"));
            line(0, "call: svc");
            line(0, &format!("with: {{ method: GET, path: /{id} }}"));
        }
        Kind::Pages(pages) => {
            let next = format!("${{ if $result.body.times < {pages} then \\\"/next\\\" else null end }}");
            line(0, "call: svc");
            line(0, &format!("with: {{ method: GET, path: /{id} }}"));
            line(0, &format!("paginate: {{ next: \"{next}\", items: \"${{ [$result.body.times] }}\", max: 20 }}"));
        }
        Kind::Emit => {
            line(0, "emit: sim.happened.v1");
            line(0, "data: { order: \"${ $input.order }\" }");
            line(0, "compensate: none");
        }
        Kind::Reply => {
            line(0, "emit: sim.wanted.v1");
            line(0, "data: { order: \"${ $input.order }\" }");
            line(0, "reply: { done: sim.done.v1, refused: sim.refused.v1, timeout: 1s }");
            line(0, "compensate: { emit: sim.unwanted.v1, data: {} }");
        }
        Kind::Set => line(0, "set: { doubled: \"${ $input.amount * 2 }\" }"),
        Kind::Wait(ms) => line(0, &format!("wait: {ms}ms")),
        Kind::Skipped => {
            line(0, "if: ${ $input.amount > 1000000 }");
            line(0, "set: 1");
        }
        Kind::Fail => line(0, "fail: { type: stop, title: stop }"),
        Kind::Await { on_timeout } => {
            line(0, "await: sim.answered.v1");
            line(0, "where: { data.order: \"${ $input.order }\" }");
            line(0, "timeout: 2s");
            line(0, "compensate: none");
            if let Some(list) = on_timeout {
                line(0, "on_timeout:");
                write_list(text, list, inner + 2, looped);
            }
        }
        Kind::Ask => {
            line(0, "ask: may it be done?");
            line(0, "timeout: 2s");
        }
        Kind::Run => line(0, "run: other"),
        Kind::Switch(list) => {
            line(0, "switch:");
            line(0, "  - when: ${ $input.amount == 7 }");
            line(0, "    do:");
            write_list(text, list, inner + 6, looped);
        }
        Kind::Parallel { branches, wanted, cancel } => {
            let join = match wanted {
                wanted if *wanted == branches.len() => "all".to_owned(),
                1 => "any".to_owned(),
                wanted => format!("{{ at_least: {wanted} }}"),
            };
            line(0, "parallel:");
            line(2, &format!("join: {join}"));
            line(2, &format!("on_failure: {}", if *cancel { "cancel" } else { "settle" }));
            line(2, "branches:");
            for (at, branch) in branches.iter().enumerate() {
                let _ = writeln!(text, "{}b{at}:", " ".repeat(inner + 4));
                write_list(text, branch, inner + 6, looped);
            }
        }
        Kind::For { concurrency, tolerate, body } => {
            line(
                0,
                &format!("for: {{ in: \"${{ $input.items }}\", concurrency: {concurrency}, tolerate: {tolerate} }}"),
            );
            line(0, "do:");
            write_list(text, body, inner + 2, true);
        }
        Kind::Try { body, keep, never, handler } => {
            line(0, "try:");
            write_list(text, body, inner + 2, looped);
            let mut line = |words: &str| {
                let _ = writeln!(text, "{}{words}", " ".repeat(inner));
            };
            line("catch:");
            line(&format!("  - keep: {keep}"));
            if *never {
                line("    on: [never.happens]");
            }
            line("    do:");
            write_list(text, handler, inner + 6, looped);
        }
    }
    let pad = " ".repeat(inner);
    let _ = match &node.handled {
        Handled::No => Ok(()),
        Handled::Optional => writeln!(text, "{pad}optional: true"),
        Handled::Value => writeln!(text, "{pad}fallback: {{ value: 0 }}"),
        Handled::Do(list) => {
            let told = writeln!(text, "{pad}fallback:\n{pad}  do:");
            write_list(text, list, inner + 4, looped);
            told
        }
    };
}

fn call_lines(id: &str, call: &Call, looped: bool) -> Vec<String> {
    let item = if looped { ", query: { item: \"${ $item }\" }" } else { "" };
    let mut lines = vec![
        "call: svc".to_owned(),
        format!("with: {{ method: POST, path: /{id}{item}, body: {{ key: \"${{ $step.key }}\" }} }}"),
    ];
    if call.proof {
        lines.push("classify: { proof: \"${ $result.status == 409 }\" }".to_owned());
    }
    let mut unknown = Vec::new();
    if call.check != Check::No {
        unknown.push(format!(
            "check: {{ with: {{ method: GET, path: /{id} }}, happened: \"${{ $result.body.applied }}\", conclusive: {}, retry: {{ attempts: 2, delay: 50ms, jitter: none }} }}",
            call.check == Check::Conclusive
        ));
    }
    if call.park_unknown {
        unknown.push("else: park".to_owned());
    }
    if !unknown.is_empty() {
        lines.push(format!("on_unknown: {{ {} }}", unknown.join(", ")));
    }
    match call.undo {
        _ if call.pivot => lines.push("pivot: true".to_owned()),
        Undo::Call => {
            lines.push(format!(
                "compensate: {{ with: {{ method: DELETE, path: \"/{id}/${{ $forward.key }}\"{item} }} }}"
            ));
        }
        Undo::None => lines.push("compensate: none".to_owned()),
        Undo::Emit => {
            lines.push("compensate: { emit: sim.undone.v1, data: { key: \"${ $forward.key }\" } }".to_owned());
        }
        Undo::Unstated => {}
    }
    lines
}

/// A step whose failure nobody handles.
pub fn node(id: &str, kind: Kind) -> Node {
    Node { id: id.to_owned(), kind, handled: Handled::No }
}
