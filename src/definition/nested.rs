//! Steps with lists of steps inside: `parallel`, `for`, `try`, and the lists that any step may have,
//! `fallback` and `on_timeout`.

use super::call::FORWARD;
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{
    Action, BlockIndex, Catch, FOR_DEPTH_MAX, Fallback, For, OnFailure, Parallel, Part, StepIndex, Tolerate, Try,
};
use super::reader::{At, Map, listed, shorten};
use super::step::Spot;
use super::yaml::{Meaning, Node, Yaml};
use crate::expression::{Name, suggest};
use crate::id::StepId;
use crate::problem::kind;

/// Branches of one `parallel`: more is a list, which `for` is for.
const BRANCHES_MAX: usize = 64;
/// Items side by side, each with its sockets.
const CONCURRENCY_MAX: u32 = 1_000;
const BATCH_MAX: u32 = 10_000;
const TOLERATE_MAX: u32 = 100_000;

impl Loader<'_> {
    pub(super) fn parallel(&mut self, node: &Node, index: StepIndex, path: &str, spot: Spot) -> Option<Action> {
        let map = self.reader.mapping(node, "`parallel`", &["branches", "join", "on_failure"], &[])?;
        let help = "write `branches: { left: [ … ], right: [ … ] }`";
        let branches = self.reader.required(map, "`parallel`", "branches", help)?;
        let Yaml::Mapping(entries) = &branches.value else {
            self.reader.mapping(branches, "`branches`", &[], &[]);
            return None;
        };
        if entries.is_empty() {
            self.reader.find(Finding::new("S060", branches.span.clone(), "a `parallel` has at least one branch"));
        }
        if entries.len() > BRANCHES_MAX {
            let message = format!("a `parallel` has at most {BRANCHES_MAX} branches");
            self.reader.find(
                Finding::new("S003", self.reader.first_line(&branches.span), message)
                    .help("use `for` over a list with `concurrency`"),
            );
            return None;
        }
        let join = map.get("join").map_or(Some(Need::All), |node| self.join(node, entries.len() as u32));
        let words = [("settle", OnFailure::Settle), ("cancel", OnFailure::Cancel)];
        let on_failure = map
            .get("on_failure")
            .map_or(Some(OnFailure::Settle), |node| self.reader.word(node, "`on_failure`", &words));
        if self.steps[index as usize].after_pivot
            && join.is_some_and(|need| need != Need::All)
            && let Some(entry) = map.entry("join")
        {
            let message = "after the pivot nothing is undone, so no branch can lose";
            self.reader.find(Finding::new("S046", entry.key_span.clone(), message).help("write `join: all`"));
        }
        let around = self.no_pivot.replace("parallel");
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Err(error) = StepId::parse(&entry.key) {
                self.reader.find(Finding::new("S010", entry.key_span.clone(), error.to_string()));
            }
            let part = Part::Branch(read.len() as u32);
            let block = self.block(&entry.value, part, path, spot.beside(index));
            read.push((entry.key.clone(), block));
        }
        self.no_pivot = around;
        let need = match join? {
            Need::All => read.len() as u32,
            Need::Some(need) => need,
        };
        Some(Action::Parallel(Parallel { branches: read, need, on_failure: on_failure? }))
    }

    fn join(&mut self, node: &Node, branches: u32) -> Option<Need> {
        if let Yaml::Mapping(_) = &node.value {
            let map = self.reader.mapping(node, "`join`", &["at_least"], &[])?;
            let at_least = self.reader.required(map, "`join`", "at_least", "write `{ at_least: 2 }`")?;
            return self.reader.integer(at_least, "`at_least`", 1, branches.max(1)).map(Need::Some);
        }
        self.reader.word(node, "`join`", &[("all", Need::All), ("any", Need::Some(1))])
    }

    pub(super) fn for_step(&mut self, map: Map<'_>, index: StepIndex, path: &str, spot: Spot) -> Option<Action> {
        const KNOWN: &[&str] = &["each", "in", "concurrency", "batch", "tolerate"];
        let rule = self.reader.mapping(map.get("for")?, "`for`", KNOWN, &[])?;
        let list = self.reader.required(rule, "`for`", "in", "write `in: ${ $input.lines }`");
        let list = list.and_then(|node| self.reader.expression(node, FORWARD, At::Forward(index)));
        let each = rule.get("each").and_then(|node| {
            self.reader.parsed(node, "the name in `each`", "S010", |text| StepId::parse(text).map(|_| text.to_owned()))
        });
        if let (Some(each), Some(entry)) = (&each, rule.entry("each"))
            && crate::expression::Root::ALL.iter().any(|root| root.name()[1..] == **each)
        {
            let message = format!("`${each}` means something else");
            self.reader.find(Finding::new("S010", entry.value.span.clone(), message).help("choose another name"));
        }
        let concurrency = rule
            .get("concurrency")
            .map_or(Some(1), |node| self.reader.integer(node, "`concurrency`", 1, CONCURRENCY_MAX));
        let batch = match rule.get("batch") {
            Some(node) => Some(self.reader.integer(node, "`batch`", 1, BATCH_MAX)?),
            None => None,
        };
        let tolerate = rule.get("tolerate").map_or(Some(Tolerate::Count(0)), |node| self.tolerate(node));
        let body = self.reader.required(map, "a `for` step", "do", "a list of steps");
        if usize::from(spot.items) >= FOR_DEPTH_MAX {
            let message = format!("`for` steps nest at most {FOR_DEPTH_MAX} deep");
            let span = self.places[index as usize].kind.clone();
            self.reader.find(Finding::new("S003", span, message));
            return None;
        }
        let before = self.reader.locals.len();
        let level = spot.items;
        self.reader.locals.push(("$item".to_owned(), Name::Item(level)));
        self.reader.locals.push(("$index".to_owned(), Name::Index(level)));
        if let Some(each) = &each {
            self.reader.locals.push((format!("${each}"), Name::Item(level)));
        }
        let around = self.no_pivot.replace("for");
        let inside = Spot { items: spot.items + 1, ..spot.beside(index) };
        let block = body.map(|body| self.block(body, Part::Item, &format!("{path}[]"), inside));
        self.no_pivot = around;
        self.reader.locals.truncate(before);
        Some(Action::For(For { list: list?, concurrency: concurrency?, batch, tolerate: tolerate?, block: block? }))
    }

    fn tolerate(&mut self, node: &Node) -> Option<Tolerate> {
        if let Yaml::Scalar(scalar) = &node.value
            && let Meaning::Text(text) = scalar.meaning()
        {
            let percent = text.strip_suffix('%').and_then(|text| text.trim().parse().ok());
            let percent = percent.filter(|percent| (0..=100).contains(percent));
            if percent.is_none() {
                let message = format!("`tolerate` is a count or a share such as \"10%\", not `{}`", shorten(text));
                self.reader.find(Finding::new("S013", node.span.clone(), message));
            }
            return percent.map(Tolerate::Percent);
        }
        self.reader.integer(node, "`tolerate`", 0, TOLERATE_MAX).map(Tolerate::Count)
    }

    pub(super) fn try_step(&mut self, map: Map<'_>, index: StepIndex, path: &str, spot: Spot) -> Option<Action> {
        let around = self.no_pivot.replace("try");
        let body = map.get("try").map(|node| self.block(node, Part::Body, path, spot.beside(index)));
        let help = "write `catch: [{ on: [TYPE], do: [ … ] }]`";
        let catch = self.reader.required(map, "a `try` step", "catch", help);
        let items = catch.and_then(|node| self.reader.list(node));
        let mut catches = Vec::new();
        let mut takes_all = false;
        for item in items.unwrap_or_default() {
            if takes_all {
                let message = "this `catch` is never reached: the one before it takes every failure";
                let span = self.reader.first_line(&item.span);
                self.reader.find(Finding::new("S047", span, message).help("put it before that one"));
            }
            let part = Part::Handler(catches.len() as u32);
            let catch = self.catch(item, index, part, path, spot);
            takes_all |= catch.as_ref().is_some_and(|catch| catch.on.is_empty() && catch.when.is_none());
            catches.extend(catch);
        }
        self.no_pivot = around;
        if let (Some([]), Some(node)) = (items, catch) {
            self.reader.find(Finding::new("S060", node.span.clone(), "a `try` has at least one `catch`"));
        }
        let whole = catches.len() == items.map_or(0, <[Node]>::len);
        let body = body?;
        whole.then_some(Action::Try(Try { body, catches }))
    }

    fn catch(&mut self, node: &Node, index: StepIndex, part: Part, path: &str, spot: Spot) -> Option<Catch> {
        let map = self.reader.mapping(node, "a `catch`", &["on", "when", "as", "keep", "do"], &[])?;
        let on = match map.get("on") {
            Some(node) => {
                let words = self.words(node, "`on`")?;
                for word in &words {
                    // A service's own types may be anything; one that is nearly ours is a slip.
                    if !kind::OURS.contains(&word.as_str())
                        && let Some(near) = suggest(word, kind::OURS)
                    {
                        let message = format!("no failure of ours has the type `{word}`");
                        let help = format!("did you mean `{near}`?");
                        self.reader.find(Finding::new("S071", node.span.clone(), message).help(help).warning());
                    }
                }
                words
            }
            None => Vec::new(),
        };
        let keep = map.get("keep").map_or(Some(false), |node| self.reader.boolean(node, "`keep`"));
        if self.steps[index as usize].after_pivot && keep == Some(false) {
            let message = "after the pivot nothing is undone, so a `catch` keeps what was done";
            self.reader
                .find(Finding::new("S046", self.reader.first_line(&node.span), message).help("write `keep: true`"));
        }
        let before = self.reader.locals.len();
        self.reader.locals.push(("$error".to_owned(), Name::Error));
        if let Some(node) = map.get("as") {
            let name = self
                .reader
                .parsed(node, "the name in `as`", "S010", |text| StepId::parse(text).map(|_| text.to_owned()));
            self.reader.locals.extend(name.map(|name| (format!("${name}"), Name::Error)));
        }
        let when = map.get("when").map(|node| self.reader.expression(node, FORWARD, At::Handler(index)));
        let body = self.reader.required(map, "a `catch`", "do", "a list of steps");
        let block = body.map(|body| self.block(body, part, path, spot.inside(index)));
        self.reader.locals.truncate(before);
        let when = match when {
            Some(when) => Some(when?),
            None => None,
        };
        Some(Catch { on, when, keep: keep?, block: block? })
    }

    /// Reads a word or a list of words.
    pub(super) fn words(&mut self, node: &Node, what: &str) -> Option<Vec<String>> {
        if let Yaml::Sequence(items) = &node.value {
            return items.iter().map(|item| self.reader.literal(item, what).map(str::to_owned)).collect();
        }
        self.reader.literal(node, what).map(|text| vec![text.to_owned()])
    }

    /// Reads `on_timeout`: `fail`, or steps.
    pub(super) fn on_timeout(
        &mut self,
        map: Map<'_>,
        index: StepIndex,
        path: &str,
        spot: Spot,
    ) -> Option<Option<BlockIndex>> {
        let after = self.steps[index as usize].after_pivot;
        let fails = |loader: &mut Self, span: std::ops::Range<usize>| {
            if after {
                let message = "after the pivot a timeout cannot fail the run";
                let help = "write `on_timeout: [ … ]` with what is to be done then, or leave `timeout` out";
                loader.reader.find(Finding::new("S046", span, message).help(help));
            }
            Some(None)
        };
        let Some(entry) = map.entry("on_timeout") else {
            return match map.entry("timeout") {
                Some(entry) => fails(self, entry.key_span.clone()),
                None => Some(None),
            };
        };
        if !map.has("timeout") {
            let message = "`on_timeout` needs a `timeout`";
            self.reader
                .find(Finding::new("S009", entry.key_span.clone(), message).help("say how long: `timeout: 24h`"));
        }
        if let Yaml::Sequence(_) = &entry.value.value {
            return Some(Some(self.block(&entry.value, Part::OnTimeout, path, spot.inside(index))));
        }
        self.reader.word(&entry.value, "`on_timeout`", &[("fail", ())])?;
        fails(self, entry.key_span.clone())
    }

    /// Reads what any step may have beside its kind.
    pub(super) fn shared_parts(&mut self, map: Map<'_>, index: StepIndex, path: &str, spot: Spot, kind: &str) {
        if let Some(node) = map.get("tags") {
            self.steps[index as usize].tags = self.words(node, "`tags`").unwrap_or_default();
        }
        let Some(entry) = map.entry("fallback") else { return };
        if kind == "fail" {
            let message = "`fallback` has no meaning on a `fail` step";
            self.reader.find(Finding::new("S016", entry.key_span.clone(), message));
        }
        let Some(rule) = self.reader.mapping(&entry.value, "`fallback`", &["value", "do"], &[]) else { return };
        let before = self.reader.locals.len();
        self.reader.locals.push(("$error".to_owned(), Name::Error));
        let fallback = match (rule.entry("value"), rule.entry("do")) {
            (Some(value), None) => self.reader.template(&value.value, FORWARD, At::Handler(index)).map(Fallback::Value),
            (None, Some(steps)) => {
                let around = self.no_pivot.replace("fallback");
                let block = self.block(&steps.value, Part::Fallback, path, spot.inside(index));
                self.no_pivot = around;
                Some(Fallback::Do(block))
            }
            (Some(_), Some(second)) => {
                let message = "`fallback` has a `value` or a `do`, not both";
                self.reader.find(Finding::new("S014", second.key_span.clone(), message));
                None
            }
            (None, None) => {
                self.reader.find(
                    Finding::new("S009", entry.key_span.clone(), "`fallback` has neither `value` nor `do`")
                        .help(format!("write one of {}", listed(&["value", "do"]))),
                );
                None
            }
        };
        self.reader.locals.truncate(before);
        self.steps[index as usize].fallback = fallback;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    All,
    Some(u32),
}
