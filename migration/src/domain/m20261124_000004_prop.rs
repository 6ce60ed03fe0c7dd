//! Prop accounts: positions, fills, a double-entry ledger that is only added to, equity through time.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        let appended_only = match backend {
            DbBackend::Sqlite => APPENDED_ONLY_ON_SQLITE,
            _ => APPENDED_ONLY_ON_POSTGRES,
        };
        for statement in STATEMENTS.iter().chain(appended_only) {
            let sql = super::in_dialect(backend, statement);
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }
}

// Money, prices and sizes are exact decimals as text. A size is signed: negative is short.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE prop_accounts (
        id                   {identity},
        clone_id             BIGINT NOT NULL REFERENCES clones (id),
        kind                 TEXT NOT NULL CHECK (kind IN ('audition', 'arena', 'practice')),
        status               TEXT NOT NULL DEFAULT 'active'
            CHECK (status IN ('active', 'halted_until_roll', 'breached', 'passed', 'closed')),
        -- The rules as JSON, as they were when it was opened.
        rules                TEXT NOT NULL,
        initial              TEXT NOT NULL,
        -- The sum of its postings to `cash`, so that a mark needs not add them up.
        cash                 TEXT NOT NULL,
        peak_equity          TEXT NOT NULL,
        peak_balance         TEXT NOT NULL,
        day                  BIGINT NOT NULL,
        day_base             TEXT NOT NULL,
        funding_until_ms     BIGINT NOT NULL,
        marked_at_ms         BIGINT,
        -- When its mark was last tried: one that cannot be marked lets the others pass.
        looked_at_ms         BIGINT NOT NULL DEFAULT 0,
        last_entry_at_ms     BIGINT,
        last_loss_at_ms      BIGINT,
        breach               TEXT CHECK (breach IN ('max_daily_loss', 'max_total_loss', 'liquidated')),
        creation_key         TEXT UNIQUE,
        opened_at_ms         BIGINT NOT NULL,
        closed_at_ms         BIGINT,
        version              BIGINT NOT NULL DEFAULT 1
    )",
    "CREATE INDEX prop_accounts_active ON prop_accounts (looked_at_ms, id)
     WHERE status IN ('active', 'halted_until_roll')",
    "CREATE INDEX prop_accounts_of_clone ON prop_accounts (clone_id)",
    "CREATE TABLE prop_positions (
        account_id    BIGINT NOT NULL REFERENCES prop_accounts (id),
        symbol        TEXT NOT NULL,
        size          TEXT NOT NULL,
        entry         TEXT NOT NULL,
        leverage      TEXT NOT NULL,
        stop_price    TEXT,
        take_price    TEXT,
        opened_at_ms  BIGINT NOT NULL,
        updated_at_ms BIGINT NOT NULL,
        version       BIGINT NOT NULL,
        PRIMARY KEY (account_id, symbol)
    )",
    "CREATE TABLE prop_fills (
        id              {identity},
        account_id      BIGINT NOT NULL REFERENCES prop_accounts (id),
        client_order_id TEXT NOT NULL,
        seq             INTEGER NOT NULL,
        symbol          TEXT NOT NULL,
        size            TEXT NOT NULL,
        price           TEXT NOT NULL,
        fee             TEXT NOT NULL,
        realized        TEXT NOT NULL,
        leverage        TEXT NOT NULL,
        mark            TEXT,
        slippage_bps    TEXT NOT NULL,
        reason          TEXT NOT NULL CHECK (reason IN ('decision', 'stop', 'take', 'liquidation', 'close')),
        filled_at_ms    BIGINT NOT NULL,
        UNIQUE (client_order_id, seq)
    )",
    "CREATE INDEX prop_fills_of_account ON prop_fills (account_id, filled_at_ms, id)",
    "CREATE TABLE prop_ledger_transactions (
        id              {identity},
        account_id      BIGINT NOT NULL REFERENCES prop_accounts (id),
        kind            TEXT NOT NULL CHECK (kind IN
            ('deposit', 'fill_fee', 'realized_pnl', 'funding', 'liquidation', 'adjustment', 'reset')),
        idempotency_key TEXT NOT NULL,
        occurred_at_ms  BIGINT NOT NULL,
        recorded_at_ms  BIGINT NOT NULL,
        reference       TEXT,
        UNIQUE (account_id, idempotency_key)
    )",
    "CREATE TABLE prop_ledger_postings (
        transaction_id BIGINT NOT NULL REFERENCES prop_ledger_transactions (id),
        line           INTEGER NOT NULL,
        ledger_account TEXT NOT NULL CHECK (ledger_account IN ('cash', 'house', 'fees', 'funding', 'pnl')),
        amount         TEXT NOT NULL,
        PRIMARY KEY (transaction_id, line)
    )",
    "CREATE TABLE prop_equity_snapshots (
        account_id         BIGINT NOT NULL REFERENCES prop_accounts (id),
        at_ms              BIGINT NOT NULL,
        cash               TEXT NOT NULL,
        unrealized_pnl     TEXT NOT NULL,
        equity             TEXT NOT NULL,
        margin_used        TEXT NOT NULL,
        maintenance_margin TEXT NOT NULL,
        daily_floor        TEXT NOT NULL,
        max_floor          TEXT NOT NULL,
        -- The marks that it was made with, as JSON.
        marks              TEXT NOT NULL,
        PRIMARY KEY (account_id, at_ms)
    )",
    "CREATE TABLE prop_day_stats (
        account_id      BIGINT NOT NULL REFERENCES prop_accounts (id),
        day             BIGINT NOT NULL,
        opening_balance TEXT NOT NULL,
        closing_balance TEXT,
        high_equity     TEXT NOT NULL,
        low_equity      TEXT NOT NULL,
        realized        TEXT NOT NULL,
        fees            TEXT NOT NULL,
        funding         TEXT NOT NULL,
        orders          INTEGER NOT NULL DEFAULT 0,
        opened_position BOOLEAN NOT NULL DEFAULT FALSE,
        PRIMARY KEY (account_id, day)
    )",
    // What an auditor asks for that is no money: halts, breaches, failures of an account's cycle.
    "CREATE TABLE prop_account_events (
        id         {identity},
        account_id BIGINT NOT NULL,
        at_ms      BIGINT NOT NULL,
        kind       TEXT NOT NULL,
        detail     TEXT NOT NULL
    )",
    "CREATE INDEX prop_account_events_of_account ON prop_account_events (account_id, id)",
];

