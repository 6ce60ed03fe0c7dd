//! The tables `ingestion_runs` and `ingestion_channels`: each run of a channel, and its roll-up.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement, Value};
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::ingestion::Channel;

/// A run of a channel that ended, or a window of a stream. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Its identity.
    pub id: String,
    /// `succeeded`, `failed` or `interrupted`.
    pub status: RunState,
    /// When it began.
    pub started_at_ms: i64,
    /// When it ended.
    pub completed_at_ms: i64,
    /// Rows that the source gave.
    pub rows_read: i64,
    /// Rows that changed something.
    pub rows_written: i64,
    /// Rows that were refused.
    pub rows_rejected: i64,
    /// The time of the newest good datum; `None` when there was none: it refreshes nothing.
    pub last_datum_at_ms: Option<i64>,
    /// What went wrong, whole or in part.
    pub error: Option<String>,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It is under way.
    Running,
    /// It ended well.
    Succeeded,
    /// It gave nothing.
    Failed,
    /// A stop or a crash ended it: nobody's fault.
    Interrupted,
}

impl RunState {
    /// The word for it in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What is known about one channel. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct ChannelRow {
    /// Whose data.
    pub source: String,
    /// The channel.
    pub channel: String,
    /// How its last run stands.
    pub status: String,
    /// When its last run began.
    pub last_started_at_ms: Option<i64>,
    /// When a run last succeeded.
    pub last_success_at_ms: Option<i64>,
    /// The time of its newest good datum.
    pub last_datum_at_ms: Option<i64>,
    /// Runs that failed since the last success.
    pub consecutive_failures: i64,
    /// Why the last failure failed.
    pub last_error: Option<String>,
}

/// Rows written by one source.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Written {
    /// The source.
    pub source: String,
    /// Rows.
    pub rows_written: i64,
}

/// What is kept of an error, in bytes: it comes from outside.
const LONGEST_ERROR: usize = 2_000;

/// Makes channels visible before their first run.
///
/// # Errors
/// The driver's error.
pub async fn introduce(txn: &DatabaseTransaction, channel: &Channel) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO ingestion_channels (source, channel, status) VALUES ($1, $2, 'never_run')
               ON CONFLICT (source, channel) DO NOTHING";
    let values = [channel.source.as_str().into(), channel.name.into()];
    execute(txn, "introduce a channel", sql, values).await
}

/// Records that a run began.
///
/// # Errors
/// The driver's error.
pub async fn begin(
    txn: &DatabaseTransaction,
    channel: &Channel,
    id: &str,
    started_at_ms: i64,
) -> Result<(), StoreError> {
    let names = [channel.source.as_str(), channel.name];
    // A run that a crash cut off is no longer under way.
    let close = "UPDATE ingestion_runs SET status = 'interrupted', completed_at_ms = $3
                 WHERE source = $1 AND channel = $2 AND status = 'running'";
    let values = [names[0].into(), names[1].into(), started_at_ms.into()];
    execute(txn, "close interrupted runs", close, values).await?;
    let insert = "INSERT INTO ingestion_runs
                    (source, channel, id, status, started_at_ms, consecutive_failures)
                  VALUES ($1, $2, $3, 'running', $4, coalesce((SELECT consecutive_failures
                    FROM ingestion_channels WHERE source = $1 AND channel = $2), 0))";
    let values = [names[0].into(), names[1].into(), id.into(), started_at_ms.into()];
    execute(txn, "begin a run of a channel", insert, values).await?;
    let roll_up = "INSERT INTO ingestion_channels (source, channel, status, last_started_at_ms)
                   VALUES ($1, $2, 'running', $3)
                   ON CONFLICT (source, channel) DO UPDATE
                   SET status = 'running', last_started_at_ms = excluded.last_started_at_ms";
    let values = [names[0].into(), names[1].into(), started_at_ms.into()];
    execute(txn, "roll a channel up", roll_up, values).await
}

