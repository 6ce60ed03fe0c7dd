//! Executing what a clone decided: proposals → checks → paper fills, as one plan.

use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use super::account::Account;
use super::mark::{Market, begin_day, catch_up, close_all, settle_funding};
use super::plan::{FillReason, Order, Plan};
use super::risk::{Limits, Proposal, Verdict, assess};
use super::{AccountStatus, Breach, Unpriced};
use crate::decisions::IntentKind;

/// What came of the proposals of one decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Executed {
    /// What is to be written, with the fills.
    pub plan: Plan,
    /// What the checks found, by proposal.
    pub verdicts: Vec<Vec<Verdict>>,
    /// The orders that were filled.
    pub client_order_ids: Vec<String>,
    /// Whether a check refused a proposal, whole or in part.
    pub refused: bool,
}

/// Plans the execution of a decision. The orders' ids follow from `run_id` and the place of the
/// proposal, so that a decision that is executed again collides with itself.
#[must_use]
pub fn execute(
    account: Account,
    run_id: &str,
    proposals: &[Proposal],
    limits: &Limits,
    market: &Market,
    now_ms: i64,
) -> Executed {
    let mut plan = Plan::of(account);
    catch_up(&mut plan, market, now_ms);
    let mut executed =
        Executed { plan, verdicts: Vec::new(), client_order_ids: Vec::new(), refused: false };
    for (at, proposal) in proposals.iter().enumerate() {
        let account = &executed.plan.account;
        let value = account.value(&market.prices, now_ms).ok();
        let assessed = assess(account, value.as_ref(), proposal, limits, &market.prices, now_ms);
        executed.refused |= assessed.is_refused();
        executed.verdicts.push(assessed.verdicts);
        let Some(trade) = assessed.trade else { continue };
        let (stop_loss_pct, take_profit_pct) = match proposal.intent.kind {
            IntentKind::Open { stop_loss_pct, take_profit_pct, .. } => {
                (stop_loss_pct, take_profit_pct)
            }
            IntentKind::Close => (None, None),
        };
        let symbol = &proposal.intent.symbol;
        let order = Order {
            client_order_id: client_order_id(run_id, at),
            symbol: symbol.clone(),
            size: trade.size,
            leverage: trade.leverage,
            stop_loss_pct,
            take_profit_pct,
            reason: FillReason::Decision,
        };
        let mark = market.prices.get(symbol).and_then(|price| price.fresh_mark(now_ms));
        executed.client_order_ids.push(order.client_order_id.clone());
        executed.plan.trade(&order, trade.execution, mark.map(|mark| mark.value), now_ms);
    }
    executed
}

/// Plans the end of an account: its positions are closed at their marks, with fees. A breach that
/// was found before stays.
///
/// # Errors
/// When a position has no fresh mark.
pub fn close(
    account: Account,
    status: AccountStatus,
    breach: Option<Breach>,
    market: &Market,
    now_ms: i64,
) -> Result<Plan, Unpriced> {
    let mut plan = Plan::of(account);
    settle_funding(&mut plan, market, now_ms);
    let value = plan.account.value(&market.prices, now_ms)?;
    begin_day(&mut plan, value.equity, now_ms);
    close_all(&mut plan, &value, FillReason::Close, now_ms);
    let equity = plan.account.cash;
    plan.observe(equity);
    let breach = plan.account.breach.or(breach);
    plan.end(status, breach, now_ms);
    let detail = serde_json::json!({ "status": status.as_str(), "balance": equity });
    plan.note("closed", now_ms, detail);
    Ok(plan)
}

/// The id of the order of one proposal of one decision.
#[must_use]
pub fn client_order_id(run_id: &str, proposal: usize) -> String {
    use std::fmt::Write as _;
    let digest = Sha256::digest(format!("{run_id}:{proposal}"));
    digest.iter().take(16).fold(String::new(), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A new account, with its deposit.
#[must_use]
pub fn opening_deposit(initial: Decimal, at_ms: i64) -> super::Transaction {
    super::Transaction::new(super::TransactionKind::Deposit, "init".to_owned(), at_ms, initial)
}

#[cfg(test)]
mod tests;
