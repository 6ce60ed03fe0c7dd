//! `arena jobs`: what an operator says about a job at run time. Every process with the job obeys,
//! within five seconds.

use std::io::Write;
use std::str::FromStr;

use clap::Subcommand;
use scheduler_core::store::{Look, ScheduleControl, ScheduleRow, ScheduleStore};
use scheduler_core::{Cadence, Store};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::terminal::{table, text, utc, write_json};
use crate::wiring::WorkerSet;

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List the jobs that a process has registered here, and what an operator said about them.
    List {
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Have a job run once, now, where it is: whatever its cadence says, paused or not. Prints the id
    /// of the run.
    Run {
        /// The name that `list` shows, as in `prop_decisions`.
        name: String,
    },
    /// Have a job not fire until it is resumed. What runs goes on.
    Pause {
        /// The name that `list` shows.
        name: String,
    },
    /// Have a paused job fire again, at its next slot.
    Resume {
        /// The name that `list` shows.
        name: String,
    },
    /// Give a job another cadence than its configuration's, until it is reset.
    Cadence {
        /// The name that `list` shows.
        name: String,
        /// As `list` shows them: `every 5m`, `cron 0 7 * * 1-5 in Europe/Zurich` or `manual`.
        #[arg(value_parser = Cadence::from_str, required_unless_present = "reset")]
        cadence: Option<Cadence>,
        /// Take it back: the configuration's counts again.
        #[arg(long, conflicts_with = "cadence")]
        reset: bool,
    },
}

pub(crate) async fn run(
    command: JobsCommand,
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        JobsCommand::List { json } => list(store, json, out).await?,
        JobsCommand::Run { name } => {
            let run = store.request_run(&name).await?.ok_or_else(|| unknown(&name))?;
            writeln!(out, "{run}")?;
        }
        JobsCommand::Pause { name } => {
            known(store.set_paused(&name, true).await?, &name)?;
            writeln!(out, "{name} is paused")?;
        }
        JobsCommand::Resume { name } => {
            known(store.set_paused(&name, false).await?, &name)?;
            writeln!(out, "{name} goes on at its next slot")?;
        }
        JobsCommand::Cadence { name, cadence, reset: _ } => {
            known(store.set_cadence(&name, cadence.as_ref()).await?, &name)?;
            match cadence {
                Some(cadence) => writeln!(out, "{name} is due {cadence}")?,
                None => writeln!(out, "{name} is due as its configuration says")?,
            }
        }
    }
    Ok(())
}

fn known(is_known: bool, name: &str) -> Result<(), Failure> {
    if is_known { Ok(()) } else { Err(unknown(name)) }
}

fn unknown(name: &str) -> Failure {
    Failure::work(format!(
        "no process has registered a job `{name}` here; `arena jobs list` shows those there are"
    ))
}

async fn list(store: &Store, json: bool, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let scheduler = WorkerSet::every().scheduler(store).await?;
    let names: Vec<String> = scheduler.definitions().map(|job| job.name.clone()).collect();
    let Look { schedules, now_ms, .. } = store.look(&names).await?;
    if json {
        let jobs: Vec<Value> = schedules.iter().map(|row| document(row, now_ms)).collect();
        write_json(out, &json!({ "jobs": jobs }))?;
        return Ok(());
    }
    if schedules.is_empty() {
        writeln!(out, "no process has registered a job here")?;
        return Ok(());
    }
    let mut rows = table(&["job", "cadence", "state", "last fired for", "next"]);
    for row in &schedules {
        rows.add_row([
            text(&row.job),
            text(&match &row.cadence_override {
                Some(cadence) => format!("{cadence} (instead of {})", row.cadence),
                None => row.cadence.clone(),
            }),
            text(state(row, now_ms)),
            text(&row.last_fired_for_ms.map(utc).unwrap_or_default()),
            text(&row.next_due_at_ms.filter(|_| !row.paused).map(utc).unwrap_or_default()),
        ]);
    }
    writeln!(out, "{rows}")?;
    Ok(())
}

fn state(row: &ScheduleRow, now_ms: i64) -> &'static str {
    if is_running(row, now_ms) {
        "running"
    } else if row.run_requested.is_some() {
        "a run is asked for"
    } else if row.paused {
        "paused"
    } else {
        "waiting"
    }
}

fn is_running(row: &ScheduleRow, now_ms: i64) -> bool {
    row.running > 0 || row.leased_until_ms.is_some_and(|until_ms| until_ms > now_ms)
}

fn document(row: &ScheduleRow, now_ms: i64) -> Value {
    json!({
        "job": row.job,
        "cadence": row.cadence,
        "cadence_override": row.cadence_override,
        "paused": row.paused,
        "running": is_running(row, now_ms),
        "run_requested": row.run_requested.map(|run| run.to_string()),
        "last_fired_for_ms": row.last_fired_for_ms,
        "next_due_at_ms": row.next_due_at_ms,
    })
}
