//! When rows of queues with a rate were started.

#![expect(elided_lifetimes_in_paths, reason = "as in the trait that is implemented")]

use sea_orm_migration::prelude::*;

pub(super) struct Migration(pub(super) super::Namespace);

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000011_queue_starts"
    }
}

/// Starts within the last period of their queue; older ones go with the next claim. A host that does not
/// know the table has no rates.
const UP: &str = "
CREATE TABLE queue_starts (
  queue TEXT NOT NULL,
  rate_key TEXT,
  started_at_ms BIGINT NOT NULL
);
CREATE INDEX queue_starts_of_queue ON queue_starts (queue, started_at_ms, rate_key);
";

const DOWN: &str = "DROP TABLE queue_starts";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(UP)).await.map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(DOWN)).await.map(|_| ())
    }
}
