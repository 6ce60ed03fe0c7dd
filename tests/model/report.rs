//! Runs the checker and says how much it has seen.

#![expect(clippy::print_stdout, reason = "what a test has seen belongs to its output")]

use stateright::{Checker, HasDiscoveries, Model, Path};

/// Visits every state; fails with a way to a state that a property forbids.
pub(crate) fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + Send + Sync + Clone + PartialEq + std::fmt::Debug,
    M::Action: Clone + PartialEq + std::fmt::Debug,
{
    let checker =
        model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    say(name, &checker);
    checker.assert_properties();
    assert!(checker.is_done(), "{name}: not every state was visited");
}

/// Expects that the checker finds a way to break `property`.
pub(crate) fn breaks<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + Send + Sync + Clone + PartialEq + std::fmt::Debug,
    M::Action: Clone + PartialEq + std::fmt::Debug,
{
    let wanted = HasDiscoveries::AllOf([property].into_iter().collect());
    let checker = model.checker().finish_when(wanted).spawn_bfs().join();
    say(name, &checker);
    let way: Option<Path<_, _>> = checker.discovery(property);
    let way = way.unwrap_or_else(|| panic!("{name}: `{property}` cannot be broken")).into_actions();
    println!("  `{property}` is broken by {} steps: {way:?}", way.len());
}

fn say<M: Model>(name: &str, checker: &impl Checker<M>) {
    let (unique, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {unique} states, {} steps, depth {depth}", checker.state_count());
}
