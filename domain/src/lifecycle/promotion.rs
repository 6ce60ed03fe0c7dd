//! Who enters the arena: how well an audition went, and whether its clone may enter still.

use rust_decimal::prelude::ToPrimitive;

use super::audition::AuditionStatus;
use super::progress::Progress;
use crate::backtesting::Performance;

/// Calmar and Sortino ratios from here on count no more.
const BEST_CALMAR: f64 = 5.0;
const BEST_SORTINO: f64 = 3.0;
const DAYS_PER_YEAR: f64 = 365.0;

/// How well a passed audition went, 0 to 1: half its Calmar ratio, three tenths its Sortino ratio,
/// two tenths how evenly its days gained. What has no value counts 0. Measured on the balance at
/// the end of each day.
///
/// The queue is by priority, then by score, then by who passed earlier.
#[must_use]
pub fn score(progress: &Progress) -> f64 {
    let initial = progress.initial.to_f64().unwrap_or_default();
    let balances: Option<Vec<f64>> =
        progress.days.iter().map(|day| day.closing_balance.to_f64()).collect();
    let (Some(balances), true) = (balances, initial > 0.0) else { return 0.0 };
    let performance = Performance::measure(initial, &balances, DAYS_PER_YEAR);
    let part = |ratio: Result<f64, _>, best: f64| {
        ratio.map_or(0.0, |ratio| (ratio / best).clamp(0.0, 1.0))
    };
    let evenness = progress.best_day_share(false).and_then(|share| (1.0 - share.to_f64()?).into());
    0.5 * part(performance.calmar, BEST_CALMAR)
        + 0.3 * part(performance.sortino, BEST_SORTINO)
        + 0.2 * evenness.map_or(0.0, |evenness: f64| evenness.clamp(0.0, 1.0))
}

/// What is known of a clone when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where its audition stands.
    pub audition_status: AuditionStatus,
    /// The strategy that was auditioned; `None` is the default draft.
    pub auditioned_graph: Option<String>,
    /// The strategy that it would trade now.
    pub graph: Option<String>,
    /// Whether it is active.
    pub is_active: bool,
    /// Whether its public profile is approved.
    pub is_approved: bool,
    /// Whether it is in the arena already.
    pub is_member: bool,
}

words! {
    /// Why a clone may not enter.
    Rejection {
        /// Its audition did not pass.
        AuditionNotPassed = "audition_not_passed",
        /// It was paused or archived.
        CloneNotActive = "clone_not_active",
        /// Its public profile is not approved any more.
        ProfileNotApproved = "profile_not_approved",
        /// It would trade another strategy than the one that was auditioned.
        StrategyChanged = "strategy_changed",
        /// It is in the arena already.
        AlreadyMember = "already_member",
    }
}

/// Whether a clone may enter now: what was true when it was queued need not be so still.
///
/// # Errors
/// Why not.
pub fn check_eligible(candidate: &Candidate) -> Result<(), Rejection> {
    let checks = [
        (candidate.audition_status == AuditionStatus::Passed, Rejection::AuditionNotPassed),
        (candidate.is_active, Rejection::CloneNotActive),
        (candidate.is_approved, Rejection::ProfileNotApproved),
        (candidate.graph == candidate.auditioned_graph, Rejection::StrategyChanged),
        (!candidate.is_member, Rejection::AlreadyMember),
    ];
    checks.into_iter().try_for_each(|(holds, rejection)| holds.then_some(()).ok_or(rejection))
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;
    use crate::lifecycle::{AuditionDay, DecisionCounts};

    fn progress(initial: i64, closes: &[i64]) -> Progress {
        let mut opening_balance = Decimal::from(initial);
        let days = closes.iter().zip(0..).map(|(close, day)| {
            let closing_balance = Decimal::from(*close);
            let today =
                AuditionDay { day, opening_balance, closing_balance, opened_position: true };
            opening_balance = closing_balance;
            today
        });
        let days = days.collect();
        Progress {
            breach: None,
            initial: initial.into(),
            balance: (*closes.last().unwrap_or(&initial)).into(),
            open_positions: 0,
            closed_trades: 0,
            days,
            decisions: DecisionCounts::default(),
        }
    }

    #[test]
    fn what_has_no_value_counts_nothing_and_too_good_counts_one() {
        let check = |initial, closes: &[i64], expected: f64| {
            let found = score(&progress(initial, closes));
            assert!((found - expected).abs() < 1e-9, "{closes:?}: {found}, expected {expected}");
        };
        check(100, &[], 0.0);
        check(0, &[1, 2], 0.0);
        check(100, &[100, 100], 0.0);
        // Gains alone have neither a Calmar nor a Sortino ratio; one day made half of it.
        check(100, &[110, 120], 0.2 * 0.5);
        // Both ratios are far beyond what counts; 20 of 25 came on the best day.
        check(100, &[120, 119, 125], 0.8 + 0.2 * (1.0 - 20.0 / 25.0));
        check(100, &[90, 80], 0.0);
        let even = score(&progress(100_000, &[100_100, 100_050, 100_140, 100_190, 100_260]));
        let uneven = score(&progress(100_000, &[100_010, 99_960, 99_970, 99_975, 100_260]));
        assert!(even > uneven && (0.0..=1.0).contains(&even) && (0.0..=1.0).contains(&uneven));
    }

    #[test]
    fn what_was_true_in_the_queue_is_asked_again_at_the_door() {
        let fit = Candidate {
            audition_status: AuditionStatus::Passed,
            auditioned_graph: Some("abc".into()),
            graph: Some("abc".into()),
            is_active: true,
            is_approved: true,
            is_member: false,
        };
        assert_eq!(check_eligible(&fit), Ok(()));
        let draft = Candidate { graph: None, auditioned_graph: None, ..fit.clone() };
        assert_eq!(check_eligible(&draft), Ok(()));
        let cases = [
            (
                Candidate { audition_status: AuditionStatus::Failed, ..fit.clone() },
                Rejection::AuditionNotPassed,
            ),
            (Candidate { is_active: false, ..fit.clone() }, Rejection::CloneNotActive),
            (Candidate { is_approved: false, ..fit.clone() }, Rejection::ProfileNotApproved),
            (Candidate { graph: Some("def".into()), ..fit.clone() }, Rejection::StrategyChanged),
            (Candidate { graph: None, ..fit.clone() }, Rejection::StrategyChanged),
            (Candidate { is_member: true, ..fit.clone() }, Rejection::AlreadyMember),
        ];
        for (candidate, rejection) in cases {
            assert_eq!(check_eligible(&candidate), Err(rejection), "{candidate:?}");
        }
    }
}
