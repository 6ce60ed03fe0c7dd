//! Plans, all of a batch in one statement per table.

use std::collections::BTreeSet;

use scheduler_core::StoreError;
use sea_orm::{DatabaseTransaction, FromQueryResult, Value as SqlValue};
use serde_json::json;

use crate::prop::{DayStat, Event, Plan, Transaction};
use crate::store::sql::{Column, Rows, execute_rows, read_rows};

use Column::{Bool, Int, Text};

/// A row of `{rows}`.
macro_rules! row {
    ([$($cell:expr),* $(,)?]) => { vec![$(json!($cell)),*] };
}

/// Saves plans of different accounts. Answers the accounts that were not at the version that their
/// plan had seen: of those nothing is written.
///
/// # Errors
/// The driver's error, also when an order was filled or money moved before under the same key. The
/// transaction is of no use then.
pub async fn save(
    txn: &DatabaseTransaction,
    plans: &[Plan],
    now_ms: i64,
) -> Result<Vec<i64>, StoreError> {
    let won = update_accounts(txn, plans, now_ms).await?;
    let (won, lost): (Vec<&Plan>, Vec<&Plan>) =
        plans.iter().partition(|plan| won.contains(&plan.account.id));
    place_positions(txn, &won, now_ms).await?;
    remove_positions(txn, &won).await?;
    insert_fills(txn, &won).await?;
    let of = |plan: &Plan| plan.account.id;
    let ledger: Vec<(i64, &Transaction)> =
        won.iter().flat_map(|plan| plan.ledger.iter().map(|moved| (of(plan), moved))).collect();
    post(txn, &ledger, now_ms).await?;
    let days: Vec<(i64, &DayStat)> = won
        .iter()
        .filter(|plan| plan.day_changed)
        .flat_map(|plan| {
            plan.ended_days.iter().chain([&plan.account.today]).map(|day| (of(plan), day))
        })
        .collect();
    record_days(txn, &days).await?;
    insert_snapshots(txn, &won).await?;
    let events: Vec<(i64, &Event)> =
        won.iter().flat_map(|plan| plan.events.iter().map(|event| (of(plan), event))).collect();
    note(txn, &events).await?;
    Ok(lost.into_iter().map(of).collect())
}

async fn update_accounts(
    txn: &DatabaseTransaction,
    plans: &[Plan],
    now_ms: i64,
) -> Result<BTreeSet<i64>, StoreError> {
    if plans.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = "
        UPDATE prop_accounts SET status = v.new_status, cash = v.new_cash,
            peak_equity = v.new_peak_equity, peak_balance = v.new_peak_balance, day = v.new_day,
            day_base = v.new_day_base, funding_until_ms = v.new_funding_until_ms,
            marked_at_ms = v.new_marked_at_ms, last_entry_at_ms = v.new_last_entry_at_ms,
            last_loss_at_ms = v.new_last_loss_at_ms, breach = v.new_breach,
            closed_at_ms = v.new_closed_at_ms, looked_at_ms = $1, version = version + 1
        FROM {rows}
        WHERE id = v.account_id AND version = v.seen_version
        RETURNING id";
    let columns = [
        ("account_id", Int),
        ("seen_version", Int),
        ("new_status", Text),
        ("new_cash", Text),
        ("new_peak_equity", Text),
        ("new_peak_balance", Text),
        ("new_day", Int),
        ("new_day_base", Text),
        ("new_funding_until_ms", Int),
        ("new_marked_at_ms", Int),
        ("new_last_entry_at_ms", Int),
        ("new_last_loss_at_ms", Int),
        ("new_breach", Text),
        ("new_closed_at_ms", Int),
    ];
    let row = |plan: &Plan| {
        let account = &plan.account;
        row!([
            account.id,
            plan.seen_version,
            account.status.as_str(),
            account.cash,
            account.peak_equity,
            account.peak_balance,
            account.today.day,
            account.day_base,
            account.funding_until_ms,
            account.marked_at_ms,
            account.last_entry_at_ms,
            account.last_loss_at_ms,
            account.breach.map(|breach| breach.as_str()),
            account.closed_at_ms,
        ])
    };
    let mut rows: Vec<&Plan> = plans.iter().collect();
    // Rows are locked in one order.
    rows.sort_by_key(|plan| plan.account.id);
    let rows: Rows = rows.into_iter().map(row).collect();
    let won = read_rows::<Won>(txn, "save accounts", sql, &columns, [now_ms.into()], &rows).await?;
    Ok(won.into_iter().map(|won| won.id).collect())
}

#[derive(FromQueryResult)]
struct Won {
    id: i64,
}

/// Says that the marks of these accounts were tried, so that others get their turn. With a time to
/// come, they are not tried before.
///
/// # Errors
/// The driver's error.
pub async fn touch(
    txn: &DatabaseTransaction,
    accounts: &[i64],
    at_ms: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE prop_accounts SET looked_at_ms = $1 FROM {rows} WHERE id = v.account_id";
    let mut rows: Rows = accounts.iter().map(|id| row!([id])).collect();
    rows.sort_by_key(|row| row[0].as_i64());
    write(txn, "touch accounts", sql, &[("account_id", Int)], [at_ms.into()], &rows).await
}

