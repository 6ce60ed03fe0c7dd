//! Rows of a table of the user's, inserted by one statement with the columns that they have.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult};
use serde_json::{Value, json};

use super::super::sql::now_expression;
use super::SqlQueue;
use super::answers::{Answers, Found, in_order};
use crate::queue::{EnqueueError, Enqueued, KEY_COLUMNS, NewRow, check_rows};
use crate::store::RowId;

/// `{N:type}` stands for an element of a row.
const INSERT: &str =
    "INSERT INTO {table} ({columns})\nSELECT {values}\nFROM {source} {order}\n{end}";

/// What a queue makes of a row that nobody has claimed, whatever the table's defaults are.
const QUEUED: [(&str, &str); 10] = [
    ("status", "'queued'"),
    ("priority", "{0:bigint}"),
    ("run_at_ms", "coalesce({1:bigint}, {now} + {2:bigint})"),
    ("max_attempts", "{3:bigint}"),
    ("attempt_count", "0"),
    ("crash_count", "0"),
    ("lease_token", "0"),
    ("started", "FALSE"),
    ("cancel_requested", "FALSE"),
    ("progress_pct", "0"),
];

/// What it writes where the table has it.
const BESIDES: [(&str, &str); 2] = [("lost_count", "0"), ("created_at_ms", "{now}")];

const KEYED: [(&str, &str); 4] = [
    ("unique_key", "{4:text}"),
    ("unique_while", "{5:text}"),
    ("unique_until_ms", "{now} + {6:bigint}"),
    ("duplicate_count", "0"),
];

/// Elements of a row before those of the user's columns.
const OWN_ELEMENTS: usize = 7;

/// A row whose key is taken counts it, which tells it from one that was inserted.
const ON_CONFLICT: &str = "\
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO UPDATE SET
  duplicate_count = {table}.duplicate_count + 1,
  unique_key = CASE WHEN coalesce({table}.unique_until_ms, 0) <= {now}
      AND ({table}.status NOT IN ('queued', 'running') OR ({table}.status = 'running' AND {table}.unique_while = 'queued'))
    THEN NULL ELSE {table}.unique_key END
RETURNING id, unique_key, duplicate_count";

/// Rows to insert, and the text that does it.
pub(super) struct OwnRows<'r> {
    rows: &'r [NewRow],
    /// The columns of the user's that any of them has.
    columns: Vec<&'r str>,
    sql: String,
    keyed: bool,
}

impl<'r> OwnRows<'r> {
    /// Checks the rows against the table.
    pub(super) fn of(queue: &SqlQueue, rows: &'r [NewRow]) -> Result<Self, EnqueueError> {
        check_rows(&queue.table, rows)?;
        let table = &queue.table.name;
        let columns: BTreeSet<&str> =
            rows.iter().flat_map(|row| row.columns.keys()).map(String::as_str).collect();
        let keyed = rows.iter().any(|row| row.unique.is_some());
        let refuse = |purpose, needed: &mut dyn Iterator<Item = &str>| {
            let missing: Vec<String> = needed
                .filter(|column| !queue.columns.contains_key(*column))
                .map(|column| format!("`{column}`"))
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            Err(EnqueueError::MissingColumns { table: table.clone(), purpose, missing })
        };
        refuse("hold the row", &mut columns.iter().copied())?;
        if keyed {
            refuse("have unique keys", &mut KEY_COLUMNS.into_iter())?;
        }
        let columns: Vec<&str> = columns.into_iter().collect();
        let sql = render(queue, &columns, keyed);
        Ok(Self { rows, columns, sql, keyed })
    }

