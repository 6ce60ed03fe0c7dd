//! Accounts that ended before the funding of an hour that they lived through was settled are looked
//! at on, beside those that are open.

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
    "CREATE INDEX prop_accounts_due ON prop_accounts (looked_at_ms, id)
     WHERE status IN ('active', 'halted_until_roll')
        OR funding_until_ms < closed_at_ms - closed_at_ms % 3600000",
    "DROP INDEX prop_accounts_active",
];
