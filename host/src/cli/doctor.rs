//! `arena doctor`: whether what the database holds can be true.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use domain::services::proofs::{self, ProofReport};
use scheduler_core::Store;
use scheduler_core::store::{Disagreement, InstanceStore};
use serde_json::json;

use crate::failure::Failure;
use crate::terminal::{escape, write_json};

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON document instead of sentences.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(
    args: &DoctorArgs,
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let report = proofs::prove(store).await?;
    let disagreements = store.disagreements().await?;
    if args.json {
        write_json(out, &document(&report, &disagreements))?;
    } else {
        for disagreement in &disagreements {
            writeln!(out, "{}", escape(&sentence(disagreement)))?;
        }
        for discrepancy in &report.discrepancies {
            writeln!(out, "{}", escape(&discrepancy.to_string()))?;
        }
        let ProofReport { accounts, postings, fills, .. } = &report;
        writeln!(out, "books: {accounts} accounts, {postings} postings, {fills} fills")?;
    }
    let count = report.discrepancy_count;
    if !report.holds() {
        return Err(Failure::work(format!(
            "the books do not hold: {count} discrepancies; correct the ledger by adjustments only"
        )));
    }
    let jobs = disagreements.len();
    if jobs > 0 {
        return Err(Failure::work(format!(
            "live processes disagree about {jobs} jobs: finish the roll-out, or restart those with old settings"
        )));
    }
    Ok(())
}

/// What live processes say of a job, and which ones.
fn sentence(disagreement: &Disagreement) -> String {
    let Disagreement { job, definitions } = disagreement;
    let said = definitions.iter().map(|(definition, instances)| {
        let instances: Vec<String> = instances.iter().map(ToString::to_string).collect();
        format!("{definition} ({})", instances.join(", "))
    });
    let said: Vec<String> = said.collect();
    format!("job {job}: live processes define it in different ways: {}", said.join("; "))
}

fn document(report: &ProofReport, disagreements: &[Disagreement]) -> serde_json::Value {
    let of_jobs = disagreements.iter().map(|disagreement| {
        let definitions = disagreement.definitions.iter();
        let definitions: BTreeMap<&String, Vec<String>> = definitions
            .map(|(said, by)| (said, by.iter().map(ToString::to_string).collect()))
            .collect();
        json!({ "job": disagreement.job, "definitions": definitions })
    });
    let disagreements: Vec<serde_json::Value> = of_jobs.collect();
    let found: Vec<String> = report.discrepancies.iter().map(ToString::to_string).collect();
    json!({
        "holds": report.holds(),
        "accounts": report.accounts,
        "postings": report.postings,
        "fills": report.fills,
        "discrepancy_count": report.discrepancy_count,
        "discrepancies": found,
        "disagreements": disagreements,
    })
}
