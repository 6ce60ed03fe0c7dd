//! Schedules, leases, runs, heartbeats and instances.

#![expect(elided_lifetimes_in_paths, reason = "as in the trait that is implemented")]

use sea_orm_migration::prelude::*;

pub(super) struct Migration(pub(super) super::Namespace);

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000001_scheduler"
    }
}

/// Times are epoch milliseconds, identities UUID v7 as text, on both databases.
const UP: &str = "
CREATE TABLE instances (
  instance_id TEXT NOT NULL PRIMARY KEY,
  host TEXT NOT NULL,
  pid BIGINT NOT NULL,
  version TEXT NOT NULL,
  started_at_ms BIGINT NOT NULL,
  seen_at_ms BIGINT NOT NULL,
  skew_ms BIGINT NOT NULL DEFAULT 0,
  stopping BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE TABLE schedules (
  job TEXT NOT NULL PRIMARY KEY,
  cadence TEXT NOT NULL,
  cadence_override TEXT,
  definition_hash TEXT NOT NULL,
  anchor_ms BIGINT NOT NULL,
  next_due_at_ms BIGINT,
  last_fired_for_ms BIGINT,
  buffered_for_ms BIGINT,
  timeout_ms BIGINT,
  paused BOOLEAN NOT NULL DEFAULT FALSE,
  generation BIGINT NOT NULL DEFAULT 1
);
CREATE TABLE leases (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  token BIGINT NOT NULL,
  acquired_at_ms BIGINT NOT NULL,
  expires_at_ms BIGINT NOT NULL,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE TABLE job_runs (
  id TEXT NOT NULL PRIMARY KEY,
  job TEXT NOT NULL,
  scope_key TEXT NOT NULL DEFAULT '',
  trigger TEXT NOT NULL,
  scheduled_for_ms BIGINT NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 1,
  status TEXT NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'missed', 'skipped_overlap', 'timed_out', 'cancelled', 'lease_lost')),
  missed_count BIGINT,
  missed_until_ms BIGINT,
  started_at_ms BIGINT,
  finished_at_ms BIGINT,
  summary TEXT,
  error TEXT,
  instance_id TEXT NOT NULL,
  token BIGINT
);
CREATE UNIQUE INDEX job_runs_slot ON job_runs (job, scope_key, scheduled_for_ms, attempt) WHERE trigger <> 'manual';
CREATE INDEX job_runs_running ON job_runs (job) WHERE status = 'running';
CREATE INDEX job_runs_finished ON job_runs (finished_at_ms) WHERE finished_at_ms IS NOT NULL;
CREATE TABLE worker_heartbeats (
  worker TEXT NOT NULL PRIMARY KEY,
  status TEXT NOT NULL CHECK (status IN ('never_run', 'running', 'succeeded', 'failed')),
  last_started_at_ms BIGINT,
  last_completed_at_ms BIGINT,
  last_success_at_ms BIGINT,
  last_error_at_ms BIGINT,
  last_error TEXT,
  summary TEXT,
  latency_ms BIGINT,
  consecutive_errors BIGINT NOT NULL DEFAULT 0,
  total_runs BIGINT NOT NULL DEFAULT 0,
  total_errors BIGINT NOT NULL DEFAULT 0,
  instance_id TEXT,
  registered_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL
);
CREATE TABLE worker_instances (
  worker TEXT NOT NULL,
  instance_id TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('never_run', 'running', 'succeeded', 'failed')),
  last_started_at_ms BIGINT,
  last_completed_at_ms BIGINT,
  last_success_at_ms BIGINT,
  last_error_at_ms BIGINT,
  last_error TEXT,
  summary TEXT,
  latency_ms BIGINT,
  consecutive_errors BIGINT NOT NULL DEFAULT 0,
  total_runs BIGINT NOT NULL DEFAULT 0,
  total_errors BIGINT NOT NULL DEFAULT 0,
  updated_at_ms BIGINT NOT NULL,
  PRIMARY KEY (worker, instance_id)
);
";

const DOWN: &str = "
DROP TABLE worker_instances;
DROP TABLE worker_heartbeats;
DROP TABLE job_runs;
DROP TABLE leases;
DROP TABLE schedules;
DROP TABLE instances;
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(UP)).await.map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(DOWN)).await.map(|_| ())
    }
}
