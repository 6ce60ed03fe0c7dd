use proptest::prelude::*;
use scheduler_core::{Store, StoreError};
use sea_orm::ConnectionTrait;
use tempfile::TempDir;

use super::{Bounds, Gap, Interval, PAGE, ROWS, Upserted, find_all, find_bounds, find_gaps, load};
use crate::market::Candle;
use crate::store::candle_revisions;

const HOUR: i64 = 3_600_000;

/// A migrated database that is gone with the folder.
async fn open() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("arena.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    migration::up(store.reader()).await.unwrap();
    (folder, store)
}

fn flat(hour: i64, price: f64) -> Candle {
    Candle {
        open_time_ms: hour * HOUR,
        open: price,
        high: price,
        low: price,
        close: price,
        volume: 1.0,
    }
}

async fn upsert(store: &Store, candles: Vec<Candle>) -> Upserted {
    let written: Result<_, StoreError> = store
        .write("store candles", |txn| {
            Box::pin(async move { super::upsert(txn, "BTC", Interval::H1, &candles).await })
        })
        .await;
    written.unwrap()
}

async fn load_all(store: &Store) -> Vec<Candle> {
    load(store.reader(), "BTC", Interval::H1, None, None).await.unwrap()
}

#[tokio::test]
async fn a_batch_of_any_size_is_counted_as_new_once_and_as_nothing_again() {
    for size in [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 7] {
        let (_folder, store) = open().await;
        let candles: Vec<_> = (0..size as i64).map(|hour| flat(hour, 1.0)).collect();
        let inserted = Upserted { inserted: size as u64, changed: 0 };
        assert_eq!(upsert(&store, candles.clone()).await, inserted);
        assert_eq!(upsert(&store, candles.clone()).await, Upserted::default());
        assert_eq!(load_all(&store).await, candles);
    }
}

async fn revise(store: &Store, symbol: &'static str, candles: Vec<Candle>) {
    let written: Result<_, StoreError> = store
        .write("revise candles", |txn| {
            Box::pin(async move {
                candle_revisions::revise(txn, symbol, Interval::H1, &candles, 7).await
            })
        })
        .await;
    written.unwrap();
}

async fn prune_revisions(store: &Store) -> u64 {
    let pruned: Result<_, StoreError> = store
        .write("prune revisions", |txn| {
            Box::pin(async move { candle_revisions::prune(txn, i64::MAX, 1_000).await })
        })
        .await;
    pruned.unwrap()
}

#[tokio::test]
async fn a_history_is_loaded_as_it_was_first_seen() {
    let (_folder, store) = open().await;
    let count = 2 * PAGE as i64 + 5;
    let seen: Vec<_> = (0..count).map(|hour| flat(hour, 1.0)).collect();
    upsert(&store, seen.clone()).await;
    let page = PAGE as i64;
    let corrected: Vec<i64> = vec![0, 3, page - 1, page, 2 * page, count - 1];
    let values = |price: f64| corrected.iter().map(|hour| flat(*hour, price)).collect::<Vec<_>>();
    revise(&store, "BTC", values(2.0)).await;
    revise(&store, "BTC", values(3.0)).await;
    // Another coin's corrections are its own.
    revise(&store, "ETH", vec![flat(1, 5.0)]).await;
    revise(&store, "ETH", vec![flat(1, 6.0)]).await;
    assert_eq!(load_all(&store).await, seen);
    let part = load(store.reader(), "BTC", Interval::H1, Some(3 * HOUR), Some(page * HOUR)).await;
    assert_eq!(part.unwrap(), seen[3..PAGE]);
    // As they stand now.
    let times: Vec<i64> = corrected.iter().map(|hour| hour * HOUR).collect();
    let stand = find_all(store.reader(), "BTC", Interval::H1, &times).await.unwrap();
    assert_eq!(stand, values(3.0));
    // However old, what was first seen stays; what came between goes.
    assert_eq!(prune_revisions(&store).await, corrected.len() as u64);
    assert_eq!(prune_revisions(&store).await, 0);
    assert_eq!(load_all(&store).await, seen);
}

#[tokio::test]
async fn a_bar_that_was_lost_and_came_back_keeps_what_was_first_seen() {
    let (_folder, store) = open().await;
    for price in [1.0, 2.0] {
        revise(&store, "BTC", vec![flat(0, price)]).await;
    }
    store.reader().execute_unprepared("DELETE FROM candles").await.unwrap();
    for price in [3.0, 4.0] {
        revise(&store, "BTC", vec![flat(0, price)]).await;
    }
    assert_eq!(load_all(&store).await, [flat(0, 1.0)]);
}

