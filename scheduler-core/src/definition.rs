//! The facts about a job, as plain data: a registration reads like a row of a table.

use std::sync::Arc;
use std::time::Duration;

use crate::cadence::{Cadence, CadenceError};
use crate::clock::millis;
use crate::plan::{Jitter, Policies};
use crate::recorder::{HeartbeatRecorder, Recorder};

/// What is true of a job besides what it does.
///
/// ```
/// use std::time::Duration;
/// use scheduler_core::{Cadence, JobDefinition, Misfire};
///
/// let definition = JobDefinition {
///     timeout: Some(Duration::from_secs(30)),
///     misfire: Misfire::Skip,
///     ..JobDefinition::new("prune_sessions", Cadence::every(Duration::from_secs(60)))
/// };
/// assert!(definition.validate().is_ok());
/// ```
#[derive(Clone)]
pub struct JobDefinition {
    /// The name in every table, log line and route: `[a-z0-9_.-]`, at most 100 characters.
    pub name: String,
    /// One sentence for operators.
    pub description: String,
    /// When it is due.
    pub cadence: Cadence,
    /// Whether it runs right after a start.
    pub start: StartPolicy,
    /// What happens to a slot that comes while the previous run is under its lease.
    pub overlap: Overlap,
    /// How many runs may go on at once over all hosts with [`Overlap::Allow`]: runs that end later than
    /// others begin must not pile up without a bound.
    pub overlap_limit: u32,
    /// What happens to slots that passed while nobody ran.
    pub misfire: Misfire,
    /// Slots fire up to this much later than their time, so that jobs and hosts of many do not all
    /// come at once. The delay depends on the job and the slot alone, ends before the next slot, and
    /// changes nothing about the slot's own time. A start is not delayed.
    pub jitter: Option<Duration>,
    /// A slot that could have fired longer ago than this is a miss and does not run, whatever
    /// `misfire` says.
    pub lateness_limit: Option<Duration>,
    /// What happens to a slot whose run was cut off by a crash or a stop.
    pub on_interrupt: OnInterrupt,
    /// One run per slot over all hosts, or one in each process.
    pub scope: Scope,
    /// Which runs leave a row.
    pub history: History,
    /// The hard deadline of a run: it is cancelled, then aborted, and recorded as timed out.
    pub timeout: Option<Duration>,
    /// How long a lease lives without a renewal; it is renewed at a third of this.
    pub lease: Duration,
    /// Where runs are written besides `job_runs`.
    pub recorder: Arc<dyn Recorder>,
}

/// Whether a job runs when its process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartPolicy {
    /// At once, when the last fire is at least one interval (or span between two cron slots) old:
    /// one run for the whole cluster.
    #[default]
    Immediate,
    /// At the next slot.
    NextSlot,
}

/// What happens to a slot that comes while the previous run is under its lease. Other policies than
/// `Skip` are for jobs of scope Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overlap {
    /// It is skipped, and recorded as such.
    #[default]
    Skip,
    /// It waits for the end of the run. Of several that wait the newest runs, the others are skipped.
    BufferOne,
    /// The same, and the run is cancelled, which it learns within five seconds. They never run beside
    /// each other.
    Replace,
    /// It runs beside the others, each run under a lease of its own, up to
    /// [`overlap_limit`](JobDefinition::overlap_limit) at once over all hosts; a slot that comes when
    /// so many run is skipped, and recorded as such.
    Allow,
}

/// What happens to slots that passed while nobody ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Misfire {
    /// The newest slot runs; the others become one `missed` row.
    #[default]
    FireOnce,
    /// None of them runs: one `missed` row for all.
    Skip,
    /// They run one after another, the oldest first, each under its own time. Those that cannot run
    /// at once wait in the schedule row, for whoever ends a run or takes over.
    ///
    /// While slots wait, a slot that comes waits behind them, whatever [`Overlap`] says; when
    /// `at_most` wait already, it is a miss. What waits survives a crash, a pause (which holds it) and
    /// a changed definition or cadence; a [lateness limit](JobDefinition::lateness_limit) makes it a
    /// miss when its turn comes too late. For jobs of scope Cluster.
    FireAll {
        /// How many of the slots that passed run, 1 to 1,000; the newer ones are one `missed` row.
        at_most: u32,
    },
}

