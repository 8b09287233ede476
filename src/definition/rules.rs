//! Rules that need more than one value: how each step is undone, where the pivot may stand, and which
//! steps an expression may read.

use std::collections::BTreeSet;

use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{Action, BlockIndex, Compensate, Part, Step, StepIndex};
use super::reader::{At, Map, Use};
use crate::expression::{Name, suggest};

impl Loader<'_> {
    /// Decides what a step's undo is, and refuses a file that leaves it open.
    pub(super) fn undo_rules(&mut self, index: StepIndex, map: Map<'_>, kind: &str, stated: Option<Compensate>) {
        let broken = self.broken.contains(&index);
        let place = self.places[index as usize].clone();
        let (pivot, after, id) = {
            let step = &self.steps[index as usize];
            (step.pivot, step.after_pivot, step.id.clone())
        };
        if pivot {
            self.pivot_rules(index, map, kind);
        }
        if after && kind == "fail" {
            let help = "before the pivot a failure undoes; after it the run only goes forward";
            self.reader
                .find(Finding::new("S046", place.kind.clone(), "`fail` cannot stand after the pivot").help(help));
        }
        if let Some(entry) = map.entry("compensate") {
            let refused = if after {
                Some(("S046", "after the pivot nothing is undone", "remove `compensate`"))
            } else if pivot {
                Some(("S048", "a pivot is never undone", "remove `compensate`, or `pivot: true`"))
            } else if matches!(kind, "switch" | "fail" | "wait" | "wait_until" | "parallel" | "for" | "try")
                && matches!(&stated, Some(Compensate::Call(_) | Compensate::Emit(_) | Compensate::Run(_)))
            {
                Some(("S016", "this step does nothing that could be undone", "put `compensate` on the steps that do"))
            } else {
                None
            };
            if let Some((code, message, help)) = refused {
                self.reader.find(Finding::new(code, entry.key_span.clone(), message).help(help));
            }
            if let Some(stated) = stated {
                self.steps[index as usize].compensate = stated;
            }
            return;
        }
        let step = &self.steps[index as usize];
        let silent = match &step.action {
            Action::Call(call) if call.reads => Compensate::None,
            Action::Poll(poll) if poll.call.reads => Compensate::None,
            Action::Call(_) | Action::Poll(_) => Compensate::Unstated,
            Action::Emit(emit) if emit.reply.is_some() => Compensate::Unstated,
            // A child undoes itself.
            Action::Run(_) => Compensate::Unstated,
            Action::Emit(_)
            | Action::Set(_)
            | Action::Wait(_)
            | Action::Switch(_)
            | Action::Fail(_)
            | Action::Await(_)
            | Action::Ask(_)
            | Action::Parallel(_)
            | Action::For(_)
            | Action::Try(_) => Compensate::None,
        };
        let open = !broken && !pivot && !after && !place.last;
        if open && matches!(silent, Compensate::Unstated) && kind != "run" {
            let message = format!("step `{id}` does not say how it is undone");
            let help =
                "add `compensate: { with: … }`, or `compensate: none` if nothing needs undoing, or `pivot: true`";
            self.reader.find(Finding::new("S040", place.id, message).help(help));
        } else if open && matches!(kind, "emit" | "await") {
            let message = if kind == "emit" {
                format!("step `{id}` emits an event that later failures cannot recall")
            } else {
                format!("step `{id}` takes an event that later failures cannot give back")
            };
            let help = "let it come last or after the pivot, or add `compensate: { emit: … }` or `compensate: none`";
            self.reader.find(Finding::new("S041", place.id, message).help(help));
        }
        self.steps[index as usize].compensate = silent;
    }

    fn pivot_rules(&mut self, index: StepIndex, map: Map<'_>, kind: &str) {
        let resolved = self.resolved.contains(self.steps[index as usize].id.as_str());
        let by_its_child = || map.entry("run").filter(|_| resolved);
        let Some(entry) = map.entry("pivot").or_else(by_its_child) else { return };
        let span = entry.key_span.clone();
        if self.steps[index as usize].after_pivot {
            let message = "there is a pivot before this one on its path";
            self.reader
                .find(Finding::new("S044", span.clone(), message).help("at most one step is the point of no return"));
        }
        if let Some(around) = self.no_pivot {
            let message = format!("no pivot can stand inside a `{around}`");
            let help = "put it on the top level, or into a branch of a `switch`";
            self.reader.find(Finding::new("S043", span.clone(), message).help(help));
        }
        if matches!(kind, "switch" | "fail" | "wait" | "wait_until" | "parallel" | "for" | "try" | "await" | "ask") {
            let message = format!("{} `{kind}` step cannot be the pivot", super::step::article(kind));
            let help = "mark the step that takes effect; a `set` can mark the decision";
            self.reader.find(Finding::new("S043", span, message).help(help));
        }
        for key in ["if", "optional", "fallback"] {
            if let Some(entry) = map.entry(key) {
                let message = format!("a pivot has no `{key}`");
                let help = "put it into a branch of a `switch`; every branch then has a pivot or ends in `fail`";
                self.reader.find(Finding::new("S043", entry.key_span.clone(), message).help(help));
            }
        }
    }

    /// Checks every read of a step against where it stands.
    pub(super) fn read_rules(&mut self) {
        let uses = std::mem::take(&mut self.reader.uses);
        // A status read in the same expression, in the step's `if` or in a condition around it guards.
        let statuses: BTreeSet<(usize, &str)> = uses
            .iter()
            .filter_map(|one| match &one.name {
                Name::StepStatus(id) => Some((one.expression, &**id)),
                _ => None,
            })
            .collect();
        let conditions: BTreeSet<(StepIndex, &str)> = uses
            .iter()
            .filter_map(|one| match (&one.name, one.at) {
                (Name::StepStatus(id), At::Condition(step)) => Some((step, &**id)),
                _ => None,
            })
            .collect();
        let mut findings = Vec::new();
        for one in &uses {
            let finding = match &one.name {
                Name::ForwardOutput => self.forward_output(one),
                name => match name.step() {
                    Some(id) => {
                        let guarded = one.guarded || statuses.contains(&(one.expression, id));
                        self.step_read(one, id, guarded, &conditions)
                    }
                    None => None,
                },
            };
            findings.extend(finding);
        }
        self.reader.findings.extend(findings);
    }

    fn forward_output(&self, one: &Use) -> Option<Finding> {
        let At::Undo { step, conditional } = one.at else { return None };
        let calls = match &self.steps[step as usize].action {
            Action::Call(_) | Action::Poll(_) => true,
            Action::Emit(emit) => emit.reply.is_some(),
            _ => false,
        };
        (calls && !conditional && !one.guarded).then(|| {
            let message = "the step may be undone while its outcome is unknown; then this is null";
            let help = "undo by a reference of your own ($input…, $forward.key), or write `// …`, or give `compensate` an `if`";
            Finding::new("S033", one.span.clone(), message).help(help)
        })
    }

    fn step_read(
        &self,
        one: &Use,
        id: &str,
        guarded: bool,
        conditions: &BTreeSet<(StepIndex, &str)>,
    ) -> Option<Finding> {
        let Some(target) = self.steps.iter().position(|step| step.id.as_str() == id) else {
            if self.unread.contains(id) {
                return None;
            }
            let known = self.steps.iter().map(|step| step.id.as_str());
            let help = suggest(id, known)
                .map_or_else(|| "steps are named by their `id`".to_owned(), |near| format!("did you mean `{near}`?"));
            return Some(Finding::new("S030", one.span.clone(), format!("there is no step `{id}`")).help(help));
        };
        let target = target as StepIndex;
        let reader = match one.at {
            At::Outside | At::Finally => return None,
            At::Undo { step, conditional } => {
                if step == target && matches!(one.name, Name::StepOutput(_)) {
                    return self.forward_output(&Use {
                        at: At::Undo { step, conditional: conditional || guarded },
                        ..one.clone()
                    });
                }
                return None;
            }
            At::Output => None,
            At::Forward(step) | At::Condition(step) | At::Handler(step) => Some(step),
        };
        let (own, theirs) =
            (reader.map_or(0, |reader| self.steps[reader as usize].items), self.steps[target as usize].items);
        if let Some(reader) = reader {
            let handler = matches!(one.at, At::Handler(_));
            let message = if reader == target && !handler {
                Some(format!("step `{id}` reads itself"))
            } else if self.ancestors(reader).any(|(around, block)| around == target && !self.handles(block)) {
                let kind = self.steps[target as usize].action.word();
                Some(format!("`{id}` is the `{kind}` around this step and has no result yet"))
            } else if target > reader && !handler {
                Some(format!("step `{id}` comes later"))
            } else if self.in_other_branch(reader, target) {
                Some(format!("step `{id}` is in another branch and never ran when this one does"))
            } else {
                None
            };
            if let Some(message) = message {
                let help = "an expression reads steps before it on its path";
                return Some(Finding::new("S031", one.span.clone(), message).help(help));
            }
        }
        if theirs > own || (theirs > 0 && reader.is_none_or(|reader| !self.same_item(reader, target))) {
            let message = format!("step `{id}` runs once for each item; outside there is not one of it");
            let help = "read the output of the `for` step, a list of the items' last outputs";
            return Some(Finding::new("S036", one.span.clone(), message).help(help));
        }
        if let Name::StepOutput(_) = one.name
            && let Some(kind) = self.without_output(target)
        {
            let message = format!("step `{id}` is a `{kind}` and has no output");
            let help = "read a step that has one, or this step's `.status`";
            return Some(Finding::new("S035", one.span.clone(), message).help(help));
        }
        if guarded || matches!(one.name, Name::StepStatus(_) | Name::StepError(_)) {
            return None;
        }
        if let Some(reader) = reader
            && (conditions.contains(&(reader, id))
                || self.ancestors(reader).any(|(switch, _)| conditions.contains(&(switch, id))))
        {
            return None;
        }
        let why = self.may_be_missing(target, reader)?;
        let message = format!("step `{}` may have no result here: {why}", self.steps[target as usize].path);
        let help = format!("write `// …` behind it, or ask `$steps.{id}.status` first");
        Some(Finding::new("S032", one.span.clone(), message).help(help))
    }

    fn without_output(&self, step: StepIndex) -> Option<&'static str> {
        if self.broken.contains(&step) {
            return None;
        }
        match &self.steps[step as usize].action {
            Action::Call(_)
            | Action::Emit(_)
            | Action::Set(_)
            | Action::Await(_)
            | Action::Ask(_)
            | Action::Parallel(_)
            | Action::For(_)
            | Action::Try(_)
            | Action::Poll(_)
            | Action::Run(_) => None,
            // With a `fallback` it has that one's.
            _ if self.steps[step as usize].fallback.is_some() => None,
            Action::Wait(_) => Some("wait"),
            Action::Switch(_) => Some("switch"),
            Action::Fail(_) => Some("fail"),
        }
    }

    /// Says why a step before the reader may not have run.
    fn may_be_missing(&self, target: StepIndex, reader: Option<StepIndex>) -> Option<String> {
        let around: BTreeSet<BlockIndex> =
            reader.map(|reader| self.ancestors(reader).map(|(_, block)| block).collect()).unwrap_or_default();
        let own = |step: &Step| {
            if step.condition.is_some() {
                return Some(format!("`{}` has an `if`", step.id));
            }
            if step.optional {
                return Some(format!("`{}` is optional", step.id));
            }
            match &step.action {
                Action::Await(rule) if rule.on_timeout.is_some() => Some(format!("`{}` has an `on_timeout`", step.id)),
                Action::Ask(rule) if rule.on_timeout.is_some() => Some(format!("`{}` has an `on_timeout`", step.id)),
                _ => None,
            }
        };
        if let Some(why) = own(&self.steps[target as usize]) {
            return Some(why);
        }
        self.ancestors(target).find_map(|(owner, block)| {
            if around.contains(&block) {
                return None;
            }
            let step = &self.steps[owner as usize];
            let part = match self.blocks[block as usize].part {
                Part::Root => return None,
                Part::Arm(arm) => Some(format!("it is in branch {} of `{}`", arm + 1, step.id)),
                Part::Branch(_) => match &step.action {
                    Action::Parallel(parallel) if parallel.is_race() => {
                        Some(format!("its branch of `{}` may lose", step.id))
                    }
                    _ => None,
                },
                Part::Item => None,
                Part::Body => Some(format!("`{}` may have failed before it", step.id)),
                Part::Handler(_) => Some(format!("it runs only when `{}` fails", step.id)),
                Part::Fallback => Some(format!("it runs only when `{}` fails", step.id)),
                Part::OnTimeout => Some(format!("it runs only when `{}` is not answered in time", step.id)),
            };
            own(step).or(part)
        })
    }

    /// Returns the steps around a step with the list it is in, innermost first.
    fn ancestors(&self, step: StepIndex) -> impl Iterator<Item = (StepIndex, BlockIndex)> {
        let parent = |step: StepIndex| {
            let block = self.steps[step as usize].block;
            self.blocks[block as usize].owner.map(|owner| (owner, block))
        };
        std::iter::successors(parent(step), move |(step, _)| parent(*step))
    }

    /// True for a list that runs when its owner has come to something.
    fn handles(&self, block: BlockIndex) -> bool {
        match self.blocks[block as usize].part {
            Part::Handler(_) | Part::Fallback | Part::OnTimeout => true,
            Part::Root | Part::Arm(_) | Part::Branch(_) | Part::Item | Part::Body => false,
        }
    }

    /// True where a reader stands in the same item of every `for` around the target.
    fn same_item(&self, reader: StepIndex, target: StepIndex) -> bool {
        let around: BTreeSet<BlockIndex> = self.ancestors(reader).map(|(_, block)| block).collect();
        self.ancestors(target)
            .filter(|(_, block)| self.blocks[*block as usize].part == Part::Item)
            .all(|(_, block)| around.contains(&block))
    }

    /// True where a target stands in a list that does not come before the reader's.
    fn in_other_branch(&self, reader: StepIndex, target: StepIndex) -> bool {
        let around: Vec<_> = self.ancestors(reader).collect();
        self.ancestors(target).any(|(owner, block)| {
            around.iter().any(|(other, taken)| {
                *other == owner && *taken != block && (!self.handles(*taken) || self.handles(block))
            })
        })
    }
}
