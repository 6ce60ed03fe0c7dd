//! What the venues tell: prices now, their history, settled funding, statistics, odds.

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

// Prices, sizes and rates are exact decimals as text; statistics are doubles. Where a source gives
// no time, `received_at_ms` is the only one there is.
const STATEMENTS: [&str; 26] = [
    "ALTER TABLE instruments ADD COLUMN size_decimals INTEGER",
    "ALTER TABLE instruments ADD COLUMN max_leverage INTEGER",
    // A JSON array of [lower bound of the notional, highest leverage], lowest first.
    "ALTER TABLE instruments ADD COLUMN margin_tiers TEXT",
    "ALTER TABLE instruments ADD COLUMN only_isolated BOOLEAN NOT NULL DEFAULT FALSE",
    "ALTER TABLE instruments ADD COLUMN delisted BOOLEAN NOT NULL DEFAULT FALSE",
    // A bar that was corrected keeps what was first seen of it in candle_revisions.
    "ALTER TABLE candles ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE candle_revisions (
        symbol        TEXT NOT NULL,
        interval      TEXT NOT NULL,
        open_time_ms  BIGINT NOT NULL,
        revision      INTEGER NOT NULL,
        open          DOUBLE PRECISION NOT NULL,
        high          DOUBLE PRECISION NOT NULL,
        low           DOUBLE PRECISION NOT NULL,
        close         DOUBLE PRECISION NOT NULL,
        volume        DOUBLE PRECISION NOT NULL,
        revised_at_ms BIGINT NOT NULL,
        PRIMARY KEY (symbol, interval, open_time_ms, revision)
    )",
    // Each version of a venue's list of instruments, under the hash of its content.
    "CREATE TABLE instrument_versions (
        source        TEXT NOT NULL,
        content_hash  TEXT NOT NULL,
        document      TEXT NOT NULL,
        first_seen_at_ms BIGINT NOT NULL,
        PRIMARY KEY (source, content_hash)
    )",
    // The newest of each symbol: what is marked and decided with.
    "CREATE TABLE marks (
        symbol         TEXT PRIMARY KEY,
        mark           TEXT,
        oracle         TEXT,
        mid            TEXT,
        funding_rate   TEXT,
        open_interest  TEXT,
        premium        TEXT,
        received_at_ms BIGINT NOT NULL
    )",
    "CREATE TABLE mids (
        symbol         TEXT PRIMARY KEY,
        mid            TEXT NOT NULL,
        received_at_ms BIGINT NOT NULL
    )",
    "CREATE TABLE quotes (
        symbol         TEXT PRIMARY KEY,
        bid            TEXT,
        bid_size       TEXT,
        ask            TEXT,
        ask_size       TEXT,
        at_ms          BIGINT NOT NULL,
        received_at_ms BIGINT NOT NULL
    )",
    // The history of `marks`, at most one row per second.
    "CREATE TABLE asset_contexts (
        symbol         TEXT NOT NULL,
        received_at_ms BIGINT NOT NULL,
        mark           TEXT,
        oracle         TEXT,
        mid            TEXT,
        funding_rate   TEXT,
        open_interest  TEXT,
        premium        TEXT,
        day_volume     TEXT,
        PRIMARY KEY (symbol, received_at_ms)
    )",
    "CREATE TABLE trades (
        symbol  TEXT NOT NULL,
        time_ms BIGINT NOT NULL,
        tid     BIGINT NOT NULL,
        side    TEXT NOT NULL CHECK (side IN ('buy', 'sell')),
        price   TEXT NOT NULL,
        size    TEXT NOT NULL,
        PRIMARY KEY (symbol, time_ms, tid)
    )",
    // Settled, by the hour; `rate` is of one hour.
    "CREATE TABLE funding (
        symbol         TEXT NOT NULL,
        hour_ms        BIGINT NOT NULL,
        rate           TEXT NOT NULL,
        premium        TEXT,
        oracle         TEXT,
        received_at_ms BIGINT NOT NULL,
        PRIMARY KEY (symbol, hour_ms)
    )",
    "CREATE TABLE market_gaps (
        id             {identity},
        source         TEXT NOT NULL,
        channel        TEXT NOT NULL,
        symbol         TEXT NOT NULL,
        from_ms        BIGINT NOT NULL,
        to_ms          BIGINT NOT NULL,
        found_at_ms    BIGINT NOT NULL,
        repaired_at_ms BIGINT,
        UNIQUE (source, channel, symbol, from_ms, to_ms)
    )",
    "CREATE INDEX market_gaps_open ON market_gaps (source, channel, symbol) WHERE repaired_at_ms IS NULL",
    // Statistics of chains, protocols, stablecoins, pools and coins. A revision keeps the value that
    // was first seen: what was decided with it can be decided again.
    "CREATE TABLE features (
        feature          TEXT NOT NULL,
        subject          TEXT NOT NULL,
        at_ms            BIGINT NOT NULL,
        value            DOUBLE PRECISION NOT NULL,
        first_value      DOUBLE PRECISION NOT NULL,
        first_seen_at_ms BIGINT NOT NULL,
        revised_at_ms    BIGINT,
        revision         INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (feature, subject, at_ms)
    )",
    "CREATE TABLE pm_markets (
        condition_id     TEXT PRIMARY KEY,
        question         TEXT NOT NULL,
        slug             TEXT NOT NULL,
        end_at_ms        BIGINT,
        tradable         BOOLEAN NOT NULL,
        watched          BOOLEAN NOT NULL DEFAULT FALSE,
        volume_24h       DOUBLE PRECISION,
        winning_outcome  TEXT,
        resolved_at_ms   BIGINT,
        first_seen_at_ms BIGINT NOT NULL,
        updated_at_ms    BIGINT NOT NULL
    )",
    "CREATE INDEX pm_markets_unresolved ON pm_markets (end_at_ms) WHERE winning_outcome IS NULL",
    "CREATE TABLE pm_tokens (
        token_id     TEXT PRIMARY KEY,
        condition_id TEXT NOT NULL,
        outcome      TEXT NOT NULL,
        UNIQUE (condition_id, outcome)
    )",
    // The newest book of each token.
    "CREATE TABLE pm_quotes (
        token_id       TEXT PRIMARY KEY,
        bid            TEXT,
        ask            TEXT,
        last_trade     TEXT,
        last_trade_at_ms BIGINT,
        at_ms          BIGINT NOT NULL,
        book_hash      TEXT,
        received_at_ms BIGINT NOT NULL
    )",
    "CREATE TABLE pm_trades (
        token_id TEXT NOT NULL,
        at_ms    BIGINT NOT NULL,
        price    TEXT NOT NULL,
        size     TEXT NOT NULL,
        side     TEXT NOT NULL,
        PRIMARY KEY (token_id, at_ms, price, size, side)
    )",
    // Odds through time: of the stream where they changed, of the venue's history where there was none.
    "CREATE TABLE pm_odds (
        token_id       TEXT NOT NULL,
        at_ms          BIGINT NOT NULL,
        fidelity_s     INTEGER NOT NULL,
        odds           TEXT NOT NULL,
        received_at_ms BIGINT NOT NULL,
        PRIMARY KEY (token_id, fidelity_s, at_ms)
    )",
    "CREATE INDEX asset_contexts_by_age ON asset_contexts (received_at_ms)",
    "CREATE INDEX pm_trades_by_age ON pm_trades (at_ms)",
    "CREATE INDEX pm_odds_by_age ON pm_odds (at_ms)",
];
