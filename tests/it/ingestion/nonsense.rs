//! What venues say that cannot be, or says nothing: refused or passed over, counted, and never a loss
//! for the rest.

use domain::ingestion::Source::{Defillama, Hyperliquid, Polymarket};
use domain::market::{Mid, PredictionQuote, Quote};
use domain::store::{mids, prediction_quotes, quotes};
use host::venues::{Endpoint, Fault};
use rust_decimal::Decimal;
use scheduler_core::{RunStatus, StoreError};
use serde_json::{Value, json};

use super::scene::{Scene, run};
use crate::harness::{Database, NOON, at_once};

const HOUR: i64 = 3_600_000;

type Spoil = fn(&mut Value);

async fn times_of_the_future_are_refused_and_counted(database: Database) {
    let scene = Scene::new(database).await;
    scene.venues.faults().set_clock_offset_ms(HOUR);
    let running = scene.start(&[Hyperliquid, Polymarket]).await;
    for channel in
        ["hyperliquid trades", "hyperliquid bbo", "hyperliquid candles", "polymarket odds"]
    {
        let (source, name) = channel.split_once(' ').expect("two words");
        let refused = format!(
            "SELECT count(*) FROM ingestion_runs WHERE source = '{source}' AND channel = '{name}' AND status = 'succeeded' AND rows_rejected > 0 AND error LIKE '%× from_the_future (%ms from now)%'"
        );
        scene.reaches(&refused, 1).await;
    }
    // What bears no time of the venue's goes on.
    scene.reaches("SELECT count(*) FROM marks", 3).await;
    for table in ["trades", "quotes", "pm_quotes"] {
        assert_eq!(scene.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    scene.venues.faults().set_clock_offset_ms(0);
    scene.reaches("SELECT count(*) FROM trades", 10).await;
    scene.reaches("SELECT count(*) FROM quotes", 3).await;
    running.stop(&at_once()).await;
}

async fn values_that_jump_wait_for_a_second_sample(database: Database) {
    let scene = Scene::new(database).await;
    // One process: what was good before is in its memory.
    let scheduler = scene.scheduler(&[Defillama]);
    let jumps: [(&str, &str, Endpoint, Spoil); 2] = [
        ("chains", "chain_tvl_usd", Endpoint::Chains, |document| {
            for chain in document.as_array_mut().into_iter().flatten() {
                if chain["name"] == "Ethereum" {
                    chain["tvl"] = json!(0.5);
                }
            }
        }),
        ("stablecoins", "stablecoin_circulating", Endpoint::Stablecoins, |document| {
            document["peggedAssets"][0]["circulating"]["peggedUSD"] = json!(0);
        }),
    ];
    for (channel, feature, endpoint, jump) in jumps {
        let job = format!("ingest_defillama_{channel}");
        assert_eq!(run(&scheduler, &job).await.status, RunStatus::Succeeded);
        let fallen =
            format!("SELECT count(*) FROM features WHERE feature = '{feature}' AND value < 1");
        let held = format!(
            "SELECT count(*) FROM ingestion_runs WHERE channel = '{channel}' AND error LIKE '1 × held_jump%'"
        );
        scene.venues.faults().push_times(endpoint, &Fault::edited(jump), 2);
        assert_eq!(run(&scheduler, &job).await.status, RunStatus::Succeeded);
        assert_eq!((scene.count(&fallen).await, scene.count(&held).await), (0, 1), "{channel}");
        assert_eq!(run(&scheduler, &job).await.status, RunStatus::Succeeded);
        assert_eq!((scene.count(&fallen).await, scene.count(&held).await), (1, 1), "{channel}");
    }
}

async fn what_is_empty_erases_nothing_and_refreshes_nothing(database: Database) {
    let scene = Scene::new(database).await;
    scene.succeed(Hyperliquid, "ingest_hyperliquid_meta").await;
    scene.succeed(Polymarket, "ingest_polymarket_discovery").await;
    let cases = [
        (Hyperliquid, "candle_audit", Endpoint::CandleSnapshot, "[]"),
        (Hyperliquid, "funding", Endpoint::FundingHistory, "[]"),
        (Polymarket, "odds_witness", Endpoint::Books, "empty books"),
        (Polymarket, "history", Endpoint::PricesHistory, r#"{"history":[]}"#),
    ];
    for (source, channel, endpoint, body) in cases {
        let job = format!("ingest_{source}_{channel}");
        // Before there is anything, and after.
        for round in 0..2 {
            let fault = match body {
                "empty books" => Fault::edited(|document| {
                    for book in document.as_array_mut().into_iter().flatten() {
                        (book["bids"], book["asks"]) = (json!([]), json!([]));
                    }
                }),
                body => Fault::answer(200, body),
            };
            let state = async || {
                let sql = format!(
                    "SELECT last_datum_at_ms, consecutive_failures FROM ingestion_channels WHERE source = '{source}' AND channel = '{channel}'"
                );
                let rows = "SELECT (SELECT count(*) FROM candles) + (SELECT count(*) FROM funding) + (SELECT count(*) FROM pm_quotes WHERE bid IS NOT NULL) + (SELECT count(*) FROM pm_odds)";
                (scene.database.lines(&sql).await, scene.count(rows).await)
            };
            let before = state().await.1;
            let known = state().await.0;
            scene.venues.faults().always(endpoint, fault);
            scene.succeed(source, &job).await;
            scene.venues.faults().clear();
            let (after, rows) = state().await;
            assert_eq!(rows, before, "{job}");
            match round {
                0 => assert_eq!(after, ["-|0"], "{job}: nothing came"),
                _ => assert_eq!(after, known, "{job}: no news"),
            }
            scene.succeed(source, &job).await;
        }
    }
}

async fn what_is_new_or_missing_or_of_another_type_is_read_all_the_same(database: Database) {
    let scene = Scene::new(database).await;
    let drift = |document: &mut Value| {
        document[1][0]["markPx"] = json!(5.25);
        document[1][0]["openInterest"] = json!(12);
        document[1][0]["unheardOf"] = json!({"deep": [1]});
        document[0]["unheardOf"] = json!(null);
        let Some(context) = document[1][0].as_object_mut() else { return };
        context.remove("premium");
        context.remove("dayNtlVlm");
    };
    scene.venues.faults().push(Endpoint::MetaAndAssetCtxs, Fault::edited(drift));
    scene.succeed(Hyperliquid, "ingest_hyperliquid_asset_contexts_witness").await;
    assert_eq!(scene.count("SELECT count(*) FROM marks").await, 10);
    assert_eq!(
        scene
            .database
            .lines("SELECT mark, open_interest, premium FROM marks WHERE premium IS NULL")
            .await,
        ["5.25|12|-"]
    );
    assert_eq!(scene.count("SELECT max(rows_rejected) FROM ingestion_runs").await, 0);
}

async fn state_that_is_older_than_the_stored_changes_nothing(database: Database) {
    migration::up(database.store.reader()).await.expect("migrations apply");
    let keep = async |price: i64, at_ms: i64| {
        let (price, symbol) = (Decimal::from(price), "BTC".to_owned());
        let side = Some((price, Decimal::ONE));
        let (mid, token_id) =
            (Mid { symbol: symbol.clone(), mid: price, received_at_ms: at_ms }, "1".to_owned());
        let quote = Quote { symbol, bid: side, ask: side, at_ms, received_at_ms: at_ms };
        let odds = Some(price / Decimal::ONE_HUNDRED);
        let book = PredictionQuote {
            token_id,
            bid: odds,
            ask: odds,
            at_ms,
            book_hash: None,
            received_at_ms: at_ms,
        };
        let written = database.store.write("keep state", move |txn| {
            Box::pin(async move {
                mids::upsert(txn, &[mid]).await?;
                quotes::upsert(txn, &[quote]).await?;
                prediction_quotes::upsert(txn, &[book]).await?;
                Ok::<_, StoreError>(())
            })
        });
        written.await.expect("kept");
    };
    keep(5, NOON).await;
    keep(4, NOON - 1).await;
    let state = "SELECT mids.mid, quotes.bid, pm_quotes.bid FROM mids, quotes, pm_quotes";
    assert_eq!(database.lines(state).await, ["5|5|0.05"]);
    // One of the same millisecond is the later word.
    keep(6, NOON).await;
    assert_eq!(database.lines(state).await, ["6|6|0.06"]);
}

on_every_store! {
    state_that_is_older_than_the_stored_changes_nothing,
    times_of_the_future_are_refused_and_counted,
    values_that_jump_wait_for_a_second_sample,
    what_is_empty_erases_nothing_and_refreshes_nothing,
    what_is_new_or_missing_or_of_another_type_is_read_all_the_same,
}
