//! A page for each decision: which database, which cadence, which lease, how fast, how to run it, how to test it.
//!
//! The pages are documentation alone; these modules are empty and not there in a build.

#[doc = include_str!("../docs/databases.md")]
pub mod databases {}

#[doc = include_str!("../docs/cadence.md")]
pub mod cadence {}

#[doc = include_str!("../docs/leases.md")]
pub mod leases {}

#[doc = include_str!("../docs/queues.md")]
pub mod queues {}

#[doc = include_str!("../docs/performance.md")]
pub mod performance {}

#[doc = include_str!("../docs/deploying.md")]
pub mod deploying {}

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/coming_from.md")]
pub mod coming_from {}
