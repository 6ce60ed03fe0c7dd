//! The HTTP interface: probes, health, the OpenAPI document and its page.
//!
//! Types on the wire stand beside their routes and are made from inner types there. Every
//! refusal and failure is `application/problem+json`, whatever raised it (`guard`).

mod auth;
mod docs;
mod guard;
mod health;
mod ingestion;
mod probes;
mod problem;
mod server;

use std::sync::Arc;

use poem::{Endpoint, EndpointExt, Response, Route};
use poem_openapi::{OpenApi, OpenApiService, Tags};

pub use self::server::serve;
use crate::health::HealthSource;
use crate::pulse::Pulse;
use crate::tokens::Tokens;

/// What the routes need.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a source need not be Debug")]
pub struct ApiState {
    /// Where health is read.
    pub health: Arc<dyn HealthSource>,
    /// The loops of this process.
    pub pulse: Arc<Pulse>,
    /// Who may ask.
    pub tokens: Tokens,
}

/// The whole HTTP interface as one endpoint, for [`serve`] or for a test client.
pub fn app(state: ApiState) -> impl Endpoint<Output = Response> + 'static {
    let ApiState { health, pulse, tokens } = state;
    let service = describe(apis(health, pulse));
    let routes = Route::new()
        .at("/openapi.json", service.spec_endpoint())
        .at("/docs", docs::page(service.swagger_ui_html()))
        .nest("/", service)
        .data(tokens);
    guard::guard(routes, guard::Limits::default())
}

/// The OpenAPI document, as `GET /openapi.json` serves it: no address, no port, nothing that
/// differs from one process to the next.
#[must_use]
pub fn openapi_document() -> String {
    let mut document = describe(apis(Arc::new(Undescribed), Arc::default())).spec();
    document.push('\n');
    document
}

#[derive(Tags)]
enum Tag {
    /// For supervisors and load balancers.
    Probes,
    /// For operators.
    Operations,
    /// Market data.
    Ingestion,
}

fn apis(health: Arc<dyn HealthSource>, pulse: Arc<Pulse>) -> impl OpenApi + 'static {
    (
        probes::ProbesApi::new(Arc::clone(&health), pulse),
        health::HealthApi::new(Arc::clone(&health)),
        ingestion::IngestionApi::new(health),
    )
}

fn describe<T: OpenApi>(apis: T) -> OpenApiService<T, ()> {
    OpenApiService::new(apis, "arena", env!("CARGO_PKG_VERSION"))
        .description("Worker host of the trading arena. Errors are `application/problem+json`.")
}

/// Stands where a document is made and nothing is served.
struct Undescribed;

#[async_trait::async_trait]
impl HealthSource for Undescribed {
    async fn worker_health(&self) -> anyhow::Result<crate::health::HealthReport> {
        anyhow::bail!("only the document is made here")
    }

    async fn ingestion_report(&self) -> anyhow::Result<crate::health::IngestionReport> {
        anyhow::bail!("only the document is made here")
    }

    async fn ready(&self) -> Result<(), crate::health::NotReady> {
        Err(crate::health::NotReady::Database(anyhow::anyhow!("only the document is made here")))
    }
}

#[cfg(test)]
mod tests;
