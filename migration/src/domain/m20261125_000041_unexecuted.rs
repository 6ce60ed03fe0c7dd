//! Decisions that were executed stay: a sweep of the others does not walk over them.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UNEXECUTED).await?;
        Ok(())
    }
}

const UNEXECUTED: &str = "CREATE INDEX prop_decision_runs_unexecuted
    ON prop_decision_runs (scheduled_for_ms)
    WHERE status NOT IN ('pending', 'running', 'executed')";
