//! How ingestion stands: in full for clients, in sum for the public.
//!
//! As with the workers' health, the answer is 200 whenever there is an answer; without a database
//! its `status` is `down`.

use std::sync::Arc;

use domain::ingestion;
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use scheduler_core::{Clock, SystemClock};

use super::Tag;
use super::auth::{BearerToken, challenge_bearer};
use super::problem::Refused;
use crate::health::{HealthSource, IngestionReport, within};

pub(crate) struct IngestionApi {
    source: Arc<dyn HealthSource>,
}

#[OpenApi(prefix_path = "/api/v1/ingestion", tag = "Tag::Ingestion")]
impl IngestionApi {
    /// How each channel of each source stands. 200 also when it is not well: read `status`.
    #[oai(
        path = "/health",
        method = "get",
        operation_id = "ingestion_health",
        transform = "challenge_bearer"
    )]
    async fn ingestion_health(
        &self,
        _token: BearerToken,
    ) -> Result<Json<IngestionHealth>, Refused> {
        Ok(Json(self.read().await.map_or_else(IngestionHealth::without_database, Into::into)))
    }

    /// How each source stands, in sum. Public: no error text, nothing internal.
    #[oai(path = "/dashboard", method = "get", operation_id = "ingestion_dashboard")]
    async fn ingestion_dashboard(&self) -> Json<Dashboard> {
        Json(self.read().await.map_or_else(Dashboard::without_database, Into::into))
    }
}

impl IngestionApi {
    pub(crate) fn new(source: Arc<dyn HealthSource>) -> Self {
        Self { source }
    }

    async fn read(&self) -> Option<IngestionReport> {
        within(self.source.ingestion_report(), "the health of ingestion").await
    }
}

/// How channels stand together. The required ones decide; where none is, all do.
#[derive(Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum Standing {
    /// None is stale.
    Ok,
    /// Some are stale.
    Degraded,
    /// All are stale, or there is no database.
    Down,
}

/// How ingestion stands at one moment.
#[derive(Debug, Object)]
struct IngestionHealth {
    /// How all channels stand together.
    status: Standing,
    /// When this was read, epoch milliseconds.
    generated_at_ms: i64,
    /// Every channel there is, by source, run or not. Empty without a database.
    channels: Vec<ChannelHealth>,
}

/// How one channel stands. Times are epoch milliseconds.
#[derive(Debug, Object)]
struct ChannelHealth {
    /// Whose data: `hyperliquid`, `defillama` or `polymarket`.
    source: String,
    /// The channel, unique within its source.
    channel: String,
    /// How its last run stands: `never_run`, `running`, `succeeded`, `failed` or `interrupted`.
    status: String,
    /// Whether the arena cannot decide without it.
    required: bool,
    /// When a run last succeeded.
    #[oai(nullable)]
    last_success_at_ms: Option<i64>,
    /// The time of the newest good datum: the source's where it tells one, else when it came.
    #[oai(nullable)]
    last_datum_at_ms: Option<i64>,
    /// The age of that datum, milliseconds.
    #[oai(nullable)]
    age_ms: Option<i64>,
    /// Whether the data are too old to decide with, or there are none.
    stale: bool,
    /// Runs that failed since the last success.
    consecutive_failures: i64,
    /// Why the last failure failed. Untrusted text.
    #[oai(nullable)]
    last_error: Option<String>,
}

/// The sources in sum.
#[derive(Debug, Object)]
struct Dashboard {
    /// When this was read, epoch milliseconds.
    generated_at_ms: i64,
    /// One entry per source. Empty without a database.
    sources: Vec<SourceSummary>,
}

/// One source in sum.
#[derive(Debug, Object)]
struct SourceSummary {
    /// `hyperliquid`, `defillama` or `polymarket`.
    source: String,
    /// How its channels stand together.
    status: Standing,
    /// How many channels it has.
    channels: u32,
    /// How many of them are stale.
    stale_channels: u32,
    /// When a run of any of them last succeeded, epoch milliseconds.
    #[oai(nullable)]
    last_success_at_ms: Option<i64>,
    /// Rows written in the last 24 hours.
    rows_written_24h: i64,
}

impl IngestionHealth {
    fn without_database() -> Self {
        let generated_at_ms = SystemClock.now_ms();
        Self { status: Standing::Down, generated_at_ms, channels: Vec::new() }
    }
}

impl Dashboard {
    fn without_database() -> Self {
        Self { generated_at_ms: SystemClock.now_ms(), sources: Vec::new() }
    }
}

impl From<ingestion::Standing> for Standing {
    fn from(standing: ingestion::Standing) -> Self {
        match standing {
            ingestion::Standing::Ok => Self::Ok,
            ingestion::Standing::Degraded => Self::Degraded,
            ingestion::Standing::Down => Self::Down,
        }
    }
}

impl From<IngestionReport> for IngestionHealth {
    fn from(report: IngestionReport) -> Self {
        let health = report.health;
        Self {
            status: health.standing.into(),
            generated_at_ms: health.generated_at_ms,
            channels: health.channels.into_iter().map(ChannelHealth::from).collect(),
        }
    }
}

impl From<ingestion::ChannelHealth> for ChannelHealth {
    fn from(health: ingestion::ChannelHealth) -> Self {
        let stale = health.is_stale();
        Self {
            source: health.channel.source.to_string(),
            channel: health.channel.name.to_owned(),
            status: health.status,
            required: health.channel.required,
            last_success_at_ms: health.state.last_success_at_ms,
            last_datum_at_ms: health.state.last_datum_at_ms,
            age_ms: health.age_ms,
            stale,
            consecutive_failures: health.state.consecutive_failures,
            last_error: health.last_error,
        }
    }
}

impl From<IngestionReport> for Dashboard {
    fn from(report: IngestionReport) -> Self {
        let health = &report.health;
        let sources = ingestion::Source::ALL.into_iter().zip(report.rows_written_24h);
        let sources = sources.map(|(source, rows_written_24h)| {
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            SourceSummary {
                source: source.to_string(),
                status: health.standing_of(source).into(),
                channels: count(health.of(source).count()),
                stale_channels: count(health.of(source).filter(|one| one.is_stale()).count()),
                last_success_at_ms: health
                    .of(source)
                    .filter_map(|one| one.state.last_success_at_ms)
                    .max(),
                rows_written_24h,
            }
        });
        Self { generated_at_ms: health.generated_at_ms, sources: sources.collect() }
    }
}