/// Records how a run ended, begun before or not, and rolls its channel up. A failure adds to the
/// failures in a row, a success ends them, an interruption does neither.
///
/// # Errors
/// The driver's error.
pub async fn end(
    txn: &DatabaseTransaction,
    channel: &Channel,
    run: &EndedRun,
) -> Result<(), StoreError> {
    let error = run.error.as_deref().map(|text| &text[..text.floor_char_boundary(LONGEST_ERROR)]);
    let (source, name, status) = (channel.source.as_str(), channel.name, run.status.as_str());
    let roll_up = "
        INSERT INTO ingestion_channels (source, channel, status, last_started_at_ms,
            last_success_at_ms, last_datum_at_ms, consecutive_failures, last_error)
        VALUES ($1, $2, $3, $4, CASE WHEN $3 = 'succeeded' THEN $5 END, $6,
            CASE WHEN $3 = 'failed' THEN 1 ELSE 0 END, $7)
        ON CONFLICT (source, channel) DO UPDATE SET
            status = excluded.status,
            last_started_at_ms = excluded.last_started_at_ms,
            last_success_at_ms =
                coalesce(excluded.last_success_at_ms, ingestion_channels.last_success_at_ms),
            last_datum_at_ms = CASE
                WHEN excluded.last_datum_at_ms IS NULL THEN ingestion_channels.last_datum_at_ms
                WHEN ingestion_channels.last_datum_at_ms > excluded.last_datum_at_ms
                    THEN ingestion_channels.last_datum_at_ms
                ELSE excluded.last_datum_at_ms END,
            consecutive_failures = CASE
                WHEN excluded.status = 'failed' THEN ingestion_channels.consecutive_failures + 1
                WHEN excluded.status = 'succeeded' THEN 0
                ELSE ingestion_channels.consecutive_failures END,
            last_error = coalesce(excluded.last_error, ingestion_channels.last_error)";
    let values = [
        source.into(),
        name.into(),
        status.into(),
        run.started_at_ms.into(),
        run.completed_at_ms.into(),
        run.last_datum_at_ms.into(),
        error.into(),
    ];
    execute(txn, "roll a channel up", roll_up, values).await?;
    let insert = "
        INSERT INTO ingestion_runs (source, channel, id, status, started_at_ms, completed_at_ms,
            rows_read, rows_written, rows_rejected, last_datum_at_ms, error, consecutive_failures)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce((SELECT consecutive_failures
            FROM ingestion_channels WHERE source = $1 AND channel = $2), 0))
        ON CONFLICT (id) DO UPDATE SET
            status = excluded.status,
            completed_at_ms = excluded.completed_at_ms,
            rows_read = excluded.rows_read,
            rows_written = excluded.rows_written,
            rows_rejected = excluded.rows_rejected,
            last_datum_at_ms = excluded.last_datum_at_ms,
            error = excluded.error,
            consecutive_failures = excluded.consecutive_failures";
    let values = [
        source.into(),
        name.into(),
        run.id.as_str().into(),
        status.into(),
        run.started_at_ms.into(),
        run.completed_at_ms.into(),
        run.rows_read.into(),
        run.rows_written.into(),
        run.rows_rejected.into(),
        run.last_datum_at_ms.into(),
        error.into(),
    ];
    execute(txn, "end a run of a channel", insert, values).await
}

