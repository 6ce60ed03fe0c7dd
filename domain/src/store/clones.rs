//! The table `clones`: who trades, by which strategy, decided by whom.

use rust_decimal::Decimal;
use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult, QueryResult};
use serde_json::json;

use super::sql::{Column, execute, read, read_rows};
use crate::decisions::{Budget, ProviderKind};

/// Where a clone's public profile stands. Only an approved one may enter the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProfileStatus {
    /// There is none.
    #[default]
    None,
    /// It waits for a person's judgement.
    Submitted,
    /// It may be shown.
    Approved,
    /// It may not.
    Rejected,
}

impl ProfileStatus {
    /// The word for it in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Submitted => "submitted",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }
}

/// A clone that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClone {
    /// Whose it is.
    pub user_id: i64,
    /// Its name, for people.
    pub name: String,
    /// Its strategy's version, recorded before; `None` trades the default draft.
    pub graph_hash: Option<String>,
    /// Who decides for it.
    pub provider: ProviderKind,
    /// What it may spend on a model in a day; `None` is the default.
    pub budget: Option<Budget>,
}

/// A clone that decides: active, with its strategy's text.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionSubject {
    /// Its id.
    pub clone_id: i64,
    /// Who decides for it, as it stands in the table.
    pub provider: String,
    /// Its strategy's version; `None` is the default draft.
    pub graph_hash: Option<String>,
    /// The version's canonical JSON.
    pub graph: Option<String>,
    /// What it may spend on a model in a day.
    pub budget: Budget,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct CloneRow {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub user_id: i64,
    /// Its name.
    pub name: String,
    /// `active`, `paused` or `archived`.
    pub status: String,
    /// Its strategy's version; `None` is the default draft.
    pub graph_hash: Option<String>,
    /// Who decides for it.
    pub provider: String,
    /// Where its public profile stands.
    pub profile_status: String,
    /// When it was made, epoch milliseconds.
    pub created_at_ms: i64,
}

impl FromQueryResult for DecisionSubject {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            clone_id: row.try_get(prefix, "clone_id")?,
            provider: row.try_get(prefix, "provider")?,
            graph_hash: row.try_get(prefix, "graph_hash")?,
            graph: row.try_get(prefix, "graph")?,
            budget: budget(
                row.try_get(prefix, "tokens_per_day")?,
                row.try_get::<Option<String>>(prefix, "cost_usd_per_day")?.as_deref(),
            ),
        })
    }
}

/// The limits of a row; a column that is NULL has the default. What is no amount allows nothing.
pub(super) fn budget(tokens: Option<i64>, cost_usd: Option<&str>) -> Budget {
    let standard = Budget::default();
    Budget {
        tokens: tokens.map_or(standard.tokens, |tokens| Some(u64::try_from(tokens).unwrap_or(0))),
        cost_usd: cost_usd.map_or(standard.cost_usd, |cost| Some(cost.parse().unwrap_or_default())),
    }
}

/// Makes an active clone and answers its id.
///
/// # Errors
/// A strategy's version that was not recorded, or the driver's error.
pub async fn insert(
    txn: &DatabaseTransaction,
    clone: &NewClone,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let sql = "INSERT INTO clones (user_id, name, graph_hash, provider, tokens_per_day,
                   cost_usd_per_day, created_at_ms, updated_at_ms)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING id";
    let tokens = clone.budget.and_then(|budget| budget.tokens);
    let cost = clone.budget.and_then(|budget| budget.cost_usd);
    let values = [
        clone.user_id.into(),
        clone.name.as_str().into(),
        clone.graph_hash.clone().into(),
        clone.provider.as_str().into(),
        tokens.map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX)).into(),
        cost.map(|cost: Decimal| cost.to_string()).into(),
        now_ms.into(),
    ];
    let rows: Vec<Id> = read(txn, "make a clone", sql, values).await?;
    rows.first().map(|row| row.id).ok_or_else(|| {
        StoreError::database("make a clone", DbErr::Custom("no id came back".to_owned()))
    })
}

#[derive(FromQueryResult)]
struct Id {
    id: i64,
}

/// Finds a clone.
///
/// # Errors
/// The driver's error.
pub async fn find(
    database: &impl ConnectionTrait,
    clone_id: i64,
) -> Result<Option<CloneRow>, StoreError> {
    let sql = "SELECT id, user_id, name, status, graph_hash, provider, profile_status,
                      created_at_ms FROM clones WHERE id = $1";
    Ok(read(database, "find a clone", sql, [clone_id.into()]).await?.pop())
}

/// Lists at most `limit` active clones with the text of their strategies, after an id, by id.
///
/// # Errors
/// The driver's error.
pub async fn list_active(
    database: &impl ConnectionTrait,
    after_id: i64,
    limit: u32,
) -> Result<Vec<DecisionSubject>, StoreError> {
    let sql = "SELECT c.id AS clone_id, c.provider, c.graph_hash, g.graph, c.tokens_per_day,
                      c.cost_usd_per_day
               FROM clones c LEFT JOIN strategy_graphs g ON g.graph_hash = c.graph_hash
               WHERE c.status = 'active' AND c.id > $1 ORDER BY c.id LIMIT $2";
    read(database, "list the active clones", sql, [after_id.into(), i64::from(limit).into()]).await
}

