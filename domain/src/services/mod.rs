//! Services: what a person or a program asks for. Each loads, calls a rule and saves.

pub mod accounts;
pub mod arena_entry;
pub mod auditions;
pub mod backtests;
pub mod ingestion;
pub mod proofs;
