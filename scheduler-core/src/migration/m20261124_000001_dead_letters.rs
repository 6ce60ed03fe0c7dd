//! Items of cycles that failed, until they come right or a person decides about them.

#![expect(elided_lifetimes_in_paths, reason = "as in the trait that is implemented")]

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub(super) struct Migration(pub(super) super::Namespace);

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261124_000001_dead_letters"
    }
}

const UP: &str = "
CREATE TABLE dead_letters (
  id {id},
  job TEXT NOT NULL,
  item_key TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  first_failed_at_ms BIGINT NOT NULL,
  last_failed_at_ms BIGINT NOT NULL,
  next_attempt_at_ms BIGINT,
  last_error TEXT NOT NULL,
  payload TEXT,
  status TEXT NOT NULL CHECK (status IN ('backing_off', 'dead', 'retrying', 'discarded', 'resolved')),
  updated_at_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX dead_letters_item ON dead_letters (job, item_key);
CREATE INDEX dead_letters_open ON dead_letters (job) WHERE status <> 'resolved';
CREATE INDEX dead_letters_resolved ON dead_letters (updated_at_ms) WHERE status = 'resolved';
";

const DOWN: &str = "DROP TABLE dead_letters";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let id = match manager.get_database_backend() {
            DbBackend::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            _ => "INTEGER PRIMARY KEY",
        };
        let tables = UP.replace("{id}", id);
        manager.get_connection().execute_unprepared(&self.0.apply(&tables)).await.map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&self.0.apply(DOWN)).await.map(|_| ())
    }
}
