//! What stands around every route: limits, an id and a span per request, headers that keep a
//! browser honest, and one shape for everything that goes wrong.

use std::time::{Duration, Instant};

use poem::error::ReadBodyError;
use poem::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use poem::http::{HeaderName, HeaderValue, StatusCode};
use poem::middleware::{CatchPanic, CatchPanicEndpoint};
use poem::{Body, Endpoint, EndpointExt, IntoResponse, Request, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::problem::{self, Problem};

/// How much a request may ask of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The longest body, in bytes.
    pub(crate) body: usize,
    /// The longest time for a body to arrive, and again for the handler to answer.
    pub(crate) time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 64 * 1024, time: Duration::from_secs(10) }
    }
}

/// Puts the guard around the routes.
pub(crate) fn guard<E: Endpoint + 'static>(
    routes: E,
    limits: Limits,
) -> impl Endpoint<Output = Response> + 'static {
    let internal = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR);
    Guard { routes: routes.with(CatchPanic::new().with_handler(internal)), limits }
}

struct Guard<E, H> {
    routes: CatchPanicEndpoint<E, H>,
    limits: Limits,
}

impl<E, H> Endpoint for Guard<E, H>
where
    E: Endpoint,
    H: poem::middleware::PanicHandler,
{
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let id = Uuid::now_v7();
        let path: String = request.uri().path().chars().take(LONGEST_LOGGED_PATH).collect();
        // Not the query and no header: either may carry a secret.
        let span = tracing::info_span!("request", %id, method = %request.method(), path);
        let mut response = self.answer(request).instrument(span).await;
        add_headers(&mut response, id);
        Ok(response)
    }
}

const LONGEST_LOGGED_PATH: usize = 200;

impl<E, H> Guard<E, H>
where
    E: Endpoint,
    H: poem::middleware::PanicHandler,
{
    async fn answer(&self, mut request: Request) -> Response {
        let started = Instant::now();
        let response = match self.take_body(&mut request).await {
            Ok(()) => self.handle(request).await,
            Err(problem) => problem.into_response(),
        };
        let status = response.status().as_u16();
        let elapsed_ms = started.elapsed().as_millis();
        if response.status().is_server_error() {
            tracing::warn!(status, elapsed_ms, "answered {status}");
        } else {
            tracing::debug!(status, elapsed_ms, "answered {status}");
        }
        response
    }

    /// Reads the body before the handler runs: the limit then holds for every handler, also for a
    /// body that comes in pieces and does not say its length.
    async fn take_body(&self, request: &mut Request) -> Result<(), Problem> {
        let limit = self.limits.body;
        let too_large = || {
            let detail = format!("a request body may have {limit} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE).with_detail(detail)
        };
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| {
            // A length that is no number has been refused by the HTTP parser already.
            length.to_str().ok()?.parse::<u64>().ok()
        });
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let body = request.take_body().into_bytes_limit(limit);
        match tokio::time::timeout(self.limits.time, body).await {
            Ok(Ok(bytes)) => {
                request.set_body(Body::from_bytes(bytes));
                Ok(())
            }
            Ok(Err(ReadBodyError::PayloadTooLarge)) => Err(too_large()),
            Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST)
                .with_detail("the connection broke before the whole body had arrived")),
            Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT)
                .with_detail(format!("the body took longer than {:?}", self.limits.time))),
        }
    }

    async fn handle(&self, request: Request) -> Response {
        match tokio::time::timeout(self.limits.time, self.routes.call(request)).await {
            Ok(Ok(response)) => problem::of_response(response),
            Ok(Err(error)) => problem::of_response(problem::of_error(error)),
            Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .with_detail(format!("the answer took longer than {:?}", self.limits.time))
                .into_response(),
        }
    }
}

fn add_headers(response: &mut Response, id: Uuid) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A page brings its own policy; a document needs none of what a page may do.
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ));
}
