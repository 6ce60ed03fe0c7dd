//! An account as it stands, and what it is worth.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::accounting::unrealized;
use super::floors::{Floors, Heights};
use super::margin;
use super::rules::AccountRules;
use crate::market::{MarginTier, Price, Terms, UNTOLD_MAX_LEVERAGE};

words! {
    /// What an account is for.
    AccountKind {
        /// It tries out a clone.
        Audition = "audition",
        /// It competes.
        Arena = "arena",
        /// It plays.
        Practice = "practice",
    }
}

words! {
    /// How an account stands.
    AccountStatus {
        /// It trades.
        Active = "active",
        /// It lost its day's share and may only reduce until the day is over.
        HaltedUntilRoll = "halted_until_roll",
        /// It has failed.
        Breached = "breached",
        /// It has reached its target.
        Passed = "passed",
        /// It was closed.
        Closed = "closed",
    }
}

words! {
    /// Why an account has failed.
    Breach {
        /// The loss of a day.
        MaxDailyLoss = "max_daily_loss",
        /// The loss in all.
        MaxTotalLoss = "max_total_loss",
        /// Equity fell below the maintenance margin.
        Liquidated = "liquidated",
    }
}

impl AccountStatus {
    /// Whether it is marked.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Active | Self::HaltedUntilRoll)
    }
}

/// An account. Money in USD, times in epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its key.
    pub id: i64,
    /// Whose it is.
    pub clone_id: i64,
    /// What it is for.
    pub kind: AccountKind,
    /// How it stands.
    pub status: AccountStatus,
    /// Its rules.
    pub rules: AccountRules,
    /// What it began with.
    pub initial: Decimal,
    /// Its balance: deposits and what was realized, with fees and funding.
    pub cash: Decimal,
    /// The highest that its equity was.
    pub peak_equity: Decimal,
    /// The highest that its balance was at the end of a day.
    pub peak_balance: Decimal,
    /// What the loss of the day is counted from.
    pub day_base: Decimal,
    /// Up to which hour funding is settled.
    pub funding_until_ms: i64,
    /// When it was last marked.
    pub marked_at_ms: Option<i64>,
    /// When it last opened a position.
    pub last_entry_at_ms: Option<i64>,
    /// When it last closed at a loss.
    pub last_loss_at_ms: Option<i64>,
    /// Why it has failed.
    pub breach: Option<Breach>,
    /// When it was opened.
    pub opened_at_ms: i64,
    /// When it ended.
    pub closed_at_ms: Option<i64>,
    /// Grows with each change: who saves says which version he saw.
    pub version: i64,
    /// What it holds, by symbol.
    pub positions: BTreeMap<String, Position>,
    /// The statistics of its day.
    pub today: DayStat,
    /// Its fills since funding was settled: what it held at an hour follows from them.
    pub recent_fills: Vec<RecentFill>,
}

/// A position. Prices in USD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Base currency; negative is short, never zero.
    pub size: Decimal,
    /// Its average price.
    pub entry: Decimal,
    /// Notional by the margin that it locks.
    pub leverage: Decimal,
    /// The mark at which it is closed at a loss.
    pub stop: Option<Decimal>,
    /// The mark at which it is closed at a profit.
    pub take: Option<Decimal>,
    /// When it was opened, epoch milliseconds.
    pub opened_at_ms: i64,
}

/// A fill that happened after the last settlement of funding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentFill {
    /// What was traded.
    pub symbol: String,
    /// Base currency; negative was sold.
    pub size: Decimal,
    /// When, epoch milliseconds.
    pub filled_at_ms: i64,
}

/// A day of an account (USD).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayStat {
    /// Counted from 1970-01-01, by the account's roll.
    pub day: i64,
    /// The balance at its beginning.
    pub opening_balance: Decimal,
    /// The balance at its end; `None` while it lasts.
    pub closing_balance: Option<Decimal>,
    /// The highest equity at a mark.
    pub high_equity: Decimal,
    /// The lowest equity at a mark.
    pub low_equity: Decimal,
    /// What closing earned, without fees.
    pub realized: Decimal,
    /// What fills cost.
    pub fees: Decimal,
    /// What funding brought.
    pub funding: Decimal,
    /// Orders filled.
    pub orders: u32,
    /// Whether a position was opened.
    pub opened_position: bool,
}

