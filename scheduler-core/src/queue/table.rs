//! Which table is a queue: its columns named once, checked before anything runs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::millis;
use crate::store::{Namespace, Topic};

/// A table as a queue: one of yours ([`new`](Self::new)), or the library's own `jobs`, which holds
/// many queues ([`jobs`](Self::jobs)). A table of yours needs these columns:
///
/// | column | type | meaning |
/// |---|---|---|
/// | `id` | integer or text key | |
/// | `status` | text | `queued`, `running`, `succeeded`, `dead`, `cancelled` |
/// | `priority` | integer | lower first |
/// | `run_at_ms` | bigint | not before; epoch milliseconds |
/// | `attempt_count`, `max_attempts`, `crash_count` | integer | |
/// | `leased_by` | text, null | the instance |
/// | `lease_token` | bigint | grows at each claim |
/// | `lease_expires_at_ms` | bigint, null | |
/// | `started`, `cancel_requested` | boolean | |
/// | `progress_pct` | integer or real | 0 to 100 |
/// | `last_error`, `result` | text, null | |
/// | `started_at_ms`, `completed_at_ms` | bigint, null | |
/// | `checkpoint` | text, null | if it is there, handlers can [keep one](super::QueueContext::checkpoint) |
/// | `lost_count` | integer | if it is there, rows are [claimed ahead](super::ConsumerOptions::prefetch) |
/// | `unique_key`, `unique_while` | text, null | if these four are there, rows can have [unique keys](super::Unique) |
/// | `unique_until_ms` | bigint, null | |
/// | `duplicate_count` | integer | |
/// | `created_at_ms` | bigint | if it is there, [`TableQueue`](super::TableQueue) writes it |
/// | `concurrency_slot` | integer, null | with [`limit_per_key`](Self::limit_per_key) |
/// | `queue_slot` | integer, null | with [`limit`](Self::limit) |
///
/// and these indexes, all partial, so that finished rows cost nothing: `(priority, run_at_ms, id)
/// WHERE status = 'queued'`; `(run_at_ms) WHERE status = 'queued' AND crash_count > 0`;
/// `(lease_expires_at_ms) WHERE status = 'running'`; and what makes the limits true, unique:
/// `(KEY, concurrency_slot) WHERE status = 'running'` and `(queue_slot) WHERE status = 'running'`; and for
/// unique keys, unique: `(unique_key) WHERE unique_key IS NOT NULL`. With
/// [`keep_finished_for`](Self::keep_finished_for): `(completed_at_ms) WHERE status IN ('succeeded',
/// 'cancelled')`. Many dead rows want `(id) WHERE status = 'dead'`.
///
/// ```
/// use scheduler_core::queue::QueueTable;
///
/// let table = QueueTable::new("backtest_jobs")
///     .text_ids()
///     .columns(["symbol", "graph"])
///     .limit(2)
///     .limit_per_key("user_id", 1);
/// assert!(table.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct QueueTable {
    pub(crate) name: String,
    /// Which part of the library's table it is.
    pub(crate) queue: Option<String>,
    /// What is claimed of that part; everything where there is none.
    pub(crate) kinds: Vec<(String, i32)>,
    pub(crate) text_ids: bool,
    pub(crate) columns: Vec<String>,
    pub(crate) limit: Option<u32>,
    pub(crate) key: Option<(String, u32)>,
    pub(crate) rate: Option<Rate>,
    /// Of each value of a column.
    pub(crate) key_rate: Option<(String, Rate)>,
    pub(crate) crash_limit: u32,
    /// Whether the table counts the rows that were lost unstarted, as it must to claim ahead.
    pub(crate) counts_lost: bool,
    /// Whether the table has a column for checkpoints.
    pub(crate) keeps_checkpoints: bool,
    /// Whether the table has the columns of unique keys.
    pub(crate) keeps_keys: bool,
    /// How long finished rows stay, where somebody said so.
    pub(crate) keep_ms: Option<i64>,
}

