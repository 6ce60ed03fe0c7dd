//! The texts of a queue's statements, rendered once from its [`QueueTable`].

use sea_orm::DbBackend;

use super::super::sql::{ColumnType, now_expression, rows_relation};
use super::control::{ControlStatements, unpaused};
use super::rates;
use crate::queue::QueueTable;
use crate::store::Namespace;

/// Rows that somebody else has locked are about to change: the next claim looks at them. So a
/// reclaim waits for nobody, and nobody can wait for it in a circle. Whether a row found under an expired lease had crashed or had only been claimed.
const RECLAIM: &str = "\
UPDATE {table} SET
  status = CASE WHEN cancel_requested THEN 'cancelled'
    WHEN started AND crash_count + 1 >= {crash_limit} THEN 'dead' ELSE 'queued' END,
  last_error = CASE WHEN started AND NOT cancel_requested AND crash_count + 1 >= {crash_limit}
    THEN 'crashing: its process died ' || (crash_count + 1) || ' times while it ran' ELSE last_error END,
  completed_at_ms = CASE WHEN cancel_requested OR (started AND crash_count + 1 >= {crash_limit}) THEN {now} END,
  attempt_count = attempt_count - CASE WHEN started THEN 0 ELSE 1 END,
  crash_count = crash_count + CASE WHEN started THEN 1 ELSE 0 END{lost}{freed},
  {unlease}
WHERE {table}.id {among} c.id FROM {table} c
  WHERE {c.mine}c.status = 'running' AND c.lease_expires_at_ms <= {now} {lock}{end}
RETURNING status";

const CLAIM: &str = "\
UPDATE {table} SET status = 'running', attempt_count = attempt_count + 1, leased_by = $2,
  lease_token = lease_token + 1, lease_expires_at_ms = {now} + $3, started = {started}, started_at_ms = {now}{slots}{taken}
WHERE {table}.id {among} c.id FROM {table} c
  WHERE {c.mine}c.status = 'queued' AND c.run_at_ms <= {now}{known}{unpaused} AND {eligible}
  ORDER BY c.priority, c.run_at_ms, c.id LIMIT $4 {lock}{end}{room}
RETURNING {columns}";

/// Rows whose process died before are claimed alone, and while one waits that could run, nothing
/// else is: the process runs empty, then takes it.
const NO_SUSPECT: &str = "NOT EXISTS (SELECT 1 FROM {table} c
  WHERE {c.mine}c.status = 'queued' AND c.crash_count > 0 AND c.run_at_ms <= {now}{known}{saturated})";

/// The lowest slot that no running row of the same key occupies.
const FREE_SLOT: &str = "(WITH RECURSIVE slots (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM slots WHERE n + 1 < {limit})
    SELECT min(n) FROM slots WHERE NOT EXISTS (
      SELECT 1 FROM {table} r WHERE {r.mine}r.status = 'running' AND {same} AND r.{slot} = slots.n))";

const SATURATED: &str = "(c.{key} IS NULL OR c.{key} NOT IN (SELECT r.{key} FROM {table} r
    WHERE {r.mine}r.status = 'running' AND r.{key} IS NOT NULL GROUP BY r.{key} HAVING count(*) >= {limit}))";

const FENCED: &str = "{table}.lease_token = v.token AND {table}.leased_by = v.holder
  AND {table}.status = 'running' AND {table}.lease_expires_at_ms > {now}";

const RENEW: &str = "\
UPDATE {table} SET lease_expires_at_ms = {now} + $2, progress_pct = coalesce(v.progress_pct, {table}.progress_pct)
FROM {rows} WHERE {table}.id = v.row_id AND {fenced}
RETURNING id, lease_token, cancel_requested";

/// Which of the rows that were not renewed are held yet: a transaction has locked them.
const HELD: &str = "\
SELECT {table}.id, {table}.lease_token, {table}.cancel_requested FROM {rows} JOIN {table} ON {table}.id = v.row_id
WHERE {fenced}";

