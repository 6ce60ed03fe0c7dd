//! A job's slots over several hosts: look, begin, renew, fence, effect, finish; crashes and lost
//! answers in between.

use stateright::{Model, Property};

use crate::database::{Database, Flaw, Overlap, Run, Status};
use crate::hosts::{Driver, Host, Stage};
use crate::report::{breaks, holds};
use crate::state::{Answer, Seen, State};

/// How large the world is.
#[derive(Clone, Copy)]
struct Slots {
    hosts: usize,
    /// The clock stops here.
    until: i64,
    crashes: u8,
    /// Commits whose answer does not arrive.
    lost_answers: u8,
    /// How often an operator pauses the job or lets it go on.
    changes: u8,
    overlap: Overlap,
    /// Whether runs book fenced effects: where they do not, the clock goes further.
    books: bool,
    flaw: Option<Flaw>,
}

/// A step of one host, by its place, or of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Look(usize),
    /// ADVANCE and CLOSE_INTERRUPTED: from here on the transaction is open.
    Begin(usize),
    /// The rest of the begin, and its commit.
    CommitBegin(usize, Answer),
    Renew(usize, usize),
    /// The fence of an effect: from here on its transaction is open.
    Fence(usize, usize),
    CommitEffect(usize, usize, Answer),
    Finish(usize, usize, Status, Answer),
    /// Memory and open transactions are gone; the process starts anew.
    Crash(usize),
    /// An operator pauses the job, or lets it go on.
    Pause(bool),
}

