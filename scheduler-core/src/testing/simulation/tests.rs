//! Jobs with every policy on simulated hosts, and mistakes that the simulation has to find.

mod faulty_store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate as scheduler_core;
use scheduler_core::testing::simulation::{Faults, SimulatedStore, Simulation};
use scheduler_core::{
    Cadence, JobContext, JobDefinition, JobError, JobResult, Misfire, OnInterrupt, Overlap,
    RunSummary, Scheduler, Scope,
};

/// 2026-11-23 12:00:00 UTC.
const NOON: i64 = 1_795_435_200_000;
/// 2026-03-29 00:59:52 UTC: eight seconds before two o'clock in Berlin becomes three.
const SPRING: i64 = 1_774_745_992_000;
/// 2026-10-25 00:59:52 UTC: eight seconds before three o'clock in Berlin becomes two.
const AUTUMN: i64 = 1_792_889_992_000;

/// What the jobs did to the world outside: by job, the slot and the token of each effect.
type Effects = Arc<Mutex<BTreeMap<String, Vec<(i64, i64)>>>>;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn every(name: &str, interval: u64) -> JobDefinition {
    JobDefinition {
        lease: seconds(4),
        ..JobDefinition::new(name, Cadence::every(seconds(interval)))
    }
}

/// Slots that wait, replace, are skipped, run beside each other.
fn overlapping() -> Vec<JobDefinition> {
    vec![
        every("plain", 6),
        JobDefinition { overlap: Overlap::BufferOne, ..every("buffers", 7) },
        JobDefinition { overlap: Overlap::Replace, ..every("replaces", 9) },
        JobDefinition { overlap: Overlap::Allow, overlap_limit: 2, ..every("beside", 5) },
    ]
}

/// Slots that are missed, given up, delayed, caught up.
fn late() -> Vec<JobDefinition> {
    let berlin = Cadence::cron("*/10 * * * * *", "Europe/Berlin").expect("a cadence");
    vec![
        JobDefinition {
            misfire: Misfire::Skip,
            on_interrupt: OnInterrupt::Leave,
            lateness_limit: Some(seconds(8)),
            ..every("skips", 6)
        },
        JobDefinition {
            jitter: Some(seconds(3)),
            lease: seconds(4),
            on_interrupt: OnInterrupt::Rerun { max: 2 },
            ..JobDefinition::new("on_the_wall", berlin)
        },
        JobDefinition { timeout: Some(seconds(2)), ..every("bounded", 10) },
        JobDefinition { scope: Scope::Instance, ..every("own", 15) },
        JobDefinition { misfire: Misfire::FireAll { at_most: 2 }, ..every("catches_up", 5) },
    ]
}

/// Works for a while, mostly until it is told to end.
async fn work(context: &JobContext) -> Result<(), JobError> {
    let clock = context.clock();
    let ends_ms = clock.now_ms() + fastrand::i64(-5_000..8_000);
    let done = async {
        while clock.now_ms() < ends_ms {
            clock.sleep_until(ends_ms).await;
        }
    };
    if fastrand::u8(..10) == 0 {
        done.await;
        return Ok(());
    }
    tokio::select! {
        biased;
        () = context.cancelled() => Err("told to end".into()),
        () = done => Ok(()),
    }
}

async fn run(context: JobContext, store: SimulatedStore, effects: Effects) -> JobResult {
    work(&context).await?;
    match fastrand::u8(..20) {
        0 => return Err("an error".into()),
        // A panic without its noise, thousands of times.
        1 => std::panic::resume_unwind(Box::new("a panic")),
        _ => {}
    }
    store.fenced(context.lease(), || note(&effects, &context)).await?;
    work(&context).await?;
    Ok(RunSummary::new())
}

fn note(effects: &Effects, context: &JobContext) {
    let effect = (context.scheduled_for_ms(), context.lease().key().token);
    let mut effects = effects.lock().expect("not poisoned");
    effects.entry(context.job().to_owned()).or_default().push(effect);
}