const SETTLE: &str = "\
UPDATE {table} SET status = v.status,
  run_at_ms = CASE WHEN v.delay_ms IS NULL THEN run_at_ms ELSE {now} + v.delay_ms END,
  attempt_count = attempt_count - CASE WHEN v.give_attempt_back THEN 1 ELSE 0 END,
  last_error = CASE WHEN v.status = 'succeeded' THEN NULL ELSE coalesce(v.error, last_error) END,
  result = coalesce(v.result, {table}.result),
  progress_pct = CASE WHEN v.status = 'succeeded' THEN 100 ELSE progress_pct END,
  completed_at_ms = CASE WHEN v.status = 'queued' THEN NULL ELSE {now} END{freed},
  {unlease}
FROM {rows} WHERE {table}.id = v.row_id AND {fenced}
RETURNING id, lease_token";

/// SETTLE for rows that all succeeded, which have little to say.
const FINISH: &str = "\
UPDATE {table} SET status = 'succeeded', last_error = NULL, result = coalesce(v.result, {table}.result),
  progress_pct = 100, completed_at_ms = {now}{freed}, {unlease}
FROM {rows} WHERE {table}.id = v.row_id AND {table}.lease_token = v.token AND {table}.leased_by = $2
  AND {table}.status = 'running' AND {table}.lease_expires_at_ms > {now}
RETURNING id, lease_token";

/// FINISH for rows that have nothing to say and one token.
const FINISH_ALIKE: &str = "\
UPDATE {table} SET status = 'succeeded', last_error = NULL, progress_pct = 100, completed_at_ms = {now}{freed}, {unlease}
WHERE {table}.id {of_ids} AND {table}.lease_token = $4 AND {table}.leased_by = $2
  AND {table}.status = 'running' AND {table}.lease_expires_at_ms > {now}";

const MARK_STARTED: &str =
    "UPDATE {table} SET started = TRUE FROM {rows} WHERE {table}.id = v.row_id AND {fenced}";

const UNLEASE: &str = "leased_by = NULL, lease_expires_at_ms = NULL, started = FALSE{no_slots}";

/// The claim's index is ordered by priority first, so the earliest row is looked up in each
/// priority: over all of them it would be a walk over everything that waits.
const NEXT: &str = "\
WITH RECURSIVE priorities (priority) AS (
  SELECT min(t.priority) FROM {table} t WHERE {t.mine}t.status = 'queued'
  UNION ALL
  SELECT (SELECT min(t.priority) FROM {table} t WHERE {t.mine}t.status = 'queued' AND t.priority > priorities.priority)
  FROM priorities WHERE priorities.priority IS NOT NULL)
SELECT min(at_ms) - {now} AS in_ms FROM (
  SELECT (SELECT min(t.run_at_ms) FROM {table} t
    WHERE {t.mine}t.status = 'queued' AND t.priority = priorities.priority AND t.run_at_ms > {now}) AS at_ms FROM priorities
  UNION ALL
  SELECT min(t.lease_expires_at_ms) FROM {table} t WHERE {t.mine}t.status = 'running' AND t.leased_by <> $2{rates}) AS next";

/// A row that holds a key until its time stays until then.
const PRUNE: &str = "\
DELETE FROM {table} WHERE {table}.id {among} c.id FROM {table} c
  WHERE {c.mine}c.status IN ('succeeded', 'cancelled') AND c.completed_at_ms < {now} - {keep}{keyless}
  ORDER BY c.completed_at_ms LIMIT $2 {lock}{end}";

const FENCE: &str = "\
UPDATE {table} SET lease_token = lease_token
WHERE id = $2 AND lease_token = $3 AND leased_by = $4 AND status = 'running' AND lease_expires_at_ms > {now}";

const CHECKPOINT: &str = "\
UPDATE {table} SET checkpoint = $5
WHERE id = $2 AND lease_token = $3 AND leased_by = $4 AND status = 'running' AND lease_expires_at_ms > {now}";

/// One queue's statements. `$1` is now.
pub(super) struct Statements {
    pub(super) reclaim: String,
    pub(super) claim: String,
    /// Of rows that do not begin at once.
    pub(super) claim_ahead: String,
    pub(super) claim_suspect: String,
    pub(super) renew: String,
    /// Where rows can be locked by others: those that a renewal left out.
    pub(super) held: Option<String>,
    pub(super) settle: String,
    pub(super) finish: String,
    pub(super) finish_alike: String,
    pub(super) mark_started: String,
    pub(super) next: String,
    pub(super) fence: String,
    pub(super) checkpoint: String,
    /// Where finished rows go after a time.
    pub(super) prune: Option<String>,
    /// Where starts within a time are counted.
    pub(super) note_start: Option<String>,
    pub(super) forget_starts: Option<String>,
    pub(super) control: ControlStatements,
}

