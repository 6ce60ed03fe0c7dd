//! What the statements of this module share: arrays as one parameter, and errors that name the
//! operation.
//!
//! A text with `{rows}` gets a relation `v` made of one JSON array of arrays, always the last
//! parameter: a batch of any size is one statement that the driver's cache knows.

use scheduler_core::{Clock, StoreError};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, FromQueryResult, Statement, Value};
use serde::Serialize;

/// The type of a column of `{rows}`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    Text,
    Int,
    Real,
    Bool,
}

/// Rows of `{rows}`: values by column.
pub(super) type Rows = Vec<Vec<serde_json::Value>>;

/// Now, as leases have it: the server's where there is one, so that all hosts agree which are over,
/// whatever their own clocks say. `$parameter` is that of [`lease_now_value`].
pub(super) fn lease_now(backend: DbBackend, parameter: usize) -> String {
    match backend {
        DbBackend::Postgres => format!(
            "coalesce(${parameter}, CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT))"
        ),
        _ => format!("${parameter}"),
    }
}

/// The parameter of [`lease_now`].
pub(super) fn lease_now_value(backend: DbBackend, clock: &dyn Clock) -> Value {
    let is_the_servers = backend == DbBackend::Postgres && clock.yields_to_database();
    Value::BigInt((!is_the_servers).then(|| clock.now_ms()))
}

/// Executes a statement and answers how many rows it touched.
pub(super) async fn execute(
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, StoreError> {
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    Ok(done.map_err(|source| StoreError::database(operation, source))?.rows_affected())
}

/// Reads typed rows.
pub(super) async fn read<T: FromQueryResult>(
    database: &impl ConnectionTrait,
    operation: &'static str,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<T>, StoreError> {
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    T::find_by_statement(statement)
        .all(database)
        .await
        .map_err(|source| StoreError::database(operation, source))
}

/// Executes a statement over `{rows}`.
pub(super) async fn execute_rows(
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    columns: &[(&str, Column)],
    values: impl IntoIterator<Item = Value>,
    rows: &Rows,
) -> Result<u64, StoreError> {
    let (sql, values) = over_rows(txn.get_database_backend(), sql, columns, values, rows);
    execute(txn, operation, &sql, values).await
}

/// Executes a statement over `{rows}`, its only parameter, each row a JSON array. No rows, no
/// statement. An `ON CONFLICT` wants `WHERE TRUE` before it: without that, SQLite takes it for the
/// condition of a join.
pub(super) async fn put_rows(
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    columns: &[(&str, Column)],
    rows: &[serde_json::Value],
) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let (sql, values) = over_rows(txn.get_database_backend(), sql, columns, [], rows);
    execute(txn, operation, &sql, values).await
}

/// Deletes a bounded number of old rows: `$1` is the time, `$2` the bound.
pub(super) async fn prune(
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    execute(txn, operation, sql, [before_ms.into(), i64::from(at_most).into()]).await
}

/// Reads typed rows by a statement over `{rows}`.
pub(super) async fn read_rows<T: FromQueryResult>(
    database: &impl ConnectionTrait,
    operation: &'static str,
    sql: &str,
    columns: &[(&str, Column)],
    values: impl IntoIterator<Item = Value>,
    rows: &Rows,
) -> Result<Vec<T>, StoreError> {
    let (sql, values) = over_rows(database.get_database_backend(), sql, columns, values, rows);
    read(database, operation, &sql, values).await
}

fn over_rows(
    backend: DbBackend,
    sql: &str,
    columns: &[(&str, Column)],
    values: impl IntoIterator<Item = Value>,
    rows: &(impl Serialize + ?Sized),
) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = values.into_iter().collect();
    values.push(serde_json::to_string(rows).unwrap_or_else(|_| "[]".to_owned()).into());
    (sql.replace("{rows}", &relation(backend, values.len(), columns)), values)
}

fn relation(backend: DbBackend, parameter: usize, columns: &[(&str, Column)]) -> String {
    let fields = columns.iter().enumerate().map(|(index, (name, column))| match backend {
        DbBackend::Postgres => {
            let kind = match column {
                Column::Text => "text",
                Column::Int => "bigint",
                Column::Real => "double precision",
                Column::Bool => "boolean",
            };
            format!("CAST(e.value->>{index} AS {kind}) AS {name}")
        }
        _ => format!("json_extract(value, '$[{index}]') AS {name}"),
    });
    let fields: Vec<String> = fields.collect();
    let source = match backend {
        DbBackend::Postgres => {
            format!("jsonb_array_elements(CAST(${parameter} AS jsonb)) AS e(value)")
        }
        _ => format!("json_each(${parameter})"),
    };
    format!("(SELECT {} FROM {source}) AS v", fields.join(", "))
}
