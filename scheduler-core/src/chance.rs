//! What is left to chance: new identities, and fractions for back-offs. Nothing else in this crate
//! draws lots, so that a simulation, which seeds its thread, repeats itself.

use std::cell::RefCell;

use uuid::Uuid;

thread_local! {
    static SEEDED: RefCell<Option<Seeded>> = const { RefCell::new(None) };
}

struct Seeded {
    lots: fastrand::Rng,
    identities: u64,
}

/// A new identity: a UUID v7, which sorts after those that were made before.
pub(crate) fn uuid() -> Uuid {
    let seeded = with_seeded(|seeded| {
        seeded.identities += 1;
        let [a, b, c, d, e, f, g, h] = seeded.identities.to_be_bytes();
        let lot = seeded.lots.u16(..).to_be_bytes();
        uuid::Builder::from_unix_timestamp_millis(
            seeded.identities,
            &[a, b, c, d, e, f, g, h, lot[0], lot[1]],
        )
        .into_uuid()
    });
    seeded.unwrap_or_else(Uuid::now_v7)
}

/// A number in 0…1.
pub(crate) fn fraction() -> f64 {
    with_seeded(|seeded| seeded.lots.f64()).unwrap_or_else(fastrand::f64)
}

fn with_seeded<T>(draw: impl FnOnce(&mut Seeded) -> T) -> Option<T> {
    SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(draw))
}

/// Until this is dropped, what this thread leaves to chance follows from a seed: what the library
/// draws, and what others draw through `fastrand`.
pub(crate) struct SeededThread {
    /// What `fastrand` would have gone on with.
    others: u64,
}

impl SeededThread {
    pub(crate) fn new(seed: u64) -> Self {
        let others = fastrand::u64(..);
        fastrand::seed(seed);
        let lots = fastrand::Rng::with_seed(seed);
        SEEDED.set(Some(Seeded { lots, identities: 0 }));
        Self { others }
    }
}

impl Drop for SeededThread {
    fn drop(&mut self) {
        SEEDED.set(None);
        fastrand::seed(self.others);
    }
}

#[cfg(test)]
mod tests {
    use super::{SeededThread, fraction, uuid};

    #[test]
    fn a_seeded_thread_repeats_itself_and_goes_on_by_chance_afterwards() {
        let draw = |seed| {
            let _seeded = SeededThread::new(seed);
            (uuid(), uuid(), fraction().to_bits(), fastrand::u64(..))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_ne!(uuid(), uuid());
        assert_ne!(fastrand::u64(..), fastrand::u64(..));
    }

    #[test]
    fn seeded_identities_sort_by_their_time_of_creation() {
        let _seeded = SeededThread::new(7);
        let made: Vec<_> = (0..2_000).map(|_| uuid()).collect();
        assert!(made.is_sorted_by(|a, b| a.to_string() < b.to_string()));
        assert!(made.iter().all(|id| id.get_version_num() == 7));
    }
}
