//! Wakes of a SQL store: who waits in this process, and how it hears of what other processes wrote.
//!
//! | database | says | hears |
//! |---|---|---|
//! | PostgreSQL | NOTIFY after the commit, merged | LISTEN on a connection of its own |
//! | SQLite file | nothing: the write itself is seen | a watch on the WAL, or a look every 250 ms |
//! | SQLite in memory | nothing | nothing: there is no other process |
//!
//! Each namespace has a channel of its own on a server. A file has one WAL: whoever writes into it makes
//! all of them look.

#[cfg(feature = "sqlite")]
mod file;
#[cfg(feature = "postgres")]
mod server;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{DatabaseConnection, DatabaseConnectionType};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

#[cfg(feature = "sqlite")]
use self::file::WatchedFile;
#[cfg(feature = "postgres")]
use self::server::{Listener, Notifier};
use super::Store;
use crate::store::wake::Hub;
use crate::store::{Changes, Namespace, Topic, WakeStore};

/// Where a store's news comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// From a connection pool that this library opened. On SQLite its writer is the only connection
    /// that this process writes with.
    OwnPool,
    /// From the pool of an embedder.
    AnyPool,
    /// From nowhere: a server that is only told.
    #[cfg(feature = "postgres")]
    Nowhere,
}

/// What a store needs for wakes.
pub(super) struct Wakes {
    news: News,
    hub: Arc<Hub>,
    source: Source,
    listening: Mutex<Option<AbortOnDropHandle<()>>>,
    #[cfg(feature = "postgres")]
    notifier: Option<Arc<Notifier>>,
}

enum Source {
    None,
    #[cfg(feature = "sqlite")]
    File(WatchedFile),
    #[cfg(feature = "postgres")]
    Server(Listener),
}

impl Wakes {
    pub(super) fn new(
        writer: &DatabaseConnection,
        namespace: &Namespace,
        news: News,
        keeps_statements: bool,
    ) -> Self {
        let (hub, listening) = (Arc::default(), Mutex::default());
        let _ = (namespace, keeps_statements);
        match &writer.inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                let notifier = Arc::new(Notifier::new(writer.clone(), namespace, keeps_statements));
                let source = match news {
                    News::Nowhere => Source::None,
                    _ => Source::Server(notifier.listener()),
                };
                Self { news, hub, source, listening, notifier: Some(notifier) }
            }
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                let file = WatchedFile::of(writer, news == News::OwnPool);
                Self {
                    news,
                    hub,
                    source: file.map_or(Source::None, Source::File),
                    listening,
                    #[cfg(feature = "postgres")]
                    notifier: None,
                }
            }
            _ => Self {
                news,
                hub,
                source: Source::None,
                listening,
                #[cfg(feature = "postgres")]
                notifier: None,
            },
        }
    }

    pub(super) fn news(&self) -> News {
        self.news
    }

    /// Tells other processes; this one knows already, or does not care.
    pub(super) fn tell_others(&self, topic: &Topic) {
        #[cfg(feature = "postgres")]
        if let Some(notifier) = &self.notifier {
            notifier.notify(topic);
        }
        let _ = topic;
    }

    /// Sends what is still to be told, and hears nothing any more.
    pub(super) async fn close(&self) {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listening) = listening {
            listening.abort();
            // An error says that it was aborted.
            let _ = listening.await;
        }
        #[cfg(feature = "postgres")]
        if let Some(notifier) = &self.notifier {
            notifier.flush().await;
        }
    }

    /// Makes sure that somebody listens for this process.
    fn listen(&self) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if listening.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let hub = Arc::clone(&self.hub);
        let work: Pin<Box<dyn Future<Output = ()> + Send>> = match &self.source {
            Source::None => return,
            #[cfg(feature = "sqlite")]
            Source::File(file) => Box::pin(file.clone().follow(hub)),
            #[cfg(feature = "postgres")]
            Source::Server(listener) => Box::pin(listener.clone().listen(hub)),
        };
        // Outside a runtime nobody can wait either.
        if let Ok(runtime) = Handle::try_current() {
            *listening = Some(AbortOnDropHandle::new(runtime.spawn(work)));
        }
    }
}

impl Store {
    pub(super) fn wakes(&self) -> &Wakes {
        &self.inner.wakes
    }
}

impl WakeStore for Store {
    fn changes(&self, topic: &Topic) -> Changes {
        // Before the listener says that anything may have changed meanwhile.
        let changes = self.wakes().hub.changes(topic);
        self.wakes().listen();
        changes
    }

    fn wake(&self, topic: &Topic) {
        self.wakes().hub.tell(topic);
        self.wakes().tell_others(topic);
    }
}