/// What happens to a slot whose run was cut off by a crash or a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnInterrupt {
    /// The slot runs again, at most this many times.
    Rerun {
        /// Reruns after the first attempt.
        max: u32,
    },
    /// The slot is left as it is.
    Leave,
}

impl Default for OnInterrupt {
    fn default() -> Self {
        Self::Rerun { max: 1 }
    }
}

impl OnInterrupt {
    /// Whether a slot may run again after this many attempts.
    #[must_use]
    pub fn allows_another(self, attempts: i32) -> bool {
        match self {
            Self::Rerun { max } => i64::from(attempts) <= i64::from(max),
            Self::Leave => false,
        }
    }
}

/// Over what a slot is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Scope {
    /// One run per slot over all hosts.
    #[default]
    Cluster,
    /// Each process runs it, on its own grid.
    Instance,
}

/// Which runs leave a row in `job_runs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum History {
    /// Every run.
    All,
    /// Runs under way, failures, misses and skips; the row of a success is deleted.
    FailuresAndMisses,
    /// None, and no statement at all: slots fire on the clock of their process, runs have no lease in the
    /// database, and their heartbeat is rolled up every five seconds. For jobs of scope Instance. Misses
    /// and skips are [events](crate::Event) and figures only, [`Lease::fence`](crate::Lease::fence)
    /// refuses, the recorder is told of the job and not of its runs. A run by hand is as with
    /// `FailuresAndMisses`.
    None,
}

/// The longest a job's name may be.
const LONGEST_NAME: usize = 100;
/// Intervals from this on keep every run by default.
const FULL_HISTORY_FROM: Duration = Duration::from_secs(10);
/// The most slots that may wait to be caught up: they stand in the schedule row.
const MOST_CAUGHT_UP: u32 = 1_000;
/// Runs at once, unless the definition says otherwise.
const OVERLAP_LIMIT: u32 = 10;
/// A lease shorter than this cannot be renewed in time by a busy host.
const SHORTEST_LEASE: Duration = Duration::from_millis(300);

impl JobDefinition {
    /// A job with the default policies: it runs once per slot over all hosts, under a lease of
    /// 30 s, without a deadline. An interval starts at once, a cron expression at its slot.
    #[must_use]
    pub fn new(name: impl Into<String>, cadence: Cadence) -> Self {
        let often =
            cadence.spacing_ms(0).is_some_and(|span_ms| span_ms < millis(FULL_HISTORY_FROM));
        let history = if often { History::FailuresAndMisses } else { History::All };
        let start = match cadence {
            Cadence::Every(_) => StartPolicy::Immediate,
            Cadence::Cron(_) | Cadence::Manual => StartPolicy::NextSlot,
        };
        Self {
            name: name.into(),
            description: String::new(),
            cadence,
            start,
            overlap: Overlap::default(),
            overlap_limit: OVERLAP_LIMIT,
            misfire: Misfire::default(),
            jitter: None,
            lateness_limit: None,
            on_interrupt: OnInterrupt::default(),
            scope: Scope::default(),
            history,
            timeout: None,
            lease: Duration::from_secs(30),
            recorder: Arc::new(HeartbeatRecorder),
        }
    }

