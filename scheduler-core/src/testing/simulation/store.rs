//! The store as one process of a simulated host has it: the shared memory, behind what goes wrong.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::faults::Fault;
use super::record::run_name;
use super::timeline::{Event, Name};
use super::world::World;
use crate::cadence::Cadence;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::heartbeat::HealthReport;
use crate::lease::{FenceError, Lease, LeaseKey};
use crate::run::{InstanceId, RunId, RunStatus};
use crate::skew::{ClockSample, ClockSkew};
use crate::store::wake::Hub;
use crate::store::{
    Begun, Changes, DeadLetter, DeadLetterStore, Disagreement, Ending, Firing, HeartbeatRollUp,
    HeartbeatStore, Holder, Instance, InstanceStore, ItemSettlement, JobSeed, LeaseStore,
    LetterFilter, Look, Renewal, RunStore, ScheduleControl, ScheduleRow, ScheduleStore,
    SchedulerStore, Standing, Topic, WakeStore,
};

/// The store of one process in a [`Simulation`](super::Simulation): the memory that all hosts share,
/// as it looks through what goes wrong. Cheap to clone; a wrapper around it is a store, too.
#[derive(Clone)]
pub struct SimulatedStore {
    pub(super) world: Arc<World>,
    pub(super) process: Name,
    /// Who waits for news in this process.
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Arc<dyn Clock>,
}

impl SimulatedStore {
    /// Does something while the lease is proven to be held, and nobody else can have it meanwhile:
    /// what [`Lease::fence`] is in a transaction of a SQL database. The simulation fails if such
    /// effects land under a lease that somebody else was granted since.
    ///
    /// # Errors
    /// The lease is lost and nothing was done; or the store gave no answer: as with a commit, what
    /// was to be done may have been done.
    pub async fn fenced(
        &self,
        lease: &Lease,
        effect: impl FnOnce() + Send,
    ) -> Result<(), FenceError> {
        let key = lease.key();
        let landed = self
            .call("make a fenced effect", async {
                let landed = self.world.memory.fenced(key, effect).await;
                self.world.record().effect(self.now(), key, landed);
                Ok(landed)
            })
            .await?;
        if landed {
            return Ok(());
        }
        lease.mark_lost();
        Err(FenceError::Lost { name: key.name.clone(), token: key.token })
    }

    fn now(&self) -> (i64, Name) {
        (self.world.time.now_ms(), self.process)
    }

