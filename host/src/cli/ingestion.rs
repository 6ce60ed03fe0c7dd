//! `arena ingestion`: how the channels stand.

use std::io::Write;

use clap::Subcommand;
use domain::ingestion::{ChannelHealth, Freshness, IngestionHealth};
use domain::services;
use scheduler_core::Store;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::terminal::{first_words, number, table, text, write_json};

#[derive(Debug, Subcommand)]
pub(crate) enum IngestionCommand {
    /// List every channel and how it stands.
    Status {
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Exit with 1 when a required channel is stale, and say which.
    Check {
        /// Print one JSON document instead of sentences.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(
    command: IngestionCommand,
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let health = services::ingestion::health(store).await?;
    match command {
        IngestionCommand::Status { json } => status(&health, json, out),
        IngestionCommand::Check { json } => check(&health, json, out),
    }
}

fn status(
    health: &IngestionHealth,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    if json {
        write_json(out, &document(health, &health.channels.iter().collect::<Vec<_>>()))?;
        return Ok(());
    }
    let mut rows = table(&[
        "source",
        "channel",
        "required",
        "last run",
        "data",
        "age",
        "failures",
        "last error",
    ]);
    for one in &health.channels {
        rows.add_row([
            text(one.channel.source.as_str()),
            text(one.channel.name),
            text(if one.channel.required { "yes" } else { "" }),
            text(&one.status.replace('_', " ")),
            text(one.freshness.as_str()),
            number(one.age_ms.map(age).unwrap_or_default()),
            number(one.state.consecutive_failures),
            text(&first_words(one.last_error.as_deref().unwrap_or_default())),
        ]);
    }
    writeln!(out, "{rows}")?;
    writeln!(out, "ingestion: {}", health.standing.as_str())?;
    Ok(())
}

fn check(
    health: &IngestionHealth,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let stale: Vec<&ChannelHealth> = health.stale_required().collect();
    if json {
        write_json(out, &document(health, &stale))?;
    } else if stale.is_empty() {
        writeln!(out, "every required channel is fresh")?;
    }
    if stale.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = stale.iter().map(|one| sentence(one)).collect();
    Err(Failure::work(format!("required channels are stale: {}", names.join("; "))))
}

/// As in `hyperliquid/mids has no datum yet (never run)`.
fn sentence(one: &ChannelHealth) -> String {
    let since = match one.age_ms {
        Some(age_ms) => format!("{} old", age(age_ms)),
        None => "no datum yet".to_owned(),
    };
    format!("{}: {since}, last run {}", one.channel, one.status.replace('_', " "))
}

fn document(health: &IngestionHealth, channels: &[&ChannelHealth]) -> Value {
    let channels: Vec<Value> = channels
        .iter()
        .map(|one| {
            json!({
                "source": one.channel.source.as_str(),
                "channel": one.channel.name,
                "required": one.channel.required,
                "status": one.status,
                "freshness": one.freshness.as_str(),
                "stale": one.is_stale(),
                "late": one.freshness == Freshness::Late,
                "age_ms": one.age_ms,
                "last_success_at_ms": one.state.last_success_at_ms,
                "last_datum_at_ms": one.state.last_datum_at_ms,
                "consecutive_failures": one.state.consecutive_failures,
                "last_error": one.last_error,
            })
        })
        .collect();
    json!({
        "status": health.standing.as_str(),
        "generated_at_ms": health.generated_at_ms,
        "channels": channels,
    })
}

/// As in `2h 5m`, to the second, to the minute from an hour on.
fn age(age_ms: i64) -> String {
    let seconds = u64::try_from(age_ms / 1_000).unwrap_or_default();
    let seconds = if seconds < 3_600 { seconds } else { seconds - seconds % 60 };
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_as_exact_as_a_person_wants_it() {
        let check = |age_ms, expected: &str| assert_eq!(age(age_ms), expected);
        check(0, "0s");
        check(61_999, "1m 1s");
        check(7_561_000, "2h 6m");
    }
}
