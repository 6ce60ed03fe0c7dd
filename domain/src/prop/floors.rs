//! How far equity may fall: in a day, and in all.

use rust_decimal::Decimal;

use super::rules::{AccountRules, DailyBase, MaxLossMode};

/// The highest that an account stood, and where its day began (USD).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heights {
    /// What it began with.
    pub initial: Decimal,
    /// The highest balance at the end of a day, or the initial one.
    pub peak_balance: Decimal,
    /// The highest equity, or the initial balance.
    pub peak_equity: Decimal,
    /// What the loss of the day is counted from.
    pub day_base: Decimal,
}

/// The floors of an account (USD).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floors {
    /// Of the day; zero when there is no daily limit.
    pub daily: Decimal,
    /// In all.
    pub max: Decimal,
}

impl Floors {
    /// The floors that follow from where the account stood.
    #[must_use]
    pub fn of(rules: &AccountRules, heights: &Heights) -> Self {
        let Heights { initial, peak_balance, peak_equity, day_base } = *heights;
        let daily = match rules.max_daily_loss_pct {
            Some(pct) => (day_base - pct * initial).max(Decimal::ZERO),
            None => Decimal::ZERO,
        };
        let from = match rules.max_loss_mode {
            MaxLossMode::Static => initial,
            MaxLossMode::EodTrail => peak_balance.max(initial),
            MaxLossMode::IntradayTrail => peak_equity.max(initial),
        };
        let trailed = from - rules.max_total_loss_pct * initial;
        let max = match rules.max_loss_mode {
            MaxLossMode::Static => trailed,
            _ => rules.lock_at.map_or(trailed, |lock| trailed.min(lock)),
        };
        Self { daily: daily.normalize(), max: max.normalize() }
    }

    /// The higher one.
    #[must_use]
    pub fn highest(&self) -> Decimal {
        self.daily.max(self.max)
    }
}

/// Whether equity has fallen through a floor.
#[must_use]
pub fn is_breached(rules: &AccountRules, equity: Decimal, floor: Decimal) -> bool {
    equity < floor || (rules.breach_at_equal && equity == floor)
}

/// What the loss of a day that begins is counted from.
#[must_use]
pub fn day_base(rules: &AccountRules, balance: Decimal, equity: Decimal) -> Decimal {
    match rules.daily_base {
        DailyBase::Balance => balance,
        DailyBase::Higher => balance.max(equity),
    }
}

#[cfg(test)]
mod tests {
    use super::super::decimal;
    use super::*;

    /// Days of (lowest equity, balance at the end): the floors of each and whether it breached.
    fn walk(rules: &AccountRules, initial: i64, days: &[(i64, i64)]) -> Vec<(i64, i64, bool)> {
        let initial = Decimal::from(initial);
        let mut heights =
            Heights { initial, peak_balance: initial, peak_equity: initial, day_base: initial };
        let mut found = Vec::new();
        for &(low, close) in days {
            let floors = Floors::of(rules, &heights);
            let breached = is_breached(rules, low.into(), floors.highest());
            let whole = |floor: Decimal| i64::try_from(floor).unwrap();
            found.push((whole(floors.daily), whole(floors.max), breached));
            heights.peak_balance = heights.peak_balance.max(close.into());
            heights.peak_equity = heights.peak_equity.max(close.into());
            heights.day_base = day_base(rules, close.into(), close.into());
        }
        found
    }

    /// domain.md §5.1, case 1.
    #[test]
    fn a_daily_floor_follows_the_balance_and_the_static_one_stays() {
        let days = [(99_000, 104_000), (99_500, 103_000), (97_900, 101_000)];
        let fixed = AccountRules::default();
        assert_eq!(
            walk(&fixed, 100_000, &days),
            [(95_000, 90_000, false), (99_000, 90_000, false), (98_000, 90_000, true)]
        );
        let trailing = AccountRules { max_loss_mode: MaxLossMode::EodTrail, ..fixed };
        assert_eq!(
            walk(&trailing, 100_000, &days),
            [(95_000, 90_000, false), (99_000, 94_000, false), (98_000, 94_000, true)]
        );
    }

    /// domain.md §5.1, case 2.
    #[test]
    fn equity_that_equals_a_floor_survives_unless_the_rules_say_otherwise() {
        let rules = AccountRules::default();
        let floor = decimal(99_000, 0);
        assert!(is_breached(&rules, decimal(9_899_999, 2), floor));
        assert!(!is_breached(&rules, floor, floor));
        let touching = AccountRules { breach_at_equal: true, ..rules };
        assert!(is_breached(&touching, floor, floor));
    }

    fn topstep(lock_at: Option<Decimal>) -> AccountRules {
        AccountRules {
            max_daily_loss_pct: None,
            max_total_loss_pct: decimal(4, 2),
            max_loss_mode: MaxLossMode::EodTrail,
            lock_at,
            ..AccountRules::default()
        }
    }

    /// domain.md §5.1, case 3.
    #[test]
    fn a_trailing_floor_never_falls() {
        let days =
            [(50_000, 50_800), (50_000, 51_400), (50_000, 50_900), (50_000, 50_000), (48_550, 1)];
        let floors = walk(&topstep(None), 50_000, &days);
        assert_eq!(
            floors.iter().map(|day| day.1).collect::<Vec<_>>(),
            [48_000, 48_800, 49_400, 49_400, 49_400]
        );
        assert_eq!(floors.iter().map(|day| day.2).collect::<Vec<_>>(), {
            [false, false, false, false, true]
        });
    }

    /// domain.md §5.1, case 4.
    #[test]
    fn a_lock_holds_the_trailing_floor() {
        let rules = topstep(Some(decimal(50_000, 0)));
        let floors = walk(&rules, 50_000, &[(50_000, 52_500), (51_000, 53_000), (50_000, 1)]);
        assert_eq!(floors.iter().map(|day| day.1).collect::<Vec<_>>(), [48_000, 50_000, 50_000]);
        assert!(is_breached(&rules, decimal(4_999_999, 2), decimal(50_000, 0)));
    }

    #[test]
    fn an_intraday_trail_follows_equity_and_a_day_may_begin_at_the_higher() {
        let rules = AccountRules {
            max_loss_mode: MaxLossMode::IntradayTrail,
            daily_base: DailyBase::Higher,
            ..AccountRules::default()
        };
        let heights = Heights {
            initial: decimal(100_000, 0),
            peak_balance: decimal(100_000, 0),
            peak_equity: decimal(108_000, 0),
            day_base: day_base(&rules, decimal(101_000, 0), decimal(103_000, 0)),
        };
        let floors = Floors::of(&rules, &heights);
        assert_eq!((floors.daily, floors.max), (decimal(98_000, 0), decimal(98_000, 0)));
    }
}
