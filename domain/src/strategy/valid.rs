//! What the parts of a graph say about each other, and the graph that passed.

use serde_json::Value;
use std::collections::HashMap;

use super::canonical::{canonical_text, sha256_hex};
use super::error::{GraphError, GraphProblem, Place, ValueKind};
use super::graph::{
    Action, ActionKind, Comparison, Indicator, Logic, Math, Node, NodeKind, Sizing, StrategyGraph,
};
use super::json;
use super::read::read_graph;

/// Nodes of one graph.
pub const MAXIMUM_NODES: usize = 128;
/// Nodes on a path from an input to a condition.
pub const MAXIMUM_DEPTH: usize = 32;
/// Actions of one graph.
pub const MAXIMUM_ACTIONS: usize = 32;
/// Bytes of one document; more than 128 nodes with the longest texts need.
const MAXIMUM_BYTES: usize = 256 * 1024;

/// A graph that can be evaluated: its edges resolve, its types match, it has no cycle and its
/// limits hold. Immutable, and identified by its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidGraph {
    graph: StrategyGraph,
    /// Positions of each node's inputs in `graph.nodes`.
    inputs: Vec<Vec<usize>>,
    /// Positions of all nodes, each after its inputs.
    order: Vec<usize>,
    /// Position of each action's condition.
    conditions: Vec<usize>,
    canonical_json: String,
    hash: String,
}

impl ValidGraph {
    /// Reads and validates a document.
    ///
    /// # Errors
    /// The first problem found, with its place and what would be right.
    pub fn parse(text: &str) -> Result<Self, GraphError> {
        if text.len() > MAXIMUM_BYTES {
            return Err(GraphError {
                place: Place::Document,
                problem: GraphProblem::Invalid {
                    key: "document".to_owned(),
                    found: format!("{} bytes long", text.len()),
                    expected: format!("at most {MAXIMUM_BYTES} bytes"),
                },
            });
        }
        let value = json::parse(text).map_err(|error| GraphError {
            place: Place::Document,
            problem: GraphProblem::Json { reason: error.to_string() },
        })?;
        Self::from_value(&value)
    }

    /// Validates a document that has been parsed already.
    ///
    /// # Errors
    /// Like [`Self::parse`]; a repeated key can no longer be seen.
    pub fn from_value(value: &Value) -> Result<Self, GraphError> {
        let graph = read_graph(value)?;
        check_counts(&graph)?;
        let positions = index_nodes(&graph.nodes)?;
        let inputs = resolve_inputs(&graph.nodes, &positions)?;
        check_operands(&graph.nodes, &inputs)?;
        let order = sort_topologically(&graph.nodes, &inputs)?;
        check_depth(&graph.nodes, &inputs, &order)?;
        let conditions = check_actions(&graph, &positions)?;
        let canonical_json = canonical_text(value);
        let hash = sha256_hex(&canonical_json);
        Ok(Self { graph, inputs, order, conditions, canonical_json, hash })
    }

    /// The typed graph.
    #[must_use]
    pub fn graph(&self) -> &StrategyGraph {
        &self.graph
    }

    /// The document as canonical JSON: sorted keys, no whitespace. Parsing it gives an equal graph.
    #[must_use]
    pub fn canonical_json(&self) -> &str {
        &self.canonical_json
    }

    /// The SHA-256 of the canonical JSON, 64 lower-case hexadecimal digits (`graph_hash`).
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    pub(super) fn inputs(&self, node: usize) -> &[usize] {
        &self.inputs[node]
    }

    pub(super) fn conditions(&self) -> &[usize] {
        &self.conditions
    }
}

fn check_counts(graph: &StrategyGraph) -> Result<(), GraphError> {
    let check = |key: &str, found: usize, limit: usize| {
        if (1..=limit).contains(&found) {
            return Ok(());
        }
        Err(GraphError {
            place: Place::Document,
            problem: GraphProblem::Invalid {
                key: key.to_owned(),
                found: format!("a list of {found}"),
                expected: format!("1 to {limit} {key}"),
            },
        })
    };
    check("nodes", graph.nodes.len(), MAXIMUM_NODES)?;
    check("actions", graph.actions.len(), MAXIMUM_ACTIONS)
}

fn index_nodes(nodes: &[Node]) -> Result<HashMap<&str, usize>, GraphError> {
    let mut positions = HashMap::with_capacity(nodes.len());
    for (position, node) in nodes.iter().enumerate() {
        if positions.insert(node.id.as_str(), position).is_some() {
            return Err(at(node, GraphProblem::DuplicateId { parts: "nodes" }));
        }
    }
    Ok(positions)
}

fn resolve_inputs(
    nodes: &[Node],
    positions: &HashMap<&str, usize>,
) -> Result<Vec<Vec<usize>>, GraphError> {
    let resolve = |node: &Node, id: &String| {
        positions
            .get(id.as_str())
            .copied()
            .ok_or_else(|| at(node, GraphProblem::UnknownNode { key: "inputs", id: id.clone() }))
    };
    nodes.iter().map(|node| node.inputs.iter().map(|id| resolve(node, id)).collect()).collect()
}

/// Number of inputs, and number or condition for each.
fn check_operands(nodes: &[Node], inputs: &[Vec<usize>]) -> Result<(), GraphError> {
    for (node, inputs) in nodes.iter().zip(inputs) {
        let (fits, expected) = arity(&node.kind, inputs.len());
        if !fits {
            return Err(at(node, GraphProblem::Arity { found: inputs.len(), expected }));
        }
        let expected = operand_kind(&node.kind);
        for &input in inputs {
            let found = value_kind(&nodes[input].kind);
            if found != expected {
                let id = nodes[input].id.clone();
                return Err(at(
                    node,
                    GraphProblem::KindMismatch { key: "inputs", id, found, expected },
                ));
            }
        }
    }
    Ok(())
}

