//! Decision runs: one per subject and slot, with what was known, answered and done.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let database = manager.get_connection();
        for table in ["clone_decision_runs", "prop_decision_runs"] {
            for statement in [RUNS, BY_AGE, SPENT, UNDER_WAY] {
                database.execute_unprepared(&statement.replace("{table}", table)).await?;
            }
        }
        for statement in TURNS {
            database.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

// A clone that trades no account has 0 as its account: NULL would not be unique.
const RUNS: &str = "
CREATE TABLE {table} (
    id               TEXT PRIMARY KEY,
    clone_id         BIGINT NOT NULL,
    account_id       BIGINT NOT NULL DEFAULT 0,
    scheduled_for_ms BIGINT NOT NULL,
    as_of_ms         BIGINT NOT NULL,
    started_at_ms    BIGINT NOT NULL,
    completed_at_ms  BIGINT,
    provider         TEXT NOT NULL,
    model            TEXT,
    graph_hash       TEXT,
    snapshot_hash    TEXT,
    snapshot         TEXT,
    raw_response     TEXT,
    action           TEXT NOT NULL DEFAULT 'none'
        CHECK (action IN ('hold', 'open_long', 'open_short', 'close', 'none')),
    status           TEXT NOT NULL
        CHECK (status IN ('pending', 'running', 'executed', 'skipped', 'rejected', 'error')),
    skip_reason      TEXT,
    intents          TEXT,
    risk_verdicts    TEXT,
    client_order_ids TEXT,
    tokens_in        BIGINT NOT NULL DEFAULT 0,
    tokens_out       BIGINT NOT NULL DEFAULT 0,
    cost_usd         TEXT NOT NULL DEFAULT '0',
    latency_ms       BIGINT,
    attempt          INTEGER NOT NULL DEFAULT 1,
    -- The lease that it is decided under: of another host, it is left alone while that is held.
    lease_name       TEXT,
    instance_id      TEXT,
    lease_token      BIGINT,
    -- What to tell people: the model's reason, or why nobody decided. Untrusted text.
    note             TEXT,
    error            TEXT,
    UNIQUE (clone_id, account_id, scheduled_for_ms),
    CHECK ((status = 'skipped') = (skip_reason IS NOT NULL))
)";

const BY_AGE: &str = "CREATE INDEX {table}_by_age ON {table} (scheduled_for_ms)";

const SPENT: &str = "CREATE INDEX {table}_spent ON {table} (clone_id, started_at_ms)
    WHERE tokens_in > 0 OR tokens_out > 0";

const UNDER_WAY: &str = "CREATE INDEX {table}_under_way ON {table} (scheduled_for_ms)
    WHERE status IN ('pending', 'running')";

// When an account last had its turn: an account that cannot be decided for lets the others pass.
const TURNS: [&str; 2] = [
    "ALTER TABLE prop_accounts ADD COLUMN asked_at_ms BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX prop_accounts_turns ON prop_accounts (asked_at_ms, id)
     WHERE status IN ('active', 'halted_until_roll')",
];