/// Jobs with these definitions, whose effects are fenced.
fn simulation(definitions: Vec<JobDefinition>) -> Simulation<Effects> {
    let host = move |store: SimulatedStore, effects: Effects| {
        let definitions = definitions.clone();
        async move {
            let mut scheduler = Scheduler::new(store.clone());
            for definition in definitions {
                let (store, effects) = (store.clone(), Arc::clone(&effects));
                scheduler.register(definition, move |context: JobContext| {
                    run(context, store.clone(), Arc::clone(&effects))
                })?;
            }
            Ok(scheduler)
        }
    };
    Simulation::new(Effects::default, host)
        .lasting(seconds(16))
        .at_each_step("effects of a job come in the order of its tokens", come_in_order)
}

fn come_in_order(effects: &Effects) -> Result<(), String> {
    for (job, effects) in effects.lock().expect("not poisoned").iter() {
        // Each process has its own lease of a job of scope Instance, each run of those beside others.
        if !["own", "beside"].contains(&job.as_str())
            && !effects.is_sorted_by_key(|(_, token)| *token)
        {
            return Err(format!("{job}: {effects:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_protocol_holds_on_ten_thousand_schedules() {
    let count = std::env::var("SCHEDULES");
    let count: u64 = count.map_or(10_000, |count| count.parse().expect("a whole number"));
    let share = count / 5;
    let late = || simulation(late()).hosts(2);
    // On as many cores as there are.
    std::thread::scope(|threads| {
        threads.spawn(|| simulation(overlapping()).assert_holds(0..share));
        threads.spawn(|| simulation(overlapping()).hosts(2).assert_holds(share..2 * share));
        threads.spawn(|| late().assert_holds(0..share));
        threads.spawn(|| late().beginning_at_ms(SPRING).assert_holds(0..share));
        threads.spawn(|| late().beginning_at_ms(AUTUMN).assert_holds(0..share));
    });
}

#[test]
fn a_seed_has_one_timeline() {
    let all = || overlapping().into_iter().chain(late()).collect();
    let timeline = |seed| {
        let simulation = simulation(all()).beginning_at_ms(NOON);
        simulation.run(seed).expect("it holds").to_string()
    };
    for seed in 0..10 {
        assert_eq!(timeline(seed), timeline(seed));
    }
    assert_ne!(timeline(0), timeline(1));
}

/// The first of these seeds that breaks a rule, and which.
fn found(simulation: &Simulation<Effects>, seeds: std::ops::Range<u64>) -> String {
    let failure = seeds.into_iter().find_map(|seed| simulation.run(seed).err());
    let failure = failure.expect("a mistake is found");
    let text = failure.to_string();
    let again = format!("SIMULATION_SEED={}", failure.seed());
    assert!(text.contains(&again) && text.contains("faults are enough"), "{text}");
    assert!(failure.timeline().to_string().contains("begins ("), "{text}");
    failure.broken().to_owned()
}

#[test]
fn an_effect_without_a_fence_is_found() {
    let host = |store: SimulatedStore, effects: Effects| async move {
        let mut scheduler = Scheduler::new(store);
        scheduler.register(every("careless", 6), move |context: JobContext| {
            let effects = Arc::clone(&effects);
            async move {
                work(&context).await?;
                if context.lease().is_held() {
                    // A look and a write are two steps, between which a host may freeze.
                    context.clock().sleep_until(context.now_ms() + 1_000).await;
                    note(&effects, &context);
                }
                Ok(RunSummary::new())
            }
        })?;
        Ok(scheduler)
    };
    let careless = Simulation::new(Effects::default, host)
        .lasting(seconds(60))
        .at_each_step("in order", come_in_order);
    assert!(found(&careless, 0..300).starts_with("in order: careless: ["));
}

#[test]
fn a_mistake_that_needs_no_fault_is_found_without_any() {
    let simulation = simulation(overlapping()).faults(Faults { at_most: 0, ..Faults::default() });
    let never = simulation.at_the_end("nobody works", |effects: &Effects| {
        let jobs = effects.lock().expect("not poisoned").len();
        if jobs == 0 { Ok(()) } else { Err(format!("{jobs} jobs")) }
    });
    let failure = never.run(1).expect_err("they work");
    assert_eq!(failure.broken(), "nobody works: 4 jobs");
    assert!(failure.to_string().contains("0 of its 0 faults are enough"), "{failure}");
}
