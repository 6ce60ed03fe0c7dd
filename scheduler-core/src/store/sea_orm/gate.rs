//! Whose turn it is at the one writer of a SQLite file, and which operations share a commit.
//!
//! Operations take turns in the order in which they asked. One that nobody waits behind is a
//! transaction of its own: BEGIN, its statements, COMMIT. Where others wait, the transaction is left
//! open for them, each in a savepoint, and whoever ended well waits for the one COMMIT:
//!
//! ```text
//! BEGIN  SAVEPOINT a…  RELEASE SAVEPOINT b…  ROLLBACK TO (b failed) c…  COMMIT → a and c are told
//! ```
//!
//! - The COMMIT is a task of its own that queues for its turn behind those who waited when the first
//!   operation ended. It comes whoever is dropped meanwhile, and is never cut off half-way.
//! - Every statement between two operations fails when SQLite has ended the transaction by itself, as
//!   it does on a full disk. Then nobody is told that anything was kept.
//! - Who is dropped inside leaves its savepoint to be undone by whoever comes next.
//! - Those who have ended wait for whoever is inside. So an operation that is new, or was slow the
//!   last time, does not join; and a caller's body that turns out slow is given up
//!   ([`Turn::patience`]).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, TransactionTrait};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use super::discard::discard_broken;
use super::turnstile::{Passed, Turnstile};
use super::write::immediate;
use crate::error::{StoreError, is_busy};

/// How long a write waits for the writer before it gives up and names who holds it.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Between two tries while another process writes.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// How many operations share a commit.
const MOST_MEMBERS: usize = 64;

/// What those who have ended wait for one more operation at the least, and at the most; in between it
/// is as long as the last commit took, since that is what sharing saves.
const WORTH_WAITING: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// How long those who have ended wait for one that joined them.
const LONGEST_STAY: Duration = Duration::from_secs(1);

/// The holder while the lock of the file is waited for.
const ANOTHER_PROCESS: &str = "another process";

const MARK: &str = "SAVEPOINT scheduler_operation";
const MARK_NEXT: &str = "RELEASE scheduler_operation; SAVEPOINT scheduler_operation";
const UNDO: &str = "ROLLBACK TO scheduler_operation";

/// Serialises this process's writes on SQLite and remembers who is inside.
#[derive(Default)]
pub(super) struct Gate {
    turn: Arc<tokio::sync::Mutex<Shared>>,
    waiting: AtomicUsize,
    holder: Mutex<&'static str>,
    /// The last transaction failed to end, or was dropped: its connection is to be looked at.
    suspect: AtomicBool,
    /// Operations that were small the last time.
    small: Mutex<HashSet<&'static str>>,
    /// How long the last commit took, in microseconds.
    commit_took_us: AtomicU64,
    /// Where the processes of this file queue.
    turnstile: Turnstile,
}

/// The transaction that is open, if one is.
#[derive(Default)]
struct Shared {
    transaction: Option<Arc<DatabaseTransaction>>,
    began: Option<Instant>,
    /// The place before other processes, as long as the transaction is open.
    passed: Option<Passed>,
    mark: Mark,
    /// The operation that was inside last.
    last: &'static str,
    /// Those who ended well and wait for the commit.
    members: Vec<oneshot::Sender<Fate>>,
}

/// What the savepoint stands over.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// There is none: the transaction is one operation's own.
    #[default]
    Missing,
    /// Work to be undone, unless its operation says otherwise.
    Unfinished,
    /// Work to be kept.
    Kept,
    /// A step from one operation to the next was dropped: nobody else comes in.
    InDoubt,
}

/// What became of a shared transaction.
#[derive(Clone)]
enum Fate {
    Committed,
    Refused(DbErr),
    /// SQLite ended it while this operation was inside.
    Ended(&'static str),
}

impl Gate {
    /// The gate of a file that other processes may write to, too.
    #[cfg(feature = "sqlite")]
    pub(super) fn of(turnstile: Turnstile) -> Self {
        Self { turnstile, ..Self::default() }
    }

