//! What the definitions of a process say, so that processes which disagree are found.

#![expect(elided_lifetimes_in_paths, reason = "as in the trait that is implemented")]

use sea_orm_migration::prelude::*;

pub(super) struct Migration(pub(super) super::Namespace);

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000012_definitions"
    }
}

/// By job, as a JSON object; NULL for a process whose version does not say it.
const UP: &str = "ALTER TABLE instances ADD COLUMN definitions TEXT";

const DOWN: &str = "ALTER TABLE instances DROP COLUMN definitions";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(UP)).await.map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(DOWN)).await.map(|_| ())
    }
}
