use std::io::{BufReader, Cursor};
use std::path::PathBuf;

use scheduler_core::Store;
use tempfile::TempDir;

use super::{BATCH, ImportError, import_candles};
use crate::market::{Candle, CsvError, Gap, ImportReport, Interval, RejectReason};
use crate::store::{candles, instruments};

const HEADER: &str = "open_time_ms,open,high,low,close,volume";
const HOUR: i64 = 3_600_000;

async fn open() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("arena.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    migration::up(store.reader()).await.unwrap();
    (folder, store)
}

/// A file whose bar at each hour has that price throughout.
fn file(bars: impl IntoIterator<Item = (i64, f64)>) -> String {
    let mut text = String::from(HEADER);
    for (hour, price) in bars {
        text.push_str(&format!("\n{},{price},{price},{price},{price},1", hour * HOUR));
    }
    text
}

async fn import(store: &Store, text: &str) -> ImportReport {
    import_candles(store, Cursor::new(text.to_owned()), "BTC", Interval::H1).await.unwrap()
}

async fn stored(store: &Store) -> Vec<(i64, f64)> {
    let found = candles::load(store.reader(), "BTC", Interval::H1, None, None).await.unwrap();
    found.iter().map(|candle| (candle.open_time_ms / HOUR, candle.close)).collect()
}

#[tokio::test]
async fn a_file_is_stored_and_a_second_time_changes_nothing() {
    let (_folder, store) = open().await;
    let hours = 2 * BATCH as i64 + 17;
    let text = file((0..hours).map(|hour| (hour, 5.0)));
    let rows = hours as u64;
    let expected = ImportReport {
        rows,
        inserted: rows,
        first_ms: Some(0),
        last_ms: Some((hours - 1) * HOUR),
        ..ImportReport::default()
    };
    assert_eq!(import(&store, &text).await, expected);
    let again = ImportReport { inserted: 0, duplicates: rows, ..expected };
    assert_eq!(import(&store, &text).await, again);
    assert_eq!(stored(&store).await.len(), hours as usize);
    let instrument = instruments::find(store.reader(), "BTC").await.unwrap().unwrap();
    assert_eq!(instrument.size_step, 1e-8);
}

#[tokio::test]
async fn a_corrected_file_replaces_what_was_stored() {
    let (_folder, store) = open().await;
    import(&store, &file([(0, 1.0), (1, 1.0)])).await;
    let report = import(&store, &file([(0, 1.0), (1, 2.0), (2, 1.0)])).await;
    assert_eq!((report.inserted, report.duplicates, report.changed), (1, 1, 1));
    assert_eq!(stored(&store).await, [(0, 1.0), (1, 2.0), (2, 1.0)]);
}

