//! What the variables of a file hold, as far as schemas and the file itself say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::super::file::Loader;
use super::super::model::{
    Action, AwaitMode, Block, BlockIndex, For, InputSchema, OutputSchema, Part, Step, StepIndex,
};
use super::super::reader::{self, AnswerTo};
use super::super::yaml::{Node, Yaml};
use crate::expression::Name;
use crate::expression::infer::Known;
use crate::id::{EventType, ServiceName};
use crate::openapi::{Answers, OpenApi, UNKNOWN};
use crate::payload::Payload;
use crate::schema::Schema;
use crate::schema::shape::{Document, Fields, Kinds, Shape};
use crate::service::Protocol;

/// Everything that `$steps.ID.status` can be.
pub(super) const STATUSES: &[&str] = &[
    "not_started",
    "skipped",
    "waiting",
    "running",
    "done",
    "refused",
    "unknown",
    "undoing",
    "undone",
    "undo_failed",
    "undo_skipped",
    "withdrawn",
    "lost",
];

/// Returns what fits a schema in the file; none for one that is no schema, which is told elsewhere.
fn inline(source: &Payload) -> Option<Shape> {
    Schema::compile(source).is_ok().then(|| Document::new(source).shape())
}

/// One entry of `on:`.
pub(super) struct Trigger {
    pub place: Range<usize>,
    /// Where its event type stands.
    pub span: Range<usize>,
    /// Its event has the headers of a request.
    pub webhook: bool,
    /// The event's data; none: nothing is known.
    pub data: Option<Shape>,
    /// `input:`
    pub input: Option<Node>,
}

/// The variables of one file.
pub(super) struct Variables<'l> {
    steps: &'l [Step],
    blocks: &'l [Block],
    /// What the steps around a step bind.
    locals: BTreeMap<StepIndex, &'l [(String, Name)]>,
    schemas: BTreeMap<EventType, Rc<Document>>,
    openapi: BTreeMap<ServiceName, Arc<OpenApi>>,
    triggers: Vec<Trigger>,
    input: Option<Shape>,
    /// Of the steps that have been worked out: each is before those that read it, and a chain of thousands needs
    /// no stack.
    outputs: RefCell<BTreeMap<StepIndex, Shape>>,
    ids: BTreeMap<&'l str, StepIndex>,
}

/// The variables at one place of the file.
pub(super) struct At<'v, 'l> {
    pub variables: &'v Variables<'l>,
    pub at: reader::At,
    /// The byte where the expression's scalar begins.
    pub place: usize,
    /// Which answer `$result` is; none: any to the step's own call.
    pub answer: Option<AnswerTo>,
    /// What the steps around bind.
    pub locals: &'v [(String, Name)],
}

impl<'l> Variables<'l> {
    pub(super) fn new(loader: &'l Loader<'_>, tree: &Node, input: Option<&InputSchema>) -> Self {
        let schemas = loader.environment.schemas;
        let mut documents: BTreeMap<EventType, Rc<Document>> = BTreeMap::new();
        let mut document = |event: &EventType| -> Option<Rc<Document>> {
            if let Some(known) = documents.get(event) {
                return Some(Rc::clone(known));
            }
            let made = Document::new(&schemas.schema(event)?);
            documents.insert(event.clone(), made.clone());
            Some(made)
        };
        let triggers = match member(tree, "on").map(|on| &on.value) {
            Some(Yaml::Sequence(items)) => items.iter().map(|item| trigger(item, &mut document)).collect(),
            _ => Vec::new(),
        };
        let input = match input {
            Some(InputSchema::Event(event)) => document(event).map(|document| document.shape()),
            Some(InputSchema::Inline(source)) => inline(source),
            None => None,
        };
        for step in &loader.steps {
            let check = step.on_unknown.check.as_ref().and_then(|check| check.output_schema.as_ref());
            for declared in step.output_schema.iter().chain(check) {
                if let OutputSchema::Event(event) = declared {
                    document(event);
                }
            }
        }
        for emitted in &loader.reader.emitted {
            document(&emitted.event);
        }
        for step in &loader.steps {
            match &step.action {
                Action::Await(rule) => rule.types.iter().for_each(|event| drop(document(event))),
                Action::Emit(emit) => {
                    emit.reply.iter().flat_map(|reply| &reply.done).for_each(|event| drop(document(event)));
                }
                _ => {}
            }
        }
        let locals = loader.reader.written.iter().filter_map(|written| match written.at {
            reader::At::Forward(step) => Some((step, &*written.locals)),
            _ => None,
        });
        let ids = loader.steps.iter().zip(0..).map(|(step, index)| (step.id.as_str(), index));
        let services = loader.environment.services.keys();
        let openapi = services.filter_map(|name| Some((name.clone(), loader.openapi(name)?)));
        let made = Self {
            openapi: openapi.collect(),
            steps: &loader.steps,
            blocks: &loader.blocks,
            locals: locals.collect(),
            schemas: documents,
            triggers,
            input,
            outputs: RefCell::default(),
            ids: ids.collect(),
        };
        made.work_out_all();
        made
    }

