//! Embeddable recurring jobs and durable queues on the SQL database a service already has.

mod clock;
mod error;
pub mod store;

pub use clock::{Clock, SystemClock};
pub use error::StoreError;
pub use store::{SqliteOptions, Store};
