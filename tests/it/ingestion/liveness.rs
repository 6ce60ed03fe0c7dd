//! Streams that stand and bring nothing, or that had no owner: how it is noticed, and by whom.

use std::time::Duration;

use domain::ingestion::Source::{Hyperliquid, Polymarket};
use host::venues::{Endpoint, Step, VenueLimits};
use scheduler_core::Clock;
use serde_json::json;

use super::scene::{Scene, run};
use crate::harness::{Database, at_once, wait_for, within};

const HYPERLIQUID: Endpoint = Endpoint::HyperliquidStream;
const POLYMARKET: Endpoint = Endpoint::PolymarketStream;
const WITNESS: &str = "ingest_polymarket_odds_witness";

async fn a_stream_whose_pongs_are_swallowed_is_connected_again(database: Database) {
    let scene = Scene::new(database).await;
    let streams = [
        (Hyperliquid, HYPERLIQUID, "trades", "SELECT count(*) FROM trades"),
        (Polymarket, POLYMARKET, "odds", "SELECT count(*) FROM pm_odds WHERE fidelity_s = 0"),
    ];
    for (source, stream, channel, data) in streams {
        let running = scene.start(&[source]).await;
        scene.reaches(data, 5).await;
        let connections = scene.venues.log().connections(stream);
        scene.venues.faults().script(stream, [Step::Mute]);
        // Data come all the while.
        let unanswered = format!(
            "SELECT count(*) FROM ingestion_runs WHERE channel = '{channel}' AND error LIKE 'no pong for % ms'"
        );
        scene.reaches(&unanswered, 1).await;
        wait_for("another connection", || scene.venues.log().connections(stream) > connections)
            .await;
        let before = scene.count(data).await;
        scene.reaches(data, before + 5).await;
        running.stop(&at_once()).await;
    }
}

async fn a_stream_learns_what_the_witness_of_another_process_saw(database: Database) {
    let scene = Scene::new(database).await;
    let running = scene.start(&[Polymarket]).await;
    scene.reaches("SELECT count(*) FROM pm_odds WHERE fidelity_s = 0", 5).await;
    // From now on only the other process looks at the books.
    assert!(running.set_paused(WITNESS, true).await.expect("paused"), "{WITNESS} is known");
    let store = scene.database.another_store().await;
    let other = scene.scheduler_on(&store, &[Polymarket]);
    let distrusted = "SELECT count(*) FROM ingestion_runs WHERE channel = 'odds' AND error = 'the witness has seen what the stream did not bring'";
    let faults = scene.venues.faults();
    let learnt = within(Duration::from_secs(90), async || {
        // Its own watchdog may have come first where this machine is slow.
        if faults.left(POLYMARKET) == 0 {
            faults.script(POLYMARKET, [Step::Freeze]);
        }
        run(&other, WITNESS).await;
        scene.count(distrusted).await > 0
    });
    assert!(learnt.await, "the stream does not learn it");
    let odds = scene.count("SELECT count(*) FROM pm_odds WHERE fidelity_s = 0").await;
    faults.clear();
    scene.reaches("SELECT count(*) FROM pm_odds WHERE fidelity_s = 0", odds + 5).await;
    running.stop(&at_once()).await;
}

async fn the_time_without_an_owner_is_a_gap(database: Database) {
    let scene = Scene::new(database).await;
    let first = scene.start(&[Hyperliquid]).await;
    scene.reaches("SELECT count(*) FROM trades", 10).await;
    let known = "SELECT count(*) FROM ingestion_channels WHERE source = 'hyperliquid' AND channel = 'trades' AND last_datum_at_ms IS NOT NULL";
    scene.reaches(known, 1).await;
    first.stop(&at_once()).await;
    assert_eq!(scene.count("SELECT count(*) FROM market_gaps").await, 0);
    let clock = &scene.database.clock;
    let stopped_ms = clock.now_ms();
    wait_for("a minute of the venue", || clock.now_ms() > stopped_ms + 60_000).await;
    let second = scene.start(&[Hyperliquid]).await;
    scene.reaches("SELECT count(*) FROM market_gaps WHERE channel = 'trades'", 3).await;
    let filled =
        "SELECT count(*) FROM market_gaps WHERE channel = 'candles' AND repaired_at_ms IS NOT NULL";
    scene.reaches(filled, 3).await;
    second.stop(&at_once()).await;
    let longer = format!("SELECT count(*) FROM market_gaps WHERE from_ms > {stopped_ms}");
    assert_eq!(scene.count(&longer).await, 0, "it begins before the stop");
}

async fn the_first_frames_may_come_before_any_acknowledgement(database: Database) {
    let scene = Scene::new(database).await;
    let now_ms = scene.database.clock.now_ms();
    let trade = json!({"channel":"trades","data":[{"coin":"BTC","side":"B","px":"5.5","sz":"1","time":now_ms,"tid":42}]});
    let greeting = Step::Text("Websocket connection established.".to_owned());
    scene.venues.faults().script(HYPERLIQUID, [greeting, Step::Text(trade.to_string())]);
    let running = scene.start(&[Hyperliquid]).await;
    scene.reaches("SELECT count(*) FROM trades WHERE tid = 42 AND price = '5.5'", 1).await;
    scene.reaches("SELECT count(DISTINCT symbol) FROM trades", 3).await;
    running.stop(&at_once()).await;
}

async fn a_venue_that_takes_no_more_subscriptions_streams_those_it_took(database: Database) {
    // The mids, all four of BTC, and two of ETH.
    let limits = VenueLimits { subscriptions: 7, ..VenueLimits::default() };
    let scene = Scene::with_limits(database, limits).await;
    let running = scene.start(&[Hyperliquid]).await;
    let lasting = "SELECT count(*) FROM ingestion_runs WHERE channel = 'trades' AND status = 'succeeded' AND rows_written > 0";
    scene.reaches(lasting, 1).await;
    running.stop(&at_once()).await;
    assert_eq!(scene.count("SELECT count(*) FROM trades WHERE symbol <> 'BTC'").await, 0);
}

on_every_store! {
    a_stream_whose_pongs_are_swallowed_is_connected_again,
    a_stream_learns_what_the_witness_of_another_process_saw,
    the_time_without_an_owner_is_a_gap,
    the_first_frames_may_come_before_any_acknowledgement,
    a_venue_that_takes_no_more_subscriptions_streams_those_it_took,
}
