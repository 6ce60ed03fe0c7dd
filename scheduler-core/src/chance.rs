//! What is left to chance: new identities, and fractions for back-offs. Nothing else in this crate
//! draws lots.

use uuid::Uuid;

/// A new identity: a UUID v7, which sorts after those that were made before.
pub(crate) fn uuid() -> Uuid {
    Uuid::now_v7()
}

/// A number in 0…1.
pub(crate) fn fraction() -> f64 {
    fastrand::f64()
}