/// Notes how new the newest datum of channels is, between the ends of their runs. A time older than
/// the noted one changes nothing.
///
/// # Errors
/// The driver's error.
pub async fn refresh(
    txn: &DatabaseTransaction,
    channels: &[(&'static Channel, i64)],
) -> Result<(), StoreError> {
    let sql = "INSERT INTO ingestion_channels (source, channel, status, last_datum_at_ms)
        SELECT source, channel, 'running', last_datum_at_ms FROM {rows} WHERE TRUE
        ON CONFLICT (source, channel) DO UPDATE SET last_datum_at_ms = excluded.last_datum_at_ms
        WHERE ingestion_channels.last_datum_at_ms IS NULL
           OR excluded.last_datum_at_ms > ingestion_channels.last_datum_at_ms";
    let columns =
        [("source", Column::Text), ("channel", Column::Text), ("last_datum_at_ms", Column::Int)];
    let row = |(channel, datum_ms): &(&'static Channel, i64)| {
        json!([channel.source.as_str(), channel.name, datum_ms])
    };
    let rows: Vec<_> = channels.iter().map(row).collect();
    put_rows(txn, "refresh channels", sql, &columns, &rows).await.map(|_| ())
}

/// Finds the time of a channel's newest good datum, epoch milliseconds.
///
/// # Errors
/// The driver's error.
pub async fn find_last_datum(
    database: &impl ConnectionTrait,
    channel: &Channel,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT last_datum_at_ms AS at_ms FROM ingestion_channels
               WHERE source = $1 AND channel = $2";
    find_time(database, "find the last datum of a channel", sql, channel).await
}

/// Notes that a witness has seen what a stream's channel did not bring, for whoever has the stream.
///
/// # Errors
/// The driver's error.
pub async fn distrust(
    txn: &DatabaseTransaction,
    channel: &Channel,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO ingestion_channels (source, channel, status, distrusted_at_ms)
               VALUES ($1, $2, 'never_run', $3)
               ON CONFLICT (source, channel) DO UPDATE
               SET distrusted_at_ms = excluded.distrusted_at_ms";
    let values = [channel.source.as_str().into(), channel.name.into(), now_ms.into()];
    execute(txn, "distrust a stream", sql, values).await
}

/// Finds when a stream's channel was last distrusted, epoch milliseconds by the clock of who did.
///
/// # Errors
/// The driver's error.
pub async fn find_distrust(
    database: &impl ConnectionTrait,
    channel: &Channel,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT distrusted_at_ms AS at_ms FROM ingestion_channels
               WHERE source = $1 AND channel = $2";
    find_time(database, "find whether a stream is distrusted", sql, channel).await
}

/// Lists what is known about the channels, by name.
///
/// # Errors
/// The driver's error.
pub async fn list_channels(database: &impl ConnectionTrait) -> Result<Vec<ChannelRow>, StoreError> {
    let sql = "SELECT source, channel, status, last_started_at_ms, last_success_at_ms,
                      last_datum_at_ms, consecutive_failures, last_error
               FROM ingestion_channels ORDER BY source, channel";
    ChannelRow::find_by_statement(Statement::from_string(database.get_database_backend(), sql))
        .all(database)
        .await
        .map_err(|source| StoreError::database("list the channels", source))
}

/// Sums the rows that each source wrote since a time.
///
/// # Errors
/// The driver's error.
pub async fn sum_written(
    database: &impl ConnectionTrait,
    since_ms: i64,
) -> Result<Vec<Written>, StoreError> {
    let sql = "SELECT source, CAST(sum(rows_written) AS BIGINT) AS rows_written
               FROM ingestion_runs WHERE started_at_ms >= $1 GROUP BY source ORDER BY source";
    let backend = database.get_database_backend();
    Written::find_by_statement(Statement::from_sql_and_values(backend, sql, [since_ms.into()]))
        .all(database)
        .await
        .map_err(|source| StoreError::database("sum what was written", source))
}

/// Deletes at most `at_most` runs that began before a time. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM ingestion_runs WHERE id IN (SELECT id FROM ingestion_runs
               WHERE started_at_ms < $1 AND status <> 'running'
               ORDER BY started_at_ms LIMIT $2)";
    let values = [before_ms.into(), i64::from(at_most).into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    let done = done.map_err(|source| StoreError::database("prune runs of channels", source))?;
    Ok(done.rows_affected())
}

async fn find_time(
    database: &impl ConnectionTrait,
    operation: &'static str,
    sql: &str,
    channel: &Channel,
) -> Result<Option<i64>, StoreError> {
    let values = [channel.source.as_str().into(), channel.name.into()];
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    let failed = |source| StoreError::database(operation, source);
    let row = database.query_one_raw(statement).await.map_err(failed)?;
    row.map_or(Ok(None), |row| row.try_get("", "at_ms")).map_err(failed)
}

async fn execute(
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<(), StoreError> {
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    txn.execute_raw(statement).await.map_err(|source| StoreError::database(operation, source))?;
    Ok(())
}