async fn place_positions(
    txn: &DatabaseTransaction,
    plans: &[&Plan],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "
        INSERT INTO prop_positions (account_id, symbol, size, entry, leverage, stop_price,
            take_price, opened_at_ms, updated_at_ms, version)
        SELECT account_id, symbol, size, entry, leverage, stop_price, take_price, opened_at_ms,
            $1, version FROM {rows} WHERE TRUE
        ON CONFLICT (account_id, symbol) DO UPDATE SET size = excluded.size,
            entry = excluded.entry, leverage = excluded.leverage,
            stop_price = excluded.stop_price, take_price = excluded.take_price,
            opened_at_ms = excluded.opened_at_ms, updated_at_ms = excluded.updated_at_ms,
            version = excluded.version";
    let columns = [
        ("account_id", Int),
        ("symbol", Text),
        ("size", Text),
        ("entry", Text),
        ("leverage", Text),
        ("stop_price", Text),
        ("take_price", Text),
        ("opened_at_ms", Int),
        ("version", Int),
    ];
    let mut rows = Rows::new();
    for plan in plans {
        for symbol in &plan.changed {
            let Some(position) = plan.account.positions.get(symbol) else { continue };
            rows.push(row!([
                plan.account.id,
                symbol,
                position.size,
                position.entry,
                position.leverage,
                position.stop,
                position.take,
                position.opened_at_ms,
                plan.account.version,
            ]));
        }
    }
    write(txn, "place positions", sql, &columns, [now_ms.into()], &rows).await
}

async fn remove_positions(txn: &DatabaseTransaction, plans: &[&Plan]) -> Result<(), StoreError> {
    let sql = "DELETE FROM prop_positions
               WHERE (account_id, symbol) IN (SELECT account_id, symbol FROM {rows})";
    let gone = |plan: &&Plan| {
        let (id, held) = (plan.account.id, plan.account.positions.clone());
        let gone = plan.changed.iter().filter(move |symbol| !held.contains_key(*symbol));
        gone.map(move |symbol| row!([id, symbol])).collect::<Vec<_>>()
    };
    let rows: Rows = plans.iter().flat_map(gone).collect();
    write(txn, "remove positions", sql, &[("account_id", Int), ("symbol", Text)], [], &rows).await
}

async fn insert_fills(txn: &DatabaseTransaction, plans: &[&Plan]) -> Result<(), StoreError> {
    let sql = "
        INSERT INTO prop_fills (account_id, client_order_id, seq, symbol, size, price, fee,
            realized, leverage, mark, slippage_bps, reason, filled_at_ms)
        SELECT account_id, client_order_id, 0, symbol, size, price, fee, realized, leverage, mark,
            slippage_bps, reason, filled_at_ms FROM {rows}";
    let columns = [
        ("account_id", Int),
        ("client_order_id", Text),
        ("symbol", Text),
        ("size", Text),
        ("price", Text),
        ("fee", Text),
        ("realized", Text),
        ("leverage", Text),
        ("mark", Text),
        ("slippage_bps", Text),
        ("reason", Text),
        ("filled_at_ms", Int),
    ];
    let mut rows = Rows::new();
    for plan in plans {
        for fill in &plan.fills {
            rows.push(row!([
                plan.account.id,
                fill.client_order_id,
                fill.symbol,
                fill.size,
                fill.price,
                fill.fee,
                fill.realized,
                fill.leverage,
                fill.mark,
                fill.slippage_bps,
                fill.reason.as_str(),
                fill.filled_at_ms,
            ]));
        }
    }
    write(txn, "insert fills", sql, &columns, [], &rows).await
}

