//! The provider that evaluates the clone's strategy graph: the same snapshot, the same answer.

use std::time::Duration;

use async_trait::async_trait;
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;

use super::intent::{Intent, IntentKind, OpenSize};
use super::provider::{Answered, DecisionProvider, DecisionRequest, Output, ProviderKind};
use super::snapshot::{AccountView, Datum, MarketView, Snapshot, statistic_key};
use crate::market::Candle;
use crate::strategy::{
    Action, ActionKind, Aggregate, Decision, Entry, Evaluator, Feature, HoldReason, Input,
    InputSource, PriceField, Reading, RealizedVolatility, Side, Sizing, SizingContext, Unknown,
    ValidGraph, decide, size,
};

/// Evaluates graphs. No I/O.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuleGraph;

#[async_trait]
impl DecisionProvider for RuleGraph {
    fn kind(&self) -> ProviderKind {
        ProviderKind::RuleGraph
    }

    async fn decide(&self, request: &DecisionRequest, _: Duration) -> Answered {
        Answered::free(Ok(evaluate(&request.graph, &request.snapshot)))
    }
}

/// Decides for each symbol of the graph's universe, in its order.
fn evaluate(graph: &ValidGraph, snapshot: &Snapshot) -> Output {
    let mut intents = Vec::new();
    let mut reasons = Vec::new();
    for symbol in &graph.graph().universe {
        let Some(market) = snapshot.markets.get(symbol) else {
            reasons.push(format!("{symbol}: no data"));
            continue;
        };
        match decide_symbol(graph, snapshot, symbol, market) {
            Ok(intent) => intents.push(intent),
            Err(reason) => reasons.push(format!("{symbol}: {reason}")),
        }
    }
    if intents.is_empty() {
        return Output::Hold { reason: reasons.join("; ") };
    }
    Output::Intents(intents)
}

/// The intent for one symbol, or why there is none.
fn decide_symbol(
    graph: &ValidGraph,
    snapshot: &Snapshot,
    symbol: &str,
    market: &MarketView,
) -> Result<Intent, String> {
    let actions = &graph.graph().actions;
    let mut evaluator = Evaluator::new(graph);
    let mut volatilities: Vec<_> =
        actions.iter().map(|action| volatility(action, market)).collect();
    let newest = market.bars.len().saturating_sub(1);
    for (position, bar) in market.bars.iter().enumerate() {
        let account = snapshot.account.as_ref();
        let is_newest = position == newest;
        evaluator.step(&Inputs { snapshot, symbol, market, bar, is_newest, account });
        volatilities.iter_mut().flatten().for_each(|volatility| volatility.push(bar.close));
    }
    let position = snapshot.account.as_ref().and_then(|account| account.positions.get(symbol));
    let held = position.map(|held| if held.size < 0.0 { Side::Short } else { Side::Long });
    // Cooldowns are the account's: it knows when it last entered.
    let decision = decide(actions, held, |action| evaluator.condition(action), |_| false);
    let action = match decision {
        Decision::Hold(reason) => return Err(words(reason).to_owned()),
        Decision::Act(action) => action,
    };
    let kind = match entry(&actions[action]) {
        None => IntentKind::Close,
        Some((side, entry)) => {
            let bar = market.bars.last().ok_or("no bars")?;
            let context = SizingContext {
                equity: snapshot.account.as_ref().map_or(NOMINAL_EQUITY, |account| account.equity),
                price: bar.close,
                size_step: market.size_step,
                yearly_volatility: volatilities[action]
                    .as_ref()
                    .map_or(Reading::Unknown(Unknown::NoHistory), RealizedVolatility::yearly),
            };
            let units = size(entry, &graph.graph().risk, &context)
                .map_err(|refusal| refusal.to_string())?;
            IntentKind::Open {
                side,
                size: OpenSize::Units(exact(units)?),
                leverage: exact(entry.leverage)?,
                stop_loss_pct: entry.stop_loss.map(exact).transpose()?,
                take_profit_pct: entry.take_profit.map(exact).transpose()?,
            }
        }
    };
    let action_id = Some(actions[action].id.clone());
    Ok(Intent { symbol: symbol.to_owned(), kind, action_id, confidence: None, rationale: None })
}

/// What a clone without an account is sized by (USD), as a back-test's default.
const NOMINAL_EQUITY: f64 = 10_000.0;

fn volatility(action: &Action, market: &MarketView) -> Option<RealizedVolatility> {
    match entry(action)?.1.sizing {
        Sizing::VolTarget { lookback, .. } => {
            Some(RealizedVolatility::new(lookback, market.interval.periods_per_year()))
        }
        _ => None,
    }
}

fn entry(action: &Action) -> Option<(Side, &Entry)> {
    match &action.kind {
        ActionKind::OpenLong(entry) => Some((Side::Long, entry)),
        ActionKind::OpenShort(entry) => Some((Side::Short, entry)),
        ActionKind::Close => None,
    }
}

fn words(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::NoSignal => "no signal",
        HoldReason::Conflict => "long and short fired with equal priority",
        HoldReason::AlreadyHeld => "the side is held already",
    }
}

