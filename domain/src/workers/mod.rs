//! Workers: each loads, calls a rule, saves and reports. Rules live in their modules.

pub mod backtests;
pub mod ingestion;
