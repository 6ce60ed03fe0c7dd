//! The rules of an account, as they were when it was opened. Stored as JSON, decimals as text.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::decimal;

/// What an account may do and when it has failed. Fractions are of 1, money is in USD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountRules {
    /// Loss of a day, as a fraction of the initial balance; `None` is no limit.
    pub max_daily_loss_pct: Option<Decimal>,
    /// What the loss of a day is counted from.
    pub daily_base: DailyBase,
    /// Loss in all, as a fraction of the initial balance.
    pub max_total_loss_pct: Decimal,
    /// What the loss in all is counted from.
    pub max_loss_mode: MaxLossMode,
    /// The floor of the total loss rises no higher than this.
    pub lock_at: Option<Decimal>,
    /// What a daily loss leads to. A total loss always ends the account.
    pub breach_kind: BreachKind,
    /// Whether equity that equals a floor has breached it.
    pub breach_at_equal: bool,
    /// When a day begins: minutes after midnight UTC, 0 to 1439.
    pub day_roll_minutes: u16,
    /// Fee of an order that takes, as a fraction of its notional.
    pub taker_fee_rate: Decimal,
    /// Fee of an order that makes, as a fraction of its notional.
    pub maker_fee_rate: Decimal,
    /// How much worse than the mid, or than the end of the quote, a fill is, as a fraction.
    pub slippage_rate: Decimal,
    /// How much worse than the mark a liquidation closes, as a fraction.
    pub liquidation_penalty_rate: Decimal,
    /// Highest leverage of a position.
    pub max_leverage: Decimal,
    /// Largest notional of one position, as a multiple of equity.
    pub max_position_pct: Decimal,
    /// Largest notional of all positions, as a multiple of equity.
    pub max_gross_leverage: Decimal,
    /// Positions open at one time.
    pub max_open_positions: u32,
    /// Orders of a day.
    pub max_orders_per_day: u32,
    /// Smallest notional of an order that opens.
    pub min_notional: Decimal,
    /// After an entry nothing is opened for this long (milliseconds).
    pub cooldown_ms: i64,
    /// After a loss nothing is opened for this long (milliseconds).
    pub cooldown_after_loss_ms: i64,
    /// How far the mark may be from the oracle, as a fraction.
    pub max_mark_deviation: Decimal,
    /// What must be left above a floor at the stop, as a fraction of the initial balance; an
    /// account that is nearer may only reduce.
    pub floor_buffer_pct: Decimal,
}

/// What the loss of a day is counted from, at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DailyBase {
    /// The balance.
    #[serde(rename = "balance")]
    Balance,
    /// The balance or the equity, whichever is higher.
    #[serde(rename = "max(balance,equity)")]
    Higher,
}

/// What the loss in all is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxLossMode {
    /// The initial balance.
    Static,
    /// The highest balance at the end of a day.
    EodTrail,
    /// The highest equity.
    IntradayTrail,
}

/// What a daily loss leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreachKind {
    /// The account has failed.
    Hard,
    /// It is flat until the day is over.
    SoftUntilRoll,
}

impl Default for AccountRules {
    /// 5 % a day from the balance, 10 % in all from the initial balance, both hard; days from
    /// midnight UTC; fees of Hyperliquid's first tier; leverage 5.
    fn default() -> Self {
        Self {
            max_daily_loss_pct: Some(decimal(5, 2)),
            daily_base: DailyBase::Balance,
            max_total_loss_pct: decimal(10, 2),
            max_loss_mode: MaxLossMode::Static,
            lock_at: None,
            breach_kind: BreachKind::Hard,
            breach_at_equal: false,
            day_roll_minutes: 0,
            taker_fee_rate: decimal(45, 5),
            maker_fee_rate: decimal(15, 5),
            slippage_rate: decimal(2, 4),
            liquidation_penalty_rate: decimal(5, 3),
            max_leverage: decimal(5, 0),
            max_position_pct: decimal(2, 0),
            max_gross_leverage: decimal(5, 0),
            max_open_positions: 5,
            max_orders_per_day: 200,
            min_notional: decimal(10, 0),
            cooldown_ms: 0,
            cooldown_after_loss_ms: 0,
            max_mark_deviation: decimal(5, 2),
            floor_buffer_pct: decimal(25, 4),
        }
    }
}

/// A rule that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule} is {actual}, expected {expected}")]
pub struct InvalidRules {
    /// The rule.
    pub rule: &'static str,
    /// What it says.
    pub actual: String,
    /// What it may say.
    pub expected: &'static str,
}

/// An account begins with at most this (USD): sums stay exact.
pub const MOST_INITIAL: Decimal = decimal(1_000_000_000, 0);

