//! Prices of the past.

use serde_json::{Value, json};

use super::contract::{Contract, Standing};

/// The longest window, in seconds.
const LONGEST: i64 = 1_296_000;
const MINUTE: i64 = 60;
const DAY: i64 = 86_400;

/// Which prices are wanted, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    from: i64,
    to: i64,
    /// From one price to the next.
    step: i64,
    /// Whether all of it is wanted, which for a market that is over is nothing.
    whole: bool,
}

impl Window {
    /// A window by its bounds, or by its length up to now.
    pub(super) fn parse(
        bounds: (Option<i64>, Option<i64>),
        interval: Option<&str>,
        fidelity: Option<i64>,
        now: i64,
    ) -> Result<Self, String> {
        let (length, least) = match interval {
            None => {
                let (Some(from), to) = bounds else {
                    let named = "'startTs' and 'endTs' or 'interval'";
                    return Err(format!("invalid filters: {named} must be given"));
                };
                let to = to.unwrap_or(now);
                if to - from > LONGEST {
                    let named = "'startTs' and 'endTs'";
                    return Err(format!("invalid filters: {named} interval is too long"));
                }
                let step = fidelity.unwrap_or(1).max(1) * MINUTE;
                return Ok(Self { from, to: to.min(now), step, whole: false });
            }
            Some("1h") => (DAY / 24, 1),
            Some("6h") => (DAY / 4, 1),
            Some("1d") => (DAY, 1),
            Some("1w") => (7 * DAY, 5),
            Some("1m") => (30 * DAY, 10),
            Some("max") => (31 * DAY, 10),
            Some(other) => return Err(format!("invalid filters: unknown 'interval' {other}")),
        };
        let named = interval.unwrap_or_default();
        let fidelity = fidelity.unwrap_or(least);
        if fidelity < least {
            return Err(format!(
                "invalid filters: minimum 'fidelity' for '{named}' range is {least}"
            ));
        }
        let step = fidelity * MINUTE;
        Ok(Self { from: now - length, to: now, step, whole: named == "max" })
    }
}

/// The middles of a token's book, oldest first.
pub(super) fn prices(
    contract: &Contract,
    outcome: usize,
    window: Window,
    now_ms: i64,
) -> Vec<Value> {
    let over = matches!(contract.standing(now_ms), Standing::Resolved(_));
    if window.whole && over {
        return Vec::new();
    }
    let from = window.from.max(contract.starts_ms / 1_000);
    let to = window.to.min(contract.resolved_ms() / 1_000);
    let mut at = (from + window.step - 1).div_euclid(window.step) * window.step;
    let mut prices = Vec::new();
    while at <= to {
        let book = contract.book(contract.step(at * 1_000)).of(outcome);
        let sum = book.bid().unwrap_or_default() + book.ask().unwrap_or(1_000);
        prices.push(json!({ "t": at, "p": sum as f64 / 2_000.0 }));
        at += window.step;
    }
    prices
}
