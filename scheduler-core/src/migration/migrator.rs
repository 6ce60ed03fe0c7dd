//! The list of this library's own migrations.

use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};
use sea_orm_migration::MigratorTraitSelf;
use sea_orm_migration::prelude::*;

use super::{
    m20261123_000001_scheduler, m20261124_000001_dead_letters, m20261125_000001_jobs,
    m20261125_000002_waiting_slots, m20261125_000003_run_requests, m20261125_000011_queue_starts,
    m20261125_000012_definitions,
};
use crate::store::Namespace;

/// The tables of the scheduler under their own names. Its history table is `scheduler_migrations`.
/// In a namespace they are [`List::scheduler`](super::List::scheduler).
#[derive(Debug, Clone, Copy)]
pub struct SchedulerMigrator;

#[async_trait::async_trait]
impl MigratorTrait for SchedulerMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        migrations(&Namespace::BARE)
    }

    fn migration_table_name() -> DynIden {
        HISTORY.into_iden()
    }
}

/// The history table, in its namespace.
pub(super) const HISTORY: &str = "scheduler_migrations";

fn migrations(namespace: &Namespace) -> Vec<Box<dyn MigrationTrait>> {
    let namespace = || namespace.clone();
    vec![
        Box::new(m20261123_000001_scheduler::Migration(namespace())),
        Box::new(m20261124_000001_dead_letters::Migration(namespace())),
        Box::new(m20261125_000001_jobs::Migration(namespace())),
        Box::new(m20261125_000002_waiting_slots::Migration(namespace())),
        Box::new(m20261125_000003_run_requests::Migration(namespace())),
        Box::new(m20261125_000011_queue_starts::Migration(namespace())),
        Box::new(m20261125_000012_definitions::Migration(namespace())),
    ]
}

/// The same in a namespace.
#[derive(Clone)]
pub(super) struct InNamespace(pub(super) Namespace);

impl MigratorTraitSelf for InNamespace {
    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        migrations(&self.0)
    }

    fn migration_table_name(&self) -> DynIden {
        self.0.called(HISTORY).into_iden()
    }
}

impl InNamespace {
    /// Applies what is pending, in a transaction that others go on to use.
    pub(super) async fn apply(&self, txn: &DatabaseTransaction) -> Result<(), DbErr> {
        let Some(schema) = self.0.of_schema() else { return self.up(txn, None).await };
        let is_there = statement(
            txn,
            "SELECT 1 AS found FROM pg_catalog.pg_namespace WHERE nspname = $1",
            schema,
        );
        if txn.query_one_raw(is_there).await?.is_none() {
            txn.execute_unprepared(&format!("CREATE SCHEMA \"{schema}\"")).await?;
        }
        // sea-orm-migration names its history table without a schema.
        let before = statement(txn, "SELECT current_setting($1) AS path", "search_path");
        let before = txn.query_one_raw(before).await?;
        let before: String = before.map_or(Ok(String::new()), |row| row.try_get("", "path"))?;
        set_search_path(txn, &format!("\"{schema}\"")).await?;
        self.up(txn, None).await?;
        set_search_path(txn, &before).await
    }
}

/// Until the transaction ends.
async fn set_search_path(txn: &DatabaseTransaction, path: &str) -> Result<(), DbErr> {
    const SET: &str = "SELECT set_config('search_path', $1, TRUE)";
    txn.execute_raw(statement(txn, SET, path)).await.map(|_| ())
}

fn statement(txn: &DatabaseTransaction, sql: &str, value: &str) -> Statement {
    Statement::from_sql_and_values(txn.get_database_backend(), sql, [value.into()])
}
