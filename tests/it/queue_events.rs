//! What a consumer tells of its rows.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::queue::{Consumer, QueueEvent, QueueEvents, RowId};
use scheduler_core::{Scheduler, Shutdown};

use crate::courier::{Courier, Delivery, enqueue, options, table, with_parcels};
use crate::harness::{Database, at_once, wait_for};

/// A one-shot run, and what was told meanwhile; each listener hears the same.
async fn told_by_a_run(database: &Database, courier: &Arc<Courier>) -> Vec<QueueEvent> {
    let mut scheduler = Scheduler::new(database.store.clone());
    let delivery = Delivery(Arc::clone(courier));
    let consumer = Consumer::new(&database.store, table(), options(), delivery).await;
    let consumer = consumer.expect("a consumer");
    let (events, others) = (consumer.events(), consumer.events());
    consumer.register(&mut scheduler).expect("registered");
    let run = scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await;
    run.expect("drained");
    drop(scheduler);
    let told = all(events).await;
    assert_eq!(all(others).await, told);
    told
}

async fn all(mut events: QueueEvents) -> Vec<QueueEvent> {
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        all.push(event);
    }
    // Rows run beside each other.
    all.sort_by_key(|event| format!("{event:?}"));
    all
}

async fn each_claim_and_each_end_is_told_once(database: Database) {
    let database = with_parcels(database).await;
    for label in ["a", "fails", "permanent", "snoozes"] {
        enqueue(&database, label).await;
    }
    let courier = Arc::new(Courier::default());
    let id = RowId::Int;
    let claimed = |row| QueueEvent::Claimed { id: id(row), attempt: 1 };
    let seconds = Duration::from_secs;
    let told = told_by_a_run(&database, &courier).await;
    let [.., retried, snoozed, _] = &told[..] else { panic!("{told:?}") };
    assert!(
        matches!(retried, QueueEvent::Retried { id: RowId::Int(2), delay, error }
            if *delay >= seconds(5) && error == "nobody at home"),
        "{told:?}"
    );
    let dead = QueueEvent::Dead { id: id(3), error: "no such street".into() };
    assert_eq!(told[..5], [claimed(1), claimed(2), claimed(3), claimed(4), dead]);
    assert_eq!(snoozed, &QueueEvent::Snoozed { id: id(4), delay: seconds(30) });
    assert_eq!(told[7], QueueEvent::Succeeded { id: id(1) });
    assert_eq!(told.len(), 8);
}

async fn what_dead_processes_left_is_told_by_who_finds_it(database: Database) {
    let database = with_parcels(database).await;
    for crashes in [0, 2] {
        database
            .execute(&format!(
                "INSERT INTO parcels (label, status, crash_count, attempt_count, leased_by, lease_token, lease_expires_at_ms, started)
                 VALUES ('a', 'running', {crashes}, 1, 'gone', 1, 5, TRUE)"
            ))
            .await;
    }
    let told = told_by_a_run(&database, &Arc::default()).await;
    assert_eq!(
        told,
        [
            QueueEvent::Claimed { id: RowId::Int(1), attempt: 2 },
            QueueEvent::Quarantined { rows: 1 },
            QueueEvent::Reclaimed { rows: 1 },
            QueueEvent::Succeeded { id: RowId::Int(1) },
        ]
    );
}

async fn a_cancel_a_stop_and_a_loss_are_told_apart(database: Database) {
    let database = with_parcels(database).await;
    for label in ["waits", "deaf", "waits"] {
        enqueue(&database, label).await;
    }
    let courier = Arc::new(Courier::default());
    let mut scheduler = Scheduler::new(database.store.clone());
    let delivery = Delivery(Arc::clone(&courier));
    let consumer = Consumer::new(&database.store, table(), options(), delivery).await;
    let consumer = consumer.expect("a consumer");
    let events = consumer.events();
    consumer.register(&mut scheduler).expect("registered");
    let running = scheduler.start().await.expect("started");
    wait_for("the handlers", || courier.order().len() == 3).await;
    database.execute("UPDATE parcels SET cancel_requested = TRUE WHERE id = 1").await;
    database.execute("UPDATE parcels SET lease_token = 77, leased_by = 'other' WHERE id = 2").await;
    database.clock.advance(Duration::from_secs(5));
    database.until("SELECT status FROM parcels WHERE id = 1", "cancelled".to_owned()).await;
    courier.gate.notify_waiters();
    running.stop(&at_once()).await;
    let told = all(events).await;
    let has = |event: QueueEvent| told.contains(&event);
    assert!(has(QueueEvent::Cancelled { id: RowId::Int(1) }), "{told:?}");
    assert!(has(QueueEvent::Lost { id: RowId::Int(2) }), "{told:?}");
    let third =
        [QueueEvent::Released { id: RowId::Int(3) }, QueueEvent::Succeeded { id: RowId::Int(3) }];
    assert!(third.into_iter().any(has), "{told:?}");
    assert_eq!(told.len(), 6, "{told:?}");
}

on_every_store! {
    each_claim_and_each_end_is_told_once,
    what_dead_processes_left_is_told_by_who_finds_it,
    a_cancel_a_stop_and_a_loss_are_told_apart,
}
