//! Proofs of the books: cash is what was posted, every transaction is balanced, fees and results are
//! those of the fills, positions are what was traded.

use scheduler_core::{Store, StoreError};
use sea_orm::{
    DatabaseTransaction, DbBackend, IsolationLevel, TransactionOptions, TransactionTrait,
};

use crate::prop::Discrepancy;
use crate::store::prop::load_books;

/// What was proven, and what does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProofReport {
    /// Accounts that were looked at.
    pub accounts: u64,
    /// Postings that were added up.
    pub postings: u64,
    /// Fills that were replayed.
    pub fills: u64,
    /// What does not hold, by account: the first [`LISTED`].
    pub discrepancies: Vec<Discrepancy>,
    /// All that does not hold, counted.
    pub discrepancy_count: u64,
}

impl ProofReport {
    /// Whether all books hold.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.discrepancy_count == 0
    }
}

/// How many discrepancies are listed.
pub const LISTED: usize = 20;

/// Accounts whose books are in memory at once.
const PAGE: u32 = 200;

/// Proves the books of all accounts. What is traded meanwhile does not disturb: the books of each
/// account are of one moment.
///
/// # Errors
/// The database's.
pub async fn prove(store: &Store) -> Result<ProofReport, StoreError> {
    let mut report = ProofReport::default();
    let mut after_id = 0;
    loop {
        let failed = |source| StoreError::database("prove the books", source);
        let txn = snapshot(store).await?;
        let page = load_books(&txn, after_id, PAGE).await?;
        txn.commit().await.map_err(failed)?;
        let Some((&last_id, _)) = page.last_key_value() else { return Ok(report) };
        after_id = last_id;
        for books in page.into_values() {
            report.accounts += 1;
            let found = match books {
                Ok(books) => {
                    report.postings += books.postings.len() as u64;
                    report.fills += books.fills.len() as u64;
                    books.check()
                }
                Err(unreadable) => vec![unreadable],
            };
            report.discrepancy_count += found.len() as u64;
            let left = LISTED - report.discrepancies.len();
            report.discrepancies.extend(found.into_iter().take(left));
        }
    }
}

/// A transaction that sees one moment.
async fn snapshot(store: &Store) -> Result<DatabaseTransaction, StoreError> {
    let reader = store.reader();
    let options = TransactionOptions {
        // SQLite's transactions read one snapshot anyway.
        isolation_level: (reader.get_database_backend() == DbBackend::Postgres)
            .then_some(IsolationLevel::RepeatableRead),
        ..TransactionOptions::default()
    };
    let begun = reader.begin_with_options(options).await;
    begun.map_err(|source| StoreError::database("prove the books", source))
}
