//! The leases of the rows that are held here: renewed together, and lost when they end; and which of
//! them have begun, for the case that this process dies with them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::handler::Handler;
use super::super::outcome::CutOff;
use super::held::HeldRow;
use super::{Engine, Host, NO_NEWS, locked};
use crate::clock::millis;
use crate::executor::chain;
use crate::stop::{wait_until, wait_until_or_set_back};
use crate::store::{RowGrant, RowProgress};

/// A cancel request and a progress are seen and written after at most this long.
const LONGEST_TICK: Duration = Duration::from_secs(5);

/// A row that runs longer than this is told to the database to have begun.
const NOTED_AFTER: Duration = Duration::from_millis(20);

impl<H: Handler> Engine<H> {
    /// Renews the leases of what runs here, writes progress, and passes cancel requests on.
    pub(super) async fn keep_leases(self: Arc<Self>, host: Host) {
        let tick_ms = millis(self.tick());
        let mut at_ms = self.clock.now_ms().saturating_add(tick_ms);
        loop {
            tokio::select! {
                () = wait_until_or_set_back(&self.clock, at_ms) => {}
                () = host.done.cancelled() => return,
            }
            // From the time of asking: a slow answer must not delay the next renewal.
            at_ms = self.clock.now_ms().saturating_add(tick_ms);
            self.renew_all().await;
        }
    }

    /// Tells the database which rows have begun that were claimed before there was a place for them.
    /// Those that end soon are never told of: their process has survived them.
    pub(super) async fn note_begins(self: Arc<Self>, host: Host) {
        loop {
            tokio::select! {
                () = self.begun.notified() => {}
                () = host.done.cancelled() => return,
            }
            while locked(&self.held).has_unnoted() {
                // On no clock that tests move: it is about what the process does meanwhile.
                tokio::time::sleep(NOTED_AFTER).await;
                let begun = {
                    let held = locked(&self.held);
                    Instant::now().checked_sub(NOTED_AFTER).map(|before| held.unnoted(before))
                };
                let begun = begun.unwrap_or_default();
                if begun.is_empty() {
                    continue;
                }
                match self.rows.mark_started(&begun).await {
                    Ok(()) => locked(&self.held).note(&begun),
                    // They are tried again, and their leases say what is wrong.
                    Err(error) => {
                        tracing::debug!(error = chain(&error), "begins are not noted yet");
                    }
                }
            }
        }
    }

    fn tick(&self) -> Duration {
        (self.options.lease / 3).min(LONGEST_TICK)
    }

    async fn renew_all(&self) {
        let rows: Vec<RowProgress> = locked(&self.held)
            .rows()
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
        let renewed: HashMap<RowGrant, (bool, bool)> = renewed
            .into_iter()
            .map(|row| (row.grant, (row.is_renewed, row.cancel_requested)))
            .collect();
        let mut held = locked(&self.held);
        for asked in &rows {
            // A row that ended meanwhile is not lost.
            let Some(row) = held.rows().get_mut(&asked.grant) else { continue };
            match renewed.get(&asked.grant) {
                Some((is_renewed, cancel_requested)) => {
                    if *is_renewed {
                        row.expires_at_ms = asked_ms.saturating_add(millis(self.options.lease));
                    }
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
            let mut held = locked(&self.held);
            held.rows().values().filter(|row| !row.lost).map(|row| row.expires_at_ms).min()
        };
        match ends_ms {
            Some(ends_ms) => wait_until(&self.clock, ends_ms).await,
            None => std::future::pending().await,
        }
    }

    /// An expired lease is lost even if nobody took it.
    fn lose_expired(&self) {
        let now_ms = self.clock.now_ms();
        let mut held = locked(&self.held);
        let expired =
            held.rows().values_mut().filter(|row| !row.lost && row.expires_at_ms <= now_ms);
        expired.for_each(HeldRow::lose);
    }
}