const APPENDED_ONLY_ON_SQLITE: &[&str] = &[
    "CREATE TRIGGER prop_ledger_transactions_stay BEFORE UPDATE ON prop_ledger_transactions
     BEGIN SELECT RAISE(ABORT, 'the ledger is only added to; correct it by an adjustment'); END",
    "CREATE TRIGGER prop_ledger_transactions_are_kept BEFORE DELETE ON prop_ledger_transactions
     BEGIN SELECT RAISE(ABORT, 'the ledger is only added to; correct it by an adjustment'); END",
    "CREATE TRIGGER prop_ledger_postings_stay BEFORE UPDATE ON prop_ledger_postings
     BEGIN SELECT RAISE(ABORT, 'the ledger is only added to; correct it by an adjustment'); END",
    "CREATE TRIGGER prop_ledger_postings_are_kept BEFORE DELETE ON prop_ledger_postings
     BEGIN SELECT RAISE(ABORT, 'the ledger is only added to; correct it by an adjustment'); END",
];

const APPENDED_ONLY_ON_POSTGRES: &[&str] = &[
    "CREATE FUNCTION prop_ledger_is_appended_only() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN RAISE EXCEPTION 'the ledger is only added to; correct it by an adjustment'; END $$",
    "CREATE TRIGGER prop_ledger_transactions_stay BEFORE UPDATE OR DELETE ON prop_ledger_transactions
     FOR EACH ROW EXECUTE FUNCTION prop_ledger_is_appended_only()",
    "CREATE TRIGGER prop_ledger_postings_stay BEFORE UPDATE OR DELETE ON prop_ledger_postings
     FOR EACH ROW EXECUTE FUNCTION prop_ledger_is_appended_only()",
];
