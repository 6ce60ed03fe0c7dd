//! News of a SQLite file that other processes write.
//!
//! A watch on the WAL says that somebody writes; `PRAGMA data_version` of the writer's connection
//! says whether it was another process, since it does not change by what the connection itself
//! commits. So a process does not wake itself, and while nobody writes no statement is made. The
//! watch is inotify; where there is none (other systems, or too many watches) the version is asked
//! for every 250 ms.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, SqlxSqliteConnector, Statement};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use crate::store::wake::Hub;

/// Between two looks where there is no watch.
const TICK: Duration = Duration::from_millis(250);
/// A commit is seen when its last byte is on the disk, which is after the watch has spoken: so long
/// after the last sign of a writer it is looked for.
const VISIBLE_WITHIN: Duration = Duration::from_millis(200);
/// Between the first two looks; the pause doubles while nothing is found.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
/// After news, so that a writer who commits all the time does not make everybody look all the time.
const QUIET: Duration = Duration::from_millis(10);
/// While the version cannot be asked for.
const RETRY: Duration = Duration::from_secs(1);

const DATA_VERSION: &str = "PRAGMA data_version";

/// A file whose news is followed.
#[derive(Clone)]
pub(super) struct WatchedFile {
    path: PathBuf,
    writer: DatabaseConnection,
    /// The writer is the one connection that this process writes with.
    writes_alone: bool,
}

impl WatchedFile {
    /// The file of a SQLite pool; `None` for a database in memory.
    pub(super) fn of(writer: &DatabaseConnection, writes_alone: bool) -> Option<Self> {
        let options = writer.get_sqlite_connection_pool().connect_options();
        let path = options.get_filename().to_owned();
        path.is_file().then(|| Self { path, writer: writer.clone(), writes_alone })
    }

    /// Tells of news until the database is closed.
    pub(super) async fn follow(self, hub: Arc<Hub>) {
        let connection = self.connection();
        // Makes sure that there is a WAL to watch.
        let mut seen = data_version(&connection).await;
        let mut signs = Signs::of(self.wal());
        // Whoever waits since before the first look sees what was written before it.
        hub.tell_all();
        loop {
            follow_signs(&mut signs, &mut seen, &connection, &hub).await;
            if self.writer.get_sqlite_connection_pool().is_closed() {
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// A connection whose version changes by what others commit. The commits of an embedder's pool
    /// cannot be told from those of others: they wake this process, too, which then finds nothing.
    fn connection(&self) -> DatabaseConnection {
        if self.writes_alone {
            return self.writer.clone();
        }
        let options = SqliteConnectOptions::new().filename(&self.path).read_only(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options);
        SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
    }

    fn wal(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push("-wal");
        name.into()
    }
}

async fn data_version(database: &DatabaseConnection) -> Option<i64> {
    let statement = Statement::from_string(DbBackend::Sqlite, DATA_VERSION);
    let row = database.query_one_raw(statement).await.ok()??;
    row.try_get_by_index(0).ok()
}

/// Looks for news at each sign; returns when the version cannot be read.
async fn follow_signs(
    signs: &mut Signs,
    seen: &mut Option<i64>,
    connection: &DatabaseConnection,
    hub: &Hub,
) {
    loop {
        signs.next().await;
        let mut until = Instant::now() + signs.patience();
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(found) = data_version(connection).await else { return };
            if seen.replace(found) == Some(found) {
                pause = (2 * pause).min(LONGEST_PAUSE);
            } else {
                hub.tell_all();
                sleep(QUIET).await;
                pause = FIRST_PAUSE;
            }
            if Instant::now() >= until {
                break;
            }
            sleep(pause).await;
            if signs.next().now_or_never().is_some() {
                until = Instant::now() + signs.patience();
            }
        }
    }
}

/// Signs that somebody writes.
enum Signs {
    #[cfg(target_os = "linux")]
    Watch(inotify::Watch),
    /// No signs but time.
    Ticks(Interval),
}

impl Signs {
    fn of(wal: PathBuf) -> Self {
        #[cfg(target_os = "linux")]
        match inotify::Watch::on(&wal) {
            Ok(watch) => return Self::Watch(watch),
            Err(error) => {
                tracing::debug!(%error, wal = %wal.display(), "the WAL cannot be watched");
            }
        }
        let _ = wal;
        Self::ticks()
    }

    fn ticks() -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Ticks(ticks)
    }

    /// Returns at the next sign. Cancellation safe.
    async fn next(&mut self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Watch(watch) => {
                if watch.next().await.is_err() {
                    tracing::debug!("the watch on the WAL has ended");
                    *self = Self::ticks();
                }
            }
            Self::Ticks(ticks) => {
                ticks.tick().await;
            }
        }
    }

    /// How long after a sign its commit may become visible.
    fn patience(&self) -> Duration {
        match self {
            #[cfg(target_os = "linux")]
            Self::Watch(_) => VISIBLE_WITHIN,
            Self::Ticks(_) => Duration::ZERO,
        }
    }
}