    /// Makes a call of the store, unless something goes wrong before, and answers it, unless
    /// something goes wrong after.
    pub(super) async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fate = self.world.fate(self.process.host);
        self.wait(fate.wait_before_ms).await;
        if let Some((false, fault)) = fate.fault {
            self.suffer(what, false, fault).await?;
        }
        let answer = call.await;
        if let Some((true, fault)) = fate.fault {
            self.suffer(what, true, fault).await?;
        }
        self.wait(fate.wait_after_ms).await;
        answer
    }

    async fn wait(&self, span_ms: i64) {
        if span_ms > 0 {
            self.world.time.sleep(span_ms).await;
        }
    }

    async fn suffer(
        &self,
        call: &'static str,
        committed: bool,
        fault: Fault,
    ) -> Result<(), StoreError> {
        if fault == Fault::NoAnswer {
            self.world.note(self.process, Event::NoAnswer { call, committed });
            self.world.trouble(self.process.host);
            return Err(StoreError::NoAnswer { operation: call, waited: Duration::ZERO });
        }
        self.world.request(self.process.host, fault);
        // The process is dealt with as soon as all of it waits, and so does this.
        self.wait(1).await;
        Ok(())
    }

    /// What must be true of every begin: a slot that a schedule row moved past has begun, waits, or
    /// is recorded as one that does not run.
    async fn check_slots(&self, before: &[ScheduleRow]) {
        for before in before {
            let Some(after) = self.world.memory.schedule(&before.job).await else { continue };
            let text = before.cadence_override.as_ref().unwrap_or(&before.cadence);
            let Some(cadence) = self.world.cadence(text) else { continue };
            let mut passed: Vec<i64> = before.buffered_for_ms.into_iter().collect();
            let mut next = before.next_due_at_ms;
            while let Some(slot_ms) =
                next.filter(|at| after.next_due_at_ms.is_none_or(|to| *at < to))
            {
                passed.push(slot_ms);
                next = cadence.next_after(before.anchor_ms, slot_ms);
            }
            let waits = |slot_ms: &i64| {
                after.buffered_for_ms == Some(*slot_ms)
                    || after.waiting_slots.iter().any(|slot| slot.slot_ms == *slot_ms)
            };
            passed.extend(before.waiting_slots.iter().map(|slot| slot.slot_ms));
            passed.retain(|slot_ms| !waits(slot_ms));
            if let Some(slot_ms) = self.world.memory.untold_of(&before.job, &passed).await {
                let slot = super::timeline::clock(slot_ms);
                self.world.record().breaks(|| {
                    format!("{} of {slot}: neither runs, nor waits, nor is recorded", before.job)
                });
            }
        }
    }

    async fn record_begun(&self, firings: &[Firing], begun: &[Begun]) {
        for (firing, begun) in firings.iter().zip(begun) {
            if let Some(interrupted) = &firing.interrupted {
                let status = self.world.memory.status(interrupted.run_id).await;
                if status == Some(RunStatus::LeaseLost) {
                    self.world.record().closed(self.now(), interrupted.run_id);
                }
            }
            if *begun != Begun::Lost {
                for missed in firing.missed.iter() {
                    let (job, from_ms, until_ms) =
                        (firing.job.clone(), missed.from_ms, missed.until_ms);
                    let event = Event::Missed { job, from_ms, until_ms, count: missed.count };
                    self.world.note(self.process, event);
                }
            }
            let Some(run) = &firing.run else { continue };
            match begun {
                Begun::Started { key, expires_at_ms, .. } => {
                    self.world.record().began(self.now(), firing, run, (key, *expires_at_ms));
                }
                Begun::Busy(_) => {
                    let run = run_name(&firing.job, run);
                    self.world.note(self.process, Event::Overlapped { run });
                }
                Begun::Lost | Begun::Recorded => {}
            }
        }
    }
}

impl std::fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedStore").field("process", &self.process).finish_non_exhaustive()
    }
}

impl SchedulerStore for SimulatedStore {
    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

impl WakeStore for SimulatedStore {
    fn changes(&self, topic: &Topic) -> Changes {
        self.world.listen_for(topic);
        self.hub.changes(topic)
    }

    fn wake(&self, topic: &Topic) {
        self.world.memory.wake(topic);
    }
}

#[async_trait]
impl ScheduleStore for SimulatedStore {
    async fn register_jobs(&self, jobs: &[JobSeed]) -> Result<(), StoreError> {
        self.call("register the jobs", self.world.memory.register_jobs(jobs)).await
    }

    async fn look(&self, jobs: &[String]) -> Result<Look, StoreError> {
        self.call("look at the schedules", self.world.memory.look(jobs)).await
    }
}

#[async_trait]
impl ScheduleControl for SimulatedStore {
    async fn set_paused(&self, job: &str, paused: bool) -> Result<bool, StoreError> {
        self.call("pause a job", self.world.memory.set_paused(job, paused)).await
    }

    async fn set_cadence(&self, job: &str, cadence: Option<&Cadence>) -> Result<bool, StoreError> {
        self.call("give a job a cadence", self.world.memory.set_cadence(job, cadence)).await
    }

