//! What the variables of a file hold, as far as schemas and the file itself say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::super::file::Loader;
use super::super::model::{Action, InputSchema, Step, StepIndex};
use super::super::reader;
use super::super::yaml::{Node, Yaml};
use crate::expression::Name;
use crate::expression::infer::Known;
use crate::id::EventType;
use crate::payload::Payload;
use crate::schema::Schema;
use crate::schema::shape::{Document, Fields, Kinds, Shape};

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

/// One entry of `on:`.
pub(super) struct Trigger {
    pub place: Range<usize>,
    /// Where its event type stands.
    pub span: Range<usize>,
    /// The event's data; none: nothing is known.
    pub data: Option<Shape>,
    /// `input:`
    pub input: Option<Node>,
}

/// The variables of one file.
pub(super) struct Variables<'l> {
    steps: &'l [Step],
    schemas: BTreeMap<EventType, Rc<Document>>,
    triggers: Vec<Trigger>,
    input: Option<Shape>,
    /// Of each step before the one that is being worked out: a step reads no later one, and a chain of five
    /// hundred needs no stack.
    outputs: RefCell<Vec<Shape>>,
}

/// The variables at one place of the file.
pub(super) struct At<'v, 'l> {
    pub variables: &'v Variables<'l>,
    pub at: reader::At,
    /// The byte where the expression's scalar begins.
    pub place: usize,
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
            Some(InputSchema::Inline(source)) => Schema::compile(source).is_ok().then(|| Document::new(source).shape()),
            None => None,
        };
        for emitted in &loader.reader.emitted {
            document(&emitted.event);
        }
        let made = Self { steps: &loader.steps, schemas: documents, triggers, input, outputs: RefCell::default() };
        for index in 0..loader.steps.len() {
            let shape = made.work_out(index as StepIndex);
            made.outputs.borrow_mut().push(shape);
        }
        made
    }

    /// Returns what an event's data must be.
    pub(super) fn schema(&self, event: &EventType) -> Option<Shape> {
        self.schemas.get(event).map(|document| document.shape())
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
        if let Some(own) = self.triggers.iter().find(|trigger| trigger.place.contains(&place)) {
            return cloud_event(data(own));
        }
        let any = self.triggers.iter().map(data).reduce(Shape::either).unwrap_or_else(Shape::any);
        // Null in a run that no event started.
        cloud_event(any).or_null()
    }

    fn step(&self, id: &str) -> Option<StepIndex> {
        self.steps.iter().position(|step| step.id.as_str() == id).map(|at| at as StepIndex)
    }

    /// Returns what a step's output is when it has run.
    fn output(&self, index: StepIndex) -> Shape {
        self.outputs.borrow().get(index as usize).cloned().unwrap_or_else(Shape::any)
    }

    /// True for a step whose `$result` is an answer over http.
    fn calls(&self, index: StepIndex) -> bool {
        matches!(self.steps[index as usize].action, Action::Call(_) | Action::Poll(_))
    }

    fn work_out(&self, index: StepIndex) -> Shape {
        let step = &self.steps[index as usize];
        let known = At { variables: self, at: reader::At::Forward(index), place: usize::MAX, locals: &[] };
        match &step.action {
            Action::Call(_) => {
                let of = |output: Option<&crate::expression::Template>| {
                    output.map_or_else(http_answer, |template| template.infer(&known))
                };
                let own = of(step.output.as_ref());
                match &step.on_unknown.check {
                    Some(check) => own.either(of(check.output.as_ref())),
                    None => own,
                }
            }
            Action::Emit(emit) if emit.reply.is_some() => Shape::any(),
            Action::Emit(_) => Shape::object(Fields::built([("id".to_owned(), Shape::of(Kinds::STRING))])),
            Action::Set(template) => template.infer(&known),
            Action::Wait(_) | Action::Switch(_) | Action::Fail(_) => Shape::of(Kinds::NULL),
            Action::Await(_)
            | Action::Ask(_)
            | Action::Parallel(_)
            | Action::For(_)
            | Action::Try(_)
            | Action::Poll(_)
            | Action::Run(_) => Shape::any(),
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
                reader::At::Forward(step) if !self.variables.calls(step) => Shape::any(),
                reader::At::Undo { .. }
                | reader::At::Outside
                | reader::At::Forward(_)
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
            Name::ForwardInput | Name::Item(_) => Shape::any(),
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
        data: kind.and_then(|kind| document(&kind)).map(|document| document.shape()),
        input: member(node, "input").cloned(),
    }
}

fn member<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
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
    Shape::object(Fields::Known { members, closed: false })
}

/// A literal's shape.
pub(super) fn literal(payload: &Payload) -> Shape {
    crate::expression::infer::of_value(&payload.to_value())
}
