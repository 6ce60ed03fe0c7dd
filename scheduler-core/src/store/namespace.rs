//! Under which names the library's tables stand in a database that others use, too.
//!
//! Statements and migrations are written with the bare names of [`TABLES`]; a namespace puts its
//! prefix or schema before each of them.

use std::borrow::Cow;
use std::sync::Arc;

/// The tables of the library: what is theirs in a statement is told by these names, so no column and
/// no alias has one of them.
pub(crate) const TABLES: [&str; 10] = [
    "instances",
    "schedules",
    "leases",
    "job_runs",
    "worker_heartbeats",
    "worker_instances",
    "dead_letters",
    "jobs",
    "queue_pauses",
    "queue_starts",
];

/// Leaves room for the names of indexes, and for that of a channel.
const LONGEST: usize = 30;

/// Where the library's tables are in a database: under their own names (the default), under a
/// [prefix](Self::prefix), or in a [schema](Self::schema) of a PostgreSQL database.
///
/// Two namespaces of one database know nothing of each other: jobs, leases, queues, dead letters,
/// wakes and the history of migrations are each one's own. Tables of yours that are
/// [queues](crate::queue::QueueTable::new) keep their names; each belongs to one namespace.
///
/// Apply the migrations with [`List::scheduler`](crate::migration::List::scheduler) and open the
/// tables with [`Store::in_namespace`](crate::Store::in_namespace):
///
/// ```
/// # #[cfg(all(feature = "sqlite", feature = "migration"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use scheduler_core::migration::{self, List};
/// use scheduler_core::store::Namespace;
/// use scheduler_core::{Scheduler, Store};
///
/// let database = sea_orm::Database::connect("sqlite::memory:").await?;
/// let namespace = Namespace::prefix("sched_")?;
/// migration::up(&database, &[List::scheduler(&namespace)]).await?;
/// let store = Store::from_connection(database).in_namespace(namespace)?;
/// let scheduler = Scheduler::new(store);
/// # Ok(()) }
/// # #[cfg(not(all(feature = "sqlite", feature = "migration")))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace(Place);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Bare,
    Prefix(Arc<str>),
    Schema(Arc<str>),
}

/// A prefix or a schema whose name cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is no {what}: expected a-z, 0-9 and `_`, not starting with a digit, with `pg_` or `sqlite_`, at most 30 characters"
)]
pub struct NamespaceError {
    /// What it should be.
    pub what: &'static str,
    /// What it is.
    pub value: String,
}

impl Namespace {
    pub(crate) const BARE: Self = Self(Place::Bare);

    /// Tables whose names begin with `prefix`, as in `sched_job_runs`. Their indexes do so, too.
    ///
    /// # Errors
    /// A prefix that is no plain identifier.
    pub fn prefix(prefix: impl Into<String>) -> Result<Self, NamespaceError> {
        Ok(Self(Place::Prefix(checked("prefix of tables", prefix.into())?)))
    }

    /// Tables in a schema of a PostgreSQL database, whatever the `search_path` of a connection is.
    /// [`migration::up`](crate::migration::up) creates it where it is not there. SQLite has none.
    ///
    /// # Errors
    /// A name that is no plain identifier.
    pub fn schema(schema: impl Into<String>) -> Result<Self, NamespaceError> {
        Ok(Self(Place::Schema(checked("schema", schema.into())?)))
    }

    /// The schema, if that is what it is.
    pub(crate) fn of_schema(&self) -> Option<&str> {
        match &self.0 {
            Place::Schema(schema) => Some(schema),
            Place::Bare | Place::Prefix(_) => None,
        }
    }

    /// The name in its place: what a table is called there, without its schema.
    pub(crate) fn called(&self, name: &str) -> String {
        match &self.0 {
            Place::Prefix(prefix) => format!("{prefix}{name}"),
            Place::Bare | Place::Schema(_) => name.to_owned(),
        }
    }

    /// The table as it stands in a statement.
    pub(crate) fn table(&self, name: &str) -> String {
        match &self.0 {
            Place::Schema(schema) => format!("\"{schema}\".{name}"),
            Place::Bare | Place::Prefix(_) => self.called(name),
        }
    }

    /// What belongs to the whole library gets a name for this namespace. The bare one stays as it is,
    /// as older versions know it.
    pub(crate) fn name_of(&self, common: &str) -> String {
        match &self.0 {
            Place::Bare => common.to_owned(),
            Place::Prefix(prefix) => format!("{common}_{prefix}"),
            Place::Schema(schema) => format!("{common}.{schema}"),
        }
    }

    /// The same of the number of an advisory lock.
    pub(crate) fn lock(&self, common: i64) -> i64 {
        let namespace = self.name_of("");
        namespace.bytes().fold(common, |lock, byte| (lock << 5) ^ lock ^ i64::from(byte))
    }

