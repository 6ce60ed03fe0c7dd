//! `arena seed`: something to look at.

use std::io::Write;

use clap::Subcommand;
use scheduler_core::Store;

use crate::demo::Demo;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum SeedCommand {
    /// Made-up candles of three instruments, and back-tests of three users in the queue. Only
    /// into a database without instruments.
    Demo,
}

pub(crate) async fn run(
    command: SeedCommand,
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let SeedCommand::Demo = command;
    let demo = Demo::seed(store).await?;
    writeln!(out, "{}", demo.summary())?;
    writeln!(out, "work them off with `arena worker backtests --once`")?;
    Ok(())
}
