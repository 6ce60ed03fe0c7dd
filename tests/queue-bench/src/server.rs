//! A private PostgreSQL server with its default settings: no file of the tests, whose servers keep small
//! logs. `initdb` refuses root, so it runs as nobody, on a unix socket in a temporary folder that goes with
//! this process.

#[path = "../../it/postgres/folder.rs"]
mod folder;

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use self::folder::Folder;

const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);
/// What the report says of a server.
const SETTINGS: [&str; 6] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "shared_buffers",
    "max_wal_size",
    "max_connections",
];

/// A server to make databases on.
pub(crate) struct Server {
    /// Of its database `postgres`, or of the one that was named.
    url: String,
    /// Dropped last: what runs in the folder ends with it.
    private: Option<Private>,
}

struct Private {
    child: Child,
    _folder: Folder,
}

impl Server {
    pub(crate) fn at(url: &str) -> Self {
        Self { url: url.to_owned(), private: None }
    }

    /// Makes and starts a private one.
    pub(crate) async fn private() -> anyhow::Result<Self> {
        let programs = programs().context(
            "no PostgreSQL server is installed (`apt-get install postgresql`): name one with \
             --database-url, or measure `sqlite` alone",
        )?;
        let folder = Folder::new();
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
            use std::os::unix::fs::MetadataExt as _;
            own.uid() == 0
        });
        if is_root {
            chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(folder.path()).arg("-D").arg(folder.path().join("data"));
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let made = command("initdb")
            .args(["--auth=trust", "--username=bench", "--encoding=UTF8"])
            .output()
            .context("initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(folder.path().join("log"))?;
        let child = command("postgres")
            .arg("-k")
            .arg(folder.path())
            .args(["-c", "listen_addresses="])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("postgres")?;
        let url = format!("postgres://bench@localhost/postgres?host={}", folder.path().display());
        let server = Self { url, private: Some(Private { child, _folder: folder }) };
        server.answers().await?;
        Ok(server)
    }

    async fn answers(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while let Err(error) = PgConnection::connect(&self.url).await {
            if began.elapsed() > PATIENCE {
                bail!("the private server does not answer: {error}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Its settings, as it says them.
    pub(crate) async fn settings(&self) -> anyhow::Result<String> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let mut settings = Vec::new();
        for name in SETTINGS {
            let show = sqlx::query_scalar("SELECT current_setting($1)").bind(name);
            let value: String = show.fetch_one(&mut connection).await?;
            settings.push(format!("{name}={value}"));
        }
        Ok(settings.join(", "))
    }

    /// An empty database; [`drop_database`](Self::drop_database) removes it.
    pub(crate) async fn make_database(&self, name: &str) -> anyhow::Result<String> {
        self.run(format!("CREATE DATABASE {name}")).await?;
        // What stands between the host and the parameters.
        let start = self.url.find("://").map_or(0, |at| at + 3);
        let end = self.url.find('?').unwrap_or(self.url.len());
        let host = self.url[start..end].find('/').map_or(end, |at| start + at);
        Ok(format!("{}/{name}{}", &self.url[..host], &self.url[end..]))
    }

    /// Removes it, whoever is connected. A private server also writes down what it holds in memory, so that
    /// no measurement pays for the one before; another's checkpoints are not ours to order.
    pub(crate) async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        self.run(format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        if self.private.is_some() {
            self.run("CHECKPOINT".to_owned()).await?;
        }
        Ok(())
    }

    async fn run(&self, sql: String) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url).await?;
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await?;
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let quit = ["-QUIT", &self.child.id().to_string()].map(str::to_owned);
        let _ = Command::new("kill").args(quit).output();
        let _ = self.child.wait();
    }
}

/// The newest of Debian's, or wherever PATH has them.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |folder: &Path| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    folders.into_iter().rev().chain(std::env::split_paths(&path)).find(|folder| has(folder))
}
