//! Requests: limits, faults, and what the log remembers.

use std::time::Duration;

use serde_json::{Value, json};

use super::venues;
use crate::venues::{Endpoint, Fault, Host, RunningVenues};

fn client() -> reqwest::Client {
    // The first test installs it; nothing here speaks TLS.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().user_agent("test/1").build().unwrap()
}

async fn ask(venues: &RunningVenues, request: &Value) -> reqwest::Result<(u16, String)> {
    let client = client();
    let response = client
        .post(format!("{}/info", venues.urls().hyperliquid))
        .header("content-type", "application/json")
        .timeout(Duration::from_secs(5))
        .body(request.to_string())
        .send()
        .await?;
    Ok((response.status().as_u16(), response.text().await?))
}

#[tokio::test]
async fn the_minute_has_twelve_hundred_of_weight() {
    let (venues, clock) = venues().await;
    let candles = json!({ "type": "candleSnapshot", "req": {
        "coin": "BTC", "interval": "1m",
        "startTime": super::NOW_MS - 6_000 * 60_000, "endTime": super::NOW_MS,
    } });
    // 5,000 rows cost 20 + 84.
    for _ in 0..12 {
        assert_eq!(ask(&venues, &candles).await.unwrap().0, 200);
    }
    assert_eq!(ask(&venues, &candles).await.unwrap(), (429, "null".to_owned()));
    assert_eq!(venues.log().heaviest_minute(Host::Hyperliquid), 12 * 104);
    clock.advance(Duration::from_secs(60));
    assert_eq!(ask(&venues, &candles).await.unwrap().0, 200);

    let seen = venues.log().requests(Endpoint::CandleSnapshot);
    assert_eq!(seen.len(), 14);
    assert_eq!((seen[0].weight, seen[12].weight, seen[12].status), (104, 0, 429));
    assert_eq!((seen[0].user_agent.as_str(), seen[0].line.as_str()), ("test/1", "POST /info"));
    assert_eq!(seen[0].body, candles.to_string());
    venues.stop().await;
}

#[tokio::test]
async fn an_answer_goes_wrong_as_planned() {
    let (venues, _clock) = venues().await;
    let faults = venues.faults();
    let mids = json!({ "type": "allMids" });
    faults.push(Endpoint::AllMids, Fault::limited(Some(7)));
    faults.push(Endpoint::AllMids, Fault::outage());
    faults.push(Endpoint::AllMids, Fault::edited(|mids| mids["BTC"] = "NaN".into()));
    faults.push(Endpoint::AllMids, Fault::truncated(10));
    assert_eq!(ask(&venues, &mids).await.unwrap(), (429, "null".to_owned()));
    assert_eq!(ask(&venues, &mids).await.unwrap(), (502, Fault::OUTAGE.to_owned()));
    let (status, body) = ask(&venues, &mids).await.unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["BTC"]), (200, &json!("NaN")));
    assert!(answer["ETH"].is_string());
    assert!(ask(&venues, &mids).await.is_err(), "the body ends before its length");
    assert_eq!(ask(&venues, &mids).await.unwrap().0, 200);

    faults.refuse(Host::Hyperliquid, true);
    assert!(ask(&venues, &mids).await.is_err());
    faults.refuse(Host::Hyperliquid, false);
    assert_eq!(ask(&venues, &mids).await.unwrap().0, 200);
    venues.stop().await;
}

#[tokio::test]
async fn an_answer_that_stalls_stands_open() {
    let (venues, _clock) = venues().await;
    venues.faults().push(Endpoint::AllMids, Fault::stalled(20));
    let client = client();
    let asked = client
        .post(format!("{}/info", venues.urls().hyperliquid))
        .header("content-type", "application/json")
        .body(json!({ "type": "allMids" }).to_string())
        .timeout(Duration::from_millis(300));
    let error = asked.send().await.unwrap().text().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    venues.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_off_shows_in_the_times() {
    let (venues, _clock) = venues().await;
    venues.faults().set_clock_offset_ms(90_000);
    let (_, body) = ask(&venues, &json!({ "type": "exchangeStatus" })).await.unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["time"], super::NOW_MS + 90_000);
    venues.stop().await;
}
