//! What an operator says about a job at run time: pause, resume, another cadence, a run now.
//!
//! It is written into the job's schedule row with a new generation, so that a host that saw the row
//! before loses its next firing. Every host sees it at its next look, at most five seconds later.

use async_trait::async_trait;

use super::ScheduleRow;
use crate::cadence::Cadence;
use crate::error::StoreError;
use crate::plan::{Due, Missed, given_up};
use crate::run::RunId;

/// The operator's part of `schedules`.
#[async_trait]
pub trait ScheduleControl {
    /// Has a job not fire, or fire again at the first slot after now: what comes while it is paused
    /// is no miss. What was due before the pause and did not fire is recorded as one. Runs that are
    /// under way go on. To pause a paused job, or to resume one that is not,
    /// changes nothing. Answers whether there is such a job.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn set_paused(&self, job: &str, paused: bool) -> Result<bool, StoreError>;

    /// Gives a job another cadence than its definition's, until `None` takes it back, on a grid from
    /// now. It outlives restarts and changed definitions. What was due on the grid before and did not
    /// fire is recorded as missed. Answers whether there is such a job.
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

/// What a wish comes to.
#[derive(Debug)]
pub(crate) struct Granted {
    /// The row as it is to be from now on.
    pub(crate) row: ScheduleRow,
    /// The slots that are due by now and do not fire any more.
    pub(crate) given_up: Option<Missed>,
}

impl Wish {
    /// What becomes of a row. One that does not say when its job is due, as that of a job of scope Instance, goes
    /// on not to.
    pub(crate) fn grant(&self, row: ScheduleRow, now_ms: i64) -> Result<Granted, StoreError> {
        if let Self::Paused(paused) = self
            && *paused == row.paused
        {
            return Ok(Granted { row, given_up: None });
        }
        let given_up = row.gives_up(now_ms)?;
        let defined = cadence_of(&row.cadence)?;
        let due_by_row = row.next_due_at_ms.is_some() || defined == Cadence::Manual;
        let mut row = row;
        row.generation += 1;
        match self {
            Self::Paused(paused) => row.paused = *paused,
            Self::Cadence(cadence) => {
                row.cadence_override = cadence.as_ref().map(ToString::to_string);
                row.anchor_ms = now_ms;
            }
        }
        let next = row.cadence_in_force()?.next_after(row.anchor_ms, now_ms);
        row.next_due_at_ms = next.filter(|_| due_by_row);
        Ok(Granted { row, given_up })
    }
}

impl ScheduleRow {
    /// What is due by now and will not fire, if its grid ends or stands still now.
    pub(crate) fn gives_up(&self, now_ms: i64) -> Result<Option<Missed>, StoreError> {
        let Some(next_due_at_ms) = self.next_due_at_ms.filter(|_| !self.paused) else {
            return Ok(None);
        };
        let due = Due {
            anchor_ms: self.anchor_ms,
            next_due_at_ms,
            last_fired_for_ms: self.last_fired_for_ms,
        };
        Ok(given_up(due, &self.cadence_in_force()?, now_ms))
    }

    fn cadence_in_force(&self) -> Result<Cadence, StoreError> {
        cadence_of(self.cadence_override.as_ref().unwrap_or(&self.cadence))
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
