//! Auditions, the queue for promotion, and the slots of the arena.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        for statement in STATEMENTS {
            let sql = super::in_dialect(backend, statement);
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }
}

const STATEMENTS: &[&str] = &[
    "CREATE TABLE audition_runs (
        id            {identity},
        clone_id      BIGINT NOT NULL REFERENCES clones (id),
        account_id    BIGINT REFERENCES prop_accounts (id),
        graph_hash    TEXT,
        status        TEXT NOT NULL DEFAULT 'draft' CHECK (status IN
            ('draft', 'queued', 'running', 'passed', 'failed', 'expired', 'cancelled', 'inconclusive')),
        -- The rules as JSON, as they were when it was created.
        rules         TEXT NOT NULL,
        reason        TEXT,
        evidence      TEXT,
        -- How well it went, when it passed: 0 to 1.
        score         DOUBLE PRECISION,
        created_at_ms BIGINT NOT NULL,
        started_at_ms BIGINT,
        ends_at_ms    BIGINT,
        evaluated_at_ms BIGINT NOT NULL DEFAULT 0,
        decided_at_ms BIGINT,
        version       BIGINT NOT NULL DEFAULT 1
    )",
    "CREATE UNIQUE INDEX audition_runs_under_way ON audition_runs (clone_id)
     WHERE status IN ('queued', 'running')",
    "CREATE INDEX audition_runs_due ON audition_runs (evaluated_at_ms, id) WHERE status IN ('queued', 'running')",
    "CREATE INDEX audition_runs_passed ON audition_runs (decided_at_ms, id) WHERE status = 'passed'",
    "CREATE TABLE audition_events (
        id          {identity},
        audition_id BIGINT NOT NULL REFERENCES audition_runs (id),
        version     BIGINT NOT NULL,
        from_status TEXT NOT NULL,
        to_status   TEXT NOT NULL,
        reason      TEXT NOT NULL,
        evidence    TEXT NOT NULL,
        at_ms       BIGINT NOT NULL,
        UNIQUE (audition_id, version)
    )",
    "CREATE TABLE promotion_queue_entries (
        id               {identity},
        clone_id         BIGINT NOT NULL REFERENCES clones (id),
        audition_id      BIGINT NOT NULL UNIQUE REFERENCES audition_runs (id),
        score            DOUBLE PRECISION NOT NULL,
        priority         INTEGER NOT NULL DEFAULT 0,
        status           TEXT NOT NULL DEFAULT 'queued'
            CHECK (status IN ('queued', 'promoted', 'rejected', 'withdrawn', 'expired')),
        reason           TEXT,
        enqueued_at_ms   BIGINT NOT NULL,
        decided_at_ms    BIGINT
    )",
    "CREATE UNIQUE INDEX promotion_queue_entries_waiting ON promotion_queue_entries (clone_id)
     WHERE status = 'queued'",
    "CREATE INDEX promotion_queue_entries_order
     ON promotion_queue_entries (priority DESC, score DESC, enqueued_at_ms, id) WHERE status = 'queued'",
    "CREATE TABLE arena_slots (
        season_id         BIGINT NOT NULL,
        slot_no           INTEGER NOT NULL,
        clone_id          BIGINT,
        account_id        BIGINT,
        occupied_since_ms BIGINT,
        version           BIGINT NOT NULL DEFAULT 1,
        PRIMARY KEY (season_id, slot_no)
    )",
    "CREATE UNIQUE INDEX arena_slots_of_clone ON arena_slots (season_id, clone_id) WHERE clone_id IS NOT NULL",
    "CREATE TABLE arena_clone_memberships (
        id           {identity},
        season_id    BIGINT NOT NULL,
        clone_id     BIGINT NOT NULL REFERENCES clones (id),
        account_id   BIGINT NOT NULL,
        slot_no      INTEGER NOT NULL,
        promotion_id BIGINT NOT NULL UNIQUE REFERENCES promotion_queue_entries (id),
        joined_at_ms BIGINT NOT NULL,
        left_at_ms   BIGINT,
        left_reason  TEXT
    )",
    "CREATE UNIQUE INDEX arena_clone_memberships_now ON arena_clone_memberships (season_id, clone_id)
     WHERE left_at_ms IS NULL",
    "CREATE UNIQUE INDEX arena_clone_memberships_of_slot ON arena_clone_memberships (season_id, slot_no)
     WHERE left_at_ms IS NULL",
];
