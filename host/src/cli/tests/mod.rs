//! The command line on a database in a folder of the test's own.

mod arguments;
mod backtests;
mod books;
mod databases;
mod dead_letters;
mod imports;
mod ingestion;
mod jobs;
mod serving;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::config::ConfigError;

/// What came of a command.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }

    /// Exit code 0; answers what was written.
    #[track_caller]
    fn well(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// This exit code and each of these parts on stderr.
    #[track_caller]
    fn refused(&self, code: u8, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not in: {}", self.err);
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of an environment")]
fn empty_environment(_: &'static str) -> Result<Option<String>, ConfigError> {
    Ok(None)
}

/// Runs a command line as the process would, without an environment.
async fn arena(line: &[&str]) -> Ran {
    let args = ["arena"].iter().chain(line).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let streams = Streams { out: &mut out, err: &mut err };
    let code = run_on(args, &empty_environment, streams).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code, out: text(out), err: text(err) }
}

/// A folder with a database.
struct Folder {
    url: String,
    folder: TempDir,
}

impl Folder {
    /// The database is not there yet.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("arena.db").display());
        Self { url, folder }
    }

    async fn migrated() -> Self {
        let folder = Self::new();
        folder.arena(&["db", "migrate"]).await.well();
        folder
    }

    /// With a hundred bars of BTC, the first at 0.
    async fn with_bars() -> Self {
        let folder = Self::migrated().await;
        let walk = domain::market::RandomWalk::new(1, domain::market::Interval::H1, 0, 100.0, 0.01);
        let mut csv = String::from("open_time_ms,open,high,low,close,volume\n");
        for bar in walk.take(100) {
            let domain::market::Candle { open_time_ms, open, high, low, close, volume } = bar;
            csv.push_str(&format!("{open_time_ms},{open},{high},{low},{close},{volume}\n"));
        }
        let file = folder.write("bars.csv", &csv);
        folder
            .arena(&["market", "import", "--symbol", "BTC", "--interval", "1h", &file])
            .await
            .well();
        folder
    }

    /// Runs a command line on the database.
    async fn arena(&self, line: &[&str]) -> Ran {
        let line: Vec<&str> =
            ["--database-url", &self.url].into_iter().chain(line.iter().copied()).collect();
        arena(&line).await
    }

    /// Writes a file and answers its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn execute(&self, sql: &str) {
        use sea_orm::ConnectionTrait;
        let store = database::open(&self.url.parse().unwrap()).await.unwrap();
        store.reader().execute_unprepared(sql).await.unwrap();
        database::close(store).await;
    }
}