/// So many starts within any span of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) starts: u32,
    pub(crate) period_ms: i64,
}

/// Why a table cannot be a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A name that is not a plain identifier.
    #[error(
        "`{0}` is not a table or column name; expected a-z, 0-9 and `_`, not starting with a digit, at most 63 characters"
    )]
    Identifier(String),
    /// A queue's or a kind's name that is not one.
    #[error(
        "`{value}` is not a {what}; expected a-z, 0-9, `_`, `-` and `.`, at most 63 characters"
    )]
    Name {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// A limit of zero would never let a row run.
    #[error("`{0}` is 0; expected at least 1, or no limit")]
    ZeroLimit(&'static str),
    /// Columns are missing.
    #[error("table `{table}` cannot be a queue: it has no column {}", missing.join(", "))]
    MissingColumns {
        /// The table.
        table: String,
        /// The columns, each in backticks.
        missing: Vec<String>,
    },
    /// There is no such table.
    #[error("there is no table `{0}`; apply the migrations first")]
    Missing(String),
}

/// Columns that every queue has.
pub(crate) const COLUMNS: [&str; 17] = [
    "id",
    "status",
    "priority",
    "run_at_ms",
    "attempt_count",
    "max_attempts",
    "crash_count",
    "leased_by",
    "lease_token",
    "lease_expires_at_ms",
    "started",
    "cancel_requested",
    "progress_pct",
    "last_error",
    "result",
    "started_at_ms",
    "completed_at_ms",
];

/// What a row of the library's table needs besides.
const JOB_COLUMNS: [&str; 6] =
    ["queue", "lost_count", "unique_key", "unique_while", "unique_until_ms", "duplicate_count"];

/// What unique keys need.
pub(crate) const KEY_COLUMNS: [&str; 4] =
    ["unique_key", "unique_while", "unique_until_ms", "duplicate_count"];

/// The library's table.
const JOBS: &str = "jobs";

const LONGEST_IDENTIFIER: usize = 63;

impl QueueTable {
    /// The table `name`, with integer ids and no limits.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            queue: None,
            kinds: Vec::new(),
            text_ids: false,
            columns: Vec::new(),
            limit: None,
            key: None,
            rate: None,
            key_rate: None,
            crash_limit: 3,
            counts_lost: false,
            keeps_checkpoints: false,
            keeps_keys: false,
            keep_ms: None,
        }
    }

    /// One queue of the library's table `jobs`, whose rows are [`JobRow`](super::JobRow)s.
    ///
    /// Limits per key are counted by the column `concurrency_key`. What is claimed is of any kind,
    /// unless [`kind`](Self::kind) names some.
    #[must_use]
    pub fn jobs(queue: impl Into<String>) -> Self {
        let columns = ["kind", "payload", "payload_version", "checkpoint"];
        let columns = columns.map(str::to_owned).to_vec();
        Self {
            queue: Some(queue.into()),
            columns,
            counts_lost: true,
            keeps_checkpoints: true,
            keeps_keys: true,
            ..Self::new(JOBS)
        }
    }

    /// Of the library's table: rows of this kind are claimed, up to this version of their payload.
    /// What this host does not know, another kind or a newer version, is left to others.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>, newest_version: i32) -> Self {
        self.kinds.push((kind.into(), newest_version));
        self
    }

    /// The ids are text.
    #[must_use]
    pub fn text_ids(mut self) -> Self {
        self.text_ids = true;
        self
    }

    /// The columns that the handler's row is made of, besides `id`.
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = columns.into_iter().map(Into::into).collect();
        self
    }

    /// At most `limit` rows run at once over all hosts.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// At most `limit` rows with the same value in `column` run at once over all hosts; rows
    /// with NULL there are not limited.
    #[must_use]
    pub fn limit_per_key(mut self, column: impl Into<String>, limit: u32) -> Self {
        self.key = Some((column.into(), limit));
        self
    }

    /// At most `starts` rows start within any span of `period` over all hosts, by the database's
    /// clock; each start counts, a retry too. Rows beyond wait, and the queue asks again when the next
    /// can start. All hosts are to say the same.
    ///
    /// A start is noted in the library's table `queue_starts`, as long as its period lasts; each claim
    /// counts them, so `starts` should stay below some thousands.
    #[must_use]
    pub fn rate(mut self, starts: u32, period: Duration) -> Self {
        self.rate = Some(Rate { starts, period_ms: millis(period) });
        self
    }

    /// As [`rate`](Self::rate), for the rows with the same value in `column`; rows with NULL there have
    /// no rate.
    #[must_use]
    pub fn rate_per_key(
        mut self,
        column: impl Into<String>,
        starts: u32,
        period: Duration,
    ) -> Self {
        self.key_rate = Some((column.into(), Rate { starts, period_ms: millis(period) }));
        self
    }

    /// A row whose process died this often while it ran is dead (3 by default).
    #[must_use]
    pub fn crash_limit(mut self, crashes: u32) -> Self {
        self.crash_limit = crashes;
        self
    }

    /// Rows that succeeded or were cancelled are deleted by the queue's consumers when this span has
    /// passed; dead ones wait for a person. Without it, finished rows of your table are yours, and those of
    /// the library's are deleted after a week at the latest, whatever is said here.
    #[must_use]
    pub fn keep_finished_for(mut self, span: Duration) -> Self {
        self.keep_ms = Some(millis(span));
        self
    }

    /// Checks the names and the limits.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn validate(&self) -> Result<(), TableError> {
        let key = self.key.as_ref().map(|(column, _)| column);
        let rated = self.key_rate.as_ref().map(|(column, _)| column);
        for name in std::iter::once(&self.name).chain(&self.columns).chain(key).chain(rated) {
            if !is_identifier(name) {
                return Err(TableError::Identifier(name.clone()));
            }
        }
        if let Some(queue) = &self.queue {
            check_name("name of a queue", queue)?;
        }
        for (kind, _) in &self.kinds {
            check_name("kind", kind)?;
        }
        let limits = [
            ("limit", self.limit),
            ("limit_per_key", self.key.as_ref().map(|(_, limit)| *limit)),
            ("crash_limit", Some(self.crash_limit)),
            ("rate", self.rate.map(Rate::least)),
            ("rate_per_key", self.key_rate.as_ref().map(|(_, rate)| rate.least())),
        ];
        match limits.into_iter().find(|(_, limit)| *limit == Some(0)) {
            Some((name, _)) => Err(TableError::ZeroLimit(name)),
            None => Ok(()),
        }
    }

    /// The table as it stands in a statement: one of yours by its name.
    pub(crate) fn placed(&self, namespace: &Namespace) -> String {
        match self.queue {
            Some(_) => namespace.table(&self.name),
            None => self.name.clone(),
        }
    }

    /// Whether some rows must not run beside others, so that claims go one by one.
    pub(crate) fn is_limited(&self) -> bool {
        self.has_slots() || self.rate.is_some() || self.key_rate.is_some()
    }

    /// Whether the end of a row makes room for another.
    pub(crate) fn has_slots(&self) -> bool {
        self.limit.is_some() || self.key.is_some()
    }

    /// How long a start counts at most, where it counts.
    pub(crate) fn longest_period_ms(&self) -> Option<i64> {
        let rates = self.rate.iter().chain(self.key_rate.iter().map(|(_, rate)| rate));
        rates.map(|rate| rate.period_ms).max()
    }

    /// What there is news of when its rows change.
    pub(crate) fn topic(&self) -> Topic {
        Topic::Queue(match &self.queue {
            Some(queue) => format!("{}:{queue}", self.name),
            None => self.name.clone(),
        })
    }

    /// Checks that the table has every column that it needs.
    pub(crate) fn check(&self, present: &BTreeMap<String, String>) -> Result<(), TableError> {
        if present.is_empty() {
            return Err(TableError::Missing(self.name.clone()));
        }
        let key = self.key.as_ref().map(|(column, _)| column.as_str());
        let own = if self.queue.is_some() { &JOB_COLUMNS[..] } else { &[] };
        let missing: Vec<String> = COLUMNS
            .into_iter()
            .chain(own.iter().copied())
            .chain(key)
            .chain(key.map(|_| "concurrency_slot"))
            .chain(self.key_rate.as_ref().map(|(column, _)| column.as_str()))
            .chain(self.limit.map(|_| "queue_slot"))
            .chain(self.columns.iter().map(String::as_str))
            .filter(|column| !present.contains_key(*column))
            .map(|column| format!("`{column}`"))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(TableError::MissingColumns { table: self.name.clone(), missing })
        }
    }
}

