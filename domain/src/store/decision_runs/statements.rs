//! The statements, once per table: constant texts, but for the database's way to say now
//! (`{lease_now}`).

/// Whose runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionTable {
    /// Of clones on their own: `clone_decision_runs`.
    Clones,
    /// Of prop accounts: `prop_decision_runs`.
    Prop,
}

/// The statements over one table.
pub(super) struct Statements {
    pub(super) take: &'static str,
    pub(super) close_late: &'static str,
    pub(super) conclude: &'static str,
    pub(super) executed: &'static str,
    pub(super) list: &'static str,
    pub(super) prune: &'static str,
}

impl DecisionTable {
    pub(super) fn statements(self) -> &'static Statements {
        match self {
            Self::Clones => &CLONES,
            Self::Prop => &PROP,
        }
    }
}

macro_rules! statements {
    ($table:literal, $kept:literal) => {
        Statements {
            // A slot that somebody has begun is taken over only when its lease is gone: expired, or
            // granted to another.
            take: concat!(
                "INSERT INTO ", $table, " AS r (id, clone_id, account_id, scheduled_for_ms, as_of_ms,
                     started_at_ms, provider, graph_hash, status, lease_name, instance_id, lease_token)
                 SELECT v.id, v.clone_id, v.account_id, CAST($1 AS BIGINT), CAST($2 AS BIGINT),
                     CAST($2 AS BIGINT), v.provider, v.graph_hash, 'running', CAST($3 AS TEXT),
                     CAST($4 AS TEXT), CAST($5 AS BIGINT)
                 FROM {rows} WHERE TRUE
                 ON CONFLICT (clone_id, account_id, scheduled_for_ms) DO UPDATE SET
                     as_of_ms = excluded.as_of_ms, started_at_ms = excluded.started_at_ms,
                     provider = excluded.provider, graph_hash = excluded.graph_hash,
                     status = 'running', lease_name = excluded.lease_name,
                     instance_id = excluded.instance_id, lease_token = excluded.lease_token,
                     attempt = r.attempt + 1
                 WHERE r.status IN ('pending', 'running') AND NOT EXISTS (
                     SELECT 1 FROM leases l WHERE l.name = r.lease_name AND l.holder = r.instance_id
                         AND l.token = r.lease_token AND l.expires_at_ms > {lease_now})
                 RETURNING id, clone_id, account_id, attempt"
            ),
            close_late: concat!(
                "UPDATE ", $table, " SET status = 'skipped', skip_reason = $3, action = 'none',
                     completed_at_ms = $1
                 WHERE status IN ('pending', 'running') AND scheduled_for_ms < $2 AND NOT EXISTS (
                     SELECT 1 FROM leases l WHERE l.name = lease_name AND l.holder = instance_id
                         AND l.token = lease_token AND l.expires_at_ms > {lease_now})"
            ),
            conclude: concat!(
                "UPDATE ", $table, " SET
                     action = v.action, status = v.status, skip_reason = v.skip_reason,
                     intents = v.intents, note = v.note, as_of_ms = v.as_of_ms, model = v.model,
                     snapshot_hash = v.snapshot_hash, snapshot = v.snapshot,
                     raw_response = v.raw_response, risk_verdicts = v.risk_verdicts,
                     client_order_ids = v.client_order_ids, tokens_in = v.tokens_in,
                     tokens_out = v.tokens_out, cost_usd = v.cost_usd, latency_ms = v.latency_ms,
                     error = v.error, completed_at_ms = $1
                 FROM {rows}
                 WHERE ", $table, ".id = v.id AND ", $table, ".status = 'running'
                   AND lease_name = $2 AND instance_id = $3 AND lease_token = $4
                 RETURNING ", $table, ".id AS id"
            ),
            // A slot may be decided a while after it began.
            executed: concat!(
                "SELECT r.account_id, r.completed_at_ms, r.intents
                 FROM {rows} JOIN ", $table, " r
                 ON r.clone_id = v.clone_id AND r.account_id = v.account_id
                    AND r.scheduled_for_ms > v.after_ms - 3600000
                 WHERE r.status = 'executed' AND r.completed_at_ms > v.after_ms
                   AND r.intents IS NOT NULL"
            ),
            list: concat!(
                "SELECT id, clone_id, account_id, scheduled_for_ms, provider, action, status,
                     skip_reason, note, attempt
                 FROM ", $table, " ORDER BY scheduled_for_ms DESC, clone_id, account_id LIMIT $1"
            ),
            // What was executed stays with its fills.
            prune: concat!(
                "DELETE FROM ", $table, " WHERE id IN (
                     SELECT id FROM ", $table, "
                     WHERE scheduled_for_ms < $1 AND status NOT IN ('pending', 'running', 'executed')
                       ", $kept, " ORDER BY scheduled_for_ms LIMIT $2)"
            ),
        }
    };
}

const CLONES: Statements = statements!("clone_decision_runs", "");
// An audition that runs is judged by all the decisions of its account: none goes that is younger than
// the oldest of them, so that a sweep does not walk over what it has to leave.
const PROP: Statements = statements!(
    "prop_decision_runs",
    "AND scheduled_for_ms < (SELECT coalesce(min(a.started_at_ms), $1) FROM audition_runs a
                             WHERE a.status = 'running')"
);

/// A clone spends on its own and for its accounts.
pub(super) const USAGE: &str = "
    SELECT u.clone_id, CAST(sum(u.tokens_in) AS BIGINT) AS tokens_in,
           CAST(sum(u.tokens_out) AS BIGINT) AS tokens_out,
           CAST(sum(CAST(u.cost_usd AS NUMERIC)) AS TEXT) AS cost_usd
    FROM (
        SELECT clone_id, tokens_in, tokens_out, cost_usd FROM clone_decision_runs
        WHERE started_at_ms >= $1 AND (tokens_in > 0 OR tokens_out > 0)
        UNION ALL
        SELECT clone_id, tokens_in, tokens_out, cost_usd FROM prop_decision_runs
        WHERE started_at_ms >= $1 AND (tokens_in > 0 OR tokens_out > 0)) AS u
    WHERE u.clone_id IN (SELECT v.clone_id FROM {rows})
    GROUP BY u.clone_id";
