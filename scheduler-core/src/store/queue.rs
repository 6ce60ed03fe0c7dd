//! What a consumer needs of any store: the rows of one queue's table.

use async_trait::async_trait;

use crate::error::StoreError;
use crate::queue::{EnqueueError, Enqueued, NewJob, NewRow};
use crate::run::InstanceId;

/// The rows of one queue's table, with its statements rendered.
#[async_trait]
pub trait QueueRows: Send + Sync + 'static {
    /// Puts rows with an expired lease back and claims rows that are due, in one transaction.
    ///
    /// # Errors
    /// The database's; nothing is changed then.
    async fn claim(&self, request: &ClaimRequest) -> Result<Claimed, StoreError>;

    /// Renews the leases of these rows and writes their progress. Rows that do not come back are
    /// lost. One that a transaction has locked keeps none of the others waiting: it comes back as held
    /// and not renewed, for as long as its lease lives.
    ///
    /// # Errors
    /// The database's; the leases live on until their deadline.
    async fn renew(
        &self,
        rows: &[RowProgress],
        length_ms: i64,
    ) -> Result<Vec<RenewedRow>, StoreError>;

    /// Writes how rows ended. Answers the claims that were still leased; the others are lost and
    /// nothing was written for them.
    ///
    /// # Errors
    /// The database's; nothing is changed then.
    async fn settle(&self, rows: &[SettledRow]) -> Result<Vec<RowGrant>, StoreError>;

    /// Writes how rows ended and claims others, where the store can in one transaction.
    ///
    /// # Errors
    /// The database's; nothing is changed then, unless [`Exchanged::claimed`] is the error.
    async fn exchange(&self, exchange: &Exchange<'_>) -> Result<Exchanged, StoreError> {
        let settled = self.settle(exchange.ends).await?;
        let claimed = match &exchange.claim {
            Some(request) => self.claim(request).await,
            None => Ok(Claimed::default()),
        };
        Ok(Exchanged { settled, claimed })
    }

    /// How rows are claimed before there is a place for them: not at all by default, which is right
    /// for every table with limits.
    fn ahead(&self) -> Ahead {
        Ahead::default()
    }

    /// Whether the queue is paused: what was claimed ahead goes back then. Asked when a claim found
    /// nothing although rows wait here. By default, no queue is.
    ///
    /// # Errors
    /// The database's.
    async fn is_paused(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Notes that rows which were claimed ahead have begun, so that the death of their process counts
    /// as a crash of theirs.
    ///
    /// # Errors
    /// The database's.
    async fn mark_started(&self, rows: &[RowGrant]) -> Result<(), StoreError> {
        let _ = rows;
        Ok(())
    }

    /// When something can be claimable next, as milliseconds from now: a row that is due later,
    /// or a lease of another process that expires.
    ///
    /// # Errors
    /// The database's.
    async fn next_in_ms(&self, holder: InstanceId) -> Result<Option<i64>, StoreError>;

    /// Enqueues rows into the library's own table, all or none; answers one per row, in their order,
    /// after the commit. Nobody is woken.
    ///
    /// # Errors
    /// A row that cannot be enqueued; the database's; [`StoreError::Unsupported`] on a table of the
    /// user's, whose rows have columns. Nothing was enqueued then.
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
        let _ = jobs;
        Err(StoreError::NO_JOBS.into())
    }

    /// Enqueues rows into a table of the user's, all or none; answers one per row, in their order, after
    /// the commit, or before it in the caller's transaction, if there is one. Nobody is woken.
    ///
    /// # Errors
    /// A row that cannot be enqueued, or a column that is missing; the database's;
    /// [`StoreError::Unsupported`] on the library's own table, and for a caller's transaction where there
    /// can be none. Nothing was enqueued then.
    async fn enqueue_rows(
        &self,
        txn: Option<&sea_orm::DatabaseTransaction>,
        rows: &[NewRow],
    ) -> Result<Vec<Enqueued<RowId>>, EnqueueError> {
        let (_, _) = (txn, rows);
        Err(StoreError::ONLY_JOBS.into())
    }

    /// Deletes rows that ended longer ago than the table says
    /// ([`keep_finished_for`](crate::queue::QueueTable::keep_finished_for)), oldest first, at most
    /// this many; answers how many. None where it says nothing, and no dead ones.
    ///
    /// # Errors
    /// The database's; nothing is deleted then.
    async fn prune(&self, at_most: u32) -> Result<u64, StoreError> {
        let _ = at_most;
        Ok(0)
    }

    /// Keeps what a handler has done so far in the row, if it is still leased as granted; answers
    /// whether it is. In the caller's transaction, if there is one.
    ///
    /// # Errors
    /// The database's; [`StoreError::Unsupported`] for a table without a column `checkpoint`, and for a
    /// caller's transaction where there can be none.
    async fn keep_checkpoint(
        &self,
        txn: Option<&sea_orm::DatabaseTransaction>,
        grant: &RowGrant,
        checkpoint: &str,
    ) -> Result<bool, StoreError> {
        let (_, _, _) = (txn, grant, checkpoint);
        Err(StoreError::Unsupported {
            operation: "keep a checkpoint",
            reason: "the table has no column for it",
        })
    }

    /// Makes the row a success in the caller's transaction, if it is still leased as granted; answers
    /// whether it is.
    ///
    /// # Errors
    /// The database's; [`StoreError::Unsupported`] where there can be no caller's transaction.
    async fn succeed_in(
        &self,
        txn: &sea_orm::DatabaseTransaction,
        grant: &RowGrant,
        result: Option<&str>,
    ) -> Result<bool, StoreError> {
        let (_, _, _) = (txn, grant, result);
        Err(StoreError::Unsupported {
            operation: "finish a row",
            reason: "this store's rows are in no transaction of the caller's",
        })
    }

    /// Locks the row in the caller's transaction if it is still leased as granted, and answers
    /// whether it is.
    ///
    /// # Errors
    /// The database's.
    async fn fence(
        &self,
        txn: &sea_orm::DatabaseTransaction,
        grant: &RowGrant,
    ) -> Result<bool, StoreError>;
}