    /// Checks every field; [`register`](crate::Scheduler::register) calls it.
    ///
    /// # Errors
    /// The first field that is wrong, with its value and what would be right.
    pub fn validate(&self) -> Result<(), DefinitionError> {
        let job = || self.name.clone();
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || !self.name.chars().all(known) {
            return Err(DefinitionError::Name(self.name.clone()));
        }
        self.cadence
            .validate()
            .map_err(|source| DefinitionError::Cadence { job: job(), source })?;
        if self.lease < SHORTEST_LEASE {
            return Err(DefinitionError::LeaseTooShort { job: job(), lease: self.lease });
        }
        if self.scope == Scope::Instance && self.overlap != Overlap::Skip {
            return Err(DefinitionError::Overlap { job: job(), overlap: self.overlap });
        }
        if self.overlap == Overlap::Allow && self.overlap_limit == 0 {
            return Err(DefinitionError::OverlapLimit { job: job() });
        }
        if let Misfire::FireAll { at_most } = self.misfire {
            if !(1..=MOST_CAUGHT_UP).contains(&at_most) {
                return Err(DefinitionError::AtMost { job: job(), at_most });
            }
            if self.scope == Scope::Instance {
                return Err(DefinitionError::Misfire { job: job(), misfire: self.misfire });
            }
        }
        if self.history == History::None && self.scope == Scope::Cluster {
            return Err(DefinitionError::History { job: job() });
        }
        for (field, span) in [
            ("timeout", self.timeout),
            ("jitter", self.jitter),
            ("lateness_limit", self.lateness_limit),
        ] {
            if span.is_some_and(|span| span < Duration::from_millis(1)) {
                return Err(DefinitionError::ZeroSpan { job: job(), field });
            }
        }
        Ok(())
    }

    pub(crate) fn policies(&self) -> Policies {
        let key = fnv1a(self.name.as_bytes());
        Policies {
            misfire: self.misfire,
            lateness_limit: self.lateness_limit,
            jitter: self.jitter.map(|longest| Jitter { key, longest }),
        }
    }

    /// A fingerprint of what the schedule row depends on: a change of it at a start rewrites the
    /// row's cadence, anchor and next due time.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{:016x}", fnv1a(self.in_the_row().as_bytes()))
    }

    /// What the schedule row depends on, for people.
    pub(crate) fn in_the_row(&self) -> String {
        format!("{}|{:?}|{:?}", self.cadence, self.start, self.scope)
    }

    pub(crate) fn lease_ms(&self) -> i64 {
        millis(self.lease)
    }
}

impl std::fmt::Debug for JobDefinition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobDefinition")
            .field("name", &self.name)
            .field("cadence", &self.cadence)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Why a definition is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// A name that cannot stand in tables and routes.
    #[error("job name `{0}` is refused; expected 1 to 100 characters of a-z, 0-9, `_`, `.`, `-`")]
    Name(String),
    /// A cadence that never fires or always does.
    #[error("the cadence of job `{job}` is refused")]
    Cadence {
        /// The job.
        job: String,
        /// What is wrong.
        #[source]
        source: CadenceError,
    },
    /// A lease that a busy host could not renew in time.
    #[error(
        "the lease of job `{job}` is {lease:?}; expected at least 300 ms, as it is renewed at a third of its length"
    )]
    LeaseTooShort {
        /// The job.
        job: String,
        /// The length asked for.
        lease: Duration,
    },
    /// An overlap policy that a job of scope Instance cannot have.
    #[error(
        "`overlap` of job `{job}` is {overlap:?}; expected Skip, as a job of scope Instance has one run at a time and keeps no slot waiting"
    )]
    Overlap {
        /// The job.
        job: String,
        /// The policy asked for.
        overlap: Overlap,
    },
    /// Runs beside each other, and none at once.
    #[error("`overlap_limit` of job `{job}` is 0; expected at least 1 run at once")]
    OverlapLimit {
        /// The job.
        job: String,
    },
    /// A misfire policy that a job of scope Instance cannot have.
    #[error(
        "`misfire` of job `{job}` is {misfire:?}; expected FireOnce or Skip, as a job of scope Instance keeps no slot waiting"
    )]
    Misfire {
        /// The job.
        job: String,
        /// The policy asked for.
        misfire: Misfire,
    },
    /// A job of scope Cluster without the rows by which hosts agree.
    #[error(
        "`history` of job `{job}` is None; expected All or FailuresAndMisses, as hosts of a job of scope Cluster agree by its rows"
    )]
    History {
        /// The job.
        job: String,
    },
    /// No slot, or too many, to catch up.
    #[error("`at_most` of job `{job}` is {at_most}; expected 1 to 1,000 slots to catch up")]
    AtMost {
        /// The job.
        job: String,
        /// The number asked for.
        at_most: u32,
    },
    /// A span of zero.
    #[error("`{field}` of job `{job}` is zero; expected at least 1 ms, or none")]
    ZeroSpan {
        /// The job.
        job: String,
        /// The field.
        field: &'static str,
    },
}

