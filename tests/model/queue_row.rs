//! One row of a queue over several hosts: claim, renew, fence, effect, finish; crashes and lost
//! answers in between.
//!
//! The conditions are those of RECLAIM, CLAIM, RENEW, SETTLE and FENCE in
//! `scheduler-core/src/store/sea_orm/queue/statements.rs`; what becomes of a row that failed is
//! `outcome` in `scheduler-core/src/queue/outcome.rs`.

use stateright::{Model, Property};

use crate::report::{breaks, holds};
use crate::state::Answer;

/// Ticks that a claim lives without a renewal.
const LEASE: i64 = 2;
/// Ticks until a row that failed is due again.
const BACKOFF: i64 = 1;
const MAX_ATTEMPTS: i64 = 2;
const CRASH_LIMIT: i64 = 2;

/// One condition of the protocol that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// The fence is a SELECT: it locks nothing.
    FenceOnlyReads,
    /// SETTLE without `lease_token` and `leased_by`.
    SettleForgetsToken,
    /// RECLAIM without `lease_expires_at_ms <= now`.
    ReclaimForgetsExpiry,
    /// CLAIM without `status = 'queued'`.
    ClaimForgetsStatus,
    /// CLAIM without `lease_token = lease_token + 1`.
    ClaimKeepsToken,
    /// Nothing reclaims.
    NoReclaim,
}

/// How large the world is.
#[derive(Clone, Copy)]
struct Queue {
    hosts: usize,
    /// The clock stops here.
    until: i64,
    crashes: u8,
    lost_answers: u8,
    flaw: Option<Flaw>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Status {
    Queued,
    Running,
    Succeeded,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    status: Status,
    run_at: i64,
    attempts: i64,
    crashes: i64,
    token: i64,
    leased_by: Option<u8>,
    expires: i64,
}

/// What a process believes: the claims that it has not ended, by token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Host {
    claims: Vec<(i64, Stage)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Stage {
    Working,
    /// A transaction is open in which the fence held.
    Fenced,
    Done,
    /// Whether its effect is committed it cannot know.
    Unsure,
    /// Its end is to be written, maybe not for the first time.
    Ending(End),
}

/// How a handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum End {
    Success,
    Failure,
    /// A stop: the attempt is given back. It happens once, or the row would be claimed for ever.
    Release,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: i64,
    row: Row,
    hosts: Vec<Host>,
    /// The tokens under which effects were committed, in that order.
    effects: Vec<i64>,
    crashes: u8,
    lost_answers: u8,
    stops: u8,
    stale_effect: bool,
    foreign_end: bool,
    taken_alive: bool,
    changed_after_its_end: bool,
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Claim(usize, Answer),
    Renew(usize, usize),
    Fence(usize, usize),
    CommitEffect(usize, usize, Answer),
    Settle(usize, usize, End, Answer),
    Crash(usize),
}

const STALE_EFFECT: &str = "no effect lands under a token that is not the row's";
const ONE_EFFECT: &str = "a token has one effect at most";
const TAKEN: &str = "a lease that lives is not taken";
const FOREIGN_END: &str = "a claim is ended by its holder only";
const FINAL: &str = "a row that has ended does not change";
const RECOVERS: &str = "one host that lives brings the row to an end";