    /// Works out each step in the order of the file; one with steps inside, when these are through.
    fn work_out_all(&self) {
        let mut open: Vec<StepIndex> = Vec::new();
        for index in 0..self.steps.len() as StepIndex {
            while let Some(around) = open.pop_if(|around| self.ancestors(index).all(|(owner, _)| owner != *around)) {
                self.keep(around);
            }
            if self.steps[index as usize].action.is_composite() {
                open.push(index);
            } else {
                self.keep(index);
            }
        }
        while let Some(around) = open.pop() {
            self.keep(around);
        }
    }

    fn keep(&self, index: StepIndex) {
        let shape = self.work_out(index);
        self.outputs.borrow_mut().insert(index, shape);
    }

    /// Returns the steps around a step with the list it is in, innermost first.
    fn ancestors(&self, step: StepIndex) -> impl Iterator<Item = (StepIndex, BlockIndex)> {
        let parent = |step: StepIndex| {
            let block = self.steps[step as usize].block;
            self.blocks[block as usize].owner.map(|owner| (owner, block))
        };
        std::iter::successors(parent(step), move |(step, _)| parent(*step))
    }

    /// Returns the output of the last step of a list; null where that was skipped.
    fn last_output(&self, block: BlockIndex) -> Shape {
        let last = self.blocks[block as usize].steps.last().map(|step| self.output(*step));
        // One without an output may stand behind one that has it.
        last.filter(|shape| shape.kinds != Kinds::NULL).map_or_else(Shape::any, Shape::or_null)
    }

    /// Returns what an item is in the `for` at a level around a step.
    fn item(&self, step: StepIndex, level: u8) -> Shape {
        let around = self.ancestors(step).find_map(|(owner, block)| {
            let here = self.blocks[block as usize].part == Part::Item && self.steps[owner as usize].items == level;
            match &self.steps[owner as usize].action {
                Action::For(rule) if here => Some((owner, rule)),
                _ => None,
            }
        });
        around.map_or_else(Shape::any, |(owner, rule)| self.item_of(owner, rule))
    }

    fn item_of(&self, owner: StepIndex, rule: &For) -> Shape {
        let item = rule.list.infer(&self.at(owner)).items();
        if rule.batch.is_some() { Shape::list(item) } else { item }
    }

    fn at(&self, step: StepIndex) -> At<'_, 'l> {
        let locals = self.locals.get(&step).copied().unwrap_or_default();
        At { variables: self, at: reader::At::Forward(step), place: usize::MAX, answer: Some(AnswerTo::Call), locals }
    }

