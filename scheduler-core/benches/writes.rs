//! Small writes on SQLite by one and by sixteen callers at once, beside single commits of the same
//! statement on the same settings, in one run. Run with `cargo bench -p scheduler-core --bench writes`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler_core::{SqliteOptions, Store, StoreError, SystemClock};
use sea_orm::{
    ConnectionTrait, DbBackend, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TABLE: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT NOT NULL)";
const INSERT: &str = "INSERT INTO notes (note) VALUES ($1)";

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(700);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    println!("writes per second on SQLite (median of {ROUNDS} interleaved rounds)");
    println!(
        "{:>12} {:>8} {:>12} {:>12} {:>8} {:>12}",
        "synchronous", "callers", "library", "raw", "ratio", "longest"
    );
    for full_sync in [true, false] {
        for callers in [1, 16] {
            let (mut library, mut raw) = (Vec::new(), Vec::new());
            let mut longest = Duration::ZERO;
            for _ in 0..ROUNDS {
                let (rate, waited) = measure_library(full_sync, callers).await?;
                library.push(rate);
                longest = longest.max(waited);
                raw.push(measure_raw(full_sync).await?);
            }
            let (library, raw) = (median(library), median(raw));
            let mode = if full_sync { "FULL" } else { "NORMAL" };
            let ratio = library / raw;
            println!(
                "{mode:>12} {callers:>8} {library:>12.0} {raw:>12.0} {ratio:>8.2} {longest:>12.1?}"
            );
        }
    }
    Ok(())
}

async fn open(full_sync: bool) -> Result<(tempfile::TempDir, Store), Failure> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("bench.db").display());
    let options = SqliteOptions { full_sync, readers: 1, ..SqliteOptions::default() };
    let store = Store::sqlite_with(&url, options, Arc::new(SystemClock)).await?;
    store.reader().execute_unprepared(TABLE).await?;
    Ok((folder, store))
}

fn insert() -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, INSERT, ["a small write".into()])
}

async fn measure_library(full_sync: bool, callers: usize) -> Result<(f64, Duration), Failure> {
    let (_folder, store) = open(full_sync).await?;
    let began = Instant::now();
    let callers: Vec<_> = (0..callers).map(|_| tokio::spawn(write(store.clone()))).collect();
    let (mut writes, mut longest) = (0, Duration::ZERO);
    for caller in callers {
        let (written, waited) = caller.await??;
        writes += written;
        longest = longest.max(waited);
    }
    Ok((rate(writes, began), longest))
}

async fn write(store: Store) -> Result<(usize, Duration), StoreError> {
    let (began, mut writes, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while began.elapsed() < ROUND {
        let asked = Instant::now();
        let written = store.write("note", |txn| {
            Box::pin(async move {
                let inserted = txn.execute_raw(insert()).await;
                inserted.map_err(|source| StoreError::database("note", source))
            })
        });
        written.await?;
        longest = longest.max(asked.elapsed());
        writes += 1;
    }
    Ok((writes, longest))
}

async fn measure_raw(full_sync: bool) -> Result<f64, Failure> {
    let (_folder, store) = open(full_sync).await?;
    let (began, mut writes) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        let immediate = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let txn = store.reader().begin_with_options(immediate).await?;
        txn.execute_raw(insert()).await?;
        txn.commit().await?;
        writes += 1;
    }
    Ok(rate(writes, began))
}

fn rate(writes: usize, began: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 writes")]
    let writes = writes as f64;
    writes / began.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
