//! `cargo run -p examples --example periodic_job`
//!
//! A job every second on a connection of one's own. With a file or a server in place of the
//! memory, a restart goes on where it stopped, and a second process shares the slots.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::{Cadence, JobContext, JobDefinition, RunSummary, Scheduler, Shutdown, Store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = sea_orm::Database::connect("sqlite::memory:").await?;
    migration::up(&database, &[List::of::<SchedulerMigrator>()]).await?;

    let mut scheduler = Scheduler::new(Store::from_connection(database));
    let every_second = JobDefinition::new("greet", Cadence::every(Duration::from_secs(1)));
    scheduler.register(every_second, |context: JobContext| async move {
        println!("hello at slot {} ({})", context.scheduled_for_ms(), context.trigger());
        Ok(RunSummary::new().count("greeted", 1))
    })?;

    let running = scheduler.start().await?;
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    running.stop(&Shutdown::default()).await;
    Ok(())
}