    /// Returns what comes to a step: the answer over http, or the event.
    fn result(&self, index: StepIndex, answer: Option<AnswerTo>) -> Shape {
        let event = |event: &EventType| cloud_event(self.schema(event).unwrap_or_else(Shape::any));
        let any = |types: &[EventType]| types.iter().map(event).reduce(Shape::either).unwrap_or_else(Shape::any);
        match &self.steps[index as usize].action {
            Action::Call(_) | Action::Poll(_) => self.answer(index, answer).unwrap_or_else(http_answer),
            Action::Emit(emit) => emit.reply.as_ref().map_or_else(Shape::any, |reply| any(&reply.done)),
            Action::Await(rule) => match rule.mode {
                AwaitMode::First => any(&rule.types),
                AwaitMode::All => {
                    let types = rule.types.iter().map(|kind| (kind.as_str().to_owned(), event(kind)));
                    Shape::object(Fields::built(types))
                }
            },
            Action::Ask(_)
            | Action::Set(_)
            | Action::Wait(_)
            | Action::Switch(_)
            | Action::Fail(_)
            | Action::Parallel(_)
            | Action::For(_)
            | Action::Try(_)
            | Action::Run(_) => Shape::any(),
        }
    }

    /// Returns the answer to a step's call, or to its check, as far as the service's document says it.
    fn answer(&self, index: StepIndex, answer: Option<AnswerTo>) -> Option<Shape> {
        let step = &self.steps[index as usize];
        // The body of a paginated call's is the list of its items.
        let own = match &step.action {
            Action::Call(call) if step.paginate.is_none() => Some(call),
            Action::Poll(poll) => Some(&poll.call),
            _ => None,
        };
        let call = match answer {
            None | Some(AnswerTo::Call) => own?,
            Some(AnswerTo::Check | AnswerTo::Checked) => &step.on_unknown.check.as_ref()?.call,
        };
        let Answers::Known { success, any } =
            self.openapi.get(&call.service)?.answers(&call.method, &call.path.pattern(UNKNOWN))
        else {
            return None;
        };
        let schema = match answer {
            Some(AnswerTo::Call | AnswerTo::Checked) => success,
            None | Some(AnswerTo::Check) => any,
        };
        let body = Document::new(&schema?).shape();
        let member = |name: &str, kinds| (name.to_owned(), Shape::of(kinds));
        Some(Shape::object(Fields::built([
            member("status", Kinds::NUMBER),
            member("headers", Kinds::OBJECT),
            ("body".to_owned(), body),
        ])))
    }

    /// Returns what an event's data must be.
    pub(super) fn schema(&self, event: &EventType) -> Option<Shape> {
        self.schemas.get(event).map(|document| document.shape())
    }

    /// Returns what fits a schema; none where it is not known.
    pub(super) fn of_schema(&self, schema: &InputSchema) -> Option<Shape> {
        match schema {
            InputSchema::Event(event) => self.schema(event),
            InputSchema::Inline(source) => inline(source),
        }
    }

    /// Returns the event of a type as it arrives; none where its schema is not known.
    pub(super) fn arriving(&self, event: &EventType) -> Option<Shape> {
        self.schema(event).map(cloud_event)
    }

    pub(super) fn input_schema(&self) -> Option<Shape> {
        self.input.clone()
    }

    pub(super) fn triggers(&self) -> &[Trigger] {
        &self.triggers
    }

    /// Returns the event at a place: of the one trigger that it stands in, or of any that may have started the run.
    fn event(&self, place: usize) -> Shape {
        let data = |trigger: &Trigger| trigger.data.clone().unwrap_or_else(Shape::any);
        let of = |data: Shape, webhook: bool| if webhook { event_with(data, &[HEADERS]) } else { cloud_event(data) };
        if let Some(own) = self.triggers.iter().find(|trigger| trigger.place.contains(&place)) {
            return of(data(own), own.webhook);
        }
        let any = self.triggers.iter().map(data).reduce(Shape::either).unwrap_or_else(Shape::any);
        // Null in a run that no event started.
        of(any, self.triggers.iter().any(|trigger| trigger.webhook)).or_null()
    }