/// The shortest decimal that is this double: what was written in the graph, or rounded to a step.
fn exact(value: f64) -> Result<Decimal, String> {
    Decimal::from_f64(value).ok_or_else(|| format!("{value} is no amount"))
}

/// Inputs of one bar. What is known of now is known on the newest bar only: older bars have their
/// prices.
struct Inputs<'a> {
    snapshot: &'a Snapshot,
    symbol: &'a str,
    market: &'a MarketView,
    bar: &'a Candle,
    is_newest: bool,
    account: Option<&'a AccountView>,
}

/// How old a price of now may be when the graph says nothing (ms).
const FRESH_PRICE_MS: i64 = 60_000;
/// The same for settled funding: an hour and a late settlement.
const FRESH_FUNDING_MS: i64 = 130 * 60_000;
/// The same for statistics, which are written by the hour or the day.
const FRESH_STATISTIC_MS: i64 = 36 * 3_600_000;

impl InputSource for Inputs<'_> {
    fn read(&self, input: &Input) -> Reading<f64> {
        let bar = self.bar;
        match &input.feature {
            Feature::Price(PriceField::Open) => return Reading::number(bar.open),
            Feature::Price(PriceField::High) => return Reading::number(bar.high),
            Feature::Price(PriceField::Low) => return Reading::number(bar.low),
            Feature::Price(PriceField::Close) => return Reading::number(bar.close),
            Feature::Volume => return Reading::number(bar.volume),
            _ if !self.is_newest => return Reading::Unknown(Unknown::NoHistory),
            _ => {}
        }
        let market = self.market;
        let price = |datum| self.fresh(datum, input.max_age_ms.unwrap_or(FRESH_PRICE_MS));
        match &input.feature {
            Feature::Mark => price(market.mark),
            Feature::Oracle => price(market.oracle),
            Feature::Mid => price(market.mid),
            Feature::Spread => price(market.spread),
            Feature::OpenInterest => price(market.open_interest),
            Feature::Premium => price(market.premium),
            Feature::Funding { aggregate, window_ms } => {
                let newest = market.funding.last().copied();
                let limit_ms = input.max_age_ms.unwrap_or(FRESH_FUNDING_MS);
                match self.fresh(newest, limit_ms) {
                    Reading::Known(_) => self.aggregate(*aggregate, *window_ms),
                    unknown @ Reading::Unknown(_) => unknown,
                }
            }
            Feature::PositionSide => Reading::number(self.position().map_or(0.0, f64_sign)),
            Feature::PositionPnlPct => self.profit(),
            Feature::EquityDrawdown => {
                self.account.map_or(Reading::Unknown(Unknown::NoHistory), |account| {
                    Reading::number(account.equity / account.peak_equity - 1.0)
                })
            }
            feature => {
                let key = statistic_key(feature);
                let datum = key.and_then(|key| self.snapshot.statistics.get(&key).copied());
                self.fresh(datum, input.max_age_ms.unwrap_or(FRESH_STATISTIC_MS))
            }
        }
    }
}

impl Inputs<'_> {
    fn fresh(&self, datum: Option<Datum>, limit_ms: i64) -> Reading<f64> {
        match datum {
            None => Reading::Unknown(Unknown::NoHistory),
            Some(datum) if self.snapshot.as_of_ms - datum.at_ms > limit_ms => {
                Reading::Unknown(Unknown::Stale)
            }
            Some(datum) => Reading::number(datum.value),
        }
    }

    fn aggregate(&self, aggregate: Aggregate, window_ms: i64) -> Reading<f64> {
        let after_ms = self.snapshot.as_of_ms - window_ms;
        let rates = self.market.funding.iter().filter(|rate| rate.at_ms > after_ms);
        let rates: Vec<f64> = rates.map(|rate| rate.value).collect();
        let Some(&last) = rates.last() else { return Reading::Unknown(Unknown::Stale) };
        #[expect(clippy::cast_precision_loss, reason = "hours of a window")]
        let count = rates.len() as f64;
        Reading::number(match aggregate {
            Aggregate::Mean => rates.iter().sum::<f64>() / count,
            Aggregate::Sum => rates.iter().sum(),
            Aggregate::Last => last,
            Aggregate::Min => rates.iter().copied().fold(f64::INFINITY, f64::min),
            Aggregate::Max => rates.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    fn position(&self) -> Option<f64> {
        self.account?.positions.get(self.symbol).map(|position| position.size)
    }

    /// The position's profit at the mark, or at the close where there is no mark.
    fn profit(&self) -> Reading<f64> {
        let position = self.account.and_then(|account| account.positions.get(self.symbol));
        let Some(position) = position else { return Reading::Known(0.0) };
        let price = self.market.mark.map_or(self.bar.close, |mark| mark.value);
        Reading::number(f64_sign(position.size) * (price / position.entry - 1.0))
    }
}

fn f64_sign(size: f64) -> f64 {
    if size < 0.0 { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests;
