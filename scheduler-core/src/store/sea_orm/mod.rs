//! The SQL store: connections, the one door to the writer, and one file per family of statements.

mod connect;
mod control;
mod discard;
mod evidence;
mod gate;
mod heartbeats;
mod instances;
mod leases;
mod letters;
#[cfg(feature = "sqlite")]
mod mounts;
mod patience;
#[cfg(feature = "postgres")]
mod pooler;
mod queue;
mod runs;
mod schedules;
mod sql;
mod together;
mod turnstile;
mod wake;
mod write;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use sea_orm::{DatabaseConnection, DbBackend};

#[cfg(feature = "postgres")]
pub use self::connect::PostgresOptions;
#[cfg(feature = "sqlite")]
pub use self::connect::SqliteOptions;
use self::gate::Gate;
pub(crate) use self::leases::fence;
use self::queue::enqueue::{Enqueues, Texts as EnqueueTexts};
use self::runs::Finishes;
use self::wake::{News, Wakes};
pub use self::write::WriteFuture;
#[cfg(feature = "migration")]
pub(crate) use self::write::immediate;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::store::{Namespace, SchedulerStore};

/// A handle to the database, cheap to clone: one writer, a read pool and the clock.
///
/// All writes go through [`Store::write`]; on SQLite each is one IMMEDIATE transaction, so a
/// deferred write transaction cannot be expressed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    namespace: Namespace,
    /// Rows that could not be read, each logged once.
    unreadable: Mutex<HashSet<String>>,
    /// The bound of one operation on a server.
    patience: Option<Duration>,
    wakes: Wakes,
    enqueues: Enqueues,
    enqueue_texts: OnceLock<EnqueueTexts>,
    finishes: Finishes,
    /// Whether prepared statements outlive their transaction.
    #[cfg(feature = "postgres")]
    keeps_statements: bool,
}

impl Store {
    fn from_parts(
        writer: DatabaseConnection,
        reader: DatabaseConnection,
        clock: Arc<dyn Clock>,
        gate: Gate,
        news: News,
        keeps_statements: bool,
    ) -> Self {
        let namespace = Namespace::default();
        let wakes = Wakes::new(&writer, &namespace, news, keeps_statements);
        let inner = Inner {
            gate: Arc::new(gate),
            clock,
            unreadable: Mutex::default(),
            patience: patience::with(&writer),
            wakes,
            enqueues: Enqueues::default(),
            enqueue_texts: OnceLock::new(),
            finishes: Finishes::default(),
            #[cfg(feature = "postgres")]
            keeps_statements,
            writer,
            reader,
            namespace,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same database with the library's tables in a namespace of their own, on the same
    /// connections: writes through either wait for each other, and a [`close`](Self::close) of one
    /// closes them for both.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for a schema on SQLite.
    pub fn in_namespace(&self, namespace: Namespace) -> Result<Self, StoreError> {
        if namespace.of_schema().is_some() && self.backend() != DbBackend::Postgres {
            return Err(StoreError::NO_SCHEMA);
        }
        let Inner { writer, reader, gate, clock, patience, wakes, .. } = &*self.inner;
        #[cfg(feature = "postgres")]
        let keeps_statements = self.inner.keeps_statements;
        #[cfg(not(feature = "postgres"))]
        let keeps_statements = true;
        let inner = Inner {
            writer: writer.clone(),
            reader: reader.clone(),
            gate: Arc::clone(gate),
            clock: Arc::clone(clock),
            unreadable: Mutex::default(),
            patience: *patience,
            wakes: Wakes::new(writer, &namespace, wakes.news(), keeps_statements),
            enqueues: Enqueues::default(),
            enqueue_texts: OnceLock::new(),
            finishes: Finishes::default(),
            #[cfg(feature = "postgres")]
            keeps_statements,
            namespace,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A connection for reading. Writing through it bypasses the writer's gate: do not.
    #[must_use]
    pub fn reader(&self) -> &DatabaseConnection {
        &self.inner.reader
    }

    /// The clock that this store's now comes from.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Closes the connections after the writes under way, and after the wakes that are still to be
    /// sent. Later calls fail.
    ///
    /// # Errors
    /// The driver's error, when a connection does not close cleanly.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.wakes().close().await;
        let close = |source| StoreError::database("close the database", source);
        self.inner.reader.clone().close().await.map_err(close)?;
        self.inner.writer.clone().close().await.map_err(close)
    }
}

impl SchedulerStore for Store {
    fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
