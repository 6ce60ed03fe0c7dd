//! Which row of an enqueue got which answer, over as many statements as its unique keys take.

use std::collections::HashMap;

use sea_orm::DbErr;

use crate::queue::Enqueued;

/// A key whose window has passed is freed by the first try to take it, and taken by the second; a third
/// is for one that another process took in between.
const MOST_TRIES: usize = 4;

/// A unique key, and the queue that it is unique in.
pub(super) type Key<'r> = (&'r str, &'r str);

/// What a statement answers for one row: in which order is unknown.
pub(super) struct Found<Id> {
    pub(super) id: Id,
    pub(super) queue: String,
    pub(super) key: Option<String>,
    /// How often the key was asked for in vain.
    pub(super) duplicates: i32,
}

/// The answers so far.
pub(super) struct Answers<'r, Id> {
    /// Of each row.
    keys: Vec<Option<Key<'r>>>,
    answers: Vec<Option<Enqueued<Id>>>,
    first_of_key: HashMap<Key<'r>, usize>,
    asked: Vec<usize>,
    tries: usize,
}

impl<'r, Id: Clone + Ord> Answers<'r, Id> {
    pub(super) fn of(keys: Vec<Option<Key<'r>>>) -> Self {
        let answers = keys.iter().map(|_| None).collect();
        Self { keys, answers, first_of_key: HashMap::new(), asked: Vec::new(), tries: 0 }
    }

    /// The positions of the rows that the next statement is about; none when there is no more to ask.
    pub(super) fn next(&mut self) -> &[usize] {
        (self.asked, self.first_of_key) = (Vec::new(), HashMap::new());
        if self.tries < MOST_TRIES {
            self.tries += 1;
            for (position, key) in self.keys.iter().enumerate() {
                let is_first = |key| !self.first_of_key.contains_key(key);
                if self.answers[position].is_none() && key.as_ref().is_none_or(is_first) {
                    self.asked.push(position);
                    if let Some(key) = key {
                        self.first_of_key.insert(*key, position);
                    }
                }
            }
        }
        &self.asked
    }

    /// What the statement said.
    pub(super) fn take(&mut self, found: Vec<Found<Id>>) -> Result<(), DbErr> {
        let mut plain = Vec::new();
        for Found { id, queue, key, duplicates } in found {
            match key {
                Some(key) => {
                    if let Some(at) = self.first_of_key.get(&(queue.as_str(), key.as_str())) {
                        self.answers[*at] = Some(match duplicates {
                            0 => Enqueued::Inserted(id),
                            _ => Enqueued::Existing(id),
                        });
                    }
                }
                None if duplicates == 0 => plain.push(id),
                // Its window had passed: the key is free now.
                None => {}
            }
        }
        let without = self.asked.iter().copied().filter(|at| self.keys[*at].is_none());
        let without: Vec<usize> = without.collect();
        for (at, answer) in without.iter().zip(in_order(without.len(), plain)?) {
            self.answers[*at] = Some(answer);
        }
        // Rows of one call with the same key are one row.
        for position in 0..self.keys.len() {
            let first = self.keys[position].and_then(|key| self.first_of_key.get(&key));
            let Some(first) = first.filter(|at| **at != position) else { continue };
            if let (None, Some(answer)) = (&self.answers[position], &self.answers[*first]) {
                self.answers[position] = Some(Enqueued::Existing(answer.clone().id()));
            }
        }
        Ok(())
    }

    /// One for each row.
    pub(super) fn all(self) -> Result<Vec<Enqueued<Id>>, DbErr> {
        self.answers.into_iter().collect::<Option<_>>().ok_or_else(|| {
            DbErr::Custom("a unique key was freed and taken by others again and again".to_owned())
        })
    }
}

/// The answers of rows without keys: ids grow in the order of the rows.
pub(super) fn in_order<Id: Ord>(rows: usize, mut ids: Vec<Id>) -> Result<Vec<Enqueued<Id>>, DbErr> {
    if ids.len() != rows {
        return Err(DbErr::Custom(format!("{} of {rows} rows were inserted", ids.len())));
    }
    ids.sort_unstable();
    Ok(ids.into_iter().map(Enqueued::Inserted).collect())
}