    async fn request_run(&self, job: &str) -> Result<Option<RunId>, StoreError> {
        self.call("ask for a run", self.world.memory.request_run(job)).await
    }
}

#[async_trait]
impl LeaseStore for SimulatedStore {
    async fn renew(&self, key: &LeaseKey, length_ms: i64) -> Result<Renewal, StoreError> {
        self.call("renew a lease", async {
            let renewal = self.world.memory.renew(key, length_ms).await?;
            if let Renewal::Kept { expires_at_ms, .. } = renewal {
                self.world.record().renewed(key, expires_at_ms);
            }
            Ok(renewal)
        })
        .await
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError> {
        self.call("read a lease", self.world.memory.holder(name)).await
    }
}

#[async_trait]
impl RunStore for SimulatedStore {
    async fn begin(&self, firings: &[Firing]) -> Result<Vec<Begun>, StoreError> {
        self.call("begin runs", async {
            let mut before = Vec::new();
            for firing in firings.iter().filter(|firing| firing.advance.is_some()) {
                before.extend(self.world.memory.schedule(&firing.job).await);
            }
            let begun = self.world.memory.begin(firings).await?;
            self.record_begun(firings, &begun).await;
            self.check_slots(&before).await;
            Ok(begun)
        })
        .await
    }

    async fn finish(&self, ending: &Ending) -> Result<bool, StoreError> {
        self.call("record the end of a run", async {
            let landed = self.world.memory.finish(ending).await?;
            let run = &ending.run;
            let ended = (run.run_id, run.job.as_str(), run.scheduled_for_ms);
            let how = (&ending.key, run.status);
            self.world.record().ended(self.now(), ended, how, landed);
            Ok(landed)
        })
        .await
    }
}

#[async_trait]
impl InstanceStore for SimulatedStore {
    async fn announce(&self, instance: &Instance) -> Result<(), StoreError> {
        self.call("announce a process", self.world.memory.announce(instance)).await
    }

    async fn disagreements(&self) -> Result<Vec<Disagreement>, StoreError> {
        self.call("compare the definitions", self.world.memory.disagreements()).await
    }

    async fn seen(&self, id: InstanceId, stopping: bool) -> Result<bool, StoreError> {
        self.call("say that a process is alive", self.world.memory.seen(id, stopping)).await
    }

    async fn prune(&self, at_most: u32) -> Result<u64, StoreError> {
        self.call("prune", self.world.memory.prune(at_most)).await
    }

    async fn measure_skew(&self) -> Result<ClockSkew, StoreError> {
        self.call("measure the skew", async {
            let (host_ms, database_ms) = (self.clock.now_ms(), self.world.time.now_ms());
            let sample = ClockSample { before_ms: host_ms, database_ms, after_ms: host_ms };
            Ok(ClockSkew::measured(&[sample]).unwrap_or_default())
        })
        .await
    }
}

#[async_trait]
impl HeartbeatStore for SimulatedStore {
    async fn health(&self) -> Result<HealthReport, StoreError> {
        self.call("read the health", self.world.memory.health()).await
    }

    async fn roll_up(&self, rows: &[HeartbeatRollUp]) -> Result<(), StoreError> {
        self.call("roll heartbeats up", self.world.memory.roll_up(rows)).await
    }
}

#[async_trait]
impl DeadLetterStore for SimulatedStore {
    async fn standings(&self, job: &str) -> Result<Vec<Standing>, StoreError> {
        self.call("read how items stand", self.world.memory.standings(job)).await
    }

    async fn settle_items(&self, settlement: &ItemSettlement) -> Result<bool, StoreError> {
        self.call("settle items", self.world.memory.settle_items(settlement)).await
    }

    async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.call("list dead letters", self.world.memory.dead_letters(filter)).await
    }

    async fn retry_letter(&self, id: i64) -> Result<bool, StoreError> {
        self.call("retry a dead letter", self.world.memory.retry_letter(id)).await
    }

    async fn discard_letter(&self, id: i64) -> Result<bool, StoreError> {
        self.call("discard a dead letter", self.world.memory.discard_letter(id)).await
    }
}
