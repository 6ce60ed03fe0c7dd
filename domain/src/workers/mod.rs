//! Workers: each loads, calls a rule, saves and reports. Rules live in their modules.

pub mod arena_entry;
pub mod audition_evaluator;
pub mod backtests;
pub mod ingestion;
pub mod mark_to_market;
