//! The schemas that are loaded, checks of new ones, and loading everything anew.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::{self, Segment};
use super::problem::ApiError;
use super::routes::Api;
use crate::id::EventType;
use crate::schema::compat::{self, Direction, Profile, Report, Verdict};
use crate::schema::{Compatibility, Policy, Registry, Schema};

/// What is loaded at present, and how it is loaded anew.
pub struct Loading {
    pub registry: Box<dyn Fn() -> Registry + Send + Sync>,
    pub reload: Box<dyn Fn() -> BoxFuture<'static, Result<Reloaded, Vec<Mistake>>> + Send + Sync>,
}

/// What a reload has made active.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// `order-fulfilment v2`
    pub sagas: Vec<String>,
    pub event_types: usize,
    pub services: usize,
    pub warnings: Vec<Mistake>,
    /// Sections of the configuration that have changed and count from the next start on.
    pub restart_needed: Vec<String>,
}

/// A mistake in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mistake {
    pub code: String,
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    pub column: usize,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// One event type with its versions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TypeView {
    pub name: String,
    /// Ascending.
    pub versions: Vec<u32>,
    pub compatibility: String,
    pub profile: String,
    /// Files of the steps between versions.
    pub upcasters: Vec<String>,
}

/// One version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionView {
    #[serde(rename = "type")]
    pub event_type: String,
    pub name: String,
    pub version: u32,
    pub file: String,
    pub schema: Value,
    pub examples: Vec<Value>,
}

/// A schema to be checked: as the next version of a type, or against another one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckBody {
    /// The name of a loaded type, `order.placed`, with or without a version.
    #[serde(default, rename = "type")]
    event_type: Option<String>,
    /// The old schema, instead of a type.
    #[serde(default)]
    old: Option<Value>,
    #[serde(alias = "schema")]
    new: Value,
    #[serde(default)]
    compatibility: Option<String>,
    #[serde(default)]
    profile: Option<String>,
}

/// What a check came to.
#[derive(Debug, Serialize)]
pub struct CheckView {
    pub verdict: Verdict,
    pub compatible: bool,
    pub compatibility: String,
    pub profile: Profile,
    /// One for each old version and direction.
    pub reports: Vec<CheckReport>,
}

#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The version that it was held against; none for a schema from the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<u32>,
    #[serde(flatten)]
    pub report: Report,
}

fn profile_word(profile: Profile) -> &'static str {
    match profile {
        Profile::Lenient => "lenient",
        Profile::Strict => "strict",
    }
}

pub(crate) fn type_view(registry: &Registry, name: &str) -> TypeView {
    let (policy, versions) = (registry.policy(name), registry.versions(name));
    let pairs = versions.windows(2).flat_map(|pair| [(pair[0], pair[1]), (pair[1], pair[0])]);
    let upcasters =
        pairs.filter_map(|(from, to)| registry.step(name, from, to)).map(|step| step.path.clone()).collect();
    TypeView {
        name: name.to_owned(),
        versions,
        compatibility: policy.word(),
        profile: profile_word(policy.profile).to_owned(),
        upcasters,
    }
}

/// `GET /api/v1/schemas`
pub async fn list(State(api): State<Api>) -> Json<Vec<TypeView>> {
    let registry = (api.loading.registry)();
    Json(registry.names().into_iter().map(|name| type_view(&registry, name)).collect())
}

/// `GET /api/v1/schemas/{type}`
pub async fn show(State(api): State<Api>, Segment(name): Segment) -> Result<Json<TypeView>, ApiError> {
    let registry = (api.loading.registry)();
    // A type is known by its name; one that is written with its version has the same.
    let name = match EventType::parse(&name) {
        Ok(event_type) if registry.knows(&event_type) => event_type.name().to_owned(),
        Ok(_) | Err(_) => name,
    };
    if registry.versions(&name).is_empty() {
        return Err(no_schema(&registry, &name));
    }
    Ok(Json(type_view(&registry, &name)))
}

/// `GET /api/v1/schemas/{type}/{version}`: the version as `v2` or `2`.
pub async fn version(
    State(api): State<Api>,
    axum::extract::Path((name, version)): axum::extract::Path<(String, String)>,
) -> Result<Json<VersionView>, ApiError> {
    let registry = (api.loading.registry)();
    let number = version.strip_prefix('v').unwrap_or(&version);
    let found = EventType::parse(&format!("{name}.v{number}")).ok().filter(|event_type| registry.knows(event_type));
    let Some((event_type, entry)) = found.as_ref().and_then(|event_type| Some((event_type, registry.get(event_type)?)))
    else {
        return Err(no_schema(&registry, &format!("{name}.{version}")));
    };
    Ok(Json(VersionView {
        event_type: event_type.to_string(),
        name,
        version: event_type.version(),
        file: entry.path.clone(),
        schema: entry.source.to_value(),
        examples: entry.examples.iter().map(|(_, example)| example.to_value()).collect(),
    }))
}

