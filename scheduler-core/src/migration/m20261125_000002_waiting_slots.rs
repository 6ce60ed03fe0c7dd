//! Slots that wait to run one after another.

#![expect(elided_lifetimes_in_paths, reason = "as in the trait that is implemented")]

use sea_orm_migration::prelude::*;

pub(super) struct Migration(pub(super) super::Namespace);

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000002_waiting_slots"
    }
}

/// Oldest first, as `[[epoch milliseconds, attempts], …]` without spaces. A host that does not know
/// the column leaves it as it is.
const UP: &str = "ALTER TABLE schedules ADD COLUMN waiting_slots TEXT";

const DOWN: &str = "ALTER TABLE schedules DROP COLUMN waiting_slots";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(UP)).await.map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(DOWN)).await.map(|_| ())
    }
}
