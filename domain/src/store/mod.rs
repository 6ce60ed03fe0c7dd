//! SQL of the domain: one file per table, one verb-named function per query.
//!
//! Functions that write take the transaction of [`Store::write`](scheduler_core::Store::write);
//! functions that read take any connection. Statements have constant text.

pub mod arena;
pub mod audition_accounts;
pub mod auditions;
pub mod backtest_jobs;
pub mod candle_revisions;
pub mod candles;
pub mod clones;
pub mod decision_runs;
pub mod features;
pub mod funding;
pub mod ingestion_runs;
pub mod instrument_versions;
pub mod instruments;
pub mod journal;
pub mod market_gaps;
pub mod marks;
pub mod mids;
pub mod prediction_markets;
pub mod prediction_odds;
pub mod prediction_quotes;
pub mod prediction_trades;
pub mod prices;
pub mod promotions;
pub mod prop;
pub mod quotes;
pub mod snapshots;
mod sql;
pub mod strategy_graphs;
pub mod trades;
pub mod trading_accounts;
