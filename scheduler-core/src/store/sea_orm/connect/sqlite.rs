//! Opening a SQLite database: which pragmas, how many connections, on which disk.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};

use super::{EXPECTED, without_password};
use crate::clock::{Clock, SystemClock};
use crate::error::{StoreError, is_busy, is_unopenable};
use crate::store::Store;
use crate::store::sea_orm::gate::Gate;
use crate::store::sea_orm::mounts::network_file_system_of;
use crate::store::sea_orm::turnstile::Turnstile;
use crate::store::sea_orm::wake::News;

/// How a SQLite database is opened. The default is right for production.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// `synchronous=FULL` (the default): a commit survives a power loss. `false` is NORMAL: after
    /// a power loss the last commits may be gone, the file stays consistent.
    pub full_sync: bool,
    /// Connections of the read pool.
    pub readers: u32,
    /// How long opening and reading wait for another process's lock. Writes wait as
    /// [`Store::write`] says.
    pub busy_timeout: Duration,
    /// Opens a file on a network file system (NFS, SMB, sshfs, …) all the same. `false` by default:
    /// SQLite's locks do not hold there, and the file may be damaged in silence.
    pub allow_network: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            full_sync: true,
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            allow_network: false,
        }
    }
}

/// How long SQLite itself waits for its turn before the writer asks anew. Its pauses grow, so
/// that who has waited longest is served last: eight processes that wrote all the time saw waits
/// of 1.5 s with 5 s here, and 0.15 s with this.
const WRITER_PATIENCE: Duration = Duration::from_millis(60);

/// How long a file that others create or recover is tried to be opened.
const LONGEST_OPENING: Duration = Duration::from_secs(10);
/// Between two tries.
const OPENING_PAUSE: Duration = Duration::from_millis(10);

impl Store {
    /// Opens a SQLite database and creates the file when it is not there: WAL, foreign keys on,
    /// `synchronous=FULL`, one writer and a read pool.
    ///
    /// `url` is `sqlite://path/to/file.db` or `sqlite::memory:`.
    ///
    /// # Errors
    /// [`StoreError::Url`] for another address; [`StoreError::NetworkFile`] for a file on a network
    /// file system, as far as Linux tells; [`StoreError::ReadOnly`] where the file is there and those
    /// beside it cannot be made; the driver's error when it cannot be opened otherwise.
    pub async fn sqlite(url: &str) -> Result<Self, StoreError> {
        Self::sqlite_with(url, SqliteOptions::default(), Arc::new(SystemClock)).await
    }

    /// Like [`Store::sqlite`], with options and a clock of the caller's.
    ///
    /// # Errors
    /// As [`Store::sqlite`].
    pub async fn sqlite_with(
        url: &str,
        options: SqliteOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        if !url.starts_with("sqlite:") {
            return Err(StoreError::Url { value: without_password(url), reason: EXPECTED.into() });
        }
        if !options.allow_network {
            refuse_network(url)?;
        }
        let patience = options.busy_timeout.min(WRITER_PATIENCE);
        let writer = open(url, &options, 1, patience).await?;
        let reader = if is_in_memory(url) {
            // A second connection to `:memory:` would be another database.
            writer.clone()
        } else {
            open(url, &options, options.readers.max(1), options.busy_timeout).await?
        };
        let file = file_of(url).and_then(|file| file.canonicalize().ok());
        let turnstile = file.map(|file| Turnstile::beside(&file)).unwrap_or_default();
        Ok(Self::from_parts(writer, reader, clock, Gate::of(turnstile), News::OwnPool, true))
    }
}

/// SQLite needs locks and shared memory that a network file system does not give.
fn refuse_network(url: &str) -> Result<(), StoreError> {
    let Some(file) = file_of(url) else { return Ok(()) };
    match network_file_system_of(&file) {
        Some(file_system) => {
            Err(StoreError::NetworkFile { file: file.display().to_string(), file_system })
        }
        None => Ok(()),
    }
}

/// The file of an address. One that cannot be read is refused by the driver, with its reason.
fn file_of(url: &str) -> Option<PathBuf> {
    let options = SqliteConnectOptions::from_str(url).ok()?;
    (!is_in_memory(url)).then(|| options.get_filename().to_owned())
}

/// Why a file cannot be opened. SQLite says no more than that where it can be read and the files
/// beside it cannot be made.
fn cannot_open(url: &str, source: DbErr) -> StoreError {
    const OPERATION: &str = "open the database";
    let is_there = || file_of(url).is_some_and(|file| std::fs::File::open(file).is_ok());
    if is_unopenable(&source) && is_there() {
        return StoreError::ReadOnly { operation: OPERATION, source };
    }
    StoreError::database(OPERATION, source)
}

async fn open(
    url: &str,
    options: &SqliteOptions,
    connections: u32,
    patience: Duration,
) -> Result<DatabaseConnection, StoreError> {
    let SqliteOptions { full_sync, busy_timeout, .. } = options.clone();
    let mut connect = ConnectOptions::new(url);
    connect
        .max_connections(connections)
        .min_connections(1)
        .sqlx_logging(false)
        // A connection that expires takes `:memory:` with it, and a statement cache elsewhere.
        .idle_timeout(None::<Duration>)
        .max_lifetime(None::<Duration>)
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                .create_if_missing(true)
                .busy_timeout(busy_timeout)
                .foreign_keys(true)
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", if full_sync { "FULL" } else { "NORMAL" })
                // After the others: two that create one file wait for each other longer.
                .pragma("busy_timeout", patience.as_millis().to_string())
        });
    let began = Instant::now();
    loop {
        match Database::connect(connect.clone()).await {
            // Two that create one file both want to make it WAL, and SQLite does not wait there.
            Err(source) if is_busy(&source) && began.elapsed() < LONGEST_OPENING => {
                tokio::time::sleep(OPENING_PAUSE).await;
            }
            opened => {
                return opened.map_err(|source| cannot_open(url, source));
            }
        }
    }
}

fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}
