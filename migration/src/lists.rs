//! Both lists of this program at once, in the order in which they are applied.

use scheduler_core::migration::{self, Applied, List, MigrateError, SchedulerMigrator, Status};
use sea_orm::DatabaseConnection;

use crate::domain::DomainMigrator;

/// Applies everything that is pending in one transaction, as [`migration::up`]. Returns what this
/// call applied, in order.
///
/// # Errors
/// As [`migration::up`]; nothing is changed then.
///
/// # Cancellation
/// Dropping the future before it is ready rolls everything back.
pub async fn up(database: &DatabaseConnection) -> Result<Vec<Applied>, MigrateError> {
    migration::up(database, &lists()).await
}

/// Compares the database with this program, as [`migration::status`]. Reads only.
///
/// # Errors
/// The driver's error.
pub async fn status(database: &DatabaseConnection) -> Result<Status, MigrateError> {
    migration::status(database, &lists()).await
}

fn lists() -> [List; 2] {
    [List::of::<SchedulerMigrator>(), List::of::<DomainMigrator>()]
}
