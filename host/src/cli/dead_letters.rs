//! `arena dead-letters`: items of cycles that failed, and what a person does about them.

use std::io::Write;
use std::str::FromStr;

use clap::Subcommand;
use scheduler_core::Store;
use scheduler_core::store::{DeadLetter, DeadLetterStore, LetterFilter, LetterStatus};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::terminal::{first_words, number, table, text, utc, write_json};

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List items that failed, the latest failure first.
    List {
        /// Only of this job, as in `prop_decisions`.
        #[arg(long)]
        job: Option<String>,
        /// Only with this status: backing_off, dead, retrying, discarded or resolved. [default: all
        /// but the resolved]
        #[arg(long, value_parser = LetterStatus::from_str)]
        status: Option<LetterStatus>,
        /// At most this many.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Have an item tried again in the next cycle of its job.
    Retry {
        /// The number that `list` shows.
        id: i64,
    },
    /// Have an item not tried again until somebody retries it.
    Discard {
        /// The number that `list` shows.
        id: i64,
    },
}

pub(crate) async fn run(
    command: DeadLettersCommand,
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        DeadLettersCommand::List { job, status, limit, json } => {
            let letters = store.dead_letters(&LetterFilter { job, status, limit }).await?;
            list(&letters, json, out)
        }
        DeadLettersCommand::Retry { id } => {
            let found = store.retry_letter(id).await?;
            answer(found, id, "is tried again in the next cycle of its job", out)
        }
        DeadLettersCommand::Discard { id } => {
            let found = store.discard_letter(id).await?;
            answer(found, id, "is not tried again", out)
        }
    }
}

fn answer(found: bool, id: i64, what: &str, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    if !found {
        return Err(Failure::work(format!(
            "there is no letter {id} that is not resolved; `arena dead-letters list` shows those there are"
        )));
    }
    writeln!(out, "letter {id} {what}")?;
    Ok(())
}

fn list(letters: &[DeadLetter], json: bool, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    if json {
        let letters: Vec<Value> = letters.iter().map(document).collect();
        write_json(out, &json!({ "dead_letters": letters }))?;
        return Ok(());
    }
    if letters.is_empty() {
        writeln!(out, "no dead letters")?;
        return Ok(());
    }
    let mut rows =
        table(&["id", "job", "item", "status", "attempts", "last failed", "next try", "error"]);
    for letter in letters {
        rows.add_row([
            number(letter.id),
            text(&letter.job),
            text(&letter.item_key),
            text(&letter.status.to_string().replace('_', " ")),
            number(letter.attempts),
            text(&utc(letter.last_failed_at_ms)),
            text(&letter.next_attempt_at_ms.map(utc).unwrap_or_default()),
            text(&first_words(&letter.last_error)),
        ]);
    }
    writeln!(out, "{rows}")?;
    Ok(())
}

fn document(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "kind": letter.kind.to_string(),
        "job": letter.job,
        "item_key": letter.item_key,
        "status": letter.status.to_string(),
        "attempts": letter.attempts,
        "first_failed_at_ms": letter.first_failed_at_ms,
        "last_failed_at_ms": letter.last_failed_at_ms,
        "next_attempt_at_ms": letter.next_attempt_at_ms,
        "last_error": letter.last_error,
        "payload": letter.payload,
    })
}
