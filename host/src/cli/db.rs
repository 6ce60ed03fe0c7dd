//! `arena db`: the schema.

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use crate::failure::Failure;
use crate::terminal::{table, text, write_json};
use crate::wiring::{Arena, MigrationState};

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Apply every pending migration, in one transaction.
    Migrate {
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// List the migrations. Changes nothing.
    Status {
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(
    command: DbCommand,
    arena: &dyn Arena,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        DbCommand::Migrate { json: true } => {
            let applied = arena.migrate().await?;
            write_json(out, &json!({ "applied": applied }))?;
        }
        DbCommand::Migrate { json: false } => {
            let applied = arena.migrate().await?;
            if applied.is_empty() {
                writeln!(out, "nothing to do: the database is up to date")?;
            }
            for name in applied {
                writeln!(out, "applied {}", crate::terminal::escape(&name))?;
            }
        }
        DbCommand::Status { json } => {
            let migrations = arena.migrations().await?;
            if json {
                write_json(out, &json!({ "migrations": migrations }))?;
                return Ok(());
            }
            let mut rows = table(&["migration", "state"]);
            for migration in migrations {
                rows.add_row([text(&migration.name), text(state(migration.state))]);
            }
            writeln!(out, "{rows}")?;
        }
    }
    Ok(())
}

fn state(state: MigrationState) -> &'static str {
    match state {
        MigrationState::Applied => "applied",
        MigrationState::Pending => "pending",
        MigrationState::Unknown => "unknown to this binary",
    }
}
