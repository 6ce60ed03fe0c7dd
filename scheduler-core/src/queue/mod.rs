//! Durable rows of work, claimed under leases, over a table of your own or the library's.
//!
//! ```text
//!             claim                      ok
//!  queued ───────────▶ running ─────────────────────▶ succeeded
//!    ▲  ▲                │ │ │ cancel ───────────────▶ cancelled
//!    │  └─ snooze, stop ─┘ │ └ error, attempts left ─▶ queued (later)
//!    │                     └── permanent / attempts used up / crashing ─▶ dead
//!    └──── retry by a person ◀─────────────────────────────────────────────┘
//! ```
//!
//! Enqueueing is a call of [`JobQueue`] or [`TableQueue`], alone or in your own transaction, or an
//! insert of your own. A [`Consumer`] claims
//! rows that are due, runs a [`Handler`] on each, keeps their leases, and finishes them with
//! statements that are conditional on `(id, lease_token, leased_by)` and on the lease: what a frozen
//! process finishes too late does not land.
//!
//! ```no_run
//! use scheduler_core::queue::{
//!     Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, QueueTable,
//! };
//! # use scheduler_core::{Scheduler, Store};
//!
//! #[derive(sea_orm::FromQueryResult)]
//! struct Email { id: i64, recipient: String }
//!
//! struct Mailer;
//!
//! #[async_trait::async_trait]
//! impl Handler for Mailer {
//!     type Row = Email;
//!     async fn handle(&self, email: Email, _: QueueContext) -> Result<Handled, HandleError> {
//!         println!("mail {} to {}", email.id, email.recipient);
//!         Ok(Handled::Done(None))
//!     }
//! }
//!
//! # async fn example(store: Store, mut scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
//! let table = QueueTable::new("emails").columns(["recipient"]);
//! let consumer = Consumer::new(&store, table, ConsumerOptions::new("mailer"), Mailer).await?;
//! let waker = consumer.register(&mut scheduler)?;
//! # Ok(()) }
//! ```

mod batch;
mod consumer;
mod engine;
mod enqueue;
mod events;
mod handler;
mod layers;
mod outcome;
mod own_rows;
mod prefetch;
mod table;

pub use batch::{BatchHandler, BatchOptions, Batched};
pub use consumer::{Consumer, ConsumerOptions, QueueError};
pub(crate) use enqueue::check;
pub use enqueue::{
    EnqueueError, Enqueued, JobQueue, JobRow, LARGEST_BATCH, LONGEST_KEY, LONGEST_PAYLOAD, NewJob,
    Receipt, Unique,
};
#[cfg(feature = "metrics")]
pub(crate) use events::Outcome;
pub use events::{QueueEvent, QueueEvents};
pub use handler::{HandleError, Handled, Handler, QueueContext, Recorded};
pub use layers::{HandlerService, Layered, RowRequest, ServiceError};
pub(crate) use own_rows::check_rows;
pub use own_rows::{NewRow, TableQueue};
pub(crate) use table::{KEY_COLUMNS, Rate};
pub use table::{QueueTable, TableError};

pub use crate::store::wake::QueueWaker;
pub use crate::store::{RowId, RowStatus, Wake};
