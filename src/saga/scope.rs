//! What a run's expressions see.

use serde::Serialize;

use super::at::StepAt;
use super::fact::ScopeAt;
use super::state::{SagaState, StepState};
use crate::definition::{Part, SagaDefinition};
use crate::expression::{Bound, Scope, Variable};
use crate::payload::Payload;
use crate::planted;
use crate::problem::Problem;
use crate::request::Answer;
use crate::service::Protocol;

/// The variables of a run, and of the moment.
pub struct RunScope<'a> {
    pub definition: &'a SagaDefinition,
    pub state: &'a SagaState,
    /// The step whose expression it is; says which items are meant.
    pub here: Option<StepAt>,
    /// `$step.key`
    pub step_key: Option<&'a str>,
    /// `$result`; a timeout gives a result whose status is null.
    pub result: Option<Option<&'a Answer>>,
    /// `$result` of what was no call.
    pub value: Option<&'a Payload>,
    /// The step that an undo is for.
    pub forward: Option<StepAt>,
    /// `$error`, where it is not the run's.
    pub error: Option<&'a Problem>,
}

impl<'a> RunScope<'a> {
    /// Returns the scope of a run with nothing of the moment in it.
    pub fn new(definition: &'a SagaDefinition, state: &'a SagaState) -> Self {
        Self { definition, state, here: None, step_key: None, result: None, value: None, forward: None, error: None }
    }

    /// Says where the expression stands.
    pub fn at(mut self, step: StepAt) -> Self {
        self.here = Some(step);
        self
    }

    /// Adds `$step.key`.
    pub fn with_key(mut self, key: &'a str) -> Self {
        self.step_key = Some(key);
        self
    }

    /// Adds `$result`.
    pub fn with_result(mut self, answer: Option<&'a Answer>) -> Self {
        self.result = Some(answer);
        self
    }

    /// Adds `$result` of what was no call.
    pub fn with_value(mut self, value: &'a Payload) -> Self {
        self.value = Some(value);
        self
    }

    /// Adds `$forward`.
    pub fn with_forward(mut self, step: StepAt) -> Self {
        self.forward = Some(step);
        self
    }

    /// Replaces `$error`.
    pub fn with_error(mut self, problem: &'a Problem) -> Self {
        self.error = Some(problem);
        self
    }

    /// Finds the instance of a step that is meant here: inside a `for` that of the own item.
    fn step(&self, id: &str) -> Option<&'a StepState> {
        let step = self.definition.find(id)?;
        let levels = self.definition.step(step).items;
        let own = self.here.map_or(0, |here| self.definition.step(here.step).items);
        if levels > own {
            return None; // an item's step, read from outside: there is not one, but many
        }
        let items = self.here.map_or(super::at::Items::OUTSIDE, |here| here.items.outer(levels));
        Some(self.state.step(StepAt { step, items }))
    }

    fn forward(&self) -> Option<&'a StepState> {
        self.forward.map(|at| self.state.step(at))
    }

    /// Returns the item of one of the `for` steps around.
    fn item(&self, level: u8) -> Option<&'a Payload> {
        let here = self.here?;
        let item = here.items.get(level)?;
        let item = if self.forward.is_some() && planted::is("undo_takes_another_item") { 0 } else { item };
        let each = here.around(self.definition).find(|at| {
            matches!(self.definition.step(at.step).action, crate::definition::Action::For(_))
                && self.definition.step(at.step).items == level
        })?;
        self.state.step(each).nest.as_ref()?.items.get(item as usize)
    }

    /// Returns the failure that is being dealt with here.
    fn failure(&self) -> Option<ErrorView<'a>> {
        if let Some(problem) = self.error {
            return Some(ErrorView { problem, others: &[] });
        }
        let mut block = self.here.map(|here| here.block(self.definition));
        while let Some(at) = block {
            let owner = at.owner(self.definition);
            if let (Part::Handler(_) | Part::Fallback, Some(owner)) = (self.definition.block(at.block).part, owner)
                && let Some(problem) = self.state.step(owner).nest.as_ref().and_then(|nest| nest.caught.as_ref())
            {
                return Some(ErrorView { problem, others: &[] });
            }
            let scope = self.state.scopes.get(&ScopeAt::Block(at));
            let scope = scope.or_else(|| owner.and_then(|owner| self.state.scopes.get(&ScopeAt::Step(owner))));
            if let Some(scope) = scope {
                return Some(ErrorView { problem: &scope.problem, others: &[] });
            }
            block = owner.map(|owner| owner.block(self.definition));
        }
        if let Some(scope) = self.here.and_then(|here| self.state.scopes.get(&ScopeAt::Step(here))) {
            return Some(ErrorView { problem: &scope.problem, others: &[] });
        }
        self.state.error.as_ref().map(|problem| ErrorView { problem, others: &self.state.others })
    }
}

