//! What stands in a store, for the assertions of a test.

use std::fmt;

use async_trait::async_trait;

use super::{MemoryStore, QueueRow, RunRow};
use crate::error::StoreError;
use crate::run::RunStatus;
use crate::store::{RowStatus, Store};

/// A store whose rows a test reads: [`Store`] and [`MemoryStore`].
#[async_trait]
pub trait Evidence: Send + Sync {
    /// The runs of a job, oldest slot first, then by attempt and trigger.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn runs_of(&self, job: &str) -> Result<Vec<RunRow>, StoreError>;

    /// The rows of a queue's table by key, without the columns that are the table's own; those of one
    /// queue of the library's table as `jobs:QUEUE`.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn rows_of(&self, table: &str) -> Result<Vec<QueueRow>, StoreError>;
}

#[async_trait]
impl Evidence for MemoryStore {
    async fn runs_of(&self, job: &str) -> Result<Vec<RunRow>, StoreError> {
        Ok(self.runs(job).await)
    }

    async fn rows_of(&self, table: &str) -> Result<Vec<QueueRow>, StoreError> {
        Ok(self.rows(table).await)
    }
}

#[async_trait]
impl Evidence for Store {
    async fn runs_of(&self, job: &str) -> Result<Vec<RunRow>, StoreError> {
        self.list_runs(job).await
    }

    async fn rows_of(&self, table: &str) -> Result<Vec<QueueRow>, StoreError> {
        self.list_rows(table).await
    }
}

/// The runs of a job as they stand in a store. A failed assertion shows all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    job: String,
    rows: Vec<RunRow>,
}

impl Runs {
    /// Reads them.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    pub async fn of(store: &impl Evidence, job: &str) -> Result<Self, StoreError> {
        Ok(Self { job: job.to_owned(), rows: store.runs_of(job).await? })
    }

    /// All of them, oldest slot first.
    #[must_use]
    pub fn rows(&self) -> &[RunRow] {
        &self.rows
    }

    /// The last attempt of the slot (epoch milliseconds) has succeeded.
    ///
    /// # Panics
    /// It has not.
    #[track_caller]
    pub fn assert_ran(&self, slot_ms: i64) {
        self.assert_slot(slot_ms, RunStatus::Succeeded);
    }

    /// The slot is recorded as missed, alone or among others.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn assert_missed(&self, slot_ms: i64) {
        self.assert_slot(slot_ms, RunStatus::Missed);
    }

    /// The last that was recorded of the slot is this.
    ///
    /// # Panics
    /// It is something else, or nothing.
    #[track_caller]
    pub fn assert_slot(&self, slot_ms: i64, status: RunStatus) {
        let of_slot = |row: &&RunRow| {
            (row.scheduled_for_ms..=row.missed_until_ms.unwrap_or(row.scheduled_for_ms))
                .contains(&slot_ms)
        };
        let found = self.rows.iter().rev().find(of_slot).map(|row| row.status);
        let slot = time(slot_ms);
        match found {
            Some(found) if found == status => {}
            Some(found) => panic!("{slot} is {found}, expected {status}\n{self}"),
            None => panic!("{slot} is not there, expected {status}\n{self}"),
        }
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "runs of {}:", self.job)?;
        for row in &self.rows {
            let RunRow { trigger, attempt, status, .. } = row;
            write!(f, "  {}  {status}", time(row.scheduled_for_ms))?;
            if let (Some(count), Some(until_ms)) = (row.missed_count, row.missed_until_ms) {
                write!(f, ", {count} until {}", time(until_ms))?;
            } else {
                write!(f, ", {trigger}, attempt {attempt}")?;
            }
            if let Some(started_ms) = row.started_at_ms {
                write!(f, ", began {}", time(started_ms))?;
            }
            if let Some(error) = &row.error {
                write!(f, ": {error}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The rows of a queue's table as they stand in a store. A failed assertion shows all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    table: String,
    rows: Vec<QueueRow>,
}

impl Rows {
    /// Reads them.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    pub async fn of(store: &impl Evidence, table: &str) -> Result<Self, StoreError> {
        Ok(Self { table: table.to_owned(), rows: store.rows_of(table).await? })
    }

    /// All of them, by key.
    #[must_use]
    pub fn rows(&self) -> &[QueueRow] {
        &self.rows
    }

    /// The row with this key waits to be claimed.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn assert_enqueued(&self, id: impl fmt::Display) {
        self.assert_row(id, RowStatus::Queued);
    }

    /// The row with this key has succeeded.
    ///
    /// # Panics
    /// It has not.
    #[track_caller]
    pub fn assert_succeeded(&self, id: impl fmt::Display) {
        self.assert_row(id, RowStatus::Succeeded);
    }

    /// The row with this key has failed for good.
    ///
    /// # Panics
    /// It has not.
    #[track_caller]
    pub fn assert_dead(&self, id: impl fmt::Display) {
        self.assert_row(id, RowStatus::Dead);
    }

    /// The row with this key stands so.
    ///
    /// # Panics
    /// It stands otherwise, or is not there.
    #[track_caller]
    pub fn assert_row(&self, id: impl fmt::Display, status: RowStatus) {
        let id = id.to_string();
        match self.rows.iter().find(|row| row.id.to_string() == id).map(|row| row.status) {
            Some(found) if found == status => {}
            Some(found) => panic!("row {id} is {found}, expected {status}\n{self}"),
            None => panic!("row {id} is not there, expected {status}\n{self}"),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rows of {}:", self.table)?;
        for row in &self.rows {
            let QueueRow { id, status, attempt_count, max_attempts, crash_count, .. } = row;
            write!(f, "  {id}  {status}, attempt {attempt_count} of {max_attempts}")?;
            if *crash_count > 0 {
                write!(f, ", {crash_count} crashes")?;
            }
            if *status == RowStatus::Queued {
                write!(f, ", not before {}", time(row.run_at_ms))?;
            }
            if let Some(error) = &row.last_error {
                write!(f, ": {error}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// UTC, with the milliseconds since the epoch that a test compares.
fn time(at_ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
    format!("{} ({at_ms})", at.format("%F %T%.3f"))
}