impl Rate {
    /// Zero where the rate would never let a row start, or never count one.
    fn least(self) -> u32 {
        if self.period_ms == 0 { 0 } else { self.starts }
    }
}

pub(super) fn is_identifier(name: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty()
        && name.len() <= LONGEST_IDENTIFIER
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(known)
}

/// Names stand in statements as they are, so they must need no quoting.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), TableError> {
    let known =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ['_', '-', '.'].contains(&c);
    if name.is_empty() || name.len() > LONGEST_IDENTIFIER || !name.chars().all(known) {
        return Err(TableError::Name { what, value: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_queue_or_of_a_kind_never_needs_quotes() {
        for name in ["", "a'b", "A", "a:b", "a b", "ä", &"a".repeat(64)] {
            let queue = QueueTable::jobs(name).validate();
            assert!(matches!(queue, Err(TableError::Name { .. })), "{name}");
            let kind = QueueTable::jobs("mails").kind(name, 1).validate();
            assert!(matches!(kind, Err(TableError::Name { .. })), "{name}");
        }
        assert_eq!(QueueTable::jobs("e-mails.v2").kind("welcome_mail", 1).validate(), Ok(()));
    }

    #[test]
    fn a_name_that_is_no_identifier_never_reaches_sql() {
        for name in ["", "jobs; DROP TABLE jobs", "Jobs", "1st", "a-b", "\"jobs\"", "a.b"] {
            let error = QueueTable::new(name).validate().expect_err(name);
            assert_eq!(error, TableError::Identifier(name.to_owned()));
            assert!(QueueTable::new("jobs").columns([name]).validate().is_err());
            assert!(QueueTable::new("jobs").limit_per_key(name, 1).validate().is_err());
        }
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        let table = || QueueTable::new("jobs");
        assert_eq!(table().limit(0).validate(), Err(TableError::ZeroLimit("limit")));
        assert_eq!(
            table().limit_per_key("k", 0).validate(),
            Err(TableError::ZeroLimit("limit_per_key"))
        );
        let minute = Duration::from_secs(60);
        assert_eq!(table().rate(0, minute).validate(), Err(TableError::ZeroLimit("rate")));
        assert_eq!(table().rate(1, Duration::ZERO).validate(), Err(TableError::ZeroLimit("rate")));
        let never = table().rate_per_key("user_id", 0, minute).validate();
        assert_eq!(never, Err(TableError::ZeroLimit("rate_per_key")));
        assert!(table().rate_per_key("a b", 1, minute).validate().is_err());
        assert_eq!(table().crash_limit(0).validate(), Err(TableError::ZeroLimit("crash_limit")));
    }

    #[test]
    fn each_missing_column_is_named() {
        let table = QueueTable::new("jobs").limit(1).limit_per_key("user_id", 1).columns(["kind"]);
        let column = |name: &str| (name.to_owned(), String::new());
        let present: BTreeMap<_, _> = COLUMNS.into_iter().skip(1).map(column).collect();
        let error = table.check(&present).expect_err("columns are missing").to_string();
        for column in ["`id`", "`user_id`", "`concurrency_slot`", "`queue_slot`", "`kind`"] {
            assert!(error.contains(column), "{error}");
        }
        assert_eq!(table.check(&BTreeMap::new()), Err(TableError::Missing("jobs".into())));
    }
}
