//! From JSON to a typed node: one table per kind of node, one entry per name.

use serde_json::Value;

use super::error::{GraphError, Place};
use super::fields::Fields;
use super::graph::{
    Aggregate, Comparison, Crossing, Feature, Indicator, Input, Logic, MacdLine, Math, Node,
    NodeKind, PriceField,
};

/// The longest memory of an indicator, in bars.
pub(super) const LONGEST_PERIOD: u16 = 1_000;

/// Reads the node at `position` of the list.
pub(super) fn read_node(position: usize, value: &Value) -> Result<Node, GraphError> {
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