    fn step(&self, id: &str) -> Option<StepIndex> {
        self.ids.get(id).copied()
    }

    /// Returns what a step's output is when it has run.
    fn output(&self, index: StepIndex) -> Shape {
        self.outputs.borrow().get(&index).cloned().unwrap_or_else(Shape::any)
    }

    fn work_out(&self, index: StepIndex) -> Shape {
        let step = &self.steps[index as usize];
        if step.fallback.is_some() {
            return Shape::any();
        }
        let of = |output: Option<&crate::expression::Template>, declared: Option<&OutputSchema>, answer: AnswerTo| {
            let known = At { answer: Some(answer), ..self.at(index) };
            // What is declared is checked when it is there.
            if let Some(shape) = declared.and_then(|declared| self.of_schema(&declared.source())) {
                return shape;
            }
            let bare = step.action.call().is_some_and(|call| call.protocol != Protocol::Http) && output.is_none();
            if step.paginate.is_some() || bare {
                return Shape::any();
            }
            output.map_or_else(|| self.result(index, Some(answer)), |template| template.infer(&known))
        };
        let of_step = || of(step.output.as_ref(), step.output_schema.as_ref(), AnswerTo::Call);
        match &step.action {
            Action::Call(_) | Action::Poll(_) => match &step.on_unknown.check {
                Some(check) => {
                    of_step().either(of(check.output.as_ref(), check.output_schema.as_ref(), AnswerTo::Checked))
                }
                None => of_step(),
            },
            Action::Emit(emit) if emit.reply.is_some() => of_step(),
            Action::Emit(_) => Shape::object(Fields::built([("id".to_owned(), Shape::of(Kinds::STRING))])),
            Action::Await(rule) if rule.on_timeout.is_none() => of_step(),
            Action::Ask(rule) if rule.on_timeout.is_none() && step.output_schema.is_some() => of_step(),
            Action::Set(template) => template.infer(&self.at(index)),
            Action::Wait(_) | Action::Switch(_) | Action::Fail(_) => Shape::of(Kinds::NULL),
            Action::Parallel(rule) => {
                let outputs = rule.branches.iter().map(|(name, block)| (name.clone(), self.last_output(*block)));
                Shape::object(Fields::built(outputs))
            }
            Action::For(rule) => Shape::list(self.last_output(rule.block)),
            Action::Await(_) | Action::Ask(_) | Action::Try(_) | Action::Run(_) => Shape::any(),
        }
    }
}

impl Known for At<'_, '_> {
    fn locals(&self) -> &[(String, Name)] {
        self.locals
    }

    fn shape(&self, name: &Name) -> Shape {
        let text = || Shape::of(Kinds::STRING);
        match name {
            Name::Input => self.variables.input.clone().unwrap_or_else(Shape::any),
            Name::Event => self.variables.event(self.place),
            Name::Result => match self.at {
                // In what waits for events `$result` is what came.
                reader::At::Forward(step) => self.variables.result(step, self.answer),
                reader::At::Undo { .. }
                | reader::At::Outside
                | reader::At::Handler(_)
                | reader::At::Condition(_)
                | reader::At::Output
                | reader::At::Finally => http_answer(),
            },
            Name::StepKey | Name::ForwardKey => text(),
            // One that never ran has no output.
            Name::StepOutput(id) => {
                self.variables.step(id).map_or_else(Shape::any, |step| self.variables.output(step)).or_null()
            }
            Name::StepStatus(_) | Name::ForwardStatus => Shape::words(STATUSES.iter().copied()),
            Name::StepKeyOf(_) => text().or_null(),
            Name::StepError(_) => error().or_null(),
            Name::ForwardInput => Shape::any(),
            Name::Item(level) => match self.at {
                reader::At::Forward(step)
                | reader::At::Handler(step)
                | reader::At::Condition(step)
                | reader::At::Undo { step, .. } => self.variables.item(step, *level),
                reader::At::Outside | reader::At::Output | reader::At::Finally => Shape::any(),
            },
            Name::Index(_) => Shape::of(Kinds::NUMBER),
            Name::ForwardOutput => match self.at {
                reader::At::Undo { step, .. } => self.variables.output(step).or_null(),
                reader::At::Outside
                | reader::At::Forward(_)
                | reader::At::Handler(_)
                | reader::At::Condition(_)
                | reader::At::Output
                | reader::At::Finally => Shape::any(),
            },
            Name::Error => error().or_null(),
            Name::Parked => known(&[("step", Kinds::STRING), ("direction", Kinds::STRING), ("reason", Kinds::STRING)]),
            Name::Saga => known(&[
                ("id", Kinds::STRING),
                ("name", Kinds::STRING),
                ("version", Kinds::NUMBER),
                ("correlation_id", Kinds::STRING),
                ("started_at", Kinds::STRING),
            ]),
        }
    }
}

