//! What an audition has come to so far.

use rust_decimal::Decimal;

use super::verdict::Breach;

/// What an audition has come to, as its account and its decisions tell. Money is USD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The rule of the account that was broken.
    pub breach: Option<Breach>,
    /// Cash that the account opened with.
    pub initial: Decimal,
    /// Cash now: what was realised.
    pub balance: Decimal,
    /// Positions that are open.
    pub open_positions: u32,
    /// Fills that closed something.
    pub closed_trades: u32,
    /// Its days, oldest first; the last may be under way.
    pub days: Vec<AuditionDay>,
    /// Its decisions.
    pub decisions: DecisionCounts,
}

/// A day of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditionDay {
    /// Days since 1970.
    pub day: i64,
    /// Balance when it began.
    pub opening_balance: Decimal,
    /// Balance when it ended, or now.
    pub closing_balance: Decimal,
    /// Whether a position was opened.
    pub opened_position: bool,
}

/// Decisions, and why nobody decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecisionCounts {
    /// All of them.
    pub all: u64,
    /// Left out by the provider.
    pub provider_skips: u64,
    /// Left out for want of data.
    pub data_skips: u64,
}

impl Progress {
    /// Days on which a position was opened.
    #[must_use]
    pub fn trading_days(&self) -> u32 {
        u32::try_from(self.days.iter().filter(|day| day.opened_position).count())
            .unwrap_or(u32::MAX)
    }

    /// The best day's profit as a share of the profit of all days, or of the days that gained;
    /// `None` where there is no profit to share.
    #[must_use]
    pub fn best_day_share(&self, only_gains: bool) -> Option<Decimal> {
        let profits = self.days.iter().map(AuditionDay::profit);
        let best = profits.clone().max()?;
        let counted = profits.filter(|profit| !only_gains || *profit > Decimal::ZERO);
        let sum = counted.fold(Decimal::ZERO, Decimal::saturating_add);
        if sum <= Decimal::ZERO { None } else { best.checked_div(sum) }
    }
}

impl AuditionDay {
    /// What it gained.
    #[must_use]
    pub fn profit(&self) -> Decimal {
        self.closing_balance.saturating_sub(self.opening_balance)
    }
}

impl DecisionCounts {
    /// These as a share of all; 0 of none.
    #[must_use]
    pub fn share(&self, counted: u64) -> Decimal {
        Decimal::from(counted).checked_div(Decimal::from(self.all)).unwrap_or_default()
    }
}
