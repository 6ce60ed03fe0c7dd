//! The workspace's tests of behaviour, as one binary.

mod harness;
mod queue;
mod scheduler;
mod workers;
