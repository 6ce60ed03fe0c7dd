//! The workspace's tests of behaviour, as one binary.

mod harness;
mod queue;
mod scheduler;
mod store_contract;
mod workers;