/// The key of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowId {
    /// An integer key.
    Int(i64),
    /// A text key.
    Text(String),
}

impl std::fmt::Display for RowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(id) => id.fmt(f),
            Self::Text(id) => id.fmt(f),
        }
    }
}

crate::run::words! {
    /// How a queue's row stands.
    RowStatus {
        /// Waiting to be claimed.
        Queued = "queued",
        /// Claimed under a lease.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// Failed for good; a person may retry it.
        Dead = "dead",
        /// Ended by request.
        Cancelled = "cancelled",
    }
}

/// Which claim of which row: what every fenced write is conditional on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowGrant {
    /// The row.
    pub id: RowId,
    /// Grows at each claim of this row.
    pub token: i64,
    /// The instance that it was granted to.
    pub holder: InstanceId,
}

/// What a process wants to claim.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest {
    /// The process.
    pub holder: InstanceId,
    /// At most this many rows.
    pub limit: u32,
    /// For this long.
    pub lease_ms: i64,
    /// Whether nothing of this queue runs in this process: only then is a row claimed whose
    /// process died before, and then alone, so that no innocent row dies with it.
    pub idle: bool,
}

/// Ends to write and rows to claim.
#[derive(Debug)]
pub struct Exchange<'e> {
    /// How rows ended.
    pub ends: &'e [SettledRow],
    /// What is to be claimed then.
    pub claim: Option<ClaimRequest>,
    /// Whether there are more rows asked for than places: none of them counts as begun then, but
    /// those whose process died with them before.
    pub ahead: bool,
}

/// What an [`Exchange`] did.
#[derive(Debug)]
pub struct Exchanged {
    /// As [`QueueRows::settle`].
    pub settled: Vec<RowGrant>,
    /// As [`QueueRows::claim`].
    pub claimed: Result<Claimed, StoreError>,
}

