//! Where schedules, leases, runs, heartbeats and queue rows live.
//!
//! [`Store`] is the SQL implementation; the traits are what the scheduler needs of any store.
//! SQL stands in `store/sea_orm` and nowhere else.

mod sea_orm;

pub use self::sea_orm::{SqliteOptions, Store, WriteFuture};