impl Model for Slots {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            database: Database::new(self.overlap),
            hosts: vec![Host::default(); self.hosts],
            effects: Vec::new(),
            crashes: self.crashes,
            lost_answers: self.lost_answers,
            changes: self.changes,
            seen: Seen::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.until {
            actions.push(Action::Tick);
        }
        if state.changes > 0 {
            actions.push(Action::Pause(!state.database.schedule.paused));
        }
        let answers: &[Answer] = match state.lost_answers {
            0 => &[Answer::Arrives],
            _ => &[Answer::Arrives, Answer::IsLost],
        };
        for (index, host) in state.hosts.iter().enumerate() {
            match host.driver {
                Driver::Asleep => actions.push(Action::Look(index)),
                Driver::Decided(_) => actions.push(Action::Begin(index)),
                Driver::Begun(_) => {
                    actions.extend(answers.iter().map(|a| Action::CommitBegin(index, *a)));
                }
            }
            for (place, held) in host.held.iter().enumerate() {
                let ends =
                    |status| answers.iter().map(move |a| Action::Finish(index, place, status, *a));
                if held.stage != Stage::Fenced {
                    actions.push(Action::Renew(index, place));
                }
                match held.stage {
                    Stage::Working => {
                        if self.books {
                            actions.push(Action::Fence(index, place));
                        } else {
                            actions.extend(ends(Status::Succeeded));
                        }
                        actions.extend(ends(Status::Cancelled));
                    }
                    Stage::Fenced => actions
                        .extend(answers.iter().map(|a| Action::CommitEffect(index, place, *a))),
                    Stage::Done => actions.extend(ends(Status::Succeeded)),
                    Stage::Unsure => actions.extend(ends(Status::Failed)),
                    Stage::Ending(status) => actions.extend(ends(status)),
                }
            }
            if state.crashes > 0 && *host != Host::default() {
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
            Action::Look(host) => next.look(host, self.flaw),
            Action::Begin(host) => next.begin(host, self.flaw),
            Action::CommitBegin(host, answer) => next.commit_begin(host, answer, self.flaw),
            Action::Renew(host, place) => next.renew(host, place, self.flaw),
            Action::Fence(host, place) => next.fence(host, place, self.flaw),
            Action::CommitEffect(host, place, answer) => next.commit_effect(host, place, answer),
            Action::Finish(host, place, status, answer) => {
                next.finish(host, place, status, answer, self.flaw)
            }
            Action::Pause(paused) => next.pause(paused, self.flaw),
            Action::Crash(host) => {
                next.crashes -= 1;
                next.hosts[host] = Host::default();
                next.rename(|id| id.filter(|id| usize::from(*id) != host));
                true
            }
        };
        if !happens {
            return None;
        }
        let (before, after) = (&state.database.lease, &next.database.lease);
        next.seen.taken_alive |= after.token > before.token && before.expires > state.now;
        next.seen.went_back |= next.database.lease.token < state.database.lease.token
            || next.database.schedule.next_due < state.database.schedule.next_due;
        let (before, after) = (state.database.schedule.buffered, next.database.schedule.buffered);
        next.seen.waits_for_older |= after.is_some() && after < before;
        Some(next.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(STALE_EFFECT, |_, state: &State| !state.seen.stale_effect),
            Property::always(LATE_FENCE, |_, state: &State| !state.seen.fenced_after_the_close),
            Property::always("a token has one effect at most", |_, state: &State| {
                (1..state.effects.len())
                    .all(|end| !state.effects[..end].contains(&state.effects[end]))
            }),
            Property::always("neither a token nor a due time goes back", |_, state: &State| {
                !state.seen.went_back
            }),
            Property::always("a token is granted to one run only", |_, state: &State| {
                let tokens: Vec<i64> = state.runs_that_began().map(|run| run.token).collect();
                (1..tokens.len()).all(|end| !tokens[..end].contains(&tokens[end]))
            }),
            Property::always(TAKEN, |_, state: &State| !state.seen.taken_alive),
            Property::always(OVERWRITTEN, |_, state: &State| !state.seen.overwritten),
            Property::always(MISINFORMED, |_, state: &State| !state.seen.misinformed),
            Property::always(TWICE, |_, state: &State| {
                let succeeded =
                    || state.runs_that_began().filter(|run| run.status == Status::Succeeded);
                succeeded()
                    .all(|run| succeeded().filter(|other| other.slot == run.slot).count() == 1)
            }),
            Property::always(ACCOUNTED, |_, state: &State| {
                state.database.accounts_for_every_slot(&state.seen.gone_by)
            }),
            Property::always(ONE_RUNS, |_, state: &State| {
                let running = |run: &&Run| run.status == Status::Running;
                state.runs_that_began().filter(running).count() <= 1
            }),
            Property::always(NEWEST_WAITS, |_, state: &State| !state.seen.waits_for_older),
            Property::always(ASKED, |_, state: &State| {
                state.runs_that_began().all(|run| run.status != Status::GaveWay || run.was_asked)
            }),
            Property::always(PAUSED, |_, state: &State| !state.seen.began_in_pause),
            Property::always(RECOVERS, |model, state| model.recovers(state)),
            Property::always(CUT_OFF, |model, state: &State| {
                let cut_off = |run: &&Run| run.attempt == 1 && run.status == Status::LeaseLost;
                state.runs_that_began().filter(cut_off).all(|run| {
                    let reruns = |other: &Run| other.waited && other.slot >= run.slot;
                    // Not if its job was paused when somebody looked.
                    (model.changes > 0 && state.seen.closed_for_good)
                        || state.database.schedule.buffered >= Some(run.slot)
                        || state.runs_that_began().any(reruns)
                })
            }),
            // That all of this is reached, or the above would be true of nothing.
            Property::sometimes("two hosts believe to hold the job", |_, state: &State| {
                state.hosts.iter().filter(|host| !host.held.is_empty()).count() > 1
            }),
            Property::sometimes("a stale effect is refused", |model, state: &State| {
                state.seen.refused || !model.books
            }),
            Property::sometimes("a slot runs again and succeeds", |_, state: &State| {
                state
                    .runs_that_began()
                    .any(|run| run.attempt == 2 && run.status == Status::Succeeded)
            }),
            Property::sometimes("a slot waits for its rerun", |_, state: &State| {
                state.database.schedule.buffered.is_some()
            }),
            Property::sometimes("slots are missed", |_, state: &State| {
                state.database.runs.iter().any(|run| run.status == Status::Missed)
            }),
            Property::sometimes("a slot is skipped, or waits", |model, state: &State| {
                let runs = || state.database.runs.iter();
                match model.overlap {
                    Overlap::Skip => runs().any(|run| run.status == Status::Skipped),
                    Overlap::Replace => runs().any(|run| run.status == Status::GaveWay),
                    Overlap::BufferOne => runs().any(|run| run.waited && run.attempt == 1),
                }
            }),
            Property::sometimes("a slot goes by in a pause", |model, state: &State| {
                model.changes < 2 || !state.seen.gone_by.is_empty()
            }),
        ]
    }
}

const STALE_EFFECT: &str = "no effect lands under a token that is not the lease's";
const LATE_FENCE: &str = "no fence holds for a run that is closed";
const TAKEN: &str = "a lease that lives is not taken";
const OVERWRITTEN: &str = "a finished run is never overwritten";
const MISINFORMED: &str = "who hears that an end is recorded finds it so";
const TWICE: &str = "no slot succeeds twice";
const ACCOUNTED: &str =
    "every slot that passed has a run or is inside one record of slots that did not run";
const CUT_OFF: &str = "a slot that was cut off runs again or waits for it, or a newer one does";
const ONE_RUNS: &str = "a run begins only when those before it are closed";
const NEWEST_WAITS: &str = "a slot that waits makes room for a newer one only";
const ASKED: &str = "who gives way was asked to";
const PAUSED: &str = "nothing begins while the job is paused";
const RECOVERS: &str = "one host that lives brings everything to an end";

