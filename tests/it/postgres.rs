//! PostgreSQL for tests: a private server, once per test binary, and a database of its own for each
//! test; or the server of `TEST_DATABASE_URL`.

#[path = "postgres/server.rs"]
pub(crate) mod server;

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use sea_orm::{ConnectionTrait, Database};
use tokio::sync::OnceCell;

use self::server::{PrivateServer, Programs};

static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);
/// Databases whose tests have ended.
static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

enum Server {
    Private(PrivateServer),
    /// An address up to the name of a database.
    Given(String),
}

/// The address of a test's database, which goes when another test wants one.
pub(crate) struct TestDatabase {
    url: String,
    name: String,
}

impl Deref for TestDatabase {
    type Target = str;

    fn deref(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        ENDED.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.name));
    }
}

/// A new, empty database. `None` where there is no server: one line has said so, and the test is not
/// run.
pub(crate) async fn new_database() -> Option<TestDatabase> {
    let server = SERVER.get_or_init(start).await.as_ref()?;
    let number = DATABASES.fetch_add(1, Ordering::SeqCst);
    let name = format!("test_{}_{number}", std::process::id());
    let admin = Database::connect(server.url("postgres")).await.expect("the server answers");
    let ended = std::mem::take(&mut *ENDED.lock().unwrap_or_else(PoisonError::into_inner));
    for name in ended {
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        admin.execute_unprepared(&drop).await.expect("a database goes");
    }
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database");
    admin.close().await.expect("closed");
    Some(TestDatabase { url: server.url(&name), name })
}

impl Server {
    fn url(&self, database: &str) -> String {
        match self {
            Self::Private(server) => server.url(database),
            Self::Given(before) => format!("{before}/{database}"),
        }
    }
}

async fn start() -> Option<Server> {
    if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
        let (before, _) = url.rsplit_once('/').expect("TEST_DATABASE_URL names a database");
        return Some(Server::Given(before.to_owned()));
    }
    let programs = Programs::find()?;
    // Nothing outlives the tests: the disk may lag behind.
    let server = PrivateServer::new(programs, &["fsync=off", "max_connections=300"]);
    server.answers().await;
    Some(Server::Private(server))
}