/// Books movements of money.
pub(super) async fn post(
    txn: &DatabaseTransaction,
    moved: &[(i64, &Transaction)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "
        INSERT INTO prop_ledger_transactions
            (account_id, kind, idempotency_key, occurred_at_ms, recorded_at_ms, reference)
        SELECT account_id, kind, idempotency_key, occurred_at_ms, $1, reference FROM {rows}";
    let columns = [
        ("account_id", Int),
        ("kind", Text),
        ("idempotency_key", Text),
        ("occurred_at_ms", Int),
        ("reference", Text),
    ];
    let transaction = |(id, moved): &(i64, &Transaction)| {
        let Transaction { kind, idempotency_key, occurred_at_ms, reference, .. } = *moved;
        row!([id, kind.as_str(), idempotency_key, occurred_at_ms, reference])
    };
    let rows: Rows = moved.iter().map(transaction).collect();
    write(txn, "book transactions", sql, &columns, [now_ms.into()], &rows).await?;
    let sql = "
        INSERT INTO prop_ledger_postings (transaction_id, line, ledger_account, amount)
        SELECT t.id, v.line, v.ledger_account, v.amount
        FROM {rows} JOIN prop_ledger_transactions AS t
        ON t.account_id = v.account_id AND t.idempotency_key = v.idempotency_key";
    let columns = [
        ("account_id", Int),
        ("idempotency_key", Text),
        ("line", Int),
        ("ledger_account", Text),
        ("amount", Text),
    ];
    let mut rows = Rows::new();
    for (id, moved) in moved {
        for (line, posting) in moved.postings.iter().enumerate() {
            let ledger_account = posting.account.as_str();
            rows.push(row!([id, moved.idempotency_key, line, ledger_account, posting.amount]));
        }
    }
    write(txn, "book postings", sql, &columns, [], &rows).await
}

/// Records days of accounts as they are now.
pub(super) async fn record_days(
    txn: &DatabaseTransaction,
    days: &[(i64, &DayStat)],
) -> Result<(), StoreError> {
    let sql = "
        INSERT INTO prop_day_stats (account_id, day, opening_balance, closing_balance, high_equity,
            low_equity, realized, fees, funding, orders, opened_position)
        SELECT account_id, day, opening_balance, closing_balance, high_equity, low_equity,
            realized, fees, funding, orders, opened_position FROM {rows} WHERE TRUE
        ON CONFLICT (account_id, day) DO UPDATE SET closing_balance = excluded.closing_balance,
            high_equity = excluded.high_equity, low_equity = excluded.low_equity,
            realized = excluded.realized, fees = excluded.fees, funding = excluded.funding,
            orders = excluded.orders, opened_position = excluded.opened_position";
    let columns = [
        ("account_id", Int),
        ("day", Int),
        ("opening_balance", Text),
        ("closing_balance", Text),
        ("high_equity", Text),
        ("low_equity", Text),
        ("realized", Text),
        ("fees", Text),
        ("funding", Text),
        ("orders", Int),
        ("opened_position", Bool),
    ];
    let row = |(id, day): &(i64, &DayStat)| {
        row!([
            id,
            day.day,
            day.opening_balance,
            day.closing_balance,
            day.high_equity,
            day.low_equity,
            day.realized,
            day.fees,
            day.funding,
            day.orders,
            day.opened_position,
        ])
    };
    let rows: Rows = days.iter().map(row).collect();
    write(txn, "record days", sql, &columns, [], &rows).await
}

async fn insert_snapshots(txn: &DatabaseTransaction, plans: &[&Plan]) -> Result<(), StoreError> {
    let sql = "
        INSERT INTO prop_equity_snapshots (account_id, at_ms, cash, unrealized_pnl, equity,
            margin_used, maintenance_margin, daily_floor, max_floor, marks)
        SELECT account_id, at_ms, cash, unrealized_pnl, equity, margin_used, maintenance_margin,
            daily_floor, max_floor, marks FROM {rows} WHERE TRUE
        ON CONFLICT (account_id, at_ms) DO UPDATE SET cash = excluded.cash,
            unrealized_pnl = excluded.unrealized_pnl, equity = excluded.equity,
            margin_used = excluded.margin_used,
            maintenance_margin = excluded.maintenance_margin,
            daily_floor = excluded.daily_floor, max_floor = excluded.max_floor,
            marks = excluded.marks";
    let columns = [
        ("account_id", Int),
        ("at_ms", Int),
        ("cash", Text),
        ("unrealized_pnl", Text),
        ("equity", Text),
        ("margin_used", Text),
        ("maintenance_margin", Text),
        ("daily_floor", Text),
        ("max_floor", Text),
        ("marks", Text),
    ];
    let row = |plan: &&Plan| {
        let equity = plan.equity.as_ref()?;
        let value = &equity.value;
        Some(row!([
            plan.account.id,
            equity.at_ms,
            equity.cash,
            value.unrealized,
            value.equity,
            value.margin_used.round_dp(8).normalize(),
            value.maintenance.round_dp(8).normalize(),
            equity.floors.daily,
            equity.floors.max,
            json!(value.marks).to_string(),
        ]))
    };
    let rows: Rows = plans.iter().filter_map(row).collect();
    write(txn, "insert equity snapshots", sql, &columns, [], &rows).await
}

/// Takes note of what happened to accounts.
///
/// # Errors
/// The driver's error.
pub async fn note(txn: &DatabaseTransaction, events: &[(i64, &Event)]) -> Result<(), StoreError> {
    let sql = "INSERT INTO prop_account_events (account_id, at_ms, kind, detail)
               SELECT account_id, at_ms, kind, detail FROM {rows}";
    let columns = [("account_id", Int), ("at_ms", Int), ("kind", Text), ("detail", Text)];
    let row =
        |(id, event): &(i64, &Event)| row!([id, event.at_ms, event.kind, event.detail.to_string()]);
    let rows: Rows = events.iter().map(row).collect();
    write(txn, "note events of accounts", sql, &columns, [], &rows).await
}

/// One statement, or none when there is nothing to write.
async fn write(
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    columns: &[(&str, Column)],
    values: impl IntoIterator<Item = SqlValue>,
    rows: &Rows,
) -> Result<(), StoreError> {
    if !rows.is_empty() {
        execute_rows(txn, operation, sql, columns, values, rows).await?;
    }
    Ok(())
}
