//! What an operator says about a job at run time: pause, resume, another cadence, a run now.
//!
//! It is written into the job's schedule row with a new generation, so that a host that saw the row
//! before loses its next firing. Every host sees it at its next look, at most five seconds later.

use async_trait::async_trait;

use super::ScheduleRow;
use crate::cadence::Cadence;
use crate::error::StoreError;
use crate::run::RunId;

/// The operator's part of `schedules`.
#[async_trait]
pub trait ScheduleControl {
    /// Has a job not fire, or fire again at the first slot after now: what came while it was paused
    /// is no miss. Runs that are under way go on. To pause a paused job, or to resume one that is not,
    /// changes nothing. Answers whether there is such a job.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn set_paused(&self, job: &str, paused: bool) -> Result<bool, StoreError>;

    /// Gives a job another cadence than its definition's, until `None` takes it back, on a grid from
    /// now. It outlives restarts and changed definitions. Answers whether there is such a job.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn set_cadence(&self, job: &str, cadence: Option<&Cadence>) -> Result<bool, StoreError>;

    /// Asks for one run of a job, now, on whichever host has it: at its next look, at most five seconds
    /// later, or when the run that is under way has ended. It is a run by hand: it ignores due time and
    /// pause and moves no slot. The request stands until a host that has the job takes it up.
    ///
    /// Answers the id that the run will have in `job_runs`; that of the request before, when it was not
    /// taken up yet. `None` when there is no such job.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn request_run(&self, job: &str) -> Result<Option<RunId>, StoreError>;
}

/// What an operator changes.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Paused(bool),
    Cadence(Option<Cadence>),
}

impl Wish {
    /// The row as it is to be from now on. A row that does not say when its job is due, as that of a
    /// job of scope Instance, goes on not to.
    pub(crate) fn grant(&self, row: ScheduleRow, now_ms: i64) -> Result<ScheduleRow, StoreError> {
        if let Self::Paused(paused) = self
            && *paused == row.paused
        {
            return Ok(row);
        }
        let defined = cadence_of(&row.cadence)?;
        let due_by_row = row.next_due_at_ms.is_some() || defined == Cadence::Manual;
        let mut row = row;
        row.generation += 1;
        match self {
            Self::Paused(true) => {
                row.paused = true;
                return Ok(row);
            }
            Self::Paused(false) => row.paused = false,
            Self::Cadence(cadence) => {
                row.cadence_override = cadence.as_ref().map(ToString::to_string);
                row.anchor_ms = now_ms;
            }
        }
        let wins = match &row.cadence_override {
            Some(cadence) => cadence_of(cadence)?,
            None => defined,
        };
        let next = wins.next_after(row.anchor_ms, now_ms).filter(|_| due_by_row);
        row.next_due_at_ms = next;
        Ok(row)
    }
}

fn cadence_of(text: &str) -> Result<Cadence, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt {
        table: "schedules".into(),
        column: "cadence",
        value: text.to_owned(),
        expected: "a cadence that this version knows",
    })
}