impl Model for Queue {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            row: Row {
                status: Status::Queued,
                run_at: 0,
                attempts: 0,
                crashes: 0,
                token: 0,
                leased_by: None,
                expires: 0,
            },
            hosts: vec![Host::default(); self.hosts],
            effects: Vec::new(),
            crashes: self.crashes,
            lost_answers: self.lost_answers,
            stops: 1,
            stale_effect: false,
            foreign_end: false,
            taken_alive: false,
            changed_after_its_end: false,
            refused: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.until {
            actions.push(Action::Tick);
        }
        let answers: &[Answer] = match state.lost_answers {
            0 => &[Answer::Arrives],
            _ => &[Answer::Arrives, Answer::IsLost],
        };
        for (index, host) in state.hosts.iter().enumerate() {
            actions.extend(answers.iter().map(|a| Action::Claim(index, *a)));
            for (place, (_, stage)) in host.claims.iter().enumerate() {
                let ends = |end| answers.iter().map(move |a| Action::Settle(index, place, end, *a));
                if *stage != Stage::Fenced {
                    actions.push(Action::Renew(index, place));
                }
                match stage {
                    Stage::Working => {
                        actions.push(Action::Fence(index, place));
                        actions.extend(ends(End::Failure));
                        if state.stops > 0 {
                            actions.extend(ends(End::Release));
                        }
                    }
                    Stage::Fenced => actions
                        .extend(answers.iter().map(|a| Action::CommitEffect(index, place, *a))),
                    Stage::Done => actions.extend(ends(End::Success)),
                    Stage::Unsure => actions.extend(ends(End::Failure)),
                    Stage::Ending(end) => actions.extend(ends(*end)),
                }
            }
            if state.crashes > 0 && !host.claims.is_empty() {
                actions.push(Action::Crash(index));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let happens = match action {
            Action::Tick => {
                next.now += 1;
                true
            }
            Action::Claim(host, answer) => next.claim(host, answer, self.flaw),
            Action::Renew(host, place) => next.renew(host, place, self.flaw),
            Action::Fence(host, place) => next.fence(host, place, self.flaw),
            Action::CommitEffect(host, place, answer) => next.commit_effect(host, place, answer),
            Action::Settle(host, place, end, answer) => {
                next.settle(host, place, end, answer, self.flaw)
            }
            Action::Crash(host) => {
                next.crashes -= 1;
                next.hosts[host] = Host::default();
                if next.row.leased_by.map(usize::from) == Some(host) {
                    next.row.leased_by = Some(u8::MAX);
                }
                true
            }
        };
        let ended = matches!(state.row.status, Status::Succeeded | Status::Dead);
        next.changed_after_its_end |= ended && next.row != state.row;
        happens.then(|| next.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(STALE_EFFECT, |_, state: &State| !state.stale_effect),
            Property::always(ONE_EFFECT, |_, state: &State| {
                let effects = &state.effects;
                (1..effects.len()).all(|end| !effects[..end].contains(&effects[end]))
            }),
            Property::always(TAKEN, |_, state: &State| !state.taken_alive),
            Property::always(FOREIGN_END, |_, state: &State| !state.foreign_end),
            Property::always(FINAL, |_, state: &State| !state.changed_after_its_end),
            Property::always("a row is tried as often as it may be", |_, state: &State| {
                let Row { attempts, crashes, .. } = state.row;
                (0..=MAX_ATTEMPTS).contains(&(attempts - crashes)) && crashes <= CRASH_LIMIT
            }),
            Property::always("a row that succeeded has its effect", |_, state: &State| {
                state.row.status != Status::Succeeded || state.effects.contains(&state.row.token)
            }),
            Property::always(RECOVERS, |model, state: &State| model.recovers(state)),
            // That all of this is reached, or the above would be true of nothing.
            Property::sometimes("two hosts believe to hold the row", |_, state: &State| {
                state.hosts.iter().filter(|host| !host.claims.is_empty()).count() > 1
            }),
            Property::sometimes("a stale effect is refused", |_, state: &State| state.refused),
            Property::sometimes("a row succeeds at its second attempt", |_, state: &State| {
                state.row.status == Status::Succeeded && state.row.attempts == 2
            }),
            Property::sometimes("a row is dead after its crashes", |_, state: &State| {
                state.row.status == Status::Dead && state.row.crashes == CRASH_LIMIT
            }),
            Property::sometimes("a row is dead after its attempts", |_, state: &State| {
                state.row.status == Status::Dead && state.row.attempts == MAX_ATTEMPTS
            }),
        ]
    }
}

impl State {
    /// RECLAIM and CLAIM, one transaction. False: nothing is there to do.
    fn claim(&mut self, host: usize, answer: Answer, flaw: Option<Flaw>) -> bool {
        if self.is_locked(flaw) {
            return false;
        }
        let mut changes = false;
        let expired = self.row.expires <= self.now;
        let reclaims = expired || flaw == Some(Flaw::ReclaimForgetsExpiry);
        if self.row.status == Status::Running && reclaims && flaw != Some(Flaw::NoReclaim) {
            self.taken_alive |= !expired;
            self.row.crashes += 1;
            let crashes = self.row.crashes >= CRASH_LIMIT;
            self.unlease(if crashes { Status::Dead } else { Status::Queued });
            changes = true;
        }
        // A row whose process died before is claimed by a process that runs nothing else.
        let may = self.row.crashes == 0 || self.hosts[host].claims.is_empty();
        let queued = self.row.status == Status::Queued
            || (flaw == Some(Flaw::ClaimForgetsStatus) && self.row.status == Status::Succeeded);
        if queued && self.row.run_at <= self.now && may {
            self.row.status = Status::Running;
            self.row.attempts += 1;
            self.row.token += i64::from(flaw != Some(Flaw::ClaimKeepsToken));
            self.row.leased_by = u8::try_from(host).ok();
            self.row.expires = self.now + LEASE;
            if answer == Answer::Arrives {
                self.hosts[host].claims.push((self.row.token, Stage::Working));
            }
            changes = true;
        }
        self.pay(answer);
        changes
    }

    fn renew(&mut self, host: usize, place: usize, flaw: Option<Flaw>) -> bool {
        if self.is_locked(flaw) {
            return false;
        }
        if !self.holds(host, place) {
            self.hosts[host].claims.remove(place);
            return true;
        }
        let expires = self.now + LEASE;
        let longer = expires != self.row.expires;
        self.row.expires = expires;
        longer
    }

    fn fence(&mut self, host: usize, place: usize, flaw: Option<Flaw>) -> bool {
        if self.is_locked(flaw) {
            return false;
        }
        if self.holds(host, place) {
            self.hosts[host].claims[place].1 = Stage::Fenced;
        } else {
            self.hosts[host].claims.remove(place);
            self.refused = true;
        }
        true
    }