fn no_schema(registry: &Registry, asked: &str) -> ApiError {
    let hint = registry.nearest(asked).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    ApiError::new(StatusCode::NOT_FOUND, "no-schema", format!("no schema for `{asked}`{hint}"))
        .detail("GET /api/v1/schemas lists the loaded ones")
}

/// `POST /api/v1/schemas/check`
pub async fn check(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Json<CheckView>, ApiError> {
    body::want_json(&headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    body::parse_json(&bytes)?; // its depth is bounded
    let asked: CheckBody = body::parse(&bytes)?;
    let registry = (api.loading.registry)();
    // Taking schemas apart is work for a processor, not for a thread that serves others.
    let checked = tokio::task::spawn_blocking(move || checked(&registry, &asked)).await;
    checked
        .unwrap_or_else(|_| {
            let problem = crate::problem::Problem::new("schema", "the schemas could not be compared");
            Err(ApiError::internal(&problem.detail("a mistake of ours; the log says where")))
        })
        .map(Json)
}

fn checked(registry: &Registry, asked: &CheckBody) -> Result<CheckView, ApiError> {
    let mut wrong = Vec::new();
    let mut mistakes = |at: &str, schema: &Value| {
        let found = Schema::compile(&crate::payload::Payload::of(schema)).err().unwrap_or_default();
        wrong.extend(found.into_iter().map(|finding| (format!("{at}{}", finding.pointer), finding.message)));
    };
    mistakes("/new", &asked.new);
    if let Some(old) = &asked.old {
        mistakes("/old", old);
    }
    if !wrong.is_empty() {
        return Err(ApiError::invalid("no JSON Schema", wrong));
    }
    let bad =
        |pointer: &str, message: String| ApiError::invalid("the check cannot be made", vec![(pointer.into(), message)]);
    let (mut policy, mut olds) = (Policy::default(), Vec::new());
    match (&asked.event_type, &asked.old) {
        (_, Some(old)) => olds.push((None, old.clone())),
        (Some(asked_type), None) => {
            let parsed = EventType::parse(asked_type).ok();
            let name = parsed.as_ref().map_or(asked_type.as_str(), EventType::name);
            policy = registry.policy(name);
            let below = parsed.as_ref().map_or(u32::MAX, EventType::version);
            let versions: Vec<u32> = registry.versions(name).into_iter().filter(|version| *version < below).collect();
            if registry.versions(name).is_empty() {
                return Err(no_schema(registry, asked_type));
            }
            let sources = versions.into_iter().filter_map(|version| {
                let entry = registry.get(registry.of_version(name, version)?)?;
                Some((Some(version), entry.source.to_value()))
            });
            olds.extend(sources);
        }
        (None, None) => return Err(bad("", "say what to check against: `type`, or `old` with a schema".to_owned())),
    }
    if let Some(word) = &asked.compatibility {
        let (compatibility, transitive) =
            Policy::parse_compatibility(word).map_err(|message| bad("/compatibility", message))?;
        (policy.compatibility, policy.transitive) = (compatibility, transitive);
    }
    if let Some(word) = &asked.profile {
        policy.profile = Policy::parse_profile(word).map_err(|message| bad("/profile", message))?;
    }
    if !policy.transitive && olds.len() > 1 {
        olds.drain(..olds.len() - 1);
    }
    let directions: &[Direction] = match policy.compatibility {
        Compatibility::Backward => &[Direction::Backward],
        Compatibility::Forward => &[Direction::Forward],
        Compatibility::Full => &[Direction::Backward, Direction::Forward],
        Compatibility::None => &[],
    };
    let mut reports = Vec::new();
    for (against, old) in &olds {
        for direction in directions {
            let report = compat::check(old, &asked.new, *direction, policy.profile);
            reports.push(CheckReport { against: *against, report });
        }
    }
    let verdict = reports.iter().map(|one| one.report.verdict).max().unwrap_or(Verdict::Compatible);
    Ok(CheckView {
        verdict,
        compatible: verdict == Verdict::Compatible,
        compatibility: policy.word(),
        profile: policy.profile,
        reports,
    })
}

/// `POST /api/v1/reload`
pub async fn reload(State(api): State<Api>) -> Result<Json<Reloaded>, ApiError> {
    (api.loading.reload)().await.map(Json).map_err(|mistakes| {
        let place = |mistake: &Mistake| match mistake.line {
            0 => mistake.file.clone(),
            line => format!("{}:{line}:{}", mistake.file, mistake.column),
        };
        let errors = mistakes.iter().map(|mistake| (place(mistake), format!("[{}] {}", mistake.code, mistake.message)));
        ApiError::invalid("the files have mistakes; what was loaded stays active", errors.collect())
    })
}
