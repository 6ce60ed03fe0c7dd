//! The list of this library's own migrations.

use sea_orm_migration::prelude::*;

use super::{
    m20261123_000001_scheduler, m20261124_000001_dead_letters, m20261125_000001_jobs,
    m20261125_000002_waiting_slots, m20261125_000003_run_requests, m20261125_000011_queue_starts,
};

/// The tables of the scheduler. Its history table is `scheduler_migrations`.
#[derive(Debug, Clone, Copy)]
pub struct SchedulerMigrator;

#[async_trait::async_trait]
impl MigratorTrait for SchedulerMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_scheduler::Migration),
            Box::new(m20261124_000001_dead_letters::Migration),
            Box::new(m20261125_000001_jobs::Migration),
            Box::new(m20261125_000002_waiting_slots::Migration),
            Box::new(m20261125_000003_run_requests::Migration),
            Box::new(m20261125_000011_queue_starts::Migration),
        ]
    }

    fn migration_table_name() -> DynIden {
        "scheduler_migrations".into_iden()
    }
}
