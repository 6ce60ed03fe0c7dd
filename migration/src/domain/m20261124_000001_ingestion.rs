//! Runs of the ingestion's channels, and what is known about each channel.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let database = manager.get_connection();
        for statement in [INGESTION_RUNS, BY_CHANNEL, BY_AGE, INGESTION_CHANNELS] {
            database.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

// A run of a polled channel has the id of its job's run; a window of a stream has one of its own.
const INGESTION_RUNS: &str = "
CREATE TABLE ingestion_runs (
    id                   TEXT PRIMARY KEY,
    source               TEXT NOT NULL,
    channel              TEXT NOT NULL,
    status               TEXT NOT NULL
        CHECK (status IN ('running', 'succeeded', 'failed', 'interrupted')),
    started_at_ms        BIGINT NOT NULL,
    completed_at_ms      BIGINT,
    rows_read            BIGINT NOT NULL DEFAULT 0,
    rows_written         BIGINT NOT NULL DEFAULT 0,
    rows_rejected        BIGINT NOT NULL DEFAULT 0,
    last_datum_at_ms     BIGINT,
    error                TEXT,
    consecutive_failures BIGINT NOT NULL DEFAULT 0
)";

const BY_CHANNEL: &str =
    "CREATE INDEX ingestion_runs_by_channel ON ingestion_runs (source, channel, started_at_ms)";

const BY_AGE: &str = "CREATE INDEX ingestion_runs_by_age ON ingestion_runs (started_at_ms)";

// The roll-up of its runs: health is asked often, and there are many runs.
const INGESTION_CHANNELS: &str = "
CREATE TABLE ingestion_channels (
    source               TEXT NOT NULL,
    channel              TEXT NOT NULL,
    status               TEXT NOT NULL,
    last_started_at_ms   BIGINT,
    last_success_at_ms   BIGINT,
    last_datum_at_ms     BIGINT,
    consecutive_failures BIGINT NOT NULL DEFAULT 0,
    last_error           TEXT,
    PRIMARY KEY (source, channel)
)";
