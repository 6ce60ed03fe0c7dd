//! The one task that talks to the database for a consumer: it records ends and claims, both in one
//! transaction where both are to be done, and asks nothing while nothing can be due.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::super::handler::Handler;
use super::super::outcome::refused;
use super::super::prefetch::depth;
use super::handling::End;
use super::{Engine, Host, RETRY, add, locked};
use crate::clock::millis;
use crate::error::StoreError;
use crate::executor::chain;
use crate::signal;
use crate::skew::ClockSkew;
use crate::stop::{Phase, reached, wait_for, wait_until_or_set_back};
use crate::store::{
    Ahead, Changes, ClaimRequest, Claimed, Exchange, RowGrant, RowStatus, SettledRow, gives_back,
};

/// Rows that one finish statement takes at most.
const FINISH_BATCH: usize = 500;

/// Who asks for a claim; told whether nothing is claimable: nothing ran here and nothing was found.
pub(super) type Pass = oneshot::Sender<Result<bool, StoreError>>;

/// What the task hears.
pub(super) struct Inbox {
    pub(super) changes: Changes,
    pub(super) finished: mpsc::UnboundedReceiver<End>,
    pub(super) passes: mpsc::UnboundedReceiver<Pass>,
}

/// What came of a question to the database.
enum Answer {
    Exchanged(Exchanges),
    /// When something can be due next, as milliseconds from now.
    Looked(Option<i64>),
}

/// A claim that is under way, or is over.
struct Exchanges {
    limit: u32,
    alone: bool,
    /// The wakes that there had been when it began.
    wakes: u64,
    /// Less was found than was asked for; `None` where nothing was asked for, or nothing answered.
    fell_short: Option<bool>,
    /// A row is queued again.
    queued_again: bool,
    /// One of them at once: whoever claims next finds it.
    gave_back: bool,
    /// Nothing was found because the queue is paused.
    is_paused: bool,
}

/// What the task knows of what there is to claim.
struct Appetite {
    /// There may be more.
    hungry: bool,
    wakes: u64,
    /// Exchanges under way, and the rows that they may bring.
    under_way: usize,
    reserved: u32,
    /// One of them may bring a row that is to run alone.
    alone: bool,
    look: Look,
}

/// When to look again although nobody says so.
#[derive(Clone, Copy)]
enum Look {
    Unknown,
    Asked,
    At { at_ms: i64, is_due: bool },
}

impl Appetite {
    fn wake(&mut self) {
        self.hungry = true;
        self.wakes += 1;
        self.look = Look::Unknown;
    }

    fn take(&mut self, done: &Exchanges) {
        self.under_way -= 1;
        self.reserved -= done.limit;
        self.alone &= !done.alone;
        match done.fell_short {
            Some(true) if done.wakes == self.wakes => self.hungry = false,
            Some(_) => self.hungry = true,
            None => {}
        }
        self.hungry |= done.gave_back;
        if done.queued_again {
            self.look = Look::Unknown;
        }
    }
}

