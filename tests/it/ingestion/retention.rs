//! What piles up goes: by source, at its age, in bounded steps.

use domain::ingestion::Source::{self, Defillama, Hyperliquid, Polymarket};
use domain::market::Statistic;
use domain::store::features;
use scheduler_core::StoreError;

use super::scene::Scene;
use crate::harness::{Database, NOON};

const DAY: i64 = 86_400_000;
const MIDNIGHT: i64 = NOON - DAY / 2;

/// Sweeps what one source piles up.
async fn sweep(scene: &Scene, source: Source) {
    scene.succeed(source, &format!("ingest_{source}_maintenance")).await;
}

/// Runs and gaps of long ago and of yesterday, as any source may have left them.
async fn leave_runs_and_gaps(scene: &Scene) {
    for age in [20, 1] {
        let at = NOON - age * DAY;
        let run = format!(
            "INSERT INTO ingestion_runs (id, source, channel, status, started_at_ms) VALUES ('of day {age}', 'hyperliquid', 'mids', 'succeeded', {at})"
        );
        let gap = format!(
            "INSERT INTO market_gaps (source, channel, symbol, from_ms, to_ms, found_at_ms) VALUES ('polymarket', 'odds', '1', {at}, {at}, {at})"
        );
        scene.database.execute(&run).await;
        scene.database.execute(&gap).await;
    }
}

async fn whoever_runs_sweeps_runs_and_gaps_of_all(database: Database) {
    let scene = Scene::new(database).await;
    for source in Source::ALL {
        leave_runs_and_gaps(&scene).await;
        sweep(&scene, source).await;
        let left = "SELECT id FROM ingestion_runs WHERE id LIKE 'of day%'";
        assert_eq!(scene.database.lines(left).await, ["of day 1"], "{source}");
        assert_eq!(scene.count("SELECT count(*) FROM market_gaps").await, 1, "{source}");
        scene.database.execute("DELETE FROM ingestion_runs WHERE id LIKE 'of day%'").await;
        scene.database.execute("DELETE FROM market_gaps").await;
    }
}

async fn hyperliquid_sweeps_trades_contexts_and_what_was_corrected(database: Database) {
    let scene = Scene::new(database).await;
    scene.succeed(Hyperliquid, "ingest_hyperliquid_meta").await;
    for (number, age) in [(1, 100), (2, 20), (3, 1)] {
        let at = NOON - age * DAY;
        for sql in [
            format!(
                "INSERT INTO trades (symbol, time_ms, tid, side, price, size) VALUES ('BTC', {at}, {number}, 'buy', '1', '1')"
            ),
            format!("INSERT INTO asset_contexts (symbol, received_at_ms) VALUES ('BTC', {at})"),
            format!(
                "INSERT INTO candle_revisions (symbol, interval, open_time_ms, revision, open, high, low, close, volume, revised_at_ms) VALUES ('BTC', '1m', 0, {number}, 1, 1, 1, 1, 1, {at})"
            ),
            format!(
                "INSERT INTO instrument_versions (source, content_hash, document, first_seen_at_ms) VALUES ('another', 'version {number}', '', {at})"
            ),
            format!(
                "INSERT INTO candles (symbol, interval, open_time_ms, open, high, low, close, volume) VALUES ('BTC', '1d', {at}, 1, 1, 1, 1, 1)"
            ),
            format!(
                "INSERT INTO funding (symbol, hour_ms, rate, received_at_ms) VALUES ('BTC', {at}, '0', {at})"
            ),
        ] {
            scene.database.execute(&sql).await;
        }
    }
    let first_seen = "INSERT INTO candle_revisions (symbol, interval, open_time_ms, revision, open, high, low, close, volume, revised_at_ms) VALUES ('BTC', '1m', 0, 0, 1, 1, 1, 1, 1, 0)";
    scene.database.execute(first_seen).await;
    sweep(&scene, Hyperliquid).await;
    let left = async |sql: &str| scene.database.lines(sql).await;
    assert_eq!(left("SELECT tid FROM trades ORDER BY tid").await, ["3"]);
    assert_eq!(scene.count("SELECT count(*) FROM asset_contexts").await, 2);
    let revisions = left("SELECT revision FROM candle_revisions ORDER BY revision").await;
    assert_eq!(revisions, ["0", "2", "3"], "what was first seen stays");
    let versions = "SELECT content_hash FROM instrument_versions WHERE source = 'another' ORDER BY content_hash";
    assert_eq!(left(versions).await, ["version 2", "version 3"]);
    assert_eq!(scene.count("SELECT count(*) FROM candles").await, 3, "bars stay");
    assert_eq!(scene.count("SELECT count(*) FROM funding").await, 3, "funding stays");
    // The last version stays, however old.
    scene.database.execute("DELETE FROM instrument_versions WHERE source = 'another'").await;
    scene.database.execute("INSERT INTO instrument_versions (source, content_hash, document, first_seen_at_ms) VALUES ('another', 'the only one', '', 1)").await;
    sweep(&scene, Hyperliquid).await;
    assert_eq!(left(versions).await, ["the only one"]);
}

