//! `arena db`: the schema.

use std::io::Write;

use clap::Subcommand;
use scheduler_core::Store;
use serde_json::json;

use crate::failure::Failure;
use crate::terminal::{table, text, write_json};

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Apply every pending migration, in one transaction.
    Migrate {
        /// Print one JSON document instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// List the migrations and where each stands. Applies none.
    Status {
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(
    command: DbCommand,
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        DbCommand::Migrate { json } => migrate(store, json, out).await,
        DbCommand::Status { json } => status(store, json, out).await,
    }
}

async fn migrate(store: &Store, json: bool, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let applied = migration::up(store.reader()).await?;
    if json {
        let applied: Vec<_> = applied
            .iter()
            .map(|migration| json!({ "list": migration.list, "name": migration.name }))
            .collect();
        write_json(out, &json!({ "applied": applied }))?;
        return Ok(());
    }
    if applied.is_empty() {
        writeln!(out, "nothing to do: the database is up to date")?;
    }
    for migration in applied {
        writeln!(out, "applied {}", migration.name)?;
    }
    Ok(())
}

async fn status(store: &Store, json: bool, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let status = migration::status(store.reader()).await?;
    let mut migrations = Vec::new();
    for list in status.lists {
        let named =
            [("applied", list.applied), ("pending", list.pending), ("unknown", list.unknown)];
        for (state, names) in named {
            migrations.extend(names.into_iter().map(|name| (list.list.clone(), name, state)));
        }
    }
    if json {
        let migrations: Vec<_> = migrations
            .iter()
            .map(|(list, name, state)| json!({ "list": list, "name": name, "state": state }))
            .collect();
        write_json(out, &json!({ "migrations": migrations }))?;
        return Ok(());
    }
    let mut rows = table(&["list", "migration", "state"]);
    for (list, name, state) in &migrations {
        let state = if *state == "unknown" { "unknown to this program" } else { state };
        rows.add_row([text(list), text(name), text(state)]);
    }
    writeln!(out, "{rows}")?;
    Ok(())
}
