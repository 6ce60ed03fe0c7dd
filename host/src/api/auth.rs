//! Who may ask: the two security schemes, and the challenge that goes with a refusal.

use poem::error::ResponseError;
use poem::http::StatusCode;
use poem::{Endpoint, EndpointExt, IntoResponse, Request, Response};
use poem_openapi::SecurityScheme;
use poem_openapi::auth::{ApiKey, Bearer};
use poem_openapi::error::AuthorizationError;
use poem_openapi::payload::Json;

use super::problem::{Problem, Refused};
use crate::tokens::Tokens;

/// The token that services share: `INTERNAL_SERVICE_TOKEN`.
#[derive(SecurityScheme)]
#[oai(ty = "api_key", key_in = "header", key_name = "X-Service-Token", checker = "service")]
pub(crate) struct ServiceToken(());

async fn service(request: &Request, key: ApiKey) -> Option<()> {
    request.data::<Tokens>()?.accepts_service(&key.key).then_some(())
}

/// A token of a client: one of `API_BEARER_TOKENS`.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", checker = "bearer")]
pub(crate) struct BearerToken(());

async fn bearer(request: &Request, bearer: Bearer) -> Option<()> {
    request.data::<Tokens>()?.accepts_bearer(&bearer.token).then_some(())
}

/// Answers a missing or wrong service token with its challenge. Goes onto every route that takes
/// a [`ServiceToken`], as `transform`.
pub(crate) fn challenge_service(
    endpoint: impl Endpoint + 'static,
) -> impl Endpoint<Output = Response> + 'static {
    challenge(endpoint, r#"ServiceToken realm="arena", header="X-Service-Token""#)
}

/// The same for a client's token. Goes onto every route that takes a [`BearerToken`].
pub(crate) fn challenge_bearer(
    endpoint: impl Endpoint + 'static,
) -> impl Endpoint<Output = Response> + 'static {
    challenge(endpoint, r#"Bearer realm="arena""#)
}

fn challenge(
    endpoint: impl Endpoint + 'static,
    challenge: &'static str,
) -> impl Endpoint<Output = Response> + 'static {
    endpoint.catch_error(move |error: AuthorizationError| async move {
        let status = error.status();
        debug_assert_eq!(status, StatusCode::UNAUTHORIZED);
        let problem = Problem::new(status).with_detail("the token is missing or wrong");
        Refused::Unauthorized(Json(problem), challenge.to_owned()).into_response()
    })
}
