//! The streams against the simulated venues, with what goes wrong there.

use domain::ingestion::Source::{Hyperliquid, Polymarket};
use host::venues::{Endpoint, Host, Step};
use serde_json::json;

use super::scene::Scene;
use crate::harness::{Database, at_once, wait_for};

const STREAM: Endpoint = Endpoint::HyperliquidStream;

async fn a_stream_fills_every_table_and_leaves_no_heartbeat(database: Database) {
    let scene = Scene::new(database).await;
    let running = scene.start(&[Hyperliquid]).await;
    scene.reaches("SELECT count(*) FROM marks WHERE symbol IN ('BTC', 'ETH', 'SOL')", 3).await;
    scene.reaches("SELECT count(*) FROM mids", 10).await;
    scene.reaches("SELECT count(*) FROM quotes", 3).await;
    scene.reaches("SELECT count(DISTINCT symbol) FROM trades", 3).await;
    // Two hours of bars were fetched; a quarter of each was whole.
    scene.reaches("SELECT count(*) FROM candles WHERE interval = '1m'", 3 * 115).await;
    scene.reaches("SELECT count(*) FROM candles WHERE interval = '15m'", 3 * 6).await;
    scene.reaches("SELECT count(*) FROM candles WHERE interval = '1h'", 3).await;
    scene.reaches("SELECT count(*) FROM asset_contexts", 10).await;
    scene.reaches("SELECT count(*) FROM funding", 3).await;
    scene.reaches("SELECT count(*) FROM instruments WHERE size_decimals IS NOT NULL", 10).await;
    // A window of each streamed channel ended well.
    let ended = "SELECT count(DISTINCT channel) FROM ingestion_runs WHERE status = 'succeeded' AND rows_written > 0 AND channel IN ('asset_contexts', 'mids', 'trades', 'bbo', 'candles')";
    scene.reaches(ended, 5).await;
    running.stop(&at_once()).await;
    assert_eq!(scene.count("SELECT count(*) FROM worker_heartbeats").await, 0);
    // Nor a window that goes on, or an error.
    let others = "SELECT count(*) FROM ingestion_runs WHERE status <> 'succeeded'";
    assert_eq!(scene.count(others).await, 0);
    let heaviest = scene.venues.log().heaviest_minute(Host::Hyperliquid);
    assert!(heaviest <= 1_200, "{heaviest} of weight in a minute");
}

