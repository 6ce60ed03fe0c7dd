//! Everything once per round, each in a process and on a database of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum as _;
use probe::{Figure, Work};
use tempfile::TempDir;
use tokio::process::Command;

use crate::arguments::{Arguments, Database};
use crate::machine::sync_us;
use crate::peers::Spec;
use crate::report::Report;
use crate::say;
use crate::server::Server;

/// How much longer than an enqueue a drain may take, and ticks are measured.
const DRAIN: f64 = 3.0;
const TICKS: f64 = 4.0;
/// How long a measurement may take besides; then its process is ended.
const PATIENCE: Duration = Duration::from_secs(90);
const TICKING_JOBS: u32 = 1_000;

/// The programs that measure, and where their files are.
pub(crate) struct Bench {
    arguments: Arguments,
    folder: TempDir,
    /// Where cargo builds this bench and its peers.
    target: PathBuf,
}

impl Bench {
    pub(crate) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let target = own.ancestors().nth(2).context("a program in a target folder")?.to_owned();
        let folder = tempfile::Builder::new().prefix("queue-bench-").tempdir()?;
        Ok(Self { arguments: arguments.clone(), folder, target })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Measures all that is asked for on a database.
    pub(crate) async fn measure(&self, on: Database, report: &mut Report) -> anyhow::Result<()> {
        let peers = self.arguments.peers(on);
        for folder in peers.iter().map(|spec| spec.folder).collect::<BTreeSet<_>>() {
            self.build(folder).await?;
        }
        let server = match (on, &self.arguments.database_url) {
            _ if peers.is_empty() => None,
            (Database::Postgres, Some(url)) => Some(Server::at(url)),
            (Database::Postgres, None) => Some(Server::private().await?),
            _ => None,
        };
        if let Some(server) = &server {
            report.server = Some(server.settings().await?);
        }
        for round in 0..self.arguments.rounds {
            for work in self.arguments.work(on) {
                report.sync_us.push(sync_us(self.folder.path())?);
                for spec in &peers {
                    if skips(spec, work) {
                        continue;
                    }
                    let figure = self.once(spec, work, server.as_ref()).await;
                    if let Err(error) = &figure {
                        say(&format!("{} {work:?}, round {}: {error:#}", spec.name, round + 1));
                    }
                    report.add(spec, work, figure.ok());
                }
            }
        }
        Ok(())
    }

    async fn build(&self, folder: &str) -> anyhow::Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
        let mut build = Command::new(cargo);
        // What `cargo run` tells this program of itself would have build scripts run again.
        let of_this =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "LD_LIBRARY_"];
        for (name, _) in std::env::vars_os() {
            if of_this.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                build.env_remove(name);
            }
        }
        let built = build
            .args(["build", "--locked", "--release", "--manifest-path"])
            .arg(&manifest)
            .arg("--target-dir")
            .arg(&self.target)
            .kill_on_drop(true)
            .status()
            .await?;
        ensure!(built.success(), "{} does not build", manifest.display());
        Ok(())
    }

    async fn once(
        &self,
        spec: &Spec,
        work: Work,
        server: Option<&Server>,
    ) -> anyhow::Result<Figure> {
        if let Some(server) = server {
            let name = format!("queue_bench_{}", std::process::id());
            let url = server.make_database(&name).await?;
            let figure = self.probe(spec, work, &url).await;
            server.drop_database(&name).await?;
            return figure;
        }
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let url = match spec.database {
            Database::None => String::new(),
            _ => format!("sqlite://{}?mode=rwc", folder.path().join("queue.db").display()),
        };
        self.probe(spec, work, &url).await
    }

    async fn probe(&self, spec: &Spec, work: Work, url: &str) -> anyhow::Result<Figure> {
        let program = format!("queue-bench-{}", spec.folder.replace('.', "-"));
        let program = self.target.join("release").join(program);
        let Arguments { jobs, seconds, .. } = self.arguments;
        let (jobs, seconds) = match work {
            Work::Drain10 | Work::Drain50 => (jobs.min(spec.at_most), seconds * DRAIN),
            Work::Ticks => (TICKING_JOBS, seconds * TICKS),
            _ => (jobs, seconds),
        };
        let work = work.to_possible_value().context("a name")?;
        let output = Command::new(program)
            .args(["--peer", spec.name, "--database", url, "--work", work.get_name()])
            .args(["--jobs", &jobs.to_string(), "--seconds", &seconds.to_string()])
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output)
            .await
            .with_context(|| format!("it did not end within {PATIENCE:?}"))??;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        // A peer may print, too.
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().last().context("it said nothing")?;
        serde_json::from_str(line).with_context(|| line.to_owned())
    }
}

fn skips(spec: &Spec, work: Work) -> bool {
    match work {
        Work::Bulk => !spec.has_bulk,
        Work::Pickup => !spec.waits,
        _ => false,
    }
}
