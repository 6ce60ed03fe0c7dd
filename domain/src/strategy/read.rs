//! From JSON to a typed graph: keys, types and ranges. What the parts say about each other is
//! checked afterwards, in `valid.rs`.

use serde_json::Value;

use super::error::{GraphError, Place};
use super::fields::Fields;
use super::graph::{
    Action, ActionKind, Aggregate, Comparison, Crossing, Entry, Feature, Indicator, Input, Logic,
    MacdLine, Math, Node, NodeKind, PriceField, Risk, Sizing, StrategyGraph,
};
use crate::market::Interval;

const LONGEST_PERIOD: u16 = 1_000;
const HIGHEST_LEVERAGE: f64 = 100.0;
const LARGEST_AMOUNT: f64 = 1e12;

/// Reads a whole document.
pub(super) fn read_graph(value: &Value) -> Result<StrategyGraph, GraphError> {
    let document = Fields::at(Place::Document, value)?;
    document.allow(&[
        "schema_version",
        "name",
        "universe",
        "timeframe",
        "warmup_bars",
        "nodes",
        "actions",
        "risk",
    ])?;
    document.whole("schema_version", 1, 1)?;
    let name = document.text("name", 200)?.to_owned();
    let universe = document.texts("universe")?;
    if universe.is_empty() {
        return Err(document.refuse("universe", "a list of at least one symbol"));
    }
    let intervals = Interval::ALL.map(|interval| (interval.as_str(), interval));
    Ok(StrategyGraph {
        name,
        universe,
        timeframe: document.choice("timeframe", &intervals)?,
        warmup_bars: match document.has("warmup_bars") {
            true => document.bars("warmup_bars", 0, 10_000)?,
            false => 0,
        },
        nodes: read_each(document.list("nodes")?, read_node)?,
        actions: read_each(document.list("actions")?, read_action)?,
        risk: match document.object("risk")? {
            Some(risk) => read_risk(risk)?,
            None => Risk::default(),
        },
    })
}

fn read_each<T>(
    values: &[Value],
    read: fn(usize, &Value) -> Result<T, GraphError>,
) -> Result<Vec<T>, GraphError> {
    values.iter().enumerate().map(|(position, value)| read(position, value)).collect()
}

