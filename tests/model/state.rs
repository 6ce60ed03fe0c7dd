//! All that is so at one moment, and what each step of a host makes of it.

use crate::database::{Database, Flaw, HostId, LEASE, Run, Status};
use crate::hosts::{Driver, Held, Host, Stage};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) now: i64,
    pub(super) database: Database,
    pub(super) hosts: Vec<Host>,
    /// The tokens under which effects were committed, in that order.
    pub(super) effects: Vec<i64>,
    pub(super) crashes: u8,
    pub(super) lost_answers: u8,
    /// What the operator may still do.
    pub(super) changes: u8,
    pub(super) seen: Seen,
}

/// What has happened on the way here and cannot be read off the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    /// An effect was committed under a token that was not the lease's any more.
    pub(super) stale_effect: bool,
    /// A fence held although the run's row said that it was over.
    pub(super) fenced_after_the_close: bool,
    /// A row that did not say `running` was ended.
    pub(super) overwritten: bool,
    /// A host was told that its end is recorded, and the row says something else.
    pub(super) misinformed: bool,
    /// A token or a due time fell.
    pub(super) went_back: bool,
    /// A lease that lived was granted to another.
    pub(super) taken_alive: bool,
    /// A fence refused.
    pub(super) refused: bool,
    /// A slot that waited made room for an older one.
    pub(super) waits_for_older: bool,
    /// A run began while its job was paused.
    pub(super) began_in_pause: bool,
    /// A first run that was cut off was closed without another.
    pub(super) closed_for_good: bool,
    /// The slots that went by during a pause.
    pub(super) gone_by: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Arrives,
    IsLost,
}

impl State {
    pub(super) fn runs_that_began(&self) -> impl Iterator<Item = &Run> {
        self.database.runs.iter().filter(|run| run.token > 0)
    }

    /// False: nothing is to be done.
    pub(super) fn look(&mut self, host: usize, flaw: Option<Flaw>) -> bool {
        let firings = self.database.look(self.now, flaw);
        let found = !firings.is_empty();
        self.hosts[host].driver = Driver::Decided(firings);
        found
    }

    pub(super) fn begin(&mut self, host: usize, flaw: Option<Flaw>) -> bool {
        let Driver::Decided(firings) = std::mem::take(&mut self.hosts[host].driver) else {
            return false;
        };
        let others = || self.hosts.iter().enumerate().filter(|(at, _)| *at != host);
        let mut begun = Vec::new();
        for firing in firings {
            let mut won = true;
            if others().any(|(_, other)| other.driver.locks_the_schedule()) {
                return false;
            }
            if let Some(advance) = &firing.advance {
                won = self.database.is_as_seen(advance, flaw);
            }
            if let (true, Some(run)) = (won, firing.interrupted) {
                won = self.database.can_close(run, firing.run.is_some(), self.now, flaw);
            }
            begun.push((firing, won));
        }
        let anything = begun.iter().any(|(_, won)| *won);
        // A begin that won nothing has nothing to commit.
        self.hosts[host].driver = if anything { Driver::Begun(begun) } else { Driver::Asleep };
        true
    }

    pub(super) fn commit_begin(&mut self, host: usize, answer: Answer, flaw: Option<Flaw>) -> bool {
        let Driver::Begun(begun) = std::mem::take(&mut self.hosts[host].driver) else {
            return false;
        };
        let id = u8::try_from(host).expect("a few hosts");
        let won = || begun.iter().filter(|(_, won)| *won).map(|(firing, _)| firing);
        if won().any(|firing| firing.run.is_some()) && self.lease_is_locked(flaw) {
            return false;
        }
        for firing in won() {
            if let Some(advance) = &firing.advance {
                self.database.advance(advance);
            }
            if let Some(run) = firing.interrupted {
                self.end(run, Status::LeaseLost);
                let first = self.database.runs[run].attempt == 1;
                self.seen.closed_for_good |= first && firing.run.is_none();
            }
        }
        // One lease is one run: the first may have it.
        let mut wanted = true;
        for firing in won() {
            self.database.settle(firing, flaw);
            let Some(run) = firing.run else { continue };
            let as_of = firing.as_of;
            let grant = wanted.then(|| self.database.grant(id, as_of, self.now, flaw)).flatten();
            wanted = false;
            let Some(token) = grant else {
                if run.waits && self.schedule_is_locked() {
                    return false;
                }
                self.database.overlapped(firing, &run, self.now, flaw);
                continue;
            };
            self.seen.began_in_pause |= self.database.schedule.paused;
            if flaw == Some(Flaw::BeginWritesNoRun) {
                continue;
            }
            let Some(run) = self.database.insert(&run, id, token) else {
                self.database.release();
                continue;
            };
            if answer == Answer::Arrives {
                self.hosts[host].held.push(Held { run, token, stage: Stage::Working });
            }
        }
        self.pay(answer);
        true
    }

    /// CHANGE, an operator's.
    pub(super) fn pause(&mut self, paused: bool, flaw: Option<Flaw>) -> bool {
        if self.schedule_is_locked() {
            return false;
        }
        self.changes -= 1;
        let gone_by = self.database.change(paused, self.now, flaw);
        self.seen.gone_by.extend(gone_by);
        true
    }

