//! A private PostgreSQL server, once per test binary, and a database of its own for each test.
//!
//! `initdb` refuses root, so the server runs as nobody, on a unix socket in a temporary folder,
//! and ends with this process: a shell waits for the end of its standard input.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;
use tokio::sync::OnceCell;

const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(30);

static SERVER: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

struct Server {
    /// An address up to the name of a database, and what follows it.
    address: (String, String),
    /// The server's folder and process, which end with this one.
    _private: Option<(TempDir, Child)>,
}

/// The address of a new, empty database.
pub(crate) async fn new_database() -> String {
    let server = SERVER.get_or_init(start).await;
    let number = DATABASES.fetch_add(1, Ordering::SeqCst);
    let name = format!("test_{}_{number}", std::process::id());
    let admin = Database::connect(server.url("postgres")).await.expect("the server answers");
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database");
    admin.close().await.expect("closed");
    server.url(&name)
}

impl Server {
    fn url(&self, database: &str) -> String {
        let (before, after) = &self.address;
        format!("{before}/{database}{after}")
    }
}

async fn start() -> Server {
    if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
        let (before, _) = url.rsplit_once('/').expect("TEST_DATABASE_URL names a database");
        return Server { address: (before.to_owned(), String::new()), _private: None };
    }
    let programs = server_programs();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    std::fs::set_permissions(path, Permissions::from_mode(0o700)).expect("permissions");
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if is_root {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("the folder is given away");
    }
    let data = path.join("data");
    let initdb = as_nobody(is_root, Command::new(programs.join("initdb")))
        .args(["--auth=trust", "--username=tests", "--no-sync", "--encoding=UTF8", "-D"])
        .arg(&data)
        .current_dir(path)
        .output()
        .expect("initdb runs");
    assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
    let mut script = String::new();
    write!(
        script,
        "'{}' -D '{}' -k '{}' -c listen_addresses= -c fsync=off -c max_connections=300 \\
         >'{}' 2>&1 & read -r _; kill -QUIT $!; wait",
        programs.join("postgres").display(),
        data.display(),
        path.display(),
        path.join("log").display(),
    )
    .expect("a script");
    let child = as_nobody(is_root, Command::new("sh"))
        .args(["-c", &script])
        .current_dir(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let after = format!("?host={}", path.display());
    let server = Server {
        address: ("postgres://tests@localhost".into(), after),
        _private: Some((folder, child)),
    };
    let began = Instant::now();
    while let Err(error) = Database::connect(server.url("postgres")).await {
        assert!(began.elapsed() < PATIENCE, "the server does not answer: {error}");
        tokio::task::yield_now().await;
    }
    server
}

fn as_nobody(is_root: bool, mut command: Command) -> Command {
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The folder of `initdb` and `postgres`: the newest of Debian's, or wherever PATH has them.
fn server_programs() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .find(|folder| has_server(folder))
        .expect("no PostgreSQL server is installed: `apt-get install postgresql`, or set TEST_DATABASE_URL")
}

fn has_server(folder: &Path) -> bool {
    folder.join("initdb").is_file() && folder.join("postgres").is_file()
}
