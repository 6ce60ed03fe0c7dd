//! Instruments and their candles.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let database = manager.get_connection();
        database.execute_unprepared(INSTRUMENTS).await?;
        // The key is the row on SQLite: one tree instead of a table beside its index.
        let clustered = match manager.get_database_backend() {
            DbBackend::Sqlite => "WITHOUT ROWID",
            _ => "",
        };
        database.execute_unprepared(&format!("{CANDLES} {clustered}")).await?;
        Ok(())
    }
}

const INSTRUMENTS: &str = "
CREATE TABLE instruments (
    symbol        TEXT PRIMARY KEY,
    -- Sizes are multiples of this, in the base currency.
    size_step     DOUBLE PRECISION NOT NULL DEFAULT 0.00000001 CHECK (size_step > 0),
    created_at_ms BIGINT NOT NULL
)";

// No foreign key to instruments: an import checks the symbol once, not once per row.
const CANDLES: &str = "
CREATE TABLE candles (
    symbol       TEXT NOT NULL,
    interval     TEXT NOT NULL,
    open_time_ms BIGINT NOT NULL,
    open         DOUBLE PRECISION NOT NULL,
    high         DOUBLE PRECISION NOT NULL,
    low          DOUBLE PRECISION NOT NULL,
    close        DOUBLE PRECISION NOT NULL,
    volume       DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (symbol, interval, open_time_ms)
)";