impl DayStat {
    /// A day that begins.
    #[must_use]
    pub fn begin(day: i64, balance: Decimal, equity: Decimal) -> Self {
        Self {
            day,
            opening_balance: balance,
            closing_balance: None,
            high_equity: equity,
            low_equity: equity,
            realized: Decimal::ZERO,
            fees: Decimal::ZERO,
            funding: Decimal::ZERO,
            orders: 0,
            opened_position: false,
        }
    }

    /// Takes note of the equity at a mark.
    pub fn observe(&mut self, equity: Decimal) {
        self.high_equity = self.high_equity.max(equity);
        self.low_equity = self.low_equity.min(equity);
    }
}

/// What an account is worth at the marks of one moment (USD).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valuation {
    /// What its positions are worth more than they cost.
    pub unrealized: Decimal,
    /// Cash and that.
    pub equity: Decimal,
    /// The notional of all positions.
    pub gross: Decimal,
    /// The margin that they lock.
    pub margin_used: Decimal,
    /// The equity below which they are liquidated.
    pub maintenance: Decimal,
    /// The marks that it was made with, by symbol.
    pub marks: BTreeMap<String, Decimal>,
}

/// Positions of which no fresh mark is known: the account is worth nobody knows what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fresh mark of {}", symbols.join(", "))]
pub struct Unpriced {
    /// Their symbols.
    pub symbols: Vec<String>,
}

impl Account {
    /// The floors of its equity.
    #[must_use]
    pub fn floors(&self) -> Floors {
        let Self { initial, peak_balance, peak_equity, day_base, .. } = *self;
        Floors::of(&self.rules, &Heights { initial, peak_balance, peak_equity, day_base })
    }

    /// The symbols whose prices a mark needs: of its positions, and of what it held since funding
    /// was settled.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        let recent = self.recent_fills.iter().map(|fill| fill.symbol.as_str());
        self.positions.keys().map(String::as_str).chain(recent)
    }

    /// What it is worth now.
    ///
    /// # Errors
    /// When a position has no fresh mark.
    pub fn value(
        &self,
        prices: &BTreeMap<String, Price>,
        now_ms: i64,
    ) -> Result<Valuation, Unpriced> {
        let mut marks = BTreeMap::new();
        let mut symbols = Vec::new();
        for symbol in self.positions.keys() {
            match prices.get(symbol).and_then(|price| price.fresh_mark(now_ms)) {
                Some(mark) => drop(marks.insert(symbol.clone(), mark.value)),
                None => symbols.push(symbol.clone()),
            }
        }
        if !symbols.is_empty() {
            return Err(Unpriced { symbols });
        }
        let mut value = Valuation {
            unrealized: Decimal::ZERO,
            equity: self.cash,
            gross: Decimal::ZERO,
            margin_used: Decimal::ZERO,
            maintenance: Decimal::ZERO,
            marks: BTreeMap::new(),
        };
        for (symbol, position) in &self.positions {
            let mark = marks[symbol];
            let notional = position.size.abs() * mark;
            let terms = prices.get(symbol).and_then(|price| price.terms.as_ref());
            value.unrealized += unrealized(position.size, position.entry, mark);
            value.gross += notional;
            value.margin_used += margin::initial(notional, position.leverage);
            value.maintenance += margin::maintenance(notional, tiers(terms));
        }
        value.unrealized = value.unrealized.normalize();
        value.equity = (self.cash + value.unrealized).normalize();
        value.marks = marks;
        Ok(value)
    }

    /// What it held at an instant since funding was settled, by symbol.
    #[must_use]
    pub fn held_at(&self, at_ms: i64) -> BTreeMap<&str, Decimal> {
        let mut held: BTreeMap<&str, Decimal> = BTreeMap::new();
        for (symbol, position) in &self.positions {
            held.insert(symbol, position.size);
        }
        for fill in self.recent_fills.iter().filter(|fill| fill.filled_at_ms > at_ms) {
            *held.entry(&fill.symbol).or_default() -= fill.size;
        }
        held.retain(|_, size| !size.is_zero());
        held
    }
}

/// The margin of an instrument whose venue tells nothing.
const UNTOLD: &[MarginTier] =
    &[MarginTier { lower_bound: Decimal::ZERO, max_leverage: UNTOLD_MAX_LEVERAGE }];

/// The margin tiers of an instrument, told or not.
pub(super) fn tiers(terms: Option<&Terms>) -> &[MarginTier] {
    terms.map_or(UNTOLD, |terms| &terms.tiers)
}
