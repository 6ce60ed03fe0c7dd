//! Schema history of the arena's database.
//!
//! Two lists with separate history tables: the scheduler's own, which `scheduler_core` ships for
//! every embedder, and the arena's ([`DomainMigrator`]). [`up`] applies what is pending in both,
//! in one transaction; [`status`] only looks.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let database = sea_orm::Database::connect("sqlite://arena.db?mode=rwc").await?;
//! let applied = migration::up(&database).await?;
//! assert!(migration::status(&database).await?.is_current());
//! # Ok(()) }
//! ```
//!
//! A migration is history: it imports no entity and is never edited after a release. Its
//! statements are raw SQL that SQLite and Postgres both accept; where the dialects differ, it
//! asks for the backend.

mod domain;
mod lists;
#[cfg(test)]
mod tests;

pub use domain::DomainMigrator;
pub use lists::{status, up};
pub use scheduler_core::migration::{
    Applied, List, ListStatus, MigrateError, SchedulerMigrator, Status,
};