fn json(payload: Option<&Payload>) -> Bound<'_> {
    payload.map_or(Bound::Null, Bound::Json)
}

fn owned<T: Serialize>(value: Option<&T>) -> Bound<'static> {
    value.map_or(Bound::Null, |value| Bound::Owned(Payload::of(value)))
}

/// `$result` of an http call.
#[derive(Serialize)]
struct ResultView<'a> {
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<&'a std::collections::BTreeMap<String, String>>,
    body: Option<&'a Payload>,
}

/// Returns an answer as `$result` shows it.
pub fn result_of(answer: Option<&Answer>) -> Payload {
    Payload::of(&ResultView {
        status: answer.map(|answer| answer.status),
        headers: answer.map(|answer| &answer.headers),
        body: answer.map(|answer| &answer.body),
    })
}

/// Returns what a call gives where its step does not say: over http and soap the whole answer, over graphql its `data`, over
/// nats and grpc the message.
pub fn output_of(protocol: Protocol, answer: Option<&Answer>) -> Payload {
    #[derive(serde::Deserialize)]
    struct Response {
        data: Payload,
    }
    match (protocol, answer) {
        (Protocol::Http | Protocol::Soap, _) | (_, None) => result_of(answer),
        (Protocol::Graphql, Some(answer)) => {
            answer.body.read::<Response>().map_or_else(|_| Payload::null(), |response| response.data)
        }
        (Protocol::Nats | Protocol::Grpc, Some(answer)) => answer.body.clone(),
    }
}

/// `$error`: the first failure, with the later ones.
#[derive(Serialize)]
struct ErrorView<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    others: &'a [Problem],
}

#[derive(Serialize)]
struct ParkedView<'a> {
    step: std::borrow::Cow<'a, str>,
    direction: &'static str,
    reason: &'a str,
}

#[derive(Serialize)]
struct SagaView<'a> {
    id: String,
    name: &'a str,
    version: u32,
    correlation_id: &'a str,
    started_at: String,
}

impl Scope for RunScope<'_> {
    fn get(&self, variable: Variable<'_>) -> Bound<'_> {
        match variable {
            Variable::Input => Bound::Json(&self.state.begun.input),
            Variable::Event => json(self.state.begun.event.as_ref()),
            Variable::Result => match (self.value, self.result) {
                (Some(value), _) => Bound::Json(value),
                (None, Some(answer)) => Bound::Owned(result_of(answer)),
                (None, None) => Bound::Null,
            },
            Variable::Item(level) => json(self.item(level)),
            Variable::Index(level) => owned(self.here.and_then(|here| here.items.get(level)).as_ref()),
            Variable::StepKey => self.step_key.map_or(Bound::Null, |key| Bound::Text(key.into())),
            Variable::StepOutput(id) => json(self.step(id).and_then(|step| step.output.as_ref())),
            Variable::StepStatus(id) => Bound::Text(self.step(id).map_or("not_started", StepState::status_word).into()),
            Variable::StepKeyOf(id) => {
                self.step(id).and_then(StepState::key_sent).map_or(Bound::Null, |key| Bound::Text(key.into()))
            }
            Variable::StepError(id) => owned(self.step(id).and_then(|step| step.error.as_ref())),
            Variable::ForwardInput => {
                json(self.forward().and_then(|step| step.request.as_ref()).and_then(|request| request.body.as_ref()))
            }
            Variable::ForwardOutput => json(self.forward().and_then(|step| step.output.as_ref())),
            Variable::ForwardStatus => {
                self.forward().map_or(Bound::Null, |step| Bound::Text(step.forward_word().into()))
            }
            Variable::ForwardKey => {
                self.forward().and_then(StepState::key_sent).map_or(Bound::Null, |key| Bound::Text(key.into()))
            }
            Variable::Error => owned(self.failure().as_ref()),
            Variable::Parked => owned(
                self.state
                    .parked
                    .as_ref()
                    .map(|parked| ParkedView {
                        step: parked.step.path(self.definition),
                        direction: parked.direction.as_str(),
                        reason: &parked.reason,
                    })
                    .as_ref(),
            ),
            Variable::Saga => Bound::Owned(Payload::of(&SagaView {
                id: self.state.begun.run.to_string(),
                name: self.state.begun.saga.as_str(),
                version: self.state.begun.version,
                correlation_id: &self.state.begun.correlation_id,
                started_at: self.state.started_at.to_string(),
            })),
        }
    }
}
