//! The command line against a system that answers what the test wants.

mod arguments;
mod commands;
mod serving;

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use scheduler_core::Shutdown;

use super::*;
use crate::config::{ConfigError, WorkersConfig};
use crate::health::{HealthReport, HealthSource, NotReady};
use crate::pulse::Pulse;
use crate::wiring::{
    Backtest, Cancellation, CandleImport, Cycle, CycleOutcome, ImportReport, Migration, NewBacktest,
};

/// A system that answers what it is told to and remembers what it was asked.
#[derive(Default)]
struct Fake {
    asked: Arc<Mutex<Vec<String>>>,
    pending: bool,
    import: Option<ImportReport>,
    backtests: Vec<Backtest>,
    cancellation: Option<Cancellation>,
    cycles: Vec<Cycle>,
    workers_fail: bool,
}

impl Fake {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(what.into());
    }
}

#[async_trait]
impl Arena for Fake {
    async fn migrate(&self) -> Result<Vec<String>, Failure> {
        self.note("migrate");
        Ok(if self.pending { vec!["m1".into()] } else { Vec::new() })
    }

    async fn migrations(&self) -> Result<Vec<Migration>, Failure> {
        let state = if self.pending { MigrationState::Pending } else { MigrationState::Applied };
        Ok(vec![Migration { name: "m1".into(), state }])
    }

    async fn import_candles(&self, import: CandleImport) -> Result<ImportReport, Failure> {
        self.note(format!("{import:?}"));
        self.import.clone().ok_or_else(|| Failure::usage("wrong header"))
    }

    async fn submit_backtest(&self, backtest: NewBacktest) -> Result<String, Failure> {
        self.note(format!("{backtest:?}"));
        Ok("0190-abc".into())
    }

    async fn backtest(&self, id: &str) -> Result<Option<Backtest>, Failure> {
        Ok(self.backtests.iter().find(|backtest| backtest.id == id).cloned())
    }

    async fn backtests(&self, user: Option<i64>, limit: u32) -> Result<Vec<Backtest>, Failure> {
        self.note(format!("list {user:?} {limit}"));
        Ok(self.backtests.clone())
    }

    async fn cancel_backtest(&self, _id: &str) -> Result<Option<Cancellation>, Failure> {
        Ok(self.cancellation.clone())
    }

    async fn run_once(
        &self,
        workers: &WorkersConfig,
        wait: Duration,
        _shutdown: &Shutdown,
    ) -> Result<Vec<Cycle>, Failure> {
        self.note(format!("once {wait:?} {workers:?}"));
        Ok(self.cycles.clone())
    }

    async fn run_workers(
        &self,
        workers: &WorkersConfig,
        _pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), Failure> {
        self.note(format!("work {workers:?}"));
        if self.workers_fail {
            return Err(Failure::work("the clock is wrong"));
        }
        shutdown.stop.cancelled().await;
        self.note("drained");
        Ok(())
    }

    async fn seed_demo(&self) -> Result<(), Failure> {
        self.note("seed");
        Ok(())
    }

    fn health(&self) -> Arc<dyn HealthSource> {
        Arc::new(NoHealth)
    }

    async fn close(&self) {
        self.note("close");
    }
}

struct NoHealth;

#[async_trait]
impl HealthSource for NoHealth {
    async fn worker_health(&self) -> anyhow::Result<HealthReport> {
        anyhow::bail!("not asked in these tests")
    }

    async fn ready(&self) -> Result<(), NotReady> {
        Ok(())
    }
}

/// What came of a command.
struct Ran {
    code: u8,
    out: String,
    err: String,
    asked: Vec<String>,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of an environment")]
fn empty_environment(_: &'static str) -> Result<Option<String>, ConfigError> {
    Ok(None)
}

async fn arena(line: &[&str], fake: Fake) -> Ran {
    let asked = Arc::clone(&fake.asked);
    let fake: Arc<dyn Arena> = Arc::new(fake);
    let connect = async |url: &DatabaseUrl| {
        if url.as_str().starts_with("sqlite:") {
            Ok(Arc::clone(&fake))
        } else {
            Err(Failure::usage(format!("`{url}` is not a database address")))
        }
    };
    let system = System { environment: &empty_environment, connect };
    let args = ["arena"].iter().chain(line).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run_on(args, &system, Streams { out: &mut out, err: &mut err }).await;
    let asked = asked.lock().unwrap().clone();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code, out: text(out), err: text(err), asked }
}
