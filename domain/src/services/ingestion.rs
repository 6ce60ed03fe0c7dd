//! How ingestion stands, for operators, clients and the public.

use scheduler_core::{Store, StoreError};

use crate::ingestion::{ChannelFacts, ChannelState, IngestionHealth, Source};
use crate::store::ingestion_runs::{self, ChannelRow};

const DAY_MS: i64 = 86_400_000;

/// How ingestion stands, and what came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestionReport {
    /// Each channel and the whole.
    pub health: IngestionHealth,
    /// Rows written in the last 24 hours, for each of [`Source::ALL`].
    pub rows_written_24h: [i64; Source::ALL.len()],
}

/// Reads how every channel stands now.
///
/// # Errors
/// The database's.
pub async fn health(store: &Store) -> Result<IngestionHealth, StoreError> {
    let rows = ingestion_runs::list_channels(store.reader()).await?;
    let facts: Vec<ChannelFacts> = rows.into_iter().map(facts).collect();
    Ok(IngestionHealth::assess(&facts, store.clock().now_ms()))
}

/// Reads how every channel stands now, and how much each source wrote in the last 24 hours.
///
/// # Errors
/// The database's.
pub async fn report(store: &Store) -> Result<IngestionReport, StoreError> {
    let health = health(store).await?;
    let since_ms = health.generated_at_ms - DAY_MS;
    let written = ingestion_runs::sum_written(store.reader(), since_ms).await?;
    let rows_written_24h = Source::ALL.map(|source| {
        let found = written.iter().find(|written| written.source == source.as_str());
        found.map_or(0, |written| written.rows_written)
    });
    Ok(IngestionReport { health, rows_written_24h })
}

fn facts(row: ChannelRow) -> ChannelFacts {
    ChannelFacts {
        source: row.source,
        channel: row.channel,
        status: row.status,
        state: ChannelState {
            last_success_at_ms: row.last_success_at_ms,
            last_datum_at_ms: row.last_datum_at_ms,
            consecutive_failures: row.consecutive_failures,
        },
        last_error: row.last_error,
    }
}
