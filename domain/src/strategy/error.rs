//! The one error that a strategy graph is refused with.

use std::fmt;

/// What is wrong with a graph, and where. Only the first problem is reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct GraphError {
    /// The part of the document that must change.
    pub place: Place,
    /// What is wrong with it, and what would be right.
    pub problem: GraphProblem,
}

/// A part of a strategy graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The document itself, or one of its top-level keys.
    Document,
    /// The object `risk`.
    Risk,
    /// A node by its id, or by its position from 0 (`#3`) when it has no valid id.
    Node(String),
    /// An action by its id, or by its position from 0 (`#3`) when it has no valid id.
    Action(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => f.write_str("graph"),
            Self::Risk => f.write_str("risk"),
            Self::Node(id) => write!(f, "node `{id}`"),
            Self::Action(id) => write!(f, "action `{id}`"),
        }
    }
}

/// What a node gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A finite number.
    Number,
    /// A condition.
    Bool,
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "number",
            Self::Bool => "bool",
        })
    }
}

/// What is wrong with one part of a graph. Values from the document are quoted, escaped and cut
/// to a printable length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphProblem {
    /// The text is not JSON, or has a key twice.
    #[error("not valid JSON: {reason}")]
    Json {
        /// The parser's reason, with line and column.
        reason: String,
    },
    /// A required key is absent.
    #[error("key `{key}` is missing; expected {expected}")]
    MissingKey {
        /// The absent key, with its path inside the place.
        key: String,
        /// What should stand there.
        expected: String,
    },
    /// A key that has no meaning here.
    #[error("key `{key}` is unknown; expected only {allowed}")]
    UnknownKey {
        /// The key, with its path inside the place.
        key: String,
        /// The keys that are allowed there.
        allowed: String,
    },
    /// A value of the wrong JSON type, out of range, or not in a list of names.
    #[error("`{key}` is {found}; expected {expected}")]
    Invalid {
        /// The key, with its path inside the place.
        key: String,
        /// The value as it stands in the document.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// Two nodes, or two actions, have the same id.
    #[error("the id is used by two {parts}; expected unique ids")]
    DuplicateId {
        /// `nodes` or `actions`.
        parts: &'static str,
    },
    /// An edge to nothing.
    #[error("`{key}` names `{id}`, which is no node; expected the id of a node")]
    UnknownNode {
        /// `inputs` or `when`.
        key: &'static str,
        /// The id that no node has.
        id: String,
    },
    /// A node depends on itself.
    #[error("the inputs form a cycle: {path}; expected none")]
    Cycle {
        /// The ids along the cycle, the first repeated at the end: `a <- b <- a`.
        path: String,
    },
    /// The wrong number of inputs.
    #[error("`inputs` has {found} entries; expected {expected}")]
    Arity {
        /// How many there are.
        found: usize,
        /// How many there should be, and which.
        expected: &'static str,
    },
    /// A number where a condition is needed, or the reverse.
    #[error("`{key}` names `{id}`, a {found}; expected a {expected}")]
    KindMismatch {
        /// `inputs` or `when`.
        key: &'static str,
        /// The node that gives the wrong kind.
        id: String,
        /// What it gives.
        found: ValueKind,
        /// What is needed.
        expected: ValueKind,
    },
    /// The longest chain of nodes that ends here is too long.
    #[error("the node stands {depth} deep; expected at most {limit}")]
    TooDeep {
        /// Nodes on the longest path from an input or constant to this node, both counted.
        depth: usize,
        /// The limit.
        limit: usize,
    },
    /// More leverage than the graph itself allows.
    #[error("`leverage` is {leverage}; expected at most `risk.max_leverage`, {limit}")]
    LeverageAboveLimit {
        /// The action's leverage.
        leverage: String,
        /// The graph's limit.
        limit: String,
    },
    /// A sizing by risk has no distance to the stop.
    #[error("`sizing.mode` is `risk_pct` without a `stop_loss`; expected a `stop_loss` beside it")]
    RiskWithoutStop,
}