    /// Waits for the turn, then begins a transaction or joins the one that is open; all within
    /// [`LONGEST_WAIT`].
    ///
    /// Dropped, it leaves nothing behind.
    pub(super) async fn enter(
        self: &Arc<Self>,
        writer: &DatabaseConnection,
        operation: &'static str,
    ) -> Result<(Turn, Arc<DatabaseTransaction>), StoreError> {
        let asked = Instant::now();
        let Ok(mut shared) = timeout(LONGEST_WAIT, self.wait()).await else {
            let holder = self.holder();
            return Err(StoreError::WriterBusy { operation, holder, waited: asked.elapsed() });
        };
        self.hold(operation);
        let is_small = self.is_small(operation);
        if shared.transaction.is_some()
            && !(is_small && shared.admit(operation, self.worth_waiting()).await)
        {
            // On a task of its own: who waits for this commit must not lose it with us.
            let gate = Arc::clone(self);
            let committed = tokio::spawn(async move {
                gate.commit(&mut shared).await;
                shared
            });
            shared = match committed.await {
                Ok(shared) => shared,
                // The runtime is ending, or there was a panic; the turn is free either way.
                Err(_) => Arc::clone(&self.turn).lock_owned().await,
            };
        }
        let mut turn = Turn { gate: Arc::clone(self), shared, operation, inside: None };
        if turn.shared.transaction.is_none() {
            turn.begin(writer, asked).await?;
            if is_small && self.somebody_waits() {
                turn.mark().await?;
            }
        }
        let Some(transaction) = turn.shared.transaction.clone() else {
            return Err(StoreError::database(operation, unknown_end()));
        };
        turn.inside = Some(Instant::now());
        Ok((turn, transaction))
    }

    async fn wait(&self) -> OwnedMutexGuard<Shared> {
        struct Waiting<'g>(&'g AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        Arc::clone(&self.turn).lock_owned().await
    }

    fn somebody_waits(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    fn holder(&self) -> &'static str {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, operation: &'static str) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = operation;
    }

    fn is_small(&self, operation: &'static str) -> bool {
        self.small.lock().unwrap_or_else(PoisonError::into_inner).contains(operation)
    }

    /// `took` is missing for an operation that was cut off.
    fn learn(&self, operation: &'static str, took: Option<Duration>) {
        let is_small = took.is_some_and(|took| took <= self.worth_waiting());
        let mut small = self.small.lock().unwrap_or_else(PoisonError::into_inner);
        if is_small {
            small.insert(operation);
        } else {
            small.remove(operation);
        }
    }

    fn worth_waiting(&self) -> Duration {
        let commit = Duration::from_micros(self.commit_took_us.load(Ordering::Relaxed));
        let (least, most) = WORTH_WAITING;
        commit.clamp(least, most)
    }

    /// Commits what is open when the turn comes.
    fn commit_in_turn(self: &Arc<Self>) {
        let gate = Arc::clone(self);
        tokio::spawn(async move {
            let mut shared = Arc::clone(&gate.turn).lock_owned().await;
            gate.commit(&mut shared).await;
        });
    }

    /// Ends what is open and tells its members. Not to be dropped half-way.
    async fn commit(&self, shared: &mut Shared) {
        let Some(transaction) = shared.transaction.take() else {
            shared.passed = None;
            return;
        };
        let fate = if shared.mark == Mark::Unfinished
            && transaction.execute_unprepared(UNDO).await.is_err()
        {
            Fate::Ended(shared.last)
        } else {
            match self.commit_timed(transaction).await {
                Ok(()) => Fate::Committed,
                Err(source) => Fate::Refused(source),
            }
        };
        tracing::trace!(operations = shared.members.len(), "a shared commit");
        shared.passed = None;
        shared.tell(&fate);
    }

