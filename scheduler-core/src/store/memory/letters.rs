//! Dead letters: what a cycle reads at its begin and writes at its end, and what people do.

use async_trait::async_trait;

use super::{MemoryStore, Tables};
use crate::error::StoreError;
use crate::store::{
    DeadLetter, DeadLetterStore, ItemFailure, ItemSettlement, LetterFilter, LetterKind,
    LetterStatus, Standing, kept_error,
};

#[derive(Debug, Clone)]
pub(super) struct LetterRow {
    letter: DeadLetter,
    updated_at_ms: i64,
}

impl LetterRow {
    pub(super) fn is_resolved_before(&self, before_ms: i64) -> bool {
        self.letter.status == LetterStatus::Resolved && self.updated_at_ms < before_ms
    }

    pub(super) fn updated_at_ms(&self) -> i64 {
        self.updated_at_ms
    }
}

impl Tables {
    fn charge(&mut self, job: &str, failure: &ItemFailure, max_attempts: i32, now_ms: i64) {
        let key = (job.to_owned(), failure.item_key.clone());
        let before = self.letters.get(&key).map(|row| &row.letter);
        if before.is_some_and(|letter| letter.status == LetterStatus::Discarded) {
            return;
        }
        let attempts = before.map_or(0, |letter| letter.attempts) + 1;
        let first = before.filter(|letter| letter.attempts > 0);
        let dead = attempts >= max_attempts;
        let letter = DeadLetter {
            id: before.map_or_else(|| self.next_letter_id(), |letter| letter.id),
            kind: LetterKind::Item,
            job: job.to_owned(),
            item_key: failure.item_key.clone(),
            attempts,
            first_failed_at_ms: first.map_or(now_ms, |letter| letter.first_failed_at_ms),
            last_failed_at_ms: now_ms,
            next_attempt_at_ms: (!dead).then(|| now_ms.saturating_add(failure.delay_ms)),
            last_error: kept_error(&failure.error),
            payload: failure.payload.clone(),
            status: if dead { LetterStatus::Dead } else { LetterStatus::BackingOff },
        };
        self.letters.put(key, LetterRow { letter, updated_at_ms: now_ms });
    }

    fn next_letter_id(&self) -> i64 {
        1 + self.letters.rows().map(|row| row.letter.id).max().unwrap_or(0)
    }
}

#[async_trait]
impl DeadLetterStore for MemoryStore {
    async fn standings(&self, job: &str) -> Result<Vec<Standing>, StoreError> {
        let txn = self.begin_transaction().await;
        let letters = txn.letters.rows().map(|row| &row.letter);
        let open =
            letters.filter(|letter| letter.job == job && letter.status != LetterStatus::Resolved);
        let standing = |letter: &DeadLetter| Standing {
            item_key: letter.item_key.clone(),
            status: letter.status,
            attempts: letter.attempts,
            next_attempt_at_ms: letter.next_attempt_at_ms,
            due: letter.next_attempt_at_ms.is_some_and(|at_ms| at_ms <= txn.now_ms),
        };
        Ok(open.map(standing).collect())
    }

    async fn settle_items(&self, settlement: &ItemSettlement) -> Result<bool, StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        if !txn.is_held(&settlement.key, now_ms) {
            return Ok(false);
        }
        for failure in &settlement.failures {
            txn.charge(&settlement.job, failure, settlement.max_attempts, now_ms);
        }
        for item_key in &settlement.resolved {
            let key = (settlement.job.clone(), item_key.clone());
            txn.letters.edit(&key, |row| {
                let settled = [LetterStatus::Resolved, LetterStatus::Discarded];
                if !settled.contains(&row.letter.status) {
                    row.letter.status = LetterStatus::Resolved;
                    row.letter.attempts = 0;
                    row.letter.next_attempt_at_ms = None;
                    row.updated_at_ms = now_ms;
                }
            });
        }
        txn.commit();
        Ok(true)
    }

    async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        let txn = self.begin_transaction().await;
        let letters = txn.letters.rows().map(|row| &row.letter);
        let wanted = letters.filter(|letter| {
            filter.job.as_ref().is_none_or(|job| letter.job == *job) && filter.admits(letter.status)
        });
        let mut wanted: Vec<DeadLetter> = wanted.cloned().collect();
        wanted.sort_by_key(|letter| std::cmp::Reverse((letter.last_failed_at_ms, letter.id)));
        wanted.truncate(filter.limit as usize);
        Ok(wanted)
    }

    async fn retry_letter(&self, id: i64) -> Result<bool, StoreError> {
        Ok(self.edit_letter(id, LetterStatus::Retrying).await)
    }

    async fn discard_letter(&self, id: i64) -> Result<bool, StoreError> {
        Ok(self.edit_letter(id, LetterStatus::Discarded).await)
    }
}

impl MemoryStore {
    async fn edit_letter(&self, id: i64, status: LetterStatus) -> bool {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        let open =
            |row: &&LetterRow| row.letter.id == id && row.letter.status != LetterStatus::Resolved;
        let found = txn.letters.rows().find(open);
        let key = found.map(|row| (row.letter.job.clone(), row.letter.item_key.clone()));
        let Some(key) = key else { return false };
        let edited = txn.letters.edit(&key, |row| {
            row.letter.status = status;
            row.letter.next_attempt_at_ms = (status == LetterStatus::Retrying).then_some(now_ms);
            row.updated_at_ms = now_ms;
        });
        txn.commit();
        edited
    }
}
