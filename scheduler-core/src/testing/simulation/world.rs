//! What the hosts of one simulation share: time, the database, what goes wrong, and the record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::{Fault, Planned, When};
use super::record::Record;
use super::time::{HostClock, Time};
use super::timeline::{Event, Name};
use crate::cadence::Cadence;
use crate::store::{Changes, Topic};
use crate::testing::MemoryStore;

pub(super) struct World {
    pub(super) time: Time,
    pub(super) memory: MemoryStore,
    pub(super) machines: Vec<Machine>,
    record: Mutex<Record>,
    /// What hosts ran into at calls of the store, by host.
    requests: Mutex<Vec<(usize, Fault)>>,
    /// News that goes from host to host.
    news: Mutex<BTreeMap<Topic, Changes>>,
    /// Cadences by their text: to read one takes long.
    cadences: Mutex<BTreeMap<String, Option<Cadence>>>,
}

/// What survives the processes of a host.
pub(super) struct Machine {
    pub(super) clock: HostClock,
    weather: Mutex<Weather>,
}

#[derive(Default)]
struct Weather {
    calls: u64,
    slow_until_ms: i64,
    failing_until_ms: i64,
    /// Whether something went wrong in the life of the process that it may not have got over.
    troubled: bool,
    /// Faults at calls that have not come yet.
    at_calls: Vec<(u64, bool, Fault)>,
}

/// What becomes of one call of the store.
#[derive(Clone, Copy, Default)]
pub(super) struct Fate {
    pub(super) wait_before_ms: i64,
    pub(super) wait_after_ms: i64,
    /// With whether it was committed.
    pub(super) fault: Option<(bool, Fault)>,
}

/// How long a slow store takes at most.
const SLOW_MS: i64 = 6_000;

impl World {
    pub(super) fn new(time: Time, hosts: usize, faults: &[Planned]) -> Self {
        let memory = MemoryStore::new(Arc::new(HostClock::new(time.clone())));
        let machine = |host| {
            let at_call = |planned: &Planned| match planned.when {
                When::Call { number, committed } if planned.host == host => {
                    Some((number, committed, planned.fault))
                }
                _ => None,
            };
            let at_calls = faults.iter().filter_map(at_call).collect();
            let weather = Mutex::new(Weather { at_calls, ..Weather::default() });
            Machine { clock: HostClock::new(time.clone()), weather }
        };
        Self {
            machines: (0..hosts).map(machine).collect(),
            time,
            memory,
            record: Mutex::default(),
            requests: Mutex::default(),
            news: Mutex::default(),
            cadences: Mutex::default(),
        }
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        locked(&self.record)
    }

    pub(super) fn note(&self, process: Name, event: Event) {
        self.record().note(self.time.now_ms(), process, event);
    }

    /// Has something done to a host as soon as its process waits.
    pub(super) fn request(&self, host: usize, fault: Fault) {
        locked(&self.requests).push((host, fault));
    }

    pub(super) fn take_requests(&self) -> Vec<(usize, Fault)> {
        std::mem::take(&mut locked(&self.requests))
    }

    pub(super) fn cadence(&self, text: &str) -> Option<Cadence> {
        let mut cadences = locked(&self.cadences);
        if let Some(known) = cadences.get(text) {
            return known.clone();
        }
        let cadence: Option<Cadence> = text.parse().ok();
        cadences.insert(text.to_owned(), cadence.clone());
        cadence
    }

    pub(super) fn listen_for(&self, topic: &Topic) {
        use crate::store::WakeStore;
        let mut news = locked(&self.news);
        if !news.contains_key(topic) {
            news.insert(topic.clone(), self.memory.changes(topic));
        }
    }

    /// The topics that there was news of since the last time.
    pub(super) fn take_news(&self) -> Vec<Topic> {
        use futures_util::FutureExt;
        let mut news = locked(&self.news);
        news.iter_mut()
            .filter_map(|(topic, changes)| changes.changed().now_or_never().map(|()| topic.clone()))
            .collect()
    }

    /// Decides about the next call of the store by this host.
    pub(super) fn fate(&self, host: usize) -> Fate {
        let now_ms = self.time.now_ms();
        let mut weather = locked(&self.machines[host].weather);
        let number = weather.calls;
        weather.calls += 1;
        let mut fate = Fate::default();
        if now_ms < weather.slow_until_ms {
            fate.wait_before_ms = self.time.lot(SLOW_MS);
            fate.wait_after_ms = self.time.lot(SLOW_MS);
        } else if self.time.lot(8) == 0 {
            fate.wait_before_ms = self.time.lot(30);
            fate.wait_after_ms = self.time.lot(30);
        }
        let due = |(at, ..): &(u64, bool, Fault)| *at == number;
        if let Some(position) = weather.at_calls.iter().position(due) {
            let (_, committed, fault) = weather.at_calls.swap_remove(position);
            fate.fault = Some((committed, fault));
        } else if now_ms < weather.failing_until_ms && self.time.lot(2) == 0 {
            fate.fault = Some((self.time.lot(2) == 0, Fault::NoAnswer));
        }
        fate
    }

    pub(super) fn slow_down(&self, host: usize, for_ms: i64) {
        locked(&self.machines[host].weather).slow_until_ms = self.time.now_ms() + for_ms;
        self.trouble(host);
    }

    pub(super) fn let_fail(&self, host: usize, for_ms: i64) {
        locked(&self.machines[host].weather).failing_until_ms = self.time.now_ms() + for_ms;
        self.trouble(host);
    }

    pub(super) fn set_clock(&self, host: usize, ahead_ms: i64) {
        self.machines[host].clock.set_ahead_ms(ahead_ms);
        self.trouble(host);
    }

    /// From now on its process may believe to have lost leases that the store still has.
    pub(super) fn trouble(&self, host: usize) {
        locked(&self.machines[host].weather).troubled = true;
    }

    pub(super) fn is_troubled(&self, host: usize) -> bool {
        locked(&self.machines[host].weather).troubled
    }

    /// A new process knows nothing of what the one before it went through.
    pub(super) fn calm_down(&self, host: usize) {
        let Machine { clock, weather } = &self.machines[host];
        let (mut weather, now_ms) = (locked(weather), self.time.now_ms());
        let until_ms = weather.slow_until_ms.max(weather.failing_until_ms);
        weather.troubled = until_ms > now_ms || clock.ahead_ms() != 0;
    }

    /// From now on nothing goes wrong.
    pub(super) fn end_faults(&self) {
        for machine in &self.machines {
            let mut weather = locked(&machine.weather);
            let Weather { calls, troubled, .. } = *weather;
            *weather = Weather { calls, troubled, ..Weather::default() };
            if machine.clock.ahead_ms() != 0 {
                machine.clock.set_ahead_ms(0);
            }
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
