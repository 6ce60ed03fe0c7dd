//! The tables of this library as a sea-orm migration list, and a way to apply lists that is safe
//! when several processes start at once.
//!
//! sea-orm's own `Migrator::up` is neither safe for concurrent starts nor, on SQLite, one
//! transaction. [`up`] is both, for any number of lists: the library's and your own, each with a
//! history table of its own. Tables under other names than their own are [`List::scheduler`] of a
//! [`Namespace`].
//!
//! ```no_run
//! use scheduler_core::migration::{self, List, SchedulerMigrator};
//! use sea_orm_migration::prelude::*;
//!
//! struct Shop;
//!
//! #[async_trait::async_trait]
//! impl MigratorTrait for Shop {
//!     fn migrations() -> Vec<Box<dyn MigrationTrait>> {
//!         vec![/* your own */]
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let database = sea_orm::Database::connect("sqlite://shop.db?mode=rwc").await?;
//! let lists = [List::of::<SchedulerMigrator>(), List::of::<Shop>()];
//! for applied in migration::up(&database, &lists).await? {
//!     println!("{}: {}", applied.list, applied.name);
//! }
//! assert!(migration::status(&database, &lists).await?.is_current());
//! # Ok(()) }
//! ```

mod error;
mod history;
mod m20261123_000001_scheduler;
mod m20261124_000001_dead_letters;
mod m20261125_000001_jobs;
mod m20261125_000002_waiting_slots;
mod m20261125_000003_run_requests;
mod m20261125_000011_queue_starts;
mod m20261125_000012_definitions;
mod migrator;
mod run;

pub use error::MigrateError;
pub use history::{Applied, ListStatus, Status};
pub use migrator::SchedulerMigrator;
pub use run::{List, status, up};

use crate::store::Namespace;
