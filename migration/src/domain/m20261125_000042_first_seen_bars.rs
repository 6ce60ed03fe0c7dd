//! What was first seen of a bar stays for good: the sweep of the later revisions does not walk over it.

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

const STATEMENTS: [&str; 2] = [
    "DROP INDEX candle_revisions_by_age",
    "CREATE INDEX candle_revisions_by_age ON candle_revisions (revised_at_ms) WHERE revision > 0",
];
