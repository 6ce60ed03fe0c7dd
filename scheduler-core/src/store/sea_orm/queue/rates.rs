//! How many rows may start within a span of time: conditions of a claim, and what it notes.

use crate::queue::{QueueTable, Rate};
use crate::store::Namespace;

/// Starts of the queue that still count.
const RECENT: &str = "\
FROM {queue_starts} s WHERE s.queue = '{queue}' AND s.started_at_ms > {now} - {period}";

const NOTE: &str = "\
INSERT INTO {queue_starts} (queue, rate_key, started_at_ms)
SELECT '{queue}', {key}, c.started_at_ms FROM {table} c WHERE c.id = $2";

const FORGET: &str =
    "DELETE FROM {queue_starts} WHERE queue = '{queue}' AND started_at_ms <= {now} - {period}";

/// When the oldest of so many starts that there can be no more does not count any longer, if a row
/// waits that is due.
const NEXT: &str = "
  UNION ALL
  SELECT min(spent.free_at_ms) FROM (
    SELECT min(s.started_at_ms) + {period} AS free_at_ms {recent}{keyed} HAVING count(*) >= {starts}) AS spent
  WHERE EXISTS (SELECT 1 FROM {table} t WHERE {t.mine}t.status = 'queued' AND t.run_at_ms <= {now})";

const KEYED: &str = " AND s.rate_key IS NOT NULL GROUP BY s.rate_key";

fn of_queue(sql: &str, table: &QueueTable, namespace: &Namespace) -> String {
    sql.replace("{queue_starts}", &namespace.table("queue_starts"))
        .replace("{queue}", &super::control::key_of(table))
}

fn of_rate(sql: &str, table: &QueueTable, namespace: &Namespace, rate: Rate) -> String {
    of_queue(&sql.replace("{recent}", RECENT), table, namespace)
        .replace("{period}", &rate.period_ms.to_string())
        .replace("{starts}", &rate.starts.to_string())
}

/// The condition of a claim that the queue has started less than it may.
pub(super) fn room(table: &QueueTable, namespace: &Namespace) -> String {
    table.rate.map_or_else(String::new, |rate| {
        of_rate("\n  AND (SELECT count(*) {recent}) < {starts}", table, namespace, rate)
    })
}

/// The condition of a row that its key has started less than it may.
pub(super) fn keys_with_room(table: &QueueTable, namespace: &Namespace) -> String {
    table.key_rate.as_ref().map_or_else(String::new, |(key, rate)| {
        let sql = "\n  AND (c.{key} IS NULL OR CAST(c.{key} AS TEXT) NOT IN (
    SELECT s.rate_key {recent}{keyed} HAVING count(*) >= {starts}))";
        of_rate(&sql.replace("{keyed}", KEYED), table, namespace, *rate).replace("{key}", key)
    })
}

/// Further answers to when something can be claimable.
pub(super) fn next(table: &QueueTable, namespace: &Namespace) -> String {
    let queue =
        table.rate.map(|rate| of_rate(&NEXT.replace("{keyed}", ""), table, namespace, rate));
    let key = table.key_rate.as_ref();
    let key =
        key.map(|(_, rate)| of_rate(&NEXT.replace("{keyed}", KEYED), table, namespace, *rate));
    queue.into_iter().chain(key).collect()
}

/// Notes the start of a row.
pub(super) fn note(table: &QueueTable, namespace: &Namespace) -> Option<String> {
    table.longest_period_ms()?;
    let key = table.key_rate.as_ref();
    let key = key.map_or("NULL".to_owned(), |(key, _)| format!("CAST(c.{key} AS TEXT)"));
    Some(of_queue(NOTE, table, namespace).replace("{key}", &key))
}

/// Deletes the starts that count no longer.
pub(super) fn forget(table: &QueueTable, namespace: &Namespace) -> Option<String> {
    let period_ms = table.longest_period_ms()?;
    Some(of_queue(FORGET, table, namespace).replace("{period}", &period_ms.to_string()))
}