impl Statements {
    pub(super) fn render(table: &QueueTable, backend: DbBackend, namespace: &Namespace) -> Self {
        let id_type = if table.text_ids { ColumnType::Text } else { ColumnType::Int };
        let name = table.placed(namespace);
        let fill = |sql: &str| {
            of_queue(sql, table)
                .replace("{table}", &name)
                .replace("{now}", now_expression(backend))
                .replace("{crash_limit}", &table.crash_limit.to_string())
        };
        let unlease = UNLEASE.replace("{no_slots}", &no_slots(table));
        // A plain sub-query may be run again by Postgres' planner and lock more than its limit.
        let (among, lock, end) = match backend {
            DbBackend::Postgres => ("= ANY (ARRAY(SELECT", "FOR UPDATE SKIP LOCKED", "))"),
            _ => ("IN (SELECT", "", ")"),
        };
        let among =
            |sql: &str| sql.replace("{among}", among).replace("{lock}", lock).replace("{end}", end);
        // On a server they are locked in the order of their ids, as by `locked_rows`.
        let of_ids = match backend {
            DbBackend::Postgres => {
                "= ANY (ARRAY(SELECT c.id FROM {table} c WHERE c.id = ANY (CAST($3 AS bigint[])) ORDER BY c.id FOR UPDATE))"
            }
            _ => "IN (SELECT value FROM json_each($3))",
        };
        let claim = |eligible: &str, started: &str| {
            fill(
                &among(CLAIM)
                    .replace("{started}", started)
                    .replace("{slots}", &slots(table))
                    .replace("{taken}", taken(table))
                    .replace("{eligible}", eligible)
                    .replace("{known}", &known(table))
                    .replace("{unpaused}", &unpaused(table, namespace))
                    .replace("{room}", &format!("{}{}", room(table), rates::room(table, namespace)))
                    .replace("{columns}", &returned_columns(table)),
            )
        };
        let saturated = saturated(table, namespace);
        let finished =
            [("row_id", id_type), ("token", ColumnType::Int), ("result", ColumnType::Text)];
        let innocent = format!(
            "c.crash_count = 0 AND {}{saturated}",
            NO_SUSPECT.replace("{saturated}", &saturated)
        );
        let of_rows = |sql: &str, rows: &str| {
            fill(
                &sql.replace("{fenced}", FENCED)
                    .replace("{freed}", &freed(table, if sql == FINISH { "TRUE" } else { SETTLED }))
                    .replace("{unlease}", &unlease)
                    .replace("{rows}", rows),
            )
        };
        let array = |sql: &str, parameter, columns: &[(&str, ColumnType)]| {
            of_rows(sql, &locked_rows(backend, parameter, columns, ""))
        };
        // A handler may keep its row locked for long. Nobody else's row waits for it: the row's renewal
        // comes again, and that it has begun is counted with its next claim should it be lost.
        let unlocked = |sql: &str, parameter, columns: &[(&str, ColumnType)]| {
            of_rows(sql, &locked_rows(backend, parameter, columns, " SKIP LOCKED"))
        };
        let grant = [("row_id", id_type), ("token", ColumnType::Int), ("holder", ColumnType::Text)];
        Self {
            reclaim: fill(
                &among(RECLAIM)
                    .replace("{lost}", lost(table))
                    .replace("{freed}", &freed(table, RECLAIMED))
                    .replace("{unlease}", &unlease),
            ),
            claim: claim(&innocent, "TRUE"),
            claim_ahead: claim(
                &innocent,
                if table.counts_lost { "lost_count > 0" } else { "TRUE" },
            ),
            claim_suspect: claim(&format!("c.crash_count > 0{saturated}"), "TRUE"),
            held: (backend == DbBackend::Postgres)
                .then(|| of_rows(HELD, &rows_relation(backend, 2, &grant))),
            renew: unlocked(
                RENEW,
                3,
                &[
                    ("row_id", id_type),
                    ("token", ColumnType::Int),
                    ("holder", ColumnType::Text),
                    ("progress_pct", ColumnType::Int),
                ],
            ),
            settle: array(
                SETTLE,
                2,
                &[
                    ("row_id", id_type),
                    ("token", ColumnType::Int),
                    ("holder", ColumnType::Text),
                    ("status", ColumnType::Text),
                    ("delay_ms", ColumnType::Int),
                    ("give_attempt_back", ColumnType::Bool),
                    ("error", ColumnType::Text),
                    ("result", ColumnType::Text),
                ],
            ),
            finish: array(FINISH, 3, &finished),
            finish_alike: fill(
                &FINISH_ALIKE
                    .replace("{of_ids}", of_ids)
                    .replace("{freed}", &freed(table, "TRUE"))
                    .replace("{unlease}", &unlease),
            ),
            mark_started: unlocked(MARK_STARTED, 2, &grant),
            next: fill(&NEXT.replace("{rates}", &rates::next(table, namespace))),
            note_start: rates::note(table, namespace).map(|sql| fill(&sql)),
            forget_starts: rates::forget(table, namespace).map(|sql| fill(&sql)),
            fence: fill(FENCE),
            checkpoint: fill(CHECKPOINT),
            prune: table.keep_ms.map(|keep_ms| {
                let held = " AND coalesce(c.unique_until_ms, 0) <= {now}";
                let prune = among(PRUNE)
                    .replace("{keep}", &keep_ms.to_string())
                    .replace("{keyless}", if table.keeps_keys { held } else { "" });
                fill(&prune)
            }),
            control: ControlStatements::render(table, backend, fill),
        }
    }
}

