//! What is said of an audition now.

use rust_decimal::Decimal;
use serde::Serialize;

use super::audition::{AuditionReason, AuditionStatus};
use super::progress::Progress;
use super::rules::{AuditionRules, Consistency, ConsistencyBase};

/// The rule of an account that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// Equity fell below the day's floor.
    DailyLoss,
    /// Equity fell below the account's floor.
    TotalLoss,
    /// Equity fell below the maintenance margin.
    Liquidated,
    /// Another rule.
    Other,
}

impl Breach {
    /// Under which reason the audition fails.
    #[must_use]
    pub fn reason(self) -> AuditionReason {
        match self {
            Self::DailyLoss => AuditionReason::MaxDailyLoss,
            Self::TotalLoss => AuditionReason::MaxTotalLoss,
            Self::Liquidated => AuditionReason::Liquidated,
            Self::Other => AuditionReason::RuleViolation,
        }
    }
}

/// What is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The profit.
    Target,
    /// Positions are open: the profit may still go.
    Flat,
    /// Days with trades.
    TradingDays,
    /// Closed trades.
    ClosedTrades,
    /// A smaller share of the best day.
    Consistency,
}

/// What is said of an audition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Undecided {
        /// What is not there yet.
        missing: Vec<Missing>,
    },
    /// It ends.
    Ended {
        /// How.
        status: AuditionStatus,
        /// Why.
        reason: AuditionReason,
        /// What was not there.
        missing: Vec<Missing>,
    },
}

/// Judges an audition that runs. `is_over` says that its window has ended.
///
/// A breach comes before everything. While there is time, an audition whose provider or data were
/// away too often goes on rather than pass; at the end it says nothing about the clone.
#[must_use]
pub fn judge(rules: &AuditionRules, progress: &Progress, is_over: bool) -> Verdict {
    let missing = missing(rules, progress);
    let ended = |status, reason, missing| Verdict::Ended { status, reason, missing };
    if let Some(breach) = progress.breach {
        return ended(AuditionStatus::Failed, breach.reason(), missing);
    }
    // Without a target there is nothing to reach early.
    if !is_over && (rules.target.is_none() || !missing.is_empty()) {
        return Verdict::Undecided { missing };
    }
    match too_many_skips(rules, progress) {
        Some(_) if !is_over => Verdict::Undecided { missing },
        Some(reason) => ended(AuditionStatus::Inconclusive, reason, missing),
        None if !missing.is_empty() => {
            ended(AuditionStatus::Expired, AuditionReason::TimeLimit, missing)
        }
        None if rules.target.is_some() => {
            ended(AuditionStatus::Passed, AuditionReason::TargetReached, missing)
        }
        None => ended(AuditionStatus::Passed, AuditionReason::WindowSurvived, missing),
    }
}

fn missing(rules: &AuditionRules, progress: &Progress) -> Vec<Missing> {
    let target = rules
        .target
        .map(|target| progress.initial.saturating_mul(Decimal::ONE.saturating_add(target)));
    let asked = [
        (Missing::Target, target.is_some_and(|target| progress.balance < target)),
        (Missing::Flat, target.is_some() && progress.open_positions > 0),
        (Missing::TradingDays, progress.trading_days() < rules.min_trading_days),
        (Missing::ClosedTrades, progress.closed_trades < rules.min_closed_trades),
        (
            Missing::Consistency,
            rules.consistency.is_some_and(|rule| !is_consistent(rule, progress)),
        ),
    ];
    asked.into_iter().filter_map(|(missing, is_missing)| is_missing.then_some(missing)).collect()
}

/// Without a profit to share nothing is shown.
fn is_consistent(rule: Consistency, progress: &Progress) -> bool {
    let share = progress.best_day_share(rule.of == ConsistencyBase::PositiveDays);
    share.is_some_and(|share| share <= rule.max_best_day_share)
}

fn too_many_skips(rules: &AuditionRules, progress: &Progress) -> Option<AuditionReason> {
    let decisions = &progress.decisions;
    if decisions.share(decisions.provider_skips) > rules.max_provider_skip_share {
        return Some(AuditionReason::ProviderSkips);
    }
    let is_dark = decisions.share(decisions.data_skips) > rules.max_data_skip_share;
    is_dark.then_some(AuditionReason::DataOutage)
}

#[cfg(test)]
mod tests;
