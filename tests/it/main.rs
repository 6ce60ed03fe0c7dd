//! The workspace's tests of behaviour, as one binary.

#[macro_use]
mod harness;

mod catching_up;
mod costs;
mod courier;
mod cron;
mod cycle_costs;
mod decisions;
mod events;
mod immunity;
mod ingestion;
mod interrupted;
mod isolation;
mod jobs;
mod lifecycle;
mod middleware;
mod namespaces;
mod own_table;
mod policies;
#[cfg(feature = "postgres")]
mod postgres;
mod prop;
mod prop_decisions;
mod prop_hours;
mod queue;
mod queue_events;
mod rates;
mod retention;
mod runs;
mod scheduler;
mod stepped;
mod store_contract;
mod taken_over;
mod tidy;
mod unreadable;
mod wakes;
mod without_history;
mod workers;