impl<H: Handler> Engine<H> {
    /// Works until the process stops and no row is held any more.
    pub(super) async fn pump(self: Arc<Self>, mut host: Host, mut inbox: Inbox) {
        let ahead = self.rows.ahead();
        let mut appetite = Appetite {
            hungry: true,
            wakes: 0,
            under_way: 0,
            reserved: 0,
            alone: false,
            look: Look::Unknown,
        };
        let (mut ends, mut passes) = (Vec::new(), Vec::<Pass>::new());
        let mut answers = FuturesUnordered::<BoxFuture<'static, Answer>>::new();
        loop {
            while ends.len() < FINISH_BATCH
                && let Ok(end) = inbox.finished.try_recv()
            {
                ends.extend(self.unrecorded(end, &mut appetite));
            }
            while let Ok(pass) = inbox.passes.try_recv() {
                passes.push(pass);
            }
            let stopping = host.phase.get() != Phase::Running;
            let claims = !stopping && host.skew.get().is_tolerable();
            if !claims {
                // Nor is what was claimed before to begin.
                ends.extend(self.release_waiting());
                for pass in passes.drain(..) {
                    let _ = pass.send(Ok(locked(&self.held).len() == 0));
                }
            }
            if appetite.under_way < ahead.exchanges {
                let claim = claims
                    .then(|| {
                        self.next_claim(&host, &mut appetite, ahead, &ends, !passes.is_empty())
                    })
                    .flatten();
                let is_wanted = claim.is_some() || !ends.is_empty();
                // Beside another one, an exchange of a few rows would cost what a large one costs.
                let rows = ends.len() + claim.map_or(0, |(claim, _)| claim.limit as usize);
                let is_worth_it = appetite.under_way == 0
                    || stopping
                    || !passes.is_empty()
                    || rows >= self.worth_another(ahead);
                if is_wanted && is_worth_it {
                    let under_way = Exchanges {
                        limit: claim.map_or(0, |(claim, _)| claim.limit),
                        alone: claim.is_some_and(|(claim, _)| claim.idle),
                        wakes: appetite.wakes,
                        fell_short: None,
                        queued_again: false,
                        gave_back: false,
                        is_paused: false,
                    };
                    appetite.under_way += 1;
                    appetite.reserved += under_way.limit;
                    appetite.alone |= under_way.alone;
                    let ends = std::mem::take(&mut ends);
                    // Who asks for a claim waits for the next one, if there is none in this exchange.
                    let passes =
                        if claim.is_some() { std::mem::take(&mut passes) } else { Vec::new() };
                    let exchange =
                        Arc::clone(&self).exchange(host.clone(), ends, claim, passes, under_way);
                    answers.push(exchange.map(Answer::Exchanged).boxed());
                    continue;
                }
            }
            if stopping && answers.is_empty() && locked(&self.held).len() == 0 {
                break;
            }
            if claims
                && !appetite.hungry
                && appetite.under_way == 0
                && matches!(appetite.look, Look::Unknown)
            {
                appetite.look = Look::Asked;
                answers.push(Arc::clone(&self).look(host.clone()).map(Answer::Looked).boxed());
            }
            let (look_at_ms, is_due) = match appetite.look {
                Look::At { at_ms, is_due } => (Some(at_ms), is_due),
                Look::Unknown | Look::Asked => (None, false),
            };
            let look_at = async {
                match look_at_ms {
                    Some(at_ms) => wait_until_or_set_back(&self.clock, at_ms).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(answer) = answers.next(), if !answers.is_empty() => match answer {
                    Answer::Exchanged(done) => {
                        if done.is_paused {
                            ends.extend(self.release_waiting());
                        }
                        appetite.take(&done);
                    }
                    Answer::Looked(in_ms) if matches!(appetite.look, Look::Asked) => {
                        appetite.look = self.look_at(in_ms);
                    }
                    // There was news meanwhile.
                    Answer::Looked(_) => {}
                },
                row = inbox.finished.recv(), if appetite.under_way < ahead.exchanges => {
                    ends.extend(row.and_then(|end| self.unrecorded(end, &mut appetite)));
                }
                pass = inbox.passes.recv() => passes.extend(pass),
                () = inbox.changes.changed(), if !stopping => appetite.wake(),
                () = clock_is_back(&mut host.skew), if !stopping => appetite.wake(),
                () = look_at, if !stopping => {
                    appetite.hungry |= is_due;
                    appetite.look = Look::Unknown;
                }
                () = reached(&mut host.phase, Phase::Draining), if !stopping => {}
            }
        }
        host.done.cancel();
    }

    /// What is still to be written of an end. Where the handler has done that, others may run now.
    fn unrecorded(&self, end: End, appetite: &mut Appetite) -> Option<SettledRow> {
        let End { row, is_recorded } = end;
        if !is_recorded {
            return Some(row);
        }
        self.record(std::slice::from_ref(&row), std::slice::from_ref(&row.grant));
        if !self.rows.ahead().claims {
            // What waited for its slot may run elsewhere, or here.
            self.waker.wake();
        } else if locked(&self.held).active() == 0 {
            appetite.wake();
        }
        None
    }

    /// What is to be claimed now, if anything, and whether it is more than there are places for.
    fn next_claim(
        &self,
        host: &Host,
        appetite: &mut Appetite,
        ahead: Ahead,
        ends: &[SettledRow],
        asked: bool,
    ) -> Option<(ClaimRequest, bool)> {
        let held = locked(&self.held);
        let (active, waiting) = (held.active(), held.waiting());
        let idle = active == 0 && appetite.reserved == 0;
        // What ended may have kept a row from running: a suspect, which runs alone, or one that had to
        // wait for a slot.
        if !ends.is_empty() && (idle || !ahead.claims) {
            appetite.hungry = true;
        }
        if appetite.alone || !(asked || appetite.hungry) {
            return None;
        }
        let (concurrency, depth) = (self.options.concurrency, self.depth(ahead));
        let taken = u32::try_from(active).unwrap_or(u32::MAX).saturating_add(appetite.reserved);
        let places = concurrency.saturating_sub(taken);
        let room = concurrency.saturating_add(depth).saturating_sub(taken);
        let limit = if held.runs_alone() { 0 } else { room };
        // On its own, a claim is made for half of what may wait; with ends, for whatever there is.
        let is_worth_it = !ends.is_empty() || 2 * waiting <= depth as usize;
        if !asked && (limit == 0 || !is_worth_it) {
            return None;
        }
        let lease_ms = millis(self.options.lease);
        Some((ClaimRequest { holder: host.instance_id, limit, lease_ms, idle }, limit > places))
    }

    /// How many rows are claimed before there is a place for them.
    fn depth(&self, ahead: Ahead) -> u32 {
        let (concurrency, prefetch) = (self.options.concurrency, self.options.prefetch);
        if ahead.claims { depth(concurrency, prefetch, *locked(&self.mean)) } else { 0 }
    }

    /// The rows, ended or to be claimed, that are worth an exchange beside another: a quarter of those
    /// that may be held.
    fn worth_another(&self, ahead: Ahead) -> usize {
        (self.options.concurrency.saturating_add(self.depth(ahead)) / 4).max(1) as usize
    }

    async fn exchange(
        self: Arc<Self>,
        host: Host,
        ends: Vec<SettledRow>,
        claim: Option<(ClaimRequest, bool)>,
        passes: Vec<Pass>,
        mut under_way: Exchanges,
    ) -> Exchanges {
        under_way.queued_again = ends.iter().any(|row| row.status == RowStatus::Queued);
        under_way.gave_back = gives_back(&ends);
        let others = locked(&self.held).len().saturating_sub(ends.len());
        let ahead = claim.is_some_and(|(_, ahead)| ahead);
        let claim = claim.map(|(claim, _)| claim);
        let expires_at_ms = self.clock.now_ms().saturating_add(millis(self.options.lease));
        let exchange = Exchange { ends: &ends, claim, ahead };
        let claimed = match self.rows.exchange(&exchange).await {
            Ok(exchanged) => {
                self.record(&ends, &exchanged.settled);
                exchanged.claimed
            }
            Err(error) => {
                if !ends.is_empty() {
                    self.warn("the ends of rows are not recorded yet", &error);
                    self.finish(ends).await;
                }
                Err(error)
            }
        };
        let found = match claimed {
            Ok(claimed) => {
                let asked = claim.map(|claim| claim.limit as usize).filter(|limit| *limit > 0);
                under_way.fell_short = asked.map(|limit| claimed.rows.len() < limit);
                let waits = locked(&self.held).waiting() > 0;
                if waits && asked.is_some() && claimed.rows.is_empty() {
                    // Unknown, it is asked for again with the next claim.
                    under_way.is_paused = self.rows.is_paused().await.unwrap_or(false);
                }
                Ok(self.take_in(&host, claimed, expires_at_ms, ahead))
            }
            Err(error) => Err(error),
        };
        if passes.is_empty()
            && claim.is_some()
            && let Err(error) = &found
        {
            self.warn("a queue could not be claimed from", error);
            wait_for(&self.clock, RETRY).await;
        }
        for pass in passes {
            let drained = found.clone().map(|found| others == 0 && found == 0);
            // Who was dropped meanwhile does not hear it.
            let _ = pass.send(drained);
        }
        under_way
    }

    fn take_in(
        self: &Arc<Self>,
        host: &Host,
        claimed: Claimed,
        expires_at_ms: i64,
        ahead: bool,
    ) -> usize {
        let found = claimed.rows.len();
        add(&self.counts.claimed, found as u64);
        add(&self.counts.reclaimed, claimed.reclaimed);
        add(&self.counts.quarantined, claimed.quarantined);
        self.teller.tell_claimed(&claimed);
        {
            let mut held = locked(&self.held);
            for row in claimed.rows {
                held.add(row, expires_at_ms, !ahead);
            }
        }
        self.fill_places(host);
        found
    }

    /// Writes ends that could not be written at once, for as long as their leases can live. Where the
    /// database refuses them, each is written alone: one that it cannot store is that of one row.
    async fn finish(&self, mut ends: Vec<SettledRow>) {
        let give_up_ms = self.clock.now_ms().saturating_add(millis(self.options.lease));
        let mut is_alone = false;
        wait_for(&self.clock, RETRY).await;
        while !ends.is_empty() {
            let count = if is_alone { 1 } else { ends.len() };
            let error = match self.rows.settle(&ends[..count]).await {
                Ok(settled) => {
                    self.record(&ends[..count], &settled);
                    ends.drain(..count);
                    continue;
                }
                Err(error) => error,
            };
            if !error.is_transient() {
                if !is_alone && ends.len() > 1 {
                    is_alone = true;
                    continue;
                }
                if self.give_up_row(&ends[0], &error).await {
                    ends.remove(0);
                    continue;
                }
                // Nothing can be written of it now; perhaps of others.
                ends.rotate_left(1);
            }
            if self.clock.now_ms() >= give_up_ms {
                tracing::error!(
                    queue = self.options.name,
                    error = chain(&error),
                    "the ends of rows were not recorded; they will run again"
                );
                return self.record(&ends, &[]);
            }
            self.warn("the ends of rows are not recorded yet", &error);
            wait_for(&self.clock, RETRY).await;
        }
    }

    /// Makes a row dead whose end the database refuses; answers whether it took that.
    async fn give_up_row(&self, end: &SettledRow, refusal: &StoreError) -> bool {
        let SettledRow { grant, .. } = end;
        for dead in refused(grant, &chain(refusal)) {
            if let Ok(settled) = self.rows.settle(std::slice::from_ref(&dead)).await {
                tracing::error!(
                    queue = self.options.name,
                    id = %grant.id,
                    error = chain(refusal),
                    "the end of a row was refused: the row is dead"
                );
                self.record(std::slice::from_ref(&dead), &settled);
                return true;
            }
        }
        false
    }

    fn record(&self, ends: &[SettledRow], settled: &[RowGrant]) {
        {
            let mut held = locked(&self.held);
            for row in ends {
                held.rows().remove(&row.grant);
            }
        }
        let all = settled.len() == ends.len();
        for row in ends {
            if all || settled.contains(&row.grant) {
                add(self.counter(row.status), 1);
            } else {
                add(&self.counts.lost, 1);
                tracing::error!(
                    queue = self.options.name,
                    id = %row.grant.id,
                    "a row's lease was lost: its end was not recorded"
                );
            }
        }
        self.teller.tell_ended(ends, |grant| all || settled.contains(grant));
        self.ended.notify_waiters();
    }

    fn warn(&self, what: &'static str, error: &StoreError) {
        tracing::warn!(queue = self.options.name, error = chain(error), "{what}");
    }

    async fn look(self: Arc<Self>, host: Host) -> Option<i64> {
        // The consumer's own cycle claims, and says what is wrong.
        self.rows.next_in_ms(host.instance_id).await.ok().flatten()
    }

    /// What another process claims after a look expires one lease length later at the earliest:
    /// looking again until then, nobody's orphan is found late.
    fn look_at(&self, in_ms: Option<i64>) -> Look {
        let again_ms = millis(self.options.lease);
        let next_ms = in_ms.map(|in_ms| in_ms.max(1)).filter(|in_ms| *in_ms <= again_ms);
        let at_ms = self.clock.now_ms().saturating_add(next_ms.unwrap_or(again_ms));
        Look::At { at_ms, is_due: next_ms.is_some() }
    }
}

/// What became claimable while this host's clock was off waits for nobody else to say so.
async fn clock_is_back(skew: &mut signal::Receiver<ClockSkew>) {
    // A one-shot run measures once, and waits for ever.
    while !skew.changed().await.is_tolerable() {}
}
