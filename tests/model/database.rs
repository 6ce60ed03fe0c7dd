//! What is committed: one schedule row, one lease row, the runs; and the conditions under which
//! statements change them.
//!
//! The originals stand in `scheduler-core/src/store/sea_orm/{schedules,leases,runs}.rs` under the
//! names given here, and in `Driver::decide` and `Wish::grant`.

use std::time::Duration;

use scheduler_core::{Cadence, Misfire, Trigger};

use crate::plan::{Due, Missed, Policies, given_up, plan};

/// A host, by its place; a process that is gone has none.
pub(crate) type HostId = Option<u8>;

/// Ticks between slots. The grid begins at 0.
pub(crate) const INTERVAL: i64 = 2;
/// Ticks that a lease lives without a renewal.
pub(crate) const LEASE: i64 = 2;
/// Reruns of a slot that was cut off: `OnInterrupt::Rerun { max: 1 }`.
const RERUNS: i64 = 1;

/// `scheduler_core::Overlap`, as a part of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Overlap {
    Skip,
    BufferOne,
    Replace,
}

/// One condition of the protocol that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// The fence is a SELECT: it locks nothing.
    FenceOnlyReads,
    /// FENCE without `expires_at_ms > now`.
    FenceForgetsExpiry,
    /// RENEW without `expires_at_ms > now`.
    RenewForgetsExpiry,
    /// RELEASE, the first statement of a finish, without `holder` and `token`.
    FinishForgetsToken,
    /// ADVANCE without `next_due_at_ms IS NOT DISTINCT FROM seen_due`.
    BeginForgetsSeenDue,
    /// CLOSE_INTERRUPTED without `status = 'running'`.
    CloseForgetsStatus,
    /// GRANT without `expires_at_ms <= now`.
    GrantForgetsExpiry,
    /// GRANT without `expires_at_ms > as_of_ms`: a lease is free that lived when the host looked.
    GrantForgetsTheLook,
    /// GRANT without `cancel_requested = FALSE`.
    GrantKeepsTheRequest,
    /// BUFFER without `buffered_for_ms < $1`.
    BufferForgetsTheNewer,
    /// `Driver::fire` lets an older slot go on waiting beside the newer one that it fires, which the
    /// end of the newer one forgets then: what this model found in the code.
    FireKeepsTheOlder,
    /// ADVANCE without `generation = seen_generation AND NOT paused`.
    BeginForgetsThePause,
    /// CHANGE of a job that is due without a miss.
    PauseForgetsWhatIsDue,
    /// CLOSE_INTERRUPTED of a run whose slot is to run again without the look at the pause: what this
    /// model found in the code.
    CloseForgetsThePause,
    /// `begin` without the row of the run: nobody finds out what a crash cut off.
    BeginWritesNoRun,
    /// `Driver::close` lets a slot run again only if the lease is free by then, instead of letting
    /// it wait: what this model found in the code. With `GrantForgetsTheLook`, since only a manual run
    /// gets between otherwise.
    RerunNeedsAFreeLease,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    /// What becomes of a slot while the lease is held: the definition's.
    overlap: Overlap,
    pub(crate) schedule: Schedule,
    pub(crate) lease: Lease,
    pub(crate) runs: Vec<Run>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Schedule {
    pub(crate) next_due: i64,
    pub(crate) last_fired: Option<i64>,
    pub(crate) buffered: Option<i64>,
    pub(crate) paused: bool,
    pub(crate) generation: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) holder: HostId,
    pub(crate) token: i64,
    pub(crate) expires: i64,
    pub(crate) cancel_requested: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Status {
    Running,
    Succeeded,
    Failed,
    /// By a stop.
    Cancelled,
    /// Cancelled, too: it was asked to give way.
    GaveWay,
    LeaseLost,
    Missed,
    Skipped,
}

/// A row of `job_runs`. `until` and `count` are those of slots that did not run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) slot: i64,
    pub(crate) attempt: i64,
    pub(crate) status: Status,
    pub(crate) until: i64,
    pub(crate) count: i64,
    pub(crate) holder: HostId,
    pub(crate) token: i64,
    /// It had waited, for its first attempt or for another.
    pub(crate) waited: bool,
    /// It was asked to give way. No column says so.
    pub(crate) was_asked: bool,
}

