//! Strategy graphs, each version under the hash of its content.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(STRATEGY_GRAPHS).await?;
        Ok(())
    }
}

const STRATEGY_GRAPHS: &str = "
CREATE TABLE strategy_graphs (
    graph_hash    TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    graph         TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
)";