/// The relation `v` of the rows to write. On a server it locks them in the order of their ids, since
/// renewals and ends of one process are written at once and in orders of their own: two that took
/// the same rows in opposite orders would wait for each other. `others` says what becomes of rows that
/// somebody else has locked.
fn locked_rows(
    backend: DbBackend,
    parameter: usize,
    columns: &[(&str, ColumnType)],
    others: &str,
) -> String {
    let rows = rows_relation(backend, parameter, columns);
    match backend {
        DbBackend::Postgres => format!(
            "(SELECT v.* FROM {rows} JOIN {{table}} c ON c.id = v.row_id ORDER BY c.id FOR UPDATE OF c{others}) AS v"
        ),
        _ => rows,
    }
}

fn returned_columns(table: &QueueTable) -> String {
    let own = [
        "id",
        "lease_token",
        "attempt_count",
        "crash_count",
        "max_attempts",
        "priority",
        "run_at_ms",
    ];
    let mut names: Vec<&str> = own.to_vec();
    names.extend(table.columns.iter().map(String::as_str).filter(|column| !own.contains(column)));
    names.join(", ")
}

/// Assigns the slots that make the limits unique indexes.
fn slots(table: &QueueTable) -> String {
    let mut sql = String::new();
    if let Some(limit) = table.limit {
        let free = FREE_SLOT
            .replace("{limit}", &limit.to_string())
            .replace("{same}", "TRUE")
            .replace("{slot}", "queue_slot");
        sql.push_str(&format!(",\n  queue_slot = {free}"));
    }
    if let Some((key, limit)) = &table.key {
        let free = FREE_SLOT
            .replace("{limit}", &limit.to_string())
            .replace("{same}", &format!("r.{key} = {{table}}.{key}"))
            .replace("{slot}", "concurrency_slot");
        sql.push_str(&format!(
            ",\n  concurrency_slot = CASE WHEN {{table}}.{key} IS NULL THEN NULL ELSE {free} END"
        ));
    }
    sql
}

fn no_slots(table: &QueueTable) -> String {
    let queue = table.limit.map(|_| ", queue_slot = NULL").unwrap_or_default();
    let key = table.key.as_ref().map(|_| ", concurrency_slot = NULL").unwrap_or_default();
    format!("{queue}{key}")
}

fn room(table: &QueueTable) -> String {
    table.limit.map_or_else(String::new, |limit| {
        format!(
            "\n  AND (SELECT count(*) FROM {{table}} r WHERE {{r.mine}}r.status = 'running') < {limit}"
        )
    })
}

