//! The page that shows the OpenAPI document: Swagger UI, embedded, loading nothing from outside.

use poem::endpoint::make_sync;
use poem::http::header::CONTENT_SECURITY_POLICY;
use poem::{Endpoint, Response};

/// What the page may do. Its script and style stand in the page itself (hence `unsafe-inline`;
/// no text from elsewhere is ever put into it); it may draw its own icons and ask this server,
/// and nothing else. Swagger's badge of an outside validator is thereby off, too.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Serves the page, made once.
pub(crate) fn page(html: String) -> impl Endpoint + 'static {
    make_sync(move |_| {
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(CONTENT_SECURITY_POLICY, POLICY)
            .body(html.clone())
    })
}
