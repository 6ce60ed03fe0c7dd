//! What the hosts did to the store, and the first rule of the protocol that it breaks.

use std::collections::{BTreeMap, HashMap};

use super::timeline::{Entry, Event, Name, RunName, clock};
use crate::definition::Overlap;
use crate::lease::LeaseKey;
use crate::run::{InstanceId, RunId, RunStatus, Trigger};
use crate::store::{Firing, NewRun};

#[derive(Default)]
pub(super) struct Record {
    pub(super) entries: Vec<Entry>,
    /// The first broken rule.
    pub(super) broken: Option<String>,
    /// Runs that began and were neither ended nor closed.
    open: BTreeMap<RunId, OpenRun>,
    /// How the latest attempt of each slot ended; `None` while it runs.
    slots: HashMap<(String, String, i64), Option<RunStatus>>,
    /// The latest token of each lease.
    tokens: HashMap<String, i64>,
}

/// A run under way, as the store knows it.
struct OpenRun {
    name: RunName,
    scope_key: String,
    key: LeaseKey,
    until_ms: i64,
    runs_beside_others: bool,
}

impl Record {
    pub(super) fn note(&mut self, at_ms: i64, process: Name, event: Event) {
        self.entries.push(Entry { at_ms, process, event });
    }

    pub(super) fn breaks(&mut self, what: impl FnOnce() -> String) {
        self.broken.get_or_insert_with(what);
    }

    /// A run began under a grant.
    pub(super) fn began(
        &mut self,
        (now_ms, process): (i64, Name),
        firing: &Firing,
        run: &NewRun,
        (key, until_ms): (&LeaseKey, i64),
    ) {
        let name = run_name(&firing.job, run);
        let NewRun { trigger, scheduled_for_ms, .. } = *run;
        self.note(now_ms, process, Event::Began { run: name.clone(), trigger, token: key.token });
        let latest = self.tokens.insert(key.name.clone(), key.token);
        if latest.is_some_and(|latest| key.token <= latest) {
            self.breaks(|| format!("{name}: token {} was granted after {latest:?}", key.token));
        }
        if trigger != Trigger::Manual {
            let slot = (firing.job.clone(), firing.scope_key.clone(), scheduled_for_ms);
            match self.slots.insert(slot, None) {
                None | Some(Some(RunStatus::LeaseLost | RunStatus::Cancelled)) => {}
                Some(None) => self.breaks(|| format!("{name}: its slot runs already")),
                Some(Some(ended)) => {
                    self.breaks(|| format!("{name}: its slot runs again, although it has {ended}"));
                }
            }
        }
        let runs_beside_others =
            !matches!(firing.overlap, Overlap::Skip | Overlap::BufferOne | Overlap::Replace);
        let beside = self.open.values().find(|open| {
            (&open.name.job, &open.scope_key) == (&firing.job, &firing.scope_key)
                && open.until_ms > now_ms
                && !open.runs_beside_others
        });
        if let Some(beside) = beside {
            let what = format!("{name}: begins beside {}, whose lease lives", beside.name);
            self.breaks(|| what);
        }
        let open = OpenRun {
            name,
            scope_key: firing.scope_key.clone(),
            key: key.clone(),
            until_ms,
            runs_beside_others,
        };
        self.open.insert(run.id, open);
    }

    pub(super) fn renewed(&mut self, key: &LeaseKey, until_ms: i64) {
        for open in self.open.values_mut().filter(|open| open.key == *key) {
            open.until_ms = until_ms;
        }
    }

    /// The end of a run was written, or refused.
    pub(super) fn ended(
        &mut self,
        (now_ms, process): (i64, Name),
        (id, job, slot_ms): (RunId, &str, i64),
        (key, status): (&LeaseKey, RunStatus),
        landed: bool,
    ) {
        if !landed {
            let run = RunName { job: job.to_owned(), slot_ms, attempt: 1 };
            self.note(now_ms, process, Event::LostItsEnd { run });
            return;
        }
        let Some(open) = self.open.remove(&id) else {
            self.breaks(|| format!("{job} of {}: its end was written twice", clock(slot_ms)));
            return;
        };
        self.note(now_ms, process, Event::Ended { run: open.name.clone(), status });
        self.must_hold(now_ms, key, open.until_ms, || format!("{}: its end", open.name));
        self.slots.insert((open.name.job, open.scope_key, slot_ms), Some(status));
    }

    /// A run was found cut off.
    pub(super) fn closed(&mut self, (now_ms, process): (i64, Name), id: RunId) {
        let Some(open) = self.open.remove(&id) else { return };
        self.note(now_ms, process, Event::Closed { run: open.name.clone() });
        if open.until_ms > now_ms {
            self.breaks(|| format!("{}: closed as cut off while its lease lives", open.name));
        }
        let slot = (open.name.job, open.scope_key, open.name.slot_ms);
        self.slots.insert(slot, Some(RunStatus::LeaseLost));
    }

    /// A fenced effect landed, or was refused.
    pub(super) fn effect(&mut self, (now_ms, process): (i64, Name), key: &LeaseKey, landed: bool) {
        let job = key.name.split('@').next().unwrap_or_default();
        let (lease, token) = (job.to_owned(), key.token);
        self.note(now_ms, process, Event::Effect { lease, token, landed });
        if landed {
            let until_ms =
                self.open.values().find(|open| open.key == *key).map(|open| open.until_ms);
            let until_ms = until_ms.unwrap_or(i64::MIN);
            self.must_hold(now_ms, key, until_ms, || format!("{}: an effect", key.name));
        }
    }

    /// What is written under a lease lands under the newest grant of it, before its deadline.
    fn must_hold(
        &mut self,
        now_ms: i64,
        key: &LeaseKey,
        until_ms: i64,
        what: impl FnOnce() -> String,
    ) {
        let latest = self.tokens.get(&key.name).copied().unwrap_or_default();
        if latest != key.token || until_ms <= now_ms {
            let (token, until) = (key.token, clock(until_ms));
            self.breaks(|| {
                format!(
                    "{} landed under token {token}, until {until}; the latest is {latest}",
                    what()
                )
            });
        }
    }

    /// A process said that nothing of it runs any more, and nothing had gone wrong in it.
    pub(super) fn stopped(&mut self, now_ms: i64, instance: InstanceId) {
        let mut open = self.open.values();
        let left = open.find(|open| open.key.holder == instance && open.until_ms > now_ms);
        if let Some(left) = left {
            let what = format!("{}: left running by a process that has stopped", left.name);
            self.breaks(|| what);
        }
    }
}

pub(super) fn run_name(job: &str, run: &NewRun) -> RunName {
    RunName { job: job.to_owned(), slot_ms: run.scheduled_for_ms, attempt: run.attempt }
}
