//! Prop accounts: what a fill, an hour of funding and a mark do to an account, and when it has
//! failed. Exact decimals; a rule takes an account and answers a plan of what to write.
//!
//! ```text
//!             prices, rates                  intents, prices
//! account ──▶ mark ──────────▶ Plan ◀─────── execute ◀── account
//!                               │ fills, ledger, day, equity, events, the account's next version
//!                               ▼
//!                     store::prop saves it, if the account is still at the version that was seen
//! ```
//!
//! Rules only. Formulas and their reference values are in the tests.

mod account;
pub mod accounting;
mod execute;
pub mod fill;
#[cfg(test)]
mod fixture;
pub mod floors;
pub mod funding;
#[cfg(test)]
mod histories;
mod ledger;
pub mod margin;
mod mark;
mod plan;
mod proof;
mod risk;
mod rules;

use rust_decimal::Decimal;

pub use account::{
    Account, AccountKind, AccountStatus, Breach, DayStat, Position, RecentFill, Unpriced, Valuation,
};
pub use execute::{Executed, client_order_id, close, execute, opening_deposit};
pub use funding::HOUR_MS;
pub use ledger::{LedgerAccount, Posting, Transaction, TransactionKind};
pub use mark::{FUNDING_GIVEN_UP_AFTER_MS, Funding, Market, Settled, mark, settle};
pub use plan::{EquitySnapshot, Event, Fill, FillReason, Order, Plan};
pub use proof::{BookedFill, Books, Discrepancy};
pub use risk::{Assessment, Limits, Proposal, Trade, Verdict, assess};
pub use rules::{AccountRules, BreachKind, DailyBase, InvalidRules, MOST_INITIAL, MaxLossMode};

/// `units` with `scale` places, as a constant.
const fn decimal(units: u32, scale: u32) -> Decimal {
    Decimal::from_parts(units, 0, 0, false, scale)
}
