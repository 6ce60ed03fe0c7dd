//! The library's own table of queues, and which queues are paused.

#![expect(elided_lifetimes_in_paths, reason = "as in the trait that is implemented")]

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub(super) struct Migration(pub(super) super::Namespace);

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000001_jobs"
    }
}

/// Not a list: in a check, SQLite makes a table of a list of more than two values anew for each row that it
/// writes, a fifth of what a row costs from its enqueue to its end.
const STATUS: &str = "status = 'queued' OR status = 'running' OR status = 'succeeded' OR status = 'dead' OR status = 'cancelled'";

/// Finished rows are in no index that a claim reads. `jobs_ready` is in exactly the order of the claim.
const UP: &str = "
CREATE TABLE jobs (
  id {id},
  queue TEXT NOT NULL,
  kind TEXT NOT NULL,
  payload TEXT NOT NULL,
  payload_version INTEGER NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued' CHECK ({status}),
  priority INTEGER NOT NULL,
  run_at_ms BIGINT NOT NULL,
  attempt_count INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL,
  crash_count INTEGER NOT NULL DEFAULT 0,
  lost_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT,
  lease_token BIGINT NOT NULL DEFAULT 0,
  lease_expires_at_ms BIGINT,
  started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
  progress_pct INTEGER NOT NULL DEFAULT 0,
  checkpoint TEXT,
  unique_key TEXT,
  unique_while TEXT CHECK (unique_while IN ('queued', 'unfinished')),
  unique_until_ms BIGINT,
  duplicate_count INTEGER NOT NULL DEFAULT 0,
  concurrency_key TEXT,
  concurrency_slot INTEGER,
  queue_slot INTEGER,
  last_error TEXT,
  result TEXT,
  created_at_ms BIGINT NOT NULL,
  started_at_ms BIGINT,
  completed_at_ms BIGINT
){settings};
CREATE INDEX jobs_ready ON jobs (queue, priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX jobs_suspect ON jobs (queue, run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX jobs_leases ON jobs (queue, lease_expires_at_ms) WHERE status = 'running';
CREATE UNIQUE INDEX jobs_unique ON jobs (queue, unique_key) WHERE unique_key IS NOT NULL;
CREATE UNIQUE INDEX jobs_key_slot ON jobs (queue, concurrency_key, concurrency_slot) WHERE status = 'running' AND concurrency_slot IS NOT NULL;
CREATE UNIQUE INDEX jobs_queue_slot ON jobs (queue, queue_slot) WHERE status = 'running' AND queue_slot IS NOT NULL;
CREATE INDEX jobs_old ON jobs (completed_at_ms) WHERE status IN ('succeeded', 'cancelled');
CREATE INDEX jobs_dead ON jobs (queue, id) WHERE status = 'dead';
CREATE TABLE queue_pauses (
  queue TEXT NOT NULL PRIMARY KEY,
  paused_at_ms BIGINT NOT NULL
);
";

/// A row is written a few times in a short life: room for its versions beside it, and a vacuum that
/// comes before the table has grown by a fifth.
const SERVER_SETTINGS: &str = " WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)";

const DOWN: &str = "
DROP TABLE queue_pauses;
DROP TABLE jobs;
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (id, settings) = match manager.get_database_backend() {
            DbBackend::Postgres => {
                ("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", SERVER_SETTINGS)
            }
            _ => ("INTEGER PRIMARY KEY", ""),
        };
        let tables =
            UP.replace("{id}", id).replace("{status}", STATUS).replace("{settings}", settings);
        manager.get_connection().execute_unprepared(&self.0.apply(&tables)).await.map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(DOWN)).await.map(|_| ())
    }
}
