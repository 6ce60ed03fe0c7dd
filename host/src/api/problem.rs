//! Problem details (RFC 9457): the one shape of every refusal and failure.

use poem::http::StatusCode;
use poem::http::header::{ALLOW, CONTENT_TYPE};
use poem::{Error, IntoResponse, Response};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object};

pub(crate) const CONTENT: &str = "application/problem+json";

/// A problem: what went wrong, for programs (`status`) and for people (`detail`).
#[derive(Debug, Clone, Object)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says which problem it is.
    #[oai(rename = "type")]
    kind: String,
    /// The name of the status.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request, or what is not well here.
    #[oai(skip_serializing_if_is_none)]
    detail: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: None,
        }
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Json(self).into_response();
        response.set_status(status);
        response.headers_mut().insert(CONTENT_TYPE, content());
        response
    }
}

/// The answers of a route that are problems, for the document and for the route.
#[derive(ApiResponse)]
pub(crate) enum Refused {
    /// The token is missing or wrong.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>, #[oai(header = "WWW-Authenticate")] String),
}

/// The answer of a probe that is not well.
#[derive(ApiResponse)]
pub(crate) enum NotWell {
    /// Not now; `detail` says why.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(Json<Problem>),
}

impl NotWell {
    pub(crate) fn because(detail: impl Into<String>) -> Self {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE).with_detail(detail);
        Self::Unavailable(Json(problem))
    }
}

/// The answer for an error of a handler, an extractor or the router. The words of a client's
/// mistake reach the client; those of a failure of ours reach the log only.
pub(crate) fn of_error(error: Error) -> Response {
    let status = error.status();
    if error.is_from_response() {
        return of_response(error.into_response());
    }
    if status.is_server_error() {
        let error = anyhow::Error::from(error);
        tracing::error!(error = format!("{error:#}"), "a request failed");
        return Problem::new(status).into_response();
    }
    let problem = Problem::new(status);
    let words = error.to_string();
    if words.is_empty() || problem.title.eq_ignore_ascii_case(&words) {
        problem.into_response()
    } else {
        problem.with_detail(words).into_response()
    }
}

/// Gives a response that is a refusal or a failure the shape of a problem, unless it has it.
pub(crate) fn of_response(mut response: Response) -> Response {
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    let shaped = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == CONTENT);
    if refused && !shaped {
        let problem = Problem::new(status).into_response();
        response.headers_mut().insert(CONTENT_TYPE, content());
        response.set_body(problem.into_body());
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // Every route of today is read-only; a test fails when the document says otherwise.
        response.headers_mut().insert(ALLOW, poem::http::HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn content() -> poem::http::HeaderValue {
    poem::http::HeaderValue::from_static(CONTENT)
}
