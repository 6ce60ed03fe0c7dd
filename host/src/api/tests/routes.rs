//! What each route answers, and to whom.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::anyhow;
use poem::http::StatusCode;
use poem::test::TestClient;
use serde_json::json;

use super::*;
use crate::health::{HealthStatus, WorkerHealth, WorkerStatus};
use crate::logging::LogFormat;
use crate::logging::tests::logged;
use crate::pulse::Pulse;

fn well() -> WorkerHealth {
    WorkerHealth {
        worker: "backtesting".into(),
        status: WorkerStatus::NeverRun,
        stale: false,
        expected_interval_ms: Some(15_000),
        last_started_at_ms: None,
        last_completed_at_ms: None,
        last_success_at_ms: None,
        last_error_at_ms: None,
        last_error: None,
        summary: None,
        latency_ms: None,
        consecutive_errors: 0,
        total_runs: 0,
        total_errors: 0,
        next_due_at_ms: Some(9),
        lease_holder: None,
    }
}

#[tokio::test]
async fn worker_health_has_the_shape_of_the_contract_also_when_degraded() {
    let failed = WorkerHealth {
        worker: "prop_decisions".into(),
        status: WorkerStatus::Failed,
        stale: true,
        last_error: Some("no price".into()),
        summary: Some(json!({"accounts": 3})),
        latency_ms: Some(12),
        consecutive_errors: 2,
        total_runs: 5,
        total_errors: 2,
        lease_holder: Some("0190".into()),
        ..well()
    };
    let report = HealthReport {
        status: HealthStatus::Degraded,
        generated_at_ms: 77,
        workers: vec![well(), failed],
    };
    let client = client(Source { report: Some(report), ..Source::default() });
    let response = client.get(HEALTH).header("X-Service-Token", SERVICE).send().await;
    response.assert_status_is_ok();
    response
        .assert_json(json!({"status": "degraded", "generated_at_ms": 77, "workers": [
            {"worker": "backtesting", "status": "never_run", "stale": false,
             "expected_interval_ms": 15000, "last_started_at_ms": null,
             "last_completed_at_ms": null, "last_success_at_ms": null, "last_error_at_ms": null,
             "last_error": null, "summary": {}, "latency_ms": null, "consecutive_errors": 0,
             "total_runs": 0, "total_errors": 0, "next_due_at_ms": 9, "lease_holder": null},
            {"worker": "prop_decisions", "status": "failed", "stale": true,
             "expected_interval_ms": 15000, "last_started_at_ms": null,
             "last_completed_at_ms": null, "last_success_at_ms": null, "last_error_at_ms": null,
             "last_error": "no price", "summary": {"accounts": 3}, "latency_ms": 12,
             "consecutive_errors": 2, "total_runs": 5, "total_errors": 2, "next_due_at_ms": 9,
             "lease_holder": "0190"},
        ]}))
        .await;
}

#[tokio::test]
async fn without_a_database_the_verdict_is_down_and_the_cause_stays_inside() {
    let client = client(Source::default());
    let response = client.get(HEALTH).header("X-Service-Token", SERVICE).send().await;
    response.assert_status_is_ok();
    let body = json_of(response).await;
    assert_eq!(body["status"], "down");
    assert_eq!(body["workers"], json!([]));
    assert!(body["generated_at_ms"].as_i64().unwrap() > 1_700_000_000_000);
    assert!(!body.to_string().contains("secret"));
}

#[tokio::test]
async fn worker_health_is_for_the_service_token_only() {
    let client = client(Source::default());
    let longer = format!("{SERVICE}x");
    let wrong = [
        None,
        Some(("X-Service-Token", "")),
        Some(("X-Service-Token", "service-token-012")),
        Some(("X-Service-Token", longer.as_str())),
        Some(("X-Service-Token", BEARER)),
        Some(("Authorization", "Bearer service-token-0123")),
    ];
    for header in wrong {
        let request = client.get(HEALTH);
        let request = match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        let response = request.send().await;
        response.assert_header(
            "www-authenticate",
            r#"ServiceToken realm="arena", header="X-Service-Token""#,
        );
        let detail = check_problem(response, StatusCode::UNAUTHORIZED).await;
        assert_eq!(detail, "the token is missing or wrong", "{header:?}");
    }
}

#[tokio::test]
async fn livez_asks_the_loops_and_not_the_database() {
    let state = state(Source::default());
    let pulse: Arc<Pulse> = Arc::clone(&state.pulse);
    let client = TestClient::new(app(state));
    client.get("/livez").send().await.assert_json(json!({"status": "ok"})).await;
    pulse.watch("scheduler", Duration::from_secs(30), || Duration::from_secs(40));
    let response = client.get("/livez").send().await;
    let detail = check_problem(response, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(detail, "standing still: `scheduler` is silent for 40s (at most 30s)");
}

#[tokio::test]
async fn readyz_says_what_is_missing_without_its_cause() {
    let check = async |not_ready, expected: &str| {
        let not_ready = Mutex::new(Some(not_ready));
        let client = client(Source { not_ready, ..Source::default() });
        let response = client.get("/readyz").send().await;
        let detail = check_problem(response, StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(detail, expected);
    };
    check(NotReady::Database(anyhow!("/srv/secret")), "the database does not answer").await;
    check(
        NotReady::Migrations { pending: 2 },
        "migrations are pending (2); run `arena db migrate`",
    )
    .await;
    check(NotReady::LeaseWrite(anyhow!("disk full")), "a lease cannot be written").await;
}

#[tokio::test]
async fn many_who_ask_for_readiness_cost_one_check() {
    let source = Arc::new(Source::default());
    let client = TestClient::new(app(ApiState {
        health: Arc::<Source>::clone(&source),
        ..state(Source::default())
    }));
    for _ in 0..20 {
        client.get("/readyz").send().await.assert_status_is_ok();
    }
    // Two, should the machine have stood still for a second in between.
    assert!(source.checks.load(Ordering::SeqCst) <= 2);
}

#[test]
fn no_token_reaches_the_log() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = logged(LogFormat::Text, "trace", || {
        runtime.block_on(async {
            let client = client(Source::default());
            for token in [SERVICE, "wrong-token-012345"] {
                let path = format!("{HEALTH}?token={token}");
                let request = client.get(path).header("X-Service-Token", token);
                request.header("Authorization", format!("Bearer {token}")).send().await;
            }
        });
    });
    assert!(log.contains("answered 401"), "{log}");
    assert!(log.contains("/api/v1/internal/health/workers"), "{log}");
    assert!(!log.contains(SERVICE) && !log.contains("wrong-token"), "{log}");
}
