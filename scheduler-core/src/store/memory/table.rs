//! Rows by key, with what a transaction changed, so that it can be taken back.

use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Rows in the order of their keys.
pub(super) struct Table<K, R> {
    rows: BTreeMap<K, R>,
    /// What the transaction under way found, oldest first; `None` where there was no row.
    before: Vec<(K, Option<R>)>,
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), before: Vec::new() }
    }
}

impl<K: Ord + Clone, R: Clone> Table<K, R> {
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&R>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key)
    }

    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = &R> + Clone {
        self.rows.values()
    }

    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = (&K, &R)> + Clone {
        self.rows.iter()
    }

    /// Inserts a row or replaces it.
    pub(super) fn put(&mut self, key: K, row: R) {
        let before = self.rows.insert(key.clone(), row);
        self.before.push((key, before));
    }

    /// Changes a row; answers whether there is one.
    pub(super) fn edit<Q: Ord + ?Sized>(&mut self, key: &Q, change: impl FnOnce(&mut R)) -> bool
    where
        K: Borrow<Q>,
    {
        let Some((key, row)) = self.rows.get_key_value(key) else { return false };
        let (key, mut row) = (key.clone(), row.clone());
        change(&mut row);
        self.put(key, row);
        true
    }

    /// Deletes the rows that `condemned` says; answers how many.
    pub(super) fn delete(&mut self, condemned: impl Fn(&K, &R) -> bool) -> u64 {
        let keys: Vec<K> = self
            .rows
            .iter()
            .filter(|(key, row)| condemned(key, row))
            .map(|(key, _)| key.clone())
            .collect();
        let deleted = keys.len() as u64;
        for key in keys {
            let row = self.rows.remove(&key);
            self.before.push((key, row));
        }
        deleted
    }

    pub(super) fn commit(&mut self) {
        self.before.clear();
    }

    pub(super) fn roll_back(&mut self) {
        while let Some((key, before)) = self.before.pop() {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn what_is_rolled_back_was_never_there() {
        let mut table = Table::default();
        table.put("kept", 1);
        table.put("deleted", 2);
        table.commit();
        table.put("new", 3);
        table.edit("kept", |row| *row = 4);
        table.edit("kept", |row| *row = 5);
        table.edit("new", |row| *row = 6);
        assert_eq!(table.delete(|key, _| *key != "kept"), 2);
        assert!(!table.edit("deleted", |row| *row = 7));
        assert_eq!(table.entries().collect::<Vec<_>>(), [(&"kept", &5)]);
        table.roll_back();
        assert_eq!(table.entries().collect::<Vec<_>>(), [(&"deleted", &2), (&"kept", &1)]);
        table.put("kept", 8);
        table.commit();
        table.roll_back();
        assert_eq!(table.get("kept"), Some(&8));
    }
}
