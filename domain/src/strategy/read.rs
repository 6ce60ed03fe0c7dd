//! From JSON to a typed graph: keys, types and ranges. What the parts say about each other is
//! checked afterwards, in `valid.rs`. Nodes are read in `read_node.rs`.

use serde_json::Value;

use super::error::{GraphError, Place};
use super::fields::Fields;
use super::graph::{Action, ActionKind, Entry, Risk, Sizing, StrategyGraph};
use super::read_node::{LONGEST_PERIOD, read_node};
use crate::market::Interval;

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
