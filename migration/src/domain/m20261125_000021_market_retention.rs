//! Sweeps of market data find what is old by an index.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

const STATEMENTS: [&str; 6] = [
    "CREATE INDEX candle_revisions_by_age ON candle_revisions (revised_at_ms)",
    "CREATE INDEX instrument_versions_by_age ON instrument_versions (source, first_seen_at_ms)",
    "CREATE INDEX market_gaps_by_age ON market_gaps (found_at_ms)",
    // Midnights stay longer than what is between them: a sweep of the others does not walk over them.
    "CREATE INDEX features_by_age ON features (at_ms) WHERE at_ms % 86400000 <> 0",
    "CREATE INDEX features_days_by_age ON features (at_ms) WHERE at_ms % 86400000 = 0",
    "CREATE INDEX pm_markets_by_age ON pm_markets (updated_at_ms) WHERE NOT watched",
];
