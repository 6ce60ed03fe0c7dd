//! How fast candles come in, beside the floor of the same machine in the same run.
//!
//! `cargo bench -p domain --bench import [-- ROWS]`
//!
//! The floor writes rows that are in memory already: plain inserts of 40 rows (more are slower,
//! see `store/candles.rs`), 5,000 rows to a transaction, `synchronous=FULL`. The import reads
//! text, checks it, finds out what is new, and reports gaps. Each round has new files; the medians
//! are compared.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]

use std::fmt::Write;
use std::io::Cursor;
use std::time::Instant;

use domain::market::{Interval, import_candles};
use domain::store::candles;
use scheduler_core::{Store, StoreError};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use tempfile::TempDir;

// A short chunk would leave parameters of the constant text unbound.
const _: () = assert!(BATCH.is_multiple_of(CHUNK));
const ROUNDS: usize = 5;
const BATCH: usize = 5_000;
const CHUNK: usize = 40;

#[tokio::main]
async fn main() {
    // cargo passes `--bench` itself.
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let rows: usize = asked.unwrap_or(300_000) / BATCH * BATCH;
    let text = history(rows);
    println!("{rows} rows, {} MB of text, {ROUNDS} rounds", text.len() / 1_000_000);
    let (mut imports, mut floors, mut agains, mut loads) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (_folder, store) = open().await;
        imports.push(import(&store, &text, rows, 0).await);
        agains.push(import(&store, &text, 0, rows).await);
        loads.push(load(&store, rows).await);
        let (_folder, store) = open().await;
        floors.push(insert_plainly(&store, rows).await);
    }
    let [import, again, load, floor] = [imports, agains, loads, floors].map(median);
    println!("import           {import:>10.0} rows/s");
    println!("raw inserts      {floor:>10.0} rows/s (the floor)");
    println!("import / floor   {:>10.2}", import / floor);
    println!("import again     {again:>10.0} rows/s (nothing new)");
    println!("load             {load:>10.0} rows/s");
}

/// A migrated database of its own.
async fn open() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("arena.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    migration::up(store.reader()).await.unwrap();
    (folder, store)
}

/// The bar of a minute: time, open, high, low, close, volume.
fn bar(minute: usize) -> (i64, [f64; 5]) {
    let wave = (minute as f64 / 1000.0).sin().mul_add(500.0, 8000.0);
    let cents = |value: f64| (value * 100.0).round() / 100.0;
    let volume = cents((minute % 977) as f64 / 7.0);
    let time = i64::try_from(minute).unwrap() * 60_000;
    (time, [cents(wave), cents(wave + 3.21), cents(wave - 2.34), cents(wave + 1.1), volume])
}

fn history(rows: usize) -> String {
    let mut text = String::from("open_time_ms,open,high,low,close,volume\n");
    for minute in 0..rows {
        let (time, [open, high, low, close, volume]) = bar(minute);
        writeln!(text, "{time},{open},{high},{low},{close},{volume}").unwrap();
    }
    text
}

async fn import(store: &Store, text: &str, inserted: usize, duplicates: usize) -> f64 {
    let input = Cursor::new(text.to_owned());
    let began = Instant::now();
    let report = import_candles(store, input, "BTC", Interval::M1).await.unwrap();
    let speed = report.rows as f64 / began.elapsed().as_secs_f64();
    assert_eq!((report.inserted, report.duplicates), (inserted as u64, duplicates as u64));
    assert_eq!((report.rejects.total, report.gap_count), (0, 0));
    speed
}

async fn load(store: &Store, rows: usize) -> f64 {
    let began = Instant::now();
    let found = candles::load(store.reader(), "BTC", Interval::M1, None, None).await.unwrap();
    let speed = rows as f64 / began.elapsed().as_secs_f64();
    assert_eq!(found.len(), rows);
    speed
}

async fn insert_plainly(store: &Store, rows: usize) -> f64 {
    let mut sql = String::from(
        "INSERT INTO candles (symbol, interval, open_time_ms, open, high, low, close, volume) VALUES ",
    );
    for row in 0..CHUNK {
        let comma = if row == 0 { "" } else { ", " };
        let [a, b, c, d, e, f] = std::array::from_fn(|at| 3 + 6 * row + at);
        write!(sql, "{comma}($1, $2, ${a}, ${b}, ${c}, ${d}, ${e}, ${f})").unwrap();
    }
    let bars: Vec<_> = (0..rows).map(bar).collect();
    let began = Instant::now();
    for batch in bars.chunks(BATCH) {
        let (batch, sql) = (batch.to_vec(), sql.clone());
        let written: Result<(), StoreError> = store
            .write("insert candles plainly", move |txn| {
                Box::pin(async move {
                    for chunk in batch.chunks(CHUNK) {
                        let mut values: Vec<Value> = Vec::with_capacity(2 + 6 * CHUNK);
                        values.extend(["BTC".into(), "1m".into()]);
                        for &(time, numbers) in chunk {
                            values.push(time.into());
                            values.extend(numbers.map(Value::from));
                        }
                        let backend = DbBackend::Sqlite;
                        let insert = Statement::from_sql_and_values(backend, &sql, values);
                        txn.execute_raw(insert).await.unwrap();
                    }
                    Ok(())
                })
            })
            .await;
        written.unwrap();
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

fn median(mut speeds: Vec<f64>) -> f64 {
    speeds.sort_by(f64::total_cmp);
    speeds[speeds.len() / 2]
}
