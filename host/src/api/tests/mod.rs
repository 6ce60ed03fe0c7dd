//! The HTTP interface through a test client, and the server through a socket.

mod documents;
mod guarding;
mod ingestion;
mod routes;
mod serving;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::anyhow;
use async_trait::async_trait;
use poem::http::StatusCode;
use poem::test::{TestClient, TestResponse};
use poem::{Endpoint, Response};
use serde_json::Value;

use super::{ApiState, app};
use crate::health::{HealthReport, HealthSource, IngestionReport, NotReady};
use crate::tokens::{INTERNAL_SERVICE_TOKEN, Tokens};

const SERVICE: &str = "service-token-0123";
const BEARER: &str = "bearer-token-01234";
const HEALTH: &str = "/api/v1/internal/health/workers";

#[derive(Default)]
struct Source {
    report: Option<HealthReport>,
    ingestion: Option<IngestionReport>,
    not_ready: Mutex<Option<NotReady>>,
    checks: AtomicUsize,
}

#[async_trait]
impl HealthSource for Source {
    async fn worker_health(&self) -> anyhow::Result<HealthReport> {
        self.report.clone().ok_or_else(|| anyhow!("unable to open /srv/secret/arena.db"))
    }

    async fn ingestion_report(&self) -> anyhow::Result<IngestionReport> {
        self.ingestion.clone().ok_or_else(|| anyhow!("unable to open /srv/secret/arena.db"))
    }

    async fn ready(&self) -> Result<(), NotReady> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        self.not_ready.lock().unwrap().take().map_or(Ok(()), Err)
    }
}

fn state(source: Source) -> ApiState {
    let (tokens, _) = Tokens::read(&|name| {
        Ok(Some(if name == INTERNAL_SERVICE_TOKEN { SERVICE } else { BEARER }.to_owned()))
    })
    .unwrap();
    ApiState { health: Arc::new(source), pulse: Arc::default(), tokens }
}

fn client(source: Source) -> TestClient<impl Endpoint<Output = Response>> {
    TestClient::new(app(state(source)))
}

async fn json_of(response: TestResponse) -> Value {
    response.0.into_body().into_json().await.unwrap()
}

/// Whether an answer is a problem of this status; answers its detail.
#[track_caller]
fn check_problem(response: TestResponse, status: StatusCode) -> impl Future<Output = String> {
    response.assert_status(status);
    response.assert_content_type("application/problem+json");
    response.assert_header("x-content-type-options", "nosniff");
    response.assert_header("cache-control", "no-store");
    response.assert_header_exist("x-request-id");
    async move {
        let problem = json_of(response).await;
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["status"], status.as_u16());
        assert_eq!(problem["title"], status.canonical_reason().unwrap());
        problem["detail"].as_str().unwrap_or_default().to_owned()
    }
}
