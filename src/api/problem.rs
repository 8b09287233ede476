//! Every error that the API answers, as RFC 9457 problem details.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::wire::{ProblemDetails, Violation};
use crate::coordinator::{OperateError, PublishError, StartError};
use crate::events;
use crate::id::RunId;
use crate::problem::Problem;

/// Seconds until a client may try again when no better figure is known: a reconnect to NATS takes about as long.
const RETRY_AFTER_S: u64 = 2;

/// An error on its way out.
#[derive(Debug)]
pub struct ApiError {
    details: Box<ProblemDetails>,
    retry_after_s: Option<u64>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// Makes a problem; `kind` is the last part of its type.
    pub fn new(status: StatusCode, kind: &str, title: impl Into<String>) -> Self {
        let retry_after_s = matches!(status.as_u16(), 429 | 503).then_some(RETRY_AFTER_S);
        let details = ProblemDetails {
            kind: format!("urn:backstitch:problem:{kind}"),
            title: title.into(),
            status: status.as_u16(),
            detail: None,
            errors: Vec::new(),
            index: None,
            run: None,
        };
        Self { details: Box::new(details), retry_after_s, header: None }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "the request is malformed").detail(detail)
    }

    pub fn no_run(run: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-run", format!("no run {run}"))
            .detail("it never existed here, or its retention has passed; GET /api/v1/runs lists what there is")
    }

    pub fn invalid(title: impl Into<String>, violations: Vec<(String, String)>) -> Self {
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-data", title);
        error.details.errors = violations.into_iter().map(|(pointer, detail)| Violation { pointer, detail }).collect();
        error
    }

    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "no work is taken at the moment").detail(reason)
    }

    /// A failure of ours. The message is for the operator's log; nothing in it is secret.
    pub fn internal(problem: &Problem) -> Self {
        tracing::error!(error = %problem.title, detail = problem.detail.as_deref(), "request failed");
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", problem.title.clone());
        match &problem.detail {
            Some(detail) => error.detail(detail),
            None => error,
        }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    #[must_use]
    pub fn errors(mut self, errors: Vec<(String, String)>) -> Self {
        self.details.errors = errors.into_iter().map(|(pointer, detail)| Violation { pointer, detail }).collect();
        self
    }

    /// Makes one problem of what is wrong with the events of a batch: the first one's, with every error of
    /// the same kind behind it; pointers begin with the event's place in the batch.
    pub fn of_events(failures: Vec<(usize, PublishError)>) -> Self {
        let mut whole: Option<(usize, Self)> = None;
        for (index, failure) in failures {
            let mut error = Self::from(failure);
            for violation in &mut error.details.errors {
                violation.pointer = format!("/{index}{}", violation.pointer);
            }
            match &mut whole {
                None => whole = Some((index, error)),
                Some((_, first)) => first.details.errors.append(&mut error.details.errors),
            }
        }
        match whole {
            Some((index, error)) => error.of_event(index),
            None => Self::unavailable("the bus gave no reason"),
        }
    }

    /// Says which event of a batch is meant.
    #[must_use]
    pub fn of_event(mut self, index: usize) -> Self {
        self.details.index = Some(index);
        self
    }

    #[must_use]
    fn of_run(mut self, run: RunId) -> Self {
        self.details.run = Some(run);
        self
    }

    /// Returns the answer's status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.details.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    #[cfg(test)]
    pub fn details(&self) -> &ProblemDetails {
        &self.details
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self.details).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        let title = error.to_string();
        match error {
            StartError::UnknownSaga { .. } => {
                Self::new(StatusCode::NOT_FOUND, "no-saga", title).detail("GET /api/v1/sagas lists the loaded ones")
            }
            StartError::InvalidInput { violations, .. } => Self::invalid(title, violations),
            StartError::KeyConflict { run, .. } => Self::new(StatusCode::CONFLICT, "key-conflict", title)
                .detail("send the first input again, or take another key")
                .of_run(run),
            StartError::Unavailable { reason } => Self::unavailable(reason),
        }
    }
}

