//! `arena cadence`: when each job is due.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use domain::workers::ingestion::IngestionOptions;
use domain::workers::retention::RetentionOptions;
use scheduler_core::store::{ScheduleRow, ScheduleStore};
use scheduler_core::{Cadence, Fire, JobDefinition, Scope, Store};
use serde_json::{Value, json};

use super::worker::WorkersArgs;
use crate::config::Environment;
use crate::failure::Failure;
use crate::terminal::{table, text, write_json};
use crate::wiring::WorkerSet;

#[derive(Debug, Args)]
pub(crate) struct DueArgs {
    #[command(flatten)]
    workers: WorkersArgs,
    /// How many of the next times to show.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    next: u16,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(
    args: DueArgs,
    store: &Store,
    environment: Environment<'_>,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let workers = args.workers.workers(environment)?;
    let ingestion = Some(IngestionOptions::default());
    let retention = Some(RetentionOptions::default());
    let scheduler = WorkerSet { ingestion, retention, ..workers }.scheduler(store).await?;
    let names: Vec<String> = scheduler.definitions().map(|job| job.name.clone()).collect();
    let look = store.look(&names).await?;
    let rows: BTreeMap<&str, &ScheduleRow> =
        look.schedules.iter().map(|row| (row.job.as_str(), row)).collect();
    let now_ms = store.clock().now_ms();
    let count = usize::from(args.next);
    let jobs: Vec<Due<'_>> = scheduler
        .definitions()
        .map(|definition| Due::new(definition, rows.get(definition.name.as_str()).copied()))
        .collect();
    if args.json {
        let jobs: Vec<Value> = jobs.iter().map(|job| job.document(now_ms, count)).collect();
        write_json(out, &json!({ "jobs": jobs }))?;
        return Ok(());
    }
    let mut shown = table(&["job", "cadence", "next", "what it does"]);
    for job in &jobs {
        let times: Vec<String> = job.next(now_ms, count).iter().map(line).collect();
        let next = if job.paused { "paused".to_owned() } else { times.join("\n") };
        shown.add_row([
            text(&job.definition.name),
            text(&job.cadence_text()),
            // A line per time; the times are our own text.
            comfy_table::Cell::new(next),
            text(&job.definition.description),
        ]);
    }
    writeln!(out, "{shown}")?;
    Ok(())
}

/// When one job is due.
struct Due<'d> {
    definition: &'d JobDefinition,
    /// What an operator set, where it can be read.
    overridden: Option<Cadence>,
    anchor_ms: Option<i64>,
    paused: bool,
}

impl<'d> Due<'d> {
    fn new(definition: &'d JobDefinition, row: Option<&ScheduleRow>) -> Self {
        let overridden = row.and_then(|row| row.cadence_override.as_deref()?.parse().ok());
        // Each process has a grid of its own for a job of its own.
        let row = row.filter(|_| definition.scope == Scope::Cluster);
        Self {
            definition,
            overridden,
            anchor_ms: row.map(|row| row.anchor_ms),
            paused: row.is_some_and(|row| row.paused),
        }
    }

    fn cadence(&self) -> &Cadence {
        self.overridden.as_ref().unwrap_or(&self.definition.cadence)
    }

    fn cadence_text(&self) -> String {
        let mark = if self.overridden.is_some() { " (overridden)" } else { "" };
        format!("{}{mark}", self.cadence())
    }

    fn next(&self, now_ms: i64, count: usize) -> Vec<Fire> {
        self.cadence().preview(self.anchor_ms.unwrap_or(now_ms), now_ms, count)
    }

    fn document(&self, now_ms: i64, count: usize) -> Value {
        let next: Vec<Value> = self
            .next(now_ms, count)
            .iter()
            .map(|fire| {
                let note = fire.note.map(|note| note.to_string());
                json!({ "at_ms": fire.at_ms, "local": fire.local, "note": note })
            })
            .collect();
        json!({
            "job": self.definition.name,
            "description": self.definition.description,
            "cadence": self.cadence().to_string(),
            "overridden": self.overridden.is_some(),
            "paused": self.paused,
            "next": next,
        })
    }
}

fn line(fire: &Fire) -> String {
    match fire.note {
        Some(note) => format!("{} ({note})", fire.local),
        None => fire.local.clone(),
    }
}
