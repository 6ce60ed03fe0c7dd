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

pub mod accounting;
pub mod fill;
pub mod floors;
pub mod funding;
mod ledger;
pub mod margin;
mod rules;

use rust_decimal::Decimal;

pub use ledger::{LedgerAccount, Posting, Transaction, TransactionKind};
pub use rules::{AccountRules, BreachKind, DailyBase, InvalidRules, MOST_INITIAL, MaxLossMode};

/// `units` with `scale` places, as a constant.
const fn decimal(units: u32, scale: u32) -> Decimal {
    Decimal::from_parts(units, 0, 0, false, scale)
}