/// What a store allows a consumer to do ahead of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Whether rows may be claimed before there is a place for them.
    pub claims: bool,
    /// How many exchanges at once are worth it.
    pub exchanges: usize,
}

impl Default for Ahead {
    /// No claims, one exchange at a time.
    fn default() -> Self {
        Self { claims: false, exchanges: 1 }
    }
}

/// What a claim found.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The rows, in the order of the queue.
    pub rows: Vec<ClaimedRow>,
    /// Rows whose lease had expired and that are queued again.
    pub reclaimed: u64,
    /// Rows whose process died too often and that are dead now.
    pub quarantined: u64,
}

/// A claimed row.
#[derive(Debug)]
pub struct ClaimedRow {
    /// The claim.
    pub grant: RowGrant,
    /// Claims so far, this one included.
    pub attempt_count: i32,
    /// Claims that ended with the death of their process.
    pub crash_count: i32,
    /// After this many failures the row is dead.
    pub max_attempts: i32,
    /// What its handler's row is made of.
    pub columns: RowColumns,
}

/// The columns of a claimed row that its table names.
#[derive(Debug)]
pub enum RowColumns {
    /// As a SQL database answered them.
    Sql(sea_orm::QueryResult),
    /// By name, in a store without SQL.
    Values(serde_json::Map<String, serde_json::Value>),
}

impl RowColumns {
    /// The row that a handler takes.
    ///
    /// # Errors
    /// A column that is missing or is not of the row's type; every row of a store without SQL.
    pub fn read<R: sea_orm::FromQueryResult>(&self) -> Result<R, sea_orm::DbErr> {
        match self {
            Self::Sql(row) => R::from_query_result(row, ""),
            Self::Values(_) => Err(sea_orm::DbErr::Type(
                "a row of a store without SQL cannot be read through FromQueryResult".to_owned(),
            )),
        }
    }

    /// A column of text.
    ///
    /// # Errors
    /// There is no such column, or it is not text.
    pub fn text(&self, column: &str) -> Result<Option<String>, sea_orm::DbErr> {
        let wrong = || sea_orm::DbErr::Type(format!("column `{column}` is not there or no text"));
        match self {
            // A missing column would read as NULL.
            Self::Sql(row) if row.column_names().iter().any(|name| name == column) => {
                row.try_get("", column)
            }
            Self::Sql(_) => Err(wrong()),
            Self::Values(values) => match values.get(column).ok_or_else(wrong)? {
                serde_json::Value::Null => Ok(None),
                serde_json::Value::String(text) => Ok(Some(text.clone())),
                _ => Err(wrong()),
            },
        }
    }
}

/// A running row's progress.
#[derive(Debug, Clone)]
pub struct RowProgress {
    /// The claim.
    pub grant: RowGrant,
    /// Per cent, where there is news.
    pub progress_pct: Option<i64>,
}

/// A row that is still leased as granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewedRow {
    /// The claim.
    pub grant: RowGrant,
    /// Whether its lease was renewed. It was not where a transaction has the row locked, most often that
    /// of its own handler: the lease ends when it would have ended.
    pub is_renewed: bool,
    /// Whether somebody asks for it to end.
    pub cancel_requested: bool,
}

/// Whether one of them is there for others at once, as after a stop.
pub(crate) fn gives_back(ends: &[SettledRow]) -> bool {
    ends.iter().any(|row| row.status == RowStatus::Queued && row.delay_ms.is_none())
}

/// How a row ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledRow {
    /// The claim.
    pub grant: RowGrant,
    /// What it is now.
    pub status: RowStatus,
    /// Queued again: not before this many milliseconds from now.
    pub delay_ms: Option<i64>,
    /// The claim does not count as an attempt.
    pub give_attempt_back: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// What it produced, as JSON.
    pub result: Option<String>,
}
