//! Stores with a known mistake around the simulated one.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Effects, found, overlapping, run, seconds};
use crate::cadence::Cadence;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::heartbeat::HealthReport;
use crate::job::JobContext;
use crate::lease::LeaseKey;
use crate::run::{InstanceId, RunId};
use crate::scheduler::Scheduler;
use crate::skew::ClockSkew;
use crate::store::{
    Begun, Changes, DeadLetter, DeadLetterStore, Disagreement, Ending, Firing, HeartbeatRollUp,
    HeartbeatStore, Holder, Instance, InstanceStore, ItemSettlement, JobSeed, LeaseStore,
    LetterFilter, Look, Renewal, RunStore, ScheduleControl, ScheduleStore, SchedulerStore,
    Standing, Topic, WakeStore,
};
use crate::testing::simulation::{SimulatedStore, Simulation};

#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    ForgetsMisses,
    GrantsWhatIsHeld,
    RunsASlotTwice,
    LetsARunStand,
}

struct Faulty(SimulatedStore, Mistake);

#[async_trait]
impl RunStore for Faulty {
    async fn begin(&self, firings: &[Firing]) -> Result<Vec<Begun>, StoreError> {
        let Self(store, mistake) = self;
        let mut firings = firings.to_vec();
        if *mistake == Mistake::ForgetsMisses {
            for firing in &mut firings {
                firing.missed = Default::default();
            }
        }
        let mut begun = store.begin(&firings).await?;
        let twice = match mistake {
            Mistake::GrantsWhatIsHeld => {
                begun.iter().position(|begun| matches!(begun, Begun::Busy(_)))
            }
            Mistake::RunsASlotTwice => begun.iter().position(|begun| *begun == Begun::Lost),
            Mistake::ForgetsMisses | Mistake::LetsARunStand => None,
        };
        if let Some(position) = twice
            && let Some(run) = firings[position].run
        {
            let firing = Firing {
                lease_name: format!("{}~", firings[position].lease_name),
                run: Some(crate::store::NewRun {
                    id: RunId::new(),
                    attempt: run.attempt + 7,
                    ..run
                }),
                advance: None,
                missed: Default::default(),
                interrupted: None,
                ..firings[position].clone()
            };
            begun.splice(position..=position, store.begin(&[firing]).await?);
        }
        Ok(begun)
    }

    async fn finish(&self, ending: &Ending) -> Result<bool, StoreError> {
        match self.1 {
            Mistake::LetsARunStand => Ok(true),
            _ => self.0.finish(ending).await,
        }
    }
}

#[track_caller]
fn check(mistake: Mistake, hosts: usize, expected: &str) {
    let host = move |store: SimulatedStore, effects: Effects| async move {
        let mut scheduler = Scheduler::new(Faulty(store.clone(), mistake));
        for definition in overlapping() {
            let (store, effects) = (store.clone(), Arc::clone(&effects));
            scheduler.register(definition, move |context: JobContext| {
                run(context, store.clone(), Arc::clone(&effects))
            })?;
        }
        Ok(scheduler)
    };
    let simulation = Simulation::new(Effects::default, host).hosts(hosts).lasting(seconds(20));
    let broken = found(&simulation, 0..50);
    assert!(broken.contains(expected), "{broken}");
}

#[test]
fn a_store_that_forgets_misses_is_found() {
    check(Mistake::ForgetsMisses, 1, "neither runs, nor waits, nor is recorded");
}

#[test]
fn a_store_that_grants_a_held_lease_is_found() {
    check(Mistake::GrantsWhatIsHeld, 3, "begins beside");
}

#[test]
fn a_store_that_lets_every_host_run_a_slot_is_found() {
    check(Mistake::RunsASlotTwice, 3, "its slot runs already");
}

#[test]
fn a_store_that_loses_an_end_is_found() {
    check(Mistake::LetsARunStand, 3, "left running by a process that has stopped");
}

impl SchedulerStore for Faulty {
    fn clock(&self) -> &Arc<dyn Clock> {
        self.0.clock()
    }
}

impl WakeStore for Faulty {
    fn changes(&self, topic: &Topic) -> Changes {
        self.0.changes(topic)
    }

    fn wake(&self, topic: &Topic) {
        self.0.wake(topic);
    }
}

#[async_trait]
impl ScheduleStore for Faulty {
    async fn register_jobs(&self, jobs: &[JobSeed]) -> Result<(), StoreError> {
        self.0.register_jobs(jobs).await
    }

    async fn look(&self, jobs: &[String]) -> Result<Look, StoreError> {
        self.0.look(jobs).await
    }
}

#[async_trait]
impl ScheduleControl for Faulty {
    async fn set_paused(&self, job: &str, paused: bool) -> Result<bool, StoreError> {
        self.0.set_paused(job, paused).await
    }

    async fn set_cadence(&self, job: &str, cadence: Option<&Cadence>) -> Result<bool, StoreError> {
        self.0.set_cadence(job, cadence).await
    }

    async fn request_run(&self, job: &str) -> Result<Option<RunId>, StoreError> {
        self.0.request_run(job).await
    }
}

#[async_trait]
impl LeaseStore for Faulty {
    async fn renew(&self, key: &LeaseKey, length_ms: i64) -> Result<Renewal, StoreError> {
        self.0.renew(key, length_ms).await
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError> {
        self.0.holder(name).await
    }
}

#[async_trait]
impl InstanceStore for Faulty {
    async fn announce(&self, instance: &Instance) -> Result<(), StoreError> {
        self.0.announce(instance).await
    }

    async fn disagreements(&self) -> Result<Vec<Disagreement>, StoreError> {
        self.0.disagreements().await
    }

    async fn seen(&self, id: InstanceId, stopping: bool) -> Result<bool, StoreError> {
        self.0.seen(id, stopping).await
    }

    async fn prune(&self, at_most: u32) -> Result<u64, StoreError> {
        self.0.prune(at_most).await
    }

    async fn measure_skew(&self) -> Result<ClockSkew, StoreError> {
        self.0.measure_skew().await
    }
}

#[async_trait]
impl HeartbeatStore for Faulty {
    async fn health(&self) -> Result<HealthReport, StoreError> {
        self.0.health().await
    }

    async fn roll_up(&self, rows: &[HeartbeatRollUp]) -> Result<(), StoreError> {
        self.0.roll_up(rows).await
    }
}

#[async_trait]
impl DeadLetterStore for Faulty {
    async fn standings(&self, job: &str) -> Result<Vec<Standing>, StoreError> {
        self.0.standings(job).await
    }

    async fn settle_items(&self, settlement: &ItemSettlement) -> Result<bool, StoreError> {
        self.0.settle_items(settlement).await
    }

    async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.0.dead_letters(filter).await
    }

    async fn retry_letter(&self, id: i64) -> Result<bool, StoreError> {
        self.0.retry_letter(id).await
    }

    async fn discard_letter(&self, id: i64) -> Result<bool, StoreError> {
        self.0.discard_letter(id).await
    }
}
