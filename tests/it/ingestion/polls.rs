//! The polled channels against the simulated venues, with what goes wrong there.

use std::time::Duration;

use domain::ingestion::Source::{Defillama, Hyperliquid, Polymarket};
use host::venues::{Endpoint, Fault};
use scheduler_core::RunStatus;
use serde_json::{Value, json};

use super::scene::Scene;
use crate::harness::Database;

const META: &str = "ingest_hyperliquid_meta";
const WITNESS: &str = "ingest_hyperliquid_asset_contexts_witness";

async fn failures_that_pass_are_waited_out(database: Database) {
    let scene = Scene::new(database).await;
    let page = "<html><body>Too many requests</body></html>";
    let passing = [
        Fault::limited(Some(1)),
        Fault::limited(None),
        Fault::answer(429, page).header("content-type", "text/html"),
        Fault::answer(200, r#"{"error":"Too Many Requests"}"#),
        Fault::outage(),
        Fault::truncated(100),
    ];
    for fault in passing {
        let asked = scene.venues.log().requests(Endpoint::Meta).len();
        scene.venues.faults().push(Endpoint::Meta, fault);
        scene.succeed(Hyperliquid, META).await;
        assert_eq!(scene.venues.log().requests(Endpoint::Meta).len(), asked + 2);
    }
    let seen = scene.venues.log().requests(Endpoint::Meta);
    assert!(seen.iter().all(|request| request.user_agent.starts_with("arena/")));
    assert_eq!(scene.count("SELECT count(*) FROM instrument_versions").await, 1);
    assert_eq!(scene.count("SELECT count(*) FROM instruments WHERE delisted").await, 1);
}

async fn one_coin_that_the_venue_does_not_know_costs_the_others_nothing(database: Database) {
    let scene = Scene::new(database).await;
    scene.succeed(Hyperliquid, META).await;
    scene.venues.faults().push(Endpoint::FundingHistory, Fault::answer(500, "null"));
    scene.succeed(Hyperliquid, "ingest_hyperliquid_funding").await;
    let coins = "SELECT count(DISTINCT symbol) FROM funding";
    assert_eq!(scene.count(coins).await, 2, "the first of three was refused");
    let refused = scene.venues.log().requests(Endpoint::FundingHistory);
    assert_eq!(refused.iter().filter(|seen| seen.status == 500).count(), 1, "asked once");
    scene.venues.faults().push(Endpoint::CandleSnapshot, Fault::answer(200, "null"));
    scene.succeed(Hyperliquid, "ingest_hyperliquid_candle_audit").await;
    assert_eq!(scene.count("SELECT count(DISTINCT symbol) FROM candles").await, 2);
    let problems = "SELECT count(*) FROM ingestion_channels WHERE last_error LIKE 'BTC:%'";
    assert_eq!(scene.count(problems).await, 2);
    // Later the coin is there, and nothing stands twice.
    scene.succeed(Hyperliquid, "ingest_hyperliquid_funding").await;
    assert_eq!(scene.count(coins).await, 3);
}

async fn an_hour_of_funding_that_was_refused_is_asked_for_again_for_three_days(database: Database) {
    let scene = Scene::new(database).await;
    let funding = "ingest_hyperliquid_funding";
    scene.succeed(Hyperliquid, META).await;
    scene.succeed(Hyperliquid, funding).await;
    let hours = "SELECT count(*) FROM funding WHERE symbol = 'BTC'";
    let stored = scene.count(hours).await;
    let requests = || scene.venues.log().requests(Endpoint::FundingHistory).len();
    // Two hours later the first of both is refused, the second is good.
    scene.database.clock.advance(Duration::from_secs(2 * 3_600));
    let spoil = |document: &mut Value| document[0]["fundingRate"] = json!("NaN");
    scene.venues.faults().push(Endpoint::FundingHistory, Fault::edited(spoil));
    scene.succeed(Hyperliquid, funding).await;
    assert_eq!(scene.count(hours).await, stored + 1);
    scene.succeed(Hyperliquid, funding).await;
    assert_eq!(scene.count(hours).await, stored + 2, "the hole is filled");
    let asked = requests();
    scene.succeed(Hyperliquid, funding).await;
    assert_eq!(requests(), asked, "all that there is, is known");

    // What the venue does not have is asked for with the newest hour, and given up in the end.
    scene.database.execute("DELETE FROM funding WHERE symbol <> 'BTC'").await;
    scene.database.clock.advance(Duration::from_secs(2 * 3_600));
    let drop_first = |document: &mut Value| {
        if let Some(hours) = document.as_array_mut() {
            hours.remove(0);
        }
    };
    scene.venues.faults().push(Endpoint::FundingHistory, Fault::edited(drop_first));
    scene.succeed(Hyperliquid, funding).await;
    assert_eq!(scene.count(hours).await, stored + 3);
    let asked = requests();
    scene.venues.faults().push(Endpoint::FundingHistory, Fault::edited(drop_first));
    scene.succeed(Hyperliquid, funding).await;
    assert_eq!(requests(), asked + 1, "one request for it");
    scene.database.clock.advance(Duration::from_secs(73 * 3_600));
    scene.venues.faults().push(Endpoint::FundingHistory, Fault::edited(drop_first));
    scene.succeed(Hyperliquid, funding).await;
    assert_eq!(scene.count(hours).await, stored + 75, "the hour before the last days is left");
    let asked = requests();
    scene.succeed(Hyperliquid, funding).await;
    assert_eq!((requests(), scene.count(hours).await), (asked, stored + 75));
}

async fn lists_that_do_not_match_are_refused_whole_and_bad_rows_alone(database: Database) {
    let scene = Scene::new(database).await;
    let shorter = Fault::edited(|document| {
        if let Some(contexts) = document[1].as_array_mut() {
            contexts.pop();
        }
    });
    scene.venues.faults().push(Endpoint::MetaAndAssetCtxs, shorter);
    let report = scene.once(Hyperliquid, WITNESS).await;
    assert_eq!(report.status, RunStatus::Failed, "{report:?}");
    assert_eq!(scene.count("SELECT count(*) FROM marks").await, 0);
    for wrong in ["NaN", "", "Infinity", "-1", "0"] {
        let spoil = move |document: &mut Value| document[1][0]["markPx"] = json!(wrong);
        scene.venues.faults().push(Endpoint::MetaAndAssetCtxs, Fault::edited(spoil));
        scene.succeed(Hyperliquid, WITNESS).await;
        assert_eq!(scene.count("SELECT count(*) FROM marks").await, 9, "{wrong:?}");
    }
    scene.succeed(Hyperliquid, WITNESS).await;
    assert_eq!(scene.count("SELECT count(*) FROM marks").await, 10, "the dead one is none");
    assert_eq!(scene.count("SELECT max(rows_rejected) FROM ingestion_runs").await, 1);
}

async fn bars_that_the_venue_corrects_keep_what_was_first_seen(database: Database) {
    let scene = Scene::new(database).await;
    scene.succeed(Hyperliquid, META).await;
    let spoil = |document: &mut Value| {
        let Some(bars) = document.as_array_mut() else { return };
        let middle = bars.len() / 2;
        let high = bars[middle]["h"].clone();
        bars[middle]["c"] = high;
    };
    scene.venues.faults().push(Endpoint::CandleSnapshot, Fault::edited(spoil));
    let audit = "ingest_hyperliquid_candle_audit";
    scene.succeed(Hyperliquid, audit).await;
    assert_eq!(scene.count("SELECT count(*) FROM candle_revisions").await, 0);
    scene
        .database
        .execute(
            "DELETE FROM candles WHERE symbol = 'ETH' AND interval = '1m' AND open_time_ms % 7 = 0",
        )
        .await;
    scene.succeed(Hyperliquid, audit).await;
    let revised = "SELECT count(*) FROM candle_revisions WHERE symbol = 'BTC' AND interval = '1m' AND revision = 0";
    assert_eq!(scene.count(revised).await, 1);
    let counted =
        "SELECT count(*) FROM candles WHERE symbol = 'BTC' AND interval = '1m' AND revision = 1";
    assert_eq!(scene.count(counted).await, 1);
    // Bars that were lost are back: each coin has the same minutes.
    let minutes = |symbol: &str| {
        format!("SELECT count(*) FROM candles WHERE interval = '1m' AND symbol = '{symbol}'")
    };
    let (eth, sol) = (scene.count(&minutes("ETH")).await, scene.count(&minutes("SOL")).await);
    // A minute may have ended between the two.
    assert!(eth + 1 >= sol, "{eth} and {sol}");
    // A third look changes nothing but what was closed meanwhile.
    scene.succeed(Hyperliquid, audit).await;
    assert_eq!(scene.count(revised).await, 1);
}

async fn statistics_are_kept_with_the_value_that_was_first_seen(database: Database) {
    let scene = Scene::new(database).await;
    let channels =
        ["chains", "chain_history", "protocols", "stablecoins", "yields", "dex_volumes", "prices"];
    for channel in channels {
        scene.succeed(Defillama, &format!("ingest_defillama_{channel}")).await;
    }
    let features = "SELECT count(DISTINCT feature) FROM features";
    assert!(scene.count(features).await >= 9, "{}", scene.count(features).await);
    let revise = |document: &mut Value| document[0]["tvl"] = json!(123.5);
    scene.venues.faults().push(Endpoint::HistoricalChainTvl, Fault::edited(revise));
    scene.succeed(Defillama, "ingest_defillama_chain_history").await;
    let revised = "SELECT count(*) FROM features WHERE value = 123.5 AND first_value <> value AND revision = 1 AND revised_at_ms IS NOT NULL";
    assert_eq!(scene.count(revised).await, 1);
}

async fn answers_without_anything_are_legal_and_refresh_nothing(database: Database) {
    let scene = Scene::new(database).await;
    scene.succeed(Defillama, "ingest_defillama_prices").await;
    scene.succeed(Defillama, "ingest_defillama_yields").await;
    let newest = "SELECT CAST(sum(last_datum_at_ms) AS BIGINT) FROM ingestion_channels";
    let rows = scene.count("SELECT count(*) FROM features").await;
    let datum = scene.count(newest).await;
    scene.venues.faults().push(Endpoint::PricesCurrent, Fault::answer(200, r#"{"coins":{}}"#));
    let empty = r#"{"status":"success","data":[]}"#;
    scene.venues.faults().push(Endpoint::Pools, Fault::answer(200, empty));
    scene.succeed(Defillama, "ingest_defillama_prices").await;
    scene.succeed(Defillama, "ingest_defillama_yields").await;
    assert_eq!(scene.count("SELECT count(*) FROM features").await, rows);
    assert_eq!(scene.count(newest).await, datum);
    // A refusal that comes with status 200 is of its chain alone.
    let envelope = r#"{"statusCode":400,"body":"{\"message\":\"There is no chain with that name\"}","headers":{}}"#;
    scene.venues.faults().push(Endpoint::HistoricalChainTvl, Fault::answer(200, envelope));
    scene.succeed(Defillama, "ingest_defillama_chain_history").await;
    let asked = scene.venues.log().requests(Endpoint::HistoricalChainTvl).len();
    assert_eq!(asked, scene.options(&[]).chains.len(), "none was asked twice");
}

async fn a_pager_that_repeats_itself_ends_and_bad_markets_are_refused(database: Database) {
    let scene = Scene::new(database).await;
    let page = r#"{"events":[{"id":"1","markets":[]}],"next_cursor":"again"}"#;
    scene.venues.faults().always(Endpoint::GammaEventsKeyset, Fault::answer(200, page));
    scene.succeed(Polymarket, "ingest_polymarket_discovery").await;
    let pages = scene.venues.log().requests(Endpoint::GammaEventsKeyset).len();
    assert_eq!(pages, 2);
    scene.venues.faults().clear();
    let spoil = |document: &mut Value| {
        document["events"][0]["markets"][0]["outcomes"] = json!("[\"Yes\"]");
    };
    scene.venues.faults().push(Endpoint::GammaEventsKeyset, Fault::edited(spoil));
    scene.succeed(Polymarket, "ingest_polymarket_discovery").await;
    assert_eq!(scene.count("SELECT max(rows_rejected) FROM ingestion_runs").await, 1);
    for channel in ["odds_witness", "history", "resolution"] {
        scene.succeed(Polymarket, &format!("ingest_polymarket_{channel}")).await;
    }
    assert!(scene.count("SELECT count(*) FROM pm_quotes").await > 0);
    assert!(scene.count("SELECT count(*) FROM pm_odds WHERE fidelity_s = 3600").await > 0);
}

on_every_store! {
    failures_that_pass_are_waited_out,
    one_coin_that_the_venue_does_not_know_costs_the_others_nothing,
    an_hour_of_funding_that_was_refused_is_asked_for_again_for_three_days,
    lists_that_do_not_match_are_refused_whole_and_bad_rows_alone,
    bars_that_the_venue_corrects_keep_what_was_first_seen,
    statistics_are_kept_with_the_value_that_was_first_seen,
    answers_without_anything_are_legal_and_refresh_nothing,
    a_pager_that_repeats_itself_ends_and_bad_markets_are_refused,
}