/// What a host wants to begin, and what it has seen: `store::Firing`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Firing {
    /// When the host looked.
    pub(crate) as_of: i64,
    /// The place of the run to close.
    pub(crate) interrupted: Option<usize>,
    pub(crate) run: Option<NewRun>,
    pub(crate) missed: Option<(i64, i64, i64)>,
    pub(crate) advance: Option<Advance>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NewRun {
    pub(crate) slot: i64,
    pub(crate) attempt: i64,
    /// `Trigger::Rerun` or `Trigger::Buffered`: denied its lease, it waits.
    pub(crate) waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Advance {
    seen_due: i64,
    seen_generation: i64,
    seen_buffered: Option<i64>,
    next_due: i64,
    fired: Option<i64>,
    buffered: Option<i64>,
}

impl Database {
    /// A job whose first slot is due at 0.
    pub(crate) fn new(overlap: Overlap) -> Self {
        Self {
            overlap,
            schedule: Schedule {
                next_due: 0,
                last_fired: None,
                buffered: None,
                paused: false,
                generation: 0,
            },
            lease: Lease { holder: None, token: 0, expires: 0, cancel_requested: false },
            runs: Vec::new(),
        }
    }

    /// LOOK, INTERRUPTED, and what `Driver::decide` makes of them for a job of scope Cluster.
    pub(crate) fn look(&self, now: i64, flaw: Option<Flaw>) -> Vec<Firing> {
        let nothing =
            Firing { as_of: now, interrupted: None, run: None, missed: None, advance: None };
        let Schedule { next_due, last_fired, buffered, paused, generation } = self.schedule;
        let mut firings = Vec::new();
        let leased = self.lease.expires > now;
        let mut taken = false;
        for index in self.interrupted(now) {
            let Run { slot, attempt, .. } = self.runs[index];
            let only_if_free = flaw == Some(Flaw::RerunNeedsAFreeLease);
            let reruns = attempt <= RERUNS && !paused && !(only_if_free && (taken || leased));
            let run = reruns.then_some(NewRun { slot, attempt: attempt + 1, waits: true });
            taken |= reruns;
            firings.push(Firing { interrupted: Some(index), run, ..nothing.clone() });
        }
        let seen = Advance {
            seen_due: next_due,
            seen_generation: generation,
            seen_buffered: buffered,
            next_due,
            fired: None,
            buffered: None,
        };
        if taken || paused {
            return firings;
        }
        if let (Some(slot), false) = (buffered, leased) {
            let attempt = self.attempts(slot) + 1;
            let run = Some(NewRun { slot, attempt, waits: true });
            firings.push(Firing { run, advance: Some(seen), ..nothing });
            return firings;
        }
        let due = Due { anchor_ms: 0, next_due_at_ms: next_due, last_fired_for_ms: last_fired };
        let policies = Policies { misfire: Misfire::FireOnce, lateness_limit: None, jitter: None };
        if let Some(fire) = plan(due, &cadence(), policies, now) {
            let slot = fire.fire.map(|(slot, trigger)| {
                assert!(matches!(trigger, Trigger::Start | Trigger::Schedule));
                slot
            });
            firings.push(Firing {
                run: slot.map(|slot| NewRun { slot, attempt: 1, waits: false }),
                missed: fire
                    .missed
                    .map(|Missed { from_ms, until_ms, count }| (from_ms, until_ms, count)),
                advance: Some(Advance {
                    next_due: fire.next_due_at_ms.expect("an interval has a next slot"),
                    fired: slot,
                    buffered: buffered.filter(|older| {
                        flaw == Some(Flaw::FireKeepsTheOlder) || !self.displaces(*older, slot)
                    }),
                    ..seen
                }),
                ..nothing
            });
        }
        firings
    }

    /// INTERRUPTED: rows that say `running` and whose grant does not live.
    fn interrupted(&self, now: i64) -> Vec<usize> {
        let mut found: Vec<usize> = (0..self.runs.len())
            .filter(|index| self.runs[*index].status == Status::Running)
            .filter(|index| !self.is_granted(&self.runs[*index], now))
            .collect();
        found.sort_by_key(|index| (self.runs[*index].slot, self.runs[*index].attempt));
        found
    }

    fn is_granted(&self, run: &Run, now: i64) -> bool {
        let Lease { holder, token, expires, .. } = self.lease;
        holder.is_some() && holder == run.holder && token == run.token && expires > now
    }

    fn attempts(&self, slot: i64) -> i64 {
        self.runs.iter().filter(|run| run.slot == slot).map(|run| run.attempt).max().unwrap_or(0)
    }

    /// ADVANCE's WHERE.
    pub(crate) fn is_as_seen(&self, advance: &Advance, flaw: Option<Flaw>) -> bool {
        let Schedule { next_due, buffered, paused, generation, .. } = self.schedule;
        (next_due == advance.seen_due || flaw == Some(Flaw::BeginForgetsSeenDue))
            && (generation == advance.seen_generation && !paused
                || flaw == Some(Flaw::BeginForgetsThePause))
            && buffered == advance.seen_buffered
    }

    /// CLOSE_INTERRUPTED's WHERE.
    pub(crate) fn can_close(
        &self,
        index: usize,
        reruns: bool,
        now: i64,
        flaw: Option<Flaw>,
    ) -> bool {
        let run = &self.runs[index];
        let paused = self.schedule.paused && flaw != Some(Flaw::CloseForgetsThePause);
        !(reruns && paused)
            && (run.status == Status::Running || flaw == Some(Flaw::CloseForgetsStatus))
            && !self.is_granted(run, now)
    }

    /// ADVANCE's SET.
    pub(crate) fn advance(&mut self, advance: &Advance) {
        self.schedule = Schedule {
            next_due: advance.next_due,
            last_fired: advance.fired.or(self.schedule.last_fired),
            buffered: advance.buffered,
            ..self.schedule
        };
    }

    /// CHANGE to a paused row, which misses what is due, or to one that goes on at the first slot after
    /// now. Answers the slots that went by in the pause.
    pub(crate) fn change(&mut self, paused: bool, now: i64, flaw: Option<Flaw>) -> Vec<i64> {
        let Schedule { next_due, last_fired, paused: was_paused, .. } = self.schedule;
        self.schedule.paused = paused;
        self.schedule.generation += 1;
        self.schedule.next_due = now - now.rem_euclid(INTERVAL) + INTERVAL;
        if was_paused {
            return slots(next_due..self.schedule.next_due).collect();
        }
        let due = Due { anchor_ms: 0, next_due_at_ms: next_due, last_fired_for_ms: last_fired };
        if let Some(Missed { from_ms, until_ms, count }) = given_up(due, &cadence(), now)
            && flaw != Some(Flaw::PauseForgetsWhatIsDue)
        {
            self.record_unrun(Status::Missed, (from_ms, until_ms, count));
        }
        Vec::new()
    }

    /// GRANT: the new token, if the lease is free and was when the host looked.
    pub(crate) fn grant(
        &mut self,
        host: u8,
        as_of: i64,
        now: i64,
        flaw: Option<Flaw>,
    ) -> Option<i64> {
        let Lease { token, expires, cancel_requested, .. } = self.lease;
        let free = match flaw {
            Some(Flaw::GrantForgetsExpiry) => true,
            Some(Flaw::GrantForgetsTheLook | Flaw::RerunNeedsAFreeLease) => expires <= now,
            _ => expires <= now && expires <= as_of,
        };
        free.then(|| {
            let cancel_requested = cancel_requested && flaw == Some(Flaw::GrantKeepsTheRequest);
            let (holder, expires) = (Some(host), now + LEASE);
            self.lease = Lease { holder, token: token + 1, expires, cancel_requested };
            token + 1
        })
    }

    /// Whether an older slot that waits is skipped once this one fires.
    fn displaces(&self, older: i64, slot: Option<i64>) -> bool {
        self.overlap != Overlap::Skip && slot.is_some_and(|slot| older < slot)
    }

    /// `settle`: what a firing comes to beside its run.
    pub(crate) fn settle(&mut self, firing: &Firing, flaw: Option<Flaw>) {
        if let Some(slots) = firing.missed {
            self.record_unrun(Status::Missed, slots);
        }
        let slot = firing.run.filter(|run| !run.waits).map(|run| run.slot);
        let waited = firing.advance.and_then(|advance| advance.seen_buffered);
        if let Some(older) = waited.filter(|older| self.displaces(*older, slot))
            && flaw != Some(Flaw::FireKeepsTheOlder)
        {
            self.record_unrun(Status::Skipped, (older, older, 1));
        }
    }

    /// `overlapped`: the lease is held. A slot that waits goes on waiting; another waits, too, or is
    /// skipped.
    pub(crate) fn overlapped(
        &mut self,
        firing: &Firing,
        run: &NewRun,
        now: i64,
        flaw: Option<Flaw>,
    ) {
        if !run.waits && self.overlap == Overlap::Skip {
            self.record_unrun(Status::Skipped, (run.slot, run.slot, 1));
            return;
        }
        let waited = firing.advance.and_then(|advance| advance.seen_buffered);
        if let Some(older) = waited.filter(|older| self.displaces(*older, Some(run.slot)))
            && flaw == Some(Flaw::FireKeepsTheOlder)
        {
            self.record_unrun(Status::Skipped, (older, older, 1));
        }
        self.buffer(run.slot, flaw);
        if !run.waits && self.overlap == Overlap::Replace {
            self.request_cancel(now);
        }
    }

    /// REQUEST_CANCEL.
    fn request_cancel(&mut self, now: i64) {
        if self.lease.expires > now {
            self.lease.cancel_requested = true;
            let token = self.lease.token;
            let asked = self.runs.iter_mut().filter(|run| run.token == token);
            asked.for_each(|run| run.was_asked = true);
        }
    }

    /// INSERT_RUNNING: the place of the new row, unless the unique index has the slot already.
    pub(crate) fn insert(&mut self, run: &NewRun, host: u8, token: i64) -> Option<usize> {
        let NewRun { slot, attempt, waits } = *run;
        self.is_new(slot, attempt).then(|| {
            self.runs.push(Run {
                slot,
                attempt,
                status: Status::Running,
                until: slot,
                count: 1,
                holder: Some(host),
                token,
                waited: waits,
                was_asked: false,
            });
            self.runs.len() - 1
        })
    }

    fn is_new(&self, slot: i64, attempt: i64) -> bool {
        !self.runs.iter().any(|run| run.slot == slot && run.attempt == attempt)
    }

    /// GROW_UNRUN, or INSERT_UNRUN.
    pub(crate) fn record_unrun(&mut self, status: Status, slots: (i64, i64, i64)) {
        let (from, until, count) = slots;
        let is_new = self.is_new(from, 1);
        let before = self.runs.iter_mut().filter(|run| run.slot < from);
        let newest = before.max_by_key(|run| (run.slot, run.attempt));
        match newest {
            Some(run) if run.status == status => {
                run.count += count;
                run.until = until;
            }
            _ if is_new => self.runs.push(Run {
                slot: from,
                attempt: 1,
                status,
                until,
                count,
                holder: None,
                token: 0,
                waited: false,
                was_asked: false,
            }),
            _ => {}
        }
    }

    /// BUFFER: the newest slot waits.
    pub(crate) fn buffer(&mut self, slot: i64, flaw: Option<Flaw>) {
        let newer = self.schedule.buffered.max(Some(slot));
        let forgets = flaw == Some(Flaw::BufferForgetsTheNewer);
        self.schedule.buffered = if forgets { Some(slot) } else { newer };
    }

    /// The WHERE of FENCE, RENEW and RELEASE.
    pub(crate) fn is_held(&self, host: u8, token: i64, now: i64) -> bool {
        self.lease.holder == Some(host) && self.lease.token == token && self.lease.expires > now
    }

    /// The same without `expires_at_ms > now`.
    pub(crate) fn is_held_or_expired(&self, host: u8, token: i64) -> bool {
        self.lease.holder == Some(host) && self.lease.token == token
    }

    /// RELEASE's SET. The token stays.
    pub(crate) fn release(&mut self) {
        self.lease.holder = None;
        self.lease.expires = 0;
    }

    /// Whether every slot that the schedule has passed has its runs, waits, or stands in one record of
    /// slots that did not run, whose count is right; but for those that went by during a pause.
    pub(crate) fn accounts_for_every_slot(&self, gone_by: &[i64]) -> bool {
        let did_not_run = |run: &&Run| matches!(run.status, Status::Missed | Status::Skipped);
        let records = || self.runs.iter().filter(did_not_run);
        let of = |run: &Run| slots(run.slot..run.until + 1).filter(|slot| !gone_by.contains(slot));
        let counted =
            records().all(|run| of(run).count() == usize::try_from(run.count).unwrap_or(0));
        counted
            && slots(0..self.schedule.next_due).all(|slot| {
                let ran = self.runs.iter().any(|run| !did_not_run(&run) && run.slot == slot);
                let waits = self.schedule.buffered == Some(slot);
                let unrun = records().filter(|run| of(run).any(|other| other == slot)).count();
                if ran || waits || gone_by.contains(&slot) { unrun == 0 } else { unrun == 1 }
            })
    }
}

fn cadence() -> Cadence {
    Cadence::every(Duration::from_millis(INTERVAL.unsigned_abs()))
}

/// The slots of the grid within this span, which begins at one of them.
fn slots(span: std::ops::Range<i64>) -> impl Iterator<Item = i64> {
    span.step_by(usize::try_from(INTERVAL).expect("a step"))
}
