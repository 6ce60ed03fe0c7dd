//! The host of the arena: command line, configuration, HTTP interface and the wiring of them.
//!
//! Business rules live in `domain`, scheduling in `scheduler_core`. What is here reads
//! configuration once, opens what is needed, and shows people and probes how it stands.

pub mod api;
pub mod cli;
pub mod config;
pub mod database;
pub mod demo;
pub mod failure;
pub mod health;
pub mod logging;
pub mod pulse;
pub mod shutdown;
pub mod terminal;
pub mod tokens;
pub mod venues;
pub mod wiring;

pub use cli::run;
