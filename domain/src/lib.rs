//! Business rules of the arena, their ports, and the workers that join them.

#[macro_use]
mod words;

pub mod backtesting;
pub mod decisions;
pub mod ingestion;
pub mod lifecycle;
pub mod market;
pub mod prop;
pub mod services;
pub mod sources;
pub mod store;
pub mod strategy;
pub mod workers;