#[tokio::test]
async fn new_known_and_corrected_bars_of_one_batch_are_told_apart() {
    let (_folder, store) = open().await;
    upsert(&store, vec![flat(0, 1.0), flat(1, 1.0), flat(2, 1.0)]).await;
    let corrected = Candle { volume: 2.0, ..flat(1, 1.0) };
    let batch = vec![flat(0, 1.0), corrected, flat(2, 3.0), flat(3, 1.0), flat(4, 1.0)];

    assert_eq!(upsert(&store, batch.clone()).await, Upserted { inserted: 2, changed: 2 });

    assert_eq!(load_all(&store).await, batch);
}

#[tokio::test]
async fn symbols_and_intervals_are_apart() {
    let (_folder, store) = open().await;
    upsert(&store, vec![flat(0, 1.0)]).await;
    let database = store.reader();
    assert_eq!(load(database, "ETH", Interval::H1, None, None).await.unwrap(), []);
    assert_eq!(load(database, "BTC", Interval::D1, None, None).await.unwrap(), []);
    assert_eq!(find_bounds(database, "ETH", Interval::H1).await.unwrap(), None);
    assert_eq!(find_all(database, "BTC", Interval::D1, &[0]).await.unwrap(), []);
}

#[tokio::test]
async fn a_range_includes_its_start_and_not_its_end_over_any_number_of_pages() {
    let (_folder, store) = open().await;
    let hours = 2 * PAGE as i64 + 10;
    let all: Vec<_> = (0..hours).map(|hour| flat(hour, 1.0)).collect();
    upsert(&store, all.clone()).await;
    for (from, to) in
        [(0, hours), (5, 6), (5, 5), (6, 5), (1, PAGE as i64 + 1), (1, PAGE as i64 + 2), (-5, 3)]
    {
        let (from_ms, to_ms) = (Some(from * HOUR), Some(to * HOUR));
        let found = load(store.reader(), "BTC", Interval::H1, from_ms, to_ms).await.unwrap();
        let expected: Vec<_> = (from.max(0)..to).map(|hour| flat(hour, 1.0)).collect();
        assert_eq!(found, expected, "{from} to {to}");
    }
    let bounds = find_bounds(store.reader(), "BTC", Interval::H1).await.unwrap();
    assert_eq!(bounds, Some(Bounds { first_ms: 0, last_ms: (hours - 1) * HOUR }));
}

#[tokio::test]
async fn gaps_reach_to_the_stored_neighbours_of_the_span_and_no_further() {
    let (_folder, store) = open().await;
    let stored = [0, 5, 10, 11, 14, 15, 20, 30];
    upsert(&store, stored.iter().map(|&hour| flat(hour, 1.0)).collect()).await;
    let check = async |first: i64, last: i64, limit, expected: &[(i64, i64)], count| {
        let span = Bounds { first_ms: first * HOUR, last_ms: last * HOUR };
        let database = store.reader();
        let found = find_gaps(database, "BTC", Interval::H1, span, limit).await.unwrap();
        let gap = |&(from, to): &(i64, i64)| Gap {
            from_ms: from * HOUR,
            to_ms: to * HOUR,
            missing: to - from,
        };
        assert_eq!(found.first, expected.iter().map(gap).collect::<Vec<_>>());
        assert_eq!(found.count, count);
    };
    check(10, 15, 9, &[(6, 10), (12, 14), (16, 20)], 3).await;
    check(11, 14, 9, &[(12, 14)], 1).await;
    check(0, 30, 2, &[(1, 5), (6, 10)], 5).await;
    check(10, 10, 9, &[(6, 10)], 1).await;
    check(40, 50, 9, &[], 0).await;
}

#[tokio::test]
async fn hard_doubles_come_back_bit_for_bit() {
    let (_folder, store) = open().await;
    let hard = [
        0.1 + 0.2,
        1.0 / 3.0,
        5e-324,
        f64::MIN_POSITIVE,
        f64::MAX,
        9_007_199_254_740_993.0,
        9.007_199_254_740_991e15,
        1e22,
        1e23,
        // The largest subnormal, 2.2250738585072011e-308: readers of text have looped on it.
        f64::from_bits(0x000F_FFFF_FFFF_FFFF),
        0.000_000_01,
        8051.0,
        9_223_372_036_854_775_808.0,
    ];
    let candles: Vec<_> = (0..).zip(hard).map(|(hour, price)| flat(hour, price)).collect();
    upsert(&store, candles).await;
    let bits: Vec<_> = load_all(&store).await.iter().map(|candle| candle.close.to_bits()).collect();
    assert_eq!(bits, hard.map(f64::to_bits));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn any_finite_doubles_come_back_bit_for_bit(
        values in prop::collection::vec(prop::num::f64::POSITIVE | prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL, 1..1500),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, store) = open().await;
            let candles: Vec<_> = (0..).zip(&values).map(|(hour, &value)| flat(hour, value)).collect();
            upsert(&store, candles).await;
            let found = load_all(&store).await;
            prop_assert_eq!(found.len(), values.len());
            for (candle, value) in found.iter().zip(&values) {
                prop_assert_eq!(candle.low.to_bits(), value.to_bits());
            }
            Ok(())
        })?;
    }
}
