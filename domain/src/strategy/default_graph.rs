//! The graph that demonstrations and tests start from.

use super::valid::ValidGraph;

/// The document of [`default_graph`]: long while the 20-bar average of the close stands above the
/// 50-bar average, a quarter of equity at a time. Needs nothing but closes.
pub const DEFAULT_GRAPH_JSON: &str = include_str!("../../../examples/graphs/sma-cross.json");

/// The parsed [`DEFAULT_GRAPH_JSON`].
///
/// # Panics
/// Never: the text is fixed when the crate is built, and a test parses it.
#[must_use]
pub fn default_graph() -> ValidGraph {
    ValidGraph::parse(DEFAULT_GRAPH_JSON).expect("the built-in graph is valid, as a test shows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Interval;

    #[test]
    fn the_example_file_is_the_built_in_graph_and_is_valid() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/graphs/sma-cross.json");
        let text = std::fs::read_to_string(path).expect("examples/graphs/sma-cross.json");
        let graph = ValidGraph::parse(&text).expect("valid");
        assert_eq!(graph, default_graph());
        assert_eq!(graph.graph().timeframe, Interval::H1);
    }
}