/// Whether so many inputs are right, and how many would be.
fn arity(kind: &NodeKind, found: usize) -> (bool, &'static str) {
    match kind {
        NodeKind::Input(_) | NodeKind::Const(_) => (found == 0, "none"),
        NodeKind::Indicator(Indicator::Atr(_)) => (found == 3, "3: high, low, close"),
        NodeKind::Indicator(_)
        | NodeKind::Math(Math::Abs)
        | NodeKind::Compare(Comparison::Between { .. })
        | NodeKind::Logic(Logic::Not | Logic::HoldFor(_)) => (found == 1, "1"),
        NodeKind::Math(Math::Sub | Math::Div)
        | NodeKind::Compare(_)
        | NodeKind::Logic(Logic::Xor) => (found == 2, "2"),
        NodeKind::Math(_) | NodeKind::Logic(_) => (found >= 2, "2 or more"),
    }
}

fn value_kind(kind: &NodeKind) -> ValueKind {
    match kind {
        NodeKind::Compare(_) | NodeKind::Logic(_) => ValueKind::Bool,
        _ => ValueKind::Number,
    }
}

fn operand_kind(kind: &NodeKind) -> ValueKind {
    match kind {
        NodeKind::Logic(_) => ValueKind::Bool,
        _ => ValueKind::Number,
    }
}

/// Depth-first search; the recursion is as deep as the graph has nodes, at most
/// [`MAXIMUM_NODES`].
fn sort_topologically(nodes: &[Node], inputs: &[Vec<usize>]) -> Result<Vec<usize>, GraphError> {
    struct Search<'a> {
        nodes: &'a [Node],
        inputs: &'a [Vec<usize>],
        done: Vec<bool>,
        path: Vec<usize>,
        order: Vec<usize>,
    }

    impl Search<'_> {
        fn visit(&mut self, node: usize) -> Result<(), GraphError> {
            if self.done[node] {
                return Ok(());
            }
            if let Some(start) = self.path.iter().position(|&visited| visited == node) {
                let ids: Vec<&str> = self.path[start..]
                    .iter()
                    .chain([&node])
                    .map(|&visited| self.nodes[visited].id.as_str())
                    .collect();
                let problem = GraphProblem::Cycle { path: ids.join(" <- ") };
                return Err(at(&self.nodes[node], problem));
            }
            self.path.push(node);
            let inputs = self.inputs;
            for &input in &inputs[node] {
                self.visit(input)?;
            }
            self.path.pop();
            self.done[node] = true;
            self.order.push(node);
            Ok(())
        }
    }

    let done = vec![false; nodes.len()];
    let mut search = Search { nodes, inputs, done, path: Vec::new(), order: Vec::new() };
    for node in 0..nodes.len() {
        search.visit(node)?;
    }
    Ok(search.order)
}

fn check_depth(nodes: &[Node], inputs: &[Vec<usize>], order: &[usize]) -> Result<(), GraphError> {
    let mut depths = vec![0; nodes.len()];
    for &node in order {
        let depth = 1 + inputs[node].iter().map(|&input| depths[input]).max().unwrap_or(0);
        if depth > MAXIMUM_DEPTH {
            return Err(at(&nodes[node], GraphProblem::TooDeep { depth, limit: MAXIMUM_DEPTH }));
        }
        depths[node] = depth;
    }
    Ok(())
}

fn check_actions(
    graph: &StrategyGraph,
    positions: &HashMap<&str, usize>,
) -> Result<Vec<usize>, GraphError> {
    let mut conditions = Vec::with_capacity(graph.actions.len());
    for (position, action) in graph.actions.iter().enumerate() {
        let refuse = |problem| Err(GraphError { place: Place::Action(action.id.clone()), problem });
        if graph.actions[..position].iter().any(|other| other.id == action.id) {
            return refuse(GraphProblem::DuplicateId { parts: "actions" });
        }
        let Some(&condition) = positions.get(action.when.as_str()) else {
            return refuse(GraphProblem::UnknownNode { key: "when", id: action.when.clone() });
        };
        let found = value_kind(&graph.nodes[condition].kind);
        if found != ValueKind::Bool {
            return refuse(GraphProblem::KindMismatch {
                key: "when",
                id: action.when.clone(),
                found,
                expected: ValueKind::Bool,
            });
        }
        if let Some(problem) = check_entry(action, graph.risk.max_leverage) {
            return refuse(problem);
        }
        conditions.push(condition);
    }
    Ok(conditions)
}

fn check_entry(action: &Action, max_leverage: f64) -> Option<GraphProblem> {
    let (ActionKind::OpenLong(entry) | ActionKind::OpenShort(entry)) = &action.kind else {
        return None;
    };
    if entry.leverage > max_leverage {
        return Some(GraphProblem::LeverageAboveLimit {
            leverage: entry.leverage.to_string(),
            limit: max_leverage.to_string(),
        });
    }
    if matches!(entry.sizing, Sizing::RiskPct(_)) && entry.stop_loss.is_none() {
        return Some(GraphProblem::RiskWithoutStop);
    }
    None
}

fn at(node: &Node, problem: GraphProblem) -> GraphError {
    GraphError { place: Place::Node(node.id.clone()), problem }
}

#[cfg(test)]
mod tests;
