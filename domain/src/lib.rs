//! Business rules of the arena, their ports, and the workers that join them.

pub mod backtesting;
pub mod decisions;
pub mod ingestion;
pub mod market;
pub mod services;
pub mod sources;
pub mod store;
pub mod strategy;
pub mod workers;
