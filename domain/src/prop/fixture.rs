//! An account for tests.

use std::collections::BTreeMap;

use super::{Account, AccountKind, AccountRules, AccountStatus, DayStat, decimal};

/// An account with 10,000 in cash, at the beginning of time.
pub(super) fn account(rules: AccountRules) -> Account {
    let cash = decimal(10_000, 0);
    Account {
        id: 7,
        clone_id: 1,
        kind: AccountKind::Practice,
        status: AccountStatus::Active,
        rules,
        initial: cash,
        cash,
        peak_equity: cash,
        peak_balance: cash,
        day_base: cash,
        funding_until_ms: 0,
        marked_at_ms: None,
        last_entry_at_ms: None,
        last_loss_at_ms: None,
        breach: None,
        opened_at_ms: 0,
        closed_at_ms: None,
        version: 3,
        positions: BTreeMap::new(),
        today: DayStat::begin(0, cash, cash),
        recent_fills: Vec::new(),
    }
}