impl From<OperateError> for ApiError {
    fn from(error: OperateError) -> Self {
        match error {
            OperateError::NoRun(run) => Self::no_run(run),
            OperateError::Conflict(reason) => {
                Self::new(StatusCode::CONFLICT, "not-now", "the run's state does not allow this").detail(reason)
            }
            OperateError::Invalid(violations) => Self::invalid("the answer does not fit the step's form", violations),
            OperateError::Unavailable { reason } => Self::unavailable(reason),
        }
    }
}

impl From<events::Error> for ApiError {
    fn from(error: events::Error) -> Self {
        let title = error.to_string();
        match error {
            events::Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not-there", title),
            events::Error::Bad(_) => Self::bad_request(title),
            events::Error::Conflict(_) => Self::new(StatusCode::CONFLICT, "not-now", title),
            events::Error::Invalid { title, violations } => Self::invalid(title, violations),
            events::Error::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title)
                .detail("nothing was changed; try again"),
        }
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        let title = error.to_string();
        match error {
            PublishError::Invalid { violations, .. } => Self::invalid(title, violations),
            PublishError::UnknownType { .. } => Self::invalid(
                title,
                vec![(String::new(), "add schemas/NAME/vN.json for it, or correct the type".into())],
            ),
            PublishError::Unavailable { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title)
                .detail("nothing was accepted; try again"),
            PublishError::Refused { reason } => {
                Self::invalid("the bus refuses the event", vec![(String::new(), reason)])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn errors_answer_as_problem_details() {
        let run: RunId = "62e7b8b3-17f5-5744-8f71-b8115137432f".parse().unwrap();
        let rows: Vec<(&str, ApiError, u16, &str, Option<&str>)> = vec![
            (
                "unknown saga",
                StartError::UnknownSaga { saga: "ordr".into(), hint: "; did you mean `order`?".into() }.into(),
                404,
                "no saga `ordr`; did you mean `order`?",
                None,
            ),
            (
                "key conflict",
                StartError::KeyConflict { key: "A-1".into(), run }.into(),
                409,
                "key `A-1` belongs to run 62e7b8b3-17f5-5744-8f71-b8115137432f, which began with other input",
                None,
            ),
            (
                "draining",
                StartError::Unavailable { reason: "it is stopping".into() }.into(),
                503,
                "no work is taken at the moment",
                Some("2"),
            ),
            ("no run", OperateError::NoRun(run).into(), 404, "no run 62e7b8b3-17f5-5744-8f71-b8115137432f", None),
            (
                "wrong state",
                OperateError::Conflict("it has ended".into()).into(),
                409,
                "the run's state does not allow this",
                None,
            ),
            (
                "NATS away",
                PublishError::Unavailable { reason: "no answer".into() }.into(),
                503,
                "NATS is away: no answer",
                Some("2"),
            ),
            (
                "unknown type",
                PublishError::UnknownType { event_type: "a.v1".into(), hint: String::new() }.into(),
                422,
                "no schema for event type `a.v1`",
                None,
            ),
        ];
        for (why, error, status, title, retry_after) in rows {
            let response = error.into_response();
            assert_eq!(response.status().as_u16(), status, "{why}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json", "{why}");
            let waits = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(waits, retry_after, "{why}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let details: ProblemDetails = serde_json::from_slice(&body).unwrap();
            assert_eq!((details.title.as_str(), details.status), (title, status), "{why}");
            assert!(details.kind.starts_with("urn:backstitch:problem:"), "{why}");
        }
    }

    #[test]
    fn all_violations_are_named() {
        let violations =
            vec![("/lines/0/qty".into(), "is not an integer".into()), ("/orderId".into(), "is missing".into())];
        let error = ApiError::from(PublishError::Invalid { event_type: "order.placed.v2".into(), violations });
        let pointers: Vec<&str> = error.details().errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/lines/0/qty", "/orderId"]);
    }
}