/// Finds those of the given clones that are active, as [`list_active`] does.
///
/// # Errors
/// The driver's error.
pub async fn find_active(
    database: &impl ConnectionTrait,
    clone_ids: &[i64],
) -> Result<Vec<DecisionSubject>, StoreError> {
    let sql = "SELECT c.id AS clone_id, c.provider, c.graph_hash, g.graph, c.tokens_per_day,
                      c.cost_usd_per_day
               FROM clones c LEFT JOIN strategy_graphs g ON g.graph_hash = c.graph_hash
               WHERE c.status = 'active' AND c.id IN (SELECT v.clone_id FROM {rows})
               ORDER BY c.id";
    let rows = clone_ids.iter().map(|id| vec![json!(id)]).collect();
    let columns = [("clone_id", Column::Int)];
    read_rows(database, "find active clones", sql, &columns, [], &rows).await
}

/// Says where a clone's public profile stands. `false` when there is no such clone.
///
/// # Errors
/// The driver's error.
pub async fn set_profile(
    txn: &DatabaseTransaction,
    clone_id: i64,
    status: ProfileStatus,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = "UPDATE clones SET profile_status = $2, updated_at_ms = $3 WHERE id = $1";
    let values = [clone_id.into(), status.as_str().into(), now_ms.into()];
    Ok(execute(txn, "judge a clone's profile", sql, values).await? > 0)
}

/// Lets another version of the strategy trade from now on; `None` is the default draft. `false` when
/// there is no such clone.
///
/// # Errors
/// A version that was not recorded, or the driver's error.
pub async fn set_graph(
    txn: &DatabaseTransaction,
    clone_id: i64,
    graph_hash: Option<&str>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = "UPDATE clones SET graph_hash = $2, updated_at_ms = $3 WHERE id = $1";
    let values = [clone_id.into(), graph_hash.map(str::to_owned).into(), now_ms.into()];
    Ok(execute(txn, "change a clone's strategy", sql, values).await? > 0)
}

#[cfg(test)]
mod tests {
    use scheduler_core::Store;

    use super::*;
    use crate::store::strategy_graphs::{self, StrategyGraph};

    #[tokio::test]
    async fn active_clones_decide_with_the_text_of_their_strategy() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("arena.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        migration::up(store.reader()).await.unwrap();
        let version = StrategyGraph {
            graph_hash: "abc".into(),
            name: "trend".into(),
            graph: "{}".into(),
            created_at_ms: 1,
        };
        let plain = NewClone {
            user_id: 7,
            name: "Ada".into(),
            graph_hash: None,
            provider: ProviderKind::Noop,
            budget: None,
        };
        let rich = NewClone {
            name: "Bob".into(),
            graph_hash: Some("abc".into()),
            provider: ProviderKind::HttpLlm,
            budget: Some(Budget { tokens: Some(10), cost_usd: Some(Decimal::new(25, 2)) }),
            ..plain.clone()
        };
        let ids: Result<[i64; 3], StoreError> = store
            .write("make clones", |txn| {
                Box::pin(async move {
                    strategy_graphs::record(txn, &version).await?;
                    let ada = insert(txn, &plain, 5).await?;
                    let bob = insert(txn, &rich, 5).await?;
                    let idle = insert(txn, &plain, 5).await?;
                    assert!(set_profile(txn, bob, ProfileStatus::Approved, 6).await?);
                    assert!(!set_profile(txn, 99, ProfileStatus::Approved, 6).await?);
                    let sql = "UPDATE clones SET status = 'paused' WHERE id = $1";
                    execute(txn, "pause a clone", sql, [idle.into()]).await?;
                    Ok([ada, bob, idle])
                })
            })
            .await;
        let [ada, bob, idle] = ids.unwrap();
        let reader = store.reader();
        let all = list_active(reader, 0, 10).await.unwrap();
        assert_eq!(all.iter().map(|row| row.clone_id).collect::<Vec<_>>(), [ada, bob]);
        assert_eq!((all[0].graph.as_deref(), all[1].graph.as_deref()), (None, Some("{}")));
        assert_eq!(all[0].budget, Budget::default());
        assert_eq!(all[1].budget.cost_usd, Some(Decimal::new(25, 2)));
        assert_eq!(list_active(reader, ada, 10).await.unwrap(), all[1..]);
        assert_eq!(list_active(reader, 0, 1).await.unwrap(), all[..1]);
        assert_eq!(find_active(reader, &[bob, idle, 99]).await.unwrap(), all[1..]);
        assert_eq!(find_active(reader, &[]).await.unwrap(), []);
        let row = find(reader, bob).await.unwrap().unwrap();
        assert_eq!((row.profile_status.as_str(), row.status.as_str()), ("approved", "active"));
    }
}
