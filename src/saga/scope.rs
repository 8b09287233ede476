//! What a run's expressions see.

use serde::Serialize;

use super::state::{SagaState, StepState};
use crate::definition::{SagaDefinition, StepIndex};
use crate::expression::{Bound, Scope, Variable};
use crate::payload::Payload;
use crate::problem::Problem;
use crate::request::Answer;

/// The variables of a run, and of the moment.
pub struct RunScope<'a> {
    pub definition: &'a SagaDefinition,
    pub state: &'a SagaState,
    /// `$step.key`
    pub step_key: Option<&'a str>,
    /// `$result`; a timeout gives a result whose status is null.
    pub result: Option<Option<&'a Answer>>,
    /// The step that an undo is for.
    pub forward: Option<StepIndex>,
}

impl<'a> RunScope<'a> {
    /// Returns the scope of a run with nothing of the moment in it.
    pub fn new(definition: &'a SagaDefinition, state: &'a SagaState) -> Self {
        Self { definition, state, step_key: None, result: None, forward: None }
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

    /// Adds `$forward`.
    pub fn with_forward(mut self, step: StepIndex) -> Self {
        self.forward = Some(step);
        self
    }

    fn step(&self, id: &str) -> Option<&'a StepState> {
        self.definition.find(id).map(|index| self.state.step(index))
    }

    fn forward(&self) -> Option<&'a StepState> {
        self.forward.map(|index| self.state.step(index))
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

/// `$error`: the first failure, with the later ones.
#[derive(Serialize)]
struct ErrorView<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    others: &'a [Problem],
}

#[derive(Serialize)]
struct ParkedView<'a> {
    step: &'a str,
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
            Variable::Result => match self.result {
                Some(answer) => Bound::Owned(result_of(answer)),
                None => Bound::Null,
            },
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
            Variable::Error => {
                let cleared = self.state.clearing.and_then(|step| self.state.step(step).error.as_ref());
                owned(
                    cleared
                        .or(self.state.error.as_ref())
                        .map(|problem| ErrorView { problem, others: &self.state.others })
                        .as_ref(),
                )
            }
            Variable::Parked => owned(
                self.state
                    .parked
                    .as_ref()
                    .map(|parked| ParkedView {
                        step: &self.definition.step(parked.step).path,
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
