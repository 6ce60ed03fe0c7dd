//! Runs that somebody asks for, of whichever host has the job.

#![expect(elided_lifetimes_in_paths, reason = "as in the trait that is implemented")]

use sea_orm_migration::prelude::*;

pub(super) struct Migration(pub(super) super::Namespace);

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000003_run_requests"
    }
}

/// The id that the run will have; NULL when nobody asks. A host that does not know the column leaves it
/// to others.
const UP: &str = "ALTER TABLE schedules ADD COLUMN run_requested TEXT";

const DOWN: &str = "ALTER TABLE schedules DROP COLUMN run_requested";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(UP)).await.map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(DOWN)).await.map(|_| ())
    }
}