/// FNV-1a, 64 bits: stable over versions and platforms, which std's hasher does not promise.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutely(name: &str) -> JobDefinition {
        JobDefinition::new(name, Cadence::every(Duration::from_secs(60)))
    }

    #[test]
    fn each_wrong_field_is_named() {
        let zero = Some(Duration::ZERO);
        let every = |at_most| Misfire::FireAll { at_most };
        let cases: [(JobDefinition, &str); 13] = [
            (minutely(""), "job name ``"),
            (minutely("Mark To Market"), "job name `Mark To Market`"),
            (JobDefinition::new("a", Cadence::every(Duration::ZERO)), "cadence of job `a`"),
            (
                JobDefinition { lease: Duration::from_millis(10), ..minutely("a") },
                "lease of job `a`",
            ),
            (JobDefinition { timeout: zero, ..minutely("a") }, "`timeout` of job `a`"),
            (
                JobDefinition {
                    scope: Scope::Instance,
                    overlap: Overlap::Replace,
                    ..minutely("a")
                },
                "`overlap` of job `a` is Replace",
            ),
            (
                JobDefinition { overlap: Overlap::Allow, overlap_limit: 0, ..minutely("a") },
                "`overlap_limit` of job `a` is 0",
            ),
            (JobDefinition { history: History::None, ..minutely("a") }, "`history` of job `a`"),
            (JobDefinition { misfire: every(0), ..minutely("a") }, "`at_most` of job `a` is 0"),
            (JobDefinition { misfire: every(1_001), ..minutely("a") }, "`at_most` of job `a`"),
            (
                JobDefinition { scope: Scope::Instance, misfire: every(1), ..minutely("a") },
                "`misfire` of job `a` is FireAll",
            ),
            (JobDefinition { jitter: zero, ..minutely("a") }, "`jitter` of job `a`"),
            (
                JobDefinition { lateness_limit: zero, ..minutely("a") },
                "`lateness_limit` of job `a`",
            ),
        ];
        for (definition, expected) in cases {
            let error = definition.validate().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(minutely("prop_mark_to_market").validate(), Ok(()));
    }

    #[test]
    fn short_intervals_keep_only_failures_by_default() {
        assert_eq!(minutely("a").history, History::All);
        let short = JobDefinition::new("a", Cadence::every(Duration::from_secs(9)));
        assert_eq!(short.history, History::FailuresAndMisses);
        let often = Cadence::cron("*/5 * * * * *", "UTC").unwrap();
        assert_eq!(JobDefinition::new("a", often).history, History::FailuresAndMisses);
    }

    #[test]
    fn an_interval_starts_at_once_and_a_cron_expression_at_its_slot() {
        assert_eq!(minutely("a").start, StartPolicy::Immediate);
        let daily = JobDefinition::new("a", Cadence::cron("0 9 * * *", "Europe/Berlin").unwrap());
        assert_eq!((daily.start, daily.history), (StartPolicy::NextSlot, History::All));
    }

    #[test]
    fn a_slot_reruns_once_by_default() {
        let policy = OnInterrupt::default();
        assert!(policy.allows_another(1) && !policy.allows_another(2));
        assert!(!OnInterrupt::Leave.allows_another(1));
    }
}