fn read_node(position: usize, value: &Value) -> Result<Node, GraphError> {
    let mut node = Fields::at(Place::Node(format!("#{position}")), value)?;
    let id = node.id("id")?.to_owned();
    node.relocate(Place::Node(id.clone()));

    let read = node.choice(
        "type",
        &[
            ("input", read_input as fn(&Fields<'_>) -> Result<NodeKind, GraphError>),
            ("indicator", read_indicator),
            ("const", read_const),
            ("math", read_math),
            ("compare", read_compare),
            ("logic", read_logic),
        ],
    )?;
    let kind = read(&node)?;
    let inputs = match kind {
        NodeKind::Input(_) | NodeKind::Const(_) => Vec::new(),
        _ => node.texts("inputs")?,
    };
    Ok(Node { id, kind, inputs })
}

fn read_input(node: &Fields<'_>) -> Result<NodeKind, GraphError> {
    node.allow(&["id", "type", "feature", "params", "max_age"])?;
    let read = node.choice("feature", FEATURES)?;
    let feature = read(&node.object_or_empty("params")?)?;
    let max_age_ms = node.has("max_age").then(|| node.duration_ms("max_age")).transpose()?;
    Ok(NodeKind::Input(Input { feature, max_age_ms }))
}

type ReadFeature = fn(&Fields<'_>) -> Result<Feature, GraphError>;

/// Every feature with its parameters; each entry refuses the parameters that it does not know.
const FEATURES: &[(&str, ReadFeature)] = &[
    ("price", |params| {
        params.allow(&["field"])?;
        let fields = [
            ("open", PriceField::Open),
            ("high", PriceField::High),
            ("low", PriceField::Low),
            ("close", PriceField::Close),
        ];
        Ok(Feature::Price(params.choice_or("field", &fields, PriceField::Close)?))
    }),
    ("volume", |params| bare(params, Feature::Volume)),
    ("mark", |params| bare(params, Feature::Mark)),
    ("oracle", |params| bare(params, Feature::Oracle)),
    ("mid", |params| bare(params, Feature::Mid)),
    ("spread", |params| bare(params, Feature::Spread)),
    ("funding", |params| {
        params.allow(&["agg", "window"])?;
        let aggregates = [
            ("mean", Aggregate::Mean),
            ("sum", Aggregate::Sum),
            ("last", Aggregate::Last),
            ("min", Aggregate::Min),
            ("max", Aggregate::Max),
        ];
        let aggregate = params.choice_or("agg", &aggregates, Aggregate::Last)?;
        let window_ms = match params.has("window") || aggregate != Aggregate::Last {
            true => params.duration_ms("window")?,
            false => 3_600_000,
        };
        Ok(Feature::Funding { aggregate, window_ms })
    }),
    ("open_interest", |params| bare(params, Feature::OpenInterest)),
    ("premium", |params| bare(params, Feature::Premium)),
    ("tvl", |params| {
        params.allow(&["chain"])?;
        Ok(Feature::Tvl { chain: params.text("chain", 64)?.to_owned() })
    }),
    ("tvl_change", |params| {
        params.allow(&["chain", "window"])?;
        Ok(Feature::TvlChange {
            chain: params.text("chain", 64)?.to_owned(),
            window_ms: params.duration_ms("window")?,
        })
    }),
    ("stablecoin_supply_change", |params| {
        params.allow(&["window"])?;
        Ok(Feature::StablecoinSupplyChange { window_ms: params.duration_ms("window")? })
    }),
    ("dex_volume_change", |params| {
        params.allow(&["chain", "window"])?;
        Ok(Feature::DexVolumeChange {
            chain: params.text("chain", 64)?.to_owned(),
            window_ms: params.duration_ms("window")?,
        })
    }),
    ("pool_apy", |params| {
        params.allow(&["pool"])?;
        Ok(Feature::PoolApy { pool: params.text("pool", 100)?.to_owned() })
    }),
    ("pm_odds", |params| {
        params.allow(&["condition_id", "outcome"])?;
        Ok(Feature::PmOdds {
            condition_id: params.text("condition_id", 100)?.to_owned(),
            outcome: params.text("outcome", 100)?.to_owned(),
        })
    }),
    ("position_side", |params| bare(params, Feature::PositionSide)),
    ("position_pnl_pct", |params| bare(params, Feature::PositionPnlPct)),
    ("equity_drawdown", |params| bare(params, Feature::EquityDrawdown)),
];

fn bare(params: &Fields<'_>, feature: Feature) -> Result<Feature, GraphError> {
    params.allow(&[])?;
    Ok(feature)
}

fn read_indicator(node: &Fields<'_>) -> Result<NodeKind, GraphError> {
    node.allow(&["id", "type", "fn", "inputs", "params"])?;
    let read = node.choice("fn", INDICATORS)?;
    Ok(NodeKind::Indicator(read(&node.required_object("params")?)?))
}

type ReadIndicator = fn(&Fields<'_>) -> Result<Indicator, GraphError>;

const INDICATORS: &[(&str, ReadIndicator)] = &[
    ("sma", |params| only_period(params).map(Indicator::Sma)),
    ("ema", |params| only_period(params).map(Indicator::Ema)),
    ("rsi", |params| only_period(params).map(Indicator::Rsi)),
    ("atr", |params| only_period(params).map(Indicator::Atr)),
    ("roc", |params| only_period(params).map(Indicator::Roc)),
    ("macd", |params| {
        params.allow(&["fast", "slow", "signal", "line"])?;
        let lines = [
            ("macd", MacdLine::Macd),
            ("signal", MacdLine::Signal),
            ("histogram", MacdLine::Histogram),
        ];
        let fast = period(params, "fast")?;
        let slow = period(params, "slow")?;
        if fast >= slow {
            return Err(params.refuse("slow", "a period longer than `params.fast`"));
        }
        Ok(Indicator::Macd {
            fast,
            slow,
            signal: period(params, "signal")?,
            line: params.choice_or("line", &lines, MacdLine::Macd)?,
        })
    }),
    ("bb_pos", |params| {
        params.allow(&["period", "width"])?;
        let period = period(params, "period")?;
        let width = match params.has("width") {
            true => params.positive_decimal("width", 100.0)?,
            false => 2.0,
        };
        Ok(Indicator::BbPos { period, width })
    }),
    ("zscore", |params| only_period(params).map(Indicator::ZScore)),
    ("highest", |params| only_period(params).map(Indicator::Highest)),
    ("lowest", |params| only_period(params).map(Indicator::Lowest)),
];

fn only_period(params: &Fields<'_>) -> Result<usize, GraphError> {
    params.allow(&["period"])?;
    period(params, "period")
}

fn period(params: &Fields<'_>, key: &str) -> Result<usize, GraphError> {
    params.bars(key, 1, LONGEST_PERIOD)
}

fn read_const(node: &Fields<'_>) -> Result<NodeKind, GraphError> {
    node.allow(&["id", "type", "value"])?;
    node.any_decimal("value").map(NodeKind::Const)
}

fn read_math(node: &Fields<'_>) -> Result<NodeKind, GraphError> {
    let operators = [
        ("add", Math::Add),
        ("sub", Math::Sub),
        ("mul", Math::Mul),
        ("div", Math::Div),
        ("abs", Math::Abs),
        ("min", Math::Min),
        ("max", Math::Max),
    ];
    plain(node, NodeKind::Math(node.choice("op", &operators)?))
}

fn read_compare(node: &Fields<'_>) -> Result<NodeKind, GraphError> {
    let read = node.choice("op", COMPARISONS)?;
    read(node).map(NodeKind::Compare)
}

type ReadComparison = fn(&Fields<'_>) -> Result<Comparison, GraphError>;

const COMPARISONS: &[(&str, ReadComparison)] = &[
    ("gt", |node| plain(node, Comparison::Gt)),
    ("gte", |node| plain(node, Comparison::Gte)),
    ("lt", |node| plain(node, Comparison::Lt)),
    ("lte", |node| plain(node, Comparison::Lte)),
    ("between", |node| {
        let params = operator_params(node)?;
        params.allow(&["lo", "hi"])?;
        let (low, high) = (params.any_decimal("lo")?, params.any_decimal("hi")?);
        if low > high {
            return Err(params.refuse("hi", "a decimal not below `params.lo`"));
        }
        Ok(Comparison::Between { low, high })
    }),
    ("cross_up", |node| plain(node, Comparison::Cross(Crossing::Up))),
    ("cross_down", |node| plain(node, Comparison::Cross(Crossing::Down))),
];

fn read_logic(node: &Fields<'_>) -> Result<NodeKind, GraphError> {
    let read = node.choice("op", LOGIC)?;
    read(node).map(NodeKind::Logic)
}

type ReadLogic = fn(&Fields<'_>) -> Result<Logic, GraphError>;

const LOGIC: &[(&str, ReadLogic)] = &[
    ("and", |node| plain(node, Logic::And)),
    ("or", |node| plain(node, Logic::Or)),
    ("not", |node| plain(node, Logic::Not)),
    ("xor", |node| plain(node, Logic::Xor)),
    ("hold_for", |node| {
        let params = operator_params(node)?;
        params.allow(&["bars"])?;
        Ok(Logic::HoldFor(period(&params, "bars")?))
    }),
];

/// An operator without parameters.
fn plain<T>(node: &Fields<'_>, operator: T) -> Result<T, GraphError> {
    node.allow(&["id", "type", "op", "inputs"])?;
    Ok(operator)
}

fn operator_params<'a>(node: &Fields<'a>) -> Result<Fields<'a>, GraphError> {
    node.allow(&["id", "type", "op", "inputs", "params"])?;
    node.required_object("params")
}

fn read_action(position: usize, value: &Value) -> Result<Action, GraphError> {
    let mut action = Fields::at(Place::Action(format!("#{position}")), value)?;
    let id = action.id("id")?.to_owned();
    action.relocate(Place::Action(id.clone()));

    let read = action.choice(
        "do",
        &[
            ("open_long", read_open_long as fn(&Fields<'_>) -> Result<ActionKind, GraphError>),
            ("open_short", read_open_short),
            ("close", read_close),
        ],
    )?;
    Ok(Action {
        id,
        when: action.id("when")?.to_owned(),
        kind: read(&action)?,
        priority: action.whole_or("priority", -1_000, 1_000, 0)?,
        cooldown_ms: match action.has("cooldown") {
            true => action.duration_ms("cooldown")?,
            false => 0,
        },
    })
}

fn read_open_long(action: &Fields<'_>) -> Result<ActionKind, GraphError> {
    read_entry(action).map(ActionKind::OpenLong)
}

fn read_open_short(action: &Fields<'_>) -> Result<ActionKind, GraphError> {
    read_entry(action).map(ActionKind::OpenShort)
}

fn read_close(action: &Fields<'_>) -> Result<ActionKind, GraphError> {
    action.allow(&["id", "when", "do", "cooldown", "priority"])?;
    Ok(ActionKind::Close)
}

fn read_entry(action: &Fields<'_>) -> Result<Entry, GraphError> {
    action.allow(&[
        "id",
        "when",
        "do",
        "sizing",
        "leverage",
        "stop_loss",
        "take_profit",
        "cooldown",
        "priority",
    ])?;
    Ok(Entry {
        sizing: read_sizing(&action.required_object("sizing")?)?,
        leverage: match action.has("leverage") {
            true => action.factor("leverage", HIGHEST_LEVERAGE)?,
            false => 1.0,
        },
        stop_loss: action.object("stop_loss")?.map(|exit| read_exit(&exit)).transpose()?,
        take_profit: action.object("take_profit")?.map(|exit| read_exit(&exit)).transpose()?,
    })
}

type ReadSizing = fn(&Fields<'_>) -> Result<Sizing, GraphError>;

const SIZINGS: &[(&str, ReadSizing)] = &[
    ("pct_equity", |sizing| amount(sizing, HIGHEST_LEVERAGE).map(Sizing::PctEquity)),
    ("fixed_notional", |sizing| amount(sizing, LARGEST_AMOUNT).map(Sizing::FixedNotional)),
    ("risk_pct", |sizing| amount(sizing, 1.0).map(Sizing::RiskPct)),
    ("vol_target", |sizing| {
        sizing.allow(&["mode", "value", "lookback"])?;
        Ok(Sizing::VolTarget {
            target: sizing.positive_decimal("value", 10.0)?,
            lookback: match sizing.has("lookback") {
                true => sizing.bars("lookback", 2, LONGEST_PERIOD)?,
                false => 30,
            },
        })
    }),
    ("units", |sizing| amount(sizing, LARGEST_AMOUNT).map(Sizing::Units)),
];

fn read_sizing(sizing: &Fields<'_>) -> Result<Sizing, GraphError> {
    let read = sizing.choice("mode", SIZINGS)?;
    read(sizing)
}

fn amount(sizing: &Fields<'_>, high: f64) -> Result<f64, GraphError> {
    sizing.allow(&["mode", "value"])?;
    sizing.positive_decimal("value", high)
}

fn read_exit(exit: &Fields<'_>) -> Result<f64, GraphError> {
    exit.allow(&["mode", "value"])?;
    exit.choice("mode", &[("pct", ())])?;
    exit.fraction("value")
}

fn read_risk(risk: Fields<'_>) -> Result<Risk, GraphError> {
    let mut risk = risk;
    risk.relocate(Place::Risk);
    risk.allow(&["max_leverage", "max_position_pct", "max_open_positions", "max_daily_loss_pct"])?;
    let default = Risk::default();
    Ok(Risk {
        max_leverage: match risk.has("max_leverage") {
            true => risk.factor("max_leverage", HIGHEST_LEVERAGE)?,
            false => default.max_leverage,
        },
        max_position_pct: match risk.has("max_position_pct") {
            true => risk.positive_decimal("max_position_pct", HIGHEST_LEVERAGE)?,
            false => default.max_position_pct,
        },
        max_open_positions: match risk.has("max_open_positions") {
            true => risk.bars("max_open_positions", 1, 100)?,
            false => default.max_open_positions,
        },
        max_daily_loss_pct: match risk.has("max_daily_loss_pct") {
            true => Some(risk.fraction("max_daily_loss_pct")?),
            false => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feature_table_and_the_features_agree_on_names() {
        let params = serde_json::json!({});
        for (name, read) in FEATURES {
            let fields = Fields::at(Place::Document, &params).expect("an object");
            // Features with required parameters refuse an empty object; the others name themselves.
            if let Ok(feature) = read(&fields) {
                assert_eq!(feature.name(), *name);
            }
        }
        assert_eq!(FEATURES.len(), 18);
    }
}