async fn a_stream_that_breaks_is_connected_again_and_its_trades_stand_once(database: Database) {
    let scene = Scene::new(database).await;
    let running = scene.start(&[Hyperliquid]).await;
    scene.reaches("SELECT count(*) FROM trades", 20).await;
    let faults = scene.venues.faults();
    let text = |text: &str| Step::Text(text.to_owned());
    let steps = [
        text("Websocket connection established."),
        text(r#"{"channel":"unheard-of","data":{}}"#),
        text(r#"{"channel":"trades","data":[{"coin":"BTC"}]}"#),
        Step::Error("Already subscribed: {}".to_owned()),
        Step::Duplicate(true),
        Step::Swap,
        Step::AfterFrames(50),
        Step::Drop,
        Step::Refuse,
        Step::AfterFrames(20),
        Step::Close(1011),
    ];
    faults.script(STREAM, steps);
    let log = scene.venues.log();
    wait_for("three connections and the end of the script", || {
        log.connections(STREAM) >= 3 && faults.left(STREAM) == 0
    })
    .await;
    let trades = scene.count("SELECT count(*) FROM trades").await;
    scene.reaches("SELECT count(*) FROM trades", trades + 20).await;
    // The whole set is asked for again.
    let last = log.connections(STREAM);
    let asked = log.messages(STREAM, last);
    let subscriptions = asked.iter().filter(|message| message.text.contains("subscribe")).count();
    assert_eq!(subscriptions, 1 + 3 * 4, "{asked:?}");
    running.stop(&at_once()).await;
    let twice = "SELECT count(*) FROM (SELECT 1 AS one FROM trades GROUP BY symbol, tid HAVING count(*) > 1) AS twice";
    assert_eq!(scene.count(twice).await, 0);
    scene
        .reaches(
            "SELECT count(*) FROM ingestion_runs WHERE status = 'failed' AND error IS NOT NULL",
            5,
        )
        .await;
    scene
        .reaches("SELECT CAST(coalesce(sum(rows_rejected), 0) AS BIGINT) FROM ingestion_runs", 1)
        .await;
}

async fn a_frozen_stream_is_noticed_although_it_answers_pings(database: Database) {
    let scene = Scene::new(database).await;
    let running = scene.start(&[Hyperliquid]).await;
    scene.reaches("SELECT count(*) FROM trades", 10).await;
    scene.venues.faults().script(STREAM, [Step::Freeze]);
    let frozen =
        "SELECT count(*) FROM ingestion_runs WHERE error LIKE 'no data for%pings were answered'";
    scene.reaches(frozen, 5).await;
    // The span is noted, and the bars of it are filled.
    scene.reaches("SELECT count(*) FROM market_gaps WHERE channel = 'trades'", 3).await;
    let filled =
        "SELECT count(*) FROM market_gaps WHERE channel = 'candles' AND repaired_at_ms IS NOT NULL";
    scene.reaches(filled, 3).await;
    running.stop(&at_once()).await;
}

async fn a_coin_that_kills_the_socket_is_left_alone_and_the_others_stream(database: Database) {
    let scene = Scene::new(database).await;
    scene.venues.faults().poison("ETH");
    let running = scene.start(&[Hyperliquid]).await;
    scene
        .reaches("SELECT count(DISTINCT symbol) FROM trades WHERE symbol IN ('BTC', 'SOL')", 2)
        .await;
    // It lasts: a window ends well.
    let ended = "SELECT count(*) FROM ingestion_runs WHERE channel = 'trades' AND status = 'succeeded' AND rows_written > 0";
    scene.reaches(ended, 1).await;
    running.stop(&at_once()).await;
    assert_eq!(scene.count("SELECT count(*) FROM trades WHERE symbol = 'ETH'").await, 0);
}

async fn a_price_that_jumps_is_not_marked_with_and_bad_rows_cost_nobody_else(database: Database) {
    let scene = Scene::new(database).await;
    let running = scene.start(&[Hyperliquid]).await;
    scene.reaches("SELECT count(*) FROM marks WHERE symbol = 'BTC'", 1).await;
    scene.venues.faults().edit_frames(STREAM, 1, |frame| {
        let is_ours = frame["channel"] == "activeAssetCtx" && frame["data"]["coin"] == "BTC";
        if is_ours {
            frame["data"]["ctx"]["markPx"] = json!("1.0");
        }
        is_ours
    });
    scene.reaches("SELECT count(*) FROM ingestion_runs WHERE error LIKE '%held_jump%'", 1).await;
    running.stop(&at_once()).await;
    let fallen =
        "SELECT count(*) FROM asset_contexts WHERE symbol = 'BTC' AND CAST(mark AS REAL) < 2";
    assert_eq!(scene.count(fallen).await, 0);
}

async fn two_hosts_have_one_connection_and_the_second_takes_over(database: Database) {
    let scene = Scene::new(database).await;
    let one = scene.start(&[Hyperliquid]).await;
    let two = scene.start(&[Hyperliquid]).await;
    scene.reaches("SELECT count(*) FROM trades", 20).await;
    assert_eq!(scene.venues.log().open(STREAM), 1);
    one.stop(&at_once()).await;
    let trades = scene.count("SELECT count(*) FROM trades").await;
    scene.reaches("SELECT count(*) FROM trades", trades + 20).await;
    assert_eq!(scene.venues.log().open(STREAM), 1);
    two.stop(&at_once()).await;
    let twice = "SELECT count(*) FROM (SELECT 1 AS one FROM trades GROUP BY symbol, tid HAVING count(*) > 1) AS twice";
    assert_eq!(scene.count(twice).await, 0);
}

async fn a_stream_that_is_run_once_ends_at_its_first_datum(database: Database) {
    let scene = Scene::new(database).await;
    scene.succeed(Hyperliquid, "ingest_hyperliquid_stream").await;
    let rows = "SELECT (SELECT count(*) FROM marks) + (SELECT count(*) FROM mids) + (SELECT count(*) FROM trades) + (SELECT count(*) FROM quotes)";
    assert!(scene.count(rows).await > 0);
    scene.venues.faults().refuse(Host::Hyperliquid, true);
    let report = scene.once(Hyperliquid, "ingest_hyperliquid_stream").await;
    let error = report.error.expect("an error");
    assert!(error.starts_with("no datum came within 30 s"), "{error}");
}

async fn odds_are_streamed_for_the_watched_markets(database: Database) {
    let scene = Scene::new(database).await;
    let running = scene.start(&[Polymarket]).await;
    scene.reaches("SELECT count(*) FROM pm_markets WHERE watched", 5).await;
    scene.reaches("SELECT count(*) FROM pm_quotes WHERE bid IS NOT NULL", 8).await;
    scene.reaches("SELECT count(*) FROM pm_odds WHERE fidelity_s = 0", 10).await;
    scene.reaches("SELECT count(*) FROM pm_odds WHERE fidelity_s = 3600", 10).await;
    scene.reaches("SELECT count(*) FROM pm_trades", 1).await;
    // It freezes and goes on answering pings: it is connected again.
    scene.venues.faults().script(Endpoint::PolymarketStream, [Step::Freeze]);
    scene
        .reaches(
            "SELECT count(*) FROM ingestion_runs WHERE channel = 'odds' AND status = 'failed'",
            1,
        )
        .await;
    let odds = scene.count("SELECT count(*) FROM pm_odds WHERE fidelity_s = 0").await;
    scene.reaches("SELECT count(*) FROM pm_odds WHERE fidelity_s = 0", odds + 5).await;
    running.stop(&at_once()).await;
    assert_eq!(scene.count("SELECT count(*) FROM worker_heartbeats").await, 0);
}

on_every_store! {
    a_stream_fills_every_table_and_leaves_no_heartbeat,
    a_stream_that_breaks_is_connected_again_and_its_trades_stand_once,
    a_frozen_stream_is_noticed_although_it_answers_pings,
    a_coin_that_kills_the_socket_is_left_alone_and_the_others_stream,
    a_price_that_jumps_is_not_marked_with_and_bad_rows_cost_nobody_else,
    two_hosts_have_one_connection_and_the_second_takes_over,
    a_stream_that_is_run_once_ends_at_its_first_datum,
    odds_are_streamed_for_the_watched_markets,
}
