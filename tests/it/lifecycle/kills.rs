//! A round of admissions that is cut off in the middle of each of its statements, on every store.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;

use domain::services::arena_entry::{AdmitError, Admitted, Season, admit};
use scheduler_core::Store;

use super::{admit_once, queued_promotions, ten_are_in, with_arena};
use crate::harness::{Database, NOON};

/// A process that lets clones in, and how much of a round was done when it was cut off.
struct Doorkeeper {
    store: Store,
    /// Statements of the round that were answered; far below nought outside of its transaction.
    answered: Arc<AtomicI64>,
}

impl Doorkeeper {
    async fn of(database: &Database) -> Self {
        let mut options = sea_orm::ConnectOptions::new(database.url());
        options.max_connections(1).sqlx_logging(false);
        let mut pool = sea_orm::Database::connect(options).await.expect("a pool");
        let answered = Arc::new(AtomicI64::new(i64::MIN));
        let counter = Arc::clone(&answered);
        pool.set_metric_callback(move |_| _ = counter.fetch_add(1, Ordering::SeqCst));
        let clock = Arc::new(database.clock.clone());
        Self { store: Store::from_connection_with(pool, clock), answered }
    }

    /// A round that is undone by `undo`, or kept. It is cut off as soon as it waits for the answer
    /// after the first so many, or else for its commit.
    async fn round_of(&self, answers: i64, undo: bool) -> Option<Result<Admitted, AdmitError>> {
        self.answered.store(i64::MIN, Ordering::SeqCst);
        let answered = Arc::clone(&self.answered);
        let round = self.store.write("let clones in", move |txn| {
            Box::pin(async move {
                answered.store(0, Ordering::SeqCst);
                let admitted = admit(txn, &Season::default(), NOON).await?;
                if undo { Err(AdmitError::Contended) } else { Ok(admitted) }
            })
        });
        let mut round = std::pin::pin!(round);
        std::future::poll_fn(|context| match round.as_mut().poll(context) {
            Poll::Pending if self.answered() >= answers => Poll::Ready(None),
            polled => polled.map(Some),
        })
        .await
    }

    fn answered(&self) -> i64 {
        self.answered.load(Ordering::SeqCst)
    }
}

async fn kills_at_any_moment_promote_exactly_ten(database: Database) {
    /// A statement whose answer is there already cannot be cut off that time.
    const TRIES: usize = 1_000;
    let database = with_arena(database).await;
    queued_promotions(&database, 100).await;
    let doorkeepers = [Doorkeeper::of(&database).await, Doorkeeper::of(&database).await];
    let undone = doorkeepers[0].round_of(i64::MAX, true).await;
    assert!(matches!(undone, Some(Err(AdmitError::Contended))), "{undone:?}");
    let statements = doorkeepers[0].answered();
    assert!(statements > 10, "a round gives ten slots in {statements} statements");

    // In the middle of each statement of the round.
    for answers in 0..statements {
        let mut tries = doorkeepers.iter().cycle().take(TRIES);
        let cut_off_there = loop {
            let Some(doorkeeper) = tries.next() else { break false };
            let cut_off = doorkeeper.round_of(answers, true).await.is_none();
            if cut_off && doorkeeper.answered() == answers {
                break true;
            }
        };
        assert!(cut_off_there, "no round was cut off after {answers} of {statements} answers");
    }
    let members: i64 = database.value("SELECT count(*) FROM arena_clone_memberships").await;
    assert_eq!(members, 0, "what was cut off has left something");

    // In the middle of its commit, which comes or does not; unless it is answered at once.
    let committed = doorkeepers[0].round_of(statements, false).await;
    assert!(committed.is_none_or(|committed| committed.is_ok()));
    let admitted = admit_once(&doorkeepers[1].store).await.expect("nobody is in the way");
    assert!([0, 10].contains(&admitted.promoted), "{admitted:?}");
    ten_are_in(&database).await;
}

on_every_store! {
    kills_at_any_moment_promote_exactly_ten,
}