#[cfg(target_os = "linux")]
mod inotify {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
    use rustix::io::Errno;
    use tokio::io::unix::AsyncFd;

    /// Of one file, for as long as it is there.
    pub(super) struct Watch(AsyncFd<OwnedFd>);

    impl Watch {
        pub(super) fn on(file: &Path) -> io::Result<Self> {
            let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let signs = WatchFlags::MODIFY | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            add_watch(&watch, file, signs)?;
            #[expect(deprecated, reason = "sound for an OwnedFd: its descriptor is its own")]
            AsyncFd::new(watch).map(Self)
        }

        /// Returns when there were signs, all of them taken. Cancellation safe.
        pub(super) async fn next(&mut self) -> io::Result<()> {
            let mut ready = self.0.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 1_024];
            let mut reader = Reader::new(ready.get_inner(), &mut buffer);
            let ended = ReadFlags::IGNORED | ReadFlags::MOVE_SELF;
            loop {
                match reader.next() {
                    Ok(event) if event.events().intersects(ended) => {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    Ok(_) => {}
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            Ok(())
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::store::{Changes, Store, Topic, WakeStore};

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn write(store: &Store, sql: &'static str) {
        let written: Result<(), crate::StoreError> = store
            .write("write", |txn| {
                Box::pin(async move {
                    let done = txn.execute_unprepared(sql).await;
                    done.map(|_| ()).map_err(|source| crate::StoreError::database("write", source))
                })
            })
            .await;
        written.expect("written");
    }

    async fn heard(news: &mut Changes) {
        timeout(PATIENCE, news.changed()).await.expect("news");
    }

    async fn two_processes() -> (tempfile::TempDir, Store, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("watched.db").display());
        let store = Store::sqlite(&url).await.expect("opens");
        write(&store, "CREATE TABLE t (n INTEGER)").await;
        let other = Store::sqlite(&url).await.expect("opens");
        (folder, store, other)
    }

    #[tokio::test]
    async fn while_nobody_writes_no_statement_is_made() {
        let (folder, store, other) = two_processes().await;
        let mut signs = Signs::of(folder.path().join("watched.db-wal"));
        assert!(matches!(signs, Signs::Watch(_)));
        // The first statement fails, and ends the following.
        let closed = store.inner.writer.clone();
        closed.clone().close().await.unwrap();
        let (hub, mut seen) = (Hub::default(), None);
        let mut following = Box::pin(follow_signs(&mut signs, &mut seen, &closed, &hub));
        assert!(timeout(2 * TICK, &mut following).await.is_err(), "a statement was made");
        write(&other, "INSERT INTO t VALUES (1)").await;
        timeout(PATIENCE, following).await.expect("a statement after a write");
    }

    #[tokio::test]
    async fn a_process_hears_of_others_and_not_of_itself() {
        let (_folder, store, other) = two_processes().await;
        let mut news = store.changes(&Topic::Schedules);
        heard(&mut news).await;
        for _ in 0..100 {
            write(&store, "INSERT INTO t VALUES (1)").await;
        }
        assert!(news.changed().now_or_never().is_none(), "it heard of itself");
        write(&other, "INSERT INTO t VALUES (2)").await;
        heard(&mut news).await;
    }

    #[tokio::test]
    async fn without_a_watch_the_version_tells() {
        let (folder, store, other) = two_processes().await;
        let mut signs = Signs::of(folder.path().join("nothing.db-wal"));
        assert!(matches!(signs, Signs::Ticks(_)));
        let hub = Hub::default();
        let mut seen = data_version(&store.inner.writer).await;
        let mut news = hub.changes(&Topic::Schedules);
        let following = follow_signs(&mut signs, &mut seen, &store.inner.writer, &hub);
        tokio::select! {
            () = following => panic!("the version cannot be read"),
            () = async {
                write(&store, "INSERT INTO t VALUES (1)").await;
                write(&other, "INSERT INTO t VALUES (2)").await;
                heard(&mut news).await;
            } => {}
        }
    }

    #[tokio::test]
    async fn a_database_in_memory_has_no_other_process() {
        let store = Store::sqlite("sqlite::memory:").await.unwrap();
        assert!(WatchedFile::of(&store.inner.writer, true).is_none());
        let mut news = store.changes(&Topic::Schedules);
        store.wake(&Topic::Schedules);
        heard(&mut news).await;
    }

    #[tokio::test]
    async fn a_store_on_an_embedders_pool_hears_of_others() {
        let (folder, _store, other) = two_processes().await;
        let url = format!("sqlite://{}", folder.path().join("watched.db").display());
        let pool = sea_orm::Database::connect(url).await.unwrap();
        let store = Store::from_connection(pool);
        let mut news = store.changes(&Topic::Schedules);
        heard(&mut news).await;
        write(&other, "INSERT INTO t VALUES (2)").await;
        heard(&mut news).await;
    }
}
