use super::AuditionStatus::{Expired, Failed, Inconclusive, Passed};
use super::*;
use crate::lifecycle::progress::{AuditionDay, DecisionCounts};

/// Days by their profits, each with a trade, from 100,000.
fn progress(profits: &[i64]) -> Progress {
    let mut balance = Decimal::from(100_000);
    let days = profits.iter().enumerate().map(|(day, profit)| {
        let opening_balance = balance;
        balance += Decimal::from(*profit);
        let day = i64::try_from(day).unwrap();
        AuditionDay { day, opening_balance, closing_balance: balance, opened_position: true }
    });
    let days: Vec<_> = days.collect();
    Progress {
        breach: None,
        initial: Decimal::from(100_000),
        balance,
        open_positions: 0,
        closed_trades: u32::try_from(days.len()).unwrap(),
        days,
        decisions: DecisionCounts { all: 100, ..DecisionCounts::default() },
    }
}

fn asks(target: i64) -> AuditionRules {
    AuditionRules { target: Some(Decimal::new(target, 2)), ..AuditionRules::default() }
}

#[track_caller]
fn check(
    rules: &AuditionRules,
    progress: &Progress,
    is_over: bool,
    expected: Result<(AuditionStatus, &str), &[Missing]>,
) {
    match (judge(rules, progress, is_over), expected) {
        (Verdict::Ended { status, reason, .. }, Ok(expected)) => {
            assert_eq!((status, reason.as_str()), expected);
        }
        (Verdict::Undecided { missing }, Err(expected)) => assert_eq!(missing, expected),
        (verdict, expected) => panic!("{verdict:?}, expected {expected:?}"),
    }
}

#[test]
fn an_audition_without_a_target_asks_to_last_its_window() {
    let rules = AuditionRules::default();
    check(&rules, &progress(&[50_000]), false, Err(&[]));
    check(&rules, &progress(&[-2_000]), true, Ok((Passed, "window_survived")));
    check(&rules, &progress(&[]), true, Ok((Passed, "window_survived")));
    // What is open does not count against it: its equity never fell below a floor.
    let open = Progress { open_positions: 1, ..progress(&[1]) };
    check(&rules, &open, true, Ok((Passed, "window_survived")));
    let busy = AuditionRules { min_trading_days: 2, ..rules };
    check(&busy, &progress(&[1]), true, Ok((Expired, "time_limit")));
}

#[test]
fn a_target_counts_on_the_closed_balance_as_soon_as_all_is_there() {
    let rules = asks(10);
    check(&rules, &progress(&[9_999]), false, Err(&[Missing::Target]));
    check(&rules, &progress(&[9_999]), true, Ok((Expired, "time_limit")));
    check(&rules, &progress(&[10_000]), false, Ok((Passed, "target_reached")));
    let open = Progress { open_positions: 1, ..progress(&[12_000]) };
    check(&rules, &open, false, Err(&[Missing::Flat]));
    check(&rules, &open, true, Ok((Expired, "time_limit")));
    let days = AuditionRules { min_trading_days: 4, min_closed_trades: 5, ..asks(10) };
    let three = progress(&[4_000, 4_000, 4_000]);
    check(&days, &three, false, Err(&[Missing::TradingDays, Missing::ClosedTrades]));
    let mut idle = progress(&[4_000, 4_000, 4_000, 0]);
    idle.days[3].opened_position = false;
    idle.closed_trades = 9;
    check(&days, &idle, false, Err(&[Missing::TradingDays]));
    let four = Progress { closed_trades: 5, ..progress(&[4_000, 4_000, 4_000, 1]) };
    check(&days, &four, false, Ok((Passed, "target_reached")));
}

#[test]
fn a_breach_beats_a_target_of_the_same_mark() {
    let rules = asks(10);
    let kinds = [
        (Breach::DailyLoss, "max_daily_loss"),
        (Breach::TotalLoss, "max_total_loss"),
        (Breach::Liquidated, "liquidated"),
        (Breach::Other, "rule_violation"),
    ];
    for (breach, reason) in kinds {
        for is_over in [false, true] {
            let reached = Progress { breach: Some(breach), ..progress(&[20_000]) };
            check(&rules, &reached, is_over, Ok((Failed, reason)));
        }
    }
}

#[test]
fn one_day_may_not_make_the_profit() {
    let rule = |share, of| AuditionRules {
        consistency: Some(Consistency { max_best_day_share: Decimal::new(share, 2), of }),
        ..asks(2)
    };
    let topstep = rule(40, ConsistencyBase::TotalProfit);
    // The best day is 900 of 2,800: 32.14 %.
    let even = progress(&[900, 800, 600, 500]);
    assert_eq!(
        even.best_day_share(false).unwrap().round_dp(8),
        "0.32142857".parse::<Decimal>().unwrap()
    );
    check(&topstep, &even, false, Ok((Passed, "target_reached")));
    // 1,500 of 2,800: 53.57 %; not failed: it trades on.
    let uneven = progress(&[1_500, 800, 500]);
    check(&topstep, &uneven, false, Err(&[Missing::Consistency]));
    check(&topstep, &uneven, true, Ok((Expired, "time_limit")));
    // Of the days that gained, 1,500 is exactly half of 3,000.
    let one_step = rule(50, ConsistencyBase::PositiveDays);
    let gained = progress(&[1_500, -500, 1_500]);
    check(&one_step, &gained, false, Ok((Passed, "target_reached")));
    let half = rule(50, ConsistencyBase::TotalProfit);
    check(&half, &gained, false, Err(&[Missing::Consistency]));
    // No profit to share: not shown, whatever the target.
    assert_eq!(progress(&[-5, 3]).best_day_share(false), None);
    assert_eq!(progress(&[-5, -3]).best_day_share(true), None);
    assert_eq!(progress(&[]).best_day_share(false), None);
}

#[test]
fn who_was_seldom_asked_goes_on_and_is_inconclusive_at_the_end() {
    let skipped = |provider_skips, data_skips| Progress {
        decisions: DecisionCounts { all: 100, provider_skips, data_skips },
        ..progress(&[12_000])
    };
    let rules = asks(10);
    check(&rules, &skipped(20, 20), false, Ok((Passed, "target_reached")));
    check(&rules, &skipped(21, 0), false, Err(&[]));
    check(&rules, &skipped(21, 0), true, Ok((Inconclusive, "provider_skips")));
    check(&rules, &skipped(0, 21), true, Ok((Inconclusive, "data_outage")));
    let breached = Progress { breach: Some(Breach::DailyLoss), ..skipped(90, 0) };
    check(&rules, &breached, true, Ok((Failed, "max_daily_loss")));
    check(&AuditionRules::default(), &skipped(21, 0), true, Ok((Inconclusive, "provider_skips")));
    let nobody = DecisionCounts::default();
    assert_eq!(nobody.share(0), Decimal::ZERO);
}
