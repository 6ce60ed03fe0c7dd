//! Who failed an audition or left the arena of late: a clone waits a day for its next audition.

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
    "CREATE INDEX audition_runs_failed ON audition_runs (clone_id, decided_at_ms)
     WHERE status = 'failed'",
    "CREATE INDEX arena_clone_memberships_left ON arena_clone_memberships (clone_id, left_at_ms)",
];
