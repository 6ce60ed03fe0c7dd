//! The protocol of slots, leases and queue rows as models whose every interleaving is visited.
//!
//! Tests of the code try some orders of events; these try all, in a world that is small enough:
//! a few hosts, one job or one row, time as a counter, a crash, answers that get lost. What the
//! models do *not* copy is `plan`, which is the scheduler's own source file; the conditions of
//! statements are copied into [`database`] and [`queue_row`], each beside the name of its
//! original, since SQL cannot be called here.
//!
//! How the world is made small:
//! - A host may be slow without bound between any two steps, so one that is frozen (stopped,
//!   swapped out) and wakes up needs no action of its own. No host believes its own clock.
//! - Transactions interleave as on a server that locks rows. SQLite's single writer allows fewer
//!   orders, so what holds here holds there.
//! - Hosts are alike, so states that differ in their order only are one state.
//! - The clock does not step back, and an operator changes no definition: he pauses the job.
//! - Where slots wait for a run or replace it, runs book nothing, so that more slots come.
//!
//! Each model is checked as it is, and with one condition taken away at a time: then the checker
//! has to find a counterexample, or the model would prove nothing. `--nocapture` shows the numbers
//! of states and the counterexamples. In those a host's number may change from step to step, since
//! hosts have no order.
//!
//! What the models say of conditions whose absence breaks nothing: CLOSE_INTERRUPTED's look at the
//! lease, and the expiry in a queue row's FENCE and RENEW. They stand for clocks that step and for
//! "an expired lease is lost even if nobody took it".

mod database;
mod hosts;
mod queue_row;
mod report;
mod slots;
mod state;

/// The scheduler's own rule, compiled from its source; it needs these four names of its crate.
#[path = "../../scheduler-core/src/plan.rs"]
#[expect(unreachable_pub, reason = "it is public in its own crate")]
mod plan;

mod cadence {
    pub(crate) use scheduler_core::Cadence;
}

mod clock {
    pub(crate) fn millis(span: std::time::Duration) -> i64 {
        i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
    }
}

mod definition {
    pub(crate) use scheduler_core::Misfire;
}

mod run {
    pub(crate) use scheduler_core::Trigger;
}