    fn commit_effect(&mut self, host: usize, place: usize, answer: Answer) -> bool {
        let (token, stage) = &mut self.hosts[host].claims[place];
        *stage = if answer == Answer::Arrives { Stage::Done } else { Stage::Unsure };
        self.effects.push(*token);
        let held = self.row.status == Status::Running && self.row.token == *token;
        self.stale_effect |= !held;
        self.pay(answer);
        true
    }

    fn settle(
        &mut self,
        host: usize,
        place: usize,
        end: End,
        answer: Answer,
        flaw: Option<Flaw>,
    ) -> bool {
        if self.is_locked(flaw) {
            return false;
        }
        let runs = self.row.status == Status::Running && self.row.expires > self.now;
        let forgets = flaw == Some(Flaw::SettleForgetsToken) && runs;
        if !self.holds(host, place) && !forgets {
            self.hosts[host].claims.remove(place);
            return true;
        }
        let (token, stage) = &mut self.hosts[host].claims[place];
        self.foreign_end |= self.row.token != *token;
        let again = *stage == Stage::Ending(end);
        if answer == Answer::Arrives {
            self.hosts[host].claims.remove(place);
        } else {
            *stage = Stage::Ending(end);
        }
        let used_up = self.row.attempts - self.row.crashes >= MAX_ATTEMPTS;
        match end {
            End::Success => self.unlease(Status::Succeeded),
            End::Failure if used_up => self.unlease(Status::Dead),
            End::Failure => {
                self.row.run_at = self.now + BACKOFF;
                self.unlease(Status::Queued);
            }
            End::Release => {
                self.stops -= u8::from(!again);
                self.row.attempts -= 1;
                self.unlease(Status::Queued);
            }
        }
        self.pay(answer);
        true
    }

    fn unlease(&mut self, status: Status) {
        self.row.status = status;
        self.row.leased_by = None;
        self.row.expires = 0;
    }

    /// The WHERE of RENEW, SETTLE and FENCE.
    fn holds(&self, host: usize, place: usize) -> bool {
        let (token, _) = self.hosts[host].claims[place];
        self.row.status == Status::Running
            && self.row.token == token
            && self.row.leased_by.map(usize::from) == Some(host)
            && self.row.expires > self.now
    }

    /// A fence keeps the row until its transaction ends.
    fn is_locked(&self, flaw: Option<Flaw>) -> bool {
        let fenced = |host: &Host| host.claims.iter().any(|(_, stage)| *stage == Stage::Fenced);
        flaw != Some(Flaw::FenceOnlyReads) && self.hosts.iter().any(fenced)
    }

    fn pay(&mut self, answer: Answer) {
        self.lost_answers -= u8::from(answer == Answer::IsLost);
    }

    /// The one of all states that differ only in the order of the hosts.
    fn canonical(mut self) -> Self {
        let place = |host: &usize| u8::try_from(*host).ok();
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        order.sort_by_cached_key(|host| {
            (self.hosts[*host].clone(), self.row.leased_by == place(host))
        });
        self.hosts = order.iter().map(|host| self.hosts[*host].clone()).collect();
        if let Some(at) = order.iter().position(|host| self.row.leased_by == place(host)) {
            self.row.leased_by = place(&at);
        }
        self
    }
}

impl Queue {
    /// All hosts are gone, a new one starts, and nothing else goes wrong: it alone has to bring
    /// the row to an end.
    fn recovers(&self, state: &State) -> bool {
        let mut state = state.clone();
        state.hosts = vec![Host::default()];
        state.row.leased_by = state.row.leased_by.map(|_| u8::MAX);
        state.now = state.now.max(state.row.expires).max(state.row.run_at);
        let claimed = state.claim(0, Answer::Arrives, self.flaw);
        if claimed && !state.hosts[0].claims.is_empty() {
            state.fence(0, 0, self.flaw);
            state.commit_effect(0, 0, Answer::Arrives);
            state.settle(0, 0, End::Success, Answer::Arrives, self.flaw);
        }
        matches!(state.row.status, Status::Succeeded | Status::Dead)
    }
}

const SMALL: Queue = Queue { hosts: 2, until: 5, crashes: 1, lost_answers: 1, flaw: None };

#[test]
fn every_promise_is_kept_for_a_row_between_two_hosts() {
    holds("a row, two hosts, a crash and a lost answer", SMALL);
}

#[test]
fn every_promise_is_kept_for_a_row_among_three_hosts() {
    holds("a row, three hosts, a crash and a lost answer", Queue { hosts: 3, ..SMALL });
}

#[test]
fn each_condition_that_is_taken_away_breaks_a_promise() {
    for (flaw, property) in [
        (Flaw::FenceOnlyReads, STALE_EFFECT),
        (Flaw::SettleForgetsToken, FOREIGN_END),
        (Flaw::ReclaimForgetsExpiry, TAKEN),
        (Flaw::ClaimForgetsStatus, FINAL),
        (Flaw::ClaimKeepsToken, ONE_EFFECT),
        (Flaw::NoReclaim, RECOVERS),
    ] {
        breaks(&format!("{flaw:?}"), Queue { flaw: Some(flaw), ..SMALL }, property);
    }
}