#[tokio::test]
async fn unsorted_rows_are_stored_in_order_and_counted() {
    let (_folder, store) = open().await;
    let report = import(&store, &file([(3, 3.0), (0, 0.5), (2, 2.0), (1, 1.0), (4, 4.0)])).await;
    assert_eq!((report.inserted, report.unsorted, report.gap_count), (5, 3, 0));
    assert_eq!((report.first_ms, report.last_ms), (Some(0), Some(4 * HOUR)));
    assert_eq!(stored(&store).await, [(0, 0.5), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
}

#[tokio::test]
async fn a_time_that_the_file_names_again_is_a_duplicate_or_a_conflict_in_any_batch() {
    let (_folder, store) = open().await;
    let mut bars: Vec<(i64, f64)> = (0..BATCH as i64 - 2).map(|hour| (hour, 1.0)).collect();
    bars.extend([(1, 1.0), (2, 7.0), (BATCH as i64, 1.0), (3, 1.0), (4, 8.0), (4, 9.0)]);
    let text = file(bars.iter().copied());
    for first in [true, false] {
        let report = import(&store, &text).await;
        let conflicts: Vec<_> = report
            .rejects
            .first
            .iter()
            .map(|reject| (reject.line, reject.reason.clone()))
            .collect();
        let conflict = |hour: i64| RejectReason::Conflict { open_time_ms: hour * HOUR };
        let line = BATCH as u64;
        assert_eq!(
            conflicts,
            [(line + 1, conflict(2)), (line + 4, conflict(4)), (line + 5, conflict(4))]
        );
        assert_eq!(report.changed, 0);
        let (inserted, duplicates) = (BATCH as u64 - 1, 2);
        let expected = if first { (inserted, duplicates) } else { (0, inserted + duplicates) };
        assert_eq!((report.inserted, report.duplicates), expected);
        assert_eq!(report.rows, report.inserted + report.duplicates + report.rejects.total);
    }
    assert!(stored(&store).await.iter().all(|&(_, price)| price == 1.0));
}

#[tokio::test]
async fn gaps_are_those_of_the_stored_history_around_the_file() {
    let (_folder, store) = open().await;
    let gap =
        |from: i64, to: i64| Gap { from_ms: from * HOUR, to_ms: to * HOUR, missing: to - from };
    let report = import(&store, &file([(10, 1.0), (11, 1.0), (13, 1.0), (20, 1.0)])).await;
    assert_eq!(report.gaps, [gap(12, 13), gap(14, 20)]);
    let report = import(&store, &file([(15, 1.0), (12, 1.0)])).await;
    assert_eq!(report.gaps, [gap(14, 15), gap(16, 20)]);
    let report = import(&store, &file((0..250).map(|at| (2 * at + 100, 1.0)))).await;
    assert_eq!((report.gap_count, report.gaps.len()), (250, 100));
    assert_eq!(report.gaps[0], gap(21, 100));
}

#[tokio::test]
async fn bad_lines_do_not_stop_an_import_and_the_first_hundred_are_named() {
    let (_folder, store) = open().await;
    let mut text = file([(0, 1.0)]);
    text.push_str(&"\nnot a bar".repeat(150));
    text.push_str(&format!("\n{HOUR},1,1,1,NaN,1\n{},1,1,1,1,1", 2 * HOUR));
    let report = import(&store, &text).await;
    assert_eq!((report.rows, report.inserted, report.rejects.total), (153, 2, 151));
    assert_eq!((report.rejects.first.len(), report.rejects.first[99].line), (100, 102));
    assert_eq!(report.gaps.len(), 1);
}

#[tokio::test]
async fn a_file_without_a_good_row_introduces_no_instrument() {
    let (_folder, store) = open().await;
    for text in [HEADER.to_owned(), format!("{HEADER}\n1,1,1,1,1,1\n")] {
        let report = import(&store, &text).await;
        assert_eq!((report.inserted, report.first_ms), (0, None));
    }
    assert_eq!(instruments::list(store.reader()).await.unwrap(), []);
}

#[tokio::test]
async fn a_wrong_file_or_symbol_is_an_error_and_nothing_is_stored() {
    let (_folder, store) = open().await;
    let (text, empty) = (Cursor::new("a,b\n"), Cursor::new(""));
    let wrong = import_candles(&store, text.clone(), "BTC", Interval::H1).await;
    assert!(matches!(wrong, Err(ImportError::File(CsvError::Header { .. }))), "{wrong:?}");
    let wrong = import_candles(&store, empty, "BTC", Interval::H1).await;
    assert!(matches!(wrong, Err(ImportError::File(CsvError::Empty))), "{wrong:?}");
    let wrong = import_candles(&store, text, "B T C", Interval::H1).await;
    assert!(matches!(wrong, Err(ImportError::Symbol(_))), "{wrong:?}");
    assert_eq!(instruments::list(store.reader()).await.unwrap(), []);
}

#[tokio::test]
async fn a_failing_database_ends_the_import_with_its_error() {
    let (_folder, store) = open().await;
    let text = file((0..4 * BATCH as i64).map(|hour| (hour, 1.0)));
    store.close().await.unwrap();
    let failed = import_candles(&store, Cursor::new(text), "BTC", Interval::H1).await;
    assert!(matches!(failed, Err(ImportError::Store(_))), "{failed:?}");
}

#[tokio::test]
async fn prices_are_stored_as_they_were_written() {
    let (_folder, store) = open().await;
    let text = format!("{HEADER}\n1498906800000,2505.56,2513.38,2495.12,2509.17,114.6\n");
    import(&store, &text).await;
    let found = candles::load(store.reader(), "BTC", Interval::H1, None, None).await.unwrap();
    let expected = Candle {
        open_time_ms: 1_498_906_800_000,
        open: 2505.56,
        high: 2513.38,
        low: 2495.12,
        close: 2509.17,
        volume: 114.6,
    };
    assert_eq!(found, [expected]);
}

/// Row counts and gaps as counted in the files with a few lines of another language. Their
/// description speaks of one missing day per daily file; it is one gap, of twelve days.
#[tokio::test]
async fn the_shared_histories_import_with_the_gaps_that_they_have() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/candles");
    if !folder.exists() {
        // The histories are not part of the project; the tests above have the same shapes inline.
        return;
    }
    let late_march_2019 = Gap { from_ms: 1_553_040_000_000, to_ms: 1_554_076_800_000, missing: 12 };
    let (_folder, store) = open().await;
    for (name, symbol, interval, rows, gaps) in [
        ("BTC-USD-1h.csv", "BTC", Interval::H1, 20_111, vec![]),
        ("BTC-USD-1d.csv", "BTC", Interval::D1, 1_865, vec![late_march_2019]),
        ("ETH-USD-1d.csv", "ETH", Interval::D1, 788, vec![late_march_2019]),
        ("LTC-USD-1d.csv", "LTC", Interval::D1, 925, vec![late_march_2019]),
    ] {
        let input = BufReader::new(std::fs::File::open(folder.join(name)).unwrap());
        let report = import_candles(&store, input, symbol, interval).await.unwrap();
        assert_eq!((report.rows, report.inserted, report.unsorted), (rows, rows, 0), "{name}");
        assert_eq!((report.gap_count, &report.gaps), (gaps.len() as u64, &gaps), "{name}");
    }
}
