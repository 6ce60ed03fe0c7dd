//! The arena's own tables.

// `async_trait` would bind a written `SchemaManager<'_>` earlier than `MigrationTrait` does.
#![expect(elided_lifetimes_in_paths, reason = "the signature of MigrationTrait::up elides it")]

mod m20261123_000001_market;
mod m20261123_000002_strategy_graphs;
mod m20261123_000003_backtest_jobs;
mod m20261124_000001_ingestion;

use async_trait::async_trait;
use sea_orm::DynIden;
use sea_orm_migration::sea_query::{Alias, IntoIden};
use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// The arena's list of migrations. Its history table is `arena_migrations`.
#[derive(Debug, Clone, Copy)]
pub struct DomainMigrator;

#[async_trait]
impl MigratorTrait for DomainMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_market::Migration),
            Box::new(m20261123_000002_strategy_graphs::Migration),
            Box::new(m20261123_000003_backtest_jobs::Migration),
            Box::new(m20261124_000001_ingestion::Migration),
        ]
    }

    fn migration_table_name() -> DynIden {
        Alias::new("arena_migrations").into_iden()
    }
}
