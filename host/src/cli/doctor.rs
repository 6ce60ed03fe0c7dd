//! `arena doctor`: whether what the database holds can be true.

use std::io::Write;

use clap::Args;
use domain::services::proofs::{self, ProofReport};
use scheduler_core::Store;
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
    if args.json {
        write_json(out, &document(&report))?;
    } else {
        for discrepancy in &report.discrepancies {
            writeln!(out, "{}", escape(&discrepancy.to_string()))?;
        }
        let ProofReport { accounts, postings, fills, .. } = &report;
        writeln!(out, "books: {accounts} accounts, {postings} postings, {fills} fills")?;
    }
    if report.holds() {
        return Ok(());
    }
    let count = report.discrepancy_count;
    Err(Failure::work(format!(
        "the books do not hold: {count} discrepancies; correct the ledger by adjustments only"
    )))
}

fn document(report: &ProofReport) -> serde_json::Value {
    let found: Vec<String> = report.discrepancies.iter().map(ToString::to_string).collect();
    json!({
        "holds": report.holds(),
        "accounts": report.accounts,
        "postings": report.postings,
        "fills": report.fills,
        "discrepancy_count": report.discrepancy_count,
        "discrepancies": found,
    })
}
