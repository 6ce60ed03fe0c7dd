//! The probes of supervisors and load balancers. Public: they show no cause and no address.

use std::sync::Arc;
use std::time::{Duration, Instant};

use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use tokio::sync::Mutex;

use super::Tag;
use super::problem::NotWell;
use crate::health::HealthSource;
use crate::pulse::Pulse;

pub(crate) struct ProbesApi {
    pulse: Arc<Pulse>,
    readiness: Readiness,
}

/// All is well.
#[derive(Debug, Object)]
struct Well {
    /// Always `ok`.
    status: String,
}

#[OpenApi(tag = "Tag::Probes")]
impl ProbesApi {
    /// Whether the loops of this process turn. Touches no database.
    #[oai(path = "/livez", method = "get", operation_id = "livez")]
    async fn livez(&self) -> Result<Json<Well>, NotWell> {
        let stalled = self.pulse.stalled();
        if stalled.is_empty() {
            return Ok(well());
        }
        let loops: Vec<String> = stalled
            .iter()
            .map(|s| format!("`{}` is silent for {:?} (at most {:?})", s.name, s.silent, s.allowed))
            .collect();
        Err(NotWell::because(format!("standing still: {}", loops.join(", "))))
    }

    /// Whether this process can work.
    ///
    /// The database answers, its schema is current, and a lease can be written. An answer holds
    /// for a second.
    #[oai(path = "/readyz", method = "get", operation_id = "readyz")]
    async fn readyz(&self) -> Result<Json<Well>, NotWell> {
        self.readiness.now().await.map(|()| well()).map_err(NotWell::because)
    }
}

impl ProbesApi {
    pub(crate) fn new(health: Arc<dyn HealthSource>, pulse: Arc<Pulse>) -> Self {
        Self { pulse, readiness: Readiness { health, last: Mutex::new(None) } }
    }
}

fn well() -> Json<Well> {
    Json(Well { status: "ok".into() })
}

/// The last answer about readiness. Anybody may ask, and each check writes to the database: so
/// one check runs at a time, and its answer holds for a moment.
struct Readiness {
    health: Arc<dyn HealthSource>,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

const HOLDS: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

impl Readiness {
    async fn now(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = last.as_ref().filter(|(at, _)| at.elapsed() < HOLDS) {
            tracing::trace!(age_ms = at.elapsed().as_millis(), "readiness is known");
            return answer.clone();
        }
        let answer = self.check().await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn check(&self) -> Result<(), String> {
        match tokio::time::timeout(PATIENCE, self.health.ready()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_ready)) => {
                let words = not_ready.to_string();
                let error = anyhow::Error::from(not_ready);
                tracing::warn!(error = format!("{error:#}"), "not ready");
                Err(words)
            }
            Err(_) => {
                tracing::warn!("not ready: the check took longer than {PATIENCE:?}");
                Err(format!("the database did not answer within {PATIENCE:?}"))
            }
        }
    }
}
