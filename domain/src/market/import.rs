//! Bringing a candle file into the store.

use std::io::BufRead;

use scheduler_core::{Store, StoreError};
use tokio::sync::mpsc;

use super::seen::SeenTimes;
use super::symbol::{InvalidSymbol, check_symbol};
use super::{Candle, CandleReader, CsvError, ImportReport, Interval, LISTED, Reject, RejectReason};
use crate::store::candles::{self, Bounds};
use crate::store::instruments;

/// Why an import stopped. The batches before are stored; importing the file again is safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The symbol cannot be one; nothing was read.
    #[error(transparent)]
    Symbol(#[from] InvalidSymbol),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] CsvError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that reads the file panicked, or the runtime is shutting down.
    #[error("the reading of the candle file was cut off")]
    Reader(#[source] tokio::task::JoinError),
}

/// Good rows that one write transaction takes.
const BATCH: usize = 5_000;

/// Imports a candle file (see [`CandleReader`]) in memory bounded by a few batches, whatever its
/// size; the file may be unsorted. Reading happens on a blocking thread, beside the writing.
///
/// The first good row introduces an unknown symbol. A bar that is stored already with other values
/// gets the file's (an exchange corrects its history); a bar that the file itself names twice
/// keeps the values of the earlier line, and a later line with others is a reject. So a second
/// import of the same file changes nothing.
///
/// # Errors
/// See [`ImportError`]. A bad row is no error but a reject of the report.
///
/// # Cancellation
/// Dropping the future stops the import after the batch before; importing again is safe.
pub async fn import_candles<R>(
    store: &Store,
    input: R,
    symbol: &str,
    interval: Interval,
) -> Result<ImportReport, ImportError>
where
    R: BufRead + Send + 'static,
{
    check_symbol(symbol)?;
    // One batch is being written, one waits, one is being read.
    let (sender, mut batches) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || read_batches(input, interval, &sender));

    let mut written = ImportReport::default();
    while let Some(batch) = batches.recv().await {
        write_batch(store, symbol, interval, batch, &mut written).await?;
    }
    let mut report = reading.await.map_err(ImportError::Reader)??;
    report.inserted = written.inserted;
    report.changed = written.changed;
    report.duplicates = written.duplicates;
    report.rejects.append(written.rejects);
    if let Some((first_ms, last_ms)) = report.first_ms.zip(report.last_ms) {
        let span = Bounds { first_ms, last_ms };
        let gaps = candles::find_gaps(store.reader(), symbol, interval, span, LISTED).await?;
        report.gaps = gaps.first;
        report.gap_count = gaps.count;
    }
    Ok(report)
}

/// Good rows of the file, in the order of the file.
#[derive(Default)]
struct Batch {
    /// Bars whose times the file names for the first time.
    bars: Vec<Candle>,
    /// Line and bar of times that an earlier line has named.
    repeats: Vec<(u64, Candle)>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.bars.len() + self.repeats.len() >= BATCH
    }

    fn is_empty(&self) -> bool {
        self.bars.is_empty() && self.repeats.is_empty()
    }
}

/// Reads the whole file; the report has what reading alone can tell. Ends early when nobody
/// receives any more.
fn read_batches(
    input: impl BufRead,
    interval: Interval,
    sender: &mpsc::Sender<Batch>,
) -> Result<ImportReport, CsvError> {
    let mut report = ImportReport::default();
    let mut seen = SeenTimes::new(interval);
    let mut batch = Batch::default();
    for row in CandleReader::new(input, interval)? {
        let row = row?;
        report.rows += 1;
        let candle = match row.outcome {
            Ok(candle) => candle,
            Err(reason) => {
                report.rejects.push(Reject { line: row.line, reason });
                continue;
            }
        };
        let at_ms = candle.open_time_ms;
        report.unsorted += u64::from(report.last_ms.is_some_and(|last| at_ms < last));
        report.first_ms = Some(report.first_ms.map_or(at_ms, |first| first.min(at_ms)));
        report.last_ms = Some(report.last_ms.map_or(at_ms, |last| last.max(at_ms)));
        if seen.insert(at_ms) {
            batch.bars.push(candle);
        } else {
            batch.repeats.push((row.line, candle));
        }
        if batch.is_full() && sender.blocking_send(std::mem::take(&mut batch)).is_err() {
            return Ok(report);
        }
    }
    if !batch.is_empty() {
        // Nobody receives any more: the import was dropped or has failed, and says so itself.
        let _: Result<(), _> = sender.blocking_send(batch);
    }
    Ok(report)
}

/// Stores a batch in one transaction and adds what it did to the report.
async fn write_batch(
    store: &Store,
    symbol: &str,
    interval: Interval,
    batch: Batch,
    report: &mut ImportReport,
) -> Result<(), StoreError> {
    let Batch { mut bars, repeats } = batch;
    bars.sort_unstable_by_key(|candle| candle.open_time_ms);
    let (bar_count, repeat_count) = (bars.len() as u64, repeats.len() as u64);
    let now_ms = store.clock().now_ms();
    let symbol = symbol.to_owned();
    let (upserted, conflicts) = store
        .write("import candles", move |txn| {
            Box::pin(async move {
                instruments::introduce(txn, &symbol, now_ms).await?;
                let upserted = candles::upsert(txn, &symbol, interval, &bars).await?;
                // After the upsert: an earlier line of a repeat is stored now, in whatever batch.
                let times: Vec<i64> = repeats.iter().map(|(_, bar)| bar.open_time_ms).collect();
                let stored = candles::find_all(txn, &symbol, interval, &times).await?;
                Ok::<_, StoreError>((upserted, find_conflicts(&repeats, &stored)))
            })
        })
        .await?;
    report.inserted += upserted.inserted;
    report.changed += upserted.changed;
    report.duplicates += bar_count - upserted.inserted - upserted.changed;
    report.duplicates += repeat_count - conflicts.len() as u64;
    for reject in conflicts {
        report.rejects.push(reject);
    }
    Ok(())
}

/// The repeats that differ from what is stored (ascending) under their time.
fn find_conflicts(repeats: &[(u64, Candle)], stored: &[Candle]) -> Vec<Reject> {
    let differs = |bar: &Candle| {
        let at = stored.binary_search_by_key(&bar.open_time_ms, |stored| stored.open_time_ms);
        at.is_ok_and(|at| stored[at] != *bar)
    };
    repeats
        .iter()
        .filter(|(_, bar)| differs(bar))
        .map(|&(line, bar)| Reject {
            line,
            reason: RejectReason::Conflict { open_time_ms: bar.open_time_ms },
        })
        .collect()
}

#[cfg(test)]
mod tests;