async fn keep(database: &Database, statistics: Vec<Statistic>) {
    let kept: Result<u64, StoreError> = database
        .store
        .write("keep features", move |txn| {
            Box::pin(async move { features::upsert(txn, &statistics, NOON).await })
        })
        .await;
    kept.expect("kept");
}

fn statistic(subject: &str, at_ms: i64) -> Statistic {
    Statistic { feature: "pool_apy", subject: subject.to_owned(), at_ms, value: 1.0 }
}

async fn defillama_thins_statistics_to_midnights_and_ends_with_those(database: Database) {
    let scene = Scene::new(database).await;
    let hour = DAY / 24;
    let ages = [("old hour", 91, hour), ("old midnight", 91, 0), ("hour", 89, hour)];
    let ages = ages.into_iter().chain([("midnight of years ago", 731, 0), ("midnight", 729, 0)]);
    let rows = ages.map(|(subject, days, ms)| statistic(subject, MIDNIGHT - days * DAY + ms));
    keep(&scene.database, rows.collect()).await;
    sweep(&scene, Defillama).await;
    let left = "SELECT subject FROM features ORDER BY subject";
    assert_eq!(scene.database.lines(left).await, ["hour", "midnight", "old midnight"]);
}

async fn the_past_of_a_chain_that_the_sweep_would_take_is_not_taken_in(database: Database) {
    let scene = Scene::new(database).await;
    let revise = |document: &mut serde_json::Value| {
        let Some(days) = document.as_array_mut() else { return };
        let of_years_ago = (MIDNIGHT - 800 * DAY) / 1_000;
        days.insert(0, serde_json::json!({"date": of_years_ago, "tvl": 1.0}));
    };
    let endpoint = host::venues::Endpoint::HistoricalChainTvl;
    scene.venues.faults().push(endpoint, host::venues::Fault::edited(revise));
    scene.succeed(Defillama, "ingest_defillama_chain_history").await;
    assert!(scene.count("SELECT count(*) FROM features").await > 100);
    let oldest = scene.count("SELECT min(at_ms) FROM features").await;
    assert!(oldest > NOON - 731 * DAY, "{oldest}");
}

async fn polymarket_sweeps_odds_trades_and_markets_that_are_gone(database: Database) {
    let scene = Scene::new(database).await;
    for (number, age, watched) in [(1, 100, false), (2, 100, true), (3, 20, false), (4, 1, false)] {
        let at = NOON - age * DAY;
        for sql in [
            format!(
                "INSERT INTO pm_markets (condition_id, question, slug, tradable, watched, first_seen_at_ms, updated_at_ms) VALUES ('{number}', '', '', FALSE, {watched}, {at}, {at})"
            ),
            format!(
                "INSERT INTO pm_tokens (token_id, condition_id, outcome) VALUES ('{number}', '{number}', 'Yes')"
            ),
            format!(
                "INSERT INTO pm_quotes (token_id, at_ms, received_at_ms) VALUES ('{number}', {at}, {at})"
            ),
            format!(
                "INSERT INTO pm_odds (token_id, at_ms, fidelity_s, odds, received_at_ms) VALUES ('{number}', {at}, 0, '0.5', {at})"
            ),
            format!(
                "INSERT INTO pm_trades (token_id, at_ms, price, size, side) VALUES ('{number}', {at}, '1', '1', 'buy')"
            ),
        ] {
            scene.database.execute(&sql).await;
        }
    }
    sweep(&scene, Polymarket).await;
    let left = async |table: &str, key: &str| {
        let sql = format!("SELECT {key} FROM {table} ORDER BY {key}");
        scene.database.lines(&sql).await.join(" ")
    };
    assert_eq!(left("pm_markets", "condition_id").await, "2 3 4");
    assert_eq!(left("pm_tokens", "token_id").await, "2 3 4");
    assert_eq!(left("pm_quotes", "token_id").await, "2 3 4");
    assert_eq!(left("pm_odds", "token_id").await, "3 4");
    assert_eq!(left("pm_trades", "token_id").await, "4");
}

async fn a_sweep_takes_as_many_steps_as_it_needs(database: Database) {
    let scene = Scene::new(database).await;
    let old = MIDNIGHT - 200 * DAY + 1;
    keep(&scene.database, (0..4_500).map(|number| statistic("a pool", old + number)).collect())
        .await;
    let report = scene.succeed(Defillama, "ingest_defillama_maintenance").await;
    assert_eq!(scene.count("SELECT count(*) FROM features").await, 0);
    let summary = report.summary.expect("a summary");
    assert_eq!(summary["rows_written"], 4_500, "{summary}");
}

on_every_store! {
    whoever_runs_sweeps_runs_and_gaps_of_all,
    hyperliquid_sweeps_trades_contexts_and_what_was_corrected,
    defillama_thins_statistics_to_midnights_and_ends_with_those,
    the_past_of_a_chain_that_the_sweep_would_take_is_not_taken_in,
    polymarket_sweeps_odds_trades_and_markets_that_are_gone,
    a_sweep_takes_as_many_steps_as_it_needs,
}
