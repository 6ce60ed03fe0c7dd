//! SQL of the domain: one file per table, one verb-named function per query.
//!
//! Functions that write take the transaction of [`Store::write`](scheduler_core::Store::write);
//! functions that read take any connection. Statements have constant text.

pub mod arena;
pub mod audition_accounts;
pub mod auditions;
pub mod backtest_jobs;
pub mod candles;
pub mod clones;
pub mod decision_runs;
pub mod ingestion_runs;
pub mod instruments;
pub mod prices;
pub mod promotions;
pub mod prop;
pub mod snapshots;
mod sql;
pub mod strategy_graphs;
