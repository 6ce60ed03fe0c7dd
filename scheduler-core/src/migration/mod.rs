//! The tables of this library as a sea-orm migration list, and a way to apply lists that is safe
//! when several processes start at once.
//!
//! The history of this list has a table of its own (`scheduler_migrations`), so that it lives
//! beside the embedder's own migrations.

mod m20261123_000001_scheduler;

use sea_orm_migration::prelude::*;

/// The tables of the scheduler.
pub struct SchedulerMigrator;

#[async_trait::async_trait]
impl MigratorTrait for SchedulerMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m20261123_000001_scheduler::Migration)]
    }

    fn migration_table_name() -> DynIden {
        "scheduler_migrations".into_iden()
    }
}
