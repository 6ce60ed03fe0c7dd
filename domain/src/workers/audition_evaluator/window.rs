//! What an audition had come to when its window ended: what its account did since is taken back.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use crate::lifecycle::Progress;
use crate::prop::AccountRules;
use crate::store::audition_accounts::{Afterwards, Traded};

/// Takes back from the progress of an account what it did after the window of its audition. A breach
/// stays, whenever it was found.
pub(super) fn take_back(progress: &mut Progress, afterwards: &Afterwards, rules: &AccountRules) {
    let ended_at_ms = afterwards.ended_at_ms;
    progress.balance = progress.balance.saturating_sub(afterwards.cash).normalize();
    let mut held = afterwards.held.clone();
    let (since, within): (Vec<&Traded>, Vec<&Traded>) =
        afterwards.fills.iter().partition(|fill| fill.filled_at_ms > ended_at_ms);
    for fill in &since {
        undo(&mut held, fill);
    }
    let open = held.values().filter(|size| !size.is_zero()).count();
    progress.open_positions = u32::try_from(open).unwrap_or(u32::MAX);
    let closed = since.iter().filter(|fill| fill.closed).count();
    let closed = u32::try_from(closed).unwrap_or(u32::MAX);
    progress.closed_trades = progress.closed_trades.saturating_sub(closed);

    let last = rules.day_of(ended_at_ms);
    let mut opened_on_last_day = false;
    let of_last_day = |fill: &&&Traded| rules.day_of(fill.filled_at_ms) == last;
    for fill in within.iter().rev().take_while(of_last_day) {
        let after = held.get(&fill.symbol).copied().unwrap_or_default();
        let before = undo(&mut held, fill);
        let turned = after.is_sign_negative() != before.is_sign_negative();
        opened_on_last_day |= !after.is_zero() && (turned || after.abs() > before.abs());
    }
    progress.days.retain(|day| day.day <= last);
    if let Some(day) = progress.days.last_mut().filter(|day| day.day == last) {
        day.closing_balance = progress.balance;
        day.opened_position = opened_on_last_day;
    }
}

/// Answers what was held before a fill.
fn undo(held: &mut BTreeMap<String, Decimal>, fill: &Traded) -> Decimal {
    let size = held.entry(fill.symbol.clone()).or_default();
    *size = size.saturating_sub(fill.size);
    *size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::AuditionDay;

    const DAY: i64 = 86_400_000;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn fill(size: &str, closed: bool, filled_at_ms: i64) -> Traded {
        Traded { symbol: "BTC".into(), size: d(size), closed, filled_at_ms }
    }

    fn day(day: i64, from: &str, to: &str, opened_position: bool) -> AuditionDay {
        AuditionDay { day, opening_balance: d(from), closing_balance: d(to), opened_position }
    }

    fn progress(balance: &str, closed_trades: u32, days: Vec<AuditionDay>) -> Progress {
        Progress {
            breach: None,
            initial: d("100"),
            balance: d(balance),
            open_positions: 0,
            closed_trades,
            days,
            decisions: Default::default(),
        }
    }

    /// The window ends in the middle of day 10.
    fn afterwards(cash: &str, held: &str, fills: Vec<Traded>) -> Afterwards {
        let held = BTreeMap::from([("BTC".to_owned(), d(held))]);
        Afterwards { ended_at_ms: 10 * DAY + DAY / 2, cash: d(cash), held, fills }
    }

    #[test]
    fn what_was_held_and_what_was_earned_is_that_of_the_end() {
        let before = 10 * DAY + 1;
        let after = 10 * DAY + DAY / 2 + 1;
        let fills =
            vec![fill("2", false, before), fill("-2", true, after), fill("-1", false, after)];
        let days = vec![
            day(9, "90", "100", true),
            day(10, "100", "120", true),
            day(11, "120", "130", true),
        ];
        let mut seen = progress("130", 3, days);
        take_back(&mut seen, &afterwards("32", "-1", fills), &AccountRules::default());
        let expected =
            progress("98", 2, vec![day(9, "90", "100", true), day(10, "100", "98", true)]);
        assert_eq!(seen, Progress { open_positions: 1, ..expected });
    }

    #[test]
    fn a_day_whose_positions_were_opened_after_the_end_is_none() {
        let last_day = |size_before: &str, held: &str, fills: Vec<Traded>| {
            let mut seen = progress("100", 0, vec![day(10, "100", "100", true)]);
            take_back(&mut seen, &afterwards("0", held, fills), &AccountRules::default());
            let open = u32::from(d(size_before) != Decimal::ZERO);
            (seen.open_positions == open, seen.trading_days())
        };
        let (before, after) = (10 * DAY + 1, 11 * DAY);
        assert_eq!(last_day("0", "1", vec![fill("1", false, after)]), (true, 0));
        assert_eq!(last_day("1", "2", vec![fill("1", false, after)]), (true, 0), "held since long");
        let closed = vec![fill("-1", true, before), fill("1", false, after)];
        assert_eq!(last_day("0", "1", closed), (true, 0), "it only closed");
        let reduced = vec![fill("-1", true, before)];
        assert_eq!(last_day("1", "1", reduced), (true, 0), "it only reduced");
        assert_eq!(last_day("1", "1", vec![fill("2", true, before)]), (true, 1), "it turned");
        assert_eq!(
            last_day("1", "3", vec![fill("1", false, before), fill("2", false, after)]),
            (true, 1)
        );
    }
}
