//! Strategy graphs: what they may say, what they mean for one bar, and how large a trade is.
//!
//! A graph is a JSON document (schema version 1): nodes turn market data into numbers and
//! conditions, actions say what a condition does. The way through this module:
//!
//! ```text
//! JSON ── ValidGraph::parse ──▶ ValidGraph ── Evaluator::new ──▶ Evaluator
//!         (one GraphError)      (hash, text)                     │ step(inputs of one bar)
//!                                                                ▼
//!                       size ◀── action ◀── decide ◀── Reading<bool> per action
//! ```
//!
//! Everything here is a pure function of its arguments: nothing reads a clock, a file or a
//! database, so a back-test, a live decision and a test see the same rules.
//!
//! ```
//! use domain::strategy::{Evaluator, ValidGraph, default_graph};
//! let graph: ValidGraph = default_graph();
//! let evaluator = Evaluator::new(&graph);
//! assert_eq!(graph.hash().len(), 64);
//! ```

mod canonical;
mod decide;
mod default_graph;
mod error;
mod evaluate;
mod fields;
mod graph;
mod indicator;
mod json;
mod read;
mod read_node;
mod reading;
mod sizing;
mod valid;
mod volatility;

pub use decide::{Decision, HoldReason, Side, decide};
pub use default_graph::{DEFAULT_GRAPH_JSON, default_graph};
pub use error::{GraphError, GraphProblem, Place, ValueKind};
pub use evaluate::{Evaluator, InputSource};
pub use graph::{
    Action, ActionKind, Aggregate, Comparison, Crossing, Entry, Feature, Indicator, Input, Logic,
    MacdLine, Math, Node, NodeKind, PriceField, Risk, Sizing, StrategyGraph,
};
pub use reading::{Reading, Unknown};
pub use sizing::{MINIMUM_NOTIONAL_USD, SizingContext, SizingRefusal, size};
pub use valid::{MAXIMUM_ACTIONS, MAXIMUM_DEPTH, MAXIMUM_NODES, ValidGraph};
pub use volatility::RealizedVolatility;
