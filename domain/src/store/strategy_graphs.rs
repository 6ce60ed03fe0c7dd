//! The table `strategy_graphs`: immutable versions under the hash of their content.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement};

/// One version of a strategy.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct StrategyGraph {
    /// The hash of the canonical JSON.
    pub graph_hash: String,
    /// The name under which it was first recorded.
    pub name: String,
    /// The canonical JSON.
    pub graph: String,
    /// When it was first recorded, epoch milliseconds.
    pub created_at_ms: i64,
}

/// Records a version. `false` when it was there already: a version never changes, so its first
/// name and time stay.
///
/// # Errors
/// The driver's error.
pub async fn record(
    txn: &DatabaseTransaction,
    version: &StrategyGraph,
) -> Result<bool, StoreError> {
    let StrategyGraph { graph_hash, name, graph, created_at_ms } = version;
    let sql = "INSERT INTO strategy_graphs (graph_hash, name, graph, created_at_ms)
               VALUES ($1, $2, $3, $4) ON CONFLICT (graph_hash) DO NOTHING";
    let values = [graph_hash.into(), name.into(), graph.into(), (*created_at_ms).into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    let done = done.map_err(|source| StoreError::database("record a strategy graph", source))?;
    Ok(done.rows_affected() > 0)
}

/// Finds a version by its hash.
///
/// # Errors
/// The driver's error.
pub async fn find(
    database: &impl ConnectionTrait,
    graph_hash: &str,
) -> Result<Option<StrategyGraph>, StoreError> {
    let sql =
        "SELECT graph_hash, name, graph, created_at_ms FROM strategy_graphs WHERE graph_hash = $1";
    let backend = database.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [graph_hash.into()]);
    StrategyGraph::find_by_statement(statement)
        .one(database)
        .await
        .map_err(|source| StoreError::database("find a strategy graph", source))
}

#[cfg(test)]
mod tests {
    use scheduler_core::{Store, StoreError};

    use super::{StrategyGraph, find, record};

    #[tokio::test]
    async fn a_version_is_recorded_once_and_never_changes() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("arena.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        migration::up(store.reader()).await.unwrap();
        let first = StrategyGraph {
            graph_hash: "abc".into(),
            name: "trend".into(),
            graph: "{}".into(),
            created_at_ms: 1,
        };
        let again = StrategyGraph { name: "other".into(), created_at_ms: 2, ..first.clone() };
        for (version, is_new) in [(first.clone(), true), (again, false)] {
            let recorded: Result<_, StoreError> = store
                .write("record a graph", |txn| Box::pin(async move { record(txn, &version).await }))
                .await;
            assert_eq!(recorded.unwrap(), is_new);
        }
        assert_eq!(find(store.reader(), "abc").await.unwrap(), Some(first));
        assert_eq!(find(store.reader(), "xyz").await.unwrap(), None);
    }
}
