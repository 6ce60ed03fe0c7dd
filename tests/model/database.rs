//! What is committed: one schedule row, one lease row, the runs; and the conditions under which
//! statements change them.
//!
//! The originals stand in `scheduler-core/src/store/sea_orm/{schedules,leases,runs}.rs` under the
//! names given here, and in `Driver::decide`.

use std::time::Duration;

use scheduler_core::{Cadence, Misfire, Trigger};

use crate::plan::{Due, Missed, Policies, plan};

/// A host, by its place; a process that is gone has none.
pub(crate) type HostId = Option<u8>;

/// Ticks between slots. The grid begins at 0.
pub(crate) const INTERVAL: i64 = 2;
/// Ticks that a lease lives without a renewal.
pub(crate) const LEASE: i64 = 2;
/// Reruns of a slot that was cut off: `OnInterrupt::Rerun { max: 1 }`.
const RERUNS: i64 = 1;

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
    /// `begin` without the row of the run: nobody finds out what a crash cut off.
    BeginWritesNoRun,
    /// `Driver::close` lets a slot run again only if the lease is free by then, instead of letting
    /// it wait: what this model found in the code.
    RerunNeedsAFreeLease,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    pub(crate) schedule: Schedule,
    pub(crate) lease: Lease,
    pub(crate) runs: Vec<Run>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Schedule {
    pub(crate) next_due: i64,
    pub(crate) last_fired: Option<i64>,
    pub(crate) buffered: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) holder: HostId,
    pub(crate) token: i64,
    pub(crate) expires: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Status {
    Running,
    Succeeded,
    Failed,
    Cancelled,
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
}

/// What a host wants to begin, and what it has seen: `store::Firing`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Firing {
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
    seen_buffered: Option<i64>,
    next_due: i64,
    fired: Option<i64>,
    buffered: Option<i64>,
}

impl Database {
    /// A job whose first slot is due at 0.
    pub(crate) fn new() -> Self {
        Self {
            schedule: Schedule { next_due: 0, last_fired: None, buffered: None },
            lease: Lease { holder: None, token: 0, expires: 0 },
            runs: Vec::new(),
        }
    }

    /// LOOK, INTERRUPTED, and what `Driver::decide` makes of them for a job of scope Cluster.
    pub(crate) fn look(&self, now: i64, flaw: Option<Flaw>) -> Vec<Firing> {
        let nothing = Firing { interrupted: None, run: None, missed: None, advance: None };
        let mut firings = Vec::new();
        let leased = self.lease.expires > now;
        let mut taken = false;
        for index in self.interrupted(now) {
            let Run { slot, attempt, .. } = self.runs[index];
            let only_if_free = flaw == Some(Flaw::RerunNeedsAFreeLease);
            let reruns = attempt <= RERUNS && !(only_if_free && (taken || leased));
            let run = reruns.then_some(NewRun { slot, attempt: attempt + 1, waits: true });
            taken |= reruns;
            firings.push(Firing { interrupted: Some(index), run, ..nothing.clone() });
        }
        let Schedule { next_due, last_fired, buffered } = self.schedule;
        let seen = Advance {
            seen_due: next_due,
            seen_buffered: buffered,
            next_due,
            fired: None,
            buffered: None,
        };
        if taken {
            return firings;
        }
        if let (Some(slot), false) = (buffered, leased) {
            let attempt = self.attempts(slot) + 1;
            let run = Some(NewRun { slot, attempt, waits: true });
            firings.push(Firing { run, advance: Some(seen), ..nothing });
            return firings;
        }
        let due = Due { anchor_ms: 0, next_due_at_ms: next_due, last_fired_for_ms: last_fired };
        let cadence = Cadence::every(Duration::from_millis(INTERVAL.unsigned_abs()));
        let policies = Policies { misfire: Misfire::FireOnce, lateness_limit: None, jitter: None };
        if let Some(fire) = plan(due, &cadence, policies, now) {
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
                    buffered,
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
        let Lease { holder, token, expires } = self.lease;
        holder.is_some() && holder == run.holder && token == run.token && expires > now
    }

    fn attempts(&self, slot: i64) -> i64 {
        self.runs.iter().filter(|run| run.slot == slot).map(|run| run.attempt).max().unwrap_or(0)
    }

    /// ADVANCE's WHERE.
    pub(crate) fn is_as_seen(&self, advance: &Advance, flaw: Option<Flaw>) -> bool {
        (self.schedule.next_due == advance.seen_due || flaw == Some(Flaw::BeginForgetsSeenDue))
            && self.schedule.buffered == advance.seen_buffered
    }

    /// CLOSE_INTERRUPTED's WHERE.
    pub(crate) fn can_close(&self, index: usize, now: i64, flaw: Option<Flaw>) -> bool {
        let run = &self.runs[index];
        (run.status == Status::Running || flaw == Some(Flaw::CloseForgetsStatus))
            && !self.is_granted(run, now)
    }

    /// ADVANCE's SET.
    pub(crate) fn advance(&mut self, advance: &Advance) {
        self.schedule = Schedule {
            next_due: advance.next_due,
            last_fired: advance.fired.or(self.schedule.last_fired),
            buffered: advance.buffered,
        };
    }

    /// GRANT: the new token, if the lease is free.
    pub(crate) fn grant(&mut self, host: u8, now: i64, flaw: Option<Flaw>) -> Option<i64> {
        let free = self.lease.expires <= now || flaw == Some(Flaw::GrantForgetsExpiry);
        free.then(|| {
            let token = self.lease.token + 1;
            self.lease = Lease { holder: Some(host), token, expires: now + LEASE };
            token
        })
    }

    /// INSERT_RUNNING: the place of the new row, unless the unique index has the slot already.
    pub(crate) fn insert(&mut self, run: &NewRun, host: u8, token: i64) -> Option<usize> {
        let NewRun { slot, attempt, .. } = *run;
        self.is_new(slot, attempt).then(|| {
            self.runs.push(Run {
                slot,
                attempt,
                status: Status::Running,
                until: slot,
                count: 1,
                holder: Some(host),
                token,
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
            }),
            _ => {}
        }
    }

    /// BUFFER: the newest slot waits.
    pub(crate) fn buffer(&mut self, slot: i64) {
        self.schedule.buffered = self.schedule.buffered.max(Some(slot));
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

    /// Whether every slot that the schedule has passed has its runs, or stands in one record of
    /// slots that did not run, whose count is right.
    pub(crate) fn accounts_for_every_slot(&self) -> bool {
        let did_not_run = |run: &&Run| matches!(run.status, Status::Missed | Status::Skipped);
        let counts = self.runs.iter().filter(did_not_run);
        let counted = counts.clone().all(|run| run.count == (run.until - run.slot) / INTERVAL + 1);
        let step = usize::try_from(INTERVAL).expect("a step");
        counted
            && (0..self.schedule.next_due).step_by(step).all(|slot| {
                let ran = self.runs.iter().any(|run| !did_not_run(&run) && run.slot == slot);
                let unrun =
                    counts.clone().filter(|run| (run.slot..=run.until).contains(&slot)).count();
                if ran { unrun == 0 } else { unrun == 1 }
            })
    }
}
