//! Workers: each loads, calls a rule, saves and reports. Rules live in their modules.

pub mod arena_entry;
pub mod audition_evaluator;
pub mod backtests;
pub mod clone_decisions;
mod deciding;
pub mod ingestion;
pub mod mark_to_market;
pub mod prop_decisions;
pub mod retention;

pub use deciding::{DecidingOptions, Providers};