/// Of a table that many queues share, each statement sees its own. Names need no quoting.
fn of_queue(sql: &str, table: &QueueTable) -> String {
    let mine = |alias: &str| {
        let queue = table.queue.as_ref();
        queue.map_or_else(String::new, |queue| format!("{alias}.queue = '{queue}' AND "))
    };
    ["c", "r", "t"]
        .iter()
        .fold(sql.to_owned(), |sql, alias| sql.replace(&format!("{{{alias}.mine}}"), &mine(alias)))
}

/// Kinds and versions that this host knows.
fn known(table: &QueueTable) -> String {
    if table.kinds.is_empty() {
        return String::new();
    }
    let kinds: Vec<String> = table
        .kinds
        .iter()
        .map(|(kind, newest)| format!("c.kind = '{kind}' AND c.payload_version <= {newest}"))
        .collect();
    format!("\n  AND ({})", kinds.join(" OR "))
}

/// When a reclaim, and when a settle, ends a row for good. A dead row keeps its key, for the case that it
/// is retried, until somebody enqueues it again.
const RECLAIMED: &str = "cancel_requested";
const SETTLED: &str = "v.status NOT IN ('queued', 'dead')";

/// A key is unique while its row is unfinished, and until its time.
fn freed(table: &QueueTable, ended: &str) -> String {
    if !table.keeps_keys {
        return String::new();
    }
    format!(
        ",\n  unique_key = CASE WHEN {ended} AND coalesce(unique_until_ms, 0) <= {{now}} THEN NULL ELSE unique_key END"
    )
}

/// A key that is unique among what waits is free as soon as its row runs.
fn taken(table: &QueueTable) -> &'static str {
    if !table.keeps_keys {
        return "";
    }
    ",\n  unique_key = CASE WHEN unique_while = 'queued' AND coalesce(unique_until_ms, 0) <= {now} THEN NULL ELSE unique_key END"
}

/// What was claimed and not started when its process died may have been about to kill it.
fn lost(table: &QueueTable) -> &'static str {
    if !table.counts_lost {
        return "";
    }
    ",\n  lost_count = lost_count + CASE WHEN started THEN 0 ELSE 1 END"
}

fn saturated(table: &QueueTable, namespace: &Namespace) -> String {
    let rated = rates::keys_with_room(table, namespace);
    table.key.as_ref().map_or_else(
        || rated.clone(),
        |(key, limit)| {
            let sql = SATURATED.replace("{key}", key).replace("{limit}", &limit.to_string());
            format!("\n  AND {sql}{rated}")
        },
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_statement_of_a_queue_names_a_table_outside_of_its_namespace() {
        let second = Duration::from_secs(1);
        let namespace = Namespace::prefix("p_").unwrap();
        let all_of = |table: QueueTable, key: &str| QueueTable {
            counts_lost: true,
            keeps_checkpoints: true,
            keeps_keys: true,
            ..table
                .limit(4)
                .limit_per_key(key, 2)
                .rate(5, second)
                .rate_per_key(key, 1, second)
                .keep_finished_for(second)
        };
        let own = all_of(QueueTable::new("parcels"), "user_id");
        let jobs = all_of(QueueTable::jobs("mails").kind("mail", 1), "concurrency_key");
        for backend in [DbBackend::Sqlite, DbBackend::Postgres] {
            for table in [&own, &jobs] {
                let Statements {
                    reclaim,
                    claim,
                    claim_ahead,
                    claim_suspect,
                    renew,
                    held,
                    settle,
                    finish,
                    finish_alike,
                    mark_started,
                    next,
                    fence,
                    checkpoint,
                    prune,
                    note_start,
                    forget_starts,
                    control,
                } = Statements::render(table, backend, &namespace);
                let sometimes = [held, prune, note_start, forget_starts].into_iter().flatten();
                let control = control.texts().map(str::to_owned);
                let texts: Vec<String> =
                    [reclaim, claim, claim_ahead, claim_suspect, renew, settle]
                        .into_iter()
                        .chain([finish, finish_alike, mark_started, next, fence, checkpoint])
                        .chain(sometimes)
                        .chain(control)
                        .collect();
                assert!(texts.len() > 18, "{}", texts.len());
                for text in texts {
                    // What is written with a bare name would get another.
                    assert_eq!(namespace.apply(&text), text);
                }
            }
        }
    }
}
