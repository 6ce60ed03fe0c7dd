//! Decisions of clones: what they know, who is asked, what the answer means.
//!
//! ```text
//! Snapshot ── check_ready ──▶ provider ──▶ Answered / ProviderError ── conclude ──▶ Conclusion
//! (as of now)  (or skipped)   noop, rule_graph, http_llm               action, status, reason
//! ```
//!
//! Rules only: who loads, asks over the network and saves is in [`workers`](crate::workers) and
//! [`sources`](crate::sources). A provider never executes anything; it proposes [`Intent`]s, and
//! the risk checks of an account alone decide what becomes of them.

mod answer;
mod budget;
mod conclusion;
mod intent;
mod needs;
mod prompt;
mod provider;
mod readiness;
mod rule_graph;
mod snapshot;

pub use answer::{Reply, read_completion};
pub use budget::{Budget, Usage};
pub use conclusion::{Action, Conclusion, SkipReason, Status, conclude, skipped};
pub use intent::{Intent, IntentKind, OpenSize};
pub use needs::{OutcomeQuote, StatisticNeed, bars_needed, features, outcomes};
pub use prompt::{Format, completion_request};
pub use provider::{
    Answered, DecisionProvider, DecisionRequest, Noop, Output, ProviderError, ProviderKind,
    UnknownProvider,
};
pub use readiness::check_ready;
pub use rule_graph::RuleGraph;
pub use snapshot::{AccountView, Datum, MarketView, PositionView, Snapshot, statistic_key};

/// The slot of a decision: the start of the interval that `now_ms` lies in, so that a forced run
/// and a scheduled one share it. Epoch milliseconds.
#[must_use]
pub fn slot_of(now_ms: i64, interval_ms: i64) -> i64 {
    now_ms - now_ms.rem_euclid(interval_ms.max(1))
}

/// Whether a slot is too old to be decided: the interval after it has passed as well.
#[must_use]
pub fn is_late(slot_ms: i64, now_ms: i64, interval_ms: i64) -> bool {
    now_ms >= slot_ms.saturating_add(interval_ms.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::{is_late, slot_of};

    #[test]
    fn a_slot_is_late_when_the_next_one_is_over() {
        assert!(!is_late(120_000, 239_999, 60_000));
        assert!(is_late(120_000, 240_000, 60_000));
    }

    #[test]
    fn a_slot_is_the_start_of_its_interval() {
        assert_eq!(slot_of(120_000, 60_000), 120_000);
        assert_eq!(slot_of(179_999, 60_000), 120_000);
        assert_eq!(slot_of(-1, 60_000), -60_000);
    }
}