impl AccountRules {
    /// Checks the rules of an account that begins with `initial`.
    ///
    /// # Errors
    /// The first rule that cannot be.
    pub fn check(&self, initial: Decimal) -> Result<(), InvalidRules> {
        let zero = Decimal::ZERO;
        let within = |rule, actual: Decimal, ok: bool, expected| {
            let actual = actual.to_string();
            if ok { Ok(()) } else { Err(InvalidRules { rule, actual, expected }) }
        };
        let share = |rule, actual: Decimal| {
            let ok = zero < actual && actual <= Decimal::ONE;
            within(rule, actual, ok, "more than 0 and at most 1")
        };
        let rate = |rule, actual: Decimal| {
            let ok = zero <= actual && actual <= decimal(1, 1);
            within(rule, actual, ok, "0 to 0.1")
        };
        let multiple = |rule, actual: Decimal| {
            let ok = zero < actual && actual <= decimal(100, 0);
            within(rule, actual, ok, "more than 0 and at most 100")
        };
        let known = initial > zero && initial <= MOST_INITIAL;
        within("initial", initial, known, "more than 0 and at most 1000000000")?;
        self.max_daily_loss_pct.map_or(Ok(()), |pct| share("max_daily_loss_pct", pct))?;
        share("max_total_loss_pct", self.max_total_loss_pct)?;
        rate("taker_fee_rate", self.taker_fee_rate)?;
        rate("maker_fee_rate", self.maker_fee_rate)?;
        rate("slippage_rate", self.slippage_rate)?;
        rate("liquidation_penalty_rate", self.liquidation_penalty_rate)?;
        rate("floor_buffer_pct", self.floor_buffer_pct)?;
        share("max_mark_deviation", self.max_mark_deviation)?;
        multiple("max_leverage", self.max_leverage)?;
        multiple("max_position_pct", self.max_position_pct)?;
        multiple("max_gross_leverage", self.max_gross_leverage)?;
        within("min_notional", self.min_notional, self.min_notional >= zero, "at least 0")?;
        let lock = self.lock_at.unwrap_or(initial);
        within("lock_at", lock, lock > zero && lock <= MOST_INITIAL, "a sum of money")?;
        let minutes = self.day_roll_minutes;
        within("day_roll_minutes", minutes.into(), minutes < 1440, "0 to 1439")?;
        let shortest = self.cooldown_ms.min(self.cooldown_after_loss_ms);
        within("cooldown_ms", shortest.into(), shortest >= 0, "at least 0")
    }

    /// The day that an instant belongs to, counted from 1970-01-01.
    #[must_use]
    pub fn day_of(&self, at_ms: i64) -> i64 {
        let roll_ms = i64::from(self.day_roll_minutes) * 60_000;
        at_ms.saturating_sub(roll_ms).div_euclid(86_400_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_readable_json_and_what_is_left_out_is_the_default() {
        let text = r#"{"max_loss_mode":"eod_trail","daily_base":"max(balance,equity)",
            "lock_at":"50000","breach_kind":"soft_until_roll","max_daily_loss_pct":null}"#;
        let rules: AccountRules = serde_json::from_str(text).unwrap();
        let expected = AccountRules {
            max_daily_loss_pct: None,
            daily_base: DailyBase::Higher,
            max_loss_mode: MaxLossMode::EodTrail,
            lock_at: Some(decimal(50_000, 0)),
            breach_kind: BreachKind::SoftUntilRoll,
            ..AccountRules::default()
        };
        assert_eq!(rules, expected);
        let again = serde_json::to_string(&rules).unwrap();
        assert_eq!(serde_json::from_str::<AccountRules>(&again).unwrap(), expected);
        assert!(serde_json::from_str::<AccountRules>(r#"{"max_los":"1"}"#).is_err());
    }

    #[test]
    fn rules_that_cannot_be_are_named() {
        let check = |rules: AccountRules, initial: i64, expected: &str| {
            let error = rules.check(initial.into()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        let rules = AccountRules::default;
        assert_eq!(rules().check(decimal(100_000, 0)), Ok(()));
        check(rules(), 0, "initial is 0, expected more than 0 and at most 1000000000");
        let daily = AccountRules { max_daily_loss_pct: Some(Decimal::ZERO), ..rules() };
        check(daily, 1, "max_daily_loss_pct is 0, expected more than 0 and at most 1");
        let fee = AccountRules { taker_fee_rate: decimal(2, 1), ..rules() };
        check(fee, 1, "taker_fee_rate is 0.2, expected 0 to 0.1");
        let roll = AccountRules { day_roll_minutes: 1440, ..rules() };
        check(roll, 1, "day_roll_minutes is 1440, expected 0 to 1439");
    }

    #[test]
    fn a_day_begins_at_its_roll() {
        let rules = AccountRules { day_roll_minutes: 30, ..AccountRules::default() };
        let day = 86_400_000;
        assert_eq!(rules.day_of(day + 29 * 60_000), 0);
        assert_eq!(rules.day_of(day + 30 * 60_000), 1);
        assert_eq!(AccountRules::default().day_of(-1), -1);
    }
}
