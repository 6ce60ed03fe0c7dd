//! The leases of the rows that run here: renewed together, and lost when they end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::handler::Handler;
use super::super::outcome::CutOff;
use super::{Engine, Host, NO_NEWS, RunningRow, locked};
use crate::clock::millis;
use crate::executor::chain;
use crate::stop::{wait_until, wait_until_or_set_back};
use crate::store::{RowGrant, RowProgress};

/// A cancel request and a progress are seen and written after at most this long.
const LONGEST_TICK: Duration = Duration::from_secs(5);

impl<H: Handler> Engine<H> {
    /// Renews the leases of what runs here, writes progress, and passes cancel requests on.
    pub(super) async fn keep_leases(self: Arc<Self>, mut host: Host) {
        let tick_ms = millis(self.tick());
        let mut at_ms = self.clock.now_ms().saturating_add(tick_ms);
        loop {
            tokio::select! {
                () = wait_until_or_set_back(&self.clock, at_ms) => {}
                () = self.all_ended(&mut host) => return,
            }
            // From the time of asking: a slow answer must not delay the next renewal.
            at_ms = self.clock.now_ms().saturating_add(tick_ms);
            self.renew_all().await;
        }
    }

    fn tick(&self) -> Duration {
        (self.options.lease / 3).min(LONGEST_TICK)
    }

    async fn renew_all(&self) {
        let rows: Vec<RowProgress> = locked(&self.running)
            .iter()
            .filter(|(_, row)| !row.lost)
            .map(|(grant, row)| {
                let progress = row.progress.load(Ordering::Acquire);
                let progress_pct = (progress != NO_NEWS).then_some(progress);
                RowProgress { grant: grant.clone(), progress_pct }
            })
            .collect();
        if rows.is_empty() {
            return;
        }
        let asked_ms = self.clock.now_ms();
        // Not on the clock, which may just have been set beyond every lease.
        let patience = Instant::now() + self.tick();
        let mut renewal = self.rows.renew(&rows, millis(self.options.lease));
        let renewed = loop {
            tokio::select! {
                biased;
                renewed = &mut renewal => break renewed,
                // The database has gone silent: what runs under a lease that ended must not go on.
                () = self.next_expiry(patience) => self.lose_expired(),
            }
        };
        let renewed = match renewed {
            Ok(renewed) => renewed,
            Err(error) => {
                tracing::warn!(
                    queue = self.options.name,
                    error = chain(&error),
                    "the leases of a queue's rows could not be renewed yet"
                );
                self.lose_expired();
                return;
            }
        };
        let renewed: HashMap<RowGrant, bool> =
            renewed.into_iter().map(|row| (row.grant, row.cancel_requested)).collect();
        let mut running = locked(&self.running);
        for asked in &rows {
            // A row that ended meanwhile is not lost.
            let Some(row) = running.get_mut(&asked.grant) else { continue };
            match renewed.get(&asked.grant) {
                Some(cancel_requested) => {
                    row.expires_at_ms = asked_ms.saturating_add(millis(self.options.lease));
                    if *cancel_requested {
                        locked(&row.cut_off).get_or_insert(CutOff::Request);
                        row.cancellation.cancel();
                    }
                }
                None => row.lose(),
            }
        }
    }

    /// Returns when the next lease ends of what runs here and is not lost, not before `patience`.
    async fn next_expiry(&self, patience: Instant) {
        sleep_until(patience).await;
        let ends_ms = {
            let running = locked(&self.running);
            running.values().filter(|row| !row.lost).map(|row| row.expires_at_ms).min()
        };
        match ends_ms {
            Some(ends_ms) => wait_until(&self.clock, ends_ms).await,
            None => std::future::pending().await,
        }
    }

    /// An expired lease is lost even if nobody took it.
    fn lose_expired(&self) {
        let now_ms = self.clock.now_ms();
        let mut running = locked(&self.running);
        let expired = running.values_mut().filter(|row| !row.lost && row.expires_at_ms <= now_ms);
        expired.for_each(RunningRow::lose);
    }
}