fn trigger(node: &Node, document: &mut impl FnMut(&EventType) -> Option<Rc<Document>>) -> Trigger {
    let event = member(node, "event");
    let kind = event.and_then(|event| match &event.value {
        Yaml::Scalar(scalar) => EventType::parse(&scalar.text).ok(),
        Yaml::Sequence(_) | Yaml::Mapping(_) => None,
    });
    Trigger {
        place: node.span.clone(),
        span: event.unwrap_or(node).span.clone(),
        webhook: member(node, "webhook").is_some(),
        data: kind.and_then(|kind| document(&kind)).map(|document| document.shape()),
        input: member(node, "input").cloned(),
    }
}

pub(super) fn member<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        Yaml::Mapping(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
        Yaml::Scalar(_) | Yaml::Sequence(_) => None,
    }
}

/// An object with members that may each be null.
fn known(members: &[(&str, Kinds)]) -> Shape {
    let members = members.iter().map(|(name, kinds)| ((*name).to_owned(), (Shape::of(kinds.or(Kinds::NULL)), false)));
    Shape::object(Fields::Known { members: members.collect(), closed: true })
}

/// What `$result` of an http call is; the status is null after a timeout.
fn http_answer() -> Shape {
    known(&[("status", Kinds::NUMBER), ("headers", Kinds::OBJECT), ("body", Kinds::ALL)])
}

fn error() -> Shape {
    known(&[
        ("type", Kinds::STRING),
        ("title", Kinds::STRING),
        ("detail", Kinds::STRING),
        ("step", Kinds::STRING),
        ("status", Kinds::ALL),
        ("result", Kinds::ALL),
        ("others", Kinds::ARRAY),
    ])
}

/// A CloudEvent; extension attributes may stand beside what is named here.
fn cloud_event(data: Shape) -> Shape {
    event_with(data, &[])
}

/// What a webhook's delivery has beside a CloudEvent's attributes.
const HEADERS: (&str, Kinds) = ("headers", Kinds::OBJECT);

fn event_with(data: Shape, more: &[(&str, Kinds)]) -> Shape {
    let required = |name: &str| (name.to_owned(), (Shape::of(Kinds::STRING), true));
    let optional = |name: &str| (name.to_owned(), (Shape::of(Kinds::STRING), false));
    let mut members: BTreeMap<String, (Shape, bool)> =
        ["id", "source", "type", "specversion"].into_iter().map(required).collect();
    members.extend(
        [
            "subject",
            "time",
            "datacontenttype",
            "dataschema",
            "correlationid",
            "causationid",
            "partitionkey",
            "traceparent",
            "tracestate",
        ]
        .into_iter()
        .map(optional),
    );
    members.insert("data".to_owned(), (data, true));
    members.extend(more.iter().map(|(name, kinds)| ((*name).to_owned(), (Shape::of(*kinds), false))));
    Shape::object(Fields::Known { members, closed: false })
}

/// A literal's shape.
pub(super) fn literal(payload: &Payload) -> Shape {
    crate::expression::infer::of_value(&payload.to_value())
}