    pub(super) fn renew(&mut self, host: usize, place: usize, flaw: Option<Flaw>) -> bool {
        if self.lease_is_locked(flaw) {
            return false;
        }
        let Held { token, .. } = self.hosts[host].held[place];
        let kept = match flaw {
            Some(Flaw::RenewForgetsExpiry) => self.holds_or_held(host, token),
            _ => self.holds(host, token),
        };
        if kept {
            let expires = self.now + LEASE;
            let longer = expires != self.database.lease.expires;
            self.database.lease.expires = expires;
            let held = &mut self.hosts[host].held[place];
            if self.database.lease.cancel_requested && held.stage == Stage::Working {
                held.stage = Stage::Ending(Status::GaveWay);
                return true;
            }
            return longer;
        }
        // The run is cancelled, and its end writes nothing.
        self.hosts[host].held.remove(place);
        true
    }

    pub(super) fn fence(&mut self, host: usize, place: usize, flaw: Option<Flaw>) -> bool {
        if self.lease_is_locked(flaw) {
            return false;
        }
        let Held { run, token, .. } = self.hosts[host].held[place];
        let holds = match flaw {
            Some(Flaw::FenceForgetsExpiry) => self.holds_or_held(host, token),
            _ => self.holds(host, token),
        };
        if holds {
            self.hosts[host].held[place].stage = Stage::Fenced;
            self.seen.fenced_after_the_close |= self.database.runs[run].status != Status::Running;
        } else {
            self.hosts[host].held.remove(place);
            self.seen.refused = true;
        }
        true
    }

    pub(super) fn commit_effect(&mut self, host: usize, place: usize, answer: Answer) -> bool {
        let held = &mut self.hosts[host].held[place];
        held.stage = if answer == Answer::Arrives { Stage::Done } else { Stage::Unsure };
        let token = held.token;
        self.effects.push(token);
        self.seen.stale_effect |= self.database.lease.token != token;
        self.pay(answer);
        true
    }

    pub(super) fn finish(
        &mut self,
        host: usize,
        place: usize,
        status: Status,
        answer: Answer,
        flaw: Option<Flaw>,
    ) -> bool {
        let Held { run, token, .. } = self.hosts[host].held[place];
        let row_is_locked = self.hosts.iter().any(|other| other.driver.locks_the_run(run));
        if self.lease_is_locked(flaw) || row_is_locked {
            return false;
        }
        let holds = match flaw {
            Some(Flaw::FinishForgetsToken) => self.database.lease.expires > self.now,
            _ => self.holds(host, token),
        };
        if !holds {
            self.hosts[host].held.remove(place);
            return true;
        }
        // `OnInterrupt::Rerun { max: 1 }`: a stop lets the slot wait for its next attempt.
        let reruns = status == Status::Cancelled && self.database.runs[run].attempt == 1;
        if reruns && self.schedule_is_locked() {
            return false;
        }
        self.database.release();
        if self.database.runs[run].status == Status::Running {
            self.end(run, status);
        }
        if reruns {
            let slot = self.database.runs[run].slot;
            self.database.buffer(slot, flaw);
        }
        if answer == Answer::Arrives {
            self.seen.misinformed |= self.database.runs[run].status != status;
            self.hosts[host].held.remove(place);
        } else {
            self.hosts[host].held[place].stage = Stage::Ending(status);
        }
        self.pay(answer);
        true
    }

    fn end(&mut self, run: usize, status: Status) {
        let row = &mut self.database.runs[run];
        self.seen.overwritten |= row.status != Status::Running;
        row.status = status;
    }

    fn holds(&self, host: usize, token: i64) -> bool {
        self.database.is_held(u8::try_from(host).expect("a few hosts"), token, self.now)
    }

    fn holds_or_held(&self, host: usize, token: i64) -> bool {
        self.database.is_held_or_expired(u8::try_from(host).expect("a few hosts"), token)
    }

    /// A fence keeps the lease's row until its transaction ends.
    fn lease_is_locked(&self, flaw: Option<Flaw>) -> bool {
        let fenced = |held: &Held| held.stage == Stage::Fenced;
        flaw != Some(Flaw::FenceOnlyReads)
            && self.hosts.iter().any(|host| host.held.iter().any(fenced))
    }

    /// Who asks has none of its own open.
    fn schedule_is_locked(&self) -> bool {
        self.hosts.iter().any(|host| host.driver.locks_the_schedule())
    }

    fn pay(&mut self, answer: Answer) {
        self.lost_answers -= u8::from(answer == Answer::IsLost);
    }

    pub(super) fn rename(&mut self, name: impl Fn(HostId) -> HostId) {
        self.database.lease.holder = name(self.database.lease.holder);
        for run in &mut self.database.runs {
            run.holder = name(run.holder);
        }
    }

    /// The one of all states that differ only in the order of the hosts.
    pub(super) fn canonical(mut self) -> Self {
        let owns = |host: usize| {
            let id = u8::try_from(host).ok();
            let runs: Vec<bool> = self.database.runs.iter().map(|run| run.holder == id).collect();
            (self.database.lease.holder == id, runs)
        };
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        order.sort_by_cached_key(|host| (self.hosts[*host].clone(), owns(*host)));
        self.hosts = order.iter().map(|host| self.hosts[*host].clone()).collect();
        self.rename(|id| {
            let place = order.iter().position(|host| Some(*host) == id.map(usize::from))?;
            u8::try_from(place).ok()
        });
        self
    }
}