    async fn commit_timed(&self, transaction: Arc<DatabaseTransaction>) -> Result<(), DbErr> {
        let began = Instant::now();
        commit(transaction).await?;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.commit_took_us.store(took, Ordering::Relaxed);
        self.suspect.store(false, Ordering::Release);
        Ok(())
    }

    /// Waits for the shared commit. Dropping the wait changes nothing about it.
    async fn outcome(
        self: &Arc<Self>,
        operation: &'static str,
        mut told: oneshot::Receiver<Fate>,
    ) -> Result<(), StoreError> {
        loop {
            match timeout(LONGEST_WAIT, &mut told).await {
                Ok(Ok(Fate::Committed)) => return Ok(()),
                Ok(Ok(Fate::Refused(source))) => {
                    return Err(StoreError::database(operation, source));
                }
                Ok(Ok(Fate::Ended(culprit))) => {
                    return Err(StoreError::Undone { operation, culprit });
                }
                Ok(Err(_)) => return Err(StoreError::database(operation, unknown_end())),
                // A runtime that ended has taken its tasks along, the commit among them.
                Err(_) => self.commit_in_turn(),
            }
        }
    }
}

impl Shared {
    /// Takes one more operation in, in a savepoint of its own. Where SQLite has ended the
    /// transaction, its members are told so and none is open afterwards.
    async fn admit(&mut self, operation: &'static str, longest: Duration) -> bool {
        let Some(transaction) = self.transaction.clone() else { return false };
        let is_late = self.began.is_none_or(|began| began.elapsed() > longest);
        if is_late || self.members.len() >= MOST_MEMBERS {
            return false;
        }
        let step = match self.mark {
            Mark::Unfinished => UNDO,
            Mark::Kept => MARK_NEXT,
            Mark::Missing | Mark::InDoubt => return false,
        };
        if step == MARK_NEXT {
            self.mark = Mark::InDoubt;
        }
        if transaction.execute_unprepared(step).await.is_err() {
            self.transaction = None;
            let fate = Fate::Ended(self.last);
            self.tell(&fate);
            return false;
        }
        self.mark = Mark::Unfinished;
        self.last = operation;
        true
    }

    fn tell(&mut self, fate: &Fate) {
        for member in self.members.drain(..) {
            // Who was dropped meanwhile does not hear it.
            let _ = member.send(fate.clone());
        }
    }
}

/// The right to write to a SQLite file from this process. Dropped, it undoes what its operation did.
pub(super) struct Turn {
    gate: Arc<Gate>,
    shared: OwnedMutexGuard<Shared>,
    operation: &'static str,
    /// When the operation's own work began, until it has ended.
    inside: Option<Instant>,
}

