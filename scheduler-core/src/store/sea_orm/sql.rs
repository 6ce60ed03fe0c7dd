//! What differs between the databases, in one place: now, and arrays as one parameter.
//!
//! Statements are constant texts with `{now}` for the store's now (always parameter `$1`) and
//! `{rows}` for a relation `v` made of one JSON array of arrays, so that a batch of any size is
//! one statement that the driver's cache knows. Tables of the library stand there by their own names,
//! and get those of the store's namespace here.

use std::collections::HashMap;
use std::hash::Hash;

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, QueryResult, Statement, Value};

use super::Store;
use crate::clock::Clock;
use crate::error::StoreError;

/// The type of a column of `{rows}`.
#[derive(Debug, Clone, Copy)]
pub(super) enum ColumnType {
    Text,
    Int,
    Bool,
}

/// The relation `v` over parameter `$parameter`, an array of arrays as JSON.
pub(super) fn rows_relation(
    backend: DbBackend,
    parameter: usize,
    columns: &[(&str, ColumnType)],
) -> String {
    let fields: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, (name, kind))| match (backend, kind) {
            (DbBackend::Postgres, kind) => {
                let kind = match kind {
                    ColumnType::Text => "text",
                    ColumnType::Int => "bigint",
                    ColumnType::Bool => "boolean",
                };
                format!("CAST(e.value->>{index} AS {kind}) AS {name}")
            }
            _ => format!("json_extract(value, '$[{index}]') AS {name}"),
        })
        .collect();
    let source = match backend {
        DbBackend::Postgres => {
            format!("jsonb_array_elements(CAST(${parameter} AS jsonb)) AS e(value)")
        }
        _ => format!("json_each(${parameter})"),
    };
    format!("(SELECT {} FROM {source}) AS v", fields.join(", "))
}

/// The value of a `{rows}` parameter.
pub(super) fn rows_json(rows: &[Vec<serde_json::Value>]) -> Value {
    serde_json::to_string(rows).unwrap_or_else(|_| "[]".to_owned()).into()
}

/// The same rows in rounds, in each of which every key is there once: one statement over an array
/// changes a row of the database once.
pub(super) fn rounds<'r, T, K: Eq + Hash>(
    rows: &'r [T],
    key: impl Fn(&'r T) -> K,
) -> Vec<Vec<&'r T>> {
    let mut met: HashMap<K, usize> = HashMap::with_capacity(rows.len());
    let mut rounds: Vec<Vec<&T>> = Vec::new();
    for row in rows {
        let before = met.entry(key(row)).or_default();
        if rounds.len() == *before {
            rounds.push(Vec::new());
        }
        rounds[*before].push(row);
        *before += 1;
    }
    rounds
}

impl Store {
    pub(crate) fn backend(&self) -> DbBackend {
        self.inner.writer.get_database_backend()
    }

    /// The `$1` of every statement: NULL where the database's clock is to be used.
    pub(super) fn now_value(&self) -> Value {
        now_value(self.backend(), self.inner.clock.as_ref())
    }

    /// The store's now, epoch milliseconds.
    pub(super) async fn now_ms(
        &self,
        connection: &impl ConnectionTrait,
    ) -> Result<i64, StoreError> {
        let Value::BigInt(None) = self.now_value() else {
            return Ok(self.inner.clock.now_ms());
        };
        let failed = |source| StoreError::database("read the database's clock", source);
        let row = connection
            .query_one_raw(self.statement("SELECT {now} AS now_ms", []))
            .await
            .map_err(failed)?;
        row.map_or(Ok(self.inner.clock.now_ms()), |row| row.try_get("", "now_ms")).map_err(failed)
    }

    /// A statement whose `$1` is now and whose further parameters are `values`.
    pub(super) fn statement(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Statement {
        self.statement_with_rows(sql, &[], values)
    }

    /// A statement that asks for no now: `values` are its parameters.
    pub(super) fn statement_without_now(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Statement {
        let sql = self.inner.namespace.apply(sql);
        Statement::from_sql_and_values(self.backend(), sql, values)
    }

    /// Like [`statement`](Self::statement), with `{rows}` over the last parameter.
    pub(super) fn statement_with_rows(
        &self,
        sql: &str,
        columns: &[(&str, ColumnType)],
        values: impl IntoIterator<Item = Value>,
    ) -> Statement {
        let backend = self.backend();
        let values: Vec<Value> = std::iter::once(self.now_value()).chain(values).collect();
        let mut sql = self.inner.namespace.apply(sql).replace("{now}", now_expression(backend));
        if !columns.is_empty() {
            sql = sql.replace("{rows}", &rows_relation(backend, values.len(), columns));
        }
        Statement::from_sql_and_values(backend, sql, values)
    }
}

/// The store's now as SQL. `statement_timestamp()` bounds an index scan, which
/// `clock_timestamp()` does not; `now()` would stand still inside a transaction.
pub(super) const fn now_expression(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => {
            "coalesce($1, CAST(extract(epoch FROM statement_timestamp()) * 1000 AS bigint))"
        }
        _ => "$1",
    }
}

/// The parameter that goes with [`now_expression`].
pub(super) fn now_value(backend: DbBackend, clock: &dyn Clock) -> Value {
    let of_the_database = backend == DbBackend::Postgres && clock.yields_to_database();
    Value::BigInt((!of_the_database).then(|| clock.now_ms()))
}

/// Reads typed rows, naming the operation in the error.
pub(super) fn read_rows<T: FromQueryResult>(
    operation: &'static str,
    rows: &[QueryResult],
) -> Result<Vec<T>, StoreError> {
    rows.iter()
        .map(|row| T::from_query_result(row, ""))
        .collect::<Result<_, _>>()
        .map_err(|source| StoreError::database(operation, source))
}
