//! The workspace's tests of behaviour, as one binary.

mod courier;
mod harness;
mod queue;
mod runs;
mod scheduler;
mod workers;