impl Turn {
    async fn begin(
        &mut self,
        writer: &DatabaseConnection,
        asked: Instant,
    ) -> Result<(), StoreError> {
        let (gate, operation) = (&self.gate, self.operation);
        let left = || LONGEST_WAIT.saturating_sub(asked.elapsed());
        let busy = |holder| StoreError::WriterBusy { operation, holder, waited: asked.elapsed() };
        let failed = |source| StoreError::database(operation, source);
        if gate.suspect.load(Ordering::Acquire) {
            let Ok(looked_at) = timeout(left(), discard_broken(writer)).await else {
                return Err(busy("a connection of the pool"));
            };
            looked_at.map_err(failed)?;
            gate.suspect.store(false, Ordering::Release);
        }
        let passed = gate.turnstile.pass().await;
        loop {
            // SQLite's own wait for another process may be longer than ours.
            match timeout(left(), writer.begin_with_options(immediate())).await {
                Ok(Ok(transaction)) => {
                    gate.hold(operation);
                    gate.suspect.store(true, Ordering::Release);
                    *self.shared = Shared {
                        transaction: Some(Arc::new(transaction)),
                        began: Some(Instant::now()),
                        passed,
                        last: operation,
                        ..Shared::default()
                    };
                    return Ok(());
                }
                Ok(Err(source)) if !is_busy(&source) => return Err(failed(source)),
                Ok(Err(_)) if !left().is_zero() => {
                    gate.hold(ANOTHER_PROCESS);
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Ok(Err(_)) | Err(_) => return Err(busy(ANOTHER_PROCESS)),
            }
        }
    }

    /// Makes the transaction one that others may join.
    async fn mark(&mut self) -> Result<(), StoreError> {
        let Some(transaction) = self.shared.transaction.clone() else { return Ok(()) };
        let marked = transaction.execute_unprepared(MARK).await;
        marked.map_err(|source| StoreError::database(self.operation, source))?;
        self.shared.mark = Mark::Unfinished;
        Ok(())
    }

    /// How long the operation may take: as long as it likes, unless others wait for its end.
    ///
    /// They could wait for ever: the operation may wait for a lock that one of them holds.
    pub(super) fn patience(&self) -> Option<Duration> {
        (!self.shared.members.is_empty()).then_some(LONGEST_STAY)
    }

    /// Keeps what the operation did: answers when it is committed. The caller holds the transaction
    /// no more.
    ///
    /// Dropped before it is ready, the commit may still come.
    pub(super) async fn keep(mut self) -> Result<(), StoreError> {
        let operation = self.operation;
        self.left();
        let is_marked = self.shared.mark == Mark::Unfinished;
        let is_first = self.shared.members.is_empty();
        if is_first && !(is_marked && self.gate.somebody_waits()) {
            return self.commit_alone().await;
        }
        let (tell, told) = oneshot::channel();
        self.shared.mark = Mark::Kept;
        self.shared.members.push(tell);
        let gate = Arc::clone(&self.gate);
        if is_first {
            gate.commit_in_turn();
        }
        // The next one's turn.
        drop(self);
        gate.outcome(operation, told).await
    }

    async fn commit_alone(mut self) -> Result<(), StoreError> {
        let Some(transaction) = self.shared.transaction.take() else {
            return Err(StoreError::database(self.operation, unknown_end()));
        };
        let committed = self.gate.commit_timed(transaction).await;
        committed.map_err(|source| StoreError::database(self.operation, source))
    }

    /// Undoes what the operation did. The caller holds the transaction no more.
    pub(super) async fn undo(mut self) {
        self.left();
        if self.shared.members.is_empty() {
            let transaction = self.shared.transaction.take().and_then(Arc::into_inner);
            let Some(transaction) = transaction else { return };
            if transaction.rollback().await.is_ok() {
                self.gate.suspect.store(false, Ordering::Release);
            }
            return;
        }
        let Some(transaction) = self.shared.transaction.clone() else { return };
        if transaction.execute_unprepared(UNDO).await.is_ok() {
            self.shared.mark = Mark::Kept;
        } else {
            self.shared.transaction = None;
            let fate = Fate::Ended(self.operation);
            self.shared.tell(&fate);
        }
    }

    /// The operation's own work is over.
    fn left(&mut self) {
        if let Some(inside) = self.inside.take() {
            self.gate.learn(self.operation, Some(inside.elapsed()));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.inside.is_some() {
            self.gate.learn(self.operation, None);
        }
        if self.shared.members.is_empty() {
            // Nobody waits for it, so nobody would end it.
            self.shared.transaction = None;
        }
        if self.shared.transaction.is_none() {
            self.shared.passed = None;
        }
    }
}

/// Commits a transaction that nobody else holds any more.
pub(super) async fn commit(transaction: Arc<DatabaseTransaction>) -> Result<(), DbErr> {
    match Arc::into_inner(transaction) {
        Some(transaction) => transaction.commit().await,
        None => Err(unknown_end()),
    }
}

/// What is said where nobody can tell whether a commit was made.
fn unknown_end() -> DbErr {
    DbErr::Custom("the transaction was cut off before its commit was answered".into())
}
