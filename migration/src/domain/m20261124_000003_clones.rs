//! Clones: who trades, by which strategy, decided by whom.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = super::in_dialect(manager.get_database_backend(), CLONES);
        manager.get_connection().execute_unprepared(&sql).await?;
        Ok(())
    }
}

// Without a graph a clone trades by the default draft; only an approved profile may enter the arena.
const CLONES: &str = "
CREATE TABLE clones (
    id                 {identity},
    user_id            BIGINT NOT NULL,
    name               TEXT NOT NULL,
    status             TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'archived')),
    graph_hash         TEXT REFERENCES strategy_graphs (graph_hash),
    provider           TEXT NOT NULL DEFAULT 'noop' CHECK (provider IN ('noop', 'rule_graph', 'http_llm')),
    tokens_per_day     BIGINT,
    cost_usd_per_day   TEXT,
    profile_status     TEXT NOT NULL DEFAULT 'none'
        CHECK (profile_status IN ('none', 'submitted', 'approved', 'rejected')),
    created_at_ms      BIGINT NOT NULL,
    updated_at_ms      BIGINT NOT NULL
)";
