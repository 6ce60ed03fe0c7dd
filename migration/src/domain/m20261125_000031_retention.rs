//! What is deleted when it is old is found by its age.

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

const STATEMENTS: &[&str] = &[
    "CREATE INDEX prop_equity_snapshots_by_age ON prop_equity_snapshots (at_ms)",
    "CREATE INDEX prop_account_events_by_age ON prop_account_events (at_ms)",
    "CREATE INDEX backtest_jobs_ended ON backtest_jobs (completed_at_ms)
     WHERE completed_at_ms IS NOT NULL",
];
