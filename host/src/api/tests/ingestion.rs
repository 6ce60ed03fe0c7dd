//! The routes of ingestion: the whole for clients, the sum for everybody.

use domain::ingestion::{CHANNELS, ChannelFacts, ChannelState, IngestionHealth};
use poem::http::StatusCode;
use serde_json::json;

use super::*;

const FULL: &str = "/api/v1/ingestion/health";
const PUBLIC: &str = "/api/v1/ingestion/dashboard";
const NOW: i64 = 1_700_000_000_000;

/// Everything is fresh but the yields of DefiLlama, which failed.
fn report() -> IngestionReport {
    let facts: Vec<ChannelFacts> = CHANNELS
        .iter()
        .map(|channel| {
            let fails = channel.name == "yields";
            ChannelFacts {
                source: channel.source.to_string(),
                channel: channel.name.to_owned(),
                status: if fails { "failed" } else { "succeeded" }.to_owned(),
                state: ChannelState {
                    last_success_at_ms: Some(NOW - 1_000),
                    last_datum_at_ms: (!fails).then_some(NOW - 2_000),
                    consecutive_failures: i64::from(fails) * 3,
                },
                last_error: fails.then(|| "status 502: <html>".to_owned()),
            }
        })
        .collect();
    let health = IngestionHealth::assess(&facts, NOW);
    IngestionReport { health, rows_written_24h: [5_000, 70, 0] }
}

fn with_report() -> Source {
    Source { ingestion: Some(report()), ..Source::default() }
}

#[tokio::test]
async fn clients_see_every_channel() {
    let client = client(with_report());
    let response =
        client.get(FULL).header("Authorization", format!("Bearer {BEARER}")).send().await;
    response.assert_status_is_ok();
    let body = json_of(response).await;
    assert_eq!((&body["status"], &body["generated_at_ms"]), (&json!("ok"), &json!(NOW)));
    let channels = body["channels"].as_array().unwrap();
    assert_eq!(channels.len(), CHANNELS.len());
    let find = |name| channels.iter().find(|channel| channel["channel"] == name).unwrap();
    assert_eq!(
        find("mids"),
        &json!({"source": "hyperliquid", "channel": "mids", "status": "succeeded", "required": true,
            "last_success_at_ms": NOW - 1_000, "last_datum_at_ms": NOW - 2_000, "age_ms": 2_000,
            "stale": false, "consecutive_failures": 0, "last_error": null})
    );
    assert_eq!(
        find("yields"),
        &json!({"source": "defillama", "channel": "yields", "status": "failed", "required": false,
            "last_success_at_ms": NOW - 1_000, "last_datum_at_ms": null, "age_ms": null,
            "stale": true, "consecutive_failures": 3, "last_error": "status 502: <html>"})
    );
}

#[tokio::test]
async fn the_health_of_ingestion_is_for_clients_with_a_token() {
    let client = client(with_report());
    let wrong = [
        None,
        Some(("Authorization", "Bearer nobodys-token-0123".to_owned())),
        Some(("Authorization", format!("Bearer {SERVICE}"))),
        Some(("Authorization", BEARER.to_owned())),
        Some(("X-Service-Token", SERVICE.to_owned())),
    ];
    for header in wrong {
        let request = client.get(FULL);
        let request = match &header {
            Some((name, value)) => request.header(*name, value),
            None => request,
        };
        let response = request.send().await;
        response.assert_header("www-authenticate", r#"Bearer realm="arena""#);
        let detail = check_problem(response, StatusCode::UNAUTHORIZED).await;
        assert_eq!(detail, "the token is missing or wrong", "{header:?}");
    }
}

#[tokio::test]
async fn everybody_sees_the_sum_and_nothing_internal() {
    let response = client(with_report()).get(PUBLIC).send().await;
    response.assert_status_is_ok();
    let body = json_of(response).await;
    let count = |source| CHANNELS.iter().filter(|one| one.source.as_str() == source).count();
    let of = |source, status, stale, written: i64| {
        json!({"source": source, "status": status, "channels": count(source),
            "stale_channels": stale, "last_success_at_ms": NOW - 1_000,
            "rows_written_24h": written})
    };
    assert_eq!(
        body,
        json!({"generated_at_ms": NOW, "sources": [
            of("hyperliquid", "ok", 0, 5_000),
            of("defillama", "degraded", 1, 70),
            of("polymarket", "ok", 0, 0),
        ]})
    );
}

#[tokio::test]
async fn without_a_database_ingestion_is_down_and_the_cause_stays_inside() {
    let client = client(Source::default());
    let public = json_of(client.get(PUBLIC).send().await).await;
    assert_eq!(public["sources"], json!([]));
    let request = client.get(FULL).header("Authorization", format!("Bearer {BEARER}"));
    let full = json_of(request.send().await).await;
    assert_eq!((&full["status"], &full["channels"]), (&json!("down"), &json!([])));
    assert!(!format!("{public}{full}").contains("secret"));
}