    /// A statement that names the tables of the library, with the names that they have here. Literals
    /// and quoted names are left alone. Costs nothing where the names are their own.
    pub(crate) fn apply<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        if self.0 == Place::Bare {
            return Cow::Borrowed(sql);
        }
        let mut applied = String::with_capacity(sql.len() + 64);
        let mut of_an_index = false;
        let mut rest = sql;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '\'' | '"' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
                _ if is_of_a_word(first) => {
                    rest.find(|next| !is_of_a_word(next)).unwrap_or(rest.len())
                }
                _ => first.len_utf8(),
            };
            let (token, after) = rest.split_at(length);
            rest = after;
            if !is_of_a_word(first) {
                applied.push_str(token);
                continue;
            }
            let between = ["CONCURRENTLY", "IF", "NOT", "EXISTS"].contains(&token);
            if of_an_index && !between {
                applied.push_str(&self.called(token));
            } else if TABLES.contains(&token) {
                applied.push_str(&self.table(token));
            } else {
                applied.push_str(token);
            }
            of_an_index = token == "INDEX" || (of_an_index && between);
        }
        Cow::Owned(applied)
    }
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn checked(what: &'static str, value: String) -> Result<Arc<str>, NamespaceError> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_right = !value.is_empty()
        && value.len() <= LONGEST
        && !value.starts_with(|c: char| c.is_ascii_digit())
        && !value.starts_with("pg_")
        && !value.starts_with("sqlite_")
        && value.chars().all(known);
    if is_right { Ok(value.into()) } else { Err(NamespaceError { what, value }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_identifier_never_reaches_sql() {
        let long = "a".repeat(LONGEST + 1);
        for name in ["", "1st_", "Sched_", "a-b", "a.b", "a b", "\"", "pg_own", "sqlite_x", &long] {
            let error = NamespaceError { what: "schema", value: name.to_owned() };
            assert_eq!(Namespace::schema(name), Err(error));
            assert!(Namespace::prefix(name).is_err(), "{name}");
        }
        for name in ["s", "sched_", "_x1", &"a".repeat(LONGEST)] {
            assert!(Namespace::prefix(name).is_ok() && Namespace::schema(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn tables_and_indexes_get_their_names_and_nothing_else_does() {
        let prefix = Namespace::prefix("p_").unwrap();
        let schema = Namespace::schema("order").unwrap();
        for (bare, prefixed, in_schema) in [
            ("SELECT job FROM jobs", "SELECT job FROM p_jobs", "SELECT job FROM \"order\".jobs"),
            (
                "UPDATE leases SET token = leases.token + 1 WHERE leased_by = 'leases'",
                "UPDATE p_leases SET token = p_leases.token + 1 WHERE leased_by = 'leases'",
                "UPDATE \"order\".leases SET token = \"order\".leases.token + 1 WHERE leased_by = 'leases'",
            ),
            (
                "INSERT INTO jobs AS t (\"jobs\") VALUES ('it''s of jobs', $1)",
                "INSERT INTO p_jobs AS t (\"jobs\") VALUES ('it''s of jobs', $1)",
                "INSERT INTO \"order\".jobs AS t (\"jobs\") VALUES ('it''s of jobs', $1)",
            ),
            (
                "CREATE UNIQUE INDEX jobs_unique ON jobs (queue);CREATE INDEX IF NOT EXISTS leases ON leases (name)",
                "CREATE UNIQUE INDEX p_jobs_unique ON p_jobs (queue);CREATE INDEX IF NOT EXISTS p_leases ON p_leases (name)",
                "CREATE UNIQUE INDEX jobs_unique ON \"order\".jobs (queue);CREATE INDEX IF NOT EXISTS leases ON \"order\".leases (name)",
            ),
            ("SELECT 'ä' FROM my_jobs", "SELECT 'ä' FROM my_jobs", "SELECT 'ä' FROM my_jobs"),
            ("SELECT 'without end", "SELECT 'without end", "SELECT 'without end"),
        ] {
            assert_eq!(Namespace::default().apply(bare), bare);
            assert_eq!(prefix.apply(bare), prefixed);
            assert_eq!(schema.apply(bare), in_schema);
        }
    }

    #[test]
    fn what_is_common_has_another_name_in_each_namespace() {
        let names = [
            Namespace::default(),
            Namespace::prefix("a").unwrap(),
            Namespace::prefix("b").unwrap(),
            Namespace::schema("a").unwrap(),
        ];
        let names: std::collections::BTreeSet<_> =
            names.iter().map(|namespace| namespace.name_of("scheduler_core")).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains("scheduler_core"));
    }
}
