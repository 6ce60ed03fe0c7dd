//! The witness of a stream tells whoever has the stream that it cannot be trusted.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "ALTER TABLE ingestion_channels ADD COLUMN distrusted_at_ms BIGINT";
        manager.get_connection().execute_unprepared(sql).await.map(|_| ())
    }
}