impl Slots {
    /// All hosts are gone, a new one starts, and nothing else goes wrong: after the lease's end it
    /// alone has to find and end whatever is under way. Nothing stays `running` for ever.
    fn recovers(&self, state: &State) -> bool {
        let mut state = state.clone();
        state.hosts = vec![Host::default()];
        state.rename(|_| None);
        state.now = state.now.max(state.database.lease.expires);
        if state.database.schedule.paused {
            state.changes = 1;
            state.pause(false, self.flaw);
        }
        for _ in 0..8 {
            if !state.look(0, self.flaw) {
                let done = |run: &Run| run.status != Status::Running;
                let Database { schedule, runs, .. } = &state.database;
                return runs.iter().all(done)
                    && schedule.next_due > state.now
                    && schedule.buffered.is_none();
            }
            let began = state.begin(0, self.flaw)
                && (state.hosts[0].driver == Driver::Asleep
                    || state.commit_begin(0, Answer::Arrives, self.flaw));
            if !began {
                return false;
            }
            while !state.hosts[0].held.is_empty() {
                if state.fence(0, 0, self.flaw) && !state.hosts[0].held.is_empty() {
                    state.commit_effect(0, 0, Answer::Arrives);
                    state.finish(0, 0, Status::Succeeded, Answer::Arrives, self.flaw);
                }
            }
        }
        false
    }
}

const SMALL: Slots = Slots {
    hosts: 2,
    until: 3,
    crashes: 0,
    lost_answers: 0,
    changes: 0,
    overlap: Overlap::Skip,
    books: true,
    flaw: None,
};
const WAITS: Slots = Slots { overlap: Overlap::BufferOne, books: false, until: 4, ..SMALL };
const REPLACES: Slots = Slots { overlap: Overlap::Replace, until: 3, ..WAITS };
const PAUSES: Slots = Slots { changes: 2, ..SMALL };

#[test]
fn every_promise_is_kept_while_hosts_are_slow() {
    holds("two slow hosts", SMALL);
}

#[test]
fn every_promise_is_kept_through_a_crash() {
    holds("two hosts, one crash", Slots { crashes: 1, ..SMALL });
}

#[test]
fn every_promise_is_kept_through_a_lost_answer() {
    holds("two hosts, one lost answer", Slots { lost_answers: 1, ..SMALL });
}

#[test]
fn every_promise_is_kept_among_three_hosts() {
    holds("three hosts", Slots { hosts: 3, ..SMALL });
}

#[test]
fn every_promise_is_kept_while_a_slot_waits_for_the_run_before_it() {
    holds("a slot waits", WAITS);
}

#[test]
fn every_promise_is_kept_while_a_slot_replaces_the_run_before_it() {
    holds("a slot replaces", REPLACES);
}

#[test]
fn every_promise_is_kept_through_a_pause() {
    holds("a pause", PAUSES);
}

#[test]
fn each_condition_that_is_taken_away_breaks_a_promise() {
    let later = Slots { until: 5, ..SMALL };
    for (flaw, property, world) in [
        (Flaw::FenceOnlyReads, STALE_EFFECT, SMALL),
        (Flaw::FenceForgetsExpiry, LATE_FENCE, SMALL),
        (Flaw::RenewForgetsExpiry, LATE_FENCE, SMALL),
        (Flaw::FinishForgetsToken, MISINFORMED, SMALL),
        (Flaw::BeginForgetsSeenDue, ACCOUNTED, later),
        (Flaw::CloseForgetsStatus, TWICE, SMALL),
        (Flaw::GrantForgetsExpiry, TAKEN, SMALL),
        (Flaw::BeginWritesNoRun, ACCOUNTED, SMALL),
        (Flaw::RerunNeedsAFreeLease, CUT_OFF, SMALL),
        (Flaw::GrantForgetsTheLook, ONE_RUNS, SMALL),
        (Flaw::GrantKeepsTheRequest, ASKED, REPLACES),
        (Flaw::BufferForgetsTheNewer, NEWEST_WAITS, WAITS),
        (Flaw::FireKeepsTheOlder, ACCOUNTED, WAITS),
        (Flaw::BeginForgetsThePause, PAUSED, PAUSES),
        (Flaw::CloseForgetsThePause, PAUSED, PAUSES),
        (Flaw::PauseForgetsWhatIsDue, ACCOUNTED, PAUSES),
    ] {
        breaks(&format!("{flaw:?}"), Slots { flaw: Some(flaw), ..world }, property);
    }
}
