//! How often each worker is due: one flag and one variable per worker.

use std::time::Duration;

use clap::Args;

use crate::config;

/// Declares the flag of one worker's interval.
macro_rules! cadence {
    ($(#[$doc:meta])* $name:ident, $field:ident, $flag:literal, $variable:literal, $default:literal) => {
        #[derive(Debug, Clone, Args)]
        pub(crate) struct $name {
            $(#[$doc])*
            #[arg(
                long = $flag,
                env = $variable,
                value_name = "TIME",
                default_value = $default,
                value_parser = |text: &str| config::interval(text, $flag, $variable)
            )]
            pub(crate) $field: Duration,
        }
    };
}

cadence!(
    /// How often clones decide.
    CloneDecisionsCadence, clone_decisions_interval,
    "clone-decisions-interval", "CLONE_DECISIONS_INTERVAL", "60s"
);
cadence!(
    /// How often prop accounts decide.
    PropDecisionsCadence, prop_decisions_interval,
    "prop-decisions-interval", "PROP_DECISIONS_INTERVAL", "60s"
);
cadence!(
    /// How often prop accounts are marked to the market. Who decides asks for a mark that is no older
    /// than three times this.
    MarkToMarketCadence, mark_to_market_interval,
    "mark-to-market-interval", "MARK_TO_MARKET_INTERVAL", "60s"
);
cadence!(
    /// How often the queue of back-tests is looked at when nothing wakes the worker.
    BacktestsCadence, backtests_interval,
    "backtests-interval", "BACKTESTS_INTERVAL", "15s"
);
cadence!(
    /// How often auditions are evaluated.
    AuditionEvaluatorCadence, audition_evaluator_interval,
    "audition-evaluator-interval", "AUDITION_EVALUATOR_INTERVAL", "5m"
);
cadence!(
    /// How often clones that passed are let into the arena.
    ArenaEntryCadence, arena_entry_interval,
    "arena-entry-interval", "ARENA_ENTRY_INTERVAL", "5m"
);

/// How often each worker is due.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cadences")]
pub(crate) struct CadenceArgs {
    #[command(flatten)]
    pub(crate) clone_decisions: CloneDecisionsCadence,
    #[command(flatten)]
    pub(crate) prop_decisions: PropDecisionsCadence,
    #[command(flatten)]
    pub(crate) mark_to_market: MarkToMarketCadence,
    #[command(flatten)]
    pub(crate) backtests: BacktestsCadence,
    #[command(flatten)]
    pub(crate) audition_evaluator: AuditionEvaluatorCadence,
    #[command(flatten)]
    pub(crate) arena_entry: ArenaEntryCadence,
}
