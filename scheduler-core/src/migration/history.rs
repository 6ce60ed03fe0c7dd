//! What a database has of a list, what it lacks, and what this program does not know.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

/// A migration of a list, applied by [`up`](super::up) or still pending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The history table of its list.
    pub list: String,
    /// The migration's name.
    pub name: String,
}

/// How a database stands to this program's migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// One entry per list, in the order in which the lists are applied.
    pub lists: Vec<ListStatus>,
}

impl Status {
    /// Whether nothing is pending and nothing is unknown.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.lists.iter().all(|list| list.pending.is_empty() && list.unknown.is_empty())
    }

    /// The names applied by a newer program, over all lists.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        self.lists.iter().flat_map(|list| list.unknown.iter().cloned()).collect()
    }

    /// What is still to be applied, in order.
    #[must_use]
    pub fn pending(&self) -> Vec<Applied> {
        self.lists
            .iter()
            .flat_map(|list| {
                let named = |name: &String| Applied { list: list.list.clone(), name: name.clone() };
                list.pending.iter().map(named)
            })
            .collect()
    }
}

/// One list's part of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListStatus {
    /// The history table.
    pub list: String,
    /// Known and applied, in the list's order.
    pub applied: Vec<String>,
    /// Known and not applied, in the list's order.
    pub pending: Vec<String>,
    /// Applied, but not known to this program, by name.
    pub unknown: Vec<String>,
}

/// Compares a program's list with what a database has recorded.
pub(super) fn compare(list: &str, known: &[String], recorded: &[String]) -> ListStatus {
    let (applied, pending) = known.iter().cloned().partition(|name| recorded.contains(name));
    let unknown = recorded.iter().filter(|name| !known.contains(name)).cloned().collect();
    ListStatus { list: list.to_owned(), applied, pending, unknown }
}

/// The recorded names of a history table, none when the table is not there. Writes nothing.
pub(super) async fn read_recorded(
    database: &impl ConnectionTrait,
    schema: Option<&str>,
    table: &str,
) -> Result<Vec<String>, DbErr> {
    let backend = database.get_database_backend();
    // sea-orm-migration's own probe needs driver features that this package does not choose.
    let (exists, values) = match backend {
        // `to_regclass` may answer from before a wait for the lock: what a session remembers to be
        // missing is not asked for again until it takes a lock on some table.
        DbBackend::Postgres => (
            "SELECT 1 AS found FROM pg_catalog.pg_class c
             WHERE relname = $1 AND CASE WHEN CAST($2 AS text) IS NULL THEN pg_table_is_visible(c.oid)
               ELSE EXISTS (SELECT 1 FROM pg_catalog.pg_namespace n
                 WHERE n.oid = relnamespace AND nspname = $2) END",
            vec![table.into(), schema.map(str::to_owned).into()],
        ),
        _ => (
            "SELECT 1 AS found FROM sqlite_master WHERE type = 'table' AND name = $1",
            vec![table.into()],
        ),
    };
    let exists = Statement::from_sql_and_values(backend, exists, values);
    if database.query_one_raw(exists).await?.is_none() {
        return Ok(Vec::new());
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let schema = schema.map(|schema| quoted(schema) + ".").unwrap_or_default();
    let names = format!("SELECT version FROM {schema}{} ORDER BY version", quoted(table));
    let rows = database.query_all_raw(Statement::from_string(backend, names)).await?;
    rows.iter().map(|row| row.try_get("", "version")).collect()
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn a_list_is_split_into_applied_pending_and_unknown() {
        #[track_caller]
        fn check(known: &str, recorded: &str, applied: &str, pending: &str, unknown: &str) {
            let names =
                |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
            let found = compare("history", &names(known), &names(recorded));
            assert_eq!(found.applied, names(applied), "applied");
            assert_eq!(found.pending, names(pending), "pending");
            assert_eq!(found.unknown, names(unknown), "unknown");
        }
        check("a b", "", "", "a b", "");
        check("a b", "a", "a", "b", "");
        check("a b", "a b", "a b", "", "");
        check("a b", "b", "b", "a", "");
        check("a", "a z y", "a", "", "z y");
        check("", "z", "", "", "z");
    }
}
