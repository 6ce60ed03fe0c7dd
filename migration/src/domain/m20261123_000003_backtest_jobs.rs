//! Back-tests: what was asked for, beside the columns that make the table a queue.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let database = manager.get_connection();
        database.execute_unprepared(BACKTEST_JOBS).await?;
        for index in INDEXES {
            database.execute_unprepared(index).await?;
        }
        Ok(())
    }
}

// `from_ms` is inclusive, `to_ms` exclusive; NULL is the end of the stored history. The engine is
// f64 end to end, so cash and rates are doubles here; a ledger would hold exact decimals.
const BACKTEST_JOBS: &str = "
CREATE TABLE backtest_jobs (
    id                  TEXT PRIMARY KEY,
    user_id             BIGINT NOT NULL,
    clone_id            BIGINT,
    graph               TEXT NOT NULL,
    graph_hash          TEXT NOT NULL,
    symbol              TEXT NOT NULL,
    interval            TEXT NOT NULL,
    from_ms             BIGINT,
    to_ms               BIGINT,
    initial_cash        DOUBLE PRECISION NOT NULL DEFAULT 10000,
    fee_rate            DOUBLE PRECISION NOT NULL DEFAULT 0.00045,
    slippage_rate       DOUBLE PRECISION NOT NULL DEFAULT 0,
    status              TEXT NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'succeeded', 'dead', 'cancelled')),
    priority            INTEGER NOT NULL DEFAULT 0,
    run_at_ms           BIGINT NOT NULL DEFAULT 0,
    attempt_count       INTEGER NOT NULL DEFAULT 0,
    max_attempts        INTEGER NOT NULL DEFAULT 3,
    crash_count         INTEGER NOT NULL DEFAULT 0,
    leased_by           TEXT,
    lease_token         BIGINT NOT NULL DEFAULT 0,
    lease_expires_at_ms BIGINT,
    started             BOOLEAN NOT NULL DEFAULT FALSE,
    cancel_requested    BOOLEAN NOT NULL DEFAULT FALSE,
    progress_pct        DOUBLE PRECISION NOT NULL DEFAULT 0,
    checkpoint          TEXT,
    unique_key          TEXT,
    unique_until_ms     BIGINT,
    concurrency_slot    INTEGER,
    queue_slot          INTEGER,
    last_error          TEXT,
    result              TEXT,
    created_at_ms       BIGINT NOT NULL,
    started_at_ms       BIGINT,
    completed_at_ms     BIGINT
)";

// The first six are partial: a finished row costs the queue nothing.
const INDEXES: [&str; 8] = [
    "CREATE INDEX backtest_jobs_claim ON backtest_jobs (priority, run_at_ms, id)
     WHERE status = 'queued'",
    "CREATE INDEX backtest_jobs_suspect ON backtest_jobs (run_at_ms)
     WHERE status = 'queued' AND crash_count > 0",
    "CREATE INDEX backtest_jobs_expiry ON backtest_jobs (lease_expires_at_ms)
     WHERE status = 'running'",
    "CREATE UNIQUE INDEX backtest_jobs_unique_key ON backtest_jobs (unique_key)
     WHERE unique_key IS NOT NULL",
    "CREATE UNIQUE INDEX backtest_jobs_user_slot ON backtest_jobs (user_id, concurrency_slot)
     WHERE status = 'running' AND concurrency_slot IS NOT NULL",
    "CREATE UNIQUE INDEX backtest_jobs_queue_slot ON backtest_jobs (queue_slot)
     WHERE status = 'running' AND queue_slot IS NOT NULL",
    "CREATE INDEX backtest_jobs_of_user ON backtest_jobs (user_id, created_at_ms)",
    "CREATE INDEX backtest_jobs_newest ON backtest_jobs (created_at_ms)",
];
