//! DefiLlama's channels: each asks, guards what jumps, and keeps the features.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use scheduler_core::{JobContext, Scheduler, Store};

use super::options::IngestionOptions;
use super::polled::{Fetched, PollError, register_polled};
use crate::ingestion::{Channel, JumpGuard, JumpRule, Reject, Rows, Source, Verdict, find_channel};
use crate::market::{Interval, Statistic};
use crate::sources::SourceError;
use crate::sources::defillama::{DefillamaClient, features as named};
use crate::store::features;

#[derive(Clone)]
struct Llama {
    store: Store,
    client: DefillamaClient,
    options: Arc<IngestionOptions>,
    guards: Arc<Mutex<HashMap<(&'static str, String), JumpGuard>>>,
}

/// Registers the source's channels; answers the names of their jobs.
pub(super) fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &Arc<IngestionOptions>,
) -> Result<Vec<String>, super::RegisterIngestionError> {
    let client = DefillamaClient::new(options.urls.defillama.clone(), Arc::clone(store.clock()))?;
    let llama = Llama {
        store: store.clone(),
        client,
        options: Arc::clone(options),
        guards: Arc::default(),
    };
    let mut names = Vec::new();
    for name in
        ["chains", "chain_history", "protocols", "stablecoins", "yields", "dex_volumes", "prices"]
    {
        let Some(channel) = find_channel(Source::Defillama, name) else { continue };
        let llama = llama.clone();
        register_polled(scheduler, channel, move |context| {
            let llama = llama.clone();
            async move { llama.poll(channel, &context).await }
        })?;
        names.push(channel.job());
    }
    Ok(names)
}

impl Llama {
    async fn poll(
        &self,
        channel: &'static Channel,
        context: &JobContext,
    ) -> Result<Fetched, PollError> {
        let (client, options) = (&self.client, &self.options);
        let (rows, problem) = match channel.name {
            "chains" => (client.chains(&options.chains).await?, None),
            "chain_history" | "dex_volumes" => self.by_chain(channel).await?,
            "protocols" => (client.protocols().await?, None),
            "stablecoins" => (client.stablecoins().await?, None),
            "yields" => (client.yields().await?, None),
            _ => (client.prices(&options.price_keys).await?, None),
        };
        let mut fetched = self.keep(channel, context, rows).await?;
        fetched.problem = fetched.problem.or(problem);
        Ok(fetched)
    }

    /// What is asked chain by chain. One that the source does not know costs the others nothing.
    async fn by_chain(
        &self,
        channel: &Channel,
    ) -> Result<(Rows<Statistic>, Option<String>), PollError> {
        let is_history = channel.name == "chain_history";
        let mut rows = match is_history {
            true => Rows::default(),
            false => self.client.dex_volumes().await?,
        };
        let mut problem = None;
        for chain in &self.options.chains {
            let asked = match is_history {
                true => self.client.chain_history(chain).await,
                false => self.client.dex_volume(chain).await,
            };
            match asked {
                Ok(answer) => rows.absorb(answer),
                Err(error @ SourceError::Refused { .. }) => {
                    problem.get_or_insert_with(|| format!("{chain}: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((rows, problem))
    }

    async fn keep(
        &self,
        channel: &'static Channel,
        context: &JobContext,
        rows: Rows<Statistic>,
    ) -> Result<Fetched, PollError> {
        let Rows { good, read, mut rejects } = rows;
        let now_ms = context.now_ms();
        let kept_ms = i64::try_from(self.options.retention.days.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = now_ms.saturating_sub(kept_ms);
        // What the sweep would take the next hour.
        let good = good.into_iter().filter(|row| row.at_ms >= oldest_ms);
        let judged = good.filter_map(|row| rejects.keep(self.judge(row, now_ms)));
        let mut good: Vec<Statistic> = judged.collect();
        // The last of what stands twice counts.
        good.reverse();
        good.sort_by(|one, two| key(one).cmp(&key(two)));
        good.dedup_by(|one, two| key(one) == key(two));
        // Only these two are dated by the source; the value of a day is known at its end.
        let newest_ms = match channel.name {
            "chain_history" => good.iter().map(|row| row.at_ms + Interval::D1.as_millis()).max(),
            "prices" => good.iter().map(|row| row.at_ms).max(),
            _ => (!good.is_empty()).then_some(now_ms),
        };
        let mut written = 0;
        for part in good.chunks(PART) {
            let (part, lease) = (part.to_vec(), context.lease().clone());
            let saved = self.store.write("keep features", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    Ok::<_, PollError>(features::upsert(txn, &part, now_ms).await?)
                })
            });
            written += saved.await?;
        }
        let fetched = Fetched {
            rows_read: i64::try_from(read).unwrap_or(i64::MAX),
            rows_written: i64::try_from(written).unwrap_or(i64::MAX),
            last_datum_at_ms: newest_ms,
            ..Fetched::default()
        };
        Ok(fetched.with_rejects(channel, &rejects))
    }

    /// Holds values back that jump: of chains, protocols, stablecoins and pools.
    fn judge(&self, row: Statistic, now_ms: i64) -> Result<Statistic, Reject> {
        let guarded =
            [named::CHAIN_TVL, named::PROTOCOL_TVL, named::STABLECOIN_CIRCULATING, named::POOL_TVL];
        // The past is not judged by the present.
        let is_past = now_ms.saturating_sub(row.at_ms) > 2 * Interval::H1.as_millis();
        if is_past || !guarded.contains(&row.feature) {
            return Ok(row);
        }
        let mut guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = guards.entry((row.feature, row.subject.clone())).or_default();
        match guard.judge(row.value, now_ms, &HOURLY) {
            Verdict::Good => Ok(row),
            Verdict::Held => {
                let Statistic { feature, subject, value, .. } = &row;
                Err(Reject::new("held_jump", format!("{feature} of {subject} jumps to {value}")))
            }
        }
    }
}

/// The rule of an hour for what is asked by the hour: the sample before is a little older than that.
const HOURLY: JumpRule = JumpRule {
    limit: JumpRule::VALUE_LOCKED.limit,
    within: std::time::Duration::from_secs(2 * 3_600),
};

/// Rows of one transaction: other writers wait for it.
const PART: usize = 2_000;

fn key(row: &Statistic) -> (&'static str, &str, i64) {
    (row.feature, &row.subject, row.at_ms)
}
