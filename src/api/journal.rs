//! The journal's tools on a journal that is in use: verify, back up, export.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio_stream::wrappers::ReceiverStream;

use super::body;
use super::problem::ApiError;
use super::routes::Api;
use crate::coordinator::ToolError;
use crate::problem::Problem;

/// A backup's name is a directory's: it stays below the journal's own.
const NAME_BYTES_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupBody {
    name: String,
}

impl From<ToolError> for ApiError {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Refused(why) => Self::new(StatusCode::CONFLICT, "not-now", "no backup is made").detail(why),
            ToolError::Failed(why) => {
                Self::internal(&Problem::new("journal", "the journal could not be read").detail(why))
            }
        }
    }
}

/// `POST /api/v1/journal/verify`: 200 with the report, also when something is wrong.
pub async fn verify(State(api): State<Api>) -> Result<Response, ApiError> {
    Ok(Json(api.handle.verify_journal().await?).into_response())
}

/// `POST /api/v1/journal/backup`: 201 with the report when the backup is whole and synced.
pub async fn back_up(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    body::want_json(&headers)?;
    let BackupBody { name } = body::parse(&body::read(&headers, body, api.body_bytes_max).await?)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('.') || !name.chars().all(is_plain) {
        let why = format!("name is `{}`; write up to {NAME_BYTES_MAX} of a-z A-Z 0-9 - _ .", name.escape_debug());
        return Err(ApiError::bad_request(why));
    }
    let to = api.handle.backup_path(&name).ok_or_else(|| ToolError::Refused("it is in memory".to_owned()))?;
    Ok((StatusCode::CREATED, Json(api.handle.back_up_journal(to).await?)).into_response())
}

/// `GET /api/v1/journal/export`: JSON lines; a connection that breaks off is an export that did.
pub async fn export(State(api): State<Api>) -> Response {
    use futures_util::StreamExt;
    let pieces = ReceiverStream::new(api.handle.export_journal());
    let pieces =
        pieces.map(|piece| piece.map_err(|problem| std::io::Error::other(problem.detail.unwrap_or(problem.title))));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response()
}
