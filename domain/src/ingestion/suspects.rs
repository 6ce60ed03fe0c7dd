//! Which coin kills the socket.
//!
//! Some venues close a connection without a word when it asks for a coin that they do not know.
//! The coins that were asked for and not acknowledged are suspects; the next connection asks for
//! the others first, then for the suspects in halves, each half after the one before was
//! acknowledged, until one coin is left to blame.

use std::collections::{BTreeSet, VecDeque};

use super::quarantine::Quarantine;

/// The coins of one stream, and which of them are trusted.
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    suspects: BTreeSet<String>,
    /// How many suspects are asked for at once: halved whenever a batch of them dies.
    width: usize,
    quarantine: Quarantine,
    batches: VecDeque<Vec<String>>,
    asked: BTreeSet<String>,
}

impl Suspects {
    /// Begins a connection that wants these coins.
    pub fn connect(&mut self, wanted: &[String], now_ms: i64) {
        self.asked.clear();
        self.batches.clear();
        let admitted = wanted.iter().filter(|coin| self.quarantine.admits(coin, now_ms));
        let (suspects, trusted): (Vec<&String>, Vec<&String>) =
            admitted.partition(|coin| self.suspects.contains(*coin));
        let batches = std::iter::once(trusted.as_slice()).chain(suspects.chunks(self.width.max(1)));
        self.batches = batches
            .filter(|batch| !batch.is_empty())
            .map(|batch| batch.iter().map(|coin| (*coin).clone()).collect())
            .collect();
    }

    /// The coins to ask for now: the next batch once the one before was acknowledged, else none.
    pub fn next_batch(&mut self) -> Vec<String> {
        if !self.asked.is_empty() {
            return Vec::new();
        }
        let batch = self.batches.pop_front().unwrap_or_default();
        self.asked = batch.iter().cloned().collect();
        batch
    }

    /// Notes that everything that was asked of a coin is acknowledged.
    pub fn acknowledged(&mut self, coin: &str) {
        if self.asked.remove(coin) {
            self.suspects.remove(coin);
            self.quarantine.succeeded(coin);
        }
    }

    /// Notes that the venue closed the connection; answers the coin that is left alone from now on,
    /// if one is.
    pub fn closed(&mut self, now_ms: i64) -> Option<String> {
        let asked = std::mem::take(&mut self.asked);
        if asked.len() == 1
            && let Some(coin) = asked.first()
        {
            self.suspects.insert(coin.clone());
            return self.quarantine.failed(coin, now_ms).then(|| coin.clone());
        }
        if !asked.is_empty() {
            self.width = asked.len().div_ceil(2);
            self.suspects.extend(asked);
        }
        None
    }

    /// The coins that are left alone, sorted.
    #[must_use]
    pub fn held(&self, now_ms: i64) -> Vec<&str> {
        self.quarantine.held(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A venue that acknowledges in order and closes at a coin that it does not know.
    fn connect(suspects: &mut Suspects, wanted: &[String], unknown: &[&str], now_ms: i64) -> bool {
        suspects.connect(wanted, now_ms);
        loop {
            let batch = suspects.next_batch();
            if batch.is_empty() {
                return true;
            }
            // The worst venue: it acknowledges nothing of a batch that it dies of.
            if batch.iter().any(|coin| unknown.contains(&coin.as_str())) {
                suspects.closed(now_ms);
                return false;
            }
            for coin in &batch {
                suspects.acknowledged(coin);
            }
        }
    }

    #[test]
    fn bad_coins_are_found_by_halves_and_the_others_stream() {
        let wanted: Vec<String> = (0..32).map(|coin| format!("C{coin}")).collect();
        for unknown in [vec!["C7"], vec!["C0", "C31"], vec!["C3", "C4", "C5"], vec![]] {
            let mut suspects = Suspects::default();
            let mut connections = 1;
            while !connect(&mut suspects, &wanted, &unknown, connections) {
                connections += 1;
                assert!(connections < 40, "{unknown:?}: {suspects:?}");
            }
            assert_eq!(suspects.held(connections), unknown, "after {connections}");
            // They get another try after an hour, and no more than one.
            let later = connections + 3_600_000;
            if let Some(first) = unknown.first() {
                assert!(!connect(&mut suspects, &wanted, &unknown, later));
                while !connect(&mut suspects, &wanted, &unknown, later) {}
                assert!(suspects.held(later).contains(first));
            }
        }
    }

    #[test]
    fn a_connection_that_breaks_after_its_acknowledgements_blames_nobody() {
        let mut suspects = Suspects::default();
        let wanted = ["BTC".to_owned(), "ETH".to_owned()];
        for now_ms in 0..10 {
            suspects.connect(&wanted, now_ms);
            let batch = suspects.next_batch();
            assert_eq!(batch, wanted);
            assert!(suspects.next_batch().is_empty(), "not before the acknowledgement");
            for coin in &batch {
                suspects.acknowledged(coin);
            }
            assert_eq!(suspects.closed(now_ms), None);
        }
        assert!(suspects.held(10).is_empty());
    }
}