    /// Inserts them; answers one per row, in their order.
    pub(super) async fn insert(
        &self,
        queue: &SqlQueue,
        txn: &DatabaseTransaction,
    ) -> Result<Vec<Enqueued<RowId>>, DbErr> {
        let mut answers = if self.keyed {
            let keys = self.rows.iter().map(|row| Some(("", row.unique_key()?))).collect();
            let mut answers = Answers::of(keys);
            loop {
                let asked = answers.next();
                if asked.is_empty() {
                    break answers.all()?;
                }
                let values = self.elements(asked.iter().map(|at| &self.rows[*at]));
                let found = txn.query_all_raw(queue.bind(&self.sql, [values.into()])).await?;
                let found = found.iter().map(|row| found_of(queue, row));
                answers.take(found.collect::<Result<_, _>>()?)?;
            }
        } else {
            let values = self.elements(self.rows.iter());
            let inserted = txn.query_all_raw(queue.bind(&self.sql, [values.into()])).await?;
            let ids = inserted.iter().map(|row| queue.row_id(row));
            in_order(self.rows.len(), ids.collect::<Result<_, _>>()?)?
        };
        for (row, answer) in self.rows.iter().zip(&mut answers) {
            // Keys of the user's are in no order.
            if let (Some(id), Enqueued::Inserted(answer)) = (row.id(), answer) {
                *answer = id;
            }
        }
        Ok(answers)
    }

    fn elements(&self, rows: impl Iterator<Item = &'r NewRow>) -> String {
        let elements = rows.map(|row| {
            let unique = row.unique.as_ref();
            let until = unique.map(|unique| match unique.until_started {
                true => "queued",
                false => "unfinished",
            });
            let mut elements = vec![
                json!(row.priority),
                json!(row.run_at_ms),
                json!(row.delay_ms),
                json!(row.max_attempts),
                json!(row.unique_key()),
                json!(until),
                json!(unique.and_then(|unique| unique.window_ms)),
            ];
            let value = |column| row.columns.get(column).cloned().unwrap_or(Value::Null);
            elements.extend(self.columns.iter().map(|column| value(*column)));
            Value::Array(elements)
        });
        Value::Array(elements.collect()).to_string()
    }
}

fn found_of(queue: &SqlQueue, row: &QueryResult) -> Result<Found<RowId>, DbErr> {
    Ok(Found {
        id: queue.row_id(row)?,
        queue: String::new(),
        key: row.try_get("", "unique_key")?,
        duplicates: row.try_get("", "duplicate_count")?,
    })
}

/// Rows of the same shape have the same text.
fn render(queue: &SqlQueue, columns: &[&str], keyed: bool) -> String {
    let backend = queue.store.backend();
    let is_server = backend == DbBackend::Postgres;
    let element = |index: usize, kind: &str| match is_server {
        true => format!("CAST(e.value->>{index} AS {kind})"),
        false => format!("json_extract(e.value, '$[{index}]')"),
    };
    let besides = BESIDES
        .into_iter()
        .filter(|(column, _)| queue.columns.contains_key(*column) && !columns.contains(column));
    let own = QUEUED.into_iter().chain(besides).chain(KEYED.into_iter().filter(|_| keyed));
    let (mut names, mut values): (Vec<&str>, Vec<String>) =
        own.map(|(name, value)| (name, value.to_owned())).unzip();
    for (position, column) in columns.iter().enumerate() {
        names.push(*column);
        let kind = queue.columns.get(*column).map_or("text", String::as_str);
        values.push(element(OWN_ELEMENTS + position, kind));
    }
    let mut values = values.join(", ");
    for index in 0..OWN_ELEMENTS {
        for kind in ["text", "bigint"] {
            values = values.replace(&format!("{{{index}:{kind}}}"), &element(index, kind));
        }
    }
    // Ids grow in the order of the rows. Keys are taken in their own order: two sessions of a server
    // that take the same ones must not wait for each other.
    let (source, order) = match (is_server, keyed) {
        (true, false) => (SERVER_SOURCE, "ORDER BY e.position"),
        (true, true) => (SERVER_SOURCE, "ORDER BY e.value->>4, e.position"),
        // TRUE keeps the parser from taking ON for that of a join.
        (false, _) => ("json_each($2) AS e", "WHERE TRUE"),
    };
    INSERT
        .replace("{columns}", &names.join(", "))
        .replace("{values}", &values)
        .replace("{source}", source)
        .replace("{order}", order)
        .replace("{end}", if keyed { ON_CONFLICT } else { "RETURNING id" })
        .replace("{table}", &queue.table.name)
        .replace("{now}", now_expression(backend))
}

const SERVER_SOURCE: &str =
    "jsonb_array_elements(CAST($2 AS jsonb)) WITH ORDINALITY AS e (value, position)";
